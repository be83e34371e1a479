"""Writes SqueezeNet's weights in the forms that other programs read: checked, or not at all."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from visualization.backend import keras, tf
from visualization.files.system_errors import writing
from visualization.weight_files.architectures import TF2, TORCH
from visualization.weight_files.hdf5_file import METADATA_ATTRIBUTE
from visualization.weight_files.tensorflow_checkpoint import METADATA_KEY
from visualization.weight_files.weight_file import METADATA

__all__ = ["FORMS", "check_destination", "write"]

FORMS = (".weights.h5", ".npz", ".safetensors", ".ckpt")


def check_destination(path: Path) -> None:
    """Refuses, before any work is done, what could not be written or would overwrite something.

    Raises:
        ValueError: the ending is not one of `FORMS`.
        OSError: a file of that name exists, or the folder is missing or cannot be written to.

    Example:
        >>> check_destination(Path("squeezenet.pth"))
        Traceback (most recent call last):
        ...
        ValueError: squeezenet.pth: the ending decides the form, expected .weights.h5, .npz, ...
    """
    if not path.name.endswith(FORMS) or path.name in FORMS:
        raise ValueError(
            f"{path}: the ending decides the form, expected {', '.join(FORMS)} (the last is a "
            "TensorFlow checkpoint)"
        )
    own = re.compile(rf"{re.escape(path.name)}(\.index|\.data-\d{{5}}-of-\d{{5}})?")
    with writing(path, "name a folder that exists and that you may write to"):
        taken = [entry.name for entry in path.parent.iterdir() if own.fullmatch(entry.name)]
        tempfile.TemporaryFile(dir=path.parent).close()
    if taken:
        raise FileExistsError(
            f"{path}: {min(taken)} already exists, and nothing is overwritten: name another "
            "destination or delete it"
        )


def write(
    path: Path,
    model: keras.Model,
    metadata: Mapping[str, str],
    check: Callable[[Path], None],
) -> list[Path]:
    """Writes a SqueezeNet's weights, in the form that `path` ends in.

    They are written to a hidden folder beside `path`, checked there, and moved; of a TensorFlow
    checkpoint the index comes last, without which there is no checkpoint.

    Args:
        path: as `check_destination` accepted it.
        model: a whole SqueezeNet.
        metadata: what to record in the file.
        check: is given the written file (of a TensorFlow checkpoint the prefix), and raises if it is
            not as it should be.

    Returns:
        the files.

    Raises:
        OSError: they cannot be written.
        ImportError: the package safetensors is needed and not installed.

    Example:
        >>> from visualization import SqueezeNet
        >>> model = SqueezeNet(weights=None)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in write(Path(folder, "a.npz"), model, {}, check=lambda path: None)]
        ['a.npz']
    """
    arrays = {variable.path: variable.numpy() for variable in model.weights}
    with (
        writing(path, "free some space, or name another folder"),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder,
    ):
        unfinished = Path(folder, path.name)
        if path.name.endswith(".weights.h5"):
            _write_keras(unfinished, model, metadata)
        elif path.suffix == ".npz":
            _write_npz(unfinished, arrays, metadata)
        elif path.suffix == ".safetensors":
            _write_safetensors(unfinished, arrays, metadata)
        else:
            _write_tensorflow(unfinished, arrays, metadata)
        check(unfinished)
        written = sorted(Path(folder).iterdir())  # ".data-..." sorts before ".index"
        return [file.replace(path.with_name(file.name)) for file in written]


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    entries: dict[str, Any] = {**arrays, METADATA: np.array(json.dumps(metadata))}
    np.savez(path, **entries)


def _write_keras(path: Path, model: keras.Model, metadata: Mapping[str, str]) -> None:
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        file.attrs[METADATA_ATTRIBUTE] = json.dumps(metadata)


def _write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Under torchvision's names and in PyTorch's order, as PyTorch loads it."""
    try:
        from safetensors.numpy import save  # noqa: PLC0415  an optional package
    except ImportError:
        raise ImportError(
            f"{path.name}: needs the package safetensors: install it with 'pip install safetensors'"
        ) from None
    stored = {}
    for name, ours in TORCH.paths.items():
        array = arrays[ours]
        stored[name] = (
            np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array
        )
    path.write_bytes(save(stored, metadata=dict(metadata)))


def _write_tensorflow(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """As an object graph under the course's keys."""
    tree: dict[str, Any] = {}
    for name, ours in TF2.paths.items():
        *nodes, leaf = name.split("/.ATTRIBUTES/")[0].split("/")
        branch = tree
        for node in nodes:
            branch = branch.setdefault(node, {})
        branch[leaf] = tf.Variable(arrays[ours])
    tree[METADATA_KEY.split("/")[0]] = tf.Variable(
        list(json.dumps(metadata).encode()), dtype="uint8"
    )
    try:
        _as_checkpoint(tree).write(os.fspath(path))
    except tf.errors.OpError:
        raise OSError(
            f"{path.name}: cannot be written by TensorFlow: free some space, or name another folder"
        ) from None


def _as_checkpoint(tree: Mapping[str, Any]) -> Any:
    return tf.train.Checkpoint(
        **{name: _as_checkpoint(x) if isinstance(x, dict) else x for name, x in tree.items()}
    )
