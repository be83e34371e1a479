"""The gradient of a class's score with respect to the image, for any Keras model.

Everything in this package that looks at a network through its gradient stands on these functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from visualization.backend import keras, tf
from visualization.compilation import BATCH_SIZE, GetModel, compiled, in_batches, traced_alone
from visualization.input_checks import check_images, check_labels, names_of
from visualization.outputs import Outputs, as_float, probabilities, read_outputs
from visualization.targets import Scored

__all__ = [
    "Prediction",
    "check_target",
    "class_count",
    "class_score",
    "computed_if",
    "image_gradients",
    "l2_norm",
    "logits",
    "logits_and_gradients",
    "model_outputs",
    "normalized",
    "outputs_before_ascent",
    "outputs_before_gradients",
    "predict",
    "predict_probabilities",
    "predict_scores",
    "score_and_margin",
    "softmax",
]

Objective = Callable[[tf.Tensor], tf.Tensor]  # logits (N, K) -> one number for each image (N,)


def predict_scores(model: keras.Model, images: Any, *, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """The model's logits, in inference mode; see `logits`.

    Args:
        model: any Keras model with one output of shape (N, K).
        images: floating point (N, H, W, C), the model's input.
        batch_size: how many images are processed at a time; it bounds the memory.

    Returns:
        floating point (N, K).

    Raises:
        ValueError: the images or the model's output have another shape, or an image contains NaN.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> predict_scores(model, np.full((2, 8, 8, 3), 0.5)).tolist()
        [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """
    return predict(model, images, batch_size=batch_size).scores


def predict_probabilities(
    model: keras.Model, images: Any, *, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """The probability of each class, in inference mode.

    They are the softmax of several linear outputs, and what a softmax or a sigmoid at the end of the
    model gives, also if it is averaged, clipped or smoothed. A model of values, such as a regression
    with one output, has no probabilities: its values are returned as they are.

    Args:
        model, images, batch_size: as for `predict_scores`.

    Returns:
        floating point (N, K).

    Raises:
        ValueError: as `predict_scores`.

    Example:
        >>> layers = [keras.layers.Flatten(), keras.layers.Activation("sigmoid")]
        >>> model = keras.Sequential([keras.Input((1, 1, 2)), *layers])
        >>> predict_probabilities(model, np.zeros((1, 1, 1, 2))).tolist()
        [[0.5, 0.5]]
    """
    return predict(model, images, batch_size=batch_size).probabilities


class Prediction(NamedTuple):
    """What a model says of N images.

    Attributes:
        scores, probabilities: floating point (N, K).
        kind: what the scores are, see `visualization.outputs.Outputs`.

    Example:
        >>> Prediction(np.zeros((1, 2)), np.full((1, 2), 0.5), "softmax").kind
        'softmax'
    """

    scores: np.ndarray
    probabilities: np.ndarray
    kind: str


def predict(model: keras.Model, images: Any, *, batch_size: int = BATCH_SIZE) -> Prediction:
    """The model's scores, and the numbers to show for them; arguments as for `predict_scores`.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> scores, probabilities, kind = predict(model, np.zeros((1, 8, 8, 3)))
        >>> scores.tolist(), probabilities.shape, kind
        ([[0.0, 0.0, 0.0]], (1, 3), 'softmax')
    """
    images = check_images(model, images)
    scores, shown, kinds = in_batches(compiled(model, _build_prediction), batch_size, images)
    return Prediction(scores, shown, kinds[0].decode())


def image_gradients(
    X: Any, y: Any, model: keras.Model, *, batch_size: int = BATCH_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of each image's score for its class with respect to the image.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K), or as names where
            the model has `class_names` or is a bundled one; or a function from the model's output, or
            outputs, to one number for each image, (N,), such as `unit_of` and `class_over` make.
        model: any Keras model with one output of shape (N, K).
        batch_size: how many images are processed at a time; it bounds the memory.

    Returns:
        d(logit of y)/dX, (N, H, W, C), and the logits, (N, K); with a function, d(y)/dX and its
        numbers, (N, 1).

    Raises:
        ValueError: shapes that do not fit, NaN in X, a class that does not exist, or a model through
            which no gradient reaches the image.
        TypeError: y is not of integers.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> gradients, _ = image_gradients(np.zeros((1, 2, 2, 3)), 1, model)
        >>> gradients[0, 0, 0].tolist()
        [0.0, 0.25, 0.0]
    """
    X, y, model = check_target(X, y, model)
    gradients, scores = in_batches(compiled(model, _build_gradients), batch_size, X, y)
    return gradients, scores


def class_count(model: keras.Model, images: np.ndarray) -> int:
    """The number of classes K; a model that does not state it is asked about the first image.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> class_count(model, np.zeros((1, 2, 2, 3)))
        3
    """
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and shape[1] is not None:
        return shape[1]
    return predict_scores(model, images[:1]).shape[1]


def check_target(X: Any, y: Any, model: keras.Model) -> tuple[np.ndarray, np.ndarray, keras.Model]:
    """Checks X and what to explain, and returns the images, their classes and the model to ask.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: classes as for `check_labels`; or a function from what the model returns to one number for
            each image, (N,), which becomes class 0 of the model that is returned.
        model: any Keras model.

    Raises:
        ValueError, TypeError: as `check_images` and `check_labels`.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> X, y, scored = check_target(np.ones((1, 2, 2, 3)), lambda scores: 7 * scores[:, 0], model)
        >>> y.tolist(), scored(X).numpy().tolist()
        ([0], [[7.0]])
    """
    X = check_images(model, X)
    if callable(y):
        return X, np.zeros(len(X), np.int32), Scored(model, y)
    return X, check_labels(y, len(X), class_count(model, X), names_of(model)), model


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities of the classes from logits, along the last axis.

    Example:
        >>> softmax(np.log([[1.0, 3.0]])).round(3).tolist()
        [[0.25, 0.75]]
    """
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


# ------------------------------------------------------------ the parts of compiled functions


def logits(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """The model's logits in inference mode, (N, K); to be called inside a `tf.function`.

    Where a softmax or a sigmoid comes last, these are its inputs: a probability near 1 has almost no
    gradient. This works for any model whose softmax is in the traced graph, however the model was
    built; `visualization.outputs` says what they are otherwise. Half-precision logits are returned as
    float32.

    Raises:
        ValueError: the model's output is not one tensor of shape (N, K).

    Example:
        >>> layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Softmax()]
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), *layers])
        >>> tf.function(lambda X: logits(model, X))(tf.fill((1, 2, 2, 3), 0.5)).numpy().tolist()
        [[0.5, 0.5, 0.5]]
    """
    return model_outputs(model, images).scores


def model_outputs(model: keras.Model, images: tf.Tensor) -> Outputs:
    """The model's scores and what they are; see `logits`, whose arguments and errors it has.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> tf.function(lambda X: model_outputs(model, X).kind)(tf.zeros((1, 2, 2, 3))).numpy()
        b'softmax'
    """
    with traced_alone():
        outputs = _called_in_this_graph(model, images)
    if isinstance(model, Scored):
        return Outputs("values", as_float(outputs))
    if not tf.is_tensor(outputs) or outputs.shape.rank != 2:
        shape = getattr(outputs, "shape", None) or type(outputs).__name__
        raise ValueError(
            f"the output of model {model.name!r} is {shape}, expected scores of shape (N, classes): "
            "give y as a function of the outputs, of a segmentation class_over(mask, label), or make a "
            "model of one of them, "
            "keras.Model(model.input, model.output[...])"
        )
    return read_outputs(outputs)


def _called_in_this_graph(model: keras.Model, images: tf.Tensor) -> Any:
    """The model's outputs, with its own `tf.function`s traced into the graph at hand.

    From outside of such a function, what is in it cannot be read or differentiated. One that needs
    autograph stays a function.
    """
    # Around an error of `y`, Keras would put its own words.
    call = model.call if isinstance(model, Scored) else model
    eagerly = tf.config.functions_run_eagerly()
    try:
        tf.config.run_functions_eagerly(True)
        return call(images, training=False)
    except tf.errors.OperatorNotAllowedInGraphError:
        tf.config.run_functions_eagerly(False)
        return call(images, training=False)
    finally:
        tf.config.run_functions_eagerly(eagerly)


def logits_and_gradients(
    model: keras.Model, images: tf.Tensor, objective: Objective
) -> tuple[tf.Tensor, tf.Tensor]:
    """The logits (N, K), and d(objective)/d(images) (N, H, W, C); inside a `tf.function`.

    Args:
        images: (N, H, W, C), the model's input.
        objective: logits (N, K) -> (N,), one number for each image.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> red = class_score(tf.constant([0]))
        >>> run = tf.function(lambda X: logits_and_gradients(model, X, red))
        >>> run(tf.zeros((1, 2, 2, 3)))[1][0, 0, 0].numpy().tolist()
        [0.25, 0.0, 0.0]
    """
    outputs, gradients = outputs_before_gradients(model, images)
    return outputs.scores, gradients(objective)


def outputs_before_gradients(
    model: keras.Model, images: tf.Tensor
) -> tuple[Outputs, Callable[[Objective], tf.Tensor]]:
    """What `model_outputs` returns, and a function that goes back; inside a `tf.function`.

    So the pass back can be left out when the scores say that it is not needed: call the function in
    `computed_if`. Each objective that it is called with is another pass back from the one forward.

    Args:
        images: (N, H, W, C), the model's input.

    Returns:
        The outputs, and a function from an objective, scores (N, K) -> (N,), one number for each image,
        to d(objective)/d(images), (N, H, W, C).

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> @tf.function
        ... def run(X):
        ...     outputs, gradients = outputs_before_gradients(model, X)
        ...     red = lambda: gradients(lambda scores: scores[:, 0])
        ...     return computed_if(outputs.scores[0, 0] < 1, red, X)
        >>> run(tf.zeros((1, 2, 2, 3)))[0, 0, 0].numpy().tolist()
        [0.25, 0.0, 0.0]
    """
    with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
        tape.watch(images)
        outputs = model_outputs(model, images)

    def gradients(objective: Objective) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as of_scores:
            of_scores.watch(outputs.scores)
            value = objective(outputs.scores)
        upstream = of_scores.gradient(value, outputs.scores)
        found = tape.gradient(outputs.scores, images, output_gradients=upstream)
        if found is None:
            raise ValueError(
                f"no gradient of model {model.name!r} reaches the image: one of its steps, such as "
                "rounding, a NumPy function or a cast to integers, has none"
            )
        return found

    return outputs, gradients


def computed_if(wanted: tf.Tensor, compute: Callable[[], Any], otherwise: Any) -> Any:
    """`compute()` if it is wanted, `otherwise` if not, in the same graph; inside a `tf.function`.

    `tf.cond` calls a graph of its own. If it goes back through a max pooling whose forward pass is not
    in that graph, oneDNN cannot use what it noted then, and TensorFlow finds each maximum again: six
    times as slow, which makes a pass through SqueezeNet take half as long again.

    Args:
        wanted: bool ().
        compute: () -> a tensor or a structure of them.
        otherwise: the same structure, with tensors of the same shapes.

    Example:
        >>> run = tf.function(lambda x: computed_if(x > 0, lambda: tf.sqrt(x), x))
        >>> run(tf.constant(4.0)).numpy().item(), run(tf.constant(-4.0)).numpy().item()
        (2.0, -4.0)
    """
    # What depends on the output that is not chosen does not run, and a merge passes on what did.
    unwanted, goes_on = tf.raw_ops.Switch(data=wanted, pred=wanted)
    with tf.control_dependencies([tf.identity(goes_on)]):
        computed = tf.nest.map_structure(tf.identity, compute())
    with tf.control_dependencies([tf.identity(unwanted)]):
        kept = tf.nest.map_structure(tf.identity, otherwise)

    def chosen(computed: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
        merged = tf.raw_ops.Merge(inputs=[computed, kept]).output
        return tf.ensure_shape(merged, kept.shape)

    return tf.nest.map_structure(chosen, computed, kept)


def class_score(labels: tf.Tensor) -> Objective:
    """The objective that is the logit of each image's own label; labels (N,) integer.

    Example:
        >>> class_score(tf.constant([1]))(tf.constant([[3.0, 5.0]])).numpy().tolist()
        [5.0]
    """
    return lambda scores: tf.gather(scores, labels, batch_dims=1)


def score_and_margin(targets: tf.Tensor) -> Objective:
    """The objective that is the target's logit plus its margin over the highest other logit.

    Example:
        >>> score_and_margin(tf.constant([1]))(tf.constant([[3.0, 5.0]])).numpy().tolist()
        [7.0]
    """

    def objective(scores: tf.Tensor) -> tf.Tensor:
        is_target = tf.one_hot(targets, scores.shape[1], on_value=True, off_value=False)
        others = tf.where(is_target, scores.dtype.min, scores)
        score = class_score(targets)(scores)
        return score + (score - tf.reduce_max(others, axis=1))

    return objective


def outputs_before_ascent(
    model: keras.Model, images: tf.Tensor, targets: tf.Tensor
) -> tuple[Outputs, Callable[[], tf.Tensor]]:
    """The outputs, and a function that returns an ascent direction for each image's target.

    That is the gradient of the target's logit. Where it is zero, as for a logit that a final ReLU
    keeps at 0, it is the gradient that lowers the highest other logit: a second pass back, made only
    then. Inside a `tf.function`, as `outputs_before_gradients`.

    Example:
        >>> model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> run = tf.function(lambda X: outputs_before_ascent(model, X, tf.constant([2]))[1]())
        >>> run(tf.zeros((1, 2, 2, 3)))[0, 0, 0].numpy().tolist()
        [0.0, 0.0, 0.25]
    """
    outputs, gradients = outputs_before_gradients(model, images)

    def ascent() -> tf.Tensor:
        up = gradients(class_score(targets))
        flat = l2_norm(up) == 0  # (N, 1, 1, 1)

        def with_margin() -> tf.Tensor:
            return tf.where(flat, gradients(score_and_margin(targets)), up)

        return computed_if(tf.reduce_any(flat), with_margin, up)

    return outputs, ascent


def l2_norm(gradients: tf.Tensor) -> tf.Tensor:
    """The Euclidean norm of each image's gradient: (N, H, W, C) -> (N, 1, 1, 1).

    Example:
        >>> l2_norm(tf.constant([3.0, 4.0])[None, None, None]).numpy().item()
        5.0
    """
    return tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=(1, 2, 3), keepdims=True))


def normalized(gradients: tf.Tensor) -> tf.Tensor:
    """Each image's gradient divided by its Euclidean norm, (N, H, W, C); zeros where that is 0.

    Example:
        >>> normalized(tf.constant([0.0, -5.0])[None, None, None]).numpy().ravel().tolist()
        [0.0, -1.0]
    """
    return tf.math.divide_no_nan(gradients, l2_norm(gradients))


def _build_prediction(get_model: GetModel) -> Callable[..., Any]:
    @tf.function(reduce_retracing=True, autograph=False)
    def prediction(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        kind, scores = model_outputs(get_model(), images)
        return scores, probabilities(kind, scores), tf.fill([tf.shape(images)[0]], kind)

    return prediction


def _build_gradients(get_model: GetModel) -> Callable[..., Any]:
    @tf.function(reduce_retracing=True, autograph=False)
    def gradients(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores, gradient = logits_and_gradients(get_model(), images, class_score(labels))
        return gradient, scores

    return gradients
