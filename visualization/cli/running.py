"""How a command runs: errors in one sentence and exit statuses, progress, starting TensorFlow."""

import argparse
import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from visualization.files.printable import escaped, on_one_line

__all__ = ["loading_tensorflow", "progress", "run", "start_tensorflow"]


def run(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    job: Callable[[argparse.Namespace], int],
) -> int:
    """Parses the arguments and does the job; wrong input becomes one sentence and status 2.

    Args:
        parser: the command's.
        argv: the arguments; by default those of the process.
        job: does the command's work and returns the exit status.

    Returns:
        The exit status.

    Example:
        >>> parser = argparse.ArgumentParser("count")
        >>> _ = parser.add_argument("--to", type=int)
        >>> run(parser, ["--to", "3"], lambda arguments: print(*range(arguments.to)) or 0)
        0 1 2
        0
    """
    arguments = parser.parse_args(argv)
    try:
        escaping: Any = _Escaping(sys.stdout)
        with contextlib.redirect_stdout(escaping):
            status = job(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"{parser.prog}: {on_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130


class _Escaping:
    """A stream to which nothing goes that would command a terminal, as the names of files can hold."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(escaped(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def start_tensorflow(seed: int, quiet: bool) -> None:
    """Imports TensorFlow quietly, and seeds the generators of Python, NumPy and TensorFlow.

    A command calls this once, at the start of its work; the library never seeds global generators.

    Example:
        >>> start_tensorflow(seed=0, quiet=True)
        >>> import random
        >>> random.random()
        0.8444218515250481
    """
    with loading_tensorflow(quiet):
        from visualization.backend import keras, tf

        tf.zeros(())  # starts the devices, which write to the standard error too
    keras.utils.set_random_seed(seed)


@contextlib.contextmanager
def loading_tensorflow(quiet: bool) -> Iterator[None]:
    """Surrounds the first import of TensorFlow: says so on a terminal, and holds back its messages.

    TensorFlow's libraries write to the standard error before any setting of theirs can stop them.
    What they wrote is shown after all if the import fails. Python's collector of garbage does not
    look at the modules again, which live as long as the command.

    Example:
        >>> with loading_tensorflow(quiet=True):
        ...     from visualization.backend import tf
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    first = "tensorflow" not in sys.modules
    sys.stderr.flush()
    with progress("loading TensorFlow ...", quiet), tempfile.TemporaryFile() as held_back:
        terminal = os.dup(2)
        os.dup2(held_back.fileno(), 2)
        try:
            yield
            if first:
                gc.freeze()
        except (ValueError, OSError):  # about a file that was read in the block
            raise
        except BaseException:
            os.dup2(terminal, 2)
            held_back.seek(0)
            sys.stderr.write(held_back.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


@contextlib.contextmanager
def progress(text: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows `text` on a terminal while the block runs; in a pipe, nothing.

    Yields:
        A function that shows another text instead.

    Example:
        >>> with progress("working ...", quiet=False) as show:
        ...     show("50 %")
    """
    shown = sys.stderr.isatty() and not quiet

    def show(text: str) -> None:
        if shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    show(text)
    try:
        yield show
    finally:
        show("")
