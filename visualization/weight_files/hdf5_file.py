"""Weights in HDF5: Keras 3's .weights.h5, and what Keras 1 and 2 wrote."""

import functools
import re

import h5py
import numpy as np

from visualization.files.hdf5 import RefusedError, open_hdf5, safe_dataset
from visualization.files.printable import printable
from visualization.weight_files.weight_file import Tensor, parse_metadata

__all__ = ["METADATA_ATTRIBUTE", "read_hdf5"]

METADATA_ATTRIBUTE = "visualization"
_MAX_NAMES = 10_000  # SqueezeNet has 52 tensors
_MAX_DEPTH = 20
# A layer's group, any scopes, and the variable: with TensorFlow's suffix, or Keras 1's _W and _b.
_LEGACY = re.compile(
    r"(?:model_weights/)?(?P<layer>conv1|conv10|fire[2-9][/_](?:squeeze1x1|expand[13]x[13]))/"
    r"(?:.*/)?(?:(?P<variable>kernel|bias)|[^/]*_(?P<letter>[Wb]))(?::0)?"
)


# Of model.save("NAME.h5"), each layer's group twice.
_WHOLE_MODEL = re.compile(r"^model_weights/([^/]+)/\1/")


def read_hdf5(content: bytes, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of an HDF5 file; what Keras 1 and 2 wrote as LAYER/kernel.

    Args:
        content: the whole file.
        name: what errors call it.

    Raises:
        ValueError: it is damaged, reaches into other files, or holds a weight twice.

    Example:
        >>> from visualization.files.bundle import IMAGENET, read_bundled
        >>> tensors, _ = read_hdf5(read_bundled(IMAGENET), IMAGENET)
        >>> tensors["layers/conv2d/vars/0"].shape
        (3, 3, 3, 64)
    """
    tensors: dict[str, Tensor] = {}
    stored = 0  # bytes
    with open_hdf5(content, name) as file:
        for path in _dataset_paths(file, name):
            dataset = safe_dataset(file, path, name)
            stored += dataset.id.get_storage_size()
            key = _without_scopes(path)
            if key in tensors:
                raise RefusedError(
                    f"{name}: holds {printable(key)} twice, and it is not clear which one counts: "
                    "save the network's weights alone"
                )
            read = functools.partial(_value, content, path, name)
            tensors[key] = Tensor(tuple(dataset.shape), str(dataset.dtype), read)
        return tensors, _metadata(file, len(content) - stored)


def _dataset_paths(file: h5py.File, name: str) -> list[str]:
    """Paths of everything that is not a group; links are not followed."""
    paths = []
    groups = [""]
    while groups:
        prefix = groups.pop()
        for key in file[prefix or "/"]:
            path = f"{prefix}{key}"
            link = file.get(path, getlink=True)
            if isinstance(link, h5py.HardLink) and isinstance(file[path], h5py.Group):
                groups.append(f"{path}/")
            else:
                paths.append(path)
            if len(paths) + len(groups) > _MAX_NAMES or path.count("/") > _MAX_DEPTH:
                raise RefusedError(
                    f"{name}: holds far more groups than a SqueezeNet, or groups within themselves, "
                    "which is refused: name a file of SqueezeNet 1.1's weights"
                )
    return paths


def _without_scopes(path: str) -> str:
    """LAYER/kernel for what Keras calls LAYER/LAYER/kernel:0, LAYER/LAYER_W:0, ..."""
    legacy = _LEGACY.fullmatch(path)
    if not legacy:
        return _WHOLE_MODEL.sub(r"\1/", path)
    variable = legacy["variable"] or {"W": "kernel", "b": "bias"}[legacy["letter"]]
    return f"{legacy['layer']}/{variable}"


def _value(content: bytes, path: str, name: str) -> np.ndarray:
    with open_hdf5(content, name) as file:
        return file[path][()]


def _metadata(file: h5py.File, spare: int) -> dict[str, str]:
    """What the file says of itself; `spare` bytes of it are no weights, and a text may be as long."""
    if METADATA_ATTRIBUTE not in file.attrs:
        return {}
    attribute = file.attrs.get_id(METADATA_ATTRIBUTE)
    if attribute.shape != () or attribute.get_storage_size() > 2**16 or spare > 2**20:
        return {}
    value = file.attrs[METADATA_ATTRIBUTE]
    return parse_metadata(value) if isinstance(value, str | bytes) else {}
