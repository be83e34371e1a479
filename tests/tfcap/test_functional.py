"""The mathematics: published vectors, central differences, NumPy at the edge, bad input."""

import json
from pathlib import Path

import numpy as np
import pytest

from tfcap import functional
from visualization.backend import tf

from .gradient_check import central_differences, check_along_directions, relative_error

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

VECTORS = json.loads((Path(__file__).parent / "cs231n_vectors.json").read_text())
PUBLISHED_TO = 1e-7
AGREES_TO = 1e-7
sizes = st.integers(1, 3)
few = settings(max_examples=8, deadline=None, derandomize=True, database=None)


def linspace(start, stop, shape):
    return np.linspace(start, stop, num=int(np.prod(shape))).reshape(shape)


def published(name):
    """The inputs and the expected results of one function, from the file of published vectors."""
    entry = dict(VECTORS[name])
    inputs = {
        key: linspace(*value) if np.isscalar(value[0]) else np.array(value)
        for key, value in entry.pop("inputs").items()
    }
    return inputs, entry


# ---------------------------------------------------------------------------- published vectors


@pytest.mark.parametrize(
    "name",
    [
        "rnn_step_forward",
        "rnn_forward",
        "word_embedding_forward",
        "lstm_step_forward",
        "lstm_forward",
    ],
)
def test_a_forward_function_meets_the_published_numbers(name):
    inputs, expected = published(name)
    results = getattr(functional, name)(**inputs)
    for value, numbers in zip(results, expected.values(), strict=False):
        assert value.dtype == np.float64
        np.testing.assert_allclose(value, np.array(numbers), rtol=0, atol=PUBLISHED_TO)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_functions_together_meet_the_published_loss_of_the_captioner(cell):
    facts = VECTORS[f"captioning_loss_{cell}"]
    n, d, w, h, t, v = (facts["shapes"][letter] for letter in "NDWHTV")
    gates = 4 if cell == "lstm" else 1

    def parameter(*shape):
        return linspace(*facts["every_parameter"], shape)

    features = linspace(*facts["features"], (n, d))
    captions = (np.arange(n * t) % v).reshape(n, t)
    h0, _ = functional.affine_forward(features, parameter(d, h), parameter(h))
    words, _ = functional.word_embedding_forward(captions[:, :-1], parameter(v, w))
    recurrent = functional.rnn_forward if cell == "rnn" else functional.lstm_forward
    weights = parameter(w, gates * h), parameter(h, gates * h), parameter(gates * h)
    hidden, _ = recurrent(words, h0, *weights)
    scores, _ = functional.temporal_affine_forward(hidden, parameter(h, v), parameter(v))
    mask = captions[:, 1:] != facts["word_to_idx"]["<NULL>"]
    loss, _ = functional.temporal_softmax_loss(scores, captions[:, 1:], mask)
    assert abs(loss - facts["loss"]) < PUBLISHED_TO


# -------------------------------------------------------------------------- central differences


def rnn_weights(d, h):
    return (d, h), (h, h), (h,)


def lstm_weights(d, h):
    return (d, 4 * h), (h, 4 * h), (4 * h,)


# name -> the shapes of its floats, of n, t, d, h; ids, masks and what is made of them are added below
PAIRS = {
    "affine": lambda n, t, d, h: ((n, t, d), (t * d, h), (h,)),
    "rnn_step": lambda n, t, d, h: ((n, d), (n, h), *rnn_weights(d, h)),
    "rnn": lambda n, t, d, h: ((n, t, d), (n, h), *rnn_weights(d, h)),
    "rnn_sequence": lambda n, t, d, h: ((n, t, d), (n, h), *rnn_weights(d, h)),
    "lstm_step": lambda n, t, d, h: ((n, d), (n, h), (n, h), *lstm_weights(d, h)),
    "lstm": lambda n, t, d, h: ((n, t, d), (n, h), *lstm_weights(d, h)),
    "lstm_sequence": lambda n, t, d, h: ((n, t, d), (n, h), (n, h), *lstm_weights(d, h)),
    "word_embedding": lambda n, t, d, h: ((h, d),),
    "temporal_affine": lambda n, t, d, h: ((n, t, d), (d, h), (h,)),
}


def gradients_of(name, n, t, d, h, seed):
    """For each float of a pair: a function of it, it, what comes from above, and its gradient."""
    rng = np.random.default_rng(seed)
    floats = draw(seed, *PAIRS[name](n, t, d, h))
    arguments = list(floats)
    if name == "word_embedding":
        arguments.insert(0, rng.integers(h, size=(n, t)))
    if "sequence" in name:
        arguments.append(rng.random((n, t)) < 0.6)
    forward, backward = (getattr(functional, f"{name}_{way}") for way in ("forward", "backward"))
    *outputs, cache = forward(*arguments)
    upstream = [rng.normal(size=output.shape) for output in outputs]
    gradients = backward(*upstream, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for argument, gradient in zip(floats, gradients, strict=True):
        assert isinstance(gradient, np.ndarray)
        assert gradient.dtype == np.float64
        yield lambda: forward(*arguments)[:-1], argument, upstream, gradient


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(scale=0.5, size=shape) for shape in shapes]


@pytest.mark.parametrize("name", PAIRS)
def test_every_element_of_a_gradient_agrees_with_central_differences(name):
    for outputs, argument, upstream, gradient in gradients_of(name, 2, 3, 2, 2, seed=0):
        numeric = central_differences(outputs, argument, upstream)
        assert relative_error(gradient, numeric) < AGREES_TO


@pytest.mark.parametrize("name", PAIRS)
@few
@given(n=sizes, t=sizes, d=sizes, h=sizes, seed=st.integers(0, 99))
def test_gradients_of_any_size_agree_with_central_differences(name, n, t, d, h, seed):
    for outputs, argument, upstream, gradient in gradients_of(name, n, t, d, h, seed):
        check_along_directions(outputs, argument, upstream, gradient)


@few
@given(n=sizes, t=sizes, v=sizes, seed=st.integers(0, 99))
def test_temporal_softmax_gradients_agree_with_central_differences(n, t, v, seed):
    rng = np.random.default_rng(seed)
    x, y, mask = rng.normal(size=(n, t, v)), rng.integers(v, size=(n, t)), rng.random((n, t)) < 0.7
    _, dx = functional.temporal_softmax_loss(x, y, mask)

    def loss():
        return [functional.temporal_softmax_loss(x, y, mask)[0]]

    assert relative_error(dx, central_differences(loss, x, [1.0])) < AGREES_TO


# -------------------------------------------------------------------------------------- meaning


def test_a_sequence_is_its_steps_one_after_the_other():
    x, h, Wx, Wh, b = draw(0, (2, 4, 3), (2, 5), (3, 20), (5, 20), (20,))
    whole, _ = functional.lstm_forward(x, h, Wx, Wh, b)
    c = np.zeros_like(h)
    for t in range(4):
        h, c, _ = functional.lstm_step_forward(x[:, t], h, c, Wx, Wh, b)
        np.testing.assert_allclose(whole[:, t], h, atol=1e-12)


def test_the_gradient_of_a_sequence_is_that_of_its_steps_from_the_last_to_the_first():
    x, h, Wx, Wh, b, dh = draw(0, (2, 4, 3), (2, 5), (3, 20), (5, 20), (20,), (2, 4, 5))
    _, cache = functional.lstm_forward(x, h, Wx, Wh, b)
    dx, dh0, *weights = functional.lstm_backward(dh, cache)
    c, caches = np.zeros_like(h), []
    for t in range(4):
        h, c, step = functional.lstm_step_forward(x[:, t], h, c, Wx, Wh, b)
        caches.append(step)
    dh_next = dc_next = np.zeros_like(h)
    sums = [np.zeros_like(weight) for weight in weights]
    for t in reversed(range(4)):
        dx_t, dh_next, dc_next, *gradients = functional.lstm_step_backward(
            dh[:, t] + dh_next, dc_next, caches[t]
        )
        np.testing.assert_allclose(dx[:, t], dx_t, atol=1e-12)
        sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
    for whole, stepwise in zip((dh0, *weights), (dh_next, *sums), strict=True):
        np.testing.assert_allclose(whole, stepwise, atol=1e-12)


def test_the_gates_lie_in_the_order_i_f_o_g():
    zero = np.zeros((1, 1))
    c, saturated = np.full((1, 1), 0.5), 50.0

    def step(i, f, o, g):
        b = saturated * np.array([i, f, o, g])
        weights = np.zeros((1, 4))
        return [
            v.item() for v in functional.lstm_step_forward(zero, zero, c, weights, weights, b)[:2]
        ]

    assert step(-1, 1, 1, 0) == pytest.approx([np.tanh(0.5), 0.5])  # forget gate open: c is kept
    assert step(1, -1, 1, 1) == pytest.approx([np.tanh(1.0), 1.0])  # input gate open: c becomes g
    assert step(-1, 1, -1, 0) == pytest.approx([0.0, 0.5])  # output gate shut: nothing is shown


def test_repeated_words_add_up_in_the_gradient_of_the_embedding():
    _, cache = functional.word_embedding_forward(np.array([[1, 1, 0]]), np.zeros((3, 2)))
    dW = functional.word_embedding_backward(np.ones((1, 3, 2)), cache)
    np.testing.assert_array_equal(dW, [[1, 1], [2, 2], [0, 0]])


def test_the_loss_is_summed_over_time_and_divided_by_the_batch_only():
    x, y = np.zeros((4, 6, 10)), np.zeros((4, 6), int)
    mask = np.zeros((4, 6), bool)
    mask[:, :3] = True
    loss, dx = functional.temporal_softmax_loss(x, y, mask)
    assert loss == pytest.approx(3 * np.log(10))
    assert not dx[:, 3:].any()


def test_a_fractional_mask_weighs_the_steps():
    x, y = np.ones((2, 3, 4)), np.zeros((2, 3), int)
    loss, dx = functional.temporal_softmax_loss(x, y, np.full((2, 3), 0.5))
    assert loss == pytest.approx(0.5 * 3 * np.log(4))  # half of log V a step, 3 steps
    _, whole = functional.temporal_softmax_loss(x, y, np.ones((2, 3), int))
    np.testing.assert_allclose(dx, whole / 2)


def test_the_loss_has_the_size_that_the_course_s_check_expects():
    rng = np.random.RandomState(231)

    def loss(n, t, v, p):
        x, y = 0.001 * rng.randn(n, t, v), rng.randint(v, size=(n, t))
        return functional.temporal_softmax_loss(x, y, rng.rand(n, t) <= p)[0]

    assert abs(loss(100, 1, 10, 1.0) - 2.3) < 0.05
    assert abs(loss(100, 10, 10, 1.0) - 23) < 0.5
    assert 2.0 < loss(5000, 10, 10, 0.1) < 2.6


def test_sigmoid_of_any_shape_has_no_overflow():
    x = np.array([[-1000.0, -1.0], [0.0, 1000.0]])
    np.testing.assert_allclose(functional.sigmoid(x), [[0, 1 / (1 + np.e)], [0.5, 1]])
    assert functional.sigmoid(np.float32(0)).dtype == np.float32


def test_a_star_import_brings_the_names_of_the_course_and_nothing_else():
    names = {}
    exec("from tfcap.functional import *", names)
    layers = "affine", "rnn_step", "rnn", "lstm_step", "lstm", "word_embedding", "temporal_affine"
    pairs = {f"{name}_{way}" for name in layers for way in ("forward", "backward")}
    assert set(names) - {"__builtins__"} == pairs | {"temporal_softmax_loss", "sigmoid"}


def test_a_target_that_is_masked_may_be_any_number():
    x, y = np.zeros((1, 2, 3)), np.array([[-1, 2]])
    loss, _ = functional.temporal_softmax_loss(x, y, np.array([[False, True]]))
    assert loss == pytest.approx(np.log(3))


def test_scores_of_a_thousand_give_a_finite_loss():
    x = np.array([[[1000.0, -1000.0]]])
    loss, dx = functional.temporal_softmax_loss(x, np.array([[1]]), np.array([[True]]))
    assert loss == pytest.approx(2000)
    np.testing.assert_allclose(dx, [[[1, -1]]])


def test_verbose_prints_the_shape_of_the_gradient(capsys):
    functional.temporal_softmax_loss(
        np.zeros((2, 3, 4)), np.zeros((2, 3), int), np.ones((2, 3), bool), verbose=True
    )
    assert "(2, 3, 4)" in capsys.readouterr().out


# ------------------------------------------------------------------------------------- the edge


def test_numpy_gives_numpy_that_may_be_written_to_and_keeps_its_dtype():
    for dtype in ("float16", "float32", "float64"):
        arrays = [a.astype(dtype) for a in draw(0, (2, 3, 4), (2, 5), (4, 5), (5, 5), (5,))]
        h, cache = functional.rnn_forward(*arrays)
        for result in (h, *functional.rnn_backward(h, cache)):
            assert isinstance(result, np.ndarray)
            assert result.dtype == dtype
            result += 1


def test_tensors_give_tensors_forward_and_backward():
    arrays = [tf.constant(a) for a in draw(0, (2, 3, 4), (2, 5), (4, 5), (5, 5), (5,))]
    h, cache = functional.rnn_forward(*arrays)
    assert all(tf.is_tensor(result) for result in (h, *functional.rnn_backward(h, cache)))


def test_an_array_is_read_anew_at_each_call_and_not_shared_with_the_cache():
    x, w, b = draw(0, (2, 3), (3, 2), (2,))
    first, cache = functional.affine_forward(x, w, b)
    x += 1
    second, _ = functional.affine_forward(x, w, b)
    assert np.abs(first - second).min() > 1e-3
    _, dw, _ = functional.affine_backward(np.ones((2, 2)), cache)
    np.testing.assert_allclose(dw, (x - 1).T @ np.ones((2, 2)))


def test_an_empty_batch_gives_empty_results_and_zero_gradients():
    x, h0, Wx, Wh, b = draw(0, (0, 3, 4), (0, 5), (4, 20), (5, 20), (20,))
    h, cache = functional.lstm_forward(x, h0, Wx, Wh, b)
    dx, dh0, dWx, dWh, db = functional.lstm_backward(h, cache)
    assert (h.shape, dx.shape, dh0.shape) == ((0, 3, 5), (0, 3, 4), (0, 5))
    assert not dWx.any()
    assert not dWh.any()
    assert not db.any()
    ids = np.zeros((0, 3), int)
    out, cache = functional.word_embedding_forward(ids, np.ones((2, 4)))
    assert out.shape == (0, 3, 4)
    assert not functional.word_embedding_backward(out, cache).any()
    loss, dx = functional.temporal_softmax_loss(np.zeros((0, 3, 4)), ids, ids == 0)
    assert (loss, dx.shape) == (0, (0, 3, 4))
    x, w, b = draw(0, (0, 2, 3), (6, 2), (2,))
    out, cache = functional.affine_forward(x, w, b)
    assert functional.affine_backward(out, cache)[0].shape == (0, 2, 3)


# ------------------------------------------------------------------------------------ bad input


def sequence(**changed):
    arrays = {
        "x": np.zeros((2, 3, 4)),
        "h0": np.zeros((2, 5)),
        "Wx": np.zeros((4, 20)),
        "Wh": np.zeros((5, 20)),
        "b": np.zeros(20),
    }
    return {**arrays, **changed}


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"x": np.zeros((2, 4))}, ValueError, "x must have 3 axes, not 2.*x (2, 4)"),
        ({"x": np.zeros((2, 0, 4))}, ValueError, "T is 0.*x (2, 0, 4)"),
        (
            {"x": np.zeros((2, 3, 6))},
            ValueError,
            "D is 6 by x and 4 by Wx.*x (2, 3, 6).*Wx (4, 20)",
        ),
        ({"h0": np.zeros((3, 5))}, ValueError, "N is 2 by x and 3 by h0"),
        ({"Wh": np.zeros((5, 16))}, ValueError, "H is 5 by h0 and 4 by Wh"),
        ({"b": np.zeros(18)}, ValueError, "not a multiple of 4"),
        (
            {"x": np.zeros((2, 3, 4), int)},
            TypeError,
            "floating-point numbers in x of lstm_forward, received int64",
        ),
        (
            {"Wx": np.zeros((4, 20), complex)},
            TypeError,
            "in Wx of lstm_forward, received dtype complex128",
        ),
        ({"b": np.zeros(20, "float32")}, TypeError, "one floating dtype.*b float32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_what_was_received(changed, error, words):
    pattern = words.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(error, match=pattern) as caught:
        functional.lstm_forward(**sequence(**changed))
    assert "\n" not in str(caught.value)


def test_a_gradient_of_another_shape_than_its_output_is_refused():
    _, cache = functional.lstm_forward(**sequence())
    with pytest.raises(ValueError, match=r"lstm_backward.*received dh \(2, 1, 5\)"):
        functional.lstm_backward(np.zeros((2, 1, 5)), cache)


def small(dtype="float32"):
    """x, prev_h, prev_c, Wx, Wh, b of an LSTM's step."""
    return [np.ones(shape, dtype) for shape in ((2, 3), (2, 4), (2, 4), (3, 16), (4, 16), (16,))]


def test_a_float64_gradient_of_a_float32_output_is_cast():
    x, h, c, *weights = small()
    *_, cache = functional.lstm_step_forward(x, h, c, *weights)
    dout = np.random.default_rng(0).normal(size=(2, 4))
    gradients = functional.lstm_step_backward(dout, list(dout), cache)
    assert {gradient.dtype.name for gradient in gradients} == {"float32"}
    same = functional.lstm_step_backward(dout.astype("float32"), dout.astype("float32"), cache)
    np.testing.assert_array_equal(gradients[0], same[0])
    _, sequence = functional.lstm_forward(x[:, None], h, *weights)
    assert functional.lstm_backward(dout[:, None], sequence)[0].dtype == np.float32
    with pytest.raises(
        TypeError, match=r"dnext_h of the dtype that lstm_step_forward got, float32"
    ):
        functional.lstm_step_backward(tf.constant(dout), tf.constant(dout), cache)


def test_the_cache_of_another_function_is_refused():
    x, h, c, *weights = small()
    *_, cache = functional.lstm_step_forward(x, h, c, *weights)
    with pytest.raises(
        ValueError, match="the cache of rnn_step_forward, received that of lstm_step_f"
    ):
        functional.rnn_step_backward(h, cache)
    with pytest.raises(TypeError, match=r"lstm_step_backward expects the cache .* a ndarray"):
        functional.lstm_step_backward(h, c, h)
    *_, whole = functional.lstm_sequence_forward(x[:, None], h, c, *weights)
    with pytest.raises(ValueError, match="received that of lstm_sequence_forward"):
        functional.lstm_step_backward(h, c, whole)
    assert len(functional.lstm_backward(h[:, None], whole)) == 5  # it is the same cache


def test_a_mask_of_another_shape_is_refused():
    mask = np.ones((2, 4), bool)
    with pytest.raises(ValueError, match=r"T is 3 by x and 4 by mask.*mask \(2, 4\)"):
        functional.rnn_sequence_forward(
            **sequence(Wx=np.zeros((4, 5)), Wh=np.zeros((5, 5)), b=np.zeros(5), mask=mask)
        )


@pytest.mark.parametrize("ids", [[[0, -1]], [[3, 0]]])
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(ValueError, match="expected 0 to 2"):
        functional.word_embedding_forward(np.array(ids), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="expected 0 to 2"):
        functional.temporal_softmax_loss(np.zeros((1, 2, 3)), np.array(ids), np.ones((1, 2), bool))


def test_ids_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match=r"integer ids in x of word_emb.*, received float64"):
        functional.word_embedding_forward(np.zeros((1, 2)), np.zeros((3, 2)))


def test_sizes_known_only_when_the_graph_runs_are_left_to_tensorflow():
    unknown = tf.TensorSpec((None, None, 4), tf.float64)
    rest = {key: tf.constant(value) for key, value in sequence().items() if key != "x"}
    run = tf.function(lambda x: functional.lstm_forward(x, **rest)[0], input_signature=[unknown])
    assert run(tf.zeros((2, 3, 4), tf.float64)).shape == (2, 3, 5)
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(tf.zeros((3, 3, 4), tf.float64))


def test_ids_out_of_range_are_asserted_in_a_graph():
    run = tf.function(lambda ids: functional.word_embedding_forward(ids, tf.zeros((3, 2)))[0])
    assert run(tf.constant([[2]])).shape == (1, 1, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of range, expected 0 to 2"):
        run(tf.constant([[3]]))
