"""Mean and standard deviation of ImageNet's colour channels, as CS231n's preprocessing uses them.

In a file of their own, because the reader of weight files and the commands need them without
TensorFlow.
"""

from typing import Any

import numpy as np

__all__ = ["SQUEEZENET_MEAN", "SQUEEZENET_STD", "standardize"]

SQUEEZENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
SQUEEZENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def standardize(pixels: Any) -> Any:
    """(pixels / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD, for floating-point pixels (..., 3) of 0..255.

    Example:
        >>> print(standardize(np.float32([[0, 128, 255]])).round(2))
        [[-2.12  0.21  2.64]]
    """
    return (pixels / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD
