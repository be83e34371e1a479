"""Changes weights for Caffe's input (BGR, 0..255) into weights for the course's input."""

from collections.abc import Mapping

import numpy as np

from visualization.images.channel_statistics import SQUEEZENET_MEAN, SQUEEZENET_STD

__all__ = ["CAFFE_MEAN", "fold_caffe", "is_for_caffe"]

CAFFE_MEAN = (104.006, 116.669, 122.679)  # BGR, 0..255


def fold_caffe(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights for Caffe's input (BGR, 0..255, minus a mean) as weights for the course's input.

    Caffe computes K * (255 (std z + mean) - caffe_mean) + b with z our input, so the kernel takes the
    factor 255 std and the bias the rest. This is exact at every position because conv1 has no padding.

    Args:
        arrays: variable path -> float32 array, with ``conv1/kernel`` and ``conv1/bias``.

    Returns:
        the same with these two replaced, float32.

    Example:
        >>> kernel, bias = np.ones((3, 3, 3, 64), np.float32), np.zeros(64, np.float32)
        >>> folded = fold_caffe({"conv1/kernel": kernel, "conv1/bias": bias})
        >>> folded["conv1/kernel"][0, 0, :, 0].round(2)  # 255 times the deviation of R, G and B
        array([58.4 , 57.12, 57.38], dtype=float32)
    """
    rgb = arrays["conv1/kernel"][:, :, ::-1].astype(np.float64)  # (3, 3, 3, 64)
    shift = 255 * SQUEEZENET_MEAN.astype(np.float64) - np.array(CAFFE_MEAN)[::-1]  # (3,)
    bias = arrays["conv1/bias"] + np.einsum("hwio,i->o", rgb, shift)
    kernel = rgb * (255 * SQUEEZENET_STD.astype(np.float64))[:, None]
    return {
        **arrays,
        "conv1/kernel": kernel.astype(np.float32),
        "conv1/bias": bias.astype(np.float32),
    }


def is_for_caffe(kernel: np.ndarray) -> bool:
    """Whether a trained first kernel is for pixels of Caffe's range, 58 times that of the course's.

    SqueezeNet's, RGB divided by std, has a root mean square of 14; as Caffe has it, of 0.25. The
    kernels of a network trained anew for the course's input may be small too: this is for files under
    Caffe's names only.

    Args:
        kernel: ``conv1/kernel``, (3, 3, 3, 64).

    Example:
        >>> is_for_caffe(np.full((3, 3, 3, 64), 0.25)), is_for_caffe(np.full((3, 3, 3, 64), 14.0))
        (True, False)
    """
    return bool(np.sqrt(np.mean(np.square(kernel, dtype=np.float64))) < 2)  # sqrt(0.25 * 14)
