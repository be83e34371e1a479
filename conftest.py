"""What every test run does: frees memory between files, and reports slow tests and the memory used."""

import ctypes
import gc
import sys

import pytest

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

SLOW_SECONDS = 10  # what the marker `slow` means
_peaks: dict[str, float] = {}


@pytest.fixture(autouse=True)
def _examples_write_into_a_folder_of_their_own(request: pytest.FixtureRequest) -> None:
    """An example in a docstring may write files; they are gone afterwards."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))


def pytest_collection_finish() -> None:
    """What imports have made stays: Python need not look through TensorFlow for garbage again.

    Of what tests make, graphs are many small objects: it looks for garbage among them less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After a file's last test, what was kept for its models gives its memory back."""
    if nextitem is None or nextitem.path != item.path:
        for module, cache in (("tfcap.ops", "_compiled"), ("tests.visualization.models", "shared")):
            if module in sys.modules:
                getattr(sys.modules[module], cache).cache_clear()
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)


def _peak_gigabytes() -> float:
    if resource is None:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # macOS counts bytes, Linux KiB


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist
        session.config.workeroutput["peak"] = _peak_gigabytes()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    worker = getattr(node, "gateway").id  # noqa: B009
    _peaks[worker] = getattr(node, "workeroutput", {}).get("peak", float("nan"))


def pytest_terminal_summary(terminalreporter: object) -> None:
    write_line = terminalreporter.write_line  # type: ignore[attr-defined]
    reports = terminalreporter.stats.get("passed", [])  # type: ignore[attr-defined]
    for report in sorted(reports, key=lambda report: -report.duration):
        if report.duration > SLOW_SECONDS and "slow" not in report.keywords:
            write_line(f"not marked slow: {report.nodeid} ({report.duration:.0f} s)")
    peaks = ", ".join(f"{worker} {peak:.1f} GB" for worker, peak in sorted(_peaks.items()))
    write_line(f"peak memory: {peaks or f'{_peak_gigabytes():.1f} GB'}")
