"""Weights in NumPy's .npz, read without unpickling and in bounded memory."""

import functools
import io
import zipfile

import numpy as np

from visualization.files.kinds import describe
from visualization.files.printable import printable
from visualization.weight_files.weight_file import MAX_BYTES, METADATA, Tensor, parse_metadata

__all__ = ["read_npz"]


def read_npz(content: bytes, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of an .npz file.

    Args:
        content: the whole file.
        name: what errors call it.

    Raises:
        ValueError: it is damaged, another kind of zip archive, too large, holds a name twice, or
            Python objects.

    Example:
        >>> file = io.BytesIO()
        >>> np.savez(file, bias=np.zeros(64, np.float32))
        >>> tensors, _ = read_npz(file.getvalue(), "a.npz")
        >>> tensors["bias"].shape, tensors["bias"].dtype
        ((64,), 'float32')
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except Exception:  # zipfile raises far more than BadZipFile
        raise ValueError(
            f"{name}: is an .npz or another zip archive, truncated or damaged after {len(content):,} "
            "bytes: download it again"
        ) from None
    members = archive.infolist()
    if not all(member.filename.endswith(".npy") for member in members):
        raise ValueError(f"{name}: {describe(content)}")
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_BYTES:
        raise ValueError(
            f"{name}: unpacks to {unpacked:,} bytes, more than the {MAX_BYTES:,} that are read: name "
            "a file of SqueezeNet 1.1's weights, which have 5 million"
        )
    tensors: dict[str, Tensor] = {}
    for member in members:
        key = member.filename.removesuffix(".npy")
        if key in tensors:
            raise ValueError(
                f"{name}: holds {printable(key)} twice, and it is not clear which one counts: save "
                "it again"
            )
        tensors[key] = _tensor(archive, member, name)
    metadata = tensors.pop(METADATA, None)
    if metadata is None or metadata.shape != () or not metadata.dtype.startswith("<U"):
        return tensors, {}
    if np.dtype(metadata.dtype).itemsize > 2**18:  # longer than anything that this package writes
        return tensors, {}
    return tensors, parse_metadata(metadata.read().item())


def _tensor(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Tensor:
    """An array by what its header says; it is compared with what is wanted before memory is taken."""
    try:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = (
                np.lib.format.read_array_header_1_0(file)
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0(file)
            )
    except Exception as error:  # of zipfile, zlib or NumPy
        raise _damaged(name, member) from error
    if dtype.hasobject:
        raise ValueError(
            f"{name}: holds Python objects in {printable(member.filename)}, which could run any code "
            "when read, so they are never unpickled: save plain float32 arrays"
        )
    return Tensor(shape, str(dtype), functools.partial(_value, archive, member, name))


def _value(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    try:
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # of zipfile, zlib or NumPy
        raise _damaged(name, member) from error


def _damaged(name: str, member: zipfile.ZipInfo) -> ValueError:
    return ValueError(f"{name}: is damaged at {printable(member.filename)}: download it again")
