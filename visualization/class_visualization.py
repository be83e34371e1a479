"""Class visualisation: an image that a network takes for a class, drawn from noise, and the command.

The loop is CS231n's, after Simonyan et al. (2014), arXiv:1312.6034, section 2, and Yosinski et al.
(2015), arXiv:1506.06579. The command draws in frequency space unless told otherwise: see `painting`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.gradients import (
    class_count,
    compiled,
    image_gradients,
    l2_norm,
    scores_and_ascent,
)
from visualization.images.pixel_scaling import PixelScaling
from visualization.images.transforms import blur_image, jitter
from visualization.input_checks import check_images, check_labels

BATCH_SIZE = 8


def create_class_visualization(
    target_y: Any,
    model: keras.Model,
    l2_reg: float = 1e-3,
    learning_rate: float = 25,
    num_iterations: int = 100,
    blur_every: int = 10,
    max_jitter: int = 16,
    show_every: int = 25,
    normalize: bool = False,
    seed: int = 0,
    preprocess: Callable[[Any], Any] | None = None,
    bounds: tuple[float, float] = (0, 255),
    image_shape: tuple[int, int, int] | None = None,
    on_frame: Callable[[int, np.ndarray], object] | None = None,
) -> np.ndarray:
    """CS231n's class visualisation: gradient ascent on score - l2_reg |X|^2 from uniform noise.

    Each iteration shifts the image by up to `max_jitter` - 1 pixels each way, takes one step, shifts
    back and clips to valid pixels; every `blur_every` iterations the image is blurred (sigma 0.5).
    The whole is compiled; no Python runs between the iterations. For other preprocessing than
    SqueezeNet's, steps and regularisation are taken in proportion to the input's range. While the
    class's score has no gradient (SqueezeNet's last ReLU can hold it at exactly 0, where the course's
    loop stays for ever), the highest other score is lowered instead.

    Args:
        target_y: a class, or several for a batch that is worked on together.
        model: any Keras model with one output of shape (N, K).
        l2_reg: weight of the L2 regularisation.
        learning_rate: factor of the step.
        num_iterations: how many steps.
        blur_every: blur after so many iterations; 0 for never.
        max_jitter: shifts are drawn from 0 .. max_jitter - 1.
        show_every: how often `on_frame` is called.
        normalize: divide each step by its L2 norm, so that `learning_rate` is its length. The
            pictures are clearer; the course does without.
        seed: of the noise and the shifts; every class of a batch has the same.
        preprocess: pixels to the model's input; by default SqueezeNet's `preprocess_image`.
        bounds: the pixel values that `preprocess` expects for black and white.
        image_shape: (H, W, C), for a model that takes images of any size.
        on_frame: called with the number of iterations done and the images so far, as they are
            returned, after the first iteration, every `show_every` and the last; for more than
            `BATCH_SIZE` classes, with those being worked on.

    Returns:
        The images as the model's input, float32 (N, H, W, C), one for each class; for pixels use
        `deprocess_image`.

    Raises:
        ValueError: a class that does not exist, or a number out of its range.
        TypeError: target_y is not of integers.
    """
    check_positive(
        learning_rate=learning_rate, num_iterations=num_iterations, max_jitter=max_jitter
    )
    if l2_reg < 0 or blur_every < 0 or show_every < 1:
        raise ValueError(
            f"l2_reg is {l2_reg}, blur_every {blur_every} and show_every {show_every}, expected "
            "at least 0, 0 and 1"
        )
    targets, shape = target_classes(target_y, model, image_shape)
    scale = PixelScaling(preprocess, bounds, shape[2])
    generator = np.random.default_rng(seed)
    start = scale.to_input(255 * generator.random((1, *shape)))
    shifts = generator.integers(0, max_jitter, (num_iterations, 2), dtype=np.int32)
    steps = compiled(model, _build_steps, normalize)
    settings = np.float32(l2_reg), np.float32(learning_rate), np.int32(blur_every)
    range_of_input = np.float32(scale.relative_range), scale.lower, scale.upper

    parts = []
    for first in range(0, len(targets), BATCH_SIZE):
        chosen = targets[first : first + BATCH_SIZE]
        X: Any = np.repeat(start, len(chosen), axis=0)
        done = 0
        for until in frame_times(num_iterations, show_every, on_frame is not None):
            progress = np.int32(done), np.int32(until)
            X = steps(X, chosen, shifts, *progress, *settings, *range_of_input)
            done = until
            if on_frame:
                on_frame(done, X.numpy())
        parts.append(X.numpy())
    return np.concatenate(parts)


def class_visualization_update_step(
    X: Any, model: keras.Model, target_y: Any, l2_reg: float, learning_rate: float
) -> Any:
    """One step of CS231n's loop: X + learning_rate * d(score - l2_reg |X|^2)/dX.

    Args:
        X: floating point (N, H, W, C), the model's input.
        model: any Keras model with one output of shape (N, K).
        target_y: the class, or one for each image.
        l2_reg: weight of the L2 regularisation.
        learning_rate: factor of the step.

    Returns:
        The changed images, (N, H, W, C); a tensor if X is one, else an array.

    Raises:
        ValueError: X or target_y do not fit the model.
        TypeError: target_y is not of integers.
    """
    gradients, _ = image_gradients(X, target_y, model)
    changed = X + learning_rate * (gradients - 2 * l2_reg * X)
    return tf.cast(changed, X.dtype) if tf.is_tensor(X) else changed.astype(X.dtype)


def _build_steps(get_model: Callable[[], keras.Model], normalize: bool) -> Callable[..., tf.Tensor]:
    """The iterations from `done` until `until` as one graph."""

    @tf.function(reduce_retracing=True, autograph=False)
    def steps(
        X: tf.Tensor,  # (N, H, W, C)
        targets: tf.Tensor,  # (N,)
        shifts: tf.Tensor,  # (T, 2)
        done: tf.Tensor,
        until: tf.Tensor,
        l2_reg: tf.Tensor,
        learning_rate: tf.Tensor,
        blur_every: tf.Tensor,
        width: tf.Tensor,  # of the input's range, beside SqueezeNet's
        low: tf.Tensor,  # (C,)
        high: tf.Tensor,  # (C,)
    ) -> tf.Tensor:
        def step(t: tf.Tensor, X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            ox, oy = shifts[t, 0], shifts[t, 1]
            X = jitter(X, ox, oy)
            _, gradient = scores_and_ascent(get_model(), X, targets)
            gradient = width**2 * gradient - 2 * l2_reg * X  # as for an input of SqueezeNet's width
            if normalize:
                gradient = width * tf.math.divide_no_nan(gradient, l2_norm(gradient))
            X = jitter(X + learning_rate * gradient, -ox, -oy)
            X = tf.minimum(tf.maximum(X, lowest), highest)
            blurs = (blur_every > 0) & (tf.math.floormod(t, tf.maximum(blur_every, 1)) == 0)
            return t + 1, tf.cond(blurs, lambda: blur_image(X, sigma=0.5), lambda: X)

        # Broadcasting three numbers along the last axis takes longer than the rest of a step.
        lowest, highest = (tf.broadcast_to(bound, tf.shape(X)[1:]) for bound in (low, high))
        return tf.while_loop(lambda t, X: t < until, step, (done, X))[1]

    return steps


def target_classes(
    target_y: Any, model: keras.Model, image_shape: tuple[int, int, int] | None
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The classes, int32 (N,), and the shape of the images (H, W, C)."""
    taken = getattr(model, "input_shape", None)
    shape = image_shape or (taken[1:] if isinstance(taken, tuple) else ())
    if len(shape) != 3 or None in shape:
        raise ValueError(
            f"model {model.name!r} takes images of shape {taken}: say which with image_shape=(H, W, C)"
        )
    targets = np.atleast_1d(np.asarray(target_y))
    blank = check_images(model, np.zeros((1, *shape), np.float32))
    return check_labels(targets, len(targets), class_count(model, blank)), shape


def check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}, expected a positive number")


def frame_times(num_iterations: int, show_every: int, wanted: bool) -> list[int]:
    """After how many iterations the images are looked at; the last is after all of them."""
    if not wanted:
        return [num_iterations]
    return sorted({1, *range(show_every, num_iterations, show_every), num_iterations})
