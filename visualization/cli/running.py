"""How a command runs: one-sentence errors and exit statuses, progress, the loading of TensorFlow."""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


def run(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    job: Callable[[argparse.Namespace], int],
) -> int:
    """Parses the arguments and does the job; wrong input becomes one sentence and status 2."""
    arguments = parser.parse_args(argv)
    try:
        status = job(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who reads the output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130


@contextlib.contextmanager
def loading_tensorflow(quiet: bool) -> Iterator[None]:
    """Around the first import of TensorFlow: says so on a terminal, and holds back its chatter.

    TensorFlow's libraries write to the standard error before any setting of theirs can stop them.
    What they wrote is shown after all if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with progress("loading TensorFlow ...", quiet), tempfile.TemporaryFile() as chatter:
        terminal = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        except (ValueError, OSError):  # of a file that was read meanwhile
            raise
        except BaseException:
            os.dup2(terminal, 2)
            chatter.seek(0)
            sys.stderr.write(chatter.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


@contextlib.contextmanager
def progress(text: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows `text` on a terminal while the block runs; what it gives shows another text instead.

    Prints nothing in a pipe.
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
