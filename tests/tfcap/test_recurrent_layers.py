"""The layers: beside Keras's own, inside its wrappers, saved, trained."""

import json

import numpy as np
import pytest

from tfcap import functional
from tfcap.layers import (
    LSTM,
    RNN,
    AttentionLSTM,
    LSTMCell,
    RNNCell,
    TemporalAffine,
    TemporalSoftmaxLoss,
    WordEmbedding,
    assume_our_gate_order,
    swap_o_and_g,
)
from visualization.backend import keras, tf

from .gradient_check import relative_error

N, T, D, H, V = 4, 6, 3, 5, 7
MASK = np.array([[1] * 6, [1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0], [0] * 6], bool)
PAIRS = {"rnn": (RNN, keras.layers.SimpleRNN), "lstm": (LSTM, keras.layers.LSTM)}
CELLS = {"rnn": (RNNCell, keras.layers.SimpleRNN), "lstm": (LSTMCell, keras.layers.LSTM)}
each_kind = pytest.mark.parametrize("kind", PAIRS)


def rng_arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def pair(kind, **options):
    """A layer and Keras's own with the same weights."""
    ours, theirs = (layer(H, **options) for layer in PAIRS[kind])
    ours.build((None, None, D))
    theirs.build((None, None, D))
    theirs.set_weights(ours.to_keras_weights())
    return ours, theirs


def run(layer, x, states, **options):
    """Outputs, the loss of their squares, and the gradients of inputs, states and weights."""
    x, states = tf.constant(x), [tf.constant(state) for state in states]
    weights = [weight.value for weight in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch([x, states])
        outputs = tf.nest.flatten(layer(x, initial_state=states or None, **options))
        loss = tf.add_n([tf.reduce_sum(tf.cast(o, "float32") ** 2) for o in outputs])
    gradients = tape.gradient(loss, [x, *states, *weights])
    return [*outputs, loss], gradients[: -len(weights)], gradients[-len(weights) :]


def in_keras_order(kind, weights):
    return [swap_o_and_g(weight) if kind == "lstm" else weight for weight in weights]


def assert_agree(ours, theirs, to):
    for a, b in zip(ours, theirs, strict=True):
        assert relative_error(tf.cast(a, "float64"), tf.cast(b, "float64")) < to


# -------------------------------------------------------------------------------- beside Keras


@each_kind
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("given", [False, True], ids=["from zeros", "from a state"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True},
        {"return_state": True, "go_backwards": True},
        {"return_sequences": True, "return_state": True, "go_backwards": True},
    ],
    ids=lambda options: "+".join(options) or "last",
)
def test_a_layer_takes_the_place_of_keras_own(kind, options, given, mask):
    x, *states = rng_arrays((N, T, D), (N, H), (N, H))
    states = states[: {"rnn": 1, "lstm": 2}[kind]] if given else []
    ours, theirs = pair(kind, **options)
    outputs, inputs, weights = run(ours, x, states, mask=mask)
    keras_outputs, keras_inputs, keras_weights = run(theirs, x, states, mask=mask)
    assert_agree(outputs, keras_outputs, 1e-6)
    assert_agree(inputs, keras_inputs, 1e-6)
    assert_agree(in_keras_order(kind, weights), keras_weights, 1e-6)


@each_kind
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_a_layer_agrees_with_keras_own_under_a_dtype_policy(kind, dtype):
    (x,) = rng_arrays((N, T, D))
    ours, theirs = pair(kind, dtype=dtype, return_sequences=True)
    outputs, inputs, weights = run(ours, x, [], mask=MASK)
    keras_outputs, keras_inputs, keras_weights = run(theirs, x, [], mask=MASK)
    assert outputs[0].dtype == dtype.removeprefix("mixed_")
    assert_agree(outputs, keras_outputs, 0.02)
    assert_agree(inputs, keras_inputs, 0.02)
    assert_agree(in_keras_order(kind, weights), keras_weights, 0.02)


@each_kind
def test_a_cell_inside_keras_rnn_agrees_with_the_fused_layer(kind):
    x, *states = rng_arrays((N, T, D), (N, H), (N, H))
    states = states[: {"rnn": 1, "lstm": 2}[kind]]
    options = {"return_sequences": True, "return_state": True}
    layer = keras.layers.RNN(CELLS[kind][0](H), **options)
    fused = PAIRS[kind][0](H, **options)
    layer.build((None, None, D))
    fused.build((None, None, D))
    fused.set_weights(layer.get_weights())
    for mask in (None, MASK):
        for mine, expected in zip(
            run(layer, x, states, mask=mask), run(fused, x, states, mask=mask), strict=True
        ):
            assert_agree(mine, expected, 1e-5)


@pytest.mark.parametrize("cell", [RNNCell(H), keras.layers.SimpleRNNCell(H)], ids=["ours", "keras"])
def test_a_cell_gives_its_state_back_as_it_came(cell):
    x, h = rng_arrays((N, D), (N, H))
    for given in (h, [h]):
        y, state = cell(x, given)
        assert isinstance(state, list) == isinstance(given, list)
        np.testing.assert_array_equal(tf.nest.flatten(state)[0], y)


def test_cells_may_be_stacked():
    layer = keras.layers.RNN([LSTMCell(4), RNNCell(3)], return_state=True)
    y, lstm_states, rnn_states = layer(np.ones((2, 5, D), "float32"))
    assert y.shape == (2, 3)
    assert [state.shape for state in lstm_states] == [(2, 4), (2, 4)]
    assert [state.shape for state in tf.nest.flatten(rnn_states)] == [(2, 3)]


@each_kind
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("merge_mode", ["concat", "ave"])
def test_a_layer_works_in_both_directions(kind, mask, merge_mode):
    (x,) = rng_arrays((N, T, D))
    ours, theirs = (
        keras.layers.Bidirectional(layer(H, return_sequences=True), merge_mode=merge_mode)
        for layer in PAIRS[kind]
    )
    ours.build((None, None, D))
    theirs.build((None, None, D))
    theirs.forward_layer.set_weights(ours.forward_layer.to_keras_weights())
    theirs.backward_layer.set_weights(ours.backward_layer.to_keras_weights())
    np.testing.assert_allclose(ours(x, mask=mask), theirs(x, mask=mask), atol=1e-6)


@each_kind
def test_a_cell_works_in_both_directions(kind):
    both = keras.layers.Bidirectional(keras.layers.RNN(CELLS[kind][0](H)))
    assert both(np.ones((2, T, D), "float32")).shape == (2, 2 * H)


@each_kind
def test_a_layer_is_distributed_over_a_further_axis(kind):
    (x,) = rng_arrays((2, 3, T, D))
    inner = PAIRS[kind][0](H)
    y = keras.layers.TimeDistributed(inner)(x)
    for k in range(3):
        np.testing.assert_allclose(y[:, k], inner(x[:, k]), atol=1e-6)


def test_embedding_passes_its_mask_on_only_if_asked():
    ids = np.array([[1, 2, 0, 0]])
    for mask_zero in (False, True):
        embedding = WordEmbedding(V, D, mask_zero=mask_zero)
        layer = LSTM(H, return_sequences=True)
        words = embedding(ids)
        h = layer(words).numpy()
        stands = np.allclose(h[:, 2:], h[:, 1:2])
        assert stands == mask_zero


@each_kind
def test_dropout_drops_inputs_in_training_only_and_the_same_at_every_step(kind):
    layer = PAIRS[kind][0](H, dropout=0.5, seed=3, return_sequences=True)
    x = np.ones((8, T, 50), "float32")
    layer(x)
    plain = layer(x).numpy()
    np.testing.assert_array_equal(layer(x, training=False), plain)
    seen = []
    layer.run = lambda x, *_: (seen.append(x.numpy()), (x[..., :H], x[:, 0, :H]))[1]
    layer(x, training=True)
    (dropped,) = seen
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert (dropped == dropped[:, :1]).all()
    assert 0.4 < (dropped == 0).mean() < 0.6


@each_kind
def test_a_stateful_layer_goes_on_where_it_stopped(kind):
    (x,) = rng_arrays((2, T, D))
    layer = PAIRS[kind][0](H, stateful=True, return_sequences=True)
    whole = layer(x).numpy()
    layer.reset_state()
    parts = [layer(x[:, :2]).numpy(), layer(x[:, 2:]).numpy()]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)


# ----------------------------------------------------------------------------- weights, saving


@each_kind
def test_weights_go_to_keras_and_back(kind):
    ours, theirs = pair(kind)
    before = ours.get_weights()
    ours.from_keras_weights([weight + 1 for weight in theirs.get_weights()])
    for weight, old in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_allclose(weight, old + 1, atol=1e-6)


def in_a_model(layer):
    return keras.Sequential([keras.Input((T, D)), layer])


def test_a_file_of_keras_own_lstm_is_refused_as_its_gates_are_in_another_order(tmp_path):
    path = tmp_path / "keras.weights.h5"
    theirs, ours = in_a_model(keras.layers.LSTM(H)), in_a_model(LSTM(H))
    theirs.save_weights(path)
    before = ours.get_weights()
    with pytest.raises(ValueError, match=r"from_keras_weights.*with tfcap.layers.assume_our_gate"):
        ours.load_weights(path)
    for was, now in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    with assume_our_gate_order():
        ours.load_weights(path)
    np.testing.assert_array_equal(ours.get_weights()[0], theirs.get_weights()[0])


def test_a_file_of_ours_is_read_back_and_refused_by_keras_own_lstm(tmp_path):
    path = tmp_path / "ours.weights.h5"
    ours, again, theirs = in_a_model(LSTM(H)), in_a_model(LSTM(H)), in_a_model(keras.layers.LSTM(H))
    ours.save_weights(path)
    again.load_weights(path)
    np.testing.assert_array_equal(again.get_weights()[0], ours.get_weights()[0])
    with pytest.raises(ValueError, match="could not be loaded"):
        theirs.load_weights(path)


def test_keras_keeps_its_candidate_gate_before_the_output_gate():
    np.testing.assert_array_equal(swap_o_and_g(np.arange(8)), [0, 1, 2, 3, 6, 7, 4, 5])


def test_an_affine_layer_takes_one_step_or_all():
    (x,) = rng_arrays((N, T, D))
    layer = TemporalAffine(V)
    whole = layer(x)
    np.testing.assert_allclose(layer(x[:, 2]), whole[:, 2], atol=1e-6)


@each_kind
def test_integers_booleans_and_a_mask_of_three_axes_are_taken_as_keras_takes_them(kind):
    ours, theirs = pair(kind, return_sequences=True)
    counts = np.random.default_rng(0).integers(3, size=(N, T, D))
    for x in (counts, counts > 1):
        np.testing.assert_allclose(
            ours(tf.constant(x)), theirs(tf.constant(x, tf.float32)), rtol=1e-4, atol=1e-5
        )
    x = tf.constant(counts)
    np.testing.assert_array_equal(ours(x, mask=MASK[..., None]), ours(x, mask=MASK))
    cell = CELLS[kind][0](H)
    assert cell(x[:, 0], cell.get_initial_state(N))[0].dtype == tf.float32


def test_attention_takes_integers_and_a_mask_of_three_axes():
    layer, image = AttentionLSTM(4, heads=2), tf.ones((N, 9, 4), tf.int32)
    x = tf.ones((N, T, D), tf.int32)
    shown = layer(x, image, image, mask=MASK[..., None])
    np.testing.assert_array_equal(shown, layer(tf.cast(x, "float32"), image, image, mask=MASK))
    layer.cell.look(x[:, 0], [*layer.cell.get_initial_state(N)[:2], image, image])


def test_ids_may_be_floats_also_in_half_precision():
    words = WordEmbedding(3000, 2, dtype="mixed_float16")
    ids = np.array([[2049, 1]])
    np.testing.assert_array_equal(words(ids.astype("float32")), words(ids))
    assert words(ids).dtype == tf.float16


@pytest.mark.parametrize("shape", [(N, D), (N, T, D), (N, 2, 5, D), (0, 2, 5, D)])
def test_an_affine_layer_takes_any_number_of_axes(shape):
    layer, x = TemporalAffine(7), np.random.default_rng(0).integers(3, size=shape)
    out = layer(x)
    assert tuple(out.shape) == layer.compute_output_shape(shape) == (*shape[:-1], 7)
    np.testing.assert_allclose(out, x @ layer.w.numpy() + layer.b.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (TemporalAffine(3), (2, 5, 4), (None, 2, 5, 3)),
        (WordEmbedding(9, 3), (2, 5), (None, 2, 5, 3)),
        (LSTM(3), (2, 5, 4), (None, 2, 3)),
        (RNN(3), (2, 5, 4), (None, 2, 3)),
    ],
)
def test_every_layer_may_be_distributed_also_in_half_precision(layer, shape, expected):
    inputs = keras.Input(shape)
    outputs = keras.layers.TimeDistributed(layer, dtype="mixed_float16")(inputs)
    assert outputs.shape == expected
    model = keras.Model(inputs, outputs)
    assert model(np.ones((1, *shape), "float32")).shape == (1, *expected[1:])


# ---------------------------------------------------------------------------- Keras's arguments


@each_kind
def test_keras_own_configuration_makes_a_layer_that_starts_and_is_regularized_as_keras_own(kind):
    options = {
        "kernel_initializer": keras.initializers.Constant(0.01),
        "recurrent_constraint": "unit_norm",
    }
    options |= {
        "recurrent_initializer": keras.initializers.Constant(0.02),
        "kernel_regularizer": "l2",
    }
    theirs = PAIRS[kind][1](3, **options, bias_regularizer="l1", activity_regularizer="l2")
    ours = PAIRS[kind][0].from_config(theirs.get_config())
    x = np.arange(72, dtype="float32").reshape(3, 6, 4)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5)
    assert float(sum(ours.losses)) == pytest.approx(float(sum(theirs.losses)), rel=1e-5)
    assert len(ours.losses) == len(theirs.losses) >= 2
    assert ours.cell.Wh.constraint is not None
    again = PAIRS[kind][0].from_config(json.loads(json.dumps(ours.get_config())))
    np.testing.assert_allclose(again(x), theirs(x), rtol=1e-5)
    CELLS[kind][0].from_config(ours.cell.get_config())


@each_kind
def test_a_layer_without_bias_agrees_with_keras_own(kind):
    ours, theirs = pair(kind, use_bias=False)
    (x,) = rng_arrays((N, T, D))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert len(ours.get_weights()) == 2


def test_only_what_is_asked_for_differs_from_the_course():
    layer = LSTM(4, unit_forget_bias=True)
    layer.build((None, None, D))
    np.testing.assert_array_equal(layer.cell.b, np.repeat([0, 1, 0, 0], 4))
    assert LSTM(4, activation=keras.activations.tanh, use_cudnn=False, implementation=1).units == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "relu"}, "activation must be 'tanh', .* received 'relu'"),
        ({"recurrent_activation": "tanh"}, "recurrent_activation must be 'sigmoid'"),
        ({"recurrent_dropout": 0.5}, "received recurrent_dropout=0.5"),
    ],
)
def test_what_the_mathematics_does_not_do_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LSTM(4, **options)


def test_weights_start_as_the_course_starts_them():
    keras.utils.set_random_seed(0)
    layer = LSTM(400)
    layer.build((None, None, 100))
    Wx, Wh, b = layer.get_weights()
    assert Wx.std() == pytest.approx(1 / 10, rel=0.02)
    assert Wh.std() == pytest.approx(1 / 20, rel=0.02)
    assert not b.any()
    embedding = WordEmbedding(1000, 100)
    embedding.build((None, None))
    assert embedding.get_weights()[0].std() == pytest.approx(0.01, rel=0.02)
    scores = TemporalAffine(1000)
    scores.build((None, None, 64))
    w, b = scores.get_weights()
    assert w.std() == pytest.approx(1 / 8, rel=0.02)
    assert not b.any()


def captioner(recurrent, mask_zero=False, **options):
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            WordEmbedding(V, D, mask_zero=mask_zero),
            recurrent(H, return_sequences=True, **options),
            TemporalAffine(V),
        ]
    )


@each_kind
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_model_is_saved_and_read_back(kind, suffix, tmp_path):
    model = captioner(PAIRS[kind][0], dropout=0.1, go_backwards=True)
    model.compile("adam", TemporalSoftmaxLoss(null=2))
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        model.save(path)
        again = keras.saving.load_model(path)
        assert again.loss.null == 2
    else:
        model.save_weights(path)
        again = captioner(PAIRS[kind][0], go_backwards=True)
        again.load_weights(path)
    ids = np.random.default_rng(0).integers(V, size=(N, T))
    np.testing.assert_array_equal(again(ids), model(ids))


@pytest.mark.parametrize(
    "layer",
    [
        RNNCell(3),
        LSTMCell(3),
        RNN(3, dropout=0.2, seed=1, return_sequences=True, dtype="float64", name="reader"),
        LSTM(3, go_backwards=True, return_state=True, dtype="mixed_bfloat16"),
        WordEmbedding(9, 4, mask_zero=True),
        TemporalAffine(7, trainable=False),
        TemporalSoftmaxLoss(null=3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_configuration_makes_the_same_layer(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config
    package = keras.saving.get_registered_name(type(layer)).split(">")[0]
    assert package == "tfcap"


@each_kind
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "mixed_bfloat16"])
def test_a_layer_follows_its_dtype_policy(kind, dtype):
    ours = PAIRS[kind][0](H, dtype=dtype)
    y = ours(np.ones((2, T, D), "float32"))
    assert y.dtype == dtype.removeprefix("mixed_")
    weights = "float32" if dtype.startswith("mixed") else dtype
    assert {weight.dtype for weight in ours.weights if "seed" not in weight.path} == {weights}


# ------------------------------------------------------------------------------------ training


@pytest.mark.parametrize(("kind", "jit"), [("rnn", False), ("lstm", True)])
def test_a_model_learns_to_say_its_captions(kind, jit):
    keras.utils.set_random_seed(1)
    captions = np.array([[1, 3, 4, 2, 0], [6, 5, 2, 0, 0]])
    model = captioner(PAIRS[kind][0])
    model.compile(keras.optimizers.Adam(0.1), TemporalSoftmaxLoss(), jit_compile=jit)
    history = model.fit(captions[:, :-1], captions[:, 1:], epochs=60, verbose=0)
    assert history.history["loss"][0] > 4
    assert history.history["loss"][-1] < 0.1
    said = model(captions[:, :-1]).numpy().argmax(-1)
    np.testing.assert_array_equal(said[0, :3], captions[0, 1:4])


@each_kind
def test_a_model_that_skips_padding_trains_as_keras_own_does_with_a_last_batch_of_fewer_rows(kind):
    rng = np.random.default_rng(0)
    padding = rng.integers(0, T, size=(13, 1))  # steps on the left, where it changes the state
    ids = rng.integers(1, V, size=(13, T + 1)) * (np.arange(T + 1) >= padding)
    ours = captioner(PAIRS[kind][0], mask_zero=True)
    theirs = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(V, D, mask_zero=True),
            PAIRS[kind][1](H, return_sequences=True),
            keras.layers.Dense(V),
        ]
    )
    words, recurrent, scores = theirs.layers
    words.set_weights(ours.layers[0].get_weights())
    recurrent.set_weights(ours.layers[1].to_keras_weights())
    scores.set_weights(ours.layers[2].get_weights())
    losses = []
    for model in (ours, theirs):
        model.compile(keras.optimizers.SGD(0.5), TemporalSoftmaxLoss(), jit_compile=False)
        fit = model.fit(ids[:, :-1], ids[:, 1:], batch_size=8, epochs=4, shuffle=False, verbose=0)
        losses.append(fit.history["loss"])
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_the_loss_of_a_model_leaves_out_null_and_divides_by_the_batch():
    captions = np.array([[3, 4, 0, 0], [5, 0, 6, 1]])
    scores = np.zeros((2, 4, V), "float32")
    assert float(TemporalSoftmaxLoss()(captions, scores)) == pytest.approx(5 / 2 * np.log(V))
    assert float(TemporalSoftmaxLoss(null=3)(captions, scores)) == pytest.approx(7 / 2 * np.log(V))


@each_kind
def test_without_its_backward_a_layer_and_a_model_learn_nothing(kind, monkeypatch):
    (x,) = rng_arrays((N, T, D))
    name = f"{kind}_sequence_backward"
    for function in (name, "word_embedding_backward"):
        original = getattr(functional, function)

        def nothing(*arguments, original=original):
            return tf.nest.map_structure(tf.zeros_like, original(*arguments))

        monkeypatch.setattr(functional, function, nothing)
    layer, _ = pair(kind, return_sequences=True)
    _, (dx,), weights = run(layer, x, [])
    assert not any(gradient.numpy().any() for gradient in (dx, *weights))

    model = captioner(PAIRS[kind][0])
    model.compile(keras.optimizers.SGD(1.0), TemporalSoftmaxLoss(), jit_compile=False)
    *lower_before, w_before, b_before = model.get_weights()
    ids = np.random.default_rng(0).integers(1, V, size=(N, T))
    model.fit(ids, ids, verbose=0)
    *lower, w, b = model.get_weights()
    for weight, before in zip(lower, lower_before, strict=True):
        np.testing.assert_array_equal(weight, before)
    assert np.abs(w - w_before).max() > 0
    assert np.abs(b - b_before).max() > 0


@each_kind
def test_without_its_backward_a_cell_inside_keras_rnn_learns_nothing(kind, monkeypatch):
    name = f"{kind}_step_backward"
    original = getattr(functional, name)
    monkeypatch.setattr(
        functional, name, lambda *a: tf.nest.map_structure(tf.zeros_like, original(*a))
    )
    (x,) = rng_arrays((N, T, D))
    layer = keras.layers.RNN(CELLS[kind][0](H), return_sequences=True)
    layer.build((None, None, D))
    _, (dx,), weights = run(layer, x, [])
    assert not any(gradient.numpy().any() for gradient in (dx, *weights))


@each_kind
@pytest.mark.parametrize("mask", [None, MASK[:0]], ids=["whole", "masked"])
def test_a_batch_without_rows_is_no_error(kind, mask):
    layer = PAIRS[kind][0](H, return_sequences=True, return_state=True)
    layer.build((None, None, D))
    (h, *states, _), (dx,), weights = run(layer, np.zeros((0, T, D), "float32"), [], mask=mask)
    assert (h.shape, dx.shape) == ((0, T, H), (0, T, D))
    assert {state.shape for state in states} == {(0, H)}
    assert not any(gradient.numpy().any() for gradient in weights)


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("units", [0, -1, 2.5, True, None])
def test_units_that_are_no_positive_integer_are_refused(units):
    for layer in (RNNCell, LSTMCell, RNN, LSTM, TemporalAffine):
        with pytest.raises(ValueError, match=f"positive integer, received {units}"):
            layer(units)


def test_units_may_be_numpys_integers():
    for layer in (RNN, LSTM, RNNCell, LSTMCell, TemporalAffine):
        config = layer(np.int64(5)).get_config()
        assert json.loads(json.dumps(config))["units"] == 5
    assert WordEmbedding(np.int32(5), np.uint8(3)).get_config()["output_dim"] == 3


@pytest.mark.parametrize(
    ("layer", "states", "words"),
    [
        (LSTM, 1, "a hidden state and a cell state, received 1 initial state: give 2"),
        (LSTM, 3, "a hidden state and a cell state, received 3 initial states: give 2"),
        (RNN, 2, "starts from a hidden state, received 2 initial states: give 1"),
    ],
)
def test_a_wrong_number_of_initial_states_is_refused(layer, states, words):
    x, h = rng_arrays((N, T, D), (N, H))
    with pytest.raises(ValueError, match=words):
        layer(H)(x, initial_state=h if states == 1 else [h] * states)


def test_sample_weights_are_refused_rather_than_ignored():
    with pytest.raises(ValueError, match="takes no sample weights"):
        TemporalSoftmaxLoss()([[1]], np.zeros((1, 1, 2), "float32"), sample_weight=[1.0])


@pytest.mark.parametrize("dropout", [-0.1, 1])
def test_a_dropout_that_is_no_fraction_is_refused(dropout):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        LSTM(3, dropout=dropout)


def test_a_layer_says_what_it_cannot_take():
    layer = LSTM(H)
    with pytest.raises(
        ValueError, match=r"at least one step, received inputs of shape \(2, 0, 3\)"
    ):
        layer(np.ones((2, 0, D), "float32"))
    with pytest.raises(ValueError, match="ndim=3"):
        layer(np.ones((2, D), "float32"))
    x = np.ones((2, 4, D), "float32")
    with pytest.raises(ValueError, match=r"T is 4 by x and 5 by mask.*mask \(2, 5\)"):
        layer(x, mask=np.ones((2, 5), bool))
    with pytest.raises(ValueError, match=r"H is 6 by h0 and 5 by Wx.*h0 \(2, 6\)"):
        layer(x, initial_state=[np.ones((2, 6), "float32")] * 2)
