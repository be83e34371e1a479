"""Makes one sentence of what the operating system says about a path."""

import contextlib
import errno
import os
from collections.abc import Iterator

__all__ = ["reading", "writing"]


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str = "file") -> Iterator[None]:
    """Around code that reads `path`: an `OSError` of the system's says the path and what to do.

    An error that a function of this project raised, a sentence already, passes as it is.

    Args:
        path: what is read.
        what: what is expected there, such as "image file".

    Raises:
        OSError: of the class that the system raised.
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
    """Around code that writes `path`: an `OSError` of the system's, or of HDF5's, says the path.

    Args:
        path: what is written.
        remedy: what to do, for the end of the sentence.

    Raises:
        OSError: of the class that was raised.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror
        if reason is None:
            if "errno = 28" not in str(error):  # how HDF5 says that the disk is full
                raise
            reason = os.strerror(errno.ENOSPC)
        told = f"{path}: cannot be written: {reason}"
        raise type(error)(f"{told}: {remedy}" if remedy else told) from error
