"""d(score)/d(image) of any Keras model, compiled once per model and kept as long as the model lives.

Everything in this package that looks at a network through its gradient stands on these functions.
"""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import keras, tf

_compiled: "weakref.WeakKeyDictionary[keras.Model, dict[Any, Any]]" = weakref.WeakKeyDictionary()


def compiled(
    model: keras.Model, build: Callable[..., Callable[..., Any]], *settings: Any
) -> Callable[..., Any]:
    """The `tf.function` that `build(get_model, *settings)` returns, made once per model.

    `get_model()` gives the model while it is alive: the kept function must not hold it, so that a
    model which its user deletes is freed together with all that was compiled for it. Weights that
    change later are seen; layers that are exchanged later are not.
    """
    functions = _compiled.setdefault(model, {})
    key = (build, *settings)
    if key not in functions:
        functions[key] = build(weakref.ref(model), *settings)
    return functions[key]


def raw_scores(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """The model's scores in inference mode, (N, K); inside a `tf.function` only.

    Where the last operation is a softmax, these are its inputs, the logits: a probability near 1 has
    no gradient to speak of. This holds for any model whose softmax is in the traced graph, however it
    was built. Half-precision scores come as float32.

    Raises:
        ValueError: the model's output is not one tensor of shape (N, K).
    """
    outputs = model(images, training=False)
    if not tf.is_tensor(outputs) or outputs.shape.rank != 2:
        shape = getattr(outputs, "shape", None) or type(outputs).__name__
        raise ValueError(
            f"the output of model {model.name!r} is {shape}, expected scores of shape (N, classes)"
        )
    source = outputs.op
    while source.type in ("Identity", "Cast"):
        source = source.inputs[0].op
    scores = source.inputs[0] if source.type == "Softmax" else outputs
    return scores if scores.dtype == tf.float64 else tf.cast(scores, tf.float32)


def scores_and_gradients(
    model: keras.Model,
    images: tf.Tensor,
    objective: Callable[[tf.Tensor], tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Raw scores, and the gradient of `objective(scores)`; inside a `tf.function` only.

    Args:
        images: (N, H, W, C), the model's input.
        objective: scores (N, K) -> (N,), one number for each image.

    Returns:
        scores (N, K) and d(objective)/d(images), (N, H, W, C).
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        scores = raw_scores(model, images)
        value = objective(scores)
    gradient = tape.gradient(value, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return scores, gradient


def score_of(labels: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """The objective that is the score of each image's own label; labels (N,) integer."""
    return lambda scores: tf.gather(scores, labels, batch_dims=1)


def l2_norm(gradients: tf.Tensor) -> tf.Tensor:
    """The Euclidean length of each image's gradient: (N, H, W, C) -> (N, 1, 1, 1)."""
    return tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=(1, 2, 3), keepdims=True))


def predict_scores(model: keras.Model, images: Any, batch_size: int = 25) -> np.ndarray:
    """The model's raw scores, see `raw_scores`.

    Args:
        model: a Keras model with one output of shape (N, K).
        images: floating point (N, H, W, C), the model's input.
        batch_size: how many images are worked on at a time; it bounds the memory.

    Returns:
        floating point (N, K).

    Raises:
        ValueError: the images or the model's output have another shape, or an image holds NaN.
    """
    images = check_images(model, images)
    predict = compiled(model, _build_scores)
    chunks = range(0, len(images), batch_size)
    return np.concatenate([predict(images[i : i + batch_size]).numpy() for i in chunks])


def _build_scores(get_model: Callable[[], keras.Model]) -> Callable[..., tf.Tensor]:
    @tf.function(reduce_retracing=True)
    def scores(images: tf.Tensor) -> tf.Tensor:
        return raw_scores(get_model(), images)

    return scores


def check_images(model: keras.Model, images: Any) -> np.ndarray:
    """The images as floating point (N, H, W, C), or a ValueError that says what is wrong with them."""
    images = np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"the images have shape {images.shape}, expected (N, H, W, C) with N > 0")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"the images are {images.dtype}, expected floating point: preprocess them first"
        )
    if not np.isfinite(images).all():
        raise ValueError("the images hold NaN or infinity")
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, tuple) and not _fits(images.shape, expected):
        raise ValueError(
            f"the images have shape {images.shape}, but model {model.name!r} takes {expected}"
        )
    return images.astype(np.float64 if images.dtype == np.float64 else np.float32, copy=False)


def class_count(model: keras.Model, images: np.ndarray) -> int:
    """How many scores the model gives for each of `images`."""
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and shape[1] is not None:
        return shape[1]
    return predict_scores(model, images[:1]).shape[1]


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        theirs is None or ours == theirs for ours, theirs in zip(shape, expected, strict=True)
    )


def check_labels(labels: Any, count: int, classes: int) -> np.ndarray:
    """One label for each of `count` images, int32 (count,), or a ValueError or TypeError."""
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"the labels are {labels.dtype}, expected integers")
    if labels.shape not in ((), (1,), (count,)):
        raise ValueError(f"the labels have shape {labels.shape}, expected ({count},), one an image")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        wrong = labels[(labels < 0) | (labels >= classes)].flat[0]
        raise ValueError(f"there is no class {wrong}: the model has classes 0 to {classes - 1}")
    return np.broadcast_to(labels, (count,)).astype(np.int32)
