"""Opens a TensorFlow checkpoint by its prefix: PREFIX.index and PREFIX.data-00000-of-00001.

Names and shapes come from the index without TensorFlow, which is imported once a value is read.
"""

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from visualization.files.kinds import describe
from visualization.files.printable import printable
from visualization.files.system_errors import reading
from visualization.weight_files.tensorflow_index import (
    MAGIC,
    CompressedError,
    Entry,
    Index,
    read_index,
)
from visualization.weight_files.weight_file import Tensor, WeightFile, parse_metadata

__all__ = ["METADATA_KEY", "data_files", "index_path", "open_checkpoint", "prefix_of"]

METADATA_KEY = "metadata/.ATTRIBUTES/VARIABLE_VALUE"  # what this package writes beside the weights
_MAX_INDEX = 2**20  # bytes; that of SqueezeNet has 5 thousand
_HELD = re.compile(r"((?:[^/.]+/)*)_operations/")
_DATA = re.compile(r"(?P<prefix>.+)\.data-\d{5}-of-\d{5}", re.DOTALL)


def index_path(prefix: Path) -> Path:
    """The index of a checkpoint.

    Example:
        >>> index_path(Path("squeezenet.ckpt")).name
        'squeezenet.ckpt.index'
    """
    return prefix.parent / f"{prefix.name}.index"


def prefix_of(data_file: Path) -> Path | None:
    """The prefix of the checkpoint that a data file belongs to, or None if it is not one by its name.

    Example:
        >>> prefix_of(Path("squeezenet.ckpt.data-00000-of-00001")).name
        'squeezenet.ckpt'
    """
    found = _DATA.fullmatch(data_file.name)
    return data_file.with_name(found["prefix"]) if found else None


def data_files(prefix: Path) -> list[Path]:
    """The data files of a checkpoint that exist, in order.

    Example:
        >>> data_files(Path("no such folder", "squeezenet.ckpt"))
        []
    """
    folder = prefix.parent
    return sorted(path for path in folder.glob("*.data-*-of-*") if prefix_of(path) == prefix)


def open_checkpoint(prefix: Path) -> WeightFile:
    """Opens a checkpoint: names from the index, values from the data files once they are read.

    Raises:
        OSError: there is no index, or it cannot be read.
        ValueError: the index is damaged or not one.

    Example:
        >>> open_checkpoint(Path("no such.ckpt"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: no such.ckpt.index: is missing, ...
    """
    path = index_path(prefix)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: is missing, which names the tensors in the checkpoint's data files and is "
            "written last: copy it too, or download the checkpoint again"
        )
    index = _read_index(path)
    shards = [
        prefix.parent / f"{prefix.name}.data-{number:05}-of-{index.shards:05}"
        for number in range(index.shards)
    ]
    defect = _defect(shards, index)
    metadata = {}
    entry = index.tensors.pop(METADATA_KEY, None)
    if entry and not defect and entry.dtype == "uint8" and entry.size < 2**16:
        with reading(shards[entry.shard]), shards[entry.shard].open("rb") as file:
            file.seek(entry.offset)
            metadata = parse_metadata(file.read(entry.size))
    return WeightFile(
        name=str(prefix),
        form="TensorFlow checkpoint",
        paths=[path, *filter(Path.is_file, shards)],
        tensors={
            key: Tensor(entry.shape, entry.dtype, functools.partial(_value, prefix, name))
            for key, (name, entry) in _without_attribute(index.tensors).items()
        },
        metadata=metadata,
        defect=defect,
    )


def _without_attribute(tensors: Mapping[str, Entry]) -> dict[str, tuple[str, Entry]]:
    """Key -> name in the file and entry; of a Keras 3 model, the key begins at its `_operations`.

    Before that stands the attribute that holds the model, as in tf.train.Checkpoint(model=...).
    """
    holders = {found[1] for name in tensors if (found := _HELD.match(name))}
    holder = holders.pop() if len(holders) == 1 else ""
    return {name.removeprefix(holder): (name, entry) for name, entry in tensors.items()}


def _read_index(path: Path) -> Index:
    with reading(path), path.open("rb") as file:
        content = file.read(_MAX_INDEX + 1)
    if len(content) > _MAX_INDEX:
        raise ValueError(
            f"{path}: has more than {_MAX_INDEX:,} bytes, too many for the index of a SqueezeNet: name "
            "a checkpoint of SqueezeNet 1.1"
        )
    if not content.endswith(MAGIC):
        problem = describe(content) or (
            f"is not a TensorFlow index, or is truncated (it has {len(content):,} bytes and the wrong "
            "end): download it again"
        )
        raise ValueError(f"{path}: {problem}")
    try:
        return read_index(content)
    except CompressedError:
        raise ValueError(
            f"{path}: is a TensorFlow index that is compressed (Snappy), which is not read: load the "
            "checkpoint with TensorFlow and save it again with tf.train.Checkpoint"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{path}: is a damaged TensorFlow index ({error}): download it again"
        ) from None


def _defect(shards: list[Path], index: Index) -> OSError | ValueError | None:
    """Why the values cannot be read: data files are missing, truncated, or something else."""
    missing = [path.name for path in shards if not path.is_file()]
    if missing:
        return FileNotFoundError(
            f"data files are missing ({len(missing)} of {len(shards)}): copy "
            f"{', '.join(missing[:4])} to {shards[0].absolute().parent}, beside the index"
        )
    stored = index.tensors | index.slices
    for number, path in enumerate(shards):
        ends = {
            name: entry.offset + entry.size
            for name, entry in stored.items()
            if entry.shard == number
        }
        expected = max(ends.values(), default=0)
        with reading(path), path.open("rb") as file:
            start = file.read(2**12)
            size = file.seek(0, os.SEEK_END)
        if size < expected:
            _, first = min((end, name) for name, end in ends.items() if end > size)
            problem = describe(start) or (
                f"is truncated: it has {size:,} bytes instead of {expected:,}, and {printable(first)} "
                "is the first tensor that is not whole: download it again"
            )
            return ValueError(f"the data file {path.name} {problem}")
    return None


def _value(prefix: Path, name: str) -> np.ndarray:
    # Imported here because no other weight file, and no index, needs TensorFlow.
    from visualization.weight_files.tensorflow_values import read_value  # noqa: PLC0415

    return read_value(prefix, name)
