"""The ascent that makes fooling images: a batch climbs, and each image leaves it once it fools."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.gradients import (
    class_count,
    class_score,
    computed_if,
    outputs_before_gradients,
    score_and_margin,
)
from visualization.images.pixel_scaling import PixelScaling
from visualization.input_checks import (
    check_images,
    check_is_class,
    check_labels,
    check_model,
    check_pixels,
    names_of,
)
from visualization.outputs import probabilities

__all__ = [
    "Task",
    "ascend",
    "check_classes",
    "join_batches",
    "look_and_climb",
    "of_a_batch",
    "seen_as",
]


@dataclass(frozen=True)
class Task:
    """What is to be fooled, checked.

    Attributes:
        images: uint8 (N, H, W, C).
        goals: int32 (N,), the classes to reach; where `away`, -1: what the first look finds.
        away: reach any class but the one that is seen.
        scaling: pixels to the model's input and back.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> task = Task.of(np.zeros((1, 2, 2, 3), np.uint8), None, model, lambda x: x / 255, (0, 255))
        >>> task.away, task.goals.tolist()
        (True, [-1])
    """

    images: np.ndarray
    goals: np.ndarray
    away: bool
    scaling: PixelScaling

    @classmethod
    def of(
        cls,
        images: Any,
        targets: Any,
        model: keras.Model,
        preprocess: Callable[[Any], Any] | None,
        bounds: tuple[float, float],
    ) -> "Task":
        """Checks the arguments of `make_fooling_images`, which raises as it says."""
        images = check_pixels(images)
        check_model(model)
        check_is_class(targets)
        scaling = PixelScaling(preprocess, bounds, images.shape[3])
        classes = class_count(model, check_images(model, scaling.to_input(images[:1])))
        away = targets is None
        goals = check_labels(0 if away else targets, len(images), classes, names_of(model))
        return cls(images, goals - away, away, scaling)


def ascend(
    step: Callable[..., dict[str, Any]],
    state: Any,
    goals: np.ndarray,
    max_iterations: int,
    *settings: Any,
) -> dict[str, np.ndarray]:
    """Climbs until the model sees each image's goal, or its steps are used up.

    Args:
        step: (state, goals, may_climb, *settings) -> what `look_and_climb` returns.
        state: what a step changes: an array or a structure of them, (N, ...) each.
        goals: int32 (N,), the classes to reach; or -1, to leave the one that is seen first.
        max_iterations: the largest number of steps.
        settings: what else a step is given.

    Returns:
        What each image leaves with: "saved" (N, H, W, C), as the model's input; "goals", "iterations"
        and "success" (N,); "before" and "after", scores and probabilities (N, 2, K) of the first look
        and the last; and "trace", the goal's score at each look, (N, T + 1).

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> @tf.function
        ... def step(X, goals, may_climb):
        ...     rules = {"as_saved": lambda X: X, "climb": lambda X, up: X + up}
        ...     return look_and_climb(model, X, goals, may_climb, away=False, **rules)
        >>> found = ascend(step, np.full((1, 2, 2, 3), 0.5, np.float32), np.int32([2]), 9)
        >>> found["iterations"].tolist(), found["saved"][0, 0, 0].tolist()
        ([1], [0.375, 0.375, 1.0])
    """
    rows = np.arange(len(goals))  # the places of the images that are still in the batch
    found: dict[str, np.ndarray] = {}
    trace = []
    settings = tf.nest.map_structure(tf.convert_to_tensor, settings)  # once, not at each step
    for t in range(max_iterations + 1):
        look = step(state, goals, t < max_iterations, *settings)
        state, goals = look.pop("state"), look["goals"].numpy()
        seen = {name: value.numpy() for name, value in look.items()}
        seen["iterations"] = np.full(len(rows), t)
        if t == 0:
            found = {name: np.empty_like(value) for name, value in seen.items()}
            found["before"] = seen["after"]
        trace.append(np.full(len(found["goals"]), np.nan, np.float32))
        trace[t][rows] = np.take_along_axis(seen["after"][:, 0], goals[:, None], axis=1)[:, 0]

        leaves = seen["success"] | (t == max_iterations)
        for name, value in seen.items():
            found[name][rows[leaves]] = value[leaves]
        if leaves.all():
            break
        if leaves.any():
            rows, goals = rows[~leaves], goals[~leaves]
            state = tf.nest.map_structure(lambda one, stays=~leaves: one[stays], state)
    return found | {"trace": np.stack(trace, axis=1)}


def look_and_climb(
    model: keras.Model,
    state: Any,
    goals: tf.Tensor,
    may_climb: tf.Tensor,
    *,
    away: bool,
    as_saved: Callable[[Any], tf.Tensor],
    climb: Callable[[Any, tf.Tensor], Any],
    views: Callable[[tf.Tensor], list[tf.Tensor]] = lambda saved: [saved],
) -> dict[str, Any]:
    """A step of `ascend`: looks at images as they will be saved, and moves them; in a `tf.function`.

    The pass back is made only if one of the images does not fool yet.

    Args:
        model: any Keras model with one output of shape (N, K).
        state, goals: as for `ascend`, of the n images that are still in the batch.
        may_climb: whether a step is left.
        away: an image fools if the model does not see its goal.
        as_saved: state -> the model's input for the images as saved, (n, H, W, C).
        climb: the state, and the direction in which the score rises, (n, H, W, C) -> the state after
            a step.
        views: `as_saved` -> the model's inputs as which the images are seen, (n, H, W, C) each; the
            model must see the goal in every one, and the direction is that in which all rise.

    Returns:
        "state", after the step if one was made; "saved" (n, H, W, C); "goals" and "success" (n,); and
        "after", scores and probabilities (n, 2, K), at the first view that does not fool, if any.

    Raises:
        ValueError: the model gives one value, as a regression does.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> @tf.function
        ... def step(X, may_climb):
        ...     rules = {"as_saved": lambda X: X, "climb": lambda X, up: X + up}
        ...     return look_and_climb(model, X, tf.constant([2]), may_climb, away=False, **rules)
        >>> look = step(tf.fill((1, 2, 2, 3), 0.5), True)
        >>> look["success"].numpy().tolist(), look["state"][0, 0, 0].numpy().tolist()
        ([False], [0.375, 0.375, 1.0])
    """
    n = tf.size(goals)

    saved = as_saved(state)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(saved)
        inputs = tf.concat(seen := views(saved), axis=0)  # (V n, H, W, C)
    V = len(seen)
    (kind, scores), gradients = outputs_before_gradients(model, inputs)
    check_classes(model, kind, scores)
    seen_first = tf.argmax(scores[:n], axis=1, output_type=tf.int32)
    goals = tf.where(goals < 0, seen_first, goals)
    goal_of_view = tf.tile(goals, [V])
    fools = tf.reshape(seen_as(kind, scores, goal_of_view) != away, (V, n))
    looks = tf.cast(tf.stack([scores, probabilities(kind, scores)], axis=1), saved.dtype)
    failing = tf.argmin(tf.cast(fools, tf.int32), axis=0, output_type=tf.int32)  # 0 if none is
    success = tf.reduce_all(fools, axis=0)

    def climbed() -> Any:
        # classes that are right or wrong each on its own have no margin over others
        score = class_score if kind == "sigmoid" else score_and_margin
        back = gradients(score(goal_of_view))
        up = tape.gradient(inputs, saved, output_gradients=back)
        return climb(state, -up if away else up)

    return {
        "state": computed_if(may_climb & ~tf.reduce_all(success), climbed, state),
        "saved": saved,
        "goals": goals,
        "success": success,
        "after": tf.gather(looks, failing * n + tf.range(n)),
    }


def of_a_batch(*shapes: Sequence[int]) -> list[Any]:
    """The signature of a step's state, an array or several, its goals, and whether it may climb.

    The number of images stays open, so that a step is compiled once while they leave the batch.

    Example:
        >>> [tuple(spec.shape) for spec in of_a_batch((8, 8, 3))]
        [(None, 8, 8, 3), (None,), ()]
    """
    state = tuple(tf.TensorSpec((None, *shape)) for shape in shapes)
    goals, may_climb = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.bool)
    return [state if len(state) > 1 else state[0], goals, may_climb]


def join_batches(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `ascend` returned for one batch after another, as one; short traces end in NaN.

    Example:
        >>> batches = [{"trace": np.ones((1, 1))}, {"trace": np.ones((1, 2))}]
        >>> join_batches(batches)["trace"].tolist()
        [[1.0, nan], [1.0, 1.0]]
    """
    longest = max(batch["trace"].shape[1] for batch in batches)
    for batch in batches:
        missing = longest - batch["trace"].shape[1]
        batch["trace"] = np.pad(batch["trace"], ((0, 0), (0, missing)), constant_values=np.nan)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def seen_as(kind: str, scores: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Whether the model sees each image's class: (N, K), (N,) -> bool (N,).

    That is the class with the highest score; of classes that are right or wrong each on its own, one
    with a probability above one half.

    Example:
        >>> seen_as("sigmoid", tf.constant([[3.0, 1.0]]), tf.constant([1])).numpy().tolist()
        [True]
    """
    if kind == "sigmoid":
        return tf.gather(scores, classes, batch_dims=1) > 0
    return tf.argmax(scores, axis=1, output_type=tf.int32) == classes


def check_classes(model: keras.Model, kind: str, scores: Any) -> None:
    """Raises ValueError for a model whose one output is a value, as a regression's.

    Example:
        >>> check_classes(keras.Sequential(name="ages"), "values", np.zeros((1, 1)))
        Traceback (most recent call last):
        ValueError: model 'ages' gives one value for an image, as a regression does, so there is no ...
    """
    if kind == "values" and scores.shape[1] == 1:
        raise ValueError(
            f"model {model.name!r} gives one value for an image, as a regression does, so there is no "
            "class to reach: give a model of classes, or end this one in a sigmoid"
        )
