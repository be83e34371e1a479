"""Times contenders side by side, so that the ratio holds on a noisy machine.

Every contender is warmed up, then all of them run in turn, round after round; a contender's time is
the median of its rounds, and what is quoted is the ratio of medians from that one run.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import cast

import numpy as np

NOISY = 0.15
FEWEST = 5  # rounds that a median should stand on; where there are fewer, the table says so
LEAST = 3  # rounds of every case, however long they take
SECONDS = 8  # after which a case begins no other round; a call that takes longer needs no warming
WARM = 3  # seconds; a contender whose call takes longer is warm after it
INSTALL = "not installed"  # why a peer is missing that `make bench` would install


@dataclass(frozen=True)
class Case:
    """One thing to do and who does it; the first contender is this project.

    A contender is called with no arguments, and its result must be finished (read back to NumPy)
    when it returns. `at_least` maps a peer's name to the promised ratio: its time over ours. With
    another unit than milliseconds a contender returns what is to be compared, and less is better.
    Where `at_most` is given all contenders are ours, ratios are over the fastest, and none may be
    above it.
    """

    name: str
    contenders: Mapping[str, Callable[[], object]]
    at_least: Mapping[str, float] = field(default_factory=dict)
    _: KW_ONLY
    at_most: float | None = None
    per_call: int = 1  # pieces of work in one call; times are given for one piece
    rounds: int = 7  # at most: see SECONDS
    warmups: int = 2  # at most: see WARM
    missing: Mapping[str, str] = field(default_factory=dict)  # peer -> why it is not measured
    unit: str = "ms"
    note: str = ""  # what else to print beside the name


@dataclass(frozen=True)
class Row:
    """One contender's line of the table."""

    case: str
    contender: str
    unit: str
    rounds: int
    median: float
    spread: float  # interquartile range over the median
    ratio: float  # its median over this project's, or over the fastest one's
    at_least: float | None
    at_most: float | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        too_low = self.at_least is not None and self.ratio < self.at_least
        return too_low or (self.at_most is not None and self.ratio > self.at_most)

    @property
    def noisy(self) -> bool:
        return self.spread > NOISY


def measure(case: Case) -> list[Row]:
    """Runs a case: warm-ups, then rounds in which every contender runs in turn.

    Slow cases get fewer of both, so that all of them together stay within what one waits for.
    """
    times: dict[str, list[float]] = {name: [] for name in case.contenders}

    def run(name: str) -> tuple[float, float]:
        start = time.perf_counter()
        result = case.contenders[name]()
        seconds = time.perf_counter() - start
        return seconds, 1e3 * seconds / case.per_call if case.unit == "ms" else cast(float, result)

    for name, taken in times.items():
        for _ in range(case.warmups):
            seconds, value = run(name)
            if seconds > SECONDS:
                taken.append(value)
            if seconds > WARM:
                break
    begin = time.perf_counter()
    for rounds in range(1, case.rounds + 1):
        for name, taken in times.items():
            if len(taken) < rounds:
                taken.append(run(name)[1])
        if rounds >= LEAST and time.perf_counter() - begin > SECONDS:
            break

    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = min(medians.values()) if case.at_most else next(iter(medians.values()))
    rows = []
    for name, values in times.items():
        low, high = np.quantile(values, [0.25, 0.75])
        spread = float(high - low) / medians[name]
        ratio = medians[name] / ours
        measured = case.unit, rounds, medians[name], spread, ratio
        promised = case.at_least.get(name), case.at_most
        rows.append(Row(case.name, name, *measured, *promised, case.note))
    return rows
