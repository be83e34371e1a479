"""What can be explained beside a class: a function of the outputs, a unit, a class over a mask.

Wherever `y` is asked for, it may be a function from what the model returns to one number for each
image, (N,): of probabilities, where it ends in a softmax. Two are made here: `unit_of` reads a layer
inside the model, `class_over` a segmentation.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.input_checks import check_model
from visualization.layer_outputs import is_layer, recorded_outputs
from visualization.outputs import read_outputs

__all__ = ["Scored", "class_over", "unit_of"]


def unit_of(layer: keras.layers.Layer | str, channel: int) -> Callable[..., tf.Tensor]:
    """A target that is a channel of a layer inside the model: give it as `y`.

    It is what the layer returns, after its own activation: a unit of a dense layer, or the mean of a
    channel over all positions. `create_class_visualization` and `paint_class` draw what excites it.
    Where a ReLU keeps it at zero everywhere, it has no gradient.

    Args:
        layer: a layer of the model, also of one inside it, or its name. Of a layer that is called
            several times, the last call counts.
        channel: from 0; of (N, K), (N, h, w, K), or (N, K, h, w) in a model with channels first.

    Raises:
        TypeError: the layer is neither a layer nor a name, or the channel is not an integer.
        ValueError: the channel is negative. When it is used: the model computes no such layer, or
            one without such a channel.

    Example:
        >>> from visualization import image_gradients
        >>> layers = [keras.layers.Conv2D(2, 1, kernel_initializer="ones", name="inner")]
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), *layers, keras.layers.Flatten()])
        >>> gradients, values = image_gradients(np.ones((1, 2, 2, 3)), unit_of("inner", 1), model)
        >>> values.tolist(), gradients[0, 0, 0].tolist()
        ([[3.0]], [0.25, 0.25, 0.25])
    """
    if not isinstance(layer, keras.layers.Layer | str):
        raise TypeError(
            f"the layer is of type {type(layer).__name__}, expected a Keras layer or its name"
        )
    _check_index("channel", channel)
    return _Unit(layer, int(channel))


def class_over(mask: Any, label: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A target that is a class of a segmentation, over a part of the picture: give it as `y`.

    It is the mean of the class's scores over the mask, of the logits where the model ends in a softmax
    or a sigmoid. Vinogradova, Dibrov, Myers (2020), "SEG-GRAD-CAM", arXiv:2002.11434, take the sum.

    Args:
        mask: bool, or 0 and 1, (h, w), of the size of the model's output; the same for all images.
        label: the class, a channel of the output, (N, h, w, K) or (N, K, h, w).

    Raises:
        TypeError: the class is not an integer.
        ValueError: the mask is not of this form or empty, or the class is negative. When it is used:
            the output has another size, or no such class.

    Example:
        >>> from visualization import image_gradients
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Softmax()])
        >>> left = class_over([[1, 0], [1, 0]], label=2)
        >>> gradients, _ = image_gradients(np.zeros((1, 2, 2, 3)), left, model)
        >>> gradients[0, :, :, 2].tolist(), gradients[0, 0, 0].tolist()
        ([[0.5, 0.0], [0.5, 0.0]], [0.0, 0.0, 0.5])
    """
    weights = np.asarray(mask)
    if weights.ndim != 2 or not np.isin(weights, (0, 1)).all() or not weights.any():
        raise ValueError(
            f"the mask is {weights.dtype} {weights.shape}, expected bool (h, w), true somewhere"
        )
    _check_index("class", label)
    places = np.flatnonzero(weights)

    def score(outputs: tf.Tensor) -> tf.Tensor:
        shape = getattr(outputs, "shape", ())
        last = len(shape) == 4 and tuple(shape[1:3]) == weights.shape
        if not last and not (len(shape) == 4 and tuple(shape[2:4]) == weights.shape):
            raise ValueError(
                f"the model's output is {shape or type(outputs).__name__}, which does not fit a mask "
                f"of {weights.shape}"
            )
        _check_channel("the model's output", label, shape[3 if last else 1])
        scores = read_outputs(outputs).scores  # (N, h, w, K)
        of_class = scores[..., label] if last else scores[:, label]
        flat = tf.reshape(of_class, (-1, weights.size))  # (N, h w)
        return tf.reduce_mean(tf.gather(flat, places, axis=1), axis=1)

    return score


class Scored(keras.Model):
    """A model whose one score is a function of another's outputs; it takes the same images.

    Args:
        model: any Keras model, also of several outputs.
        score: what the model returns -> one number for each image, (N,) or (N, 1); or a unit.

    Raises:
        ValueError: in `call`, if the score has another shape.

    Example:
        >>> inner = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten()])
        >>> difference = Scored(inner, lambda outputs: outputs[:, 0] - outputs[:, 1])
        >>> difference(tf.constant([[[[5.0, 2.0, 0.0]]]])).numpy().tolist()
        [[3.0]]
    """

    def __init__(self, model: keras.Model, score: Callable[..., Any]) -> None:
        super().__init__(name=model.name, autocast=False)  # float64 stays so
        self.model, self.score = model, score

    @property
    def input_shape(self) -> Any:
        return self.model.input_shape

    @property
    def output_shape(self) -> tuple[None, int]:
        return None, 1

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        if isinstance(self.score, _Unit):
            return self.score.read(self.model, images)
        scores = tf.convert_to_tensor(self.score(self.model(images, training=training)))
        if scores.shape.rank != 1 and scores.shape[1:] != (1,):
            raise ValueError(
                f"y returned shape {scores.shape}, expected one number for each image, (N,)"
            )
        return tf.reshape(scores, (-1, 1))


@dataclass(frozen=True)
class _Unit:
    """A channel of a layer; callable, as what `y` may be."""

    layer: keras.layers.Layer | str
    channel: int

    def __call__(self, model: keras.Model, images: tf.Tensor) -> tf.Tensor:
        return self.read(model, images)[:, 0]

    def read(self, model: keras.Model, images: tf.Tensor) -> tf.Tensor:
        """The channel's mean over the positions, (N, 1)."""
        check_model(model)
        images = tf.identity(images)  # in the graph at hand, as in a branch of `tf.cond`
        with recorded_outputs(is_layer(self.layer)) as recorded:
            model(images, training=False)
        graph = getattr(images, "graph", None)
        within = [one for one in recorded if getattr(one.output, "graph", None) is graph]
        name = getattr(self.layer, "name", self.layer)
        if not within:
            raise ValueError(_no_layer(model, name))
        _, output, channels = within[-1]
        _check_channel(f"layer {name!r}", self.channel, output.shape[channels])
        channel = tf.gather(output, self.channel, axis=channels)  # (N, ...)
        return tf.reduce_mean(tf.reshape(channel, (tf.shape(images)[0], -1)), axis=1, keepdims=True)


def _check_index(what: str, index: Any) -> None:
    if not isinstance(index, int | np.integer) or isinstance(index, bool):
        raise TypeError(f"the {what} is {index!r}, expected an integer")
    if index < 0:
        raise ValueError(f"the {what} is {index}, expected 0 or more")


def _check_channel(what: str, channel: int, count: int | None) -> None:
    if count is not None and channel >= count:
        raise ValueError(f"{what} has channels 0 to {count - 1}, but {channel} is asked for")


def _no_layer(model: keras.Model, name: str) -> str:
    names = [one.name for one in model._flatten_layers(include_self=False)]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0) or ["none that have a name"]
    return (
        f"model {model.name!r} computes no layer {name!r}, or only inside a loop or a function of its "
        f"own: the nearest names are {', '.join(near)}"
    )
