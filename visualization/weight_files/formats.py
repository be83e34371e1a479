"""The forms of weights that are one file: HDF5, .npz and .safetensors, told by content.

Nothing is unpickled and no model is deserialised. What a file says of its sizes is checked before
memory is taken for it, and a value is read only when it is asked for.
"""

import functools
import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from visualization.files.kinds import HDF5, ZIP, describe, unknown
from visualization.files.printable import printable
from visualization.files.system_errors import reading
from visualization.weight_files.names import carries_no_weight

MAX_BYTES = 64 * 2**20  # a file of SqueezeNet's weights has 5 million bytes
METADATA = "__metadata__"  # the entry of an .npz, and of a .safetensors' header
METADATA_ATTRIBUTE = "visualization"  # of an HDF5 file
_MAX_NAMES = 10_000  # in one file; SqueezeNet has 52 tensors
_SAFETENSORS_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: what it says of itself, and how to get its value."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class WeightFile:
    """An opened weight file.

    Attributes:
        name: what messages call it.
        form: the kind of file.
        paths: the files it consists of; empty for content that came from memory.
        tensors: name in the file -> tensor, without those that carry no weight.
        ignored: names of the tensors left aside: optimiser slots, a checkpoint's own entries.
        metadata: what the file says of itself; for example ``input_convention``.
        defect: the error that says why its values cannot be read though its names can, or None.
        content: the whole file, for a form that is one small file.
    """

    name: str
    form: str
    paths: list[Path]
    tensors: dict[str, Tensor]
    ignored: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    defect: OSError | ValueError | None = None
    content: bytes | None = None

    @functools.cached_property
    def sha256(self) -> str:
        """Of the file; of a TensorFlow checkpoint's index and data files, one after the other."""
        if self.content is not None:
            return hashlib.sha256(self.content).hexdigest()
        digest = hashlib.sha256()
        for path in self.paths:
            with reading(path), path.open("rb") as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
        return digest.hexdigest()


def open_content(content: bytes, name: str, paths: list[Path]) -> WeightFile:
    """Opens a weight file that is one file, from its content.

    Args:
        content: the whole file.
        name: what messages call it.
        paths: where it lies.

    Raises:
        ValueError: it is damaged, or no weight file.
    """
    if content.startswith(HDF5):
        return _open_hdf5(content, name, paths)
    members = _npz_members(content)
    if members:
        return _open_npz(content, name, paths, members)
    if _header_length(content) is not None:
        return _open_safetensors(content, name, paths)
    raise ValueError(f"weights: {name} {describe(content) or unknown(content)}")


def is_weights(start: bytes) -> bool:
    """Whether a file that starts so is, or may be, a form of weights that is one file."""
    return start.startswith((HDF5, ZIP)) or _header_length(start) is not None


# ---- HDF5: Keras 3's .weights.h5, and what Keras 1 and 2 wrote

_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
# A layer's group, whatever scopes follow, and the variable: TF's suffix, or Keras 1's _W and _b.
_LEGACY = re.compile(
    r"(?:model_weights/)?(?P<layer>conv1|conv10|fire[2-9][/_](?:squeeze1x1|expand[13]x[13]))/"
    r"(?:.*/)?(?:(?P<variable>kernel|bias)|[^/]*_(?P<letter>[Wb]))(?::0)?"
)


def _open_hdf5(content: bytes, name: str, paths: list[Path]) -> WeightFile:
    try:
        file = h5py.File(io.BytesIO(content), "r")
        datasets = _datasets(file, name)
        metadata = _hdf5_metadata(file)
    except _RefusedError as refusal:
        raise ValueError(str(refusal)) from None
    except _HDF5_ERRORS:
        raise ValueError(
            f"weights: {name} is an HDF5 file that is truncated or damaged: it has "
            f"{len(content):,} bytes and does not hold together; get it again"
        ) from None
    tensors: dict[str, Tensor] = {}
    ignored = []
    for path, dataset in datasets.items():
        key = _layer_name(path)
        if carries_no_weight(key):
            ignored.append(key)
            continue
        if key in tensors:
            raise ValueError(
                f"weights: {name} holds {printable(key)} twice, and it is not clear which one counts: "
                "save the network's weights alone"
            )
        read = functools.partial(_read_dataset, dataset, name)
        tensors[key] = Tensor(tuple(dataset.shape), str(dataset.dtype), read)
    return WeightFile(name, "HDF5", paths, tensors, ignored, metadata, content=content)


class _RefusedError(Exception):
    """An HDF5 file that reaches out of itself."""


def _datasets(file: h5py.File, name: str) -> dict[str, h5py.Dataset]:
    """Every dataset by its path. Links can lead to any other file, so that only hard ones are taken."""
    found: dict[str, h5py.Dataset] = {}
    groups = [("", file)]
    seen = 0
    while groups:
        prefix, group = groups.pop()
        for key in group:
            path = f"{prefix}{key}"
            seen += 1
            if seen > _MAX_NAMES or path.count("/") > 20:
                raise _RefusedError(
                    f"weights: {name} holds more groups than any SqueezeNet, or groups within "
                    "themselves: it is refused; get a file of SqueezeNet 1.1's weights"
                )
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise _RefusedError(
                    f"weights: {name} holds a link to elsewhere ({printable(path)}), which is refused: "
                    "save the weights themselves into the file"
                )
            item = group[key]
            if isinstance(item, h5py.Group):
                groups.append((f"{path}/", item))
            elif isinstance(item, h5py.Dataset):
                found[path] = _checked(item, path, name)
    return found


def _checked(dataset: h5py.Dataset, path: str, name: str) -> h5py.Dataset:
    if dataset.is_virtual or dataset.external:
        raise _RefusedError(
            f"weights: {name} keeps {printable(path)} in another file, which is refused: "
            "save the weights themselves into the file"
        )
    chunk = int(np.prod(dataset.chunks or (1,), dtype=np.float64)) * dataset.dtype.itemsize
    if chunk > MAX_BYTES or dataset.shape is None:
        raise _RefusedError(
            f"weights: {name} stores {printable(path)} in pieces of {chunk:,} bytes, more than the "
            "whole of SqueezeNet 1.1: it is refused; get another file"
        )
    return dataset


def _layer_name(path: str) -> str:
    """Where Keras 1 and 2 wrote a layer's variable: LAYER/LAYER/kernel:0, LAYER/LAYER_W:0, ..."""
    legacy = _LEGACY.fullmatch(path)
    if not legacy:
        return path
    variable = legacy["variable"] or {"W": "kernel", "b": "bias"}[legacy["letter"]]
    return f"{legacy['layer']}/{variable}"


def _read_dataset(dataset: h5py.Dataset, name: str) -> np.ndarray:
    try:
        return dataset[()]
    except _HDF5_ERRORS:
        raise ValueError(
            f"weights: {name} is damaged at {printable(dataset.name)}: get it again"
        ) from None


def _hdf5_metadata(file: h5py.File) -> dict[str, str]:
    if METADATA_ATTRIBUTE not in file.attrs:
        return {}
    attribute = file.attrs.get_id(METADATA_ATTRIBUTE)
    if attribute.shape != () or attribute.get_storage_size() > 2**16:
        return {}
    return parse_metadata(file.attrs[METADATA_ATTRIBUTE])


# ---- .npz

_ZIP_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    EOFError,
    zlib.error,
    struct.error,
)


def _npz_members(content: bytes) -> list[zipfile.ZipInfo]:
    """The arrays of an .npz, or nothing if this is none."""
    if not content.startswith(ZIP):
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, *_ZIP_ERRORS):
        return []
    return members if all(member.filename.endswith(".npy") for member in members) else []


def _open_npz(
    content: bytes, name: str, paths: list[Path], members: list[zipfile.ZipInfo]
) -> WeightFile:
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_BYTES or len(members) > _MAX_NAMES:
        raise ValueError(
            f"weights: {name} unpacks to {unpacked:,} bytes (number of arrays: {len(members):,}), too "
            "many for SqueezeNet 1.1, which has 5 million: it is refused; get another file"
        )
    archive = zipfile.ZipFile(io.BytesIO(content))
    tensors: dict[str, Tensor] = {}
    for member in members:
        key = member.filename.removesuffix(".npy")
        if key in tensors:
            raise ValueError(
                f"weights: {name} holds {printable(key)} twice, and it is not clear which one counts: "
                "save it again"
            )
        shape, dtype = _npy_header(archive, member, name)
        read = functools.partial(_read_npy, archive, member, name)
        tensors[key] = Tensor(shape, str(dtype), read)
    metadata = {}
    said = tensors.pop(METADATA, None)
    if said is not None and said.shape == () and said.dtype.startswith("<U"):
        metadata = parse_metadata(said.read().item())
    return WeightFile(name, "NumPy .npz", paths, tensors, [], metadata, content=content)


def _npy_header(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str
) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype that an array says it has, after they were found to be as large as it is."""
    key = printable(member.filename)
    try:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
            size = member.file_size - file.tell()
    except (*_ZIP_ERRORS, zipfile.BadZipFile, RecursionError, MemoryError):
        raise ValueError(f"weights: {name} is damaged at {key}: get it again") from None
    if dtype.hasobject:
        raise ValueError(
            f"weights: {name} holds Python objects in {key}, which could run any code when read, so "
            "they are never unpickled: save plain float32 arrays"
        )
    if min(shape, default=0) < 0 or dtype.itemsize * int(np.prod(shape, dtype=object)) != size:
        raise ValueError(
            f"weights: {name} is damaged at {key}: it says {dtype} {shape}, but holds {size:,} "
            "bytes; get it again"
        )
    return shape, dtype


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    try:
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (*_ZIP_ERRORS, zipfile.BadZipFile):
        raise ValueError(
            f"weights: {name} is damaged at {printable(member.filename)} (its checksum does not match): "
            "get it again"
        ) from None


# ---- .safetensors


def _header_length(content: bytes) -> int | None:
    """The length of the JSON header that a .safetensors file starts with, if this is one."""
    if len(content) < 9 or content[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", content[:8])
    return length if length <= 100_000_000 else None


def _open_safetensors(content: bytes, name: str, paths: list[Path]) -> WeightFile:
    try:
        import safetensors
    except ImportError:
        raise ImportError(
            f"weights: {name} is a .safetensors file, which needs the package safetensors: "
            "install it with 'pip install safetensors'"
        ) from None
    length = _header_length(content) or 0
    try:
        entries = safetensors.deserialize(content)
        header = json.loads(content[8 : 8 + length], object_pairs_hook=_each_once)
    except (safetensors.SafetensorError, ValueError, RecursionError):
        raise ValueError(
            f"weights: {name} is a .safetensors file that is truncated or damaged: its header does "
            f"not fit its {len(content):,} bytes; get it again"
        ) from None
    metadata = header.get(METADATA, {})
    tensors = {}
    for key, entry in entries:
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"], entry["dtype"])
        shape = tuple(entry["shape"])
        read = functools.partial(_float32, entry["data"], shape)
        tensors[key] = Tensor(shape, dtype, read)
    return WeightFile(name, "safetensors", paths, tensors, [], metadata, content=content)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, unless a key stands in it twice."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _float32(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor's value; only float32 ones are read."""
    return np.frombuffer(data, "<f4").reshape(shape)


def parse_metadata(text: Any) -> dict[str, str]:
    """What `weight_writers` put beside the weights; anything else says nothing."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}
