"""From pixels to SqueezeNet's input and back."""

import sys
from typing import Any

import numpy as np

from visualization.backend import tf
from visualization.images.channel_statistics import SQUEEZENET_MEAN, SQUEEZENET_STD


def preprocess_image(img: Any) -> Any:
    """Pixels to SqueezeNet's input: (img / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD.

    Args:
        img: RGB (..., 3), 0..255, uint8 or floating point.

    Returns:
        float32 of the same shape, about -2.1 to 2.6; a tensor if img is one, else an array.
    """
    return (_float32(img) / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD


def deprocess_image(img: Any, rescale: bool = False) -> Any:
    """SqueezeNet's input back to pixels; the reverse of `preprocess_image`, exact on a round trip.

    Args:
        img: preprocessed RGB (..., 3), floating point.
        rescale: first stretch the values to their own range, so that the smallest becomes 0 and the
            largest 255.

    Returns:
        uint8 of the same shape, clipped to 0..255 and rounded; a tensor if img is one, else an array.
    """
    values = _float32(img) * SQUEEZENET_STD + SQUEEZENET_MEAN
    if not _is_tensor(img):
        if rescale:
            low, high = values.min(), values.max()
            values = (values - low) / (high - low if high > low else 1)
        return np.clip(255 * values, 0, 255).round().astype(np.uint8)

    if rescale:
        low, high = tf.reduce_min(values), tf.reduce_max(values)
        values = (values - low) / tf.where(high > low, high - low, 1)
    return tf.cast(tf.round(tf.clip_by_value(255 * values, 0, 255)), tf.uint8)


def _float32(img: Any) -> Any:
    if not _is_tensor(img):
        return np.asarray(img, dtype=np.float32)

    return tf.cast(img, tf.float32)


def _is_tensor(value: Any) -> bool:
    """Without an import of TensorFlow: where there is none, there are no tensors."""
    return "tensorflow" in sys.modules and sys.modules["tensorflow"].is_tensor(value)
