"""How much memory a piece of work takes: the growth of a fresh process of its own (Linux)."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def in_a_process(module: str, name: str) -> Callable[[], float]:
    """Megabytes that ``python -m module name`` prints, which it finds with `growth`."""
    command = [sys.executable, "-m", module, name]
    return lambda: float(subprocess.run(command, check=True, capture_output=True).stdout)


def growth(work: Callable[[], object]) -> float:
    """Megabytes by which this process's peak grows while `work` runs."""
    before = high_water()
    work()
    return high_water() - before


def high_water() -> float:
    """The most memory this process had at any time, in megabytes.

    `resource.getrusage` would not do: a child begins with its parent's peak.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no line VmHWM")
