"""Models that take channels first, (N, C, H, W), served by functions that work on (N, H, W, C)."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from visualization.backend import keras, tf
from visualization.compilation import GetModel, compiled
from visualization.input_checks import channel_axis, names_of

__all__ = ["also_channels_first"]

Function = TypeVar("Function", bound=Callable[..., Any])


def also_channels_first(function: Function) -> Function:
    """Lets a function of images (N, H, W, C) serve models of (N, C, H, W), in their layout.

    Args:
        function: it has arguments `model` and `preprocess`, and `images` or else `image_shape` and
            `on_frame`; it returns images, or a dataclass with `images`. All that passes between it and
            its caller, also what `preprocess` gets and makes, is then in the model's layout.

    Example:
        >>> @also_channels_first
        ... def white(model, *, preprocess=None, image_shape=None):
        ...     return np.ones((1, *image_shape))
        >>> white(keras.Sequential(), image_shape=(3, 8, 9)).shape
        (1, 3, 8, 9)
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def either(*arguments: Any, **keywords: Any) -> Any:
        given = signature.bind(*arguments, **keywords)
        values = given.arguments
        if not _come_first(values):
            return function(*arguments, **keywords)
        model = values["model"]
        values["model"] = compiled(model, _ChannelsLast)
        if preprocess := values.get("preprocess"):
            values["preprocess"] = lambda pixels: _last(preprocess(_first(pixels)))
        if on_frame := values.get("on_frame"):
            values["on_frame"] = lambda done, images: on_frame(done, _first(images))
        if "images" in values:
            values["images"] = _last(values["images"])
        else:
            channels, height, width = values.get("image_shape") or model.input_shape[1:]
            values["image_shape"] = height, width, channels
        made = function(*given.args, **given.kwargs)
        if isinstance(made, np.ndarray):
            return _first(made)
        return dataclasses.replace(made, images=_first(made.images))

    return either  # type: ignore[return-value]


def _come_first(values: dict[str, Any]) -> bool:
    """Whether the channels of the images, or of the model's input, are on axis 1."""
    if not isinstance(values["model"], keras.Model):
        return False  # which the function refuses
    if "images" in values:
        shape = np.shape(values["images"])
    elif shape := values.get("image_shape"):
        shape = (None, *shape)
    else:
        shape = getattr(values["model"], "input_shape", None)
    return isinstance(shape, tuple) and len(shape) == 4 and channel_axis(shape) == 1


def _last(images: Any) -> np.ndarray:
    return np.moveaxis(np.asarray(images), 1, 3)


def _first(images: Any) -> np.ndarray:
    return np.moveaxis(np.asarray(images), 3, 1)


class _ChannelsLast(keras.Model):
    """A model of (N, C, H, W) that takes (N, H, W, C); it does not keep that model alive."""

    def __init__(self, get_model: GetModel) -> None:
        model = get_model()
        super().__init__(name=model.name, autocast=False)  # float64 stays so
        self.get_model, self.class_names = get_model, names_of(model)

    @property
    def input_shape(self) -> Any:
        theirs = getattr(self.get_model(), "input_shape", None)
        if not isinstance(theirs, tuple):
            return None
        batch, channels, height, width = theirs
        return batch, height, width, channels

    def call(self, images: tf.Tensor, training: bool = False) -> Any:
        return self.get_model()(tf.transpose(images, (0, 3, 1, 2)), training=training)
