"""Arrays that stay in their HDF5 file: rows are read when they are indexed.

A `LazyArray` holds no data and no open file, so it can be sent to other processes and read from any
thread. The file is not trusted: sizes are checked before memory is allocated, and links are refused.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from visualization.files.hdf5 import RefusedError, open_hdf5, safe_dataset
from visualization.files.system_errors import reading

__all__ = ["LazyArray", "blocks"]

_BLOCK = 2**20  # bytes read at a time when all rows are read
_LARGEST_UNPACKED = 2**25  # bytes; HDF5 unpacks whole chunks even for one row


class LazyArray:
    """The rows of an HDF5 dataset of numbers, read when they are indexed.

    ``x[index]`` takes what NumPy takes for the first axis (an integer, a slice, a mask, integers in
    any order and shape, with repeats) and returns a NumPy array; ``np.asarray(x)`` reads everything.
    Floating point becomes float32, integers become int32.

    Args:
        path: the HDF5 file.
        name: the dataset in it.
        ndim: the number of axes it must have, or the numbers it may have.

    Attributes:
        shape, ndim, dtype: as an array's.
        rows_at_once: the rows that HDF5 unpacks together.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is not a valid HDF5 file, is damaged, or has no such dataset of numbers. Reading
            also raises it for a number that is NaN, infinite or beyond 32 bits.
        IndexError: an index is not one of the first axis, or out of bounds.

    Example:
        >>> with h5py.File("a.h5", "w") as file:
        ...     file["ids"] = np.arange(12).reshape(4, 3)
        >>> LazyArray("a.h5", "ids", 2)[[3, 0]]
        array([[ 9, 10, 11],
               [ 0,  1,  2]], dtype=int32)
    """

    def __init__(
        self, path: str | os.PathLike[str], name: str, ndim: int | tuple[int, ...]
    ) -> None:
        self.path, self.name = Path(path), name
        with open_hdf5(self.path) as file:
            dataset = _numbers(file, name, ndim, self.path)
            self.shape, self.ndim, self._stored = dataset.shape, dataset.ndim, dataset.dtype
            row_bytes = math.prod(self.shape[1:]) * self._stored.itemsize
            self.rows_at_once = (dataset.chunks or (max(1, _BLOCK // row_bytes),))[0]
            self._offset = _offset(file, dataset)
        self.dtype = np.dtype(np.float32 if self._stored.kind == "f" else np.int32)
        end = (self._offset or 0) + row_bytes * len(self)
        if self._offset is not None and end > self.path.stat().st_size:
            raise self._truncated()

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"LazyArray({str(self.path)!r}, {self.name!r}, shape={self.shape})"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):
            raise IndexError(
                f"{index!r} has several axes: index rows first, as in x[rows][:, columns]"
            )
        if self._offset is None:
            found = self._read_chunks(self._rows(index))
        else:
            found = self._read_mapped(index)
        converted = self._converted(found, index)
        return converted if converted.ndim else converted[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows in a file cannot become an array without a copy")
        found = self[:]
        return found if dtype is None else found.astype(dtype, copy=False)

    def _rows(self, index: Any) -> np.ndarray:
        """The numbers of the rows that an index selects."""
        if isinstance(index, slice):  # a damaged file may claim to have billions of rows
            return np.arange(*index.indices(len(self)))
        return np.arange(len(self))[index]

    def _read_mapped(self, index: Any) -> np.ndarray:
        """Where rows lie in the file as NumPy has them: several times faster than through HDF5."""
        try:
            with reading(self.path):
                mapped = np.memmap(self.path, self._stored, "r", self._offset or 0, self.shape)
        except ValueError:  # the file has become shorter
            raise self._truncated() from None
        return np.array(mapped[index])

    def _read_chunks(self, rows: np.ndarray) -> np.ndarray:
        """Through HDF5, a chunk at a time: its own selection of single rows is slow."""
        unique, inverse = np.unique(rows, return_inverse=True)
        found = np.empty((len(unique), *self.shape[1:]), self._stored)
        with open_hdf5(self.path) as file:
            dataset = _numbers(file, self.name, self.ndim, self.path)
            if (dataset.shape, dataset.dtype) != (self.shape, self._stored):
                raise RefusedError(f"{self.path}: has changed since it was opened: open it again")
            starts = np.flatnonzero(np.diff(unique // self.rows_at_once, prepend=-1))
            for start, end in zip(starts, [*starts[1:], len(unique)], strict=False):
                first, last = int(unique[start]), int(unique[end - 1])
                found[start:end] = dataset[first : last + 1][unique[start:end] - first]
        return found[inverse.reshape(rows.shape)]

    def _converted(self, found: np.ndarray, index: Any) -> np.ndarray:
        """The numbers as float32 or int32; raises ValueError where that is not possible."""
        with np.errstate(over="ignore", invalid="ignore"):
            converted = found.astype(self.dtype, copy=False)
        good = np.isfinite(converted) if self.dtype == np.float32 else converted == found
        if not good.all():
            rows = self._rows(index)
            bad = rows.ravel()[np.argmin(good.reshape(rows.size, -1).all(axis=1))]
            raise ValueError(
                f"{self.path}: row {bad} of {self.name} is NaN, infinite or beyond 32 bits: build the "
                "file again"
            )
        return converted

    def _truncated(self) -> ValueError:
        return ValueError(
            f"{self.path}: is an HDF5 file that is truncated or damaged (it has "
            f"{self.path.stat().st_size:,} bytes): download or build it again"
        )


def blocks(array: Any) -> Iterator[np.ndarray]:
    """All rows of an array, lazy or not, in pieces of about a megabyte.

    Args:
        array: of any shape, with 4 bytes a number.

    Example:
        >>> [len(block) for block in blocks(np.zeros((3000, 128), np.float32))]
        [2048, 952]
    """
    step = max(1, _BLOCK // (4 * math.prod(array.shape[1:])))
    if isinstance(array, LazyArray):
        step = -(-step // array.rows_at_once) * array.rows_at_once
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _numbers(file: h5py.File, name: str, ndim: int | tuple[int, ...], path: Path) -> h5py.Dataset:
    """The dataset of that name, if it holds numbers with so many axes, in rows of bounded size."""
    dataset = safe_dataset(file, name, str(path), _LARGEST_UNPACKED)
    axes = (ndim,) if isinstance(ndim, int) else ndim
    if dataset.dtype.kind not in "iuf" or dataset.ndim not in axes or 0 in dataset.shape[1:]:
        raise RefusedError(
            f"{path}: {name} is {dataset.dtype} {dataset.shape}, expected numbers with "
            f"{' or '.join(map(str, axes))} axes"
        )
    rows = (dataset.chunks or (1,))[0]
    together = rows * math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    if together > _LARGEST_UNPACKED:
        raise RefusedError(
            f"{path}: {name} stores {rows:,} rows together in {together:,} bytes, more than the "
            f"{_LARGEST_UNPACKED:,} that are read: store it in smaller chunks"
        )
    return dataset


def _offset(file: h5py.File, dataset: h5py.Dataset) -> int | None:
    """Where the rows begin, if they lie in the file one after another as NumPy has them."""
    size = dataset.dtype.itemsize
    plain = dataset.chunks is None and not file.userblock_size and size in (2, 4, 8)
    same = dataset.id.get_type().get_size() == size
    return dataset.id.get_offset() if plain and same and dataset.size else None
