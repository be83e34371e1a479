"""What the commands share: arguments, one-sentence errors, progress, files written whole or not at all.

Needs neither TensorFlow nor NumPy until a command has something to compute.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "matplotlib")


class Parser(argparse.ArgumentParser):
    """An argument parser to which the arguments that every command takes can be added."""

    def add_common_arguments(self) -> None:
        self.add_argument(
            "--weights",
            default="imagenet",
            metavar="FILE",
            help="a weight file of SqueezeNet 1.1 (default: the bundled ImageNet weights)",
        )
        self.add_argument("--seed", type=int, default=0, help="default: %(default)s")
        self.add_argument(
            "--out",
            type=Path,
            default=Path("out"),
            metavar="FOLDER",
            help="where the results go; made if missing (default: ./%(default)s)",
        )
        self.add_argument("--quiet", action="store_true", help="print errors only")


def positive_float(text: str) -> float:
    """An argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def positive_int(text: str) -> int:
    """An argparse type: a whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


def run(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    job: Callable[[argparse.Namespace], int],
) -> int:
    """Parses the arguments and does the job; wrong input becomes one sentence and status 2."""
    arguments = parser.parse_args(argv)
    try:
        return job(arguments)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130


def read_image(source: str | None, size: int) -> "tuple[np.ndarray, dict[str, str]]":
    """The photograph, uint8 (size, size, 3), and its name and sha256 for the record.

    With None it is the one that ships with matplotlib.
    """
    from .images import decode_image, read_source

    if source is None:
        import matplotlib

        source = str(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))
    content = read_source(source)
    record = {"source": source, "sha256": hashlib.sha256(content).hexdigest()}
    return decode_image(content, source, size), record


def check_weights(source: str) -> dict[str, str]:
    """The name and sha256 of a weight file, for the record, after it was found whole.

    Raises as `checkpoints.load_weights` does, but needs no TensorFlow.
    """
    from . import checkpoints

    return {"source": source, "sha256": checkpoints.read_weights(source)[1]}


def file_stem(*parts: str) -> str:
    """A file name without extension, of letters, digits and hyphens, from free text."""
    text = "-".join(parts)
    return re.sub(r"[^\w]+", "-", text).strip("-") or "image"


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
        except BaseException:
            os.dup2(terminal, 2)
            chatter.seek(0)
            sys.stderr.write(chatter.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


@contextlib.contextmanager
def progress(text: str, quiet: bool) -> Iterator[None]:
    """Shows `text` on a terminal for as long as the block takes; prints nothing in a pipe."""
    shown = sys.stderr.isatty() and not quiet
    if shown:
        print(text, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r" + " " * len(text) + "\r", end="", file=sys.stderr, flush=True)


class OutputFolder:
    """A folder to write results into, made if missing, and tried before any long work.

    Raises:
        OSError: it cannot be made or written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
        except OSError as error:
            raise OSError(
                f"--out {path}: results cannot be written there ({error.strerror}): "
                "name another folder"
            ) from error

    def write(self, name: str, content: bytes) -> Path:
        """Writes a file whole or not at all: a killed run leaves the old file or the new one."""
        path = self.path / name
        handle, unfinished = tempfile.mkstemp(dir=self.path, prefix=f".{name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(unfinished, 0o666 & ~_umask())
            os.replace(unfinished, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise OSError(f"{path}: cannot be written: {error.strerror}") from error
        return path

    def write_image(self, name: str, pixels: "np.ndarray") -> Path:
        """Writes uint8 RGB pixels (H, W, 3) as a lossless PNG."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return self.write(name, buffer.getvalue())

    def write_json(self, name: str, record: dict[str, Any]) -> Path:
        """Writes what ran: `record`, with the versions it ran with."""
        versions = {"python": platform.python_version()}
        versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
        text = json.dumps(record | {"versions": versions}, indent=1, allow_nan=False)
        return self.write(name, f"{text}\n".encode())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
