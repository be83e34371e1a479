"""Where a network looks: saliency maps, integrated gradients, and SmoothGrad of any method.

All have the course's signature, (X, y, model), and return maps (N, H, W), also of images (N, C, H, W).
A model is compiled when it is first seen: after exchanging a layer or an activation of it, call
`visualization.forget(model)`.

- `compute_saliency_maps`: Simonyan, Vedaldi, Zisserman (2014), arXiv:1312.6034, section 3.
- `integrated_gradients`: Sundararajan, Taly, Yan (2017), arXiv:1703.01365.
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
    logits_and_gradients,
    predict_scores,
)
from visualization.input_checks import channel_axis, check_baseline, check_counts, map_shape

__all__ = [
    "IntegratedGradients",
    "compute_saliency_maps",
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
    baseline = check_baseline(baseline, X)
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
