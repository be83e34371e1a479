"""``python -m benchmarks [NAME ...] [--json FILE] [--figure FILE]``: a table of ratios."""

import argparse
import dataclasses
import importlib.metadata
import io
import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from visualization.cli.output import OutputFolder

from .running import run, run_alone
from .timing import NOISY, Row

# each a module of this package with a function cases()
NAMES = (
    "startup",
    "checkpoints",
    "fool",
    "visualization",
    "style",
    "recurrent",
    "growth",
    "captioning",
    "attention",
    "data",
    "features",
)
PACKAGES = ("tensorflow", "keras", "numpy", "torch", "captum", "tf-keras-vis", "foolbox")


def main(argv: list[str] | None = None) -> int:
    """Runs the named benchmarks; returns 1 if a promised ratio was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times this project beside its peers and prints ratios of medians from one run.",
        epilog="example: python -m benchmarks fool --json fool.json --figure fool.png",
    )
    parser.add_argument(
        "name", nargs="*", help=f"what to measure: {', '.join(NAMES)} (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="also draw the ratios as a picture"
    )
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.name) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    for option in ("json", "figure"):
        file = getattr(arguments, option)
        if file and not file.absolute().parent.is_dir():
            parser.error(f"--{option} {file}: its folder does not exist; make it first")
    if arguments.figure and arguments.figure.suffix != ".png":
        parser.error(f"--figure {arguments.figure}: the picture is a PNG; give it a name with .png")

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    start = time.monotonic()
    about = machine()
    print(" | ".join(f"{key} {value}" for key, value in about.items()))
    print(f"\n  {'':36} {'':>12} {'spread':>8} {'ratio':>7}  promised", flush=True)
    rows: list[Row] = []
    missing: set[str] = set()
    names = arguments.name or NAMES
    for name in names:
        measured, unmeasured = run_alone(name) if len(names) > 1 else run(name)
        rows += measured
        missing |= unmeasured
    print_summary(rows, missing, time.monotonic() - start)
    write(arguments.json, arguments.figure, about, rows, missing)
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
    about["oneDNN"] = {"1": "on", "0": "off"}.get(
        os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""), "TensorFlow's default"
    )
    for package in PACKAGES:
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            about[package] = "not installed"
    return about


def print_summary(rows: list[Row], missing: Iterable[str], seconds: float) -> None:
    """What to know of the whole run before quoting a line of it."""
    promised = [row for row in rows if row.at_least is not None or row.at_most is not None]
    kept = sum(not row.missed for row in promised)
    noisy = sum(row.noisy for row in rows)
    print(f"\n{kept} of {len(promised)} promised ratios kept, in {seconds / 60:.1f} minutes")
    if noisy:
        print(f"{noisy} of {len(rows)} lines noisy: a spread above {NOISY:.0%}; run these again")
    if missing:
        print(f"missing peers: {', '.join(sorted(missing))}; 'make bench' installs them")


def write(
    json_file: Path | None,
    figure_file: Path | None,
    about: dict[str, str],
    rows: list[Row],
    missing: Iterable[str],
) -> None:
    """Writes the figures and the picture where they are asked for."""
    if json_file:
        report = {
            "machine": about,
            "rows": [dataclasses.asdict(row) for row in rows],
            "missing_peers": sorted(missing),
        }
        text = json.dumps(report, indent=1) + "\n"
        OutputFolder(json_file.absolute().parent).write(json_file.name, text.encode())
    if figure_file:
        from .figure import draw

        picture = io.BytesIO()
        draw(rows, ", ".join(f"{key} {value}" for key, value in about.items())).savefig(picture)
        OutputFolder(figure_file.absolute().parent).write(figure_file.name, picture.getvalue())


if __name__ == "__main__":
    sys.exit(main())
