"""Weights for Caffe's input as weights for the course's."""

from collections.abc import Mapping

import numpy as np

from visualization.images.channel_statistics import SQUEEZENET_MEAN, SQUEEZENET_STD

CAFFE_MEAN = (104.006, 116.669, 122.679)  # BGR, 0..255


def fold_caffe(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights for Caffe's input (BGR, 0..255, minus a mean) as weights for the course's input.

    Caffe computes K * (255 (std z + mean) - caffe_mean) + b with z our input, so the kernel takes the
    factor 255 std and the bias the rest. This is exact at every position because conv1 has no padding.

    Args:
        arrays: variable path -> float32 array, with ``conv1/kernel`` and ``conv1/bias``.

    Returns:
        the same with these two replaced, float32.
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
