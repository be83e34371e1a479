"""How long until the first result: the whole `fool` command beside importing TensorFlow alone."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

from .timing import Case

IMPORT = "python -c 'import tensorflow'"


def cases() -> Iterator[Case]:
    """The command, and its --help, over the import of TensorFlow."""
    with tempfile.TemporaryDirectory() as folder:
        fool = ["-m", "visualization.fool", "--target", "6", "--quiet", "--out", folder]
        tensorflow = _python("-c", "import tensorflow")
        yield Case(
            "startup: the whole command, until its pictures are written",
            {"visualization.fool --target 6": _python(*fool), IMPORT: tensorflow},
            at_least={IMPORT: 1 / 3},
        )
        report = _python("-m", "visualization.report", "--quiet", "--out", folder)
        yield Case(
            "startup: a report of one network's first class, until its page is written",
            {"visualization.report": report, IMPORT: tensorflow},
            at_least={IMPORT: 1 / 5},
        )
        yield Case(
            "startup: --help",
            {"visualization.fool --help": _python(*fool[:2], "--help"), IMPORT: tensorflow},
            at_least={IMPORT: 10},
        )


def _python(*arguments: str) -> Callable[[], object]:
    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    return run
