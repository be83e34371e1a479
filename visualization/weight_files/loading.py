"""The one way into weight files: complete and verified, or not loaded at all.

`load_weights` takes every form of SqueezeNet checkpoint that people have: `locate` and `formats` open
them, `names` says what belongs where, and `visualization.files.kinds` what a file is that is none of
them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from visualization.files.bundle import BUNDLE, IMAGENET, manifest, read_bundled
from visualization.files.printable import printable, some
from visualization.weight_files import formats as weight_formats
from visualization.weight_files import locate as weight_files
from visualization.weight_files.caffe import fold_caffe
from visualization.weight_files.formats import WeightFile
from visualization.weight_files.names import SQUEEZENET, TOP, match

if TYPE_CHECKING:
    from visualization.backend import keras

CONVENTIONS = ("course", "caffe")


def load_weights(
    model: keras.Model, source: str | os.PathLike[str], convention: str | None = None
) -> None:
    """Sets every weight of a SqueezeNet, or changes nothing.

    Args:
        model: a model made by `visualization.SqueezeNet`, with or without top.
        source: "imagenet" for the bundled weights, or a checkpoint of SqueezeNet 1.1, told by content:

            - TensorFlow, with TF1's names or TF2's object graph: the prefix, the ``.index``, a
              ``.data-...`` file, the folder that holds it, or a ``checkpoint`` state file;
            - HDF5: Keras 3's ``.weights.h5``, or what Keras 1 and 2 wrote under Caffe's layer names;
            - ``.npz`` or (with the package `safetensors`) ``.safetensors``, under this package's names,
              Caffe's, the course's, or torchvision's with kernels in PyTorch's order.
        convention: the input that the weights were trained for: "course" (RGB, divided by 255, minus
            mean, divided by std) or "caffe" (BGR, 0..255, minus a mean), which is folded into the first
            convolution, so that the model takes the course's. By default what the file says, and
            "course" if it says nothing.

    Raises:
        OSError: the source is missing or cannot be read.
        ValueError: it is damaged, is no checkpoint or another network's; or weights are missing, left
            over, of another shape, not float32 or not finite: the message lists them.
        ImportError: it is a ``.safetensors`` file and the package is not installed.
    """
    shapes = {variable.path: tuple(variable.shape) for variable in model.weights}
    without_top = {path: shape for path, shape in SQUEEZENET.items() if path not in TOP}
    if shapes not in (SQUEEZENET, without_top):
        wrong = [
            path for path in {**shapes, **SQUEEZENET} if shapes.get(path) != SQUEEZENET.get(path)
        ]
        raise ValueError(
            f"model {model.name!r} is not a SqueezeNet of this package, as {wrong[0]!r} shows: "
            "make one with visualization.SqueezeNet(weights=None)"
        )
    arrays, _ = read_checked(source, convention, shapes)
    for variable in model.weights:
        variable.assign(arrays[variable.path])


def read_weights(
    source: str | os.PathLike[str], convention: str | None = None
) -> tuple[dict[str, np.ndarray], str]:
    """The arrays that `load_weights` would set, and the sha256 of the file.

    TensorFlow is imported only to read a TensorFlow checkpoint.

    Args:
        source, convention: as for `load_weights`.

    Returns:
        variable path -> float32 array, for every weight of SqueezeNet 1.1, kernels HWIO; 64
        hexadecimal digits, of a TensorFlow checkpoint over its index and data files in order.

    Raises:
        as `load_weights`.
    """
    arrays, file = read_checked(source, convention, SQUEEZENET)
    return arrays, file.sha256


def tensors_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """One sha256 for the values, the same whatever form of file they came from."""
    digest = hashlib.sha256()
    for path, array in sorted(arrays.items()):
        digest.update(f"{path} {array.shape}\n".encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()


def read_checked(
    source: str | os.PathLike[str], convention: str | None, wanted: Iterable[str]
) -> tuple[dict[str, np.ndarray], WeightFile]:
    """Every wanted weight in our convention, after the whole file was found to fit."""
    if convention not in (None, *CONVENTIONS):
        raise ValueError(f"convention is {convention!r}, expected one of {', '.join(CONVENTIONS)}")
    file = open_source(source)
    found = match(file.tensors, wanted)
    if not found.fits:
        raise ValueError(f"weights: {file.name} {found.explain()}")
    if file.defect:
        whole = f"all {len(found.names)} tensors that the index names fit SqueezeNet 1.1"
        raise type(file.defect)(f"weights: {file.name}: {file.defect} ({whole})")
    convention = input_convention(file, convention)
    arrays = {}
    for path in wanted:
        array = file.tensors[found.names[path]].read()
        if found.naming.oihw and array.ndim == 4:
            array = np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        arrays[path] = array
    _check_values({found.names[path]: array for path, array in arrays.items()}, file.name)
    recorded = file.metadata.get("tensors_sha256")
    if recorded is not None and len(arrays) == len(SQUEEZENET):
        values = tensors_sha256(arrays)
        if values != recorded:
            raise ValueError(
                f"weights: {file.name} holds other values than when it was written (their sha256 is "
                f"{values}, not {printable(recorded)}): get it again, or convert its source anew"
            )
    return (fold_caffe(arrays) if convention == "caffe" else arrays), file


def _check_values(arrays: Mapping[str, np.ndarray], name: str) -> None:
    """Refuses what no trained network holds."""
    broken = [key for key, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise ValueError(
            f"weights: {name} holds NaN or infinity in {some(broken)}, which every score would catch: "
            "get a checkpoint from before its training diverged"
        )
    blank = [key for key, array in arrays.items() if array.ndim == 4 and not array.any()]
    if blank:
        raise ValueError(
            f"weights: {name} holds nothing but zeros in {some(blank)}, as a file does whose download "
            "or copy stopped half-way: get it again"
        )


def input_convention(file: WeightFile, asked: str | None) -> str:
    """The input that the weights are for: what the file says, else what the caller says."""
    said = file.metadata.get("input_convention")
    if said is not None and said not in CONVENTIONS:
        raise ValueError(
            f"weights: {file.name} says that its weights are for the input convention {said[:40]!r}, "
            f"and only {' and '.join(CONVENTIONS)} are known: get weights for one of these"
        )
    if said and asked and said != asked:
        raise ValueError(
            f"weights: {file.name} says that its weights are for the input convention {said!r}, but "
            f"{asked!r} was asked for: leave the convention out"
        )
    return said or asked or "course"


def open_source(source: str | os.PathLike[str]) -> WeightFile:
    if source != "imagenet":
        return weight_files.open_weights(source)
    content, path = read_bundled(IMAGENET), BUNDLE / IMAGENET
    file = weight_formats.open_content(content, f"the bundled {IMAGENET}", [path])
    entry = manifest()[IMAGENET]
    said = {"provenance": entry["source"], "licence": entry["licence"]}
    return dataclasses.replace(file, metadata=said | {"input_convention": "course"})
