"""What the layers inside a model return while it is called; Grad-CAM and units are read there."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from visualization.backend import keras, tf
from visualization.compilation import traced_alone

__all__ = ["LayerOutput", "is_layer", "recorded_outputs"]


class LayerOutput(NamedTuple):
    """What a layer returned.

    Attributes:
        layer: the layer.
        output: a tensor (N, ..., k), or (N, k, ...).
        channels: the axis of k.

    Example:
        >>> LayerOutput(keras.layers.Conv2D(6, 3), tf.zeros((1, 8, 9, 6)), channels=3).cells
        [1, 2]
    """

    layer: keras.layers.Layer
    output: tf.Tensor
    channels: int

    @property
    def cells(self) -> list[int]:
        """The axes of the positions."""
        return [axis for axis in range(1, self.output.shape.rank) if axis != self.channels]


@contextlib.contextmanager
def recorded_outputs(
    wanted: Callable[[keras.layers.Layer], bool], tape: tf.GradientTape | None = None
) -> Iterator[list[LayerOutput]]:
    """Records what the wanted layers return to this thread meanwhile, and lets a tape watch it.

    A Functional model could be cut at a layer instead, but not a subclassed or a nested one. The user's
    layers stay as they are: what calls any layer is wrapped, and other threads pass through. A layer
    that does not say where its channels are has them where the last one that did had them.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(name="flat")])
        >>> with recorded_outputs(is_layer("flat")) as recorded:
        ...     _ = model(tf.zeros((1, 2, 2, 3)))
        >>> recorded[0].output.shape.as_list(), recorded[0].channels
        ([1, 12], 1)
    """
    recorded: list[LayerOutput] = []
    formats: dict[int, str] = {}  # the last data format, by the number of axes
    thread = threading.get_ident()

    @functools.wraps(keras.layers.Layer.__call__)
    def recording(layer: keras.layers.Layer, *arguments: Any, **keywords: Any) -> Any:
        output = call(layer, *arguments, **keywords)
        if threading.get_ident() != thread or not tf.is_tensor(output) or not output.shape.rank:
            return output
        rank = output.shape.rank
        if stated := getattr(layer, "data_format", None):
            formats[rank] = stated
        if rank > 1 and wanted(layer):
            if tape is not None:
                tape.watch(output)
            first = rank > 2 and formats.get(rank) == "channels_first"
            recorded.append(LayerOutput(layer, output, 1 if first else rank - 1))
        return output

    with traced_alone():
        call = keras.layers.Layer.__call__
        keras.layers.Layer.__call__ = recording
        try:
            yield recorded
        finally:
            keras.layers.Layer.__call__ = call


def is_layer(layer: keras.layers.Layer | str) -> Callable[[keras.layers.Layer], bool]:
    """Whether a layer is the one that is given, or has the name that is given.

    Example:
        >>> is_layer("flat")(keras.layers.Flatten(name="flat"))
        True
    """
    return lambda one: one is layer or one.name == layer
