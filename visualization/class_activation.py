"""Where a network looks, seen in the output of one of its layers: Grad-CAM, HiResCAM and LayerCAM.

They differ in how the layer's channels are weighted.

- "grad-cam": Selvaraju et al. (2017), arXiv:1610.02391.
- "hirescam": Draelos, Carin (2020), arXiv:2011.08891.
- "layercam": Jiang et al. (2021), "LayerCAM: Exploring hierarchical class activation maps for
  localization", IEEE Transactions on Image Processing 30.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from visualization.backend import keras, tf
from visualization.compilation import BATCH_SIZE, compiled, in_batches
from visualization.gradients import check_target, class_score, logits
from visualization.input_checks import map_shape
from visualization.layer_outputs import LayerOutput, is_layer, recorded_outputs
from visualization.tokens import TokenGrid, attention_scores, token_grid

__all__ = ["grad_cam"]

# d(score)/dA (N, h, w, k) -> the weights of A, of a shape that broadcasts to A's.
_WEIGHTINGS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "grad-cam": lambda gradients: tf.reduce_mean(gradients, axis=(1, 2), keepdims=True),
    "hirescam": tf.identity,
    "layercam": tf.nn.relu,
}


def grad_cam(
    X: Any,
    y: Any,
    model: keras.Model,
    *,
    layer: keras.layers.Layer | str | None = None,
    weighting: str | None = None,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """Grad-CAM: a convolution's channels, weighted by their effect on the class's score.

    alpha_k = the mean over positions of d(logit of y)/dA^k (equation 1); the map is
    ReLU(sum over k of alpha_k A^k) (equation 2), resized to the image by bilinear interpolation.
    HiResCAM weights each position by its own gradient instead of the mean, and so marks only places
    that raise the score; LayerCAM by what is positive of it, and can look at early layers as well.
    Before an average over the positions, HiResCAM and Grad-CAM are the same. In a transformer whose
    class token is read they are not: its attention to some cells is at the cost of the others, and the
    mean of their gradients says little. So a layer of tokens is weighted as HiResCAM does. Where
    earlier attention has already moved to a token what another cell showed, its place misleads: an
    earlier layer tells the places rightly, and so does `attention_rollout`.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K), or as names where
            the model has `class_names` or is a bundled one; or a function from the model's output, or
            outputs, to one number for each image, (N,), such as `unit_of` and `class_over` make.
        model: any Keras model with one output of shape (N, K); transfer learning
            models with a model inside work as they are (no "Graph disconnected").
        layer: the layer whose output is A, or its name: (N, h, w, k), or (N, tokens, k), of which the
            tokens that stand for the image's cells are looked at. By default, of the convolutions and
            layers of tokens with more than one cell, h w > 1, through which the score depends on the
            image, the one that the model computes last, also inside nested models and layers; in a
            transformer, last before its last attention, after which cells hold what came from others.
        weighting: "grad-cam", "hirescam" or "layercam"; by default the first, for a layer of tokens
            the second.
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
    if weighting is not None and weighting not in _WEIGHTINGS:
        raise ValueError(f"weighting is {weighting!r}, expected one of {', '.join(_WEIGHTINGS)}")
    X, y, model = check_target(X, y, model)
    cam = compiled(model, _build_cam, layer, weighting, X.shape[1:])
    (maps,) = in_batches(cam, batch_size, X, y)
    if len(maps) != len(X):
        name = getattr(layer, "name", layer)
        raise ValueError(f"layer {name!r} computes windows of the images, expected whole images")
    return maps


def _build_cam(
    get_model: Callable[[], keras.Model],
    layer: keras.layers.Layer | str | None,
    weighting: str | None,
    shape: tuple[int, int, int],
) -> Callable[..., tuple[tf.Tensor]]:
    size = map_shape((1, *shape))[1:]

    @tf.function(reduce_retracing=True, autograph=False)
    def cam(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor]:
        found = _layers_on_the_way(get_model(), images, class_score(labels), layer, size)
        recorded, gradients = found[-1]
        if not recorded.is_image:
            recorded, gradients = found[_last_reached(get_model, layer, shape)]
        activations = recorded.on_grid(recorded.output)  # (N, h, w, k)
        name = weighting or ("hirescam" if recorded.grid else "grad-cam")
        weights = _WEIGHTINGS[name](recorded.on_grid(gradients))
        maps = tf.nn.relu(tf.reduce_sum(weights * activations, axis=3))  # (N, h, w)
        return (tf.image.resize(maps[..., tf.newaxis], size)[..., 0],)  # (N, H, W)

    return cam


def _last_reached(
    get_model: Callable[[], keras.Model],
    layer: keras.layers.Layer | str | None,
    shape: tuple[int, int, int],
) -> int:
    """Which of the layers on the way is the last through whose cells the score reaches the image.

    The gradient of a class token's score is zero at the last layers' other tokens; and windows of
    attention look like images, of which there are more. That is seen in noise, of two images.
    """
    size = map_shape((1, *shape))[1:]

    @tf.function(autograph=False)
    def reached(images: tf.Tensor) -> list[tf.Tensor]:
        sum_of_scores = functools.partial(tf.reduce_sum, axis=1)
        found = _layers_on_the_way(get_model(), images, sum_of_scores, layer, size)
        return [
            tf.reduce_any(recorded.on_grid(gradients) != 0)
            & (tf.shape(recorded.output)[0] == tf.shape(images)[0])
            for recorded, gradients in found
        ]

    with tf.init_scope():  # this graph is traced and run while another one is traced
        noise = np.random.default_rng(0).random((2, *shape), np.float32)
        through = np.flatnonzero(reached.get_concrete_function(noise)(noise))
    if not len(through):
        raise ValueError(_no_layer(get_model(), layer, computed=True))
    return int(through[-1])


def _layers_on_the_way(
    model: keras.Model,
    images: tf.Tensor,
    objective: Callable[[tf.Tensor], tf.Tensor],
    layer: keras.layers.Layer | str | None,
    size: tuple[int, ...],
) -> list[tuple["_Recorded", tf.Tensor]]:
    """The layers that the objective depends on, in the order of computation, and d(objective)/dA."""
    wanted = (lambda _: True) if layer is None else is_layer(layer)
    with recorded_outputs(wanted) as outputs:
        score = objective(logits(model, images))
    recorded = (_on_the_image(one, layer is not None, size) for one in outputs)
    within = [one for one in recorded if one and one.output.graph is images.graph]
    # Not a tape, which stands still in `tf.init_scope`.
    gradients = tf.gradients(score, [one.output for one in within])
    found = [
        (one, gradient)
        for one, gradient in zip(within, gradients, strict=True)
        if gradient is not None and (layer is not None or one.has_places())
    ]
    if not found:
        raise ValueError(_no_layer(model, layer, bool(within)))
    if layer is not None or found[-1][0].is_image:
        return found
    return _before_the_last_attention(found, score)


def _before_the_last_attention(
    found: list[tuple["_Recorded", tf.Tensor]], score: tf.Tensor
) -> list[tuple["_Recorded", tf.Tensor]]:
    """The layers that it looks at: after it, each cell's token holds what it has taken from others."""
    attentions = attention_scores(score.graph)
    depends = [gradient is not None for gradient in tf.gradients(score, attentions)]
    if not any(depends):
        return found
    last = [one for one, used in zip(attentions, depends, strict=True) if used][-1]
    looked_at = tf.gradients(last, [one.output for one, _ in found])
    return [one for one, seen in zip(found, looked_at, strict=True) if seen is not None] or found


class _Recorded(NamedTuple):
    """What a layer returned, and how its values lie on the image."""

    output: tf.Tensor  # (N, h, w, k), (N, k, h, w) or (N, tokens, k)
    channels_first: bool
    grid: TokenGrid | None
    is_image: bool  # what else there is may be windows, or have no effect on the score

    def on_grid(self, values: tf.Tensor) -> tf.Tensor:
        """The output, or its gradient, as (N, h, w, k)."""
        if self.grid:
            shape = (-1, self.grid.height, self.grid.width, values.shape[2])
            return tf.reshape(values[:, self.grid.others :], shape)
        return tf.transpose(values, (0, 2, 3, 1)) if self.channels_first else values

    def has_places(self) -> bool:
        """Not so of the gate of a squeeze and excitation, a convolution over one cell."""
        if self.grid:
            return True
        cells = (2, 3) if self.channels_first else (1, 2)
        return any(self.output.shape[axis] != 1 for axis in cells)


def _no_layer(model: keras.Model, layer: keras.layers.Layer | str | None, computed: bool) -> str:
    """Why Grad-CAM has no layer to look at."""
    what = "convolution or layer of tokens"
    if layer is not None:
        what = f"layer {getattr(layer, 'name', layer)!r} with output (N, h, w, k) or (N, tokens, k)"
    advice = "name another with layer=..."
    if not computed:
        return (
            f"model {model.name!r} computes no {what}, or only inside a loop or a function of its own: "
            f"{advice}"
        )
    what += " of more than one cell" if layer is None else " at the image's cells"
    return f"the scores of model {model.name!r} depend on no {what}: {advice}"


_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
# Of tokens that lie as (N, h, w, k): what transformers end in, and convolutional networks do not.
_OF_EACH_CELL = (keras.layers.Dense, keras.layers.LayerNormalization)


def _on_the_image(one: LayerOutput, named: bool, size: tuple[int, ...]) -> _Recorded | None:
    """How what a layer returned lies on the image, if it does; a layer that was named may be any."""
    is_image = named or isinstance(one.layer, _CONVOLUTIONS)
    shape = one.output.shape
    if shape.rank == 4 and (is_image or isinstance(one.layer, _OF_EACH_CELL)):
        return _Recorded(one.output, one.channels == 1, None, is_image)
    if shape.rank == 3 and shape[1] and shape[2] != 1 and (grid := token_grid(shape[1], *size)):
        return _Recorded(one.output, False, grid, False)
    return None
