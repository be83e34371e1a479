"""Weights in .safetensors, read by the optional package safetensors."""

import functools
import struct

import numpy as np

from visualization.files.json_file import parse_json
from visualization.weight_files.weight_file import METADATA, Tensor

__all__ = ["is_safetensors", "read_safetensors"]

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
_MAX_HEADER = 100_000_000  # bytes, the format's own limit


def is_safetensors(start: bytes) -> bool:
    """Whether a file that starts with these bytes (9 or more) is a .safetensors file.

    Example:
        >>> is_safetensors(bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"{}")
        True
    """
    return start[8:9] == b"{" and _header_length(start) <= _MAX_HEADER


def read_safetensors(content: bytes, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a .safetensors file.

    Args:
        content: the whole file.
        name: what errors call it.

    Raises:
        ValueError: it is damaged.
        ImportError: the package safetensors is not installed.

    Example:
        >>> read_safetensors(bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"{}", "a.safetensors")
        ({}, {})
    """
    try:
        import safetensors  # noqa: PLC0415  an optional package
    except ImportError:
        raise ImportError(
            f"{name}: is a .safetensors file, which needs the package safetensors: install it with "
            "'pip install safetensors'"
        ) from None
    try:
        entries = safetensors.deserialize(content)
        header = parse_json(content[8 : 8 + _header_length(content)], name)
    except Exception:  # of safetensors, which is written in Rust, and of the JSON reader
        raise ValueError(
            f"{name}: is a .safetensors file that is truncated or damaged, as its header does not "
            f"fit its {len(content):,} bytes: download it again"
        ) from None
    tensors = {}
    for key, entry in entries:
        shape = tuple(entry["shape"])
        dtype = _DTYPES.get(entry["dtype"], entry["dtype"])
        read = functools.partial(_value, entry["data"], shape, dtype)
        tensors[key] = Tensor(shape, dtype, read)
    return tensors, header.get(METADATA, {})


def _header_length(start: bytes) -> int:
    (length,) = struct.unpack("<Q", start[:8])
    return length


def _value(data: bytes, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The value of a tensor of a NumPy dtype; others are refused before they are read."""
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)
