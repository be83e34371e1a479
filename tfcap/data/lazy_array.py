"""Arrays that stay in their files: the rows of an HDF5 dataset, the paths in a text file.

They hold no data and no open file, so that they may be sent to other processes and read in any
thread. Nothing is trusted: sizes are checked before memory is taken, and no file leads to another.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from visualization.files.printable import printable

_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
_BLOCK = 2**20  # bytes that are read at once where all rows are looked at
_LARGEST_ROW = 2**20  # bytes
_LARGEST_UNPACKED = 2**25  # bytes; HDF5 unpacks whole chunks for one row
_LONGEST_LINE = 2**16  # bytes
_LINES_PER_MARK = 256


def select_rows(index: Any, count: int) -> np.ndarray:
    """The numbers of the rows that a NumPy-style index of the first axis means, int64, any shape.

    Raises:
        IndexError: a row is not among the `count`, or the index is no integer, slice, list, or mask.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    if index is Ellipsis:
        return np.arange(count)
    if isinstance(index, tuple) or index is None:
        raise IndexError(
            f"{index!r} is no index over the rows: take the rows first, as in x[rows][:, columns]"
        )
    rows = np.asarray(index)
    if rows.dtype == bool:
        if rows.shape != (count,):
            raise IndexError(f"the mask has shape {rows.shape}, but there are {count:,} rows")
        return np.flatnonzero(rows)
    if rows.size == 0:
        return rows.astype(np.int64)
    if not np.issubdtype(rows.dtype, np.integer):
        raise IndexError(f"the index is {rows.dtype}, expected integers, a slice or a mask")
    low, high = int(rows.min()), int(rows.max())
    if low < -count or high >= count:
        raise IndexError(f"row {low if low < -count else high} is not among the {count:,} rows")
    rows = rows.astype(np.int64)
    return np.where(rows < 0, rows + count, rows)


def blocks(array: Any) -> Iterator[np.ndarray]:
    """All rows of an array, stored or not, in pieces of about a megabyte."""
    step = max(1, _BLOCK // (4 * math.prod(array.shape[1:])))
    if isinstance(array, LazyArray):
        step = -(-step // array.rows_at_once) * array.rows_at_once
    for start in range(0, len(array), step):
        yield array[start : start + step]


class LazyArray:
    """The rows of an HDF5 dataset, read when they are asked for.

    ``x[index]`` takes an integer, a slice, a mask, or integers in any order with repeats, all along
    the first axis, and gives a NumPy array; ``np.asarray(x)`` gives all. Floating point becomes
    float32 and integers int32. Reading raises a ValueError where the file is damaged or a number is
    NaN or infinite.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no HDF5 file, it is damaged, or has no such dataset of numbers.
    """

    def __init__(self, path: str | os.PathLike[str], name: str, ndim: int) -> None:
        self.path, self.name = Path(path), name
        with open_hdf5(self.path) as file:
            dataset = _checked(file, name, ndim, self.path)
            self.shape = dataset.shape
            self.ndim = ndim
            self._stored = dataset.dtype
            self._row_bytes = math.prod(self.shape[1:]) * self._stored.itemsize
            self._offset = _offset(file, dataset)
            self.rows_at_once = _rows_at_once(dataset)
        self.dtype = np.dtype(np.float32 if self._stored.kind == "f" else np.int32)
        size = self.path.stat().st_size
        if self._offset is not None and self._offset + self._row_bytes * len(self) > size:
            raise ValueError(f"{self.path} {_TRUNCATED} (it has {size:,} bytes): get it again")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"LazyArray({str(self.path)!r}, {self.name!r}, shape={self.shape})"

    def __getitem__(self, index: Any) -> Any:
        rows = select_rows(index, len(self))
        flat = rows.ravel()
        if (flat[1:] > flat[:-1]).all():
            found = self._read(flat)
        else:
            unique, inverse = np.unique(flat, return_inverse=True)
            found = self._read(unique)[inverse]
        found = found.reshape(rows.shape + self.shape[1:])
        return found if found.ndim else found[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows in a file cannot become an array without a copy")
        found = self[:]
        return found if dtype is None else found.astype(dtype, copy=False)

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Rows that rise, converted and checked."""
        found = np.empty((len(rows), *self.shape[1:]), self._stored)
        if len(rows):
            if self._offset is None:
                self._read_through_hdf5(rows, found)
            else:
                self._read_directly(rows, found)
        with np.errstate(over="ignore"):
            converted = found.astype(self.dtype, copy=False)
        if self.dtype == np.float32:
            good = np.isfinite(converted)
        elif np.can_cast(self._stored, np.int32):
            return converted
        else:
            good = converted == found
        if not good.all():
            bad = rows[np.argmin(good.reshape(len(rows), -1).all(axis=1))]
            raise ValueError(
                f"{self.path}: row {bad} of {self.name} holds NaN, infinity or a number beyond 32 "
                "bits: make the file again"
            )
        return converted

    def _read_directly(self, rows: np.ndarray, found: np.ndarray) -> None:
        """From where they lie in the file, which is many times faster than HDF5's own selection."""
        assert self._offset is not None
        ends = _ends(np.diff(rows) != 1, len(rows))
        places = (self._offset + rows * self._row_bytes).tolist()
        content = found.reshape(-1).view(np.uint8).data
        with _reading(self.path), self.path.open("rb", buffering=0) as file:
            for start, end in zip([0, *ends], ends, strict=False):
                file.seek(places[start])
                part = content[start * self._row_bytes : end * self._row_bytes]
                while part:
                    count = file.readinto(part)
                    if not count:
                        raise ValueError(f"{self.path} {_TRUNCATED}: get it again")
                    part = part[count:]

    def _read_through_hdf5(self, rows: np.ndarray, found: np.ndarray) -> None:
        """Chunk by chunk: HDF5's selection of single rows is slow, and it unpacks chunks anyway."""
        with open_hdf5(self.path) as file:
            dataset = _checked(file, self.name, self.ndim, self.path)
            if (dataset.shape, dataset.dtype) != (self.shape, self._stored):
                raise _RefusedError(f"{self.path} has changed since it was opened: open it again")
            ends = _ends(np.diff(rows // self.rows_at_once) != 0, len(rows))
            for start, end in zip([0, *ends], ends, strict=False):
                first, last = int(rows[start]), int(rows[end - 1])
                found[start:end] = dataset[first : last + 1][rows[start:end] - first]


def _ends(breaks: np.ndarray, count: int) -> list[int]:
    """Where each run ends, if a new one begins after every true entry."""
    return [*(np.flatnonzero(breaks) + 1).tolist(), count]


# ---- HDF5 files

_TRUNCATED = "is an HDF5 file that is truncated or damaged"


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        raise type(error)(f"{path} cannot be read: {error.strerror}") from None


class _RefusedError(Exception):
    """What is wrong with a file that HDF5 itself does not complain of."""


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; whatever HDF5 says about it becomes one sentence.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no HDF5 file, or damaged.
    """
    with _reading(path):
        if not path.is_file():
            kind = "is not a regular file" if path.exists() else "does not exist"
            raise FileNotFoundError(f"{path} {kind}: check the path")
        with path.open("rb") as file:
            start = file.read(512)
    try:
        if not h5py.is_hdf5(str(path)):
            raise _RefusedError(f"{path} {_what_else(start)}")
        with h5py.File(str(path), "r", locking=False, rdcc_nbytes=_LARGEST_UNPACKED) as opened:
            yield opened
    except _RefusedError as refusal:
        raise ValueError(str(refusal)) from None
    except _HDF5_ERRORS:
        size = path.stat().st_size
        raise ValueError(f"{path} {_TRUNCATED} (it has {size:,} bytes): get it again") from None


def hdf5_names(path: Path) -> list[str]:
    """The names at the top of an HDF5 file, at most a thousand of them."""
    with open_hdf5(path) as file:
        return [name for name, _ in zip(file, range(1000), strict=False)]


def _what_else(start: bytes) -> str:
    if not start:
        return "is empty (0 bytes), so its download or copy failed: get it again"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return (
            "is a web page, not HDF5: the download got an error or login page; get the file itself"
        )
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, which only names the file: fetch it with 'git lfs pull'"
    return f"is no HDF5 file (it starts with {start[:8].hex(' ')}): get it again"


def _checked(file: h5py.File, name: str, ndim: int, path: Path) -> h5py.Dataset:
    """The dataset of that name, if it is numbers of that many axes, inside the file."""
    link = file.get(name, getlink=True)
    if link is None:
        there = (
            ", ".join(printable(key) for key, _ in zip(file, range(8), strict=False)) or "nothing"
        )
        raise _RefusedError(
            f"{path} holds no {name!r} (it holds {there}): it is another kind of file"
        )
    if not isinstance(link, h5py.HardLink):
        raise _RefusedError(f"{path}: {name} is a link to elsewhere, which is refused")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise _RefusedError(f"{path}: {name} is no array of numbers")
    if dataset.is_virtual or dataset.external:
        raise _RefusedError(f"{path} keeps {name} in another file, which is refused")
    if dataset.dtype.kind not in "iuf" or dataset.ndim != ndim or 0 in dataset.shape[1:]:
        raise _RefusedError(
            f"{path}: {name} is {dataset.dtype} {dataset.shape}, expected numbers with {ndim} axes"
        )
    row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    unpacked = _unpacked_for_a_row(dataset)
    if row > _LARGEST_ROW or unpacked > _LARGEST_UNPACKED:
        raise _RefusedError(
            f"{path}: one row of {name} has {row:,} bytes, in chunks of {unpacked:,}, more than the "
            f"{_LARGEST_ROW:,} and {_LARGEST_UNPACKED:,} that are read: it is refused"
        )
    return dataset


def _unpacked_for_a_row(dataset: h5py.Dataset) -> int:
    """The bytes of all chunks in which a row lies; 0 if there are no chunks."""
    if dataset.chunks is None:
        return 0
    across = zip(dataset.shape[1:], dataset.chunks[1:], strict=True)
    count = math.prod(-(-size // chunk) for size, chunk in across)
    return count * math.prod(dataset.chunks) * dataset.dtype.itemsize


def _offset(file: h5py.File, dataset: h5py.Dataset) -> int | None:
    """Where the rows begin, if they lie in the file one after another just as NumPy has them."""
    plain = (
        dataset.chunks is None and not file.userblock_size and dataset.dtype.itemsize in (2, 4, 8)
    )
    stored = dataset.id.get_type().get_size() == dataset.dtype.itemsize
    return dataset.id.get_offset() if plain and stored and dataset.size else None


def _rows_at_once(dataset: h5py.Dataset) -> int:
    """Those of one chunk, which HDF5 unpacks together; without chunks, as many as are well read."""
    if dataset.chunks:
        return dataset.chunks[0]
    return max(1, _BLOCK // (math.prod(dataset.shape[1:]) * dataset.dtype.itemsize))


# ---- text files


class StoredPaths:
    """The paths and URLs in a UTF-8 text file, one a line, read when they are asked for.

    ``x[index]`` takes what an array's first axis takes: an integer gives a string, all else an array
    of strings. A relative path is joined to the folder in which the file lies. The place of every
    256th line is kept, nothing more.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: a line is empty or absurdly long.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with _reading(self.path):
            if self.path.exists() and not self.path.is_file():
                raise ValueError(f"{self.path} is not a regular file: check the path")
            with self.path.open("rb") as file:
                self._count, self._marks = _mark_lines(file, self.path)
        self.shape = (self._count,)
        self.ndim = 1
        self.dtype = np.dtype(np.str_)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"StoredPaths({str(self.path)!r}, shape={self.shape})"

    def __getitem__(self, index: Any) -> Any:
        rows = select_rows(index, len(self))
        unique, inverse = np.unique(rows.ravel(), return_inverse=True)
        found = np.array(self._read(unique.tolist()), dtype=np.str_)[inverse].reshape(rows.shape)
        return found if found.ndim else str(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("lines in a file cannot become an array without a copy")
        return self[:] if dtype is None else self[:].astype(dtype)

    def _read(self, rows: list[int]) -> list[str]:
        """Lines by numbers that rise."""
        found = []
        line, place = b"", -1
        with _reading(self.path), self.path.open("rb") as file:
            for row in rows:
                mark = row // _LINES_PER_MARK
                if place < mark * _LINES_PER_MARK - 1:
                    file.seek(int(self._marks[mark]))
                    place = mark * _LINES_PER_MARK - 1
                while place < row:
                    line = file.readline(_LONGEST_LINE)
                    place += 1
                found.append(line.strip().decode(errors="replace"))
        return [text if "://" in text else str(self.path.parent / text) for text in found]


def _mark_lines(file: BinaryIO, path: Path) -> tuple[int, np.ndarray]:
    """How many lines there are, and where every 256th begins, int64."""
    count, place, last = 0, 0, -1  # last: where the latest line break stands
    marks = [np.zeros(1, np.int64)]
    while block := file.read(_BLOCK):
        breaks = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + place
        gaps = np.diff(breaks, prepend=last)
        place += len(block)
        if len(breaks):
            if gaps.min() < 2 or gaps.max() > _LONGEST_LINE:
                number = count + 1 + int(np.argmax((gaps < 2) | (gaps > _LONGEST_LINE)))
                raise ValueError(f"{path}: line {number} is empty or too long: get it again")
            first = -(count + 1) % _LINES_PER_MARK
            marks.append(breaks[first::_LINES_PER_MARK] + 1)
            count += len(breaks)
            last = int(breaks[-1])
        if place - last > _LONGEST_LINE:
            raise ValueError(f"{path}: line {count + 1} is too long: get it again")
    return count + (place > last + 1), np.concatenate(marks)
