"""How 8-bit pixels become any model's input, and back."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from visualization.images.channel_statistics import SQUEEZENET_STD
from visualization.images.preprocessing import preprocess_image


class PixelScaling:
    """How the levels of an 8-bit image become a model's input, and back.

    `preprocess` is looked at through a few probes: every input channel must depend on one channel of
    the pixels, along a straight line, as all that `keras.applications` preprocess do.

    Args:
        preprocess: pixels (N, H, W, C) float32 -> the model's input of the same shape.
        bounds: the pixel values that `preprocess` expects for black and white.
        channels: C.

    Attributes:
        low, high: float32 (C,): the input for black and for white, by input channel.
        order: the pixel channel that each input channel shows; (2, 1, 0) for BGR input.
        width: how wide the input's range is beside SqueezeNet's, whose is 1: what the course says of
            step lengths in its units is true of other models after a multiplication by it.

    Raises:
        ValueError: `preprocess` is not such a map, or `bounds` are not two numbers in order.
    """

    def __init__(
        self,
        preprocess: Callable[[Any], Any] = preprocess_image,
        bounds: tuple[float, float] = (0, 255),
        channels: int = 3,
    ) -> None:
        try:
            black, white = (float(bound) for bound in bounds)
        except (TypeError, ValueError):
            black = white = math.nan
        if not -math.inf < black < white < math.inf:
            raise ValueError(
                f"bounds are {bounds}, expected the values of black and of white, as (0, 255)"
            )
        self._preprocess, self._black, self._width = preprocess, black, white - black
        primaries = [255 * np.eye(channels)[c] for c in range(channels)]
        levels = [np.zeros(channels), np.full(channels, 255), np.full(channels, 51), *primaries]
        made = self.to_input(np.array(levels)[:, None, None, :])  # (3 + C, 1, 1, C)
        if made.shape != (3 + channels, 1, 1, channels):
            raise ValueError(
                f"preprocess made {made.shape} of pixels {(3 + channels, 1, 1, channels)}, expected "
                "the same shape"
            )
        probes = made[:, 0, 0]  # (3 + C, C)
        self.low, self.high, fifth = probes[:3]
        shows = np.isclose(probes[3:], self.high) & ~np.isclose(probes[3:], self.low)  # (C, C)
        on_a_line = np.allclose(fifth, self.low + (self.high - self.low) / 5, atol=1e-3)
        if not (on_a_line and (shows.sum(axis=0) == 1).all()):
            raise ValueError(
                "preprocess must map each channel of the pixels on its own and along a straight line, "
                f"but black, white and dark grey become {probes[0]}, {probes[1]} and {probes[2]}"
            )
        if not (self.high > self.low).all():
            raise ValueError(
                f"preprocess turns black into {self.low} and white into {self.high}, expected white "
                "to be larger in each channel: leave out what inverts the image"
            )
        self.order = tuple(int(channel) for channel in shows.argmax(axis=0))
        self.width = float(np.mean(self.high - self.low) / np.mean(1 / SQUEEZENET_STD))

    def to_input(self, levels: Any) -> np.ndarray:
        """8-bit levels (N, H, W, C), 0..255, to the model's input, float32."""
        pixels = self._black + self._width * np.asarray(levels, np.float32) / 255
        if (self._black, self._width) == (0, 255):
            pixels = np.array(levels, np.float32)  # exact
        return np.asarray(self._preprocess(pixels), np.float32)

    def to_levels(self, inputs: Any) -> np.ndarray:
        """The model's input (N, H, W, C) to 8-bit levels, uint8, clipped and rounded."""
        levels = 255 * (np.asarray(inputs, np.float32) - self.low) / (self.high - self.low)
        rounded = np.clip(levels, 0, 255).round().astype(np.uint8)
        return rounded[..., np.argsort(self.order)]
