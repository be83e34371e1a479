"""Finds the weight file that a path stands for, tells by its content what it is, and opens it."""

import ast
import dataclasses
import os
import re
import stat
import warnings
from pathlib import Path

from visualization.files.bundle import BUNDLE, IMAGENET, manifest, read_bundled
from visualization.files.kinds import HDF5, ZIP, describe
from visualization.files.printable import printable, some
from visualization.files.system_errors import reading
from visualization.weight_files.hdf5_file import read_hdf5
from visualization.weight_files.npz_file import read_npz
from visualization.weight_files.safetensors_file import is_safetensors, read_safetensors
from visualization.weight_files.tensorflow_checkpoint import (
    data_files,
    index_path,
    open_checkpoint,
    prefix_of,
)
from visualization.weight_files.tensorflow_index import MAGIC
from visualization.weight_files.weight_file import MAX_BYTES, WeightFile

__all__ = ["open_weights"]

# How a `checkpoint` state file starts.
_STATE = re.compile(rb'\s*model_checkpoint_path:\s*(?P<path>"(?:[^"\\\n]|\\[^\n])*")')


def open_weights(source: str | os.PathLike[str], bundled: str = IMAGENET) -> WeightFile:
    """Opens a weight file as far as its names, shapes and dtypes; values are read later.

    Args:
        source: "imagenet" for the bundled weights; or a path: a file, the prefix or any file of a
            TensorFlow checkpoint, or a folder that holds one checkpoint.
        bundled: which of the bundled files "imagenet" stands for.

    Raises:
        OSError: it does not exist or cannot be read.
        ValueError: it is damaged or not a weight file, or a folder with several.
        ImportError: it is a ``.safetensors`` file and the package is not installed.

    Example:
        >>> file = open_weights("imagenet")
        >>> file.form, len(file.tensors)
        ('HDF5', 52)
    """
    if source == "imagenet":
        file = _open_content(read_bundled(bundled), f"the bundled {bundled}", BUNDLE / bundled)
        entry = manifest()[bundled]
        metadata = {key: entry[key] for key in ("licence", "input_convention")}
        return dataclasses.replace(file, metadata=metadata | {"provenance": entry["source"]})
    path = Path(source)
    with reading(path, "file, folder or checkpoint prefix"):
        if index_path(path).is_file() or (not path.is_file() and data_files(path)):
            return open_checkpoint(path)
        if path.is_dir():
            saved = (path / "saved_model.pb").is_file() and (path / "variables").is_dir()
            return open_weights(_only_checkpoint_in(path / "variables" if saved else path))
        return _open_file(path)


def _open_file(path: Path) -> WeightFile:
    """Opens what one file is, or is a part of."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path}: is not a regular file: name a weight file")
    with path.open("rb") as file:
        start = file.read(512)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        end = file.read(8)
    if prefix := prefix_of(path):
        return open_checkpoint(prefix)
    if path.suffix == ".index" and not _is_weights(start):
        return open_checkpoint(path.with_suffix(""))
    if path.name == "saved_model.pb" and (path.parent / "variables").is_dir():
        return open_weights(path.parent)
    if path.suffix == ".meta" and not _is_weights(start):  # the graph beside a checkpoint
        return open_checkpoint(path.with_suffix(""))
    if end == MAGIC:
        raise ValueError(
            f"{path}: is a TensorFlow table not named NAME.index: if it is the index of a checkpoint, "
            "give it back its name, beside NAME.data-00000-of-00001; if it is a whole checkpoint in "
            "the format before TensorFlow 0.12, save it again with "
            "tf.compat.v1.train.Saver(write_version=2)"
        )
    if start.lstrip().startswith(b"model_checkpoint_path:"):
        return open_checkpoint(_named_by_state(path))
    if size > MAX_BYTES:
        raise ValueError(
            f"{path}: has {size:,} bytes, at most {MAX_BYTES:,} are read: name a file of SqueezeNet "
            "1.1's weights, which have 5 million"
        )
    return _open_content(path.read_bytes(), str(path), path)


def _open_content(content: bytes, name: str, path: Path) -> WeightFile:
    if content.startswith(HDF5):
        form, read = "HDF5", read_hdf5
    elif content.startswith(ZIP):
        form, read = "NumPy .npz", read_npz
    elif is_safetensors(content):
        form, read = "safetensors", read_safetensors
    else:
        problem = describe(content) or (
            "is by its name a TensorFlow graph, and of no format of weights: name the checkpoint that "
            "it was made from"
            if path.suffix == ".pb"
            else f"is of no known format (it starts with {content[:8].hex(' ')}): name a TensorFlow "
            "checkpoint, a Keras HDF5 weight file, an .npz or a .safetensors file of SqueezeNet 1.1"
        )
        raise ValueError(f"{name}: {problem}")
    tensors, metadata = read(content, name)
    return WeightFile(name, form, [path], tensors, metadata, content=content)


def _is_weights(start: bytes) -> bool:
    """Whether a file that starts so is, or may be, one of the forms that are a single file."""
    return start.startswith((HDF5, ZIP)) or is_safetensors(start)


def _only_checkpoint_in(folder: Path) -> Path:
    """The one checkpoint in a folder, or an error that names those there are."""
    candidates: dict[Path, None] = {}
    others = []
    for path in sorted(folder.iterdir()):
        found = None
        if path.is_file():
            with path.open("rb") as file:
                found = path if _is_weights(file.read(512)) else prefix_of(path)
            if path.suffix == ".index":
                found = path.with_suffix("")
        if found:
            candidates[found] = None
        else:
            others.append(path.name)
    if len(candidates) == 1:
        return next(iter(candidates))
    if candidates:
        names = some([path.name for path in candidates])
        raise ValueError(
            f"{folder}: holds {len(candidates)} checkpoints ({names}): name one of them"
        )
    inside = f"only {some(others)}" if others else "it is empty"
    raise FileNotFoundError(f"{folder}: holds no checkpoint ({inside}): check the path")


def _named_by_state(path: Path) -> Path:
    """The prefix that a `checkpoint` state file names. It is looked for in the same folder only."""
    with path.open("rb") as file:
        quoted = _STATE.match(file.read(2**16))
    damaged = f"{path}: is a damaged checkpoint state file: name the checkpoint itself"
    if not quoted:
        raise ValueError(damaged)
    # Protocol buffers escape as Python's bytes literals do, but bytes above 127 may be unescaped.
    literal = re.sub(rb"[\x80-\xff]", lambda byte: b"\\x%02x" % ord(byte[0]), quoted["path"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            named = ast.literal_eval(f"b{literal.decode('ascii')}").decode(errors="replace")
    except Exception:  # Python's parser raises far more than SyntaxError
        raise ValueError(damaged) from None
    prefix = path.with_name(re.split(r"[/\\]", named)[-1] or "?")
    if not index_path(prefix).is_file() and not data_files(prefix):
        raise FileNotFoundError(
            f"{path}: names the checkpoint {printable(named)}, but there is no "
            f"{printable(prefix.name)} in its folder: copy the checkpoint there, or name the "
            "checkpoint itself"
        )
    return prefix
