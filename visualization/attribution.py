"""Attribution methods beside the saliency map, with its signature: (X, y, model, ...).

- `integrated_gradients`: Sundararajan, Taly, Yan (2017), arXiv:1703.01365.
- `grad_cam`: Selvaraju et al. (2017), arXiv:1610.02391.
- `smoothed`: Smilkov et al. (2017), "SmoothGrad", arXiv:1706.03825; works around any of them.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from visualization.backend import keras, tf
from visualization.gradients import (
    BATCH_SIZE,
    class_count,
    class_score,
    compiled,
    in_chunks,
    logits,
    predict_scores,
    scores_and_gradients,
)
from visualization.input_checks import check_batch_size, check_images, check_labels

CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


def compute_saliency_maps(X: Any, y: Any, model: keras.Model, batch_size: int = 25) -> Any:
    """How strongly each pixel acts on the score of the image's class.

    M = max over channels of |d score_y / d X|, with the raw score, before any softmax.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes.
        model: any Keras model with one output of shape (N, K).
        batch_size: how many images are worked on at a time; it bounds the memory.

    Returns:
        The maps, (N, H, W), never negative, of X's dtype; a tensor if X is one, else an array.

    Raises:
        ValueError: shapes that do not fit, NaN in X, pixels that are not preprocessed (detected for
            SqueezeNet), or a class that does not exist.
        TypeError: y is not of integers.
    """
    images = check_images(model, X)
    labels = check_labels(y, len(images), class_count(model, images))
    (maps,) = in_chunks(compiled(model, _build_maps), batch_size, images, labels)
    return tf.constant(maps) if tf.is_tensor(X) else maps


def _build_maps(get_model: Callable[[], keras.Model]) -> Callable[..., tuple[tf.Tensor]]:
    @tf.function(reduce_retracing=True, autograph=False)
    def saliency(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor]:
        _, gradients = scores_and_gradients(get_model(), images, class_score(labels))
        return (tf.reduce_max(tf.abs(gradients), axis=-1),)  # (N, H, W)

    return saliency


class IntegratedGradients(NamedTuple):
    """What `integrated_gradients` returns.

    Attributes:
        maps: (N, H, W), the attributions summed over the channels; positive where a pixel speaks for
            the class.
        convergence_delta: (N,), sum of the attributions - (score of X - score of the baseline). It goes to zero as
            the number of steps grows; where it is not small, take more steps.
    """

    maps: np.ndarray
    convergence_delta: np.ndarray


def integrated_gradients(
    X: Any,
    y: Any,
    model: keras.Model,
    baseline: Any = 0.0,
    steps: int = 50,
    batch_size: int = BATCH_SIZE,
) -> IntegratedGradients:
    """Integrated gradients: (X - X') times the mean gradient on the way from X' to X.

    The integral of equation 1 is taken by the midpoint rule.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes.
        model: any Keras model with one output of shape (N, K).
        baseline: X', anything that broadcasts to X; for SqueezeNet, 0 is the mean colour.
        steps: at how many points the gradient is taken.
        batch_size: how many points are worked on at a time; it bounds the memory.

    Returns:
        The maps and the completeness gap, see `IntegratedGradients`.

    Raises:
        ValueError: shapes that do not fit, NaN in X, a class that does not exist, steps < 1.
        TypeError: y is not of integers.
    """
    X = check_images(model, X)
    y = check_labels(y, len(X), class_count(model, X))
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected a positive integer")
    check_batch_size(batch_size)
    try:
        baseline = np.broadcast_to(np.asarray(baseline, X.dtype), X.shape)
    except ValueError:
        raise ValueError(
            f"the baseline has shape {np.shape(baseline)}, which does not fit images {X.shape}"
        ) from None
    way = ((np.arange(steps) + 0.5) / steps).astype(X.dtype)  # (S,)
    path_sum = compiled(model, _build_path_sum)
    total = np.zeros_like(X)
    for n in range(len(X)):
        for start in range(0, steps, batch_size):
            part = way[start : start + batch_size]
            total[n] += path_sum(X[n], baseline[n], y[n], part).numpy()
    maps = ((X - baseline) * total / steps).sum(axis=-1)

    rows = np.arange(len(X))
    rise = predict_scores(model, X, batch_size)[rows, y]
    rise -= predict_scores(model, baseline, batch_size)[rows, y]
    return IntegratedGradients(maps, maps.sum(axis=(1, 2)) - rise)


def _build_path_sum(get_model: Callable[[], keras.Model]) -> Callable[..., tf.Tensor]:
    @tf.function(reduce_retracing=True, autograph=False)
    def path_sum(x: tf.Tensor, baseline: tf.Tensor, label: tf.Tensor, way: tf.Tensor) -> tf.Tensor:
        points = baseline + way[:, None, None, None] * (x - baseline)  # (S, H, W, C)
        labels = tf.fill([tf.shape(way)[0]], label)
        _, gradients = scores_and_gradients(get_model(), points, class_score(labels))
        return tf.reduce_sum(gradients, axis=0)  # (H, W, C)

    return path_sum


def grad_cam(
    X: Any,
    y: Any,
    model: keras.Model,
    layer: str | None = None,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """Grad-CAM: the channels of a convolution, weighted by what they do for the class.

    alpha_k = the mean over positions of d score_y / d A^k (equation 1); the map is
    ReLU(sum over k of alpha_k A^k) (equation 2), resized to the image by bilinear interpolation.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes.
        model: any Keras model with one output of shape (N, K).
        layer: the name of the layer whose output is A, (N, h, w, k); by default the convolution that
            the model computes last, also inside models and layers within it.
        batch_size: how many images are worked on at a time; it bounds the memory.

    Returns:
        The maps, (N, H, W), never negative.

    Raises:
        ValueError: as `integrated_gradients`; or the model has no such layer.
        TypeError: y is not of integers.
    """
    X = check_images(model, X)
    y = check_labels(y, len(X), class_count(model, X))
    (maps,) = in_chunks(compiled(model, _build_grad_cam, layer), batch_size, X, y)
    return maps


def _build_grad_cam(
    get_model: Callable[[], keras.Model], layer: str | None
) -> Callable[..., tuple[tf.Tensor]]:
    @tf.function(reduce_retracing=True, autograph=False)
    def cam(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor]:
        model = get_model()
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            _outputs(model, layer) as seen,
        ):
            tape.watch(images)
            score = class_score(labels)(logits(model, images))
        if not seen:
            what = "convolution" if layer is None else f"layer {layer!r} with output (N, h, w, k)"
            raise ValueError(
                f"model {model.name!r} computes no {what}: name another with layer=..."
            )
        activations = seen[-1]  # (N, h, w, k)
        gradients = tape.gradient(
            score, activations, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)  # (N, 1, 1, k)
        maps = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1, keepdims=True))
        return (tf.image.resize(maps, tf.shape(images)[1:3])[..., 0],)  # (N, H, W)

    return cam


@contextlib.contextmanager
def _outputs(model: keras.Model, name: str | None) -> Iterator[list[tf.Tensor]]:
    """Collects, while the model is traced, what the convolutions (or the named layer) return.

    A Functional model could be cut at a layer, but not a subclassed one, nor one inside another.
    """
    seen: list[tf.Tensor] = []

    def listen(layer: keras.layers.Layer) -> None:
        call = layer.call

        def listening(*arguments: Any, **keywords: Any) -> Any:
            output = call(*arguments, **keywords)
            if tf.is_tensor(output) and output.shape.rank == 4:
                seen.append(output)
            return output

        layer.call = listening

    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if (isinstance(layer, CONVOLUTIONS) if name is None else layer.name == name)
    ]
    for layer in layers:
        listen(layer)
    try:
        yield seen
    finally:
        for layer in layers:
            del layer.call


def smoothed(
    method: Callable[..., Any], samples: int = 20, noise: float = 0.15, seed: int = 0
) -> Callable[..., np.ndarray]:
    """SmoothGrad of any attribution method: the mean of its maps over noisy copies of the image.

    Args:
        method: `compute_saliency_maps`, `integrated_gradients`, `grad_cam`, or a function of yours
            with the arguments (X, y, model), and batch_size if it likes, that returns maps (N, H, W).
        samples: how many noisy copies of each image.
        noise: standard deviation of the Gaussian noise, as a share of the image's own range
            (its largest minus its smallest value).
        seed: the same seed gives the same maps.

    Returns:
        A function of (X, y, model, batch_size=25, **arguments of the method) that returns the maps,
        (N, H, W). Copies are made and worked on `batch_size` at a time, so that memory does not grow
        with `samples`.

    Raises:
        ValueError: samples < 1, or noise is negative or not finite.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}, expected a positive integer")
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise is {noise}, expected a share of the image's range, 0 or more")

    parameters = inspect.signature(method).parameters
    takes_batch_size = "batch_size" in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )

    def smooth(
        X: Any, y: Any, model: keras.Model, batch_size: int = BATCH_SIZE, **keywords: Any
    ) -> np.ndarray:
        X = check_images(model, X)
        y = check_labels(y, len(X), class_count(model, X))
        check_batch_size(batch_size)
        if takes_batch_size:
            keywords["batch_size"] = batch_size
        maps = np.zeros(X.shape[:3], X.dtype)
        for n, (image, label) in enumerate(zip(X, y, strict=True)):
            generator = np.random.default_rng(seed)
            sigma = noise * (image.max() - image.min())
            for start in range(0, samples, batch_size):
                count = min(batch_size, samples - start)
                noisy = generator.standard_normal((count, *image.shape), dtype=X.dtype)
                noisy *= sigma
                noisy += image
                found = method(noisy, label, model, **keywords)
                maps[n] += np.sum(found[0] if isinstance(found, tuple) else found, axis=0)
        return maps / samples

    return smooth
