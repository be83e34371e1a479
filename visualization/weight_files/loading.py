"""Loads weights into a bundled network: complete and verified, or not at all.

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
from visualization.weight_files.architectures import ARCHITECTURES, SQUEEZENET
from visualization.weight_files.caffe import fold_caffe, is_for_caffe
from visualization.weight_files.locate import open_weights
from visualization.weight_files.names import Architecture, Match, match
from visualization.weight_files.weight_file import WeightFile

if TYPE_CHECKING:
    from visualization.backend import keras

__all__ = ["Weights", "load_weights", "read_weights", "tensors_sha256"]


class Weights(NamedTuple):
    """A network's weights, read from a file.

    Attributes:
        arrays: variable path -> float32 array, kernels HWIO, for our network's input.
        sha256: of the file, 64 hexadecimal digits; of a TensorFlow checkpoint over its index and data
            files in order.
        file: the file.
        convention: the input that the weights in the file are for, one of the
            architecture's.

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
    """Sets every weight of a bundled network, or changes nothing.

    Args:
        model: a model made by `visualization.SqueezeNet` or `EfficientNetLite2`, with or without top.
        source: "imagenet" for the bundled weights, or a checkpoint of SqueezeNet 1.1 in any form:

            - TensorFlow, with TF1's names or TF2's object graph, also that of the model itself: the
              prefix, the ``.index``, a ``.data-...`` file, the folder that holds it, a ``checkpoint``
              state file, or a SavedModel's folder;
            - HDF5: Keras 3's ``.weights.h5`` and whole models as ``.h5``, or what Keras 1 and 2 wrote
              under Caffe's layer names;
            - ``.npz`` or (with the package `safetensors`) ``.safetensors``, under this package's names,
              Caffe's, the course's, or torchvision's with kernels in PyTorch's order.

            Of EfficientNet-Lite2, Keras 3's ``.weights.h5``, and ``.npz`` and ``.safetensors`` under
            this package's names, as float32 or float16.
        convention: the input that the weights were trained for: "course" (RGB, divided by 255, minus
            mean, divided by std) or "caffe" (BGR, 0..255, minus a mean), which is folded into the first
            convolution, so that the model takes the course's. By default what the file says; if it
            says nothing, "caffe" under Caffe's layer names if the first kernels are as small as
            Caffe's, else "course". EfficientNet-Lite2 has one input only, "efficientnet-lite".

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
    architecture = _architecture(model.name, shapes)
    arrays = read_weights(source, architecture, convention=convention, wanted=shapes).arrays
    for variable in model.weights:
        variable.assign(arrays[variable.path])


def read_weights(
    source: str | os.PathLike[str],
    architecture: Architecture = SQUEEZENET,
    *,
    convention: str | None = None,
    wanted: Collection[str] | None = None,
) -> Weights:
    """The weights that `load_weights` would set. TensorFlow is imported only for its own checkpoints.

    Args:
        source, convention: as for `load_weights`.
        architecture: whose weights they are, of those in `architectures`.
        wanted: paths of the variables to read, by default all.

    Raises:
        OSError, ValueError, ImportError: as `load_weights`.

    Example:
        >>> len(read_weights("imagenet").arrays)
        52
    """
    known = architecture.conventions
    if convention not in (None, *known):
        raise ValueError(f"convention is {convention!r}, expected one of {', '.join(known)}")
    file = open_weights(source, architecture.bundled)
    found = match(file.tensors, architecture, wanted)
    if not found.fits:
        raise ValueError(f"{file.name}: {_of_another_network(found) or found.explain()}")
    if file.defect:
        whole = f"all {len(found.names)} tensors that the index names fit {architecture.title}"
        raise type(file.defect)(f"{file.name}: {file.defect} ({whole})")
    arrays = {}
    for path in architecture.shapes if wanted is None else wanted:
        array = file.tensors[found.names[path]].read()
        if found.naming.oihw and array.ndim == 4:
            array = np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        arrays[path] = array.astype(np.float32, copy=False)
    _check_values({found.names[path]: array for path, array in arrays.items()}, file.name)
    recorded = file.metadata.get("tensors_sha256")
    if recorded is not None and len(arrays) == len(architecture.shapes):
        digest = tensors_sha256(arrays)
        if digest != recorded:
            raise ValueError(
                f"{file.name}: its values have changed since it was written (their sha256 is {digest}, "
                f"not {printable(recorded)}): download it again, or convert its source again"
            )
    convention = _convention(file, convention, known)
    if convention is None:
        caffe = "caffe" in known and found.naming.caffe and is_for_caffe(arrays["conv1/kernel"])
        convention = "caffe" if caffe else known[0]
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


def _architecture(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The bundled network whose variables these are."""
    for architecture in ARCHITECTURES:
        if shapes in (architecture.shapes, architecture.without_top):
            return architecture
    nearest = max(ARCHITECTURES, key=lambda known: len(known.shapes.keys() & shapes.keys()))
    theirs = nearest.shapes
    wrong = [path for path in {**shapes, **theirs} if shapes.get(path) != theirs.get(path)]
    builder = nearest.builder
    raise ValueError(
        f"model {name!r} is not a {builder} of this package, as {wrong[0]!r} shows: "
        f"make one with visualization.{builder}(weights=None)"
    )


def _of_another_network(found: Match) -> str | None:
    """What to say if the file holds the weights of another bundled network."""
    for other in ARCHITECTURES:
        if other is not found.architecture and match(found.tensors, other, other.without_top).fits:
            return (
                f"is of another network, {other.title}: load it into "
                f"visualization.{other.builder}(weights=None), or use a checkpoint of "
                f"{found.architecture.title}"
            )
    return None


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


def _convention(file: WeightFile, convention: str | None, known: tuple[str, ...]) -> str | None:
    """The input that the weights are for, from the file and from the caller, if either says it."""
    recorded = file.metadata.get("input_convention")
    if recorded is not None and recorded not in known:
        raise ValueError(
            f"{file.name}: says that its weights are for the input convention {printable(recorded)}, "
            f"but only {' and '.join(known)} {'are' if known[1:] else 'is'} known: use weights for one "
            "of these"
        )
    if recorded and convention and recorded != convention:
        raise ValueError(
            f"{file.name}: says that its weights are for the input convention {recorded!r}, but "
            f"{convention!r} was asked for: omit the convention"
        )
    return recorded or convention
