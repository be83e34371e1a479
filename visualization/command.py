"""What the commands share: arguments, one-sentence errors, progress, files written whole or not at all.

Needs neither TensorFlow nor NumPy until a command has something to compute.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import itertools
import json
import math
import os
import platform
import re
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "matplotlib")
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


class Parser(argparse.ArgumentParser):
    """An argument parser to which the arguments that several commands take can be added."""

    def add_network_arguments(self) -> None:
        network = self.add_mutually_exclusive_group()
        network.add_argument(
            "--weights",
            default="imagenet",
            metavar="FILE",
            help="a checkpoint of SqueezeNet 1.1 in any form (default: the bundled ImageNet weights)",
        )
        network.add_argument(
            "--model",
            metavar="FILE.py:FUNCTION",
            help="your own Keras model: a function that returns (model, preprocess, bounds, names); "
            "the file is run",
        )

    def add_common_arguments(self) -> None:
        self.add_argument("--seed", type=seed, default=0, help="default: %(default)s")
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


def at_most(most: int) -> Callable[[str], int]:
    """Gives an argparse type: a whole number from 1 to `most`."""

    def whole(text: str) -> int:
        value = positive_int(text)
        if value > most:
            raise argparse.ArgumentTypeError(f"{text} is more than {most}")
        return value

    return whole


def seed(text: str) -> int:
    """An argparse type: a whole number of 32 bits, which is what NumPy's generators take."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return value


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


def overview(
    package: str,
    commands: Sequence[str],
    names: Mapping[str, Sequence[str]],
    modules: Sequence[str],
) -> str:
    """What ``python -m PACKAGE`` prints: the commands, by their own --help, and the public names.

    Args:
        package: its name.
        commands: the modules that are commands, in the order in which to list them.
        names: module -> the public names in it.
        modules: those that are public themselves, told by their first sentence.
    """
    lines = []
    for command in commands:
        paragraphs = _help(f"{package}.{command}").split("\n\n")
        what = paragraphs[1].strip(".").partition(". ")[0] + "."  # the first sentence
        lines += [
            f"python -m {package}.{command}",
            *_indented(what),
            *_indented(paragraphs[-1]),
            "",
        ]
    lines.append(f"from {package} import ...")
    for public in names.values():
        lines += _indented(", ".join(public))
    lines.append("")
    for module in modules:
        lines += [f"{package}.{module}", *_indented(_first_sentence(f"{package}.{module}"))]
    lines += ["", f"More: --help after a command; in Python, help({package}.NAME)"]
    return "\n".join(lines)


def _first_sentence(module: str) -> str:
    """Of a module's docstring; the module is not imported, as some need TensorFlow."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no module {module}")
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def _help(module: str) -> str:
    """What ``python -m module --help`` prints, on a wide terminal."""
    shown, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            importlib.import_module(module).main(["--help"])
    finally:
        del os.environ["COLUMNS"]
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return shown.getvalue()


def _indented(text: str) -> list[str]:
    prefix = "    "
    return textwrap.wrap(text, 100, initial_indent=prefix, subsequent_indent=prefix)


def image_sources(given: list[str]) -> list[str]:
    """The paths and URLs that the arguments mean: folders become the images in them.

    Without any, it is the photograph that ships with matplotlib.

    Raises:
        OSError: a folder holds no image.
    """
    if not given:
        import matplotlib

        return [str(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))]
    sources = []
    for source in given:
        if "://" in source or not Path(source).is_dir():
            sources.append(source)
            continue
        inside = sorted(path for path in Path(source).iterdir() if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise FileNotFoundError(f"{source}: is a folder without images ({' '.join(SUFFIXES)})")
        sources += map(str, inside)
    return sources


class Images:
    """The photographs, read one at a time, so that a folder of any size takes constant memory.

    Iterating gives, for each, a name for its files (no two alike), its pixels uint8 (H, W, 3) and a
    record of its source and sha256. Where there are several, one that cannot be read is reported and
    skipped; a single one raises, at once.
    """

    def __init__(self, sources: list[str], size: tuple[int, int] | None, quiet: bool) -> None:
        self.sources, self.quiet = sources, quiet
        self.skipped: list[str] = []
        self.size = size
        self._contents: dict[str, bytes] = {}
        if len(sources) == 1:
            self._read(sources[0])

    def _read(self, source: str) -> "tuple[np.ndarray, dict[str, str]]":
        from .images import decode_image, read_source

        content = self._contents.get(source) or read_source(source)
        if len(self.sources) == 1:
            self._contents[source] = content
        record = {"source": source, "sha256": hashlib.sha256(content).hexdigest()}
        return decode_image(content, source, self.size), record

    def __iter__(self) -> "Iterator[tuple[str, np.ndarray, dict[str, str]]]":
        taken: set[str] = set()
        start = time.monotonic()
        for done, source in enumerate(self.sources):
            try:
                image, record = self._read(source)
            except (ValueError, OSError) as error:
                self.skipped.append(source)
                print(f"skipped: {' '.join(str(error).split())}", file=sys.stderr)
                continue
            stem = unused(file_stem(Path(source.partition("?")[0]).stem), taken)
            left = (time.monotonic() - start) / done * (len(self.sources) - done) if done else 0
            note = f"{done + 1} of {len(self.sources)} images"
            note += f", about {left / 60:.0f} min left" if left >= 60 else f", {left:.0f} s left"
            with progress(note if done else f"{note.partition(',')[0]} ...", self.quiet):
                yield stem, image, record

    def status(self) -> int:
        """0 if every photograph was read, 1 if some were skipped; raises if all were."""
        if len(self.skipped) == len(self.sources):
            raise ValueError(f"none of the {len(self.sources)} images could be read")
        if self.skipped:
            print(
                f"{len(self.skipped)} of {len(self.sources)} images were skipped", file=sys.stderr
            )
        return int(bool(self.skipped))


def file_stem(*parts: str) -> str:
    """A file name without extension, of letters, digits and hyphens, from free text.

    It has at most 100 bytes, of the 255 that file systems take: two may stand in one name.
    """
    stem = re.sub(r"[^\w]+", "-", "-".join(parts)).encode()[:100].decode(errors="ignore")
    return stem.strip("-") or "image"


def unused(stem: str, taken: set[str]) -> str:
    """The stem, with a number behind it if it is taken (in upper or lower case); takes it."""
    numbered = (f"{stem}-{number}" for number in itertools.count(2))
    found = next(s for s in itertools.chain([stem], numbered) if s.casefold() not in taken)
    taken.add(found.casefold())
    return found


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
        unfinished = None
        try:
            handle, unfinished = tempfile.mkstemp(dir=self.path, prefix=".unfinished-")
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(unfinished, 0o666 & ~_umask())
            os.replace(unfinished, path)
        except BaseException as error:  # also an interruption leaves nothing behind
            if unfinished:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished)
            if not isinstance(error, OSError):
                raise
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
