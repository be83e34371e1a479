"""CS231n's class visualisation: gradient ascent from noise on a class's score.

Simonyan, Vedaldi, Zisserman (2014), "Deep inside convolutional networks: visualising image
classification models and saliency maps", arXiv:1312.6034, section 2; jitter and blur after Yosinski et
al. (2015), "Understanding neural networks through deep visualization", arXiv:1506.06579.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.channels_first import also_channels_first
from visualization.compilation import compiled
from visualization.gradients import check_target, image_gradients, normalized, outputs_before_ascent
from visualization.images.pixel_scaling import PixelScaling
from visualization.images.transforms import blur_image, jitter
from visualization.input_checks import (
    check_counts,
    check_model,
    check_positive,
    warn_without_preprocess,
)

__all__ = [
    "check_jitter",
    "check_targets",
    "class_visualization_update_step",
    "create_class_visualization",
    "draw_in_batches",
]

_CLASSES_AT_A_TIME = 8


@also_channels_first
def create_class_visualization(
    target_y: Any,
    model: keras.Model,
    l2_reg: float = 1e-3,
    learning_rate: float = 25,
    num_iterations: int = 100,
    blur_every: int = 10,
    max_jitter: int | None = None,
    show_every: int = 25,
    *,
    normalize: bool = False,
    seed: int = 0,
    preprocess: Callable[[Any], Any] | None = None,
    bounds: tuple[float, float] = (0, 255),
    image_shape: tuple[int, int, int] | None = None,
    on_frame: Callable[[int, np.ndarray], object] | None = None,
) -> np.ndarray:
    """CS231n's class visualisation: gradient ascent on score - l2_reg |X|^2 from uniform noise.

    Each iteration shifts the image by up to `max_jitter` - 1 pixels in each direction, takes one step,
    shifts back and clips to valid pixels; every `blur_every` iterations the image is blurred (sigma
    0.5). The whole loop is compiled. For other preprocessing than SqueezeNet's, steps and
    regularisation are scaled with the input's range. While the class's score has no gradient
    (SqueezeNet's last ReLU can keep it at exactly 0, where the course's loop would stay forever), the
    highest other score is lowered instead.

    Args:
        target_y: a class, or several for a batch of images, by number, or by name as for
            `compute_saliency_maps`; or a function from the model's output, or outputs, to one number
            for each image, (N,), such as `unit_of` makes: one image.
        model: any Keras model with one output of shape (N, K); of any outputs with a function.
        l2_reg: weight of the L2 regularisation.
        learning_rate: factor of the step.
        num_iterations: how many steps.
        blur_every: blur after so many iterations; 0 for never.
        max_jitter: shifts are drawn from 0 .. max_jitter - 1; by default the course's 16 for an image
            of 224 pixels, and in proportion for others.
        show_every: how often `on_frame` is called.
        normalize: divide each step by its L2 norm, so that `learning_rate` is its length. The
            pictures are clearer; the course does not do it.
        seed: of the noise and the shifts; every class of a batch has the same.
        preprocess: pixels to the model's input; by default SqueezeNet's `preprocess_image`.
        bounds: the pixel values that `preprocess` expects for black and white.
        image_shape: (H, W, C), for a model that takes images of any size; (C, H, W) for one that has
            channels first, which also gets images (N, C, H, W).
        on_frame: called with the number of iterations done and the images so far, as they are
            returned, after the first iteration, every `show_every`, and the last. More than eight
            classes are drawn eight at a time, and it is given those being drawn.

    Returns:
        The images as the model's input, float32 (N, H, W, C), one for each class; `deprocess_image`
        makes pixels of SqueezeNet's.

    Raises:
        ValueError: a class that does not exist, or a number out of its range.
        TypeError: target_y is not of integers.

    Example:
        >>> model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> settings = {"num_iterations": 2, "preprocess": lambda pixels: pixels / 255}
        >>> create_class_visualization([0, 2], model, **settings).shape
        (2, 4, 4, 3)
    """
    check_positive(learning_rate=learning_rate)
    check_counts(num_iterations=num_iterations, show_every=show_every)
    if not 0 <= l2_reg < np.inf:
        raise ValueError(f"l2_reg is {l2_reg}, expected a number of at least 0")
    if blur_every != 0:
        check_counts(blur_every=blur_every)
    targets, shape, asked = check_targets(target_y, model, image_shape)
    max_jitter = check_jitter(max_jitter, shape)
    scaling = PixelScaling(preprocess, bounds, shape[2])
    warn_without_preprocess(model, preprocess)
    generator = np.random.default_rng(seed)
    noise = scaling.to_input(255 * generator.random((1, *shape)))
    shifts = generator.integers(0, max_jitter, (num_iterations, 2), dtype=np.int32)
    steps = compiled(asked, _build_steps, normalize)
    settings = np.float32(l2_reg), np.float32(learning_rate), np.int32(blur_every)
    input_range = np.float32(scaling.relative_range), scaling.lower, scaling.upper

    def advance(X: Any, chosen: np.ndarray, done: np.int32, until: np.int32) -> tuple[Any, Any]:
        X = steps(X, chosen, shifts, done, until, *settings, *input_range)
        return X, X

    start = lambda count: np.repeat(noise, count, axis=0)  # noqa: E731
    return draw_in_batches(targets, start, advance, num_iterations, show_every, on_frame)


def class_visualization_update_step(
    X: Any, model: keras.Model, target_y: Any, l2_reg: float, learning_rate: float
) -> Any:
    """One step of CS231n's loop: X + learning_rate * d(score - l2_reg |X|^2)/dX.

    Args:
        X: floating point (N, H, W, C), the model's input.
        model: any Keras model with one output of shape (N, K).
        target_y: the class, or one for each image; or a function of the outputs.
        l2_reg: weight of the L2 regularisation.
        learning_rate: factor of the step.

    Returns:
        The changed images, (N, H, W, C); a tensor if X is one, else an array.

    Raises:
        ValueError: X or target_y do not fit the model.
        TypeError: target_y is not of integers.

    Example:
        >>> model = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten()])
        >>> class_visualization_update_step(np.ones((1, 1, 1, 3)), model, 2, 0.25, 1.0).tolist()
        [[[[0.5, 0.5, 1.5]]]]
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
        relative_range: tf.Tensor,
        lower: tf.Tensor,  # (C,), the input for black
        upper: tf.Tensor,  # (C,), and for white
    ) -> tf.Tensor:
        # Broadcasting three numbers along the last axis takes longer than the rest of a step.
        lower, upper = (tf.broadcast_to(bound, tf.shape(X)[1:]) for bound in (lower, upper))

        def step(t: tf.Tensor, X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            ox, oy = shifts[t, 0], shifts[t, 1]
            X = jitter(X, ox, oy)
            _, ascent = outputs_before_ascent(get_model(), X, targets)
            up = relative_range**2 * ascent() - 2 * l2_reg * X  # as for SqueezeNet's input
            if normalize:
                up = relative_range * normalized(up)
            X = jitter(X + learning_rate * up, -ox, -oy)
            X = tf.minimum(tf.maximum(X, lower), upper)
            blurs = (blur_every > 0) & (tf.math.floormod(t, tf.maximum(blur_every, 1)) == 0)
            return t + 1, tf.cond(blurs, lambda: blur_image(X, sigma=0.5), lambda: X)

        return tf.while_loop(lambda t, X: t < until, step, (done, X))[1]

    return steps


# ------------------------------------------------------------ shared with `painting`


def check_targets(
    target_y: Any, model: keras.Model, image_shape: tuple[int, int, int] | None
) -> tuple[np.ndarray, tuple[int, int, int], keras.Model]:
    """Returns the classes to draw, int32 (N,), the images' shape (H, W, C) and the model to ask.

    Raises:
        ValueError: there is no such class, or the shape is unknown or not what the model takes.
        TypeError: target_y is not of integers.

    Example:
        >>> model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> targets, shape, _ = check_targets(2, model, None)
        >>> targets.tolist(), shape
        ([2], (4, 4, 3))
    """
    check_model(model)
    expected = getattr(model, "input_shape", None)
    shape = image_shape or (expected[1:] if isinstance(expected, tuple) else ())
    if len(shape) != 3 or None in shape:
        raise ValueError(
            f"model {model.name!r} takes images of shape {expected}: give one with "
            "image_shape=(H, W, C)"
        )
    if not callable(target_y):
        target_y = np.atleast_1d(np.asarray(target_y))
    count = 1 if callable(target_y) else len(target_y)
    blank = np.broadcast_to(np.float32(0), (count, *shape))
    _, targets, asked = check_target(blank, target_y, model)
    return targets, shape, asked


def check_jitter(max_jitter: int | None, shape: tuple[int, int, int]) -> int:
    """Returns the number of shifts to draw from, for images (H, W, C): the course's 16 of 224 pixels.

    Raises:
        ValueError: one is given that is not a positive integer.

    Example:
        >>> check_jitter(None, (224, 224, 3)), check_jitter(None, (28, 28, 1))
        (16, 2)
    """
    if max_jitter is None:
        return max(1, round(16 * min(shape[:2]) / 224))
    check_counts(max_jitter=max_jitter)
    return max_jitter


def draw_in_batches(
    targets: np.ndarray,
    start: Callable[[int], Any],
    advance: Callable[[Any, np.ndarray, np.int32, np.int32], tuple[Any, Any]],
    num_iterations: int,
    show_every: int,
    on_frame: Callable[[int, np.ndarray], object] | None,
) -> np.ndarray:
    """Runs an iteration that draws classes, eight classes at a time, and shows frames of it.

    Args:
        targets: int32 (N,).
        start: the number of classes -> the state before the first iteration.
        advance: the state, the classes, the iterations done and to be done -> the state after them
            and the images then, (n, H, W, C).
        num_iterations, show_every, on_frame: as for `create_class_visualization`.

    Returns:
        The images after the last iteration, (N, H, W, C).

    Example:
        >>> start = lambda count: np.zeros((count, 1, 1, 1))
        >>> advance = lambda X, classes, done, until: (X + until - done, X + until - done)
        >>> draw_in_batches(np.arange(2), start, advance, 5, 2, None).ravel().tolist()
        [5.0, 5.0]
    """
    frames = sorted({1, *range(show_every, num_iterations, show_every), num_iterations})
    drawn = []
    for first in range(0, len(targets), _CLASSES_AT_A_TIME):
        chosen = targets[first : first + _CLASSES_AT_A_TIME]
        state, images, done = start(len(chosen)), None, 0
        for until in frames if on_frame else [num_iterations]:
            state, images = advance(state, chosen, np.int32(done), np.int32(until))
            done = until
            if on_frame:
                on_frame(done, np.asarray(images))
        drawn.append(np.asarray(images))
    return np.concatenate(drawn)
