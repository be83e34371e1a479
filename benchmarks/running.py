"""Runs one benchmark: measures its cases and prints them, in this process or in one of its own."""

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from .timing import FEWEST, Case, Row, measure


def run(name: str) -> tuple[list[Row], set[str]]:
    """Measures and prints the cases of a benchmark: its rows, and the peers that are missing."""
    rows: list[Row] = []
    missing: set[str] = set()
    for case in importlib.import_module(f"{__package__}.{name}").cases():
        measured = measure(case)
        print_case(case, measured)
        rows += measured
        missing |= set(case.missing)
    return rows, missing


def run_alone(name: str) -> tuple[list[Row], set[str]]:
    """`run` in a fresh process, so that its figures do not depend on what was measured before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(run, name).result()


def print_case(case: Case, rows: list[Row]) -> None:
    """One case: a line a contender, the promise beside the ratio, noisy lines marked."""
    rounds = rows[0].rounds
    few = "" if rounds >= FEWEST else "once" if rounds == 1 else f"median of {rounds} rounds"
    print("\n" + "; ".join(filter(None, [case.name, case.note, few])))
    for row in rows:
        promise = "" if row.at_least is None else f"at least {row.at_least:.2f}"
        promise = promise if row.at_most is None else f"at most {row.at_most:.2f}"
        flags = (", MISSED" if row.missed else "") + (", noisy" if row.noisy else "")
        print(
            f"  {row.contender:36} {row.median:9.2f} {row.unit} {row.spread:8.0%} {row.ratio:7.2f}"
            f"  {promise}{flags}",
            flush=True,
        )
    for peer, reason in case.missing.items():
        print(f"  {peer:36} {reason}", flush=True)
