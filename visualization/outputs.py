"""What a model's outputs are: scores of classes, probabilities, or values. Every number shown follows.

The answer is read from the operations that compute them, and so does not depend on the image or the
weights.
"""

from collections.abc import Iterator
from typing import NamedTuple

from visualization.backend import tf

__all__ = ["Outputs", "as_float", "probabilities", "read_outputs"]

# What keeps probabilities of classes what they are, or averages, clips or smooths them.
_ARRANGES = {"Identity", "Cast", "Reshape", "Squeeze", "ClipByValue", "Maximum", "Minimum"}
_COMBINES = {"AddV2", "Add", "AddN", "Sub", "Mul", "RealDiv", "Mean", "Sum", "Pack", "ConcatV2"}
_COMBINES |= {"StridedSlice", "ExpandDims"}
_LOOPS = {"While", "StatelessWhile"}
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
        return Outputs(kind, tf.reshape(as_float(last.op.inputs[0]), tf.shape(outputs)))
    scores = as_float(outputs)
    if last.op.type == "Transpose" and parts[0].op.type == "Softmax":  # of an axis in the middle
        inputs = as_float(parts[0].op.inputs[0])
        return Outputs("softmax", tf.transpose(inputs, last.op.inputs[1]))
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
    elif operation.type == "TensorListStack" and operation.inputs[0].op.type in _LOOPS:
        loop = operation.inputs[0]  # of `tf.map_fn`, which sets an item in each round
        body = tensor.graph._get_function(loop.op.get_attr("body").name).graph
        written = body.outputs[loop.value_index].op
        while written.type == "Identity":
            written = written.inputs[0].op
        yield from _activations(written.inputs[-1], seen)
    else:
        yield operation.type


def _parts(tensor: tf.Tensor) -> list[tf.Tensor]:
    """What a tensor is computed from, without constants, shapes and axes."""
    return [one for one in tensor.op.inputs if one.dtype.is_floating and one.op.type != "Const"]


def as_float(tensor: tf.Tensor) -> tf.Tensor:
    """Half-precision scores as float32.

    Example:
        >>> as_float(tf.zeros(2, tf.float16)).dtype.name
        'float32'
    """
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)
