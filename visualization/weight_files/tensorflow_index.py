"""Reads the index of a TensorFlow checkpoint: which tensors there are and where. Needs no TensorFlow.

TensorFlow's own reader ends the whole process on an index with impossible shapes, so that an index is
read and checked here before TensorFlow sees it. The values are then read, and their checksums compared,
by TensorFlow.

The file is a LevelDB table: blocks of entries, each key sharing a prefix with the one before, each
block followed by its crc32c. The values are protocol buffers: a header under the empty key, and for
each tensor its dtype, shape and place.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = bytes.fromhex("57fb808b247547db")  # the table's last eight bytes
_FOOTER = 48
_DTYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 7: "string", 9: "int64", 10: "bool"}
_DTYPES |= {14: "bfloat16", 19: "float16"}
_SIZES = {"float32": 4, "float64": 8, "int32": 4, "uint8": 1, "int64": 8, "bool": 1}
_SIZES |= {"bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Entry:
    """What the index says of one tensor."""

    dtype: str
    shape: tuple[int, ...]
    shard: int  # number of the data file
    offset: int  # bytes into it
    size: int  # bytes


@dataclass(frozen=True)
class Index:
    """What lies in how many data files: tensors, and slices of those that are stored in slices."""

    shards: int
    tensors: dict[str, Entry]
    slices: dict[str, Entry]


def read_index(content: bytes) -> Index:
    """Reads an index file that ends in `MAGIC`.

    Raises:
        ValueError: it is damaged, or says what cannot be; the message says where.
    """
    try:
        return _read(content)
    except (IndexError, struct.error, UnicodeDecodeError, OverflowError) as error:
        raise ValueError("an entry does not hold together") from error


def _read(content: bytes) -> Index:
    footer = content[-_FOOTER:]
    _, position = _handle(footer, 0)
    handle, _ = _handle(footer, position)
    shards = 0
    tensors: dict[str, Entry] = {}
    slices: dict[str, Entry] = {}
    for _, value in _entries(_block(content, *handle)):
        block, _ = _handle(value, 0)
        for key, entry in _entries(_block(content, *block)):
            if not key:
                shards = _header(entry)
                continue
            # A slice's key starts with a zero byte and holds numbers besides its tensor's name.
            name = key.decode(errors="backslashreplace" if key.startswith(b"\0") else "strict")
            found = slices if name.startswith("\0") else tensors
            if name in found:
                raise ValueError(f"{name[:100]!r} stands in it twice")
            found[name] = _entry(name, entry)
    if not 0 < shards < 100_000:
        raise ValueError(f"it says that there are {shards} data files")
    for name, place in (tensors | slices).items():
        if not 0 <= place.shard < shards:
            raise ValueError(f"{name[:100]!r} is in data file {place.shard} of {shards}")
    return Index(shards, tensors, slices)


def _header(message: bytes) -> int:
    shards = 0
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            shards = value
        if number == 2 and value:
            raise ValueError("it was written on a big-endian machine")
    return shards


def _entry(name: str, message: bytes) -> Entry:
    dtype, numbers = "dtype 0", {3: 0, 4: 0, 5: 0}
    shape: tuple[int, ...] = ()
    slices = []
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            dtype = _DTYPES.get(value, f"dtype {value}")
        elif number == 2 and isinstance(value, bytes):
            shape = _shape(value)
        elif number in numbers and isinstance(value, int):
            numbers[number] = value
        elif number == 7 and isinstance(value, bytes):
            slices.append(_slice(value))
    found = Entry(dtype, shape, numbers[3], numbers[4], numbers[5])
    if len(shape) > 254 or min((*shape, found.offset, found.size)) < 0:
        raise ValueError(f"{name[:100]!r} has an impossible shape or place")
    needed = math.prod(shape) * _SIZES.get(dtype, 0)
    if needed >= 2**63 or (dtype in _SIZES and not slices and needed != found.size):
        raise ValueError(f"{name[:100]!r} has {found.size:,} bytes, which its shape does not fit")
    for extents in slices:
        if len(extents) != len(shape) or any(
            start < 0 or (length is not None and not 0 < length <= size - start)
            for (start, length), size in zip(extents, shape, strict=False)
        ):
            raise ValueError(f"{name[:100]!r} has a slice outside of it")
    return found


def _slice(message: bytes) -> list[tuple[int, int | None]]:
    """Start and length in each dimension; None is the whole of it."""
    extents: list[tuple[int, int | None]] = []
    for _, extent in _fields(message):
        fields = dict(_fields(extent)) if isinstance(extent, bytes) else {1: -1}
        start, length = fields.get(1, 0), fields.get(2)
        if not isinstance(start, int) or isinstance(length, bytes):
            raise ValueError("a slice does not hold together")
        extents.append((start, length))
    return extents


def _shape(message: bytes) -> tuple[int, ...]:
    sizes = []
    for number, dimension in _fields(message):
        if number == 3 and dimension:
            raise ValueError("a tensor has no known shape")
        if number == 2 and isinstance(dimension, bytes):
            fields = dict(_fields(dimension))
            size = fields.get(1, 0)
            sizes.append(size if isinstance(size, int) else -1)
    return tuple(sizes)


# ---- protocol buffers


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: an integer (signed, as int64), or bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == 0:
            value, position = _varint(message, position)
            value -= (value >> 63) << 64
        elif kind in (1, 2, 5):
            length = {1: 8, 5: 4}.get(kind)
            if length is None:
                length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
            if position > len(message):
                raise ValueError("an entry is cut off")
        else:
            raise ValueError("an entry is not a protocol buffer")
        yield number, value


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), position
    raise ValueError("a number has no end")


# ---- the table


def _handle(content: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Where a block is: offset and size; and the position behind the handle."""
    offset, position = _varint(content, position)
    size, position = _varint(content, position)
    return (offset, size), position


def _block(content: bytes, offset: int, size: int) -> bytes:
    """A block, after its checksum was compared."""
    end = offset + size
    if end + 5 > len(content) - _FOOTER:
        raise ValueError("a block lies beyond its end")
    if content[end] != 0:
        raise ValueError("a block is compressed, which no index of TensorFlow is")
    (stored,) = struct.unpack("<I", content[end + 1 : end + 5])
    if masked_crc32c(content[offset : end + 1]) != stored:
        raise ValueError("the checksum of a block does not match")
    return content[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + fresh + length > end:
            raise ValueError("an entry is cut off")
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def masked_crc32c(content: bytes) -> int:
    """The checksum as LevelDB and TensorFlow store it: crc32c, rotated, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
