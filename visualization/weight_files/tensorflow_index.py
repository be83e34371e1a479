"""Reads the index of a TensorFlow checkpoint: which tensors it holds and where. Needs no TensorFlow.

TensorFlow's own reader ends the whole process on an entry that it cannot parse, or whose shape or
slice is impossible, so these are refused here before TensorFlow sees the file. What TensorFlow refuses
with an error is left to it: wrong checksums, sizes that do not fit, slices that do not cover a tensor.

The file is a LevelDB table: blocks of entries, each key sharing a prefix with the one before. The
values are protocol buffers: a header under the empty key, and for each tensor its dtype, shape and
place.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MAGIC", "CompressedError", "Entry", "Index", "read_index"]

MAGIC = bytes.fromhex("57fb808b247547db")  # the table's last eight bytes
_FOOTER = 48  # bytes
_MAX_SHARDS = 100_000
_DTYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 7: "string", 9: "int64", 10: "bool"}
_DTYPES |= {14: "bfloat16", 19: "float16"}


class CompressedError(ValueError):
    """Raised for an index in blocks compressed with Snappy, which TensorFlow reads but never writes."""


@dataclass(frozen=True)
class Entry:
    """What the index says about one tensor.

    Example:
        >>> Entry("float32", (64,), shard=0, offset=0, size=256).shape
        (64,)
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int  # number of the data file
    offset: int  # bytes into it
    size: int  # bytes


@dataclass(frozen=True)
class Index:
    """The tensors of a checkpoint, the slices of those stored in slices, and the number of data files.

    Example:
        >>> Index(shards=1, tensors={}, slices={}).shards
        1
    """

    shards: int
    tensors: dict[str, Entry]
    slices: dict[str, Entry]


def read_index(content: bytes) -> Index:
    """Reads an index file that ends in `MAGIC`.

    Raises:
        ValueError: it is damaged, or TensorFlow would end the process on it; the message says why.

    Example:
        >>> read_index(bytes(40) + MAGIC)
        Traceback (most recent call last):
        ...
        ValueError: a block lies beyond its end
    """
    try:
        return _read(content)
    except ValueError:
        raise
    except Exception as error:  # IndexError, struct.error
        raise ValueError("an entry is cut off") from error


def _read(content: bytes) -> Index:
    _, position = _handle(content[-_FOOTER:], 0)  # of a block that is not used
    root, _ = _handle(content[-_FOOTER:], position)
    shards = 0
    tensors: dict[str, Entry] = {}
    slices: dict[str, Entry] = {}
    for _, value in _entries(_block(content, *root)):
        handle, _ = _handle(value, 0)
        for key, message in _entries(_block(content, *handle)):
            if not key:
                shards = dict(_fields(message, _HEADER)).get(1, 0)
                continue
            name = key.decode(errors="backslashreplace")
            # A slice's key starts with a zero byte and holds numbers besides its tensor's name.
            found = slices if name.startswith("\0") else tensors
            if name in found:
                raise ValueError(f"it holds {name[:100]!r} twice")
            found[name] = _entry(name, message)
    if not 0 < shards < _MAX_SHARDS:
        raise ValueError(f"it names {shards} data files")
    for name, place in (tensors | slices).items():
        if not 0 <= place.shard < shards:
            raise ValueError(f"{name[:100]!r} is in data file {place.shard} of {shards}")
    return Index(shards, tensors, slices)


# ---- protocol buffers

_NUMBER, _BYTES, _FIXED32 = 0, 2, 5  # how a field is stored
_HEADER = {1: _NUMBER, 2: _NUMBER, 3: _BYTES}  # data files, endianness, version
_ENTRY = {1: _NUMBER, 2: _BYTES, 3: _NUMBER, 4: _NUMBER, 5: _NUMBER, 6: _FIXED32, 7: _BYTES}
_SHAPE = {2: _BYTES}  # its dimensions
_SLICE = {1: _BYTES}  # its extents, one a dimension
_EXTENT = {1: _NUMBER, 2: _NUMBER}  # start and length
_DIMENSION = {1: _NUMBER}  # its size


def _entry(name: str, message: bytes) -> Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}  # dtype, data file, offset, size
    shape: list[int] = []
    slices = []
    for number, value in _fields(message, _ENTRY):
        if number == 2:
            shape += [
                dict(_fields(size, _DIMENSION)).get(1, 0) for _, size in _fields(value, _SHAPE)
            ]
        elif number == 7:
            slices.append(_slice(value))
        else:
            numbers[number] = value
    dtype, shard, offset, size = (numbers[number] for number in (1, 3, 4, 5))
    values = math.prod(max(length, 1) for length in shape)
    if len(set(slices)) < len(slices):
        raise ValueError(f"{name[:100]!r} has one slice twice")
    if len(shape) > 254 or min((*shape, offset, size)) < 0 or values >= 2**63:
        raise ValueError(f"{name[:100]!r} has an impossible shape or place")
    return Entry(_DTYPES.get(dtype, f"dtype {dtype}"), tuple(shape), shard, offset, size)


def _slice(message: bytes) -> tuple[tuple[int, int | None], ...]:
    """Start and length in each dimension; without a length it is the whole dimension."""
    extents = []
    for _, extent in _fields(message, _SLICE):
        fields = dict(_fields(extent, _EXTENT))
        start, length = fields.get(1, 0), fields.get(2)
        if start < 0 or (start > 0 if length is None else length < 0):
            raise ValueError("it has an impossible slice")
        extents.append((start, length))
    return tuple(extents)


def _fields(message: bytes, kinds: Mapping[int, int]) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: a signed integer, or bytes. Only the given kinds may occur."""
    position = 0
    while position < len(message):
        number, kind = message[position] >> 3, message[position] & 7
        if kinds.get(number) != kind:
            raise ValueError("an entry is not a valid protocol buffer")
        value: int | bytes
        value, position = (4, position + 1) if kind == _FIXED32 else _varint(message, position + 1)
        if kind == _NUMBER:
            value -= (value >> 63) << 64
        else:
            length = value
            value = message[position : position + length]
            if len(value) < length:
                raise ValueError("an entry is cut off")
            position += length
        yield number, value


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >= 2**64 or (shift and not byte):  # written as nothing honest writes it
                break
            return value, position
    raise ValueError("a number has no valid end")


# ---- the table


def _handle(content: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Where a block is, as offset and size; and the position behind the handle."""
    offset, position = _varint(content, position)
    size, position = _varint(content, position)
    return (offset, size), position


def _block(content: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + 5 > len(content) - _FOOTER:  # a byte for the compression and four of checksum follow
        raise ValueError("a block lies beyond its end")
    if content[end] == 1:
        raise CompressedError("a block is compressed")
    if content[end] != 0:
        raise ValueError("a block is of an unknown kind")
    return content[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block, which ends in a list of positions and their number."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length
