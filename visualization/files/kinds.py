"""What a path or a file that gives no weights is instead, in words that say what to do."""

import contextlib
import io
import tarfile
import zipfile
import zlib
from pathlib import PurePath

from visualization.files.printable import printable

LFS = b"version https://git-lfs"
HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
_UNPACKED = 64 * 2**20  # bytes of a compressed archive that are looked at
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def describe(content: bytes) -> str | None:
    """What `content` is, why it cannot be used and what to do, or None if it is of no known kind.

    The answer continues "NAME ": "is a web page ...: download the file itself".
    """
    start = content[:512].lstrip().lower()
    if not content:
        return "is empty (0 bytes), so its download or copy failed: get it again"
    if not content.strip(b"\0"):
        return (
            f"holds only zero bytes ({len(content):,}), so its download or copy stopped half-way: "
            "get it again"
        )
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return (
            "is a web page (HTML), not weights: the download got an error or login page, so get the "
            "file itself"
        )
    if start.startswith(LFS):
        return "is a Git LFS pointer, which only names the weights: fetch them with 'git lfs pull'"
    if content.startswith(_PICKLES):
        return (
            "is a pickle, which could run any code when read, so it is never unpickled: save the "
            "arrays as .safetensors or .npz where you trust the file"
        )
    if content.startswith(ZIP):
        return _zip(content)
    return _tar(content)


def unknown(content: bytes) -> str:
    """The answer for content of no known kind."""
    return (
        f"is of no known format (it starts with {content[:8].hex(' ')}): name a TensorFlow "
        "checkpoint, a Keras HDF5 weight file, an .npz or a .safetensors file of SqueezeNet 1.1"
    )


def _zip(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError):
        return (
            f"is a zip archive or .npz that is damaged or cut off after {len(content):,} bytes "
            "(its directory, at the end, cannot be read): get it again"
        )
    if any(PurePath(name).name == "data.pkl" for name in names):
        return (
            "is a PyTorch file, a zip around a pickle, which could run any code when read, so it is "
            "never unpickled: save its state_dict with safetensors where you trust the file"
        )
    if "model.weights.h5" in names:
        return (
            "is a whole Keras model (.keras), and no model is deserialised here: unzip it and name "
            "the model.weights.h5 inside"
        )
    return (
        f"is a zip archive ({_inside(names)}), not a checkpoint: unpack it and name what is inside"
    )


def _tar(content: bytes) -> str | None:
    packed = content.startswith(b"\x1f\x8b")
    if packed:
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, _UNPACKED)
        except zlib.error:
            return "is a gzip file that is damaged: get it again"
    if content[257:262] == b"ustar":
        kind = "a tar archive packed with gzip" if packed else "a tar archive"
        return (
            f"is {kind} ({_inside(_tar_names(content))}), not a checkpoint: unpack it and name what "
            "is inside"
        )
    if packed:
        return "is a gzip file, not a checkpoint: unpack it with gunzip and name what is inside"
    if content.startswith((b"BZh", b"\xfd7zXZ")):
        return "is a compressed file (bzip2 or xz), not a checkpoint: unpack it and name what is inside"
    return None


def _tar_names(content: bytes) -> list[str]:
    names: list[str] = []
    # An archive that is cut off tells enough by what was found up to there.
    with (
        contextlib.suppress(tarfile.TarError, ValueError, OSError),
        tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive,
    ):
        names.extend(member.name for member in archive)
    return names


def _inside(names: list[str]) -> str:
    files = [name for name in names if not name.endswith("/")]
    if not files:
        return "empty"
    more = f" and {len(files) - 4} more" if len(files) > 4 else ""
    return f"inside: {', '.join(map(printable, files[:4]))}{more}"
