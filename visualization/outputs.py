"""What a model's outputs are: scores of classes, probabilities, or values. Every number shown follows.

The answer is read from the operations that compute them, and so does not depend on the image or the
weights.
"""

from collections.abc import Iterator
from typing import NamedTuple

from visualization.backend import tf

__all__ = ["Outputs", "probabilities", "read_outputs"]

# What keeps probabilities of classes what they are, or averages, clips or smooths them.
_ARRANGES = {"Identity", "Cast", "Reshape", "Squeeze", "ClipByValue", "Maximum", "Minimum"}
_COMBINES = {"AddV2", "Add", "AddN", "Sub", "Mul", "RealDiv", "Mean", "Sum", "Pack", "ConcatV2"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


class Outputs(NamedTuple):
    """The scores of a model whose output is (N, K), and what they are.

    Attributes:
        kind: "softmax", logits, of which one class is the right one; "sigmoid", logits of classes
            that are right or wrong each on its own; "probabilities", the logarithms of numbers that
            divide 1 among the classes, such as a mean of softmaxes; or "values", the output itself,
            which no function makes probabilities of: a regression, a mean of sigmoids.
        scores: floating point (N, K), what is differentiated.

    Example:
        >>> Outputs("values", tf.constant([[34.2]])).kind
        'values'
    """

    kind: str
    scores: tf.Tensor


def read_outputs(outputs: tf.Tensor) -> Outputs:
    """Finds the scores behind a model's outputs (N, K); to be called inside a `tf.function`.

    Where a softmax or a sigmoid comes last, they are its inputs: a probability near 1 has almost no
    gradient. One linear output is a value; several are taken for logits of a softmax.

    Example:
        >>> @tf.function
        ... def kind_of_sigmoid(x):
        ...     return read_outputs(tf.sigmoid(x)).kind
        >>> kind_of_sigmoid(tf.zeros((2, 3))).numpy()
        b'sigmoid'
    """
    activations = set(_activations(outputs, set()))
    last, parts = outputs, _parts(outputs)
    while last.op.type in _ARRANGES and len(parts) == 1 and parts[0].shape[-1:] == last.shape[-1:]:
        last, parts = parts[0], _parts(parts[0])
    if last.op.type in ("Softmax", "Sigmoid"):
        kind = last.op.type.lower()
        return Outputs(kind, tf.reshape(_float(last.op.inputs[0]), tf.shape(outputs)))
    scores = _float(outputs)
    if activations == {"Softmax"}:
        smallest = tf.constant(scores.dtype.min, scores.dtype)
        return Outputs("probabilities", tf.maximum(tf.math.log(scores), smallest))
    if activations == {"Sigmoid"} or outputs.shape[1] == 1:
        return Outputs("values", scores)
    return Outputs("softmax", scores)


def probabilities(kind: str, scores: tf.Tensor) -> tf.Tensor:
    """The numbers to show for scores (N, K): probabilities, or the values of a model without.

    Example:
        >>> probabilities("sigmoid", tf.constant([[0.0]])).numpy().tolist()
        [[0.5]]
    """
    if kind == "values":
        return scores
    return tf.sigmoid(scores) if kind == "sigmoid" else tf.nn.softmax(scores)


def _activations(tensor: tf.Tensor, seen: set[int]) -> Iterator[str]:
    """The types of the operations whose results are arranged or combined into a tensor."""
    operation = tensor.op
    if id(operation) in seen:
        return
    seen.add(id(operation))
    if operation.type in _ARRANGES | _COMBINES:
        for part in _parts(tensor):
            yield from _activations(part, seen)
    elif operation.type in _CALLS:  # what was loaded, or needs autograph
        called = tensor.graph._get_function(operation.get_attr("f").name)
        yield from _activations(called.graph.outputs[tensor.value_index], seen)
    else:
        yield operation.type


def _parts(tensor: tf.Tensor) -> list[tf.Tensor]:
    """What a tensor is computed from, without constants, shapes and axes."""
    return [one for one in tensor.op.inputs if one.dtype.is_floating and one.op.type != "Const"]


def _float(tensor: tf.Tensor) -> tf.Tensor:
    """Half-precision scores as float32."""
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)
