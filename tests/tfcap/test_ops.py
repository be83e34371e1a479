"""The ops: which gradient runs, in which surroundings, to which precision."""

import numpy as np
import pytest

from tfcap import functional, ops
from visualization.backend import keras, tf

from .gradient_check import relative_error

N, T, D, H, V = 3, 4, 2, 5, 7


def draw(*shapes, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [tf.cast(tf.constant(rng.normal(scale=0.5, size=shape)), dtype) for shape in shapes]


IDS = np.random.default_rng(1).integers(V, size=(N, T))
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]], bool)
RNN_WEIGHTS = (D, H), (H, H), (H,)
LSTM_WEIGHTS = (D, 4 * H), (H, 4 * H), (4 * H,)
SEQUENCE = (N, T, D), (N, H)


def results(forward, *arguments):
    """A forward function as TensorFlow alone would differentiate it, without its cache."""
    *outputs, _ = forward(*arguments)
    return outputs if len(outputs) > 1 else outputs[0]


# name -> the op, the same by TensorFlow's own differentiation, and the shapes of what it takes
CASES = {
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
        lambda *a: ops.rnn(*a, mask=MASK),
        lambda *a: results(functional.rnn_sequence_forward, *a, MASK),
        (*SEQUENCE, *RNN_WEIGHTS),
    ),
    "lstm": (
        lambda x, h0, c0, *weights: ops.lstm(x, h0, *weights, c0=c0),
        lambda *a: results(functional.lstm_sequence_forward, *a),
        (*SEQUENCE, (N, H), *LSTM_WEIGHTS),
    ),
    "masked lstm": (
        lambda x, h0, c0, *weights: ops.lstm(x, h0, *weights, c0=c0, mask=MASK),
        lambda *a: results(functional.lstm_sequence_forward, *a, MASK),
        (*SEQUENCE, (N, H), *LSTM_WEIGHTS),
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
        lambda x: ops.temporal_softmax_loss(x, IDS, MASK),
        lambda x: functional.temporal_softmax_loss(x, IDS, MASK)[0],
        ((N, T, V),),
    ),
}
SEQUENCES = "rnn", "masked rnn", "lstm", "masked lstm"
each_op = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def way(request, monkeypatch):
    """The dtype and the tolerance for an op as it is, or compiled as those of large layers are."""
    if request.param == "plain":
        return "float64", 1e-12
    monkeypatch.setattr(ops, "COMPILED_FROM", 1)
    return "float32", 1e-5


def either_way(*names, compiled=SEQUENCES):
    """These ops as they are, and those of them that large layers compile."""
    pairs = [(name, way) for name in names for way in ("plain", "compiled")]
    pairs = [(name, way) for name, way in pairs if way == "plain" or name in compiled]
    return pytest.mark.parametrize(("name", "way"), pairs, indirect=["way"])


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


@each_op
@pytest.mark.parametrize("jit", [False, True])
def test_second_derivatives_agree_with_the_tape_through_the_same_forward(name, jit):
    ours, plain, shapes = CASES[name]
    arguments = draw(*shapes)
    run = compiled(lambda: second_derivatives(ours, arguments), jit_compile=jit)
    assert_agree(run(), second_derivatives(plain, arguments), 1e-10)


@either_way(*CASES)
def test_second_derivatives_are_right_when_eager(name, way):
    dtype, to = way
    ours, plain, shapes = CASES[name]
    arguments = draw(*shapes, dtype=dtype)
    mine, expected = (second_derivatives(function, arguments) for function in (ours, plain))
    assert_agree(mine, expected, 100 * to)


def test_third_derivatives_are_right():
    ours, plain, shapes = CASES["rnn_step"]
    arguments = draw(*shapes)

    def third(function):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            loss = scalar(second_derivatives(function, arguments))
        return tape.gradient(loss, arguments)

    assert_agree(third(ours), third(plain), 1e-10)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_layer_large_enough_to_be_compiled_by_itself_agrees_too(name):
    ours, plain, shapes = CASES[name]
    large = ops.COMPILED_FROM
    wide = {4 * H: 4 * large, H: large}
    shapes = [tuple(wide.get(size, size) for size in shape) for shape in shapes]
    arguments = [0.1 * a for a in draw(*shapes, dtype="float32")]
    expected = outputs_and_gradients(plain, arguments)
    assert_agree(outputs_and_gradients(ours, arguments), expected, 1e-5)
    in_graph = compiled(lambda: outputs_and_gradients(ours, arguments))
    assert_agree(in_graph(), expected, 1e-5)


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_layers_of_several_sizes_are_compiled_each_for_itself(mask):
    for d, h in ((2, 128), (3, 160), (4, 192)):
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


BACKWARDS = {
    "rnn_step": "rnn_step_backward",
    "lstm_step": "lstm_step_backward",
    "rnn": "rnn_sequence_backward",
    "masked rnn": "rnn_sequence_backward",
    "lstm": "lstm_sequence_backward",
    "masked lstm": "lstm_sequence_backward",
    "word_embedding": "word_embedding_backward",
    "temporal_affine": "temporal_affine_backward",
}


@either_way(*BACKWARDS)
@pytest.mark.parametrize("surroundings", ["eager", "graph", "jit"])
def test_without_its_backward_an_op_has_no_gradient(name, way, surroundings, monkeypatch):
    original = getattr(functional, BACKWARDS[name])

    def nothing(*arguments):
        return tf.nest.map_structure(tf.zeros_like, original(*arguments))

    monkeypatch.setattr(functional, BACKWARDS[name], nothing)
    ours, _, shapes = CASES[name]
    arguments = draw(*shapes, dtype=way[0])

    def gradients():
        return outputs_and_gradients(ours, arguments)[-len(arguments) :]

    run = gradients
    if surroundings != "eager":
        run = compiled(gradients, jit_compile=surroundings == "jit")
    assert all(not gradient.numpy().any() for gradient in run())


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
    x, h, Wx, Wh, b = arguments = draw((N, D), (N, H), *RNN_WEIGHTS)
    expected = outputs_and_gradients(ops.rnn_step, arguments)

    def by_keyword(*_):
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


# ---------------------------------------------------------------------------------- surroundings


@each_op
@pytest.mark.parametrize("jit", [False, True])
def test_an_op_gives_the_same_in_a_graph(name, jit):
    ours, _, shapes = CASES[name]
    arguments = draw(*shapes)
    run = compiled(lambda *a: outputs_and_gradients(ours, list(a)), jit_compile=jit)
    assert_agree(run(*arguments), outputs_and_gradients(ours, arguments), 1e-12)


def unknown(shapes, dtype="float64"):
    """What a graph is told of arrays of these shapes if it does not know N and T."""
    without = {(N, T): (None, None), (N, H): (None, H)}
    shapes = [(None, None, s[2]) if len(s) == 3 else without.get(s, s) for s in shapes]
    return [tf.TensorSpec(shape, dtype) for shape in shapes]


@pytest.mark.parametrize("name", ["rnn", "lstm", "temporal_affine"])
@pytest.mark.parametrize("jit", [False, True])
def test_batch_and_time_may_be_unknown(name, jit):
    ours, _, shapes = CASES[name]
    arguments = draw(*shapes)
    run = compiled(
        lambda *a: outputs_and_gradients(ours, list(a)),
        jit_compile=jit,
        input_signature=unknown(shapes),
    )
    assert_agree(run(*arguments), outputs_and_gradients(ours, arguments), 1e-12)
    if not jit:
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


@either_way(*FED)
@pytest.mark.parametrize("jit", [False, True])
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


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_widths_that_only_the_weights_tell_are_taken_from_them(name, dtype):
    ours, _, shapes = CASES[name]
    arguments = draw(*shapes, dtype=dtype)
    data = len(shapes) - 3
    specs = [
        tf.TensorSpec(shape if k >= data else [None] * len(shape), dtype)
        for k, shape in enumerate(shapes)
    ]
    run = compiled(lambda *a: outputs_and_gradients(ours, list(a)), input_signature=specs)
    assert_agree(run(*arguments), outputs_and_gradients(ours, arguments), 1e-6)


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


@either_way("rnn", "lstm", "masked lstm")
def test_an_op_works_inside_a_loop_of_the_graph(name, way):
    dtype, to = way
    ours, _, shapes = CASES[name]
    arguments = draw(*shapes, dtype=dtype)

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


@either_way(*CASES)
def test_an_op_maps_over_a_further_axis(name, way):
    dtype, to = way
    ours, _, shapes = CASES[name]
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


@either_way("lstm", "masked lstm", "temporal_softmax_loss")
def test_an_op_runs_in_a_replica(name, way, strategy):
    dtype, to = way
    ours, _, shapes = CASES[name]
    arguments = draw(*shapes, dtype=dtype)
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


@either_way("lstm")
@pytest.mark.parametrize("used", [0, 1, 2])
@pytest.mark.parametrize("surroundings", ["eager", "graph", "jit"])
def test_outputs_that_nobody_uses_count_as_zero(name, way, used, surroundings):
    dtype, to = way
    ours, plain, shapes = CASES[name]
    arguments = draw(*shapes, dtype=dtype)

    def gradients(function):
        return outputs_and_gradients(lambda *a: function(*a)[used], arguments)

    run = gradients
    if surroundings != "eager":
        run = compiled(gradients, jit_compile=surroundings == "jit")
    assert_agree(run(ours), gradients(plain), to)


@either_way("lstm", "masked rnn")
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


# ------------------------------------------------------------------------- masks and direction


@pytest.mark.parametrize("op", [ops.rnn, ops.lstm])
def test_padded_steps_change_nothing(op):
    weights = RNN_WEIGHTS if op is ops.rnn else LSTM_WEIGHTS
    x, h0, *weights = draw((1, 6, D), (1, H), *weights)
    keep = np.array([[True, True, False, True, False, False]])
    h, *last = op(x, h0, *weights, mask=keep)
    short, *short_last = op(tf.gather(x, [0, 1, 3], axis=1), h0, *weights)
    np.testing.assert_allclose(tf.gather(h, [0, 1, 3], axis=1), short, atol=1e-12)
    np.testing.assert_allclose(tf.gather(h, [2, 4, 5], axis=1), tf.gather(short, [1, 2, 2], axis=1))
    for a, b in zip(last, short_last, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("op", [ops.rnn, ops.lstm])
def test_steps_that_are_padding_for_all_are_left_out_of_the_gradients_too(op, jit):
    weights = RNN_WEIGHTS if op is ops.rnn else LSTM_WEIGHTS
    arguments = draw((2, 5, D), (2, H), *weights)
    keep = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], bool)

    def padded(*arguments):
        return op(*arguments, mask=keep)

    def short(x, *rest):
        h, *last = op(x[:, :3], *rest, mask=keep[:, :3])
        return tf.concat([h, h[:, 2:], h[:, 2:]], axis=1), *last

    run = compiled(lambda: outputs_and_gradients(padded, arguments), jit_compile=jit)
    assert_agree(run(), outputs_and_gradients(short, arguments), 1e-12)


@pytest.mark.parametrize("name", ["masked rnn", "masked lstm"])
@pytest.mark.parametrize("surroundings", ["eager", "graph", "jit"])
def test_leaving_out_rows_that_have_ended_changes_no_result(name, surroundings, monkeypatch):
    ours, plain, shapes = CASES[name]
    arguments = draw(*shapes)
    expected = outputs_and_gradients(plain, arguments), second_derivatives(plain, arguments)
    monkeypatch.setattr(functional, "ROW_BLOCKS", N)

    def both():
        return outputs_and_gradients(ours, arguments), second_derivatives(ours, arguments)

    run = both
    if surroundings != "eager":
        run = compiled(both, jit_compile=surroundings == "jit")
    for mine, theirs in zip(run(), expected, strict=True):
        assert_agree(mine, theirs, 1e-10)


def test_rows_after_the_last_that_counts_are_not_multiplied():
    v = tf.constant([[1.0], [1.0], [np.nan], [np.nan]] * 4)
    keep = tf.constant([[True] + [False] * 15, [True] * 2 + [False] * 14])[:, :, tf.newaxis]
    for t in range(2):
        product = functional._product(v, tf.ones((1, 1)), keep, tf.constant(t))
        np.testing.assert_array_equal(product[:, 0], [1, 1] + [0] * 14)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_lie_so_that_at_each_step_those_that_count_come_first(side):
    mask = np.arange(6) < np.array([2, 6, 0, 3, 5, 3])[:, np.newaxis]
    mask = mask if side == "right" else mask[:, ::-1]
    ordered = mask[functional._longest_first(tf.constant(mask))].astype(int)
    assert (np.diff(ordered, axis=0) <= 0).all()


@pytest.mark.parametrize("op", [ops.rnn, ops.lstm])
def test_reverse_takes_the_steps_from_the_last_to_the_first(op):
    weights = RNN_WEIGHTS if op is ops.rnn else LSTM_WEIGHTS
    x, h0, *weights = draw(*SEQUENCE, *weights)
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


@either_way(*CASES)
@pytest.mark.parametrize("jit", [False, True])
def test_an_empty_batch_gives_empty_results_and_zero_gradients(name, way, jit, monkeypatch):
    ours, _, shapes = CASES[name]
    monkeypatch.setattr(f"{__name__}.MASK", MASK[:0])
    monkeypatch.setattr(f"{__name__}.IDS", IDS[:0])
    shapes = [(0, *shape[1:]) if shape[0] == N else shape for shape in shapes]
    arguments = draw(*shapes, dtype=way[0])
    run = compiled(lambda: outputs_and_gradients(ours, arguments), jit_compile=jit)
    for values in (run(), outputs_and_gradients(ours, arguments)):
        assert not any(value.numpy().any() for value in values)
        gradients = values[-len(arguments) :]
        assert [gradient.shape for gradient in gradients] == [a.shape for a in arguments]


# ------------------------------------------------------------------------------------------ ids


WIDTHS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("surroundings", ["eager", "graph", "jit"])
def test_ids_may_be_integers_of_any_width(width, surroundings):
    W, x = draw((260, D), (N, T, 260))  # more words than a byte can count

    def both(ids):
        words = outputs_and_gradients(lambda W: ops.word_embedding(ids, W), [W])
        return words + outputs_and_gradients(lambda x: ops.temporal_softmax_loss(x, ids, MASK), [x])

    run = both
    if surroundings != "eager":
        run = compiled(both, jit_compile=surroundings == "jit")
    assert_agree(run(tf.constant(IDS.astype(width))), both(IDS), 1e-12)


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


@pytest.mark.parametrize("op", [ops.rnn, ops.lstm])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_a_graph_must_know_is_asked_for_in_one_sentence(op, dtype):
    weights = RNN_WEIGHTS if op is ops.rnn else LSTM_WEIGHTS
    known = [tf.TensorSpec(shape, dtype) for shape in (*SEQUENCE, *weights)]
    no_rank, no_widths = tf.TensorSpec(None, dtype), tf.TensorSpec([None, None], dtype)
    with pytest.raises(ValueError, match=r"how many axes x has.*tf\.ensure_shape$"):
        compiled(op).get_concrete_function(no_rank, *known[1:])
    vague = [known[0], no_widths, no_widths, no_widths, tf.TensorSpec([None], dtype)]
    with pytest.raises(
        ValueError, match=r"H is not known, tell it to the graph.*Wh \(None, None\)"
    ):
        compiled(op).get_concrete_function(*vague)


def test_ids_outside_the_vocabulary_are_refused_eagerly_and_in_a_graph():
    (W,) = draw((V, D))
    with pytest.raises(ValueError, match="ids from -1 to 0, expected 0 to 6"):
        ops.word_embedding([[0, -1]], W)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected 0 to 6"):
        compiled(lambda ids: ops.word_embedding(ids, W))(tf.constant([[V]]))
