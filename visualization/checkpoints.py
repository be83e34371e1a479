"""The one reader of weight files: verified before they are parsed, complete or not loaded at all."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from .backend import keras

BUNDLE = Path(__file__).resolve().parent.parent / "weights"
IMAGENET = "squeezenet_v1_1.weights.h5"
MAX_BYTES = 64 * 2**20  # a file of SqueezeNet's weights has 5 million bytes

_FIRES = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128)}
_FIRES |= {6: (256, 48, 192), 7: (384, 48, 192), 8: (384, 64, 256), 9: (512, 64, 256)}


def _kernels() -> dict[str, tuple[int, int, int, int]]:
    shapes = {"conv1": (3, 3, 3, 64)}
    for n, (inputs, squeeze, expand) in _FIRES.items():
        shapes[f"fire{n}/squeeze"] = (1, 1, inputs, squeeze)
        shapes[f"fire{n}/expand1x1"] = (1, 1, squeeze, expand)
        shapes[f"fire{n}/expand3x3"] = (3, 3, squeeze, expand)
    return shapes | {"conv10": (1, 1, 512, 1000)}


# Every weight of SqueezeNet 1.1 by the path of its Keras variable; kernels are HWIO.
SQUEEZENET: dict[str, tuple[int, ...]] = {}
for _layer, _shape in _kernels().items():
    SQUEEZENET[f"{_layer}/kernel"] = _shape
    SQUEEZENET[f"{_layer}/bias"] = _shape[-1:]

# Keras 3 names the groups of a .weights.h5 after the layers' classes, counted in order.
_KERAS3_GROUPS = {
    "conv1": "layers/conv2d",
    **{f"fire{n}": "layers/fire" + (f"_{n - 2}" if n > 2 else "") for n in _FIRES},
    "conv10": "layers/conv2d_1",
}
_KERAS3_VARIABLES = {"kernel": "vars/0", "bias": "vars/1"}


def load_weights(model: "keras.Model", source: str | os.PathLike[str]) -> None:
    """Sets every weight of a SqueezeNet from a file, or changes nothing.

    Args:
        model: a model made by `visualization.SqueezeNet`.
        source: "imagenet" for the bundled weights, whose sha256 is checked before they are parsed, or
            the path of a Keras 3 ``.weights.h5`` file of the whole network.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the file is damaged, is of another kind, or does not fit; the message lists the
            weights that are missing or differ.
    """
    arrays, _ = read_weights(source)
    strangers = [variable.path for variable in model.weights if variable.path not in arrays]
    if strangers:
        raise ValueError(
            f"model {model.name!r} is not a SqueezeNet of this package: it has {strangers[0]}"
        )
    for variable in model.weights:
        variable.assign(arrays[variable.path])


def read_weights(source: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], str]:
    """The arrays that `load_weights` would set, without TensorFlow, and the file's sha256.

    Returns:
        variable path -> float32 array, for every entry of `SQUEEZENET`; 64 hexadecimal digits.

    Raises:
        as `load_weights`.
    """
    if source == "imagenet":
        content, name = read_bundled(IMAGENET), f"the bundled {IMAGENET}"
    else:
        content, name = _read(Path(source)), str(source)
    arrays = _read_keras3(content, name)
    broken = [path for path, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise ValueError(
            f"weights: {name} holds NaN or infinity in {', '.join(broken)}: the file cannot be used"
        )
    return arrays, hashlib.sha256(content).hexdigest()


def read_bundled(name: str) -> bytes:
    """The content of a file in `weights/`, after its size and sha256 were found as in the manifest.

    Raises:
        OSError: the file or the manifest is missing.
        ValueError: the content does not match the manifest.
    """
    entry = manifest()[name]
    path = BUNDLE / name
    restore = f"restore it with 'git checkout weights/{name}' or 'python -m weights.build'"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, which this project ships: {restore}")
    size = path.stat().st_size
    if size != entry["size"]:
        raise ValueError(
            f"{path} is damaged: it has {size} bytes instead of {entry['size']}: {restore}"
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry["sha256"]:
        raise ValueError(
            f"{path} is damaged: its sha256 is {digest} instead of {entry['sha256']}: {restore}"
        )
    return content


def manifest() -> dict[str, Any]:
    """The files of `weights/manifest.json`: name -> sha256, size in bytes, source, licence.

    Raises:
        OSError: it is missing.
        ValueError: it is damaged.
    """
    path = BUNDLE / "manifest.json"
    restore = "restore it with 'git checkout weights/manifest.json'"
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        for name in (IMAGENET,):
            files[name]["sha256"], files[name]["size"]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing, which this project ships: {restore}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): {restore}") from None
    return files


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise IsADirectoryError(f"weights: {path} is a folder: name the .weights.h5 file in it")
    if not path.is_file():
        raise FileNotFoundError(f"weights: there is no file {path}: check the path")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(
            f"weights: {path} has {size:,} bytes, too many for SqueezeNet 1.1, which has 5 million: "
            "check the path"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise OSError(f"weights: {path} cannot be read: {error.strerror}") from error


def _read_keras3(content: bytes, name: str) -> dict[str, np.ndarray]:
    """The arrays of a Keras 3 ``.weights.h5`` by variable path."""
    try:
        file = h5py.File(io.BytesIO(content), "r")
    except OSError:
        raise ValueError(
            f"weights: {name} is not an HDF5 file, or it is truncated: "
            "name a Keras 3 .weights.h5 file of SqueezeNet 1.1"
        ) from None
    arrays, missing, different = {}, [], []
    with file:
        for path, shape in SQUEEZENET.items():
            layer, *inner, variable = path.split("/")
            dataset = _dataset(
                file, "/".join([_KERAS3_GROUPS[layer], *inner, _KERAS3_VARIABLES[variable]])
            )
            if dataset is None:
                missing.append(path)
            elif dataset.shape != shape or dataset.dtype != np.float32:
                different.append(f"{path} is {dataset.dtype} {dataset.shape}, not float32 {shape}")
            else:
                try:
                    arrays[path] = dataset[()]
                except OSError as error:
                    raise ValueError(f"weights: {name} is damaged at {path}: {error}") from None
    if missing or different:
        raise ValueError(
            f"weights: {name} does not fit SqueezeNet 1.1: {_list(missing, different)}"
        )
    return arrays


def _dataset(file: h5py.File, key: str) -> h5py.Dataset | None:
    """The dataset under `key` if it lies in this very file: links can lead to any other file."""
    parts = key.split("/")
    for depth in range(len(parts)):
        link = file.get("/".join(parts[: depth + 1]), getlink=True)
        if not isinstance(link, h5py.HardLink):
            return None
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        return None
    return dataset


def _list(missing: list[str], different: list[str]) -> str:
    """The first few of what is wrong, in words."""
    parts = []
    if missing:
        more = " and others" if len(missing) > 3 else ""
        parts.append(
            f"{len(missing)} of {len(SQUEEZENET)} weights are missing: "
            f"{', '.join(missing[:3])}{more}"
        )
    return "; ".join(parts + different[:3])
