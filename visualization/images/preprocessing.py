"""From pixels to SqueezeNet's input and back."""

from typing import Any

import numpy as np

from visualization.backend import tf
from visualization.images.channel_statistics import SQUEEZENET_MEAN, SQUEEZENET_STD, standardize

__all__ = ["deprocess_image", "preprocess_image"]


def preprocess_image(img: Any) -> Any:
    """Turns pixels into SqueezeNet's input: (img / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD.

    Args:
        img: RGB (..., 3), 0..255, uint8 or floating point.

    Returns:
        float32 of the same shape, about -2.1 to 2.6; a tensor if img is one, else an array.

    Example:
        >>> print(preprocess_image([[0, 128, 255]]).round(2))
        [[-2.12  0.21  2.64]]
    """
    pixels = tf.cast(img, tf.float32) if tf.is_tensor(img) else np.asarray(img, np.float32)
    return standardize(pixels)


def deprocess_image(img: Any, rescale: bool = False) -> Any:
    """Turns SqueezeNet's input back into pixels: the inverse of `preprocess_image`, exact for uint8.

    Args:
        img: preprocessed RGB (..., 3), floating point.
        rescale: first stretch the values linearly, so that the smallest becomes 0 and the largest
            255, instead of only clipping them.

    Returns:
        uint8 of the same shape, clipped to 0..255 and rounded; a tensor if img is one, else an array.

    Example:
        >>> deprocess_image(preprocess_image([[0, 128, 255]])).tolist()
        [[0, 128, 255]]
        >>> deprocess_image(preprocess_image([[100, 110, 120]]), rescale=True).tolist()
        [[0, 128, 255]]
    """
    values = tf.cast(img, tf.float32) * SQUEEZENET_STD + SQUEEZENET_MEAN
    if rescale:
        low, high = tf.reduce_min(values), tf.reduce_max(values)
        values = (values - low) / tf.where(high > low, high - low, 1)
    pixels = tf.cast(tf.round(tf.clip_by_value(255 * values, 0, 255)), tf.uint8)
    return pixels if tf.is_tensor(img) else pixels.numpy()
