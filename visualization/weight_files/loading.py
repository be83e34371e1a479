"""Loads weights into a SqueezeNet: complete and verified, or not at all.

`locate` opens a source of any form, `names` says which of its tensors is which weight; here values are
checked and brought to the course's input convention.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from visualization.files.printable import printable, some
from visualization.weight_files.caffe import fold_caffe
from visualization.weight_files.locate import open_weights
from visualization.weight_files.names import SQUEEZENET, TOP, match
from visualization.weight_files.weight_file import WeightFile

if TYPE_CHECKING:
    from visualization.backend import keras

__all__ = ["CONVENTIONS", "Weights", "load_weights", "read_weights", "tensors_sha256"]

CONVENTIONS = ("course", "caffe")


class Weights(NamedTuple):
    """SqueezeNet's weights, read from a file.

    Attributes:
        arrays: variable path -> float32 array, kernels HWIO, for the course's input.
        sha256: of the file, 64 hexadecimal digits; of a TensorFlow checkpoint over its index and data
            files in order.
        file: the file.
        convention: the input that the weights in the file are for, one of `CONVENTIONS`.

    Example:
        >>> weights = read_weights("imagenet")
        >>> weights.convention, weights.arrays["conv1/bias"].shape
        ('course', (64,))
    """

    arrays: dict[str, np.ndarray]
    sha256: str
    file: WeightFile
    convention: str


def load_weights(
    model: keras.Model, source: str | os.PathLike[str], *, convention: str | None = None
) -> None:
    """Sets every weight of a SqueezeNet, or changes nothing.

    Args:
        model: a model made by `visualization.SqueezeNet`, with or without top.
        source: "imagenet" for the bundled weights, or a checkpoint of SqueezeNet 1.1 in any form:

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
        ValueError: it is damaged, not a checkpoint, or another network's; or weights are missing,
            unexpected, of another shape, not float32 or not finite: the message lists them.
        ImportError: it is a ``.safetensors`` file and the package is not installed.

    Example:
        >>> from visualization import SqueezeNet
        >>> model = SqueezeNet(weights=None)
        >>> load_weights(model, "imagenet")
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
    arrays = read_weights(source, convention=convention, wanted=shapes).arrays
    for variable in model.weights:
        variable.assign(arrays[variable.path])


def read_weights(
    source: str | os.PathLike[str],
    *,
    convention: str | None = None,
    wanted: Collection[str] = SQUEEZENET,
) -> Weights:
    """The weights that `load_weights` would set. TensorFlow is imported only for its own checkpoints.

    Args:
        source, convention: as for `load_weights`.
        wanted: paths of the variables to read, by default all of SqueezeNet 1.1.

    Raises:
        OSError, ValueError, ImportError: as `load_weights`.

    Example:
        >>> len(read_weights("imagenet").arrays)
        52
    """
    if convention not in (None, *CONVENTIONS):
        raise ValueError(f"convention is {convention!r}, expected one of {', '.join(CONVENTIONS)}")
    file = open_weights(source)
    found = match(file.tensors, wanted)
    if not found.fits:
        raise ValueError(f"{file.name}: {found.explain()}")
    if file.defect:
        whole = f"all {len(found.names)} tensors that the index names fit SqueezeNet 1.1"
        raise type(file.defect)(f"{file.name}: {file.defect} ({whole})")
    convention = _convention(file, convention)
    arrays = {}
    for path in wanted:
        array = file.tensors[found.names[path]].read()
        if found.naming.oihw and array.ndim == 4:
            array = np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        arrays[path] = array
    _check_values({found.names[path]: array for path, array in arrays.items()}, file.name)
    recorded = file.metadata.get("tensors_sha256")
    if recorded is not None and len(arrays) == len(SQUEEZENET):
        digest = tensors_sha256(arrays)
        if digest != recorded:
            raise ValueError(
                f"{file.name}: its values have changed since it was written (their sha256 is {digest}, "
                f"not {printable(recorded)}): download it again, or convert its source again"
            )
    if convention == "caffe":
        arrays = fold_caffe(arrays)
    return Weights(arrays, file.sha256, file, convention)


def tensors_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """One sha256 of the values, the same for every form of file.

    Example:
        >>> tensors_sha256({"conv1/bias": np.zeros(64)})[:8]
        '49b8210d'
    """
    digest = hashlib.sha256()
    for path, array in sorted(arrays.items()):
        digest.update(f"{path} {array.shape}\n".encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()


def _check_values(arrays: Mapping[str, np.ndarray], name: str) -> None:
    """Refuses values that no trained network has."""
    broken = [key for key, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise ValueError(
            f"{name}: holds NaN or infinity in {some(broken)}, which would spread to every score: use "
            "a checkpoint from before its training diverged"
        )
    blank = [key for key, array in arrays.items() if array.ndim == 4 and not array.any()]
    if blank:
        raise ValueError(
            f"{name}: holds only zeros in {some(blank)}, as if its download or copy had stopped: "
            "download it again"
        )


def _convention(file: WeightFile, convention: str | None) -> str:
    """The input that the weights are for, from the file and from the caller."""
    recorded = file.metadata.get("input_convention")
    if recorded not in (None, *CONVENTIONS):
        raise ValueError(
            f"{file.name}: says that its weights are for the input convention {printable(recorded)}, "
            f"but only {' and '.join(CONVENTIONS)} are known: use weights for one of these"
        )
    if recorded and convention and recorded != convention:
        raise ValueError(
            f"{file.name}: says that its weights are for the input convention {recorded!r}, but "
            f"{convention!r} was asked for: omit the convention"
        )
    return recorded or convention or "course"
