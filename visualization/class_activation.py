"""Where a network looks, seen in the output of one of its layers: Grad-CAM, HiResCAM and LayerCAM.

They differ in how the layer's channels are weighted.

- "grad-cam": Selvaraju et al. (2017), arXiv:1610.02391.
- "hirescam": Draelos, Carin (2020), arXiv:2011.08891.
- "layercam": Jiang et al. (2021), "LayerCAM: Exploring hierarchical class activation maps for
  localization", IEEE Transactions on Image Processing 30.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from visualization.backend import keras, tf
from visualization.gradients import (
    BATCH_SIZE,
    check_target,
    class_score,
    compiled,
    in_batches,
    logits,
    traced_alone,
)
from visualization.input_checks import channel_axis

__all__ = ["grad_cam"]

# d(score)/dA and the axes of the cells -> the weights of A, of a shape that broadcasts to A's.
_WEIGHTINGS: dict[str, Callable[[tf.Tensor, tuple[int, int]], tf.Tensor]] = {
    "grad-cam": lambda gradients, cells: tf.reduce_mean(gradients, axis=cells, keepdims=True),
    "hirescam": lambda gradients, cells: gradients,
    "layercam": lambda gradients, cells: tf.nn.relu(gradients),
}


def grad_cam(
    X: Any,
    y: Any,
    model: keras.Model,
    *,
    layer: str | None = None,
    weighting: str = "grad-cam",
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """Grad-CAM: a convolution's channels, weighted by their effect on the class's score.

    alpha_k = the mean over positions of d(logit of y)/dA^k (equation 1); the map is
    ReLU(sum over k of alpha_k A^k) (equation 2), resized to the image by bilinear interpolation.
    HiResCAM weights each position by its own gradient instead of the mean, and so marks only places
    that raise the score; LayerCAM by what is positive of it, and can look at early layers as well.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K); or a function from
            the model's output, or outputs, to one number for each image, (N,).
        model: any Keras model with one output of shape (N, K); transfer learning
            models with a model inside work as they are (no "Graph disconnected").
        layer: the name of the layer whose output is A, (N, h, w, k); by default, of the convolutions
            that the score depends on and that have more than one cell, h w > 1, the one that the
            model computes last, also inside nested models and layers.
        weighting: "grad-cam", "hirescam" or "layercam".
        batch_size: how many images are processed at a time; it bounds the memory.

    Returns:
        The maps, (N, H, W), never negative.

    Raises:
        ValueError: as `integrated_gradients`; the model has no such layer; or there is no such
            weighting.
        TypeError: y is not of integers.

    Example:
        >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        >>> grad_cam(np.ones((1, 8, 8, 3)), 2, model).shape
        (1, 8, 8)
    """
    if weighting not in _WEIGHTINGS:
        raise ValueError(f"weighting is {weighting!r}, expected one of {', '.join(_WEIGHTINGS)}")
    X, y, model = check_target(X, y, model)
    cam = compiled(model, _build_cam, layer, weighting, channel_axis(X.shape))
    (maps,) = in_batches(cam, batch_size, X, y)
    return maps


def _build_cam(
    get_model: Callable[[], keras.Model], layer: str | None, weighting: str, channels: int
) -> Callable[..., tuple[tf.Tensor]]:
    @tf.function(reduce_retracing=True, autograph=False)
    def cam(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor]:
        model = get_model()
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            _recorded_outputs(tape, layer) as recorded,
        ):
            score = class_score(labels)(logits(model, images))
        within = [one for one in recorded if one.output.graph is images.graph]
        # None where the score does not depend on it.
        gradients = tape.gradient(score, [one.output for one in within])
        usable = [
            (one, gradient)
            for one, gradient in zip(within, gradients, strict=True)
            if gradient is not None and (layer is not None or one.has_places())
        ]
        if not usable:
            raise ValueError(_no_layer(model, layer, bool(within)))
        (activations, cells), gradients = usable[-1]  # (N, h, w, k), or (N, k, h, w)
        weights = _WEIGHTINGS[weighting](gradients, cells)
        (last,) = {1, 2, 3} - {*cells}
        maps = tf.nn.relu(tf.reduce_sum(weights * activations, axis=last))  # (N, h, w)
        size = tf.shape(images)[1:3] if channels == 3 else tf.shape(images)[2:4]
        return (tf.image.resize(maps[..., tf.newaxis], size)[..., 0],)  # (N, H, W)

    return cam


class _Recorded(NamedTuple):
    """What a layer returned, and the axes of its cells."""

    output: tf.Tensor
    cells: tuple[int, int]

    def has_places(self) -> bool:
        """Not so of the gate of a squeeze and excitation, a convolution over one cell."""
        return any(self.output.shape[axis] != 1 for axis in self.cells)


def _no_layer(model: keras.Model, layer: str | None, computed: bool) -> str:
    """Why Grad-CAM has no layer to look at."""
    what = "convolution" if layer is None else f"layer {layer!r} with output (N, h, w, k)"
    advice = "name another with layer=..."
    if not computed:
        return (
            f"model {model.name!r} computes no {what}, or only inside a loop or a function of its own: "
            f"{advice}"
        )
    if layer is None:
        what += " of more than one cell"
    return f"the scores of model {model.name!r} depend on no {what}: {advice}"


_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


@contextlib.contextmanager
def _recorded_outputs(tape: tf.GradientTape, name: str | None) -> Iterator[list[_Recorded]]:
    """Records and watches what the convolutions (or the named layer) return to this thread meanwhile.

    A Functional model could be cut at a layer instead, but not a subclassed or a nested one. The user's
    layers stay as they are: what calls any layer is wrapped, and other threads pass through.
    """
    recorded: list[_Recorded] = []
    thread = threading.get_ident()

    @functools.wraps(keras.layers.Layer.__call__)
    def recording(layer: keras.layers.Layer, *arguments: Any, **keywords: Any) -> Any:
        output = call(layer, *arguments, **keywords)
        wanted = isinstance(layer, _CONVOLUTIONS) if name is None else layer.name == name
        images = tf.is_tensor(output) and output.shape.rank == 4
        if wanted and images and threading.get_ident() == thread:
            tape.watch(output)
            first = getattr(layer, "data_format", None) == "channels_first"
            recorded.append(_Recorded(output, (2, 3) if first else (1, 2)))
        return output

    with traced_alone():
        call = keras.layers.Layer.__call__
        keras.layers.Layer.__call__ = recording
        try:
            yield recorded
        finally:
            keras.layers.Layer.__call__ = call
