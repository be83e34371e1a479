"""Fooling images: a small change that makes a network see another class.

Szegedy et al. (2014), "Intriguing properties of neural networks", arXiv:1312.6199. The method is
CS231n's: normalised gradient ascent on the target's score until the target has the highest one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visualization.ascent import (
    Task,
    ascend,
    check_classes,
    join_batches,
    look_and_climb,
    of_a_batch,
    seen_as,
)
from visualization.backend import keras, tf
from visualization.channels_first import also_channels_first
from visualization.compilation import BATCH_SIZE, compiled
from visualization.gradients import (
    class_count,
    computed_if,
    normalized,
    outputs_before_ascent,
    predict,
)
from visualization.images.jpeg import rounded
from visualization.images.round_trips import (
    after_round_trip,
    check_round_trips,
    through_round_trip,
)
from visualization.input_checks import (
    check_counts,
    check_images,
    check_is_class,
    check_labels,
    check_positive,
    names_of,
    warn_without_preprocess,
)

__all__ = ["FoolingResult", "make_fooling_image", "make_fooling_images"]


def make_fooling_image(
    X: Any,
    target_y: int,
    model: keras.Model,
    *,
    learning_rate: float = 1.0,
    max_iterations: int = 100,
) -> Any:
    """Changes an image until the model takes it for `target_y`: CS231n's algorithm.

    While another class has the highest score, X += learning_rate * g / |g|_2, where g is the gradient
    of the target's score. The result may leave the range of valid pixels, and rounding it to 8 bits
    may undo it: `make_fooling_images` makes images that still fool once they are saved.

    Where the target's score has no gradient at all (SqueezeNet ends in a ReLU, so a score can be
    exactly 0), the step lowers the highest other score instead; where that has no gradient either, the
    image stays as it is. No step is ever NaN.

    Args:
        X: floating point (1, H, W, C), the model's preprocessed input.
        target_y: the class to reach, 0 <= target_y < number of classes; or its name, where the model
            has `class_names` or is a bundled one.
        model: any Keras model with one output of shape (N, K).
        learning_rate: L2 length of a step, in the units of the model's input.
        max_iterations: the largest number of steps.

    Returns:
        The fooling image, (1, H, W, C), of X's dtype, a tensor if X is one, else an array. After
        `max_iterations` steps it is returned even if it does not fool yet.

    Raises:
        ValueError: X has another shape or contains NaN, the target is not a class of the model, or a
            number is not positive.
        TypeError: the target is not an integer.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> grey = np.full((1, 2, 2, 3), 0.5, np.float32)  # the classes are red, green and blue
        >>> make_fooling_image(grey, 2, model)[0, 0, 0].round(2).tolist()
        [0.5, 0.5, 1.0]
    """
    check_positive(learning_rate=learning_rate)
    check_counts(max_iterations=max_iterations)
    image = check_images(model, X)
    check_is_class(target_y)
    if len(image) != 1:
        raise ValueError(f"X contains {len(image)} images, expected one, (1, H, W, C)")
    target = check_labels(target_y, 1, class_count(model, image), names_of(model))
    climb = compiled(model, _build_course_loop)
    settings = np.float32(learning_rate), np.int32(max_iterations)
    fooling = tf.cast(climb(np.float32(image), target, *settings), image.dtype)
    return fooling if tf.is_tensor(X) else fooling.numpy()


def _build_course_loop(get_model: Callable[[], keras.Model]) -> Callable[..., tf.Tensor]:
    @tf.function(reduce_retracing=True, autograph=False)
    def climb(
        x: tf.Tensor,  # (1, H, W, C)
        target: tf.Tensor,  # (1,)
        learning_rate: tf.Tensor,
        max_iterations: tf.Tensor,
    ) -> tf.Tensor:
        def goes_on(t: tf.Tensor, x: tf.Tensor, fooled: tf.Tensor) -> tf.Tensor:
            return ~fooled & (t < max_iterations)

        def step(t: tf.Tensor, x: tf.Tensor, fooled: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (kind, scores), ascent = outputs_before_ascent(get_model(), x, target)
            check_classes(get_model(), kind, scores)
            fooled = seen_as(kind, scores, target)[0]

            def climbed() -> tf.Tensor:
                up = ascent()
                return x + learning_rate * normalized(up)

            return t + 1, computed_if(~fooled, climbed, x), fooled

        x = tf.ensure_shape(x, (1, *x.shape[1:]))
        return tf.while_loop(goes_on, step, (0, x, False))[1]

    return climb


@dataclass(frozen=True)
class FoolingResult:
    """What `make_fooling_images` made of N images: arrays with one entry for each image.

    Attributes:
        images: uint8 (N, H, W, C): the fooling images, as they are to be saved.
        success: bool (N,): the model takes the image above for the target (or, without targets, for
            another class than before).
        already: bool (N,): the original was taken for the target, so nothing was changed.
        iterations: int (N,): steps taken.
        targets: int (N,): the class to reach; without targets, the class to leave.
        predicted_before, predicted_after: int (N,): the class with the highest score.
        probabilities_before, probabilities_after: float (N, K), see `predict_probabilities`.
        l2: float (N,): Euclidean norm of the change, in levels of 0..255.
        linf: int (N,): the largest change of any one value, in levels of 0..255.
        trace: float (N, T + 1): the logit of `targets` before each of T steps and after the last; NaN
            once an image has left the batch.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> blue = np.full((1, 2, 2, 3), (0, 0, 9), np.uint8)
        >>> result = make_fooling_images(blue, 2, model, preprocess=lambda pixels: pixels / 255)
        >>> result.already.tolist(), result.iterations.tolist(), result.linf.tolist()
        ([True], [0], [0])
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

    @classmethod
    def of(
        cls, images: np.ndarray, fooling: np.ndarray, found: Mapping[str, np.ndarray]
    ) -> "FoolingResult":
        """The result for images (N, H, W, C), of what `visualization.ascent` found."""
        before, after = found["before"], found["after"]  # (N, 2, K)
        change = fooling.astype(np.int64) - images
        return cls(
            images=fooling,
            success=found["success"],
            already=found["success"] & (found["iterations"] == 0),
            iterations=found["iterations"],
            targets=found["goals"],
            predicted_before=before[:, 0].argmax(axis=1),
            predicted_after=after[:, 0].argmax(axis=1),
            probabilities_before=before[:, 1],
            probabilities_after=after[:, 1],
            l2=np.sqrt(np.sum(change**2, axis=(1, 2, 3))),
            linf=np.abs(change).max(axis=(1, 2, 3)),
            trace=found["trace"],
        )


@also_channels_first
def make_fooling_images(
    images: Any,
    targets: Any,
    model: keras.Model,
    *,
    learning_rate: float = 1.0,
    max_iterations: int = 100,
    minimal: bool = False,
    survives: Sequence[str] = ("png",),
    quality: int = 85,
    preprocess: Callable[[Any], Any] | None = None,
    bounds: tuple[float, float] = (0, 255),
    batch_size: int = BATCH_SIZE,
) -> FoolingResult:
    """Changes images so that the model takes each for its target, once it is saved with 8 bits.

    As `make_fooling_image`, with two changes. Every score and gradient is taken at the image as it
    would be saved, clipped to valid pixels and rounded, while the steps add up unrounded (a
    straight-through estimator). And each step raises the target's score plus its margin over the
    highest other score, so that a class much like the target does not rise with it. An image that
    fools leaves the batch. Where each class has a sigmoid of its own, an image is taken for its target
    if that has a probability above one half.

    Args:
        images: uint8 (N, H, W, C), 0..255; (N, C, H, W) for a model with channels first.
        targets: integers (N,), or one for all: the classes to reach, also by name; or None, to
            reach any class but the one that the model sees now.
        model: any Keras model with one output of shape (N, K).
        learning_rate: length of a step. 1 is CS231n's: an L2 length of 1 in SqueezeNet's input; for
            other preprocessing it is scaled with the input's range.
        max_iterations: the largest number of steps for each image.
        minimal: then bisect the straight line to the original for the smallest change on it that
            still fools.
        survives: what may happen to a saved image, each on its own, and it still fools: "png", nothing;
            "jpeg", it is saved as JPEG with the colours at half the resolution, as Pillow does;
            "resize", its sides are halved and doubled again, bilinearly. Success is what the model says
            of what Pillow wrote and read back; probabilities and trace are those of the first way in
            which the image does not fool, if there is one; `l2` and `linf` are of `images`.
        quality: of JPEG, 75 to 95, on Pillow's scale.
        preprocess: pixels to the model's input; by default SqueezeNet's `preprocess_image`. It may
            only scale and shift the channels, or reorder them.
        bounds: the pixel values that `preprocess` expects for black and white.
        batch_size: how many images are processed at a time; it bounds the memory.

    Raises:
        ValueError: images or targets that do not fit the model, a preprocessing that does more than
            is said above, or a number that is not positive.
        TypeError: targets are not integers.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> grey = np.full((1, 2, 2, 3), 100, np.uint8)  # the classes are red, green and blue
        >>> found = make_fooling_images(grey, 2, model, preprocess=lambda pixels: pixels / 255)
        >>> found.success.tolist(), found.predicted_after.tolist()
        ([True], [2])
    """
    check_positive(learning_rate=learning_rate)
    check_counts(max_iterations=max_iterations, batch_size=batch_size)
    task = Task.of(images, targets, model, preprocess, bounds)
    warn_without_preprocess(model, preprocess)
    images, goals, away, scaling = task.images, task.goals, task.away, task.scaling
    ways = check_round_trips(survives, quality, images.shape[3])

    shape, order = images.shape[1:], scaling.channel_order
    step = compiled(model, _build_step, shape, away, ways, quality, order)
    step_length = np.float32(learning_rate * scaling.relative_range)
    settings = max_iterations, step_length, scaling.lower, scaling.upper
    starts = range(0, len(images), batch_size)
    batches = [slice(start, start + batch_size) for start in starts]
    found = join_batches(
        [ascend(step, scaling.to_input(images[some]), goals[some], *settings) for some in batches]
    )
    fooling, goals = scaling.to_pixels(found["saved"]), found["goals"]
    success, after = found["success"], found["after"]
    if minimal:

        def look_at(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            read = [scaling.to_input(after_round_trip(pixels, way, quality)) for way in ways]
            seen = [predict(model, inputs, batch_size=batch_size) for inputs in read]
            fools = np.array([seen_as(one.kind, one.scores, goals) != away for one in seen])
            looks = np.stack([np.stack([one.scores, one.probabilities], axis=1) for one in seen])
            failing = fools.argmin(axis=0)  # the first way, 0 if there is none
            return np.all(fools, axis=0), looks[failing, np.arange(len(pixels))]

        fooling = _bisected(images, fooling, lambda pixels: look_at(pixels)[0])
        success, after = look_at(fooling)
    return FoolingResult.of(images, fooling, found | {"success": success, "after": after})


def _build_step(
    get_model: Callable[[], keras.Model],
    shape: tuple[int, int, int],
    away: bool,
    ways: tuple[str, ...],
    quality: int,
    channel_order: tuple[int, ...],
) -> Callable[..., dict[str, tf.Tensor]]:
    color = tf.TensorSpec(shape[2:])

    @tf.function(
        input_signature=[*of_a_batch(shape), tf.TensorSpec(()), color, color], autograph=False
    )
    def step(
        x: tf.Tensor,  # (n, H, W, C)
        goals: tf.Tensor,  # (n,)
        may_climb: tf.Tensor,
        step_length: tf.Tensor,
        lower: tf.Tensor,  # (C,), the input for black
        upper: tf.Tensor,  # (C,), and for white
    ) -> dict[str, tf.Tensor]:
        # Broadcasting three numbers along the last axis takes longer than the rest of a step.
        lower, upper = (tf.broadcast_to(bound, tf.shape(x)[1:]) for bound in (lower, upper))
        level = (upper - lower) / 255

        def as_saved(x: tf.Tensor) -> tf.Tensor:
            return lower + level * tf.clip_by_value(tf.round((x - lower) / level), 0, 255)

        def climb(x: tf.Tensor, up: tf.Tensor) -> tf.Tensor:
            climbed = x + step_length * normalized(up)
            return tf.minimum(tf.maximum(climbed, lower), upper)

        def views(saved: tf.Tensor) -> list[tf.Tensor]:
            if ways == ("png",):
                return [saved]
            pixels = tf.gather(rounded((saved - lower) / level), np.argsort(channel_order), axis=3)
            read = [through_round_trip(pixels, way, quality) for way in ways]
            return [lower + level * tf.gather(one, channel_order, axis=3) for one in read]

        rules: Any = {"as_saved": as_saved, "climb": climb, "views": views}
        return look_and_climb(get_model(), x, goals, may_climb, away=away, **rules)

    return step


def _bisected(
    images: np.ndarray, fooling: np.ndarray, fools: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The images nearest to the originals, on the straight lines to them, that still fool."""

    def between(fraction: np.ndarray) -> np.ndarray:  # (N,), 0 the original, 1 the fooling image
        change = fooling.astype(np.float64) - images
        return (images + fraction[:, None, None, None] * change).round().astype(np.uint8)

    near, far = np.zeros(len(images)), np.ones(len(images))
    for _ in range(10):
        middle = (near + far) / 2
        enough = fools(between(middle))
        near, far = np.where(enough, near, middle), np.where(enough, middle, far)
    return between(far)
