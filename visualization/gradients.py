"""d(score)/d(image) of any Keras model, compiled once per model and kept as long as the model lives.

Everything in this package that looks at a network through its gradient stands on these functions.
"""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.input_checks import check_batch_size, check_images, check_labels

BATCH_SIZE = 25

_compiled: weakref.WeakKeyDictionary[keras.Model, dict[Any, Any]] = weakref.WeakKeyDictionary()


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


def logits(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
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
        scores = logits(model, images)
        value = objective(scores)
    gradient = tape.gradient(value, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return scores, gradient


def class_score(labels: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """The objective that is the score of each image's own label; labels (N,) integer."""
    return lambda scores: tf.gather(scores, labels, batch_dims=1)


def score_and_margin(targets: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """The objective that is the target's score and its lead over the highest other score."""

    def lead(scores: tf.Tensor) -> tf.Tensor:
        is_target = tf.one_hot(targets, scores.shape[1], on_value=True, off_value=False)
        others = tf.where(is_target, scores.dtype.min, scores)
        score = class_score(targets)(scores)
        return score + (score - tf.reduce_max(others, axis=1))

    return lead


def scores_and_ascent(
    model: keras.Model, images: tf.Tensor, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Raw scores, and the way up for each image's target; inside a `tf.function` only.

    That is the gradient of the target's score. Where it is zero, as that of a score which a final ReLU
    keeps at 0, it is the way down for the highest other score: a second pass, taken only then.
    """
    scores, gradient = scores_and_gradients(model, images, class_score(targets))
    flat = l2_norm(gradient) == 0  # (N, 1, 1, 1)

    def downhill() -> tf.Tensor:
        return tf.where(
            flat, scores_and_gradients(model, images, score_and_margin(targets))[1], gradient
        )

    return scores, tf.cond(tf.reduce_any(flat), downhill, lambda: gradient)


def l2_norm(gradients: tf.Tensor) -> tf.Tensor:
    """The Euclidean length of each image's gradient: (N, H, W, C) -> (N, 1, 1, 1)."""
    return tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=(1, 2, 3), keepdims=True))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities of the classes from raw scores, along the last axis."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def in_chunks(
    function: Callable[..., Any], batch_size: int, *arrays: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Calls `function` on `batch_size` rows of the arrays at a time and joins what it returns.

    So the memory that is needed does not grow with the number of images.
    """
    check_batch_size(batch_size)
    chunks = []
    for start in range(0, len(arrays[0]), batch_size):
        result = function(*(array[start : start + batch_size] for array in arrays))
        chunks.append([tensor.numpy() for tensor in result])
    return tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))


def predict_scores(model: keras.Model, images: Any, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """The model's raw scores, see `logits`.

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
    return in_chunks(compiled(model, _build_scores), batch_size, images)[0]


def _build_scores(get_model: Callable[[], keras.Model]) -> Callable[..., Any]:
    @tf.function(reduce_retracing=True, autograph=False)
    def scores(images: tf.Tensor) -> tuple[tf.Tensor]:
        return (logits(get_model(), images),)

    return scores


def image_gradients(
    X: Any, y: Any, model: keras.Model, batch_size: int = BATCH_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of each image's score for its class with respect to the image.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes.
        model: any Keras model with one output of shape (N, K), raw scores or a softmax.
        batch_size: how many images are worked on at a time; it bounds the memory.

    Returns:
        d(raw score of y)/dX, (N, H, W, C), and the raw scores, (N, K).

    Raises:
        ValueError: shapes that do not fit, NaN in X, or a class that does not exist.
        TypeError: y is not of integers.
    """
    X = check_images(model, X)
    y = check_labels(y, len(X), class_count(model, X))
    gradients, scores = in_chunks(compiled(model, _build_gradients), batch_size, X, y)
    return gradients, scores


def _build_gradients(get_model: Callable[[], keras.Model]) -> Callable[..., Any]:
    @tf.function(reduce_retracing=True, autograph=False)
    def gradients(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores, gradient = scores_and_gradients(get_model(), images, class_score(labels))
        return gradient, scores

    return gradients


def class_count(model: keras.Model, images: np.ndarray) -> int:
    """How many scores the model gives for each of `images`."""
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and shape[1] is not None:
        return shape[1]
    return predict_scores(model, images[:1]).shape[1]
