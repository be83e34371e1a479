"""Reads a whole file, if it is a regular one of bounded size."""

import os
import stat
from pathlib import Path

from visualization.files.system_errors import reading

__all__ = ["read_file", "regular_size"]


def read_file(path: str | os.PathLike[str], what: str = "file", *, max_bytes: int) -> bytes:
    """Returns the content of a regular file.

    Args:
        path: the file.
        what: what is expected there, for errors, such as "image file".
        max_bytes: the largest file that is read.

    Raises:
        OSError: the file is missing, is a folder or a device, or cannot be read.
        ValueError: it has more than `max_bytes`.

    Example:
        >>> _ = Path("note.txt").write_text("hello")
        >>> read_file("note.txt", max_bytes=100)
        b'hello'
        >>> read_file("note.txt", max_bytes=2)
        Traceback (most recent call last):
        ValueError: note.txt: has 5 bytes, at most 2 are read
    """
    path = Path(path)
    with reading(path, what):
        size = regular_size(path, what)
        if size > max_bytes:
            raise ValueError(f"{path}: has {size:,} bytes, at most {max_bytes:,} are read")
        return path.read_bytes()


def regular_size(path: Path, what: str = "file") -> int:
    """The size of a regular file in bytes; call it within `reading`.

    Raises:
        OSError: it is missing, or is a folder, a device or a pipe.

    Example:
        >>> regular_size(Path("."), "image file")
        Traceback (most recent call last):
        IsADirectoryError: .: is a folder: name the image file itself
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path}: is a folder: name the {what} itself")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path}: is not a regular file: name the {what} itself")
    return status.st_size
