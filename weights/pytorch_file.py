"""Reads PyTorch's legacy file format without PyTorch, and without running anything that it says.

Such a file is a sequence of pickles (a magic number, the protocol's version, facts about the system,
the state dict, the list of storages) and then, for each storage, the count of its values and the
values.
"""

import collections
import io
import math
import pickle
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["read_state_dict"]

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_state_dict(content: bytes) -> dict[str, np.ndarray]:
    """Name -> array, float32 or int64, of every tensor of a state dict.

    Raises:
        pickle.UnpicklingError: it asks for anything but tensors.
        ValueError: it is not such a file, or a tensor reaches beyond its storage.
    """
    file = io.BytesIO(content)
    magic, version, _, tensors, keys = (_TensorUnpickler(file).load() for _ in range(5))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError(
            f"it starts with {magic!r} and {version!r}, not as PyTorch's legacy files do"
        )
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values = {key: _read_storage(file, storages[key]) for key in keys}
    if file.read(1):
        raise ValueError("it goes on after its last storage")
    return {
        name: _strided(values[tensor.storage.key], tensor, name) for name, tensor in tensors.items()
    }


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    length: int  # values


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in values; a tensor may lie transposed in its storage


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *rest: Any
) -> _Tensor:
    """Stands for torch._utils._rebuild_tensor_v2; `rest` is about gradients."""
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _TensorUnpickler(pickle.Unpickler):
    """Admits the names that tensors need, and stands in for PyTorch; any other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}: refused")

    def persistent_load(self, identity: Any) -> _Storage:
        kind, dtype, key, _, count, view = identity
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"the file refers to {identity!r}: refused")
        return _Storage(dtype, key, count)


def _read_storage(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    header = file.read(8)
    if len(header) < 8 or struct.unpack("<q", header) != (storage.length,):
        raise ValueError(
            f"storage {storage.key} does not have the {storage.length:,} values promised"
        )
    content = file.read(storage.length * storage.dtype.itemsize)
    if len(content) < storage.length * storage.dtype.itemsize:
        raise ValueError(f"it ends within storage {storage.key}")
    return np.frombuffer(content, storage.dtype)


def _strided(values: np.ndarray, tensor: _Tensor, name: str) -> np.ndarray:
    """A tensor's own copy of its values."""
    shape, strides = tensor.shape, tensor.strides
    sizes = zip(shape, strides, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in sizes)
    if tensor.offset < 0 or min((*shape, 1)) < 1 or min((*strides, 0)) < 0 or last >= len(values):
        raise ValueError(f"tensor {name} reaches beyond its storage of {len(values):,} values")
    if math.prod(shape) > len(values):
        raise ValueError(f"tensor {name} uses values of its storage more than once")
    start = values[tensor.offset :]
    in_bytes = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(start, shape, in_bytes).copy()
