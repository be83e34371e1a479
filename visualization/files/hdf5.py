"""The one way to open an HDF5 file that is not trusted.

Links can lead to any other file, datasets can lie in other files, and a chunk can unpack to more than
there is memory: none of these is followed. Whatever h5py raises becomes one sentence.
"""

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path

import h5py

from visualization.files.kinds import HDF5, describe
from visualization.files.printable import printable
from visualization.files.regular_file import regular_size
from visualization.files.system_errors import reading

__all__ = ["RefusedError", "open_hdf5", "safe_dataset"]

_CACHE = 2**25  # bytes of unpacked chunks that h5py keeps
_REMEDY = "save the arrays in the file itself, in small chunks"


class RefusedError(ValueError):
    """Raised for an HDF5 file that h5py would read, but that this project refuses to."""


@contextlib.contextmanager
def open_hdf5(source: Path | bytes, name: str | None = None) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading, from a path or from its content.

    Args:
        source: the path, or the whole content.
        name: what errors call it; by default the path.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not a valid HDF5 file, or damaged; also for whatever h5py raises inside the
            ``with`` block.

    Example:
        >>> with h5py.File("features.h5", "w") as file:
        ...     file["train"] = [1.0, 2.0]
        >>> with open_hdf5(Path("features.h5")) as file:
        ...     safe_dataset(file, "train", "features.h5")[:].tolist()
        [1.0, 2.0]
        >>> with open_hdf5(b"hello", "notes.txt"):
        ...     pass
        Traceback (most recent call last):
        ValueError: notes.txt: is not an HDF5 file (it starts with 68 65 6c 6c 6f)
    """
    name = str(source) if name is None else name
    if isinstance(source, bytes):
        start, size = source[:512], len(source)
    else:
        with reading(source, "HDF5 file"):
            size = regular_size(source, "HDF5 file")
            with source.open("rb") as file:
                start = file.read(512)
    if not start.startswith(HDF5):
        told = describe(start, "an HDF5 file") or (
            f"is not an HDF5 file (it starts with {start[:8].hex(' ')})"
        )
        raise ValueError(f"{name}: {told}")
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        with h5py.File(opened, "r", locking=False, rdcc_nbytes=_CACHE) as hdf5:
            yield hdf5
    except RefusedError:
        raise
    except Exception:  # h5py raises whatever its C library's error code happens to be translated to
        raise ValueError(
            f"{name}: is an HDF5 file that is truncated or damaged (it has {size:,} bytes): "
            "download or build it again"
        ) from None


def safe_dataset(file: h5py.Group, path: str, name: str, max_chunk: int = _CACHE) -> h5py.Dataset:
    """Returns the dataset at `path`, if it lies inside the file, in chunks of bounded size.

    Args:
        file: an open file or a group in it.
        path: where the dataset lies in it.
        name: what errors call the file.
        max_chunk: the largest chunk, in bytes once unpacked.

    Raises:
        RefusedError: there is none, it is only linked to, or it lies in another file or huge chunks.

    Example:
        >>> with h5py.File("linked.h5", "w") as file:
        ...     file["train"] = h5py.ExternalLink("/etc/passwd", "train")
        ...     safe_dataset(file, "train", "linked.h5")
        Traceback (most recent call last):
        visualization.files.hdf5.RefusedError: linked.h5: has no dataset train, or only a link ...
    """
    key = printable(path)
    if not isinstance(file.get(path, getlink=True), h5py.HardLink):
        raise RefusedError(
            f"{name}: has no dataset {key}, or only a link to it, which is refused: {_REMEDY}"
        )
    dataset = file[path]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise RefusedError(f"{name}: keeps {key} in another file, which is refused: {_REMEDY}")
    chunk = math.prod(dataset.chunks or (1,)) * dataset.dtype.itemsize
    if dataset.shape is None or chunk > max_chunk:
        raise RefusedError(
            f"{name}: stores {key} in chunks of {chunk:,} bytes, which is refused: {_REMEDY}"
        )
    return dataset
