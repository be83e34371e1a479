"""Fooling images: a small change that makes a network see another class, and the command for it.

Szegedy et al. (2014), "Intriguing properties of neural networks", arXiv:1312.6199. The method is
CS231n's: normalised gradient ascent on the target's score until the target has the highest one.

TensorFlow is imported inside the functions that compute, so that ``--help`` answers at once.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import command
from .classes import class_names, find_class, short_name

if TYPE_CHECKING:
    import numpy as np

    from .backend import keras, tf


def make_fooling_image(
    X: Any,
    target_y: int,
    model: "keras.Model",
    learning_rate: float = 1.0,
    max_iterations: int = 100,
) -> Any:
    """Changes an image until the model takes it for `target_y`.

    CS231n's algorithm: while another class has the highest score, X += learning_rate * g / |g|_2,
    where g is the gradient of the target's score. The result may leave the range of valid pixels, and
    rounding it to 8 bits may undo it: `make_fooling_images` makes images that survive being saved.

    Where the target's score has no gradient at all (SqueezeNet ends in a ReLU, so a score can be
    exactly 0), the step goes down the gradient of the highest score instead; where that has none
    either, the image stays as it is. No step is ever NaN.

    Args:
        X: floating point (1, H, W, C), the model's preprocessed input.
        target_y: the class to reach, 0 <= target_y < number of classes.
        model: a Keras model with one output of shape (N, classes).
        learning_rate: L2 length of a step, in the units of the model's input.
        max_iterations: the largest number of steps.

    Returns:
        The fooling image, (1, H, W, C), a tensor if X is one, else a NumPy array. After
        `max_iterations` steps it is returned even if it does not fool yet.

    Raises:
        ValueError: X has another shape or holds NaN, the target is not a class of the model, or a
            number is not positive.
    """
    from .backend import tf
    from .gradients import check_images, check_labels, class_count

    image = check_images(model, X)
    if len(image) != 1:
        raise ValueError(f"X holds {len(image)} images, expected one, (1, H, W, C)")
    target = check_labels(target_y, 1, class_count(model, image))
    fooling, _, _ = _ascend(model, image, target, learning_rate, max_iterations)
    return fooling if tf.is_tensor(X) else fooling.numpy()


@dataclass(frozen=True)
class FoolingResult:
    """What `make_fooling_images` made of N images. Arrays with one entry for each image.

    Attributes:
        images: uint8 (N, H, W, 3), 0..255: the fooling images, as they are to be saved.
        success: bool (N,): the model takes the image above for the target.
        iterations: int (N,): steps taken; 0 where the image was taken for the target from the start.
        predicted_before, predicted_after: int (N,): the class with the highest score.
        probabilities_before, probabilities_after: float (N, K): the softmax of the scores.
        l2: float (N,): Euclidean length of the change, in levels of 0..255.
        linf: int (N,): the largest change of any one value, in levels of 0..255.
        trace: float (N, T + 1): the target's raw score before each of T steps and after; NaN once an
            image has left the batch.
    """

    images: "np.ndarray"
    success: "np.ndarray"
    iterations: "np.ndarray"
    predicted_before: "np.ndarray"
    predicted_after: "np.ndarray"
    probabilities_before: "np.ndarray"
    probabilities_after: "np.ndarray"
    l2: "np.ndarray"
    linf: "np.ndarray"
    trace: "np.ndarray"


def make_fooling_images(
    images: Any,
    targets: Any,
    model: "keras.Model",
    learning_rate: float = 1.0,
    max_iterations: int = 100,
    batch_size: int = 25,
) -> FoolingResult:
    """Changes images until the model takes each for its target, once it has been saved with 8 bits.

    As `make_fooling_image`, but every score and gradient is taken at the image as it would be saved,
    clipped to valid pixels and rounded, while the steps add up unrounded (a straight-through
    estimator). An image that fools leaves the batch.

    Args:
        images: uint8 RGB (N, 224, 224, 3), 0..255.
        targets: integers (N,), or one for all: the classes to reach.
        model: a Keras model that takes what `preprocess_image` makes, with output (N, classes).
        learning_rate: L2 length of a step, in the units of the model's input.
        max_iterations: the largest number of steps for each image.
        batch_size: how many images are worked on at a time; it bounds the memory.

    Raises:
        ValueError: images or targets of another shape or type, or a number is not positive.
    """
    import numpy as np

    from .gradients import check_labels, predict_scores
    from .images import deprocess_image, preprocess_image

    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise ValueError(
            f"images are {images.dtype}{images.shape}, expected uint8 (N, H, W, 3) with N > 0"
        )
    scores_before = predict_scores(model, preprocess_image(images), batch_size)
    targets = check_labels(targets, len(images), scores_before.shape[1])
    valid_range = (preprocess_image([[0, 0, 0]]), preprocess_image([[255, 255, 255]]))
    chunks = []
    for start in range(0, len(images), batch_size):
        chunk = slice(start, start + batch_size)
        inputs = preprocess_image(images[chunk])
        found = _ascend(model, inputs, targets[chunk], learning_rate, max_iterations, valid_range)
        chunks.append([tensor.numpy() for tensor in found])
    inputs, iterations = (np.concatenate([chunk[i] for chunk in chunks]) for i in (0, 1))
    steps = iterations.max()
    traces = [
        np.pad(trace, ((0, 0), (0, 1 + steps - trace.shape[1])), constant_values=np.nan)
        for _, _, trace in chunks
    ]

    fooling = deprocess_image(inputs)
    scores_after = predict_scores(model, preprocess_image(fooling), batch_size)
    change = fooling.astype(np.int64) - images
    return FoolingResult(
        images=fooling,
        success=scores_after.argmax(axis=1) == targets,
        iterations=iterations,
        predicted_before=scores_before.argmax(axis=1),
        predicted_after=scores_after.argmax(axis=1),
        probabilities_before=_softmax(scores_before),
        probabilities_after=_softmax(scores_after),
        l2=np.sqrt(np.sum(change**2, axis=(1, 2, 3))),
        linf=np.abs(change).max(axis=(1, 2, 3)),
        trace=np.concatenate(traces),
    )


def _softmax(scores: "np.ndarray") -> "np.ndarray":
    import numpy as np

    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _ascend(
    model: "keras.Model",
    images: "np.ndarray",
    targets: "np.ndarray",
    learning_rate: float,
    max_iterations: int,
    valid_range: "tuple[np.ndarray, np.ndarray] | None" = None,
) -> "tuple[tf.Tensor, tf.Tensor, tf.Tensor]":
    """Runs the model's compiled loop: images (N, H, W, C), iterations (N,), trace (N, T + 1)."""
    import numpy as np

    from .gradients import compiled

    if not (np.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate is {learning_rate}, expected a positive number")
    if max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations}, expected a positive integer")
    loop = compiled(model, _build_loop, valid_range is not None)
    low, high = valid_range if valid_range is not None else (np.zeros(1), np.ones(1))
    return loop(
        np.float32(images),
        targets,
        np.float32(learning_rate),
        np.int32(max_iterations),
        np.float32(low),
        np.float32(high),
    )


def _build_loop(
    get_model: "Callable[[], keras.Model]", as_saved: bool
) -> "Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]":
    """The ascent of a batch as one graph; with `as_saved`, at the images that 8 bits can hold."""
    from .backend import tf
    from .gradients import l2_norm, score_of, scores_and_gradients

    def direction(view: "tf.Tensor", targets: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        """Scores (n, K), and the unit step (n, H, W, C) that raises each target's score."""
        scores, gradient = scores_and_gradients(get_model(), view, score_of(targets))
        norm = l2_norm(gradient)

        def away_from_highest() -> "tf.Tensor":
            _, highest = scores_and_gradients(
                get_model(), view, lambda scores: tf.reduce_max(scores, axis=1)
            )
            return tf.where(norm > 0, gradient, -highest)

        gradient = tf.cond(tf.reduce_all(norm > 0), lambda: gradient, away_from_highest)
        return scores, tf.math.divide_no_nan(gradient, l2_norm(gradient))

    @tf.function(reduce_retracing=True)
    def ascend(
        x: "tf.Tensor",  # (N, H, W, C)
        targets: "tf.Tensor",  # (N,)
        learning_rate: "tf.Tensor",
        max_iterations: "tf.Tensor",
        low: "tf.Tensor",  # (C,): what the darkest pixel becomes in the model's input
        high: "tf.Tensor",  # (C,): and the brightest
    ) -> "tuple[tf.Tensor, tf.Tensor, tf.Tensor]":
        count = tf.shape(x)[0]

        def saved(x: "tf.Tensor") -> "tf.Tensor":
            levels = tf.clip_by_value(tf.round(255 * (x - low) / (high - low)), 0, 255)
            return low + (high - low) * levels / 255

        def step(t, x, rows, images, iterations, trace):  # type: ignore[no-untyped-def]
            view = saved(x) if as_saved else x
            goal = tf.gather(targets, rows)
            scores, unit = direction(view, goal)
            reached = tf.gather(scores, goal, batch_dims=1)
            blank = tf.fill([count], float("nan"))
            trace = trace.write(t, tf.tensor_scatter_nd_update(blank, rows[:, None], reached))

            fooled = tf.argmax(scores, axis=1, output_type=tf.int32) == goal  # (n,)
            leaves = fooled | (t == max_iterations)
            at = rows[leaves][:, None]
            images = tf.tensor_scatter_nd_update(images, at, view[leaves])
            taken = tf.fill([tf.shape(at)[0]], t)
            iterations = tf.tensor_scatter_nd_update(iterations, at, taken)

            x = (x + learning_rate * unit)[~leaves]
            x = tf.clip_by_value(x, low, high) if as_saved else x
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


def main(argv: list[str] | None = None) -> int:
    """``python -m visualization.fool``: returns 0 if the saved picture fools, 1 if it does not."""
    parser = command.Parser(
        prog="python -m visualization.fool",
        description="Changes a photograph a little, until the network takes it for another class.",
        epilog="example: python -m visualization.fool --target stingray --image cat.jpg",
    )
    parser.add_argument(
        "--target", required=True, metavar="CLASS", help="the class to reach, a number or a name"
    )
    parser.add_argument(
        "--image",
        metavar="PATH|URL",
        help="the photograph (default: matplotlib's grace_hopper.jpg)",
    )
    parser.add_argument(
        "--learning-rate",
        type=command.positive_float,
        default=1.0,
        metavar="L2",
        help="length of a step, in the units of the network's input (default: %(default)s)",
    )
    parser.add_argument(
        "--max-iter",
        type=command.positive_int,
        default=100,
        metavar="N",
        help="give up after this many steps (default: %(default)s)",
    )
    parser.add_common_arguments()
    return command.run(parser, argv, _fool)


def _fool(arguments: argparse.Namespace) -> int:
    target, names = find_class(arguments.target), class_names()
    out = command.OutputFolder(arguments.out)
    image, source = command.read_image(arguments.image, size=224)
    weights = command.check_weights(arguments.weights)

    with command.loading_tensorflow(arguments.quiet):
        from . import plotting
        from .backend import keras
        from .images import load_image
        from .squeezenet import SqueezeNet

        keras.utils.set_random_seed(arguments.seed)
        model = SqueezeNet(weights=arguments.weights)
    with command.progress("fooling ...", arguments.quiet):
        result = make_fooling_images(
            image[None], target, model, arguments.learning_rate, arguments.max_iter
        )
        before = _seen(result.probabilities_before[0], target, names)
        after = _seen(result.probabilities_after[0], target, names)
        drawn = plotting.fooling_figure(image, result.images[0], _title(before), _title(after))

        stem = command.file_stem(Path(source["source"]).stem, short_name(names[target]))
        picture = out.write_image(f"{stem}.png", result.images[0])
        figure = out.write(f"{stem}-figure.png", plotting.png(drawn))
    read_back = bool((load_image(picture) == result.images[0]).all())
    success = bool(result.success[0]) and read_back
    steps, l2, linf = int(result.iterations[0]), float(result.l2[0]), int(result.linf[0])
    record = out.write_json(
        f"{stem}.json",
        {
            "command": "visualization.fool",
            "learning_rate": arguments.learning_rate,
            "max_iter": arguments.max_iter,
            "seed": arguments.seed,
            "image": source,
            "weights": weights,
            "target": {"class": target, "name": names[target]},
            "success": success,
            "iterations": steps,
            "l2": l2,
            "linf": linf,
            "before": before,
            "after": after,
            "target_scores": result.trace[0, : steps + 1].tolist(),
            "fooling_image": picture.name,
            "figure": figure.name,
        },
    )
    if not arguments.quiet:
        print(f"image    {source['source']}")
        print(f"before   {_sentence(before)}")
        print(f"after    {_sentence(after)}")
        print(f"steps    {steps}" + (" (it was taken for the target as it is)" * (steps == 0)))
        print(f"change   L2 {l2:.1f}, largest pixel change {linf} (levels of 0 to 255)")
        print(f"written  {picture}\n         {figure}\n         {record}")
    if not success:
        print(
            f"the network does not take {picture} for {names[target]} after {steps} steps: "
            "try more with --max-iter, or longer ones with --learning-rate",
            file=sys.stderr,
        )
    return 0 if success else 1


def _seen(probabilities: "np.ndarray", target: int, names: list[str]) -> dict[str, Any]:
    """What the network sees in one image, for the record."""
    index = int(probabilities.argmax())
    return {
        "class": index,
        "name": names[index],
        "probability": float(probabilities[index]),
        "target_probability": float(probabilities[target]),
    }


def _title(seen: dict[str, Any]) -> str:
    return f"{short_name(seen['name'])} {seen['probability']:.0%}"


def _sentence(seen: dict[str, Any]) -> str:
    return (
        f"{short_name(seen['name'])} ({seen['class']}) at {seen['probability']:.1%}, "
        f"the target at {seen['target_probability']:.2%}"
    )


if __name__ == "__main__":
    sys.exit(main())
