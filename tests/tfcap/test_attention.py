"""Attention over an image's cells: central differences, Keras's attention, groups of rows, masks."""

import functools

import numpy as np
import pytest

from tfcap import functional, ops
from tfcap.layers import swap_o_and_g
from visualization.backend import keras, tf

from .gradient_check import central_differences, relative_error
from .op_cases import (
    ATTENTION_WEIGHTS,
    CASES,
    HEADS,
    A,
    D,
    L,
    T,
    assert_agree,
    compiled,
    inside,
    of_two_steps,
    outputs_and_gradients,
    second_derivatives,
)

ROWS, IMAGES = 4, 2
ROUNDS_TO = 1e-6  # Keras has 1 / sqrt(d) in float32
CELLS = (IMAGES, L, A)
IMAGE_OF_ROW = np.array([1, 0, 1, 1])
MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
STATES = (ROWS, A), (ROWS, A)
# name -> the shapes of what is differentiated, and what else the function takes
FUNCTIONS = {
    "attention": (((ROWS, A), CELLS, CELLS), ()),
    "attention_lstm_step": (((ROWS, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS), ()),
    "attention_lstm_sequence": (((ROWS, T, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS), ()),
    "masked attention_lstm_sequence": (
        ((ROWS, T, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS),
        (IMAGE_OF_ROW, MASK),
    ),
}
each_function = pytest.mark.parametrize("name", FUNCTIONS)


def draw(*shapes, seed=0, scale=0.7):
    rng = np.random.default_rng(seed)
    return [rng.normal(scale=scale, size=shape) for shape in shapes]


def pair(name):
    """The forward function in a graph, without weights and cache, and its gradients."""
    shapes, others = FUNCTIONS[name]
    name = name.removeprefix("masked ")
    forward = getattr(functional, f"{name}_forward")
    backward = getattr(functional, f"{name}_backward")

    in_graph = compiled(lambda *arrays: forward(*arrays, HEADS, *others)[:-2])

    def run(*arrays):
        return [output.numpy() for output in in_graph(*map(tf.constant, arrays))]

    def gradients(arrays, upstream):
        *_, cache = forward(*arrays, HEADS, *others)
        return backward(*upstream, cache)

    return shapes, run, gradients


# -------------------------------------------------------------------------- central differences


@each_function
def test_every_gradient_agrees_with_central_differences(name):
    shapes, run, gradients = pair(name)
    arrays = draw(*shapes)
    upstream = draw(*(output.shape for output in run(*arrays)), seed=1)
    for argument, gradient in zip(arrays, gradients(arrays, upstream), strict=True):
        assert isinstance(gradient, np.ndarray)
        numeric = central_differences(lambda: run(*arrays), argument, upstream)
        assert relative_error(gradient, numeric) < 1e-7


@each_function
@pytest.mark.parametrize("seed", range(2))
def test_the_derivative_in_any_direction_agrees_with_central_differences(name, seed):
    shapes, run, gradients = pair(name)
    arrays, directions = draw(*shapes, seed=seed), draw(*shapes, seed=seed + 10)
    upstream = draw(*(output.shape for output in run(*arrays)), seed=seed + 20)
    found = gradients(arrays, upstream)
    step = 1e-5
    for place, direction in enumerate(directions):

        def moved(by, place=place, direction=direction):
            there = list(arrays)
            there[place] = there[place] + by * direction
            return sum(np.sum(o * u) for o, u in zip(run(*there), upstream, strict=True))

        numeric = (moved(step) - moved(-step)) / (2 * step)
        assert np.sum(found[place] * direction) == pytest.approx(numeric, rel=1e-6, abs=1e-8)


# --------------------------------------------------------------------------------- beside Keras


def keras_attention(Wq, heads=HEADS):
    """Keras's attention for queries that Wq makes, and keys and values as they are."""
    layer = keras.layers.MultiHeadAttention(heads, A // heads, use_bias=False, dtype="float64")
    layer.build((None, 1, A), (None, L, A), (None, L, A))
    same = np.eye(A)
    split = (A, heads, A // heads)
    layer.set_weights([w.reshape(split) for w in (Wq, same, same)] + [same.reshape(heads, -1, A)])
    return layer


def keras_lstm(x, h, c, keys, values, Wx, Wh, Wz, Wq, b):
    """All steps, with Keras's attention and Keras's LSTM cell on the input [x context]."""
    attention, cell = keras_attention(Wq), keras.layers.LSTMCell(A, dtype="float64")
    cell.build((None, D + A))
    cell.set_weights([swap_o_and_g(w) for w in (np.concatenate([Wx, Wz]), Wh, b)])
    states, results = [tf.constant(h), tf.constant(c)], []
    for t in range(x.shape[1]):
        context, weights = attention(
            states[0][:, tf.newaxis], values, keys, return_attention_scores=True
        )
        h, states = cell(tf.concat([x[:, t], context[:, 0]], axis=1), states)
        results.append((h, context[:, 0], weights[:, :, 0]))
    return *(tf.stack(value, axis=1) for value in zip(*results, strict=True)), *states


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_attention_is_that_of_keras_with_its_weights_placed(heads):
    q, keys, values = draw((ROWS, A), (ROWS, L, A), (ROWS, L, A))
    layer = keras_attention(np.eye(A), heads)
    expected, weights = layer(q[:, np.newaxis], values, keys, return_attention_scores=True)
    out, ours, _ = functional.attention_forward(q, keys, values, heads)
    np.testing.assert_allclose(out, expected[:, 0], atol=ROUNDS_TO)
    np.testing.assert_allclose(ours, weights[:, :, 0], atol=ROUNDS_TO)


def test_the_gradients_of_attention_are_those_of_keras():
    arrays = draw((ROWS, A), (ROWS, L, A), (ROWS, L, A))
    layer = keras_attention(np.eye(A))
    arrays = [tf.constant(a) for a in arrays]
    mine = outputs_and_gradients(lambda *a: ops.attention(*a, HEADS)[0], arrays)
    theirs = outputs_and_gradients(lambda q, k, v: layer(q[:, tf.newaxis], v, k)[:, 0], arrays)
    assert_agree(mine, theirs, ROUNDS_TO)


def test_the_lstm_that_looks_is_that_of_keras_with_its_weights_placed():
    x, h, c, keys, values, *weights = draw((ROWS, T, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS)
    own = [keys[IMAGE_OF_ROW], values[IMAGE_OF_ROW]]
    hs, contexts, shown, h_last, c_last = keras_lstm(x, h, c, *own, *weights)
    ours = functional.attention_lstm_sequence_forward(
        x, h, c, keys, values, *weights, HEADS, IMAGE_OF_ROW
    )
    for mine, theirs in zip(ours[:-1], (hs, contexts, h_last, c_last, shown), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=ROUNDS_TO)


# -------------------------------------------------------------------------------- rows of images


def test_a_sequence_is_its_steps_one_after_the_other():
    x, h, c, keys, values, *weights = draw((ROWS, T, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS)
    hs, contexts, _, _, shown, _ = functional.attention_lstm_sequence_forward(
        x, h, c, keys, values, *weights, HEADS
    )
    for t in range(T):
        h, c, context, step_shown, _ = functional.attention_lstm_step_forward(
            x[:, t], h, c, keys, values, *weights, HEADS
        )
        for whole, step in ((hs, h), (contexts, context), (shown, step_shown)):
            np.testing.assert_allclose(whole[:, t], step, atol=1e-12)


def test_rows_lie_with_their_image_or_are_told_it_with_the_same_result():
    arguments = draw((ROWS, 2, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS)
    arguments = [tf.constant(a) for a in arguments]

    def run(**options):
        return outputs_and_gradients(
            lambda *a: ops.attention_lstm(*a, HEADS, **options)[:-1], arguments
        )

    assert_agree(run(), run(image_of_row=np.array([0, 0, 1, 1])), 1e-12)


def test_an_image_without_rows_has_no_gradient():
    arguments = [tf.constant(a) for a in draw((ROWS, T, D), *STATES, CELLS, CELLS)]
    weights = [tf.constant(a) for a in draw(*ATTENTION_WEIGHTS)]
    values = outputs_and_gradients(
        lambda *a: ops.attention_lstm(*a, *weights, HEADS, image_of_row=[1] * ROWS)[:-1],
        arguments,
    )
    dkeys, dvalues = values[-2:]
    assert not dkeys[0].numpy().any()
    assert not dvalues[0].numpy().any()
    assert dkeys[1].numpy().any()


def test_padded_steps_change_nothing():
    x, h, c, keys, values, *weights = draw((ROWS, T, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS)
    images = h, c, keys, values, *weights, HEADS
    hs, contexts, *last, shown = ops.attention_lstm(x, *images, mask=MASK)
    again = ops.attention_lstm(np.where(MASK[..., np.newaxis], x, 9.0), *images, mask=MASK)
    for value, other in zip((hs, contexts, *last, shown), again, strict=True):
        np.testing.assert_array_equal(value, other)
    assert not contexts.numpy()[~MASK].any()
    np.testing.assert_allclose(shown.numpy()[MASK].sum(axis=-1), 1)
    assert not shown.numpy()[~MASK].any()
    short = ops.attention_lstm(x[1:2, :3], h[1:2], c[1:2], keys[:1], values[:1], *weights, HEADS)
    np.testing.assert_allclose(hs[1, :3], short[0][0], atol=1e-12)
    np.testing.assert_allclose(last[1][1], short[3][0], atol=1e-12)
    np.testing.assert_array_equal(last[0][3], h[3])


def test_no_gradient_passes_through_the_weights_that_are_shown():
    q, keys, values = map(tf.constant, draw((ROWS, A), CELLS, CELLS))
    with tf.GradientTape() as tape:
        tape.watch(q)
        _, weights = ops.attention(q, keys, values, HEADS)
    assert tape.gradient(weights, q) is None


# ------------------------------------------------------------------------------- how it is run


def test_xla_gives_what_tensorflow_gives():
    ours, plain, shapes = CASES["masked attention_lstm"]
    arguments = [tf.constant(a) for a in draw(*of_two_steps(shapes))]
    expected = outputs_and_gradients(plain, arguments)
    jit = inside("jit", lambda: outputs_and_gradients(ours, arguments))
    assert_agree(jit(), expected, 1e-12)


@pytest.mark.parametrize("sorted_rows", [True, False])
def test_rows_that_have_ended_may_be_left_out(sorted_rows):
    """Each row has its own image, as where `image_of_row` is given; rows end one after another."""
    *_, shapes = CASES["masked attention_lstm"]
    arguments = [tf.constant(a) for a in draw(*shapes)]
    N, T = arguments[0].shape[:2]
    lengths = np.linspace(T, 1, N).round().astype(int)
    mask = np.arange(T) < (lengths if sorted_rows else lengths[::-1])[:, np.newaxis]
    row = np.arange(N) % arguments[3].shape[0]

    def run(image_of_row, *given):
        keys, values = given[3:5]
        if image_of_row is None:
            keys, values = tf.gather(keys, row), tf.gather(values, row)
        return ops.attention_lstm(
            *given[:3], keys, values, *given[5:], HEADS, image_of_row=image_of_row, mask=mask
        )[:-1]

    def alone(*given):
        """One row at a time, cut to its length; what follows is the last state, and no context."""
        parts = []
        for k in range(N):
            x, h, c = (v[k : k + 1] for v in given[:3])
            keys, values = (v[row[k] : row[k] + 1] for v in given[3:5])
            n = int(mask[k].sum())
            hs, contexts, *last, _ = ops.attention_lstm(
                x[:, :n], h, c, keys, values, *given[5:], HEADS
            )
            hs = tf.concat([hs, tf.repeat(hs[:, -1:], T - n, axis=1)], axis=1)
            contexts = tf.pad(contexts, [[0, 0], [0, T - n], [0, 0]])
            parts.append([hs, contexts, *last])
        return tuple(tf.concat(part, axis=0) for part in zip(*parts, strict=True))

    expected = outputs_and_gradients(alone, arguments)
    for image_of_row in (row, None):
        found = outputs_and_gradients(functools.partial(run, image_of_row), arguments)
        assert_agree(found, expected, 1e-12)


@pytest.mark.parametrize(
    ("surroundings", "name"),
    [
        pytest.param("graph", "masked attention_lstm", marks=pytest.mark.slow),
        ("jit", "attention"),
    ],
)
def test_second_derivatives_are_right_in_a_graph(surroundings, name):
    ours, plain, shapes = CASES[name]
    arguments = [tf.constant(a) for a in draw(*of_two_steps(shapes))]
    run = inside(surroundings, lambda: second_derivatives(ours, arguments))
    assert_agree(run(), second_derivatives(plain, arguments), 1e-10)


@pytest.mark.parametrize("jit", [False, True])
def test_rows_images_steps_and_cells_may_be_unknown(jit):
    specs = [(None, None, D), (None, A), (None, A), *2 * [(None, None, A)], *ATTENTION_WEIGHTS]
    specs = [*(tf.TensorSpec(s, "float64") for s in specs), tf.TensorSpec([None], "int64")]

    def run(*arguments):
        *arguments, image_of_row = arguments
        return outputs_and_gradients(
            lambda *a: ops.attention_lstm(*a, HEADS, image_of_row=image_of_row)[:-1],
            list(arguments),
        )

    arguments = draw((ROWS, 2, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS)
    arguments = [*map(tf.constant, arguments), tf.constant(IMAGE_OF_ROW)]
    in_graph = compiled(run, input_signature=specs, jit_compile=jit)
    assert_agree(in_graph(*arguments), run(*arguments), 1e-12)


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"heads": 4}, "heads must divide H, received 4 heads and H = 6"),
        ({"heads": 0}, "heads must be a positive integer, received 0"),
        ({"keys": np.zeros((IMAGES, L, 5))}, "H is 6 by h0 and 5 by keys"),
        ({"values": np.zeros((IMAGES, 7, A))}, "L is 5 by keys and 7 by values"),
        ({"image_of_row": [0, 1]}, "N is 4 by x and 2 by image_of_row"),
        ({"image_of_row": [0, 1, 2, 0]}, "image_of_row holds ids from 0 to 2, expected 0 to 1"),
        (
            {"keys": np.zeros((3, L, A)), "values": np.zeros((3, L, A))},
            "received 4 rows and 3 images: give image_of_row",
        ),
    ],
)
@pytest.mark.parametrize(
    "function", [functional.attention_lstm_sequence_forward, ops.attention_lstm]
)
def test_what_does_not_fit_is_refused_with_what_was_received(function, changed, words):
    names = ["x", "h0", "c0", "keys", "values", "Wx", "Wh", "Wz", "Wq", "b"]
    arrays = draw((ROWS, T, D), *STATES, CELLS, CELLS, *ATTENTION_WEIGHTS)
    arguments = {**dict(zip(names, arrays, strict=True)), "heads": HEADS, **changed}
    with pytest.raises(ValueError, match=words.replace("(", r"\(")) as caught:
        function(**arguments)
    assert "\n" not in str(caught.value)
