"""``python -m benchmarks [NAME ...] [--json FILE]``: a table of ratios, and the same as JSON."""

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

from .timing import NOISY, Case, Row, measure

# each a module of this package with a function cases()
NAMES = ("startup", "checkpoints", "fool", "visualization", "recurrent")
PACKAGES = ("tensorflow", "keras", "numpy", "torch")


def main() -> int:
    """Runs the named benchmarks; returns 1 if a promised ratio was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times this project beside its peers and prints ratios of medians from one run.",
        epilog="example: python -m benchmarks fool --json fool.json",
    )
    parser.add_argument(
        "name", nargs="*", help=f"what to measure: {', '.join(NAMES)} (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.name) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if arguments.json and not arguments.json.absolute().parent.is_dir():
        parser.error(f"--json {arguments.json}: its folder does not exist; make it first")

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    about = machine()
    print(" | ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    rows: list[Row] = []
    for name in arguments.name or NAMES:
        for case in importlib.import_module(f"{__package__}.{name}").cases():
            measured = measure(case)
            print_table(case, measured)
            rows += measured
    if arguments.json:
        report = {"machine": about, "rows": [dataclasses.asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(any(row.missed for row in rows))


def machine() -> dict[str, str]:
    """What the figures depend on: processor, cores, versions."""
    about = {"processor": platform.processor() or platform.machine(), "cores": str(os.cpu_count())}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        about["processor"] = models[0] if models else about["processor"]
    about["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            about[package] = "not installed"
    return about


def print_table(case: Case, rows: list[Row]) -> None:
    """One case: a line a contender, the promise beside the ratio, noisy lines marked."""
    print(f"\n{case.name}")
    print(f"  {'':36} {case.unit:>9} {'spread':>8} {'ratio':>7}  promised")
    for row in rows:
        promise = "" if row.at_least is None else f"at least {row.at_least:.2f}"
        flags = (", MISSED" if row.missed else "") + (", noisy" if row.spread > NOISY else "")
        print(
            f"  {row.contender:36} {row.median:9.2f} {row.spread:8.0%} {row.ratio:7.2f}"
            f"  {promise}{flags}",
            flush=True,
        )
    for peer, reason in case.missing.items():
        print(f"  {peer:36} not measured: {reason}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
