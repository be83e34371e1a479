"""The ops: which gradient runs, to which precision, what a mask leaves out, what is refused."""

import numpy as np
import pytest

from tfcap import functional, ops, unroll
from visualization.backend import tf

from .op_cases import (
    CASES,
    IDS,
    LSTM_WEIGHTS,
    MASK,
    RNN_WEIGHTS,
    SEQUENCE,
    SEQUENCES,
    SURROUNDINGS,
    D,
    H,
    N,
    T,
    V,
    assert_agree,
    compiled,
    draw,
    inside,
    of_two_steps,
    outputs_and_gradients,
    second_derivatives,
    weights_of,
)

each_op = pytest.mark.parametrize("name", CASES)
RECURRENT = "rnn", "lstm", "attention_lstm"
each_sequence = pytest.mark.parametrize("op", [ops.rnn, ops.lstm])


# --------------------------------------------------- beside TensorFlow's own differentiation


@each_op
@pytest.mark.parametrize(
    ("dtype", "to"),
    [("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 0.05), ("float16", 5e-3)],
)
def test_an_op_agrees_with_the_tape_through_the_same_forward(name, dtype, to):
    ours, plain, shapes = CASES[name]
    arguments = draw(*shapes, dtype=dtype)
    mine = outputs_and_gradients(ours, arguments)
    assert {value.dtype.name for value in mine} == {dtype}
    wide = [tf.cast(a, "float64") for a in arguments]
    assert_agree(mine, outputs_and_gradients(plain, wide), to)
    assert_agree(mine, outputs_and_gradients(plain, arguments), to)


@pytest.mark.parametrize(
    ("name", "way", "surroundings"),
    [
        *((name, "plain", "eager") for name in CASES),
        ("masked lstm", "compiled", "eager"),
        ("masked rnn", "plain", "graph"),
        ("rnn", "compiled", "graph"),
        ("temporal_softmax_loss", "plain", "graph"),
        ("masked rnn", "plain", "jit"),
        ("lstm", "plain", "jit"),
        ("word_embedding", "plain", "jit"),
    ],
    indirect=["way"],
)
def test_second_derivatives_are_right(name, way, surroundings):
    dtype, to = way
    ours, plain, shapes = CASES[name]
    shapes = shapes if (dtype, surroundings) == ("float64", "eager") else of_two_steps(shapes)
    arguments = draw(*shapes, dtype=dtype)
    run = inside(surroundings, lambda: second_derivatives(ours, arguments))
    assert_agree(run(), second_derivatives(plain, arguments), 100 * to)


def test_third_derivatives_are_right():
    ours, plain, shapes = CASES["rnn_step"]
    arguments = draw(*shapes)

    def third(function):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            loss = tf.add_n(map(tf.reduce_sum, second_derivatives(function, arguments)))
        return tape.gradient(loss, arguments)

    assert_agree(third(ours), third(plain), 1e-10)


@pytest.mark.parametrize(("name", "surroundings"), [("rnn", "graph"), ("masked lstm", "eager")])
def test_a_layer_large_enough_to_be_compiled_by_itself_agrees_too(name, surroundings):
    ours, plain, shapes = CASES[name]
    shapes = of_two_steps(shapes)
    large = ops.COMPILED_FROM
    wide = {4 * H: 4 * large, H: large}
    shapes = [tuple(wide.get(size, size) for size in shape) for shape in shapes]
    arguments = [0.1 * a for a in draw(*shapes, dtype="float32")]
    expected = outputs_and_gradients(plain, arguments)
    run = inside(surroundings, lambda: outputs_and_gradients(ours, arguments))
    assert_agree(run(), expected, 1e-5)


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_layers_of_several_sizes_are_compiled_each_for_itself(mask):
    for d, h in ((2, 128), (3, 160)):
        arguments = draw((N, T, d), (N, h), (d, h), (h, h), (h,), dtype="float32")
        x, h0, *weights = [0.1 * a for a in arguments]
        expected, *_ = functional.rnn_sequence_forward(x, h0, *weights, mask)
        np.testing.assert_allclose(ops.rnn(x, h0, *weights, mask=mask)[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_long_sequence_is_worked_on_in_parts_with_the_same_result(name, monkeypatch):
    ours, plain, shapes = CASES[name]
    arguments = draw(*shapes)
    whole = outputs_and_gradients(ours, arguments)
    monkeypatch.setattr(ops, "PART", 3)
    assert_agree(outputs_and_gradients(ours, arguments), whole, 1e-12)
    seconds = second_derivatives(plain, arguments)
    assert_agree(second_derivatives(ours, arguments), seconds, 1e-10)


# ------------------------------------------------------------------- the hand-written one runs


def backward_of(name):
    name = name.removeprefix("masked ")
    return f"{name}_sequence_backward" if name in RECURRENT else f"{name}_backward"


@pytest.mark.parametrize(
    ("name", "way", "surroundings"),
    [
        *((name, "plain", "eager") for name in CASES if name != "temporal_softmax_loss"),
        ("rnn", "compiled", "graph"),
        ("masked lstm", "compiled", "graph"),
        ("affine", "plain", "graph"),
        ("word_embedding", "plain", "jit"),
        ("lstm_step", "plain", "jit"),
        ("masked rnn", "compiled", "jit"),
    ],
    indirect=["way"],
)
def test_without_its_backward_an_op_has_no_gradient(name, way, surroundings, monkeypatch):
    original = getattr(functional, backward_of(name))

    def nothing(*arguments):
        return tf.nest.map_structure(tf.zeros_like, original(*arguments))

    monkeypatch.setattr(functional, backward_of(name), nothing)
    ours, _, shapes = CASES[name]
    shapes = shapes if surroundings == "eager" else of_two_steps(shapes)
    arguments = draw(*shapes, dtype=way[0])

    def gradients():
        return outputs_and_gradients(ours, arguments)[-len(arguments) :]

    assert all(not gradient.numpy().any() for gradient in inside(surroundings, gradients)())


def test_the_loss_has_the_gradient_that_its_function_returns(monkeypatch):
    original = functional.temporal_softmax_loss

    def nothing(*arguments):
        loss, dx = original(*arguments)
        return loss, tf.zeros_like(dx)

    nothing.expected = original.expected
    monkeypatch.setattr(functional, "temporal_softmax_loss", nothing)
    ours, _, shapes = CASES["temporal_softmax_loss"]
    *_, dx = outputs_and_gradients(ours, draw(*shapes))
    assert not dx.numpy().any()


def test_keywords_run_the_hand_written_gradient_too(monkeypatch):
    arguments = draw((N, D), (N, H), *RNN_WEIGHTS)
    expected = outputs_and_gradients(ops.rnn_step, arguments)

    def by_keyword(x, h, Wx, Wh, b):
        return ops.rnn_step(b=b, Wh=Wh, Wx=Wx, prev_h=h, x=x)

    assert_agree(outputs_and_gradients(by_keyword, arguments), expected, 1e-15)
    original = functional.rnn_step_backward
    monkeypatch.setattr(
        functional,
        "rnn_step_backward",
        lambda *a: tf.nest.map_structure(tf.zeros_like, original(*a)),
    )

    def run():
        return outputs_and_gradients(by_keyword, arguments)

    for _, *gradients in (run(), compiled(run)()):
        assert all(not gradient.numpy().any() for gradient in gradients)


# ------------------------------------------------------------------------- masks and direction


@each_sequence
def test_padded_steps_change_nothing(op):
    x, h0, *weights = draw((1, 6, D), (1, H), *weights_of(op))
    keep = np.array([[True, True, False, True, False, False]])
    h, *last = op(x, h0, *weights, mask=keep)
    short, *short_last = op(tf.gather(x, [0, 1, 3], axis=1), h0, *weights)
    np.testing.assert_allclose(tf.gather(h, [0, 1, 3], axis=1), short, atol=1e-12)
    np.testing.assert_allclose(tf.gather(h, [2, 4, 5], axis=1), tf.gather(short, [1, 2, 2], axis=1))
    for a, b in zip(last, short_last, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(
    ("op", "surroundings"), [(ops.rnn, "eager"), (ops.lstm, "graph"), (ops.rnn, "jit")]
)
def test_steps_that_are_padding_for_all_are_left_out_of_the_gradients_too(op, surroundings):
    arguments = draw((2, 5, D), (2, H), *weights_of(op))
    keep = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], bool)

    def padded(*arguments):
        return op(*arguments, mask=keep)

    def short(x, *rest):
        h, *last = op(x[:, :3], *rest, mask=keep[:, :3])
        return tf.concat([h, h[:, 2:], h[:, 2:]], axis=1), *last

    run = inside(surroundings, lambda: outputs_and_gradients(padded, arguments))
    assert_agree(run(), outputs_and_gradients(short, arguments), 1e-12)


@each_sequence
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("rows", [1, 11])
def test_rows_in_any_order_give_the_same_as_each_row_alone(op, side, rows):
    x, h0, *weights = draw((rows, 6, D), (rows, H), *weights_of(op))
    lengths = np.random.default_rng(0).integers(0, 7, size=(rows, 1))
    mask = np.arange(6) < lengths
    mask = mask if side == "right" else mask[:, ::-1]
    together = compiled(lambda: op(x, h0, *weights, mask=mask))()
    alone = [op(x[k : k + 1], h0[k : k + 1], *weights, mask=mask[k : k + 1]) for k in range(rows)]
    for value, single in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(value, tf.concat(single, axis=0), atol=1e-12)


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_blocks_of_rows_that_have_ended_are_not_multiplied(surroundings):
    v = tf.constant([[1.0], [1.0], [np.nan], [np.nan]] * 4)
    for rows, multiplied in ((0, 0), (1, 2), (2, 2)):
        keep = tf.constant(np.arange(16) < rows)[:, tf.newaxis]
        run = inside(
            surroundings, lambda k=keep: unroll.whole_blocks_product(v, tf.ones((1, 1)), k)
        )
        np.testing.assert_array_equal(run()[:, 0], [1] * multiplied + [0] * (16 - multiplied))


@each_sequence
def test_reverse_takes_the_steps_from_the_last_to_the_first(op):
    x, h0, *weights = draw(*SEQUENCE, *weights_of(op))
    backwards = op(x, h0, *weights, mask=MASK, reverse=True)
    forwards = op(x[:, ::-1], h0, *weights, mask=MASK[:, ::-1])
    for a, b in zip(backwards, forwards, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_sequence_of_padding_only_keeps_its_state():
    x, h0, *weights = draw(*SEQUENCE, *LSTM_WEIGHTS)
    h, h_last, c_last = ops.lstm(x, h0, *weights, mask=np.zeros((N, T), bool))
    assert not h.numpy().any()
    assert not c_last.numpy().any()
    np.testing.assert_array_equal(h_last, h0)


# ------------------------------------------------------------------------------------------ ids


WIDTHS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.mark.parametrize(
    ("width", "surroundings"),
    [
        *((width, "eager") for width in WIDTHS),
        *((width, "graph") for width in ("uint8", "int64")),
        *((width, "jit") for width in ("int8", "uint16", "uint64")),
    ],
)
def test_ids_may_be_integers_of_any_width(width, surroundings):
    W, x = draw((260, D), (N, T, 260))  # more words than a byte can count

    def both(ids):
        words = outputs_and_gradients(lambda W: ops.word_embedding(ids, W), [W])
        return words + outputs_and_gradients(lambda x: ops.temporal_softmax_loss(x, ids, MASK), [x])

    assert_agree(inside(surroundings, both)(tf.constant(IDS.astype(width))), both(IDS), 1e-12)


# ------------------------------------------------------------------------------------ bad input


def test_shapes_that_do_not_fit_are_refused_before_computing():
    x, h0, Wx, Wh, b = draw(*SEQUENCE, *LSTM_WEIGHTS)
    with pytest.raises(ValueError, match="D is 2 by x and 5 by Wx"):
        ops.lstm(x, h0, Wh, Wh, b)
    with pytest.raises(ValueError, match="T is 4 by x and 3 by mask"):
        ops.lstm(x, h0, Wx, Wh, b, mask=MASK[:, :3])
    with pytest.raises(TypeError, match="received int32"):
        ops.lstm(tf.zeros((N, T, D), "int32"), h0, Wx, Wh, b)
    with pytest.raises(TypeError, match="received complex64"):
        ops.temporal_affine(tf.zeros((N, T, D), "complex64"), Wx, b)


@pytest.mark.parametrize(("op", "dtype"), [(ops.rnn, "float32"), (ops.lstm, "float64")])
def test_what_a_graph_must_know_is_asked_for_in_one_sentence(op, dtype):
    known = [tf.TensorSpec(shape, dtype) for shape in (*SEQUENCE, *weights_of(op))]
    no_rank, no_widths = tf.TensorSpec(None, dtype), tf.TensorSpec([None, None], dtype)
    with pytest.raises(ValueError, match=r"number of axes in x .*unknown.*tf\.ensure_shape$"):
        compiled(op).get_concrete_function(no_rank, *known[1:])
    vague = [known[0], no_widths, no_widths, no_widths, tf.TensorSpec([None], dtype)]
    with pytest.raises(ValueError, match=r"H is unknown, set it with tf.*Wh \(None, None\)"):
        compiled(op).get_concrete_function(*vague)


def test_ids_outside_the_vocabulary_are_refused_eagerly_and_in_a_graph():
    (W,) = draw((V, D))
    with pytest.raises(ValueError, match="ids from -1 to 0, expected 0 to 6"):
        ops.word_embedding([[0, -1]], W)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected 0 to 6"):
        compiled(lambda ids: ops.word_embedding(ids, W))(tf.constant([[V]]))
