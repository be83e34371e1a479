"""Fooling images within a budget: how many can be fooled by a change of a given size.

Madry et al. (2018), "Towards deep learning models resistant to adversarial attacks", arXiv:1706.06083.
Changes are whole levels, as pictures are saved, and their size is that of the saved picture.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from visualization.ascent import Task, ascend, join_batches, look_and_climb, of_a_batch
from visualization.backend import keras, tf
from visualization.channels_first import also_channels_first
from visualization.compilation import BATCH_SIZE, compiled
from visualization.fooling import FoolingResult
from visualization.gradients import l2_norm, normalized
from visualization.input_checks import (
    check_counts,
    check_labels,
    check_positive,
    names_of,
    warn_without_preprocess,
)

__all__ = [
    "fooling_distances",
    "projected_gradient_ascent",
    "robust_accuracy",
    "smallest_fooling_images",
]


@also_channels_first
def projected_gradient_ascent(
    images: Any,
    targets: Any,
    model: keras.Model,
    *,
    norm: str = "l2",
    epsilon: float,
    steps: int = 40,
    starts: int = 1,
    seed: int = 0,
    preprocess: Callable[[Any], Any] | None = None,
    bounds: tuple[float, float] = (0, 255),
    batch_size: int = BATCH_SIZE,
) -> FoolingResult:
    """Changes images by at most `epsilon`, so that the model takes each for its target.

    Madry et al. (2018), section 2.1: steps of 2.5 epsilon / steps along the gradient, in the direction
    that is steepest for the norm, each followed by a projection into the ball of radius epsilon. Every
    look is at whole levels: of the change, the largest multiple is taken that stays within epsilon once
    it is rounded, which is the best whole change for a linear score. An image that fools leaves.

    Args:
        images, targets, model, preprocess, bounds, batch_size: as for `make_fooling_images`.
        norm: what is bounded, "l2", the Euclidean norm of the change, or "linf", its largest value.
        epsilon: the bound, in levels of 0..255.
        steps: the largest number of steps from each start.
        starts: the first is the image itself, others are random changes of size epsilon, for images
            that are not fooled yet.
        seed: of the random starts.

    Returns:
        As `make_fooling_images`; `l2` or `linf` is never above epsilon. `iterations` are of the start
        that fooled, `trace` is of the first.

    Raises:
        ValueError, TypeError: as `make_fooling_images`; or there is no such norm.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> images = np.uint8([100, 100, 97])[None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
        >>> settings = {"norm": "linf", "preprocess": lambda pixels: pixels / 255}
        >>> for epsilon in (1, 2):
        ...     found = projected_gradient_ascent(images, 2, model, epsilon=epsilon, **settings)
        ...     print(found.success.tolist(), found.linf.tolist())
        [False] [1]
        [True] [2]
    """
    check_positive(epsilon=epsilon)
    check_counts(starts=starts)
    climb = _Climb(images, targets, model, norm, steps, preprocess, bounds, batch_size)
    warn_without_preprocess(model, preprocess)
    generator = np.random.default_rng(seed)
    found = climb.within(np.full(len(climb.images), epsilon))
    for _ in range(starts - 1):
        failed = np.flatnonzero(~found["success"])
        if not len(failed):
            break
        again = climb.within(np.full(len(failed), epsilon), failed, generator)
        again["iterations"] += 1  # a random start is a step away
        _replace(found, again, failed)
    return climb.result(found)


@also_channels_first
def smallest_fooling_images(
    images: Any,
    targets: Any,
    model: keras.Model,
    *,
    norm: str = "l2",
    steps: int = 40,
    preprocess: Callable[[Any], Any] | None = None,
    bounds: tuple[float, float] = (0, 255),
    batch_size: int = BATCH_SIZE,
) -> FoolingResult:
    """Changes images as little as possible, so that the model takes each for its target.

    It doubles and bisects the budget of `projected_gradient_ascent` for each image. DeepFool
    (Moosavi-Dezfooli et al., 2016, arXiv:1511.04599) finds shorter changes of real numbers, mostly by
    fractions of a level, which are gone once the picture is saved.

    Args:
        images, targets, model, preprocess, bounds, batch_size: as for `make_fooling_images`.
        norm, steps: as for `projected_gradient_ascent`; "l2" is found to one part in 64, "linf" to
            the level.

    Returns:
        As `make_fooling_images`; `iterations` are of the climb within the smallest budget, `trace` is
        of the first one.

    Raises:
        ValueError, TypeError: as `projected_gradient_ascent`.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> images = np.uint8([100, 100, 97])[None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
        >>> settings = {"norm": "linf", "preprocess": lambda pixels: pixels / 255}
        >>> found = smallest_fooling_images(images, 2, model, **settings)
        >>> found.success.tolist(), found.linf.tolist()
        ([True], [2])
    """
    climb = _Climb(images, targets, model, norm, steps, preprocess, bounds, batch_size)
    warn_without_preprocess(model, preprocess)
    everyone = np.arange(len(climb.images))
    short = np.zeros(len(everyone))  # a budget in which an image did not fool
    budget = np.full(len(everyone), 2.0 if norm == "linf" else 128.0)  # one that is usually enough
    found = climb.within(budget)
    for _ in range(_DOUBLINGS):
        if not len(rows := everyone[~found["success"]]):
            break
        short[rows] = budget[rows]
        budget[rows] *= 2
        _replace(found, climb.within(budget[rows], rows), rows)

    while True:
        enough = climb.sizes(found)
        gap = 1 if norm == "linf" else enough / 64
        if not len(rows := everyone[found["success"] & (enough - short > gap)]):
            return climb.result(found)
        middle = (enough + short)[rows] / 2
        budget[rows] = np.floor(middle) if norm == "linf" else middle
        again = climb.within(budget[rows], rows)
        short[rows] = np.where(again["success"], short[rows], budget[rows])
        _replace(found, again, rows)


def fooling_distances(images: Any, labels: Any, model: keras.Model, **settings: Any) -> np.ndarray:
    """How far the nearest image is that the model takes for another class than its label.

    Args:
        images, model: as for `make_fooling_images`.
        labels: integers (N,), or one for all: the right classes.
        settings: as for `smallest_fooling_images`, whose changes are measured.

    Returns:
        float64 (N,), in levels of 0..255: 0 where the model is wrong already, infinity where no image
        was found.

    Raises:
        ValueError, TypeError: as `smallest_fooling_images`.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> images = np.uint8([100, 97, 97])[None, None, None] * np.ones((2, 2, 2, 1), np.uint8)
        >>> settings = {"norm": "linf", "preprocess": lambda pixels: pixels / 255}
        >>> fooling_distances(images, [0, 1], model, **settings).tolist()  # red, but not green
        [2.0, 0.0]
    """
    found = smallest_fooling_images(images, None, model, **settings)
    classes = found.probabilities_before.shape[1]
    labels = check_labels(labels, len(found.images), classes, names_of(model))
    sizes = found.linf if settings.get("norm") == "linf" else found.l2
    sizes = np.where(found.success, sizes, np.inf)
    return np.where(found.targets == labels, sizes, 0.0)


def robust_accuracy(distances: np.ndarray, epsilons: Any) -> np.ndarray:
    """The share of images that no change of at most epsilon made wrong, for each epsilon.

    It is an upper bound of what is meant: a change that was not found may exist.

    Args:
        distances: (N,), as `fooling_distances` returns them.
        epsilons: (E,), in the same levels.

    Returns:
        float64 (E,).

    Example:
        >>> robust_accuracy(np.array([0.0, 12.5, np.inf]), [0, 10, 20]).round(2).tolist()
        [0.67, 0.67, 0.33]
    """
    return np.mean(np.asarray(distances) > np.asarray(epsilons)[:, None], axis=1)


_DOUBLINGS = 6  # of the first budget, after which an image is given up


class _Climb:
    """Projected gradient ascent of images that are checked once and climb several times."""

    def __init__(  # type: ignore[no-untyped-def]
        self, images, targets, model, norm, steps, preprocess, bounds, batch_size
    ) -> None:
        check_counts(steps=steps, batch_size=batch_size)
        if norm not in _NORMS:
            raise ValueError(f"norm is {norm!r}, expected one of {', '.join(map(repr, _NORMS))}")
        task = Task.of(images, targets, model, preprocess, bounds)
        self.images, self.goals, self.scaling = task.images, task.goals, task.scaling
        self.norm, self.steps, self.batch_size = norm, steps, batch_size
        self.step = compiled(model, _build_step, self.images.shape[1:], norm, task.away)

    def within(
        self,
        budgets: np.ndarray,
        rows: np.ndarray | None = None,
        generator: np.random.Generator | None = None,
    ) -> dict[str, np.ndarray]:
        """What `ascend` finds for some of the images, each within its budget in levels.

        With a generator they start from a random place, otherwise from themselves.
        """
        rows = np.arange(len(self.images)) if rows is None else rows
        scaling, found = self.scaling, []
        for start in range(0, len(rows), self.batch_size):
            some = rows[start : start + self.batch_size]
            inputs = scaling.to_input(self.images[some])
            change = np.zeros_like(inputs)
            if generator:  # anywhere in the cube; the ball inside it is reached by projection
                change = generator.uniform(-1, 1, inputs.shape) * budgets.max()
            epsilon = budgets[start : start + self.batch_size, None, None, None].astype(np.float32)
            _, projected, _ = _NORMS[self.norm]
            state = inputs, projected(np.float32(change), epsilon), epsilon
            settings = np.float32(self.steps), scaling.lower, scaling.upper
            found.append(ascend(self.step, state, self.goals[some], self.steps, *settings))
        return join_batches(found)

    def sizes(self, found: dict[str, np.ndarray]) -> np.ndarray:
        result = self.result(found)
        return np.asarray(result.linf if self.norm == "linf" else result.l2, np.float64)

    def result(self, found: dict[str, np.ndarray]) -> FoolingResult:
        return FoolingResult.of(self.images, self.scaling.to_pixels(found["saved"]), found)


def _replace(found: dict[str, np.ndarray], again: dict[str, np.ndarray], rows: np.ndarray) -> None:
    """Puts what fooled of another climb of some rows in its place."""
    fooled = again["success"]
    for name in set(found) - {"before", "trace"}:
        found[name][rows[fooled]] = again[name][fooled]


def _build_step(
    get_model: Callable[[], keras.Model], shape: tuple[int, int, int], norm: str, away: bool
) -> Callable[..., dict[str, tf.Tensor]]:
    steepest, projected, whole = _NORMS[norm]
    state, color = of_a_batch(shape, shape, (1, 1, 1)), tf.TensorSpec(shape[2:])

    @tf.function(input_signature=[*state, tf.TensorSpec(()), color, color], autograph=False)
    def step(
        state: Any,  # the images and their change in levels, (n, H, W, C), and epsilon, (n, 1, 1, 1)
        goals: tf.Tensor,  # (n,)
        may_climb: tf.Tensor,
        steps: tf.Tensor,
        lower: tf.Tensor,  # (C,), the input for black
        upper: tf.Tensor,  # (C,), and for white
    ) -> dict[str, tf.Tensor]:
        # Broadcasting three numbers along the last axis takes longer than the rest of a step.
        lower, upper = (tf.broadcast_to(bound, tf.shape(state[0])[1:]) for bound in (lower, upper))
        level = (upper - lower) / 255

        def as_saved(state: Any) -> tf.Tensor:
            x, change, epsilon = state
            return tf.minimum(tf.maximum(x + level * whole(change, epsilon), lower), upper)

        def climb(state: Any, up: tf.Tensor) -> Any:
            x, change, epsilon = state
            length = 2.5 * epsilon / steps
            return x, projected(change + length * steepest(level * up), epsilon), epsilon

        rules: Any = {"as_saved": as_saved, "climb": climb, "away": away}
        return look_and_climb(get_model(), state, goals, may_climb, **rules)

    return step


def _into_ball(change: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    length = l2_norm(change)
    return change * tf.minimum(1.0, tf.math.divide_no_nan(epsilon, length))


def _into_cube(change: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(change, -epsilon, epsilon)


def _whole_in_ball(change: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """The largest multiple of each change that is within epsilon once it is rounded, rounded.

    Adding a unit to a value m of it costs 2 m + 1 of epsilon squared, and gains what the change is
    there, so that of all whole changes within epsilon this one goes furthest along the change.
    """
    n, epsilon = tf.shape(change)[0], epsilon[:, :, 0, 0]
    largest = tf.reduce_max(tf.abs(change), axis=(1, 2, 3), keepdims=True)
    size = tf.math.divide_no_nan(tf.abs(change), largest)
    bins = tf.cast(tf.math.ceil(size * _BINS), tf.int32)  # what is counted is never too small
    counts = tf.math.bincount(
        tf.reshape(bins, (n, -1)), minlength=_BINS + 1, maxlength=_BINS + 1, axis=-1
    )
    counts = tf.cast(counts, change.dtype)  # (n, bins)
    sizes = tf.range(_BINS + 1, dtype=change.dtype) / _BINS

    def halve(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # (n, 1)
        middle = tf.sqrt(low * high)
        length = tf.sqrt(
            tf.reduce_sum(counts * tf.round(middle * sizes) ** 2, axis=1, keepdims=True)
        )
        return tf.where(length <= epsilon, middle, low), tf.where(length <= epsilon, high, middle)

    bounds = tf.fill([n, 1], tf.constant(0.49, change.dtype)), 2 * epsilon + 2
    for _ in range(14):
        bounds = halve(*bounds)
    factor = bounds[0][:, :, None, None]
    return tf.round(factor * size) * tf.sign(change)


_BINS = 8192


def _whole_in_cube(change: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    return _into_cube(tf.round(change), tf.floor(epsilon))


# for each norm: the steepest direction, the nearest change within the budget, the whole one to look at
_NORMS: dict[str, tuple[Callable[..., tf.Tensor], ...]] = {
    "l2": (normalized, _into_ball, _whole_in_ball),
    "linf": (tf.sign, _into_cube, _whole_in_cube),
}
