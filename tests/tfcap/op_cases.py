"""The ops with small arguments, and the ways to run and compare them, for the tests of ops."""

import numpy as np

from tfcap import functional, ops
from visualization.backend import tf

from .gradient_check import relative_error

N, T, D, H, V = 3, 4, 2, 5, 7
IDS = np.random.default_rng(1).integers(V, size=(N, T))
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]], bool)
RNN_WEIGHTS = (D, H), (H, H), (H,)
LSTM_WEIGHTS = (D, 4 * H), (H, 4 * H), (4 * H,)
SEQUENCE = (N, T, D), (N, H)
A, L, HEADS = 6, 5, 3  # hidden numbers, which the heads divide, and cells of an image
ATTENTION_WEIGHTS = (D, 4 * A), (A, 4 * A), (A, 4 * A), (A, A), (4 * A,)
IMAGE_OF_ROW = np.array([1, 0, 1])  # of two images
SEQUENCES = "rnn", "masked rnn", "lstm", "masked lstm"
SURROUNDINGS = "eager", "graph", "jit"


def weights_of(op):
    return RNN_WEIGHTS if op is ops.rnn else LSTM_WEIGHTS


def draw(*shapes, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [tf.cast(tf.constant(rng.normal(scale=0.5, size=shape)), dtype) for shape in shapes]


def results(forward, *arguments):
    """A forward function as TensorFlow alone would differentiate it, without its cache."""
    *outputs, _ = forward(*arguments)
    return outputs if len(outputs) > 1 else outputs[0]


def mask_of(x):
    """Of T steps; of two, the first and the last, so that steps are skipped on either side."""
    rows, steps, _ = x.shape
    return MASK[:rows, :: T - 1] if steps == 2 else MASK[:rows]


def ids_of(x):
    return IDS[: x.shape[0], : x.shape[1]]


def of_two_steps(shapes):
    """For graphs and XLA: every further step costs as much again."""
    return [(N, 2, *shape[2:]) if shape[:2] == (N, T) else shape for shape in shapes]


def of_rows(x):
    """The image and the mask of each row of x."""
    return {"image_of_row": IMAGE_OF_ROW[: x.shape[0]], "mask": mask_of(x)}


# name -> the op, the same by TensorFlow's own differentiation, and the shapes of what it takes
CASES = {
    "affine": (
        ops.affine,
        lambda *a: results(functional.affine_forward, *a),
        ((N, D, 3), (3 * D, V), (V,)),
    ),
    "rnn_step": (
        ops.rnn_step,
        lambda *a: results(functional.rnn_step_forward, *a),
        ((N, D), (N, H), *RNN_WEIGHTS),
    ),
    "lstm_step": (
        ops.lstm_step,
        lambda *a: results(functional.lstm_step_forward, *a),
        ((N, D), (N, H), (N, H), *LSTM_WEIGHTS),
    ),
    "rnn": (
        ops.rnn,
        lambda *a: results(functional.rnn_sequence_forward, *a),
        (*SEQUENCE, *RNN_WEIGHTS),
    ),
    "masked rnn": (
        lambda x, *a: ops.rnn(x, *a, mask=mask_of(x)),
        lambda x, *a: results(functional.rnn_sequence_forward, x, *a, mask_of(x)),
        (*SEQUENCE, *RNN_WEIGHTS),
    ),
    "lstm": (
        lambda x, h0, c0, *weights: ops.lstm(x, h0, *weights, c0=c0),
        lambda *a: results(functional.lstm_sequence_forward, *a),
        (*SEQUENCE, (N, H), *LSTM_WEIGHTS),
    ),
    "masked lstm": (
        lambda x, h0, c0, *weights: ops.lstm(x, h0, *weights, c0=c0, mask=mask_of(x)),
        lambda x, *a: results(functional.lstm_sequence_forward, x, *a, mask_of(x)),
        (*SEQUENCE, (N, H), *LSTM_WEIGHTS),
    ),
    "attention": (
        lambda *a: ops.attention(*a, HEADS)[:-1],
        lambda *a: results(functional.attention_forward, *a, HEADS)[:-1],
        ((N, A), (N, L, A), (N, L, A)),
    ),
    "attention_lstm_step": (
        lambda *a: ops.attention_lstm_step(*a, HEADS)[:-1],
        lambda *a: results(functional.attention_lstm_step_forward, *a, HEADS)[:-1],
        ((N, D), (N, A), (N, A), (N, L, A), (N, L, A), *ATTENTION_WEIGHTS),
    ),
    "attention_lstm": (
        lambda *a: ops.attention_lstm(*a, HEADS)[:-1],
        lambda *a: results(functional.attention_lstm_sequence_forward, *a, HEADS)[:-1],
        ((N, T, D), (N, A), (N, A), (N, L, A), (N, L, A), *ATTENTION_WEIGHTS),
    ),
    "masked attention_lstm": (
        lambda x, *a: ops.attention_lstm(x, *a, HEADS, **of_rows(x))[:-1],
        lambda x, *a: results(
            functional.attention_lstm_sequence_forward, x, *a, HEADS, *of_rows(x).values()
        )[:-1],
        ((N, T, D), (N, A), (N, A), (2, L, A), (2, L, A), *ATTENTION_WEIGHTS),
    ),
    "word_embedding": (
        lambda W: ops.word_embedding(IDS, W),
        lambda W: results(functional.word_embedding_forward, IDS, W),
        ((V, D),),
    ),
    "temporal_affine": (
        ops.temporal_affine,
        lambda *a: results(functional.temporal_affine_forward, *a),
        ((N, T, D), (D, V), (V,)),
    ),
    "temporal_softmax_loss": (
        lambda x: ops.temporal_softmax_loss(x, ids_of(x), mask_of(x)),
        lambda x: functional.temporal_softmax_loss(x, ids_of(x), mask_of(x))[0],
        ((N, T, V),),
    ),
}


def scalar(outputs):
    """Some number that depends on every output, each in its own way."""
    return tf.add_n(
        [
            tf.reduce_sum(tf.sin(tf.cast(k + 1, output.dtype) * output))
            for k, output in enumerate(tf.nest.flatten(outputs))
        ]
    )


def outputs_and_gradients(function, arguments):
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        outputs = function(*arguments)
        loss = scalar(outputs)
    gradients = map(tf.convert_to_tensor, tape.gradient(loss, arguments))
    return [*tf.nest.flatten(outputs), *gradients]


def second_derivatives(function, arguments):
    with tf.GradientTape() as outer:
        outer.watch(arguments)
        gradients = outputs_and_gradients(function, arguments)
        loss = scalar(gradients)
    zero = tf.UnconnectedGradients.ZERO
    return [*map(tf.convert_to_tensor, outer.gradient(loss, arguments, None, zero))]


def assert_agree(ours, theirs, to):
    for a, b in zip(ours, theirs, strict=True):
        assert relative_error(tf.cast(a, "float64"), tf.cast(b, "float64")) < to


def compiled(function, **options):
    return tf.function(function, autograph=False, **options)


def inside(surroundings, function):
    """The function as it is, in a graph, or in a graph that XLA compiles."""
    if surroundings == "eager":
        return function
    return compiled(function, jit_compile=surroundings == "jit")
