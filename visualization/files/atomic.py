"""Writes files atomically: a killed run leaves the old file or the new one, never a part."""

import contextlib
import os
import tempfile
from pathlib import Path

from visualization.files.system_errors import writing

__all__ = ["make_folder", "write_file"]


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Makes a folder if it is missing, and checks that it can be written to before any long work.

    Raises:
        OSError: it cannot be made or written to.

    Example:
        >>> make_folder("results/today").is_dir()
        True
    """
    path = Path(path)
    with writing(path, "name another folder"):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    return path


def write_file(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file under another name in the same folder and then renames it.

    Raises:
        OSError: it cannot be written; an older file of that name is then unchanged.

    Example:
        >>> write_file("numbers.txt", b"1 2 3").read_bytes()
        b'1 2 3'
    """
    path = Path(path)
    unfinished = None
    try:
        with writing(path):
            handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(unfinished, 0o666 & ~_umask())
            os.replace(unfinished, path)
    except BaseException:  # an interruption leaves nothing behind either
        if unfinished:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
