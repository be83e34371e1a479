"""The ascent that makes fooling images: a batch climbs, and each image leaves it once it fools."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.gradients import (
    class_count,
    class_score,
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
from visualization.outputs import Outputs, probabilities

__all__ = ["Task", "ascend", "check_classes", "join_batches", "seen_as"]


@dataclass(frozen=True)
class Task:
    """What is to be fooled, checked.

    Attributes:
        images: uint8 (N, H, W, C).
        goals: int32 (N,), the classes to reach; where `away`, to be found by the first look.
        away: reach any class but the one that is seen.
        classes: K.
        scaling: pixels to the model's input and back.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> task = Task.of(np.zeros((1, 2, 2, 3), np.uint8), None, model, lambda x: x / 255, (0, 255))
        >>> task.away, task.classes
        (True, 3)
    """

    images: np.ndarray
    goals: np.ndarray
    away: bool
    classes: int
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
        return cls(images, goals, away, classes, scaling)


def ascend(
    model: keras.Model,
    state: Any,
    goals: tf.Tensor,
    max_iterations: tf.Tensor,
    *,
    away: bool,
    classes: int,
    as_saved: Callable[[Any], tf.Tensor],
    climb: Callable[[Any, tf.Tensor], Any],
    views: Callable[[tf.Tensor], list[tf.Tensor]] = lambda saved: [saved],
) -> dict[str, tf.Tensor]:
    """Climbs until the model sees each image's goal, or its steps are used up; in a `tf.function`.

    Each step looks at the images as they will be saved, so its scores are also what to tell of them;
    the pass back is made only if an image goes on.

    Args:
        model: any Keras model with one output of shape (N, K).
        state: what a step changes: a tensor or a structure of them, (N, ...) each.
        goals: int32 (N,), the classes to reach.
        max_iterations: the largest number of steps.
        away: the goals are instead the classes that are seen first, and to be left.
        classes: K.
        as_saved: state of n images -> the model's input for them as saved, (n, H, W, C).
        climb: that state, and the direction in which the score rises, (n, H, W, C) -> the state
            after a step.
        views: `as_saved` -> the model's inputs as which the images are seen, (n, H, W, C) each; the
            model must see the goal in every one, and the direction is that in which all rise.

    Returns:
        What each image leaves with: "saved" (N, H, W, C), as the model's input; "goals", "iterations"
        and "success" (N,); "before" and "after", scores and probabilities (N, 2, K) of the first look
        and the last, at the first view that does not fool, if any; and "trace", the goal's score among
        them at each look, (N, T + 1).

    Raises:
        ValueError: the model gives one value, as a regression does.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> X, blue = tf.fill((1, 2, 2, 3), 0.5), tf.constant([2])
        >>> settings = {"away": False, "classes": 3, "as_saved": lambda X: X}
        >>> run = tf.function(lambda: ascend(model, X, blue, 9, climb=lambda X, up: X + up, **settings))
        >>> found = run()
        >>> found["iterations"].numpy().tolist(), found["saved"][0, 0, 0].numpy().tolist()
        ([1], [0.375, 0.375, 1.0])
    """

    def step(t, rows, state, goals, before, found, trace):  # type: ignore[no-untyped-def]
        """state, goals and before are of the images still in the batch; rows (n,), their places."""

        n = tf.size(rows)

        def goals_of(scores: tf.Tensor) -> tf.Tensor:
            seen_first = tf.argmax(scores[:n], axis=1, output_type=tf.int32)
            return tf.where(t == 0, seen_first, goals) if away else goals

        def objective(outputs: Outputs) -> tf.Tensor:
            # classes that are right or wrong each on its own have no margin over others
            score = class_score if outputs.kind == "sigmoid" else score_and_margin
            return score(tf.tile(goals_of(outputs.scores), [V]))(outputs.scores)

        saved = as_saved(state)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(saved)
            inputs = tf.concat(seen := views(saved), axis=0)  # (V n, H, W, C)
        V = len(seen)
        (kind, scores), go_back = outputs_before_gradients(model, inputs, objective)
        check_classes(model, kind, scores)
        goals = goals_of(scores)
        fools = tf.reshape(seen_as(kind, scores, tf.tile(goals, [V])) != away, (V, n))
        looks = tf.cast(tf.stack([scores, probabilities(kind, scores)], axis=1), saved.dtype)
        failing = tf.argmin(tf.cast(fools, tf.int32), axis=0, output_type=tf.int32)  # 0 if none is
        look = tf.gather(looks, failing * n + tf.range(n))  # (n, 2, K)
        before = tf.where(t == 0, look, before)
        reached = tf.gather(look[:, 0], goals, batch_dims=1)  # (n,)
        trace = trace.write(t, _put(tf.fill([N], float("nan")), rows, reached))

        success = tf.reduce_all(fools, axis=0)
        leaves = success | (t == max_iterations)
        last = {"saved": saved, "success": success, "iterations": tf.fill([n], t)}
        last |= {"goals": goals, "before": before, "after": look}
        found = {name: _put(found[name], rows[leaves], last[name][leaves]) for name in found}

        def climbed() -> Any:
            up = tape.gradient(inputs, saved, output_gradients=go_back())
            after = climb(state, -up if away else up)
            # which bounds of an unknown number of channels would make unknown
            return tf.nest.map_structure(
                lambda new, old: tf.ensure_shape(new, (None, *old.shape[1:])), after, state
            )

        state_after = tf.cond(tf.reduce_all(leaves), lambda: state, climbed)
        batch = rows, state_after, goals, before
        return t + 1, *tf.nest.map_structure(lambda of_n: of_n[~leaves], batch), found, trace

    N = tf.shape(goals)[0]
    saved = as_saved(state)
    looks = tf.zeros([N, 2, classes], saved.dtype)
    found = {"saved": saved, "goals": goals, "iterations": goals, "success": goals < 0}
    found |= {"before": looks, "after": looks}
    batch = tf.nest.map_structure(_of_any_number, (tf.range(N), state, goals, looks, found))
    trace = tf.TensorArray(saved.dtype, 1, dynamic_size=True, element_shape=[None])
    shapes = tf.nest.map_structure(lambda one: one.shape, batch)
    *_, found, trace = tf.while_loop(
        lambda t, rows, *_: tf.size(rows) > 0,
        step,
        (0, *batch, trace),
        shape_invariants=(tf.TensorShape([]), *shapes, tf.TensorShape(None)),
    )
    return found | {"trace": tf.transpose(trace.stack())}


def join_batches(batches: list[dict[str, tf.Tensor]]) -> dict[str, np.ndarray]:
    """What `ascend` returned for one batch after another, as arrays; short traces end in NaN.

    Example:
        >>> batches = [{"trace": tf.ones((1, 1))}, {"trace": tf.ones((1, 2))}]
        >>> join_batches(batches)["trace"].tolist()
        [[1.0, nan], [1.0, 1.0]]
    """
    longest = max(batch["trace"].shape[1] for batch in batches)
    for batch in batches:
        missing = longest - batch["trace"].shape[1]
        batch["trace"] = tf.pad(batch["trace"], ((0, 0), (0, missing)), constant_values=np.nan)
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


def _of_any_number(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor, whose first axis is of no known length.

    TensorFlow's optimizer (2.21) would otherwise take the length at the first step for that of all, and
    write it into a model's reshapes.
    """
    return tf.compat.v1.placeholder_with_default(tensor, (None, *tensor.shape[1:]))


def _put(tensor: tf.Tensor, rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return tf.tensor_scatter_nd_update(tensor, rows[:, None], values)
