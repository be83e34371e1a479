"""Where a network looks: saliency maps, integrated gradients, Grad-CAM, and SmoothGrad of any of them.

All have the course's signature, (X, y, model), and return maps (N, H, W), also of images (N, C, H, W).
A model is compiled when it is first seen: after exchanging a layer or an activation of it, call
`visualization.forget(model)`.

- `compute_saliency_maps`: Simonyan, Vedaldi, Zisserman (2014), arXiv:1312.6034, section 3.
- `integrated_gradients`: Sundararajan, Taly, Yan (2017), arXiv:1703.01365.
- `grad_cam`: Selvaraju et al. (2017), arXiv:1610.02391.
- `smoothed`: Smilkov et al. (2017), "SmoothGrad", arXiv:1706.03825.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from visualization.backend import keras, tf
from visualization.compilation import BATCH_SIZE, compiled, in_batches
from visualization.gradients import (
    check_target,
    class_score,
    image_gradients,
    logits,
    logits_and_gradients,
    predict_scores,
)
from visualization.input_checks import channel_axis, check_counts, map_shape
from visualization.layer_outputs import LayerOutput, is_layer, recorded_outputs

__all__ = [
    "IntegratedGradients",
    "compute_saliency_maps",
    "grad_cam",
    "integrated_gradients",
    "smoothed",
]


def compute_saliency_maps(
    X: Any, y: Any, model: keras.Model, *, batch_size: int = BATCH_SIZE
) -> Any:
    """How strongly each pixel acts on the score of the image's class.

    M = max over channels of |d(logit of y)/dX|.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K), or as names where
            the model has `class_names` or is a bundled one; or a function from the model's output, or
            outputs, to one number for each image, (N,), such as `unit_of` and `class_over` make.
        model: any Keras model with one output of shape (N, K).
        batch_size: how many images are processed at a time; it bounds the memory.

    Returns:
        The maps, (N, H, W), never negative, of X's dtype; a tensor if X is one, else an array.

    Raises:
        ValueError: shapes that do not fit, NaN in X, pixels that are not preprocessed (detected for
            SqueezeNet), or a class that does not exist.
        TypeError: y is not of integers.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> compute_saliency_maps(np.zeros((1, 2, 2, 3)), [1], model).tolist()
        [[[0.25, 0.25], [0.25, 0.25]]]
    """
    images, labels, model = check_target(X, y, model)
    saliency = compiled(model, _build_saliency, channel_axis(images.shape))
    (maps,) = in_batches(saliency, batch_size, images, labels)
    return tf.constant(maps) if tf.is_tensor(X) else maps


def _build_saliency(
    get_model: Callable[[], keras.Model], channels: int
) -> Callable[..., tuple[tf.Tensor]]:
    @tf.function(reduce_retracing=True, autograph=False)
    def saliency(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor]:
        _, gradients = logits_and_gradients(get_model(), images, class_score(labels))
        return (tf.reduce_max(tf.abs(gradients), axis=channels),)  # (N, H, W)

    return saliency


class IntegratedGradients(NamedTuple):
    """What `integrated_gradients` returns.

    Attributes:
        maps: (N, H, W), the attributions summed over the channels; positive where a pixel speaks for
            the class.
        convergence_delta: (N,), the sum of the attributions minus (score of X - score of the
            baseline). It approaches zero as the number of steps grows; where it is large, use more.

    Example:
        >>> maps, convergence_delta = IntegratedGradients(np.ones((1, 2, 2)), np.zeros(1))
        >>> maps.shape, convergence_delta.shape
        ((1, 2, 2), (1,))
    """

    maps: np.ndarray
    convergence_delta: np.ndarray


def integrated_gradients(
    X: Any,
    y: Any,
    model: keras.Model,
    *,
    baseline: Any = 0.0,
    steps: int = 50,
    batch_size: int = BATCH_SIZE,
) -> IntegratedGradients:
    """Integrated gradients: (X - X') times the mean gradient on the straight line from X' to X.

    The integral of equation 1 is approximated by the midpoint rule; Captum's default is
    Gauss-Legendre quadrature, which gives slightly other maps for the same number of steps.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K), or as names where
            the model has `class_names` or is a bundled one; or a function from the model's output, or
            outputs, to one number for each image, (N,), such as `unit_of` and `class_over` make.
        model: any Keras model with one output of shape (N, K).
        baseline: X', anything that broadcasts to X; for SqueezeNet, 0 is the mean colour.
        steps: at how many points the gradient is taken.
        batch_size: how many points are processed at a time; it bounds the memory.

    Returns:
        The maps and the convergence delta, see `IntegratedGradients`.

    Raises:
        ValueError: shapes that do not fit, NaN in X, a class that does not exist, steps < 1.
        TypeError: y is not of integers.

    Example:
        >>> model = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.Flatten()])
        >>> result = integrated_gradients(np.float32([[[[3], [5]]]]), 1, model, steps=4)
        >>> result.maps.tolist(), result.convergence_delta.tolist()
        ([[[0.0, 5.0]]], [0.0])
    """
    X, y, model = check_target(X, y, model)
    check_counts(steps=steps, batch_size=batch_size)
    try:
        baseline = np.broadcast_to(np.asarray(baseline, X.dtype), X.shape)
    except ValueError:
        raise ValueError(
            f"the baseline has shape {np.shape(baseline)}, which does not fit images {X.shape}"
        ) from None
    fractions = ((np.arange(steps) + 0.5) / steps).astype(X.dtype)  # (S,)
    path_sum = compiled(model, _build_path_sum)
    total = np.zeros_like(X)
    for n in range(len(X)):
        for start in range(0, steps, batch_size):
            part = fractions[start : start + batch_size]
            total[n] += path_sum(X[n], baseline[n], y[n], part).numpy()
    maps = ((X - baseline) * total / steps).sum(axis=channel_axis(X.shape))

    of_class = np.arange(len(X)), y
    rise = predict_scores(model, X, batch_size=batch_size)[of_class]
    rise -= predict_scores(model, baseline, batch_size=batch_size)[of_class]
    return IntegratedGradients(maps, maps.sum(axis=(1, 2)) - rise)


def _build_path_sum(get_model: Callable[[], keras.Model]) -> Callable[..., tf.Tensor]:
    """The sum of one image's gradients over points of its path."""

    @tf.function(reduce_retracing=True, autograph=False)
    def path_sum(
        x: tf.Tensor, baseline: tf.Tensor, label: tf.Tensor, fractions: tf.Tensor
    ) -> tf.Tensor:
        points = baseline + fractions[:, None, None, None] * (x - baseline)  # (S, H, W, C)
        labels = tf.fill([tf.shape(fractions)[0]], label)
        _, gradients = logits_and_gradients(get_model(), points, class_score(labels))
        return tf.reduce_sum(gradients, axis=0)  # (H, W, C)

    return path_sum


def grad_cam(
    X: Any,
    y: Any,
    model: keras.Model,
    *,
    layer: keras.layers.Layer | str | None = None,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """Grad-CAM: a convolution's channels, weighted by their effect on the class's score.

    alpha_k = the mean over positions of d(logit of y)/dA^k (equation 1); the map is
    ReLU(sum over k of alpha_k A^k) (equation 2), resized to the image by bilinear interpolation.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K), or as names where
            the model has `class_names` or is a bundled one; or a function from the model's output, or
            outputs, to one number for each image, (N,), such as `unit_of` and `class_over` make.
        model: any Keras model with one output of shape (N, K); transfer learning
            models with a model inside work as they are (no "Graph disconnected").
        layer: the layer whose output is A, (N, h, w, k), or its name; by default, of the convolutions
            that the score depends on and that have more than one cell, h w > 1, the one that the
            model computes last, also inside nested models and layers.
        batch_size: how many images are processed at a time; it bounds the memory.

    Returns:
        The maps, (N, H, W), never negative.

    Raises:
        ValueError: as `integrated_gradients`; or the model has no such layer.
        TypeError: y is not of integers.

    Example:
        >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        >>> grad_cam(np.ones((1, 8, 8, 3)), 2, model).shape
        (1, 8, 8)
    """
    X, y, model = check_target(X, y, model)
    (maps,) = in_batches(
        compiled(model, _build_grad_cam, layer, channel_axis(X.shape)), batch_size, X, y
    )
    return maps


def _build_grad_cam(
    get_model: Callable[[], keras.Model], layer: keras.layers.Layer | str | None, channels: int
) -> Callable[..., tuple[tf.Tensor]]:
    @tf.function(reduce_retracing=True, autograph=False)
    def cam(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor]:
        model = get_model()
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            recorded_outputs(
                _is_convolution if layer is None else is_layer(layer), tape
            ) as recorded,
        ):
            score = class_score(labels)(logits(model, images))
        within = [
            one for one in recorded if one.output.graph is images.graph and len(one.cells) == 2
        ]
        # None where the score does not depend on it.
        gradients = tape.gradient(score, [one.output for one in within])
        usable = [
            (one, gradient)
            for one, gradient in zip(within, gradients, strict=True)
            if gradient is not None and (layer is not None or _has_places(one))
        ]
        if not usable:
            raise ValueError(_no_layer(model, layer, bool(within)))
        chosen, gradients = usable[-1]  # (N, h, w, k), or (N, k, h, w)
        weights = tf.reduce_mean(gradients, axis=chosen.cells, keepdims=True)  # (N, 1, 1, k)
        maps = tf.nn.relu(tf.reduce_sum(weights * chosen.output, axis=chosen.channels))  # (N, h, w)
        size = tf.shape(images)[1:3] if channels == 3 else tf.shape(images)[2:4]
        return (tf.image.resize(maps[..., tf.newaxis], size)[..., 0],)  # (N, H, W)

    return cam


def _no_layer(model: keras.Model, layer: keras.layers.Layer | str | None, computed: bool) -> str:
    """Why Grad-CAM has no layer to look at."""
    name = getattr(layer, "name", layer)
    what = "convolution" if layer is None else f"layer {name!r} with output (N, h, w, k)"
    advice = "name another with layer=..."
    if not computed:
        return (
            f"model {model.name!r} computes no {what}, or only inside a loop or a function of its own: "
            f"{advice}"
        )
    if layer is None:
        what += " of more than one cell"
    return f"the scores of model {model.name!r} depend on no {what}: {advice}"


def _has_places(one: LayerOutput) -> bool:
    """Not so of the gate of a squeeze and excitation, a convolution over one cell."""
    return any(one.output.shape[axis] != 1 for axis in one.cells)


_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


def _is_convolution(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, _CONVOLUTIONS)


def smoothed(
    method: Callable[..., Any], *, samples: int = 20, noise: float = 0.15, seed: int = 0
) -> Callable[..., np.ndarray]:
    """SmoothGrad of any attribution method: the mean of its maps over noisy copies of the image.

    Of `compute_saliency_maps` the mean is taken for each channel, and then the largest, as in
    tf-keras-vis: the mean of maxima would be larger where the noise decides which channel is largest.

    Args:
        method: `compute_saliency_maps`, `integrated_gradients`, `grad_cam`, or a function of yours
            with the arguments (X, y, model), and optionally batch_size, that returns maps (N, H, W),
            or (N, H, W, C), of whose mean the largest channel is taken.
        samples: how many noisy copies of each image.
        noise: standard deviation of the Gaussian noise, as a fraction of the image's own range
            (its largest minus its smallest value).
        seed: the same seed gives the same maps.

    Returns:
        A function of (X, y, model, *, batch_size=25, **arguments of the method) that returns the maps,
        (N, H, W). It makes and processes `batch_size` copies at a time, so that memory does not grow
        with `samples`.

    Raises:
        ValueError: samples < 1, or noise is negative or not finite.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> smoothed(compute_saliency_maps, samples=4)(np.ones((1, 2, 2, 3)), 1, model).tolist()
        [[[0.25, 0.25], [0.25, 0.25]]]
    """
    check_counts(samples=samples)
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise is {noise}, expected a fraction of the image's range, 0 or more")

    if method is compute_saliency_maps:
        method = _saliency_by_channel
    parameters = inspect.signature(method).parameters
    takes_batch_size = "batch_size" in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )

    def smooth(
        X: Any, y: Any, model: keras.Model, *, batch_size: int = BATCH_SIZE, **keywords: Any
    ) -> np.ndarray:
        X, y, model = check_target(X, y, model)
        check_counts(batch_size=batch_size)
        if takes_batch_size:
            keywords["batch_size"] = batch_size
        maps = np.zeros(map_shape(X.shape), X.dtype)
        for n, (image, label) in enumerate(zip(X, y, strict=True)):
            generator = np.random.default_rng(seed)
            sigma = noise * (image.max() - image.min())
            total: Any = 0
            for start in range(0, samples, batch_size):
                count = min(batch_size, samples - start)
                noisy = generator.standard_normal((count, *image.shape), dtype=X.dtype)
                noisy *= sigma
                noisy += image
                result = method(noisy, label, model, **keywords)
                total = total + np.sum(result[0] if isinstance(result, tuple) else result, axis=0)
            if total.ndim == 3:  # gradients
                total = total.max(axis=channel_axis(X.shape) - 1)
            maps[n] = total / samples
        return maps

    return smooth


def _saliency_by_channel(
    X: np.ndarray, y: Any, model: keras.Model, *, batch_size: int
) -> np.ndarray:
    """|d(logit of y)/dX|, (N, H, W, C)."""
    gradients, _ = image_gradients(X, y, model, batch_size=batch_size)
    return np.abs(gradients)
