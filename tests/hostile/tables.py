"""Writes the index of a TensorFlow checkpoint with whatever in it, and checksums that are right."""

import struct

MAGIC = bytes.fromhex("57fb808b247547db")
FLOAT = 1


def crc32c(content):
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(content):
    crc = crc32c(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number):
    number &= 2**64 - 1
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(shape=(64,), dtype=FLOAT, shard=0, offset=0, size=256, slices=()):
    dimensions = b"".join(field(2, field(1, length)) for length in shape)
    places = field(3, shard) + field(4, offset) + field(5, size)
    parts = b""
    for extents in slices:
        parts += field(7, b"".join(field(1, field(1, a) + field(2, n)) for a, n in extents))
    return field(1, dtype) + field(2, dimensions) + places + parts


HEADER = field(1, 1) + field(3, field(1, 1))


def block(pairs):
    out, restarts = b"", []
    for key, value in pairs:
        restarts.append(len(out))
        out += varint(0) + varint(len(key)) + varint(len(value)) + key + value
    restarts = restarts or [0]
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def index(pairs, header=HEADER):
    """The index with these keys and values."""
    pairs = [(b"", header), *pairs]
    out, handles = b"", []
    last = pairs[-1][0] + b"~"
    for make in (lambda: pairs, list, lambda: [(last, handles[0])]):
        content = block(make())
        handles.append(varint(len(out)) + varint(len(content)))
        out += content + b"\0" + struct.pack("<I", masked(content + b"\0"))
    return out + (handles[1] + handles[2]).ljust(40, b"\0") + MAGIC
