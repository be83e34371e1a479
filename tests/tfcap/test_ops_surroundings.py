"""The ops in graphs, loops, replicas and vectorised maps, with sizes unknown, with no rows."""

import numpy as np
import pytest

from tfcap import functional, ops
from visualization.backend import keras, tf

from .op_cases import (
    CASES,
    IDS,
    MASK,
    RNN_WEIGHTS,
    SEQUENCE,
    SEQUENCES,
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
    scalar,
)


def with_ways(*pairs):
    return pytest.mark.parametrize(("name", "way"), pairs, indirect=["way"])


@pytest.mark.parametrize(
    ("name", "surroundings"),
    [
        *((name, "graph") for name in ("lstm_step", "masked lstm", "temporal_affine")),
        *((name, "jit") for name in ("affine", "rnn_step", "masked rnn", "lstm")),
        ("word_embedding", "jit"),
        ("temporal_softmax_loss", "jit"),
    ],
)
def test_an_op_gives_the_same_in_a_graph(name, surroundings):
    ours, _, shapes = CASES[name]
    arguments = draw(*of_two_steps(shapes))
    run = inside(surroundings, lambda *a: outputs_and_gradients(ours, list(a)))
    assert_agree(run(*arguments), outputs_and_gradients(ours, arguments), 1e-12)


# --------------------------------------------------------------------------------- unknown sizes


def unknown(shapes, dtype="float64"):
    """What a graph is told of arrays of these shapes if it does not know N and T."""
    without = {(N, T): (None, None), (N, H): (None, H)}
    shapes = [(None, None, s[2]) if len(s) == 3 else without.get(s, s) for s in shapes]
    return [tf.TensorSpec(shape, dtype) for shape in shapes]


@pytest.mark.parametrize(
    ("name", "jit"), [("rnn", False), ("lstm", True), ("temporal_affine", False)]
)
def test_batch_and_time_may_be_unknown(name, jit):
    ours, _, shapes = CASES[name]
    arguments = draw(*shapes)
    run = compiled(
        lambda *a: outputs_and_gradients(ours, list(a)),
        jit_compile=jit,
        input_signature=unknown(shapes),
    )
    assert_agree(run(*arguments), outputs_and_gradients(ours, arguments), 1e-12)
    assert run.get_concrete_function().output_shapes[0].as_list()[-1] in (H, V)


# name -> the op with the mask or the ids as its first argument, and these
FED = {
    "masked rnn": (lambda mask, *a: ops.rnn(*a, mask=mask), MASK),
    "masked lstm": (
        lambda mask, x, h0, c0, *weights: ops.lstm(x, h0, *weights, c0=c0, mask=mask),
        MASK,
    ),
    "word_embedding": (ops.word_embedding, IDS),
    "temporal_softmax_loss": (lambda y, x: ops.temporal_softmax_loss(x, y, y > 1), IDS),
}


@pytest.mark.parametrize(
    ("name", "way", "jit"),
    [
        ("masked rnn", "plain", True),
        ("masked rnn", "compiled", False),
        ("masked lstm", "plain", False),
        ("masked lstm", "compiled", True),
        ("word_embedding", "plain", False),
        ("temporal_softmax_loss", "plain", True),
    ],
    indirect=["way"],
)
def test_batch_and_time_of_masks_and_ids_may_be_unknown_too(name, way, jit):
    dtype, to = way
    op, fed = FED[name]
    _, _, shapes = CASES[name]

    def run(fed, *arguments):
        return outputs_and_gradients(lambda *a: op(fed, *a), list(arguments))

    specs = [*unknown([(N, T)], fed.dtype), *unknown(shapes, dtype)]
    in_graph = compiled(run, jit_compile=jit, input_signature=specs)
    arguments = fed, *draw(*shapes, dtype=dtype)
    assert_agree(in_graph(*arguments), run(*arguments), to)


@pytest.mark.parametrize("name", ["rnn", "masked lstm"])
def test_what_is_compiled_for_eight_steps_serves_shorter_sequences(name, monkeypatch):
    monkeypatch.setattr(ops, "COMPILED_FROM", 1)
    traces = []
    taking = ops.taking  # which a trace of what is compiled calls once
    monkeypatch.setattr(ops, "taking", lambda steps: traces.append(steps) or taking(steps))
    ops._compiled.cache_clear()
    op, mask = FED["masked lstm"] if name == "masked lstm" else (lambda _, *a: ops.rnn(*a), MASK)
    _, _, shapes = CASES[name]
    counts = []
    for steps in (2, 4, 3):
        x, *rest = draw(*shapes, dtype="float32")
        arguments = [x[:, :steps], *rest]

        def run(*a, mask=mask[:, :steps]):
            return outputs_and_gradients(lambda *a: op(mask, *a), list(a))

        found = run(*arguments)
        monkeypatch.setattr(ops, "COMPILED_FROM", 100)
        assert_agree(found, run(*arguments), 1e-5)
        monkeypatch.setattr(ops, "COMPILED_FROM", 1)
        counts.append(len(traces))
    assert counts == [2, 2, 2]  # forward and backward, for the first length


@pytest.mark.parametrize("name", SEQUENCES)
def test_widths_that_only_the_weights_tell_are_taken_from_them(name):
    ours, _, shapes = CASES[name]
    arguments = draw(*shapes)
    data = len(shapes) - 3
    specs = [
        tf.TensorSpec(shape if k >= data else [None] * len(shape), "float64")
        for k, shape in enumerate(shapes)
    ]
    masked = name.startswith("masked")
    run = FED[name][0] if masked else ours
    arguments = [tf.constant(MASK), *arguments] if masked else arguments
    specs = [tf.TensorSpec([None, None], "bool"), *specs] if masked else specs
    in_graph = compiled(run, input_signature=specs)
    assert_agree(tf.nest.flatten(in_graph(*arguments)), tf.nest.flatten(run(*arguments)), 1e-12)


@pytest.mark.parametrize(("n", "t"), [(2, 3), (None, 3), (2, None)])
def test_a_small_layer_is_compiled_in_a_graph_that_knows_its_sizes(n, t):
    small = ops.COMPILED_IN_A_GRAPH_FROM
    Wx, Wh, b = (0.1 * w for w in draw((D, small), (small, small), (small,), dtype="float32"))

    @compiled
    def run(x):
        return ops.rnn(x, tf.zeros((tf.shape(x)[0], small)), Wx, Wh, b)[0]

    run = run.get_concrete_function(tf.TensorSpec([n, t, D], "float32"))
    compiles = "_XlaMustCompile" in str(run.graph.as_graph_def().library)
    assert compiles == (None not in (n, t))
    (x,) = draw((2, 3, D), dtype="float32")
    expected, _ = functional.rnn_forward(x, tf.zeros((2, small)), Wx, Wh, b)
    np.testing.assert_allclose(run(x), expected, atol=1e-5)


def test_a_large_layer_with_unknown_batch_and_time_is_compiled_as_it_runs():
    large = ops.COMPILED_FROM
    spec = tf.TensorSpec([None, None, D], "float32")
    Wx, Wh, b = (0.1 * w for w in draw((D, large), (large, large), (large,), dtype="float32"))

    @compiled
    def run(x):
        h0 = tf.zeros((tf.shape(x)[0], large))
        return outputs_and_gradients(ops.rnn, [x, h0, Wx, Wh, b])

    run = run.get_concrete_function(spec)
    for n, t in ((2, 3), (1, 5)):
        (x,) = draw((n, t, D), dtype="float32")
        expected, *_ = functional.rnn_forward(x, tf.zeros((n, large)), Wx, Wh, b)
        np.testing.assert_allclose(run(x)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "way", "surroundings"),
    [
        *((name, "plain", "eager") for name in CASES),
        ("rnn", "compiled", "eager"),
        ("masked lstm", "compiled", "graph"),
        ("lstm_step", "plain", "jit"),
    ],
    indirect=["way"],
)
def test_an_empty_batch_gives_empty_results_and_zero_gradients(
    name, way, surroundings, monkeypatch
):
    ours, _, shapes = CASES[name]
    monkeypatch.setattr("tests.tfcap.op_cases.IDS", IDS[:0])
    shapes = shapes if surroundings == "eager" else of_two_steps(shapes)
    shapes = [(0, *shape[1:]) if shape[0] == N else shape for shape in shapes]
    arguments = draw(*shapes, dtype=way[0])
    values = inside(surroundings, lambda: outputs_and_gradients(ours, arguments))()
    assert not any(value.numpy().any() for value in values)
    gradients = values[-len(arguments) :]
    assert [gradient.shape for gradient in gradients] == [a.shape for a in arguments]


# ------------------------------------------------------------------------- loops, maps, replicas


@with_ways(("lstm", "plain"), ("masked lstm", "compiled"))
def test_an_op_works_inside_a_loop_of_the_graph(name, way):
    dtype, to = way
    ours, _, shapes = CASES[name]
    arguments = draw(*of_two_steps(shapes), dtype=dtype)

    @compiled
    def three_times():
        def body(k, total):
            with tf.GradientTape() as tape:
                tape.watch(arguments)
                loss = scalar(ours(*arguments))
            return k + 1, total + tape.gradient(loss, arguments)[0]

        return tf.while_loop(lambda k, _: k < 3, body, (0, tf.zeros_like(arguments[0])))[1]

    expected = outputs_and_gradients(ours, arguments)[-len(arguments)]
    assert_agree([three_times()], [3 * expected], to)


@compiled
def loop_of_steps(x, h, Wx, Wh, b):
    def body(t, h):
        return t + 1, ops.rnn_step(x[:, t], h, Wx, Wh, b)

    return tf.while_loop(lambda t, _: t < T, body, (0, h), maximum_iterations=T)[1]


def test_a_gradient_passes_through_a_loop_over_the_step_op():
    arguments = draw(*SEQUENCE, *RNN_WEIGHTS)
    steps = outputs_and_gradients(loop_of_steps, arguments)
    fused = outputs_and_gradients(lambda *a: ops.rnn(*a)[1], arguments)
    assert_agree(steps, fused, 1e-12)


@with_ways(
    *((name, "plain") for name in ("affine", "lstm_step", "attention_lstm_step", "masked rnn")),
    *((name, "plain") for name in ("word_embedding", "temporal_affine", "temporal_softmax_loss")),
    ("attention", "plain"),
    ("rnn", "compiled"),
    ("lstm", "compiled"),
)
def test_an_op_maps_over_a_further_axis(name, way):
    dtype, to = way
    ours, _, shapes = CASES[name]
    shapes = of_two_steps(shapes)
    one, two = draw(*shapes, dtype=dtype), draw(*shapes, dtype=dtype, seed=5)
    stacked = [tf.stack(pair) for pair in zip(one, two, strict=True)]
    mapped = tf.vectorized_map(lambda a: outputs_and_gradients(ours, list(a)), tuple(stacked))
    for k, arguments in enumerate((one, two)):
        expected = outputs_and_gradients(ours, arguments)
        assert_agree([value[k] for value in mapped], expected, to)


@pytest.fixture(scope="module")
def strategy():
    devices = tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@with_ways(("lstm", "compiled"), ("masked lstm", "plain"), ("temporal_softmax_loss", "plain"))
def test_an_op_runs_in_a_replica(name, way, strategy):
    dtype, to = way
    ours, _, shapes = CASES[name]
    arguments = draw(*of_two_steps(shapes), dtype=dtype)
    run = compiled(lambda: strategy.run(lambda: outputs_and_gradients(ours, arguments)))
    mine = [strategy.experimental_local_results(value)[0] for value in run()]
    assert_agree(mine, outputs_and_gradients(ours, arguments), to)


# -------------------------------------------------------------------------------- known traps


def test_variables_get_their_gradients():
    arguments = draw(*SEQUENCE, *RNN_WEIGHTS)
    x, h0, *weights = arguments
    variables = [tf.Variable(weight) for weight in weights]

    def loss_and_gradients():
        with tf.GradientTape() as tape:
            loss = scalar(ops.rnn(x, h0, *variables))
        return tape.gradient(loss, variables)

    expected = outputs_and_gradients(ops.rnn, arguments)[-3:]
    assert_agree(loss_and_gradients(), expected, 1e-12)
    assert_agree(compiled(loss_and_gradients)(), expected, 1e-12)


def test_keras_variables_are_cast_under_mixed_precision():
    weights = draw(*RNN_WEIGHTS, dtype="float32")
    variables = [keras.Variable(weight) for weight in weights]
    x, h0 = draw(*SEQUENCE, dtype="bfloat16")
    with keras.src.backend.AutocastScope("bfloat16"), tf.GradientTape() as tape:
        h, _ = ops.rnn(x, h0, *variables)
        loss = tf.reduce_sum(tf.cast(h, "float32"))
    assert h.dtype == tf.bfloat16
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    assert all(gradient.dtype == tf.float32 for gradient in gradients)


@pytest.mark.parametrize(
    ("way", "used", "surroundings"),
    [
        ("plain", 0, "eager"),
        ("plain", 1, "graph"),
        ("plain", 2, "jit"),
        ("compiled", 1, "eager"),
        ("compiled", 2, "graph"),
        ("compiled", 0, "jit"),
        ("plain", 2, "eager"),
    ],
    indirect=["way"],
)
def test_outputs_that_nobody_uses_count_as_zero(way, used, surroundings):
    dtype, to = way
    ours, plain, shapes = CASES["lstm"]
    arguments = draw(*of_two_steps(shapes), dtype=dtype)

    def gradients(function):
        return outputs_and_gradients(lambda *a: function(*a)[used], arguments)

    assert_agree(inside(surroundings, lambda: gradients(ours))(), gradients(plain), to)


@with_ways(("lstm", "plain"), ("masked rnn", "compiled"))
def test_a_persistent_tape_may_be_asked_twice(name, way):
    dtype, to = way
    ours, plain, shapes = CASES[name]
    arguments = draw(*shapes, dtype=dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(arguments)
        h, h_last, *_ = ours(*arguments)
        expected_h, expected_last, *_ = plain(*arguments)
    for pair in ((h, expected_h), (h_last, expected_last), (h, expected_h)):
        mine, expected = (map(tf.convert_to_tensor, tape.gradient(y, arguments)) for y in pair)
        assert_agree(mine, expected, to)


def test_nothing_flows_into_a_stopped_argument():
    arguments = draw(*SEQUENCE, *RNN_WEIGHTS)
    expected = outputs_and_gradients(ops.rnn, arguments)

    def stopped(x, h0, Wx, Wh, b):
        return ops.rnn(x, h0, Wx, tf.stop_gradient(Wh), b)

    with tf.GradientTape() as tape:
        tape.watch(arguments)
        loss = scalar(stopped(*arguments))
    dx, dh0, dWx, dWh, db = tape.gradient(loss, arguments)
    assert dWh is None
    assert_agree([dx, dh0, dWx, db], [expected[k] for k in (2, 3, 4, 6)], 1e-15)
