"""Fooling images: a small change that makes a network see another class.

Szegedy et al. (2014), "Intriguing properties of neural networks", arXiv:1312.6199. The method is
CS231n's: normalised gradient ascent on the target's score until the target has the highest one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.gradients import (
    class_count,
    compiled,
    l2_norm,
    predict_scores,
    score_and_margin,
    scores_and_ascent,
    scores_and_gradients,
    softmax,
)
from visualization.images.pixel_scaling import PixelScaling
from visualization.input_checks import check_batch_size, check_images, check_labels, check_pixels


def make_fooling_image(
    X: Any,
    target_y: int,
    model: keras.Model,
    learning_rate: float = 1.0,
    max_iterations: int = 100,
) -> Any:
    """Changes an image until the model takes it for `target_y`.

    CS231n's algorithm: while another class has the highest score, X += learning_rate * g / |g|_2,
    where g is the gradient of the target's score. The result may leave the range of valid pixels, and
    rounding it to 8 bits may undo it: `make_fooling_images` makes images that survive being saved.

    Where the target's score has no gradient at all (SqueezeNet ends in a ReLU, so a score can be
    exactly 0), the step goes down the gradient of the highest other score instead; where that has
    none either, the image stays as it is. No step is ever NaN.

    Args:
        X: floating point (1, H, W, C), the model's preprocessed input.
        target_y: the class to reach, 0 <= target_y < number of classes.
        model: a Keras model with one output of shape (N, classes).
        learning_rate: L2 length of a step, in the units of the model's input.
        max_iterations: the largest number of steps.

    Returns:
        The fooling image, (1, H, W, C), of X's dtype, a tensor if X is one, else an array. After
        `max_iterations` steps it is returned even if it does not fool yet.

    Raises:
        ValueError: X has another shape or holds NaN, the target is not a class of the model, or a
            number is not positive.
    """
    image = check_images(model, X)
    if len(image) != 1:
        raise ValueError(f"X holds {len(image)} images, expected one, (1, H, W, C)")
    target = check_labels(target_y, 1, class_count(model, image))
    _check_steps(learning_rate, max_iterations)
    loop = compiled(model, _build_course_loop)
    settings = np.float32(learning_rate), np.int32(max_iterations)
    fooling = loop(np.float32(image), target[0], *settings)
    fooling = tf.cast(fooling, image.dtype)
    return fooling if tf.is_tensor(X) else fooling.numpy()


def _build_course_loop(get_model: Callable[[], keras.Model]) -> Callable[..., tf.Tensor]:
    """The ascent of one image as one graph."""

    @tf.function(reduce_retracing=True, autograph=False)
    def ascend(
        x: tf.Tensor,  # (1, H, W, C)
        target: tf.Tensor,
        learning_rate: tf.Tensor,
        max_iterations: tf.Tensor,
    ) -> tf.Tensor:
        x = tf.ensure_shape(x, (1, *x.shape[1:]))

        def step(t, x, fooled):  # type: ignore[no-untyped-def]
            scores, ascent = scores_and_ascent(get_model(), x, target[None])
            unit = tf.math.divide_no_nan(ascent, l2_norm(ascent))
            fooled = tf.argmax(scores[0], output_type=tf.int32) == target
            return t + 1, tf.where(fooled, x, x + learning_rate * unit), fooled

        _, x, _ = tf.while_loop(
            lambda t, x, fooled: ~fooled & (t < max_iterations), step, (0, x, False)
        )
        return x

    return ascend


@dataclass(frozen=True)
class FoolingResult:
    """What `make_fooling_images` made of N images. Arrays with one entry for each image.

    Attributes:
        images: uint8 (N, H, W, C): the fooling images, as they are to be saved.
        success: bool (N,): the model takes the image above for the target (or, without targets, for
            another class than before).
        already: bool (N,): the image was taken for the target as it came, so nothing was changed.
        iterations: int (N,): steps taken.
        targets: int (N,): the class to reach; without targets, the class to leave.
        predicted_before, predicted_after: int (N,): the class with the highest score.
        probabilities_before, probabilities_after: float (N, K): the softmax of the scores.
        l2: float (N,): Euclidean length of the change, in levels of 0..255.
        linf: int (N,): the largest change of any one value, in levels of 0..255.
        trace: float (N, T + 1): the raw score of `targets` before each of T steps and after; NaN once
            an image has left the batch.
    """

    images: np.ndarray
    success: np.ndarray
    already: np.ndarray
    iterations: np.ndarray
    targets: np.ndarray
    predicted_before: np.ndarray
    predicted_after: np.ndarray
    probabilities_before: np.ndarray
    probabilities_after: np.ndarray
    l2: np.ndarray
    linf: np.ndarray
    trace: np.ndarray


def make_fooling_images(
    images: Any,
    targets: Any,
    model: keras.Model,
    learning_rate: float = 1.0,
    max_iterations: int = 100,
    minimal: bool = False,
    preprocess: Callable[[Any], Any] | None = None,
    bounds: tuple[float, float] = (0, 255),
    batch_size: int = 25,
) -> FoolingResult:
    """Changes images until the model takes each for its target, once it has been saved with 8 bits.

    As `make_fooling_image`, with two changes. Every score and gradient is taken at the image as it
    would be saved, clipped to valid pixels and rounded, while the steps add up unrounded (a
    straight-through estimator). And what each step raises is the target's score and its lead over the
    highest other score, so that a class much like the target does not rise with it. An image that
    fools leaves the batch, so that the work shrinks.

    Args:
        images: uint8 (N, H, W, C), 0..255.
        targets: integers (N,), or one for all: the classes to reach; or None, to reach any class but
            the one that the model sees now.
        model: any Keras model with one output of shape (N, K).
        learning_rate: length of a step. 1 is CS231n's: an L2 length of 1 in SqueezeNet's input; for
            other preprocessing it is taken in proportion to the input's range.
        max_iterations: the largest number of steps for each image.
        minimal: then go back towards the original, by bisection, to the smallest change on that line
            that still fools.
        preprocess: pixels to the model's input; by default SqueezeNet's `preprocess_image`. It may
            only scale and shift the channels, or reorder them.
        bounds: the pixel values that `preprocess` expects for black and white.
        batch_size: how many images are worked on at a time; it bounds the memory.

    Raises:
        ValueError: images or targets that do not fit the model, a preprocessing that does more than
            is said above, or a number that is not positive.
        TypeError: targets are not integers.
    """
    images = check_pixels(images)
    check_batch_size(batch_size)
    scale = PixelScaling(preprocess, bounds, images.shape[3])
    inputs = scale.to_input(images)
    scores_before = predict_scores(model, inputs, batch_size)
    predicted = scores_before.argmax(axis=1)
    away = targets is None
    targets = predicted if away else check_labels(targets, len(images), scores_before.shape[1])

    def fools(scores: np.ndarray) -> np.ndarray:
        return (scores.argmax(axis=1) == targets) != away

    step = learning_rate * scale.relative_range
    chunks = []
    for start in range(0, len(images), batch_size):
        chunk = slice(start, start + batch_size)
        goals = targets[chunk].astype(np.int32)
        found = _ascend(model, inputs[chunk], goals, step, max_iterations, away, scale)
        chunks.append([tensor.numpy() for tensor in found])
    changed, iterations = (np.concatenate([chunk[i] for chunk in chunks]) for i in (0, 1))
    steps = iterations.max()
    traces = [
        np.pad(trace, ((0, 0), (0, 1 + steps - trace.shape[1])), constant_values=np.nan)
        for _, _, trace in chunks
    ]

    fooling = scale.to_pixels(changed)
    if minimal:
        near, far = np.zeros(len(images)), np.ones(len(images))
        for _ in range(10):
            middle = (near + far) / 2
            tried = _between(images, fooling, middle)
            enough = fools(predict_scores(model, scale.to_input(tried), batch_size))
            near, far = np.where(enough, near, middle), np.where(enough, middle, far)
        fooling = _between(images, fooling, far)
    scores_after = predict_scores(model, scale.to_input(fooling), batch_size)
    change = fooling.astype(np.int64) - images
    return FoolingResult(
        images=fooling,
        success=fools(scores_after),
        already=fools(scores_before),
        iterations=iterations,
        targets=targets,
        predicted_before=predicted,
        predicted_after=scores_after.argmax(axis=1),
        probabilities_before=softmax(scores_before),
        probabilities_after=softmax(scores_after),
        l2=np.sqrt(np.sum(change**2, axis=(1, 2, 3))),
        linf=np.abs(change).max(axis=(1, 2, 3)),
        trace=np.concatenate(traces),
    )


def _between(images: np.ndarray, fooling: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Part of the way from one image to the other, uint8; `share` (N,) of 0 to 1."""
    change = fooling.astype(np.float64) - images
    return (images + share[:, None, None, None] * change).round().astype(np.uint8)


def _ascend(
    model: keras.Model,
    images: np.ndarray,
    targets: np.ndarray,
    learning_rate: float,
    max_iterations: int,
    away: bool,
    scale: PixelScaling,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs the model's compiled loop: images (N, H, W, C), iterations (N,), trace (N, T + 1)."""
    _check_steps(learning_rate, max_iterations)
    loop = compiled(model, _build_loop, away)
    settings = np.float32(learning_rate), np.int32(max_iterations)
    return loop(np.float32(images), targets, *settings, scale.lower, scale.upper)


def _check_steps(learning_rate: float, max_iterations: int) -> None:
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate is {learning_rate}, expected a positive number")
    if max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations}, expected a positive integer")


def _build_loop(
    get_model: Callable[[], keras.Model], away: bool
) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """The ascent of a batch as one graph.

    Scores and gradients are taken at the image that 8 bits can hold; what is raised, or with `away`
    lowered, is the target's score and its lead.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def ascend(
        x: tf.Tensor,  # (N, H, W, C)
        targets: tf.Tensor,  # (N,)
        learning_rate: tf.Tensor,
        max_iterations: tf.Tensor,
        low: tf.Tensor,  # (C,): what the darkest pixel becomes in the model's input
        high: tf.Tensor,  # (C,): and the brightest
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        count = tf.shape(x)[0]
        # Broadcasting three numbers along the last axis takes longer than the rest of a step.
        low, high = (tf.broadcast_to(bound, tf.shape(x)[1:]) for bound in (low, high))
        level = (high - low) / 255

        def saved(x: tf.Tensor) -> tf.Tensor:
            return low + level * tf.clip_by_value(tf.round((x - low) / level), 0, 255)

        def step(t, x, rows, images, iterations, trace):  # type: ignore[no-untyped-def]
            view = saved(x)
            goal = tf.gather(targets, rows)
            scores, gradient = scores_and_gradients(get_model(), view, score_and_margin(goal))
            unit = tf.math.divide_no_nan(-gradient if away else gradient, l2_norm(gradient))
            reached = tf.gather(scores, goal, batch_dims=1)
            blank = tf.fill([count], float("nan"))
            trace = trace.write(t, tf.tensor_scatter_nd_update(blank, rows[:, None], reached))

            fooled = (tf.argmax(scores, axis=1, output_type=tf.int32) == goal) != away  # (n,)
            leaves = fooled | (t == max_iterations)
            at = rows[leaves][:, None]
            images = tf.tensor_scatter_nd_update(images, at, view[leaves])
            taken = tf.fill([tf.shape(at)[0]], t)
            iterations = tf.tensor_scatter_nd_update(iterations, at, taken)

            x = (x + learning_rate * unit)[~leaves]
            x = tf.minimum(tf.maximum(x, low), high)
            return t + 1, x, rows[~leaves], images, iterations, trace

        trace = tf.TensorArray(x.dtype, 1, dynamic_size=True, element_shape=[None])
        start = (0, x, tf.range(count), tf.zeros_like(x), tf.zeros([count], tf.int32), trace)
        _, _, _, images, iterations, trace = tf.while_loop(
            lambda t, x, rows, *_: tf.size(rows) > 0,
            step,
            start,
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, *x.shape[1:]]),
                tf.TensorShape([None]),
                x.shape,
                tf.TensorShape([None]),
                tf.TensorShape(None),
            ),
        )
        return images, iterations, tf.transpose(trace.stack())

    return ascend
