"""How weights start, as CS231n's do."""

import math

from visualization.backend import keras

__all__ = ["scaled"]


def scaled(fan_in: int | None) -> keras.initializers.Initializer:
    """N(0, 1) / sqrt(fan in).

    Raises:
        ValueError: fan in is None, unknown.

    Example:
        >>> scaled(4).stddev
        0.5
    """
    if fan_in is None:
        raise ValueError("the size of the inputs' last axis is unknown: give it to keras.Input")
    return keras.initializers.RandomNormal(stddev=1 / math.sqrt(fan_in))
