"""Finds the weight file that a path means, and opens it: one file, or a TensorFlow checkpoint.

A TensorFlow checkpoint is several files: an index, PREFIX.index, and data files beside it.
"""

import ast
import functools
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from visualization.cli.running import loading_tensorflow
from visualization.files.kinds import describe
from visualization.files.printable import printable
from visualization.files.system_errors import reading
from visualization.weight_files.formats import (
    MAX_BYTES,
    Tensor,
    WeightFile,
    is_weights,
    open_content,
    parse_metadata,
)
from visualization.weight_files.names import carries_no_weight
from visualization.weight_files.tensorflow_index import MAGIC, Index, read_index

_MAX_INDEX = 2**20  # of a TensorFlow checkpoint; that of SqueezeNet has 5 thousand bytes
_SHARD = re.compile(r"(?P<prefix>.+)\.data-(?P<number>\d{5})-of-(?P<count>\d{5})", re.DOTALL)
# How a `checkpoint` state file starts.
_STATE = re.compile(rb'\s*model_checkpoint_path:\s*(?P<path>"(?:[^"\\\n]|\\[^\n])*")')
METADATA_KEY = "metadata/.ATTRIBUTES/VARIABLE_VALUE"  # of a TensorFlow checkpoint


def open_weights(source: str | os.PathLike[str]) -> WeightFile:
    """Opens what `source` names: a file, a folder that holds one checkpoint, a TensorFlow prefix.

    Raises:
        OSError: there is nothing, or it cannot be read.
        ValueError: it is damaged, or no weight file, or a folder with more than one.
    """
    path = Path(source)
    with reading(path):
        if _exists(_index(path)) or (not _exists(path) and _shards(path)):
            return _open_tensorflow(path)
        if path.is_dir():
            return open_weights(_only_checkpoint_in(path))
        return _open_file(path)


def _open_file(path: Path) -> WeightFile:
    """Opens what one file is, or is a part of."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"weights: {path} is not a regular file: name a weight file")
    with path.open("rb") as file:
        start = file.read(512)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        end = file.read(8)
    if shard := _SHARD.fullmatch(path.name):
        return _open_tensorflow(path.with_name(shard["prefix"]))
    if path.suffix == ".index" and not is_weights(start):
        return _open_tensorflow(path.with_suffix(""))
    if end == MAGIC:
        raise ValueError(
            f"weights: {path} is a TensorFlow table not named NAME.index: if it is the index of "
            "a checkpoint, give it back its name, beside NAME.data-00000-of-00001; if it is a whole "
            "checkpoint in the format before TensorFlow 0.12, save it again with "
            "tf.compat.v1.train.Saver(write_version=2)"
        )
    if start.lstrip().startswith(b"model_checkpoint_path:"):
        return _open_tensorflow(_named_by_state(path))
    if size > MAX_BYTES:
        raise ValueError(
            f"weights: {path} has {size:,} bytes, too many for SqueezeNet 1.1, which has 5 million: "
            "name a file of SqueezeNet 1.1's weights"
        )
    return open_content(path.read_bytes(), str(path), [path])


def _exists(path: Path) -> bool:
    return path.is_file()


def _index(prefix: Path) -> Path:
    return prefix.parent / f"{prefix.name}.index"


def _shards(prefix: Path) -> list[Path]:
    """The data files of a TensorFlow checkpoint that are there, in order."""
    if not prefix.parent.is_dir():
        return []
    found = []
    with os.scandir(prefix.parent) as entries:
        for entry in entries:
            shard = _SHARD.fullmatch(entry.name)
            if shard and shard["prefix"] == prefix.name:
                found.append(prefix.parent / entry.name)
    return sorted(found)


def _only_checkpoint_in(folder: Path) -> Path:
    """The one checkpoint in a folder, or an error that names those there are."""
    candidates = []
    others = []
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            others.append(f"{path.name}/")
        elif path.suffix == ".index":
            candidates.append(path.with_suffix(""))
        elif shard := _SHARD.fullmatch(path.name):
            candidates.append(path.with_name(shard["prefix"]))
        elif _starts_like_weights(path):
            candidates.append(path)
        else:
            others.append(path.name)
    candidates = list(dict.fromkeys(candidates))
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = " and ".join(printable(path.name) for path in candidates[:5])
        more = f" and {len(candidates) - 5} others" if len(candidates) > 5 else ""
        raise ValueError(
            f"weights: {folder} holds {len(candidates)} checkpoints, {names}{more}: name one of them"
        )
    inside = f"only {', '.join(map(printable, others[:4]))}" if others else "it is empty"
    raise FileNotFoundError(
        f"weights: the folder {folder} holds no checkpoint ({inside}): check the path"
    )


def _starts_like_weights(path: Path) -> bool:
    with path.open("rb") as file:
        return is_weights(file.read(512))


def _named_by_state(path: Path) -> Path:
    """The prefix that a `checkpoint` state file names. It is looked for in the same folder only."""
    with path.open("rb") as file:
        quoted = _STATE.match(file.read(2**16))
    if not quoted:
        raise ValueError(
            f"weights: {path} is a damaged checkpoint state file: name the checkpoint itself"
        )
    # Protocol buffers escape as Python's bytes literals do, but bytes above 127 may stand bare.
    literal = re.sub(rb"[\x80-\xff]", lambda byte: b"\\x%02x" % ord(byte[0]), quoted["path"])
    named = ast.literal_eval(f"b{literal.decode('ascii')}").decode(errors="replace")
    prefix = path.with_name(re.split(r"[/\\]", named)[-1] or "?")
    if not _exists(_index(prefix)) and not _shards(prefix):
        raise FileNotFoundError(
            f"weights: the state file {path} names {printable(named)}, but there is no {prefix.name} in "
            "its folder: copy the checkpoint there, or name the checkpoint itself"
        )
    return prefix


# ---- TensorFlow checkpoints


def _tensorflow() -> Any:
    """TensorFlow, imported without its chatter if it was not yet."""
    if "tensorflow" not in sys.modules:
        with loading_tensorflow(quiet=False):
            from visualization import backend  # noqa: F401
    from visualization.backend import tf

    return tf


def _open_tensorflow(prefix: Path) -> WeightFile:
    """A checkpoint by its prefix: names from the index, values from the data files."""
    path = _index(prefix)
    if not _exists(path):
        raise FileNotFoundError(
            f"weights: the index {path} is missing, which is written last and names the tensors in "
            f"{_shards(prefix)[0].name}: copy it too, or get the checkpoint again"
        )
    index = _read_index(path)
    needed = [_shard(prefix, number, index.shards) for number in range(index.shards)]
    defect = _defect(needed, index)
    metadata = {}
    said = index.tensors.get(METADATA_KEY)
    if said and not defect and said.dtype == "uint8" and said.size < 2**16:
        with reading(prefix), needed[said.shard].open("rb") as file:
            file.seek(said.offset)
            metadata = parse_metadata(file.read(said.size))
    reader = functools.cache(functools.partial(_tensorflow_reader, prefix))
    tensors = {
        name: Tensor(
            entry.shape, entry.dtype, functools.partial(_read_tensorflow, reader, name, prefix)
        )
        for name, entry in index.tensors.items()
        if name != METADATA_KEY and not carries_no_weight(name)
    }
    return WeightFile(
        name=str(prefix),
        form="TensorFlow checkpoint",
        paths=[path, *(shard for shard in needed if _exists(shard))],
        tensors=tensors,
        ignored=[name for name in index.tensors if carries_no_weight(name)],
        metadata=metadata,
        defect=defect,
    )


def _read_index(path: Path) -> Index:
    with reading(path), path.open("rb") as file:
        content = file.read(_MAX_INDEX + 1)
    if len(content) > _MAX_INDEX:
        raise ValueError(
            f"weights: {path} has more than {_MAX_INDEX:,} bytes, too many for the index of a "
            "SqueezeNet: name a checkpoint of SqueezeNet 1.1"
        )
    if not content.endswith(MAGIC):
        told = describe(content) or (
            f"is no TensorFlow index, or one that was cut off (it has {len(content):,} bytes and "
            "the wrong end): get it again"
        )
        raise ValueError(f"weights: {path} {told}")
    try:
        return read_index(content)
    except ValueError as error:
        raise ValueError(
            f"weights: {path} is a damaged TensorFlow index ({error}): get it again"
        ) from None


def _shard(prefix: Path, number: int, count: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{number:05}-of-{count:05}")


def _defect(shards: list[Path], index: Index) -> OSError | ValueError | None:
    """Why the values cannot be read: data files are missing, cut off, or something else."""
    stored = index.tensors | index.slices
    missing = [path.name for path in shards if not _exists(path)]
    if missing:
        some = f"{len(missing)} data files are missing, which hold"
        return FileNotFoundError(
            f"{'the data file is missing, which holds' if len(missing) == 1 else some} the values: "
            f"copy {', '.join(missing[:4])} to {shards[0].absolute().parent}, beside the index"
        )
    for number, path in enumerate(shards):
        ends = {name: e.offset + e.size for name, e in stored.items() if e.shard == number}
        size = max(ends.values(), default=0)
        with reading(path), path.open("rb") as file:
            start = file.read(2**12)
            found = file.seek(0, os.SEEK_END)
        if found < size:
            first = min((end, name) for name, end in ends.items() if end > found)[1]
            told = describe(start) or (
                f"is truncated: it has {found:,} bytes instead of {size:,}, and {printable(first)} is the "
                "first tensor that is not whole, so its download or copy stopped half-way: get it again"
            )
            return ValueError(f"the data file {path.name} {told}")
    return None


def _tensorflow_reader(prefix: Path) -> Any:
    tf = _tensorflow()
    try:
        return tf.compat.v1.train.NewCheckpointReader(str(prefix))
    except tf.errors.NotFoundError:  # though its files were seen: TensorFlow matches patterns
        raise ValueError(
            f"weights: {prefix} cannot be opened by TensorFlow, which takes '[' and '\\' in a path for "
            "a pattern: rename the file or folder"
        ) from None
    except _tensorflow_errors(tf):
        raise ValueError(
            f"weights: {_index(prefix)} cannot be opened by TensorFlow, though it looks whole: get the "
            "checkpoint again"
        ) from None


def _read_tensorflow(reader: Callable[[], Any], name: str, prefix: Path) -> np.ndarray:
    """One value; TensorFlow compares its checksum."""
    opened = reader()
    try:
        return opened.get_tensor(name)
    except _tensorflow_errors(_tensorflow()):
        raise ValueError(
            f"weights: {prefix} is damaged at {printable(name)}: TensorFlow's checksum of its values does "
            "not match, or a slice of it is missing: get its data file again"
        ) from None


def _tensorflow_errors(tf: Any) -> tuple[type[Exception], ...]:
    return (tf.errors.OpError, IndexError, ValueError, RuntimeError, TypeError)
