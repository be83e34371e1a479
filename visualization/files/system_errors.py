"""Turns the operating system's errors about a path into one sentence that says what to do."""

import contextlib
import errno
import os
from collections.abc import Iterator

__all__ = ["reading", "writing"]


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str = "file") -> Iterator[None]:
    """Rewords an `OSError` of the system that is raised while `path` is read.

    An error that this project raised itself, which is a sentence already, passes unchanged.

    Args:
        path: what is read.
        what: what is expected there, such as "image file".

    Raises:
        OSError: of the class that the system raised.

    Example:
        >>> with reading("none.jpg", "image file"):
        ...     open("none.jpg")
        Traceback (most recent call last):
        FileNotFoundError: none.jpg: there is no such image file: check the path
    """
    try:
        yield
    except FileNotFoundError as error:
        if error.strerror is None:
            raise
        raise FileNotFoundError(f"{path}: there is no such {what}: check the path") from None
    except OSError as error:
        if error.strerror is None:
            raise
        remedy = "check the path"
        if isinstance(error, PermissionError):
            remedy = "ask its owner for permission, or copy it to where you may read it"
        raise type(error)(f"{path}: cannot be read: {error.strerror}: {remedy}") from error


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], remedy: str = "") -> Iterator[None]:
    """Rewords an `OSError` of the system, or of HDF5, that is raised while `path` is written.

    Args:
        path: what is written.
        remedy: what to do, for the end of the sentence.

    Raises:
        OSError: of the class that was raised.

    Example:
        >>> with writing("none/out.png", "name another folder"):
        ...     open("none/out.png", "w")
        Traceback (most recent call last):
        FileNotFoundError: none/out.png: cannot be written: No such file or directory: name another ...
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror
        if reason is None:
            if "errno = 28" not in str(error):  # how HDF5 says that the disk is full
                raise
            reason = os.strerror(errno.ENOSPC)
        message = f"{path}: cannot be written: {reason}"
        raise type(error)(f"{message}: {remedy}" if remedy else message) from error
