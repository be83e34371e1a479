"""Converts between 8-bit pixels and any model's input."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from visualization.images.channel_statistics import SQUEEZENET_STD, standardize

__all__ = ["PixelScaling"]


class PixelScaling:
    """The linear map from 8-bit pixels to a model's input, and its inverse.

    The map is found by probing `preprocess` with a few colours: each input channel must depend
    linearly on one pixel channel, as with every `preprocess_input` of `keras.applications`.

    Args:
        preprocess: pixels (N, H, W, C) float32 -> the model's input of the same shape; by default
            SqueezeNet's, as `preprocess_image` has it.
        bounds: the pixel values that `preprocess` expects for black and white.
        channels: C.

    Attributes:
        lower, upper: float32 (C,): the input for black and for white, by input channel.
        channel_order: the pixel channel behind each input channel; (2, 1, 0) for BGR input.
        relative_range: the width of the input's range divided by that of SqueezeNet's. The course
            states step lengths in SqueezeNet's units; for another model, multiply them by this.

    Raises:
        ValueError: `preprocess` is not such a map, or `bounds` are not two numbers in ascending order.

    Example:
        >>> scaling = PixelScaling(lambda pixels: pixels[..., ::-1] / 127.5 - 1)
        >>> red = np.uint8([[[[255, 0, 0]]]])
        >>> scaling.to_input(red).tolist()
        [[[[-1.0, -1.0, 1.0]]]]
        >>> scaling.to_pixels(scaling.to_input(red)).tolist(), scaling.channel_order
        ([[[[255, 0, 0]]]], (2, 1, 0))
    """

    def __init__(
        self,
        preprocess: Callable[[Any], Any] | None = None,
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
        if preprocess is None and channels != 3:
            raise ValueError(
                f"the images have {channels} channel{'s' * (channels != 1)}, but without preprocess "
                "they are taken for SqueezeNet's, which have 3: give what turns pixels into the "
                "model's input, such as preprocess=lambda pixels: pixels / 255"
            )
        self._preprocess = preprocess or standardize
        self._black, self._range = black, white - black

        greys = np.outer([0, 255, 51], np.ones(channels))  # black, white and a fifth of white
        probes = np.concatenate([greys, 255 * np.eye(channels)])  # (3 + C, C)
        inputs = self.to_input(probes[:, None, None, :])
        if inputs.shape != (3 + channels, 1, 1, channels):
            raise ValueError(
                f"preprocess made {inputs.shape} of pixels {(3 + channels, 1, 1, channels)}, "
                "expected the same shape"
            )
        self.lower, self.upper, fifth, *primaries = inputs[:, 0, 0]  # (C,) each
        shows = np.isclose(primaries, self.upper) & ~np.isclose(primaries, self.lower)  # (C, C)
        linear = np.allclose(fifth, self.lower + (self.upper - self.lower) / 5, atol=1e-3)
        if not (linear and (shows.sum(axis=0) == 1).all()):
            raise ValueError(
                "preprocess must map each pixel channel on its own and linearly, but black, white "
                f"and dark grey become {self.lower}, {self.upper} and {fifth}"
            )
        if not (self.upper > self.lower).all():
            raise ValueError(
                f"preprocess turns black into {self.lower} and white into {self.upper}, expected "
                "white to be larger in each channel: omit the step that inverts the image"
            )
        self.channel_order = tuple(int(channel) for channel in shows.argmax(axis=0))
        self.relative_range = float(np.mean(self.upper - self.lower) / np.mean(1 / SQUEEZENET_STD))

    def to_input(self, pixels: Any) -> np.ndarray:
        """The model's input, float32 (N, H, W, C), for pixels (N, H, W, C) of 0..255."""
        scaled = self._black + np.asarray(pixels, np.float32) / np.float32(255 / self._range)
        return np.asarray(self._preprocess(scaled), np.float32)

    def to_pixels(self, inputs: Any) -> np.ndarray:
        """8-bit pixels, uint8 (N, H, W, C), clipped and rounded, for the model's input."""
        pixels = 255 * (np.asarray(inputs, np.float32) - self.lower) / (self.upper - self.lower)
        rounded = np.clip(pixels, 0, 255).round().astype(np.uint8)
        return rounded[..., np.argsort(self.channel_order)]
