"""The captioner and the layers that look at an image: gradients, sentences, files, what is refused."""

import json

import numpy as np
import pytest

from tfcap import functional
from tfcap.layers import AttentionLSTM, AttentionLSTMCell
from tfcap.model import CaptioningRNN
from visualization.backend import keras, tf

from .gradient_check import central_differences, relative_error

WORDS = ("<NULL>", "<START>", "<END>", "<UNK>", "a", "dog", "cat", "runs", "sleeps")
VOCABULARY = {word: idx for idx, word in enumerate(WORDS)}
D, W, H, V, T, L, HEADS = 5, 4, 6, len(WORDS), 6, 7, 3


def captioner(seed=0, sizes=(D, W, H), **options):
    keras.utils.set_random_seed(seed)
    return CaptioningRNN(VOCABULARY, *sizes, "attention", **{"heads": HEADS, **options})


def captions(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.zeros((count, T), np.int32)
    for row in rows:
        length = rng.integers(1, T - 1)
        row[: length + 2] = [1, *rng.integers(4, V, length), 2]
    return rows


def batch(count=4, seed=0, dtype="float32"):
    features = np.random.default_rng(seed).normal(size=(count, L, D)).astype(dtype)
    return features, captions(count, seed)


# ----------------------------------------------------------------------------- loss and gradients


def plain_loss(p, features, words):
    """The captioner in TensorFlow's own operations, from the equations in its docstring."""
    cells = tf.constant(features)
    h, c = tf.split(tf.tanh(tf.reduce_mean(cells, 1) @ p["W_proj"] + p["b_proj"]), 2, axis=1)
    keys, values = cells @ p["W_keys"], cells @ p["W_values"] + p["b_values"]
    loss, d = 0.0, H // HEADS
    for t in range(words.shape[1] - 1):
        x, q = tf.gather(p["W_embed"], words[:, t]), h @ p["Wq"]
        seen = []
        for k in range(HEADS):
            part = slice(k * d, (k + 1) * d)
            scores = tf.einsum("nd,nld->nl", q[:, part], keys[..., part]) / np.sqrt(d)
            seen.append(tf.einsum("nl,nld->nd", tf.nn.softmax(scores), values[..., part]))
        context = tf.concat(seen, axis=1)
        i, f, o, g = tf.split(x @ p["Wx"] + h @ p["Wh"] + context @ p["Wz"] + p["b"], 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        out = tf.tanh(tf.concat([h, context, x], axis=1) @ p["W_out"] + p["b_out"])
        logits = out @ p["W_vocab"] + p["b_vocab"]
        target = words[:, t + 1]
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits)
        loss += tf.reduce_sum(tf.where(target != 0, each, 0))
    return loss / len(words)


def test_loss_and_gradients_agree_with_the_equations_differentiated_by_tensorflow():
    model = captioner(dtype="float64")
    features, words = batch(dtype="float64")
    loss, gradients = model.loss_and_gradients(features, words)
    plain = {name: tf.constant(v.numpy()) for name, v in model.parameters.items()}
    with tf.GradientTape() as tape:
        tape.watch(plain)
        expected = plain_loss(plain, features, words)
    np.testing.assert_allclose(loss, expected, atol=1e-12)
    for name, gradient in tape.gradient(expected, plain).items():
        assert relative_error(gradients[name], tf.convert_to_tensor(gradient)) < 1e-12, name


def test_gradients_agree_with_central_differences():
    model = captioner(dtype="float64")
    features, words = batch(2, dtype="float64")
    _, gradients = model.loss_and_gradients(features, words)
    run = tf.function(lambda: model.summed_loss(features, words) / 2, autograph=False)
    for name in ("W_keys", "W_values", "Wq", "b_out", "b_proj"):
        variable = model.parameters[name]
        value = variable.numpy().copy()

        def losses(variable=variable, value=value):
            variable.assign(value)
            return [run().numpy()]

        numeric = central_differences(losses, value, [1.0])
        losses()
        assert relative_error(gradients[name], numeric) < 1e-6, name


def test_without_the_hand_written_backward_nothing_below_it_learns(monkeypatch):
    model = captioner()
    original = functional.attention_lstm_sequence_backward
    monkeypatch.setattr(
        functional,
        "attention_lstm_sequence_backward",
        lambda *a: tf.nest.map_structure(tf.zeros_like, original(*a)),
    )
    _, gradients = model.loss_and_gradients(*batch())
    learns = {name for name, gradient in gradients.items() if gradient.numpy().any()}
    assert learns == {"W_out", "b_out", "W_vocab", "b_vocab", "W_embed"}


def test_captions_that_share_an_image_have_the_loss_of_captions_with_a_copy_each():
    model = captioner(dtype="float64")
    features, words = batch(6, dtype="float64")
    row = np.array([1, 0, 1, 1, 0, 1])
    shared = model.summed_loss(features[:2], words, image_of_row=row)
    np.testing.assert_allclose(shared, model.summed_loss(features[:2][row], words), atol=1e-12)


# --------------------------------------------------------------------------- training, sentences


@pytest.fixture(scope="module")
def trained():
    """A captioner that knows twelve sentences by heart, and its batch."""
    features, words = batch(12)
    model = captioner(sizes=(D, 16, 36))
    model.compile(keras.optimizers.Adam(0.02))
    batches = tf.data.Dataset.from_tensor_slices((features, words)).batch(12).repeat(200)
    model.fit(batches, verbose=0)
    return model, features, words


def test_captions_are_learned_by_heart_and_said(trained):
    model, features, words = trained
    assert model.evaluate(features, words, verbose=0) < 0.1
    np.testing.assert_array_equal(model.sample(features, T - 1), words[:, 1:])
    found, log_p = model.beam_search(features, beam_size=3, n_best=2, max_length=T - 1)
    np.testing.assert_array_equal(found[:, 0], words[:, 1:])
    assert (log_p[:, 0] > log_p[:, 1]).all()


def test_a_sentence_does_not_depend_on_its_batch_or_on_how_many_cells_came_before(trained):
    model, features, _ = trained
    together, _ = model.beam_search(features[:, :4], beam_size=3, max_length=T)
    alone = [model.beam_search(f[np.newaxis, :4], beam_size=3, max_length=T)[0] for f in features]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_the_log_probability_of_a_beam_is_that_of_its_words(trained):
    model, features, _ = trained
    words, log_p = model.beam_search(features, beam_size=3, n_best=3, max_length=T)
    for k in range(3):
        before = np.insert(words[:, k, :-1], 0, 1, axis=1)
        scores = tf.nn.log_softmax(model((features, before))).numpy()
        said = np.take_along_axis(scores, words[:, k, :, np.newaxis], axis=2)[..., 0]
        said = np.where(words[:, k] == 0, 0, said).sum(axis=1)
        np.testing.assert_allclose(log_p[:, k], said, atol=1e-3)


def test_attention_comes_back_for_each_word_and_head(trained):
    model, features, _ = trained
    words = model.sample(features, T)
    weights = model.attention(features, words)
    assert weights.shape == (12, T, HEADS, L)
    np.testing.assert_allclose(weights[words != 0].sum(axis=-1), 1, atol=1e-5)
    assert not weights[words == 0].any()
    order = np.random.default_rng(0).permutation(L)
    moved = model.attention(features[:, order], words)
    np.testing.assert_allclose(moved, weights[..., order], atol=1e-5)


def test_a_captioner_without_attention_says_so():
    model = CaptioningRNN(VOCABULARY, D, W, H)
    with pytest.raises(ValueError, match='"lstm" has no attention: train one of "attention"'):
        model.attention(np.zeros((1, D)), np.zeros((1, T), int))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_it_trains_under_mixed_precision(policy):
    model = captioner(dtype=policy)
    model.compile(keras.optimizers.Adam(0.05))
    features, words = batch(16)
    before = float(model.loss_and_gradients(features, words)[0])
    batches = tf.data.Dataset.from_tensor_slices((features, words)).batch(16).repeat(30)
    model.fit(batches, verbose=0)
    assert float(model.loss_and_gradients(features, words)[0]) < 0.6 * before
    assert np.isfinite(model.beam_search(features, max_length=4)[1]).all()


# ------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_it_is_saved_and_loaded(dtype, tmp_path):
    model = captioner(dtype=dtype, feature_mean=np.arange(5.0), encoder="lite2")
    model.save_pretrained(tmp_path / "captioner")
    again = CaptioningRNN.from_pretrained(tmp_path / "captioner")
    assert (again.cell_type, again.heads, again.encoder) == ("attention", HEADS, "lite2")
    for name, variable in model.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], variable)
    features, _ = batch()
    np.testing.assert_array_equal(again.sample(features, 5), model.sample(features, 5))


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ("3", "heads is '3'"),
        (0, "heads is 0"),
        (True, "heads is True"),
        (4, "heads must divide hidden_dim, received 4 heads and 6 numbers"),
        (None, "lacks or does not know heads"),
    ],
)
def test_a_config_with_wrong_heads_is_refused(heads, words, tmp_path):
    captioner().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architecture"]["heads"] = heads
    if heads is None:
        del config["architecture"]["heads"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=words):
        CaptioningRNN.from_pretrained(tmp_path)


def test_heads_in_the_config_of_a_captioner_without_attention_are_refused(tmp_path):
    CaptioningRNN(VOCABULARY, D, W, H).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "heads" not in config["architecture"]
    config["architecture"]["heads"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lacks or does not know heads"):
        CaptioningRNN.from_pretrained(tmp_path)


def test_a_keras_file_holds_the_whole_captioner(tmp_path):
    model = captioner(dropout=0.1)
    model.compile(keras.optimizers.Adam(0.05))
    features, words = batch()
    model.fit(features, words, verbose=0)
    model.save(tmp_path / "captioner.keras")
    again = keras.saving.load_model(tmp_path / "captioner.keras")
    np.testing.assert_array_equal(again((features, words)), model((features, words)))
    assert again.get_config() == model.get_config()


@pytest.mark.parametrize("shape", [(4, D), (4, L, D + 1), (4, 0, D), (4, 1, L, D)])
def test_features_that_are_no_cells_are_refused(shape):
    model = captioner()
    for use in (lambda f: model.loss_and_gradients(f, captions(4)), model.sample):
        with pytest.raises(ValueError, match=rf"takes \(N, L, {D}\)"):
            use(np.zeros(shape, "float32"))


def test_heads_must_divide_the_hidden_numbers():
    with pytest.raises(ValueError, match="heads must divide hidden_dim, received 4 heads and 6"):
        captioner(heads=4)


# ----------------------------------------------------------------------------------------- layers


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]


@pytest.mark.parametrize(
    "mask", [None, np.arange(T) < [[T], [2], [4], [0]]], ids=["whole", "masked"]
)
def test_a_cell_inside_keras_rnn_agrees_with_the_fused_layer(mask):
    x, h, c, keys, values = arrays((4, T, D), (4, H), (4, H), (4, L, H), (4, L, H))
    fused = AttentionLSTM(H, HEADS, return_sequences=True, return_state=True)
    hs, h_last, c_last = fused(x, keys, values, initial_state=[h, c], mask=mask)
    layer = keras.layers.RNN(AttentionLSTMCell(H, HEADS), return_sequences=True, return_state=True)
    layer.build(x.shape)
    layer.set_weights([weight.numpy() for weight in fused.cell.weights])
    steps, *last = layer(x, initial_state=[h, c, keys, values], mask=mask)
    np.testing.assert_allclose(hs, steps, atol=1e-5)
    np.testing.assert_allclose(h_last, last[0], atol=1e-5)
    np.testing.assert_allclose(c_last, last[1], atol=1e-5)
    np.testing.assert_array_equal(last[2], keys)


def test_the_layer_returns_what_is_asked_for():
    x, image = arrays((6, T, D), (2, L, H))
    options = {"return_sequences": True, "return_state": True, "return_attention": True}
    whole = AttentionLSTM(H, HEADS, **options)
    hs, contexts, weights, h, c = whole(x, image, image)
    shapes = [tuple(value.shape) for value in (hs, contexts, weights, h, c)]
    assert shapes == [(6, T, H), (6, T, H), (6, T, HEADS, L), (6, H), (6, H)]
    last = AttentionLSTM(H, HEADS)
    last.build(x.shape)
    last.cell.set_weights(whole.cell.get_weights())
    np.testing.assert_allclose(last(x, image, image), h, atol=1e-6)
    told = last(x, image, image, image_of_row=np.array([0, 0, 0, 1, 1, 1]))
    np.testing.assert_allclose(told, h, atol=1e-6)


def test_a_functional_model_with_the_layer_is_saved_and_read_back(tmp_path):
    words, cells = keras.Input((None, D)), keras.Input((None, H))
    options = {"return_sequences": True, "return_attention": True, "dropout": 0.2, "seed": 1}
    layer = AttentionLSTM(H, HEADS, **options)
    model = keras.Model([words, cells], layer(words, cells, cells))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x, image = arrays((2, T, D), (2, L, H))
    for mine, other in zip(again([x, image]), model([x, image]), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(
    "layer",
    [
        AttentionLSTMCell(6, 2, name="looker"),
        AttentionLSTM(6, 3, dropout=0.2, seed=1, return_state=True, dtype="mixed_bfloat16"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_configuration_makes_the_same_layer(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config
    assert keras.saving.get_registered_name(type(layer)).startswith("tfcap>")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "mixed_bfloat16"])
def test_a_layer_follows_its_dtype_policy(dtype):
    x, image = arrays((2, T, D), (2, L, H))
    assert AttentionLSTM(H, HEADS, dtype=dtype)(x, image, image).dtype == dtype.removeprefix(
        "mixed_"
    )


def test_a_layer_says_what_it_cannot_take():
    x, image = arrays((2, T, D), (2, L, H))
    with pytest.raises(ValueError, match="heads must divide units, received 4 heads and 6 units"):
        AttentionLSTM(6, 4)
    with pytest.raises(ValueError, match="received 1 initial state: give 2"):
        AttentionLSTM(H, HEADS)(x, image, image, initial_state=[x[:, 0]])
