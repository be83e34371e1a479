"""The captioner: published losses, gradients, Keras's training around it, replicas, bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfcap import functional, ops
from tfcap.data.batches import caption_dataset
from tfcap.data.coco import decode_captions
from tfcap.model import CaptioningRNN
from visualization.backend import keras, tf

from .gradient_check import check_along_directions, relative_error

VECTORS = json.loads((Path(__file__).parent / "cs231n_vectors.json").read_text())
WORDS = ("<NULL>", "<START>", "<END>", "<UNK>", "a", "dog", "cat", "runs", "sleeps")
VOCABULARY = {word: idx for idx, word in enumerate(WORDS)}
D, W, H, V, T = 5, 4, 6, len(WORDS), 7
each_cell = pytest.mark.parametrize("cell", ["rnn", "lstm"])


def captioner(cell="lstm", seed=0, sizes=(D, W, H), **options):
    keras.utils.set_random_seed(seed)
    return CaptioningRNN(VOCABULARY, *sizes, cell, **options)


def captions(count, seed=0, width=T):
    """<START> words <END> <NULL>... of 1 to width - 2 words."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((count, width), np.int32)
    for row in rows:
        length = rng.integers(1, width - 1)
        row[: length + 2] = [1, *rng.integers(3, V, length), 2]
    return rows


def batch(count=6, seed=0, width=T, dtype="float32"):
    features = np.random.default_rng(seed).normal(size=(count, D)).astype(dtype)
    return features, captions(count, seed, width)


def weights(model):
    return {name: value.numpy().copy() for name, value in model.parameters.items()}


# ----------------------------------------------------------------------------- loss and gradients


@each_cell
def test_the_loss_is_the_published_one(cell):
    facts = VECTORS[f"captioning_loss_{cell}"]
    n, d, w, h, t, v = (facts["shapes"][letter] for letter in "NDWHTV")
    model = CaptioningRNN(facts["word_to_idx"], d, w, h, cell, dtype="float64")
    start, stop = facts["every_parameter"]
    for variable in model.parameters.values():
        variable.assign(np.linspace(start, stop, num=variable.numpy().size).reshape(variable.shape))
    features = np.linspace(*facts["features"], num=n * d).reshape(n, d)
    words = (np.arange(n * t) % v).reshape(n, t)
    loss, gradients = model.loss_and_gradients(features, words)
    assert loss.dtype == tf.float64
    assert abs(float(loss) - facts["loss"]) < 1e-7
    assert {name: g.shape for name, g in gradients.items()} == {
        name: variable.shape for name, variable in model.parameters.items()
    }


def test_parameters_have_the_names_and_first_values_of_the_course():
    model = captioner(sizes=(400, 300, 200))
    found = weights(model)
    assert list(found) == ["W_proj", "b_proj", "W_embed", "Wx", "Wh", "b", "W_vocab", "b_vocab"]
    for name in ("b_proj", "b", "b_vocab"):
        assert not found[name].any()
    assert found["W_embed"].std() == pytest.approx(0.01, rel=0.1)
    for name, fan_in in (("W_proj", 400), ("Wx", 300), ("Wh", 200), ("W_vocab", 200)):
        assert found[name].std() == pytest.approx(fan_in**-0.5, rel=0.1)


@each_cell
def test_gradients_agree_with_central_differences(cell):
    model = captioner(cell, dtype="float64")
    features, words = batch(3, width=5, dtype="float64")
    words[0] = [1, 5, 0, 6, 2]  # <NULL> within a sentence
    loss, gradients = model.loss_and_gradients(features, words)
    compiled = tf.function(lambda: model.summed_loss(features, words) / 3, autograph=False)
    np.testing.assert_allclose(compiled(), loss, atol=1e-12)
    for name, value in weights(model).items():

        def losses(variable=model.parameters[name], value=value):
            variable.assign(value)
            return [compiled().numpy()]

        check_along_directions(losses, value, [1.0], gradients[name].numpy())
        losses()


def plain_loss(cell, p, features, words):
    """The captioner in TensorFlow's own operations, from the equations."""
    h = tf.constant(features) @ p["W_proj"] + p["b_proj"]
    c = tf.zeros_like(h)
    loss = 0.0
    for t in range(words.shape[1] - 1):
        a = tf.gather(p["W_embed"], words[:, t]) @ p["Wx"] + h @ p["Wh"] + p["b"]
        if cell == "rnn":
            h = tf.tanh(a)
        else:
            i, f, o, g = tf.split(a, 4, axis=1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
        scores = h @ p["W_vocab"] + p["b_vocab"]
        target = words[:, t + 1]
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(target, scores)
        loss += tf.reduce_sum(tf.where(target != 0, each, 0))
    return loss / len(words)


@each_cell
def test_loss_and_gradients_agree_with_the_equations_differentiated_by_tensorflow(cell):
    model = captioner(cell, dtype="float64")
    features, words = batch(dtype="float64")
    loss, gradients = model.loss_and_gradients(features, words)
    plain = {name: tf.constant(value) for name, value in weights(model).items()}
    with tf.GradientTape() as tape:
        tape.watch(plain)
        expected = plain_loss(cell, plain, features, words)
    np.testing.assert_allclose(loss, expected, atol=1e-12)
    for name, gradient in tape.gradient(expected, plain).items():
        assert relative_error(gradients[name], tf.convert_to_tensor(gradient)) < 1e-12, name


@pytest.mark.parametrize(
    ("backward", "names"),
    [
        ("affine_backward", "W_vocab b_vocab W_proj b_proj Wx Wh b W_embed"),
        ("lstm_sequence_backward", "W_proj b_proj Wx Wh b W_embed"),
        ("rnn_sequence_backward", "W_proj b_proj Wx Wh b W_embed"),
        ("word_embedding_backward", "W_embed"),
    ],
)
def test_the_hand_written_backward_functions_make_the_gradients(backward, names, monkeypatch):
    model = captioner(backward[:4].rstrip("_") if "sequence" in backward else "lstm")
    _, before = model.loss_and_gradients(*batch())
    original = getattr(functional, backward)

    def nothing(*arguments):
        return tf.nest.map_structure(tf.zeros_like, original(*arguments))

    monkeypatch.setattr(functional, backward, nothing)
    _, after = model.loss_and_gradients(*batch())
    assert all(gradient.numpy().any() for gradient in before.values())
    zero = {name for name, gradient in after.items() if not gradient.numpy().any()}
    assert zero == set(names.split())


def test_the_loss_goes_through_its_hand_written_gradient(monkeypatch):
    original = functional.temporal_softmax_loss

    def nothing(*arguments):
        loss, dx = original(*arguments)
        return loss, tf.zeros_like(dx)

    nothing.expected = original.expected
    monkeypatch.setattr(functional, "temporal_softmax_loss", nothing)
    _, gradients = captioner().loss_and_gradients(*batch())
    assert not any(gradient.numpy().any() for gradient in gradients.values())


def test_scores_are_computed_only_for_words_that_are_not_padding(monkeypatch):
    seen = []
    affine = ops.affine

    def spy(x, *weights):
        seen.append(tuple(x.shape))
        return affine(x, *weights)

    monkeypatch.setattr(ops, "affine", spy)
    features, words = batch()
    captioner().summed_loss(features, words)
    real = int((words[:, 1:] != 0).sum())
    assert real < words[:, 1:].size
    assert seen == [(6, D), (real, H)]


def test_a_batch_of_padding_only_has_no_loss_and_no_gradient():
    features, words = batch()
    loss, gradients = captioner().loss_and_gradients(features, np.where(words == 1, 1, 0))
    assert loss == 0
    assert not any(gradient.numpy().any() for gradient in gradients.values())


def test_features_are_shifted_and_scaled_first():
    features, words = batch(dtype="float64")
    mean, std = np.linspace(-1, 1, D), np.linspace(1, 2, D)
    loss, _ = captioner(dtype="float64").loss_and_gradients((features - mean) / std, words)
    model = captioner(dtype="float64", feature_mean=mean, feature_std=std)
    assert float(model.loss_and_gradients(features, words)[0]) == pytest.approx(float(loss))


def test_calling_the_model_gives_the_scores_that_the_loss_is_made_of():
    model = captioner()
    features, words = batch()
    scores = model((features, words[:, :-1]))
    assert scores.shape == (6, T - 1, V)
    expected, _ = functional.temporal_softmax_loss(scores.numpy(), words[:, 1:], words[:, 1:] != 0)
    assert float(model.loss_and_gradients(features, words)[0]) == pytest.approx(expected, rel=1e-5)


# --------------------------------------------------------------------------------- how it trains


def test_label_smoothing_is_the_cross_entropy_with_the_smoothed_target():
    features, words = batch(dtype="float64")
    model = captioner(label_smoothing=0.1, dtype="float64")
    log_p = np.log(tf.nn.softmax(model((features, words[:, :-1]))))
    target = 0.9 * np.eye(V)[words[:, 1:]] + 0.1 / V
    expected = -(target * log_p).sum(axis=2)[words[:, 1:] != 0].sum()
    smoothed = model.summed_loss(features, words, training=True)
    assert float(smoothed) == pytest.approx(expected, rel=1e-10)
    plain = -(np.eye(V)[words[:, 1:]] * log_p).sum(axis=2)[words[:, 1:] != 0].sum()
    assert float(model.summed_loss(features, words)) == pytest.approx(plain, rel=1e-10)


def test_dropout_happens_in_training_only():
    model = captioner(dropout=0.5)
    plain = captioner()
    for name, value in weights(plain).items():
        model.parameters[name].assign(value)
    features, words = batch()
    losses = {float(model.summed_loss(features, words, training=True)) for _ in range(4)}
    assert len(losses) == 4
    expected = float(plain.summed_loss(features, words))
    assert {float(model.summed_loss(features, words)) for _ in range(4)} == {expected}
    assert float(model.loss_and_gradients(features, words)[0]) * 6 == pytest.approx(expected)


@each_cell
def test_fifty_captions_are_learned_by_heart(cell):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 32)).astype("float32")
    model = captioner(cell, sizes=(32, 32, 64))
    words = np.where(captions(50) == 3, 4, captions(50))  # <UNK> is never said
    model.compile(keras.optimizers.Adam(0.02))
    assert model.evaluate(features, words, verbose=0) > 5
    batches = tf.data.Dataset.from_tensor_slices((features, words)).batch(25).repeat(60)
    model.fit(batches, verbose=0)
    assert model.evaluate(features, words, verbose=0) < 0.1
    said = model.sample(features, T - 1)
    assert (said == words[:, 1:]).mean() > 0.99


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_it_trains_under_mixed_precision(policy):
    model = captioner(dtype=policy)
    model.compile(keras.optimizers.Adam(0.05))
    features, words = batch(32)
    before = float(model.loss_and_gradients(features, words)[0])
    batches = tf.data.Dataset.from_tensor_slices((features, words)).batch(32).repeat(40)
    model.fit(batches, verbose=0)
    assert float(model.loss_and_gradients(features, words)[0]) < 0.6 * before
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert model((features, words)).dtype == policy.removeprefix("mixed_")
    assert model.sample(features, 5).shape == (32, 5)
    assert np.isfinite(model.beam_search(features, max_length=5)[1]).all()


def test_mixed_precision_agrees_with_float32():
    features, words = batch(32)
    whole, half = captioner(), captioner(dtype="mixed_bfloat16")
    for name, value in weights(whole).items():
        half.parameters[name].assign(value)
    expected, gradients = whole.loss_and_gradients(features, words)
    loss, halves = half.loss_and_gradients(features, words)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(float(expected), rel=0.01)
    for name, gradient in gradients.items():
        assert halves[name].dtype == tf.float32
        assert relative_error(halves[name], gradient) < 0.05, name


def test_the_loss_of_an_epoch_is_the_mean_over_captions_however_they_are_batched():
    features, words = batch(7)
    model = captioner()
    model.compile(keras.optimizers.SGD(0.0))
    expected = float(model.loss_and_gradients(features, words)[0])
    for size in (1, 3, 7):
        fitted = model.fit(features, words, batch_size=size, verbose=0).history["loss"][0]
        assert fitted == pytest.approx(expected, rel=1e-5)
        assert model.evaluate(features, words, size, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_keras_callbacks_work(tmp_path):
    features, words = batch(24)
    model = captioner()
    model.compile(keras.optimizers.Adam(0.05))
    callbacks = keras.callbacks
    best = tmp_path / "best.weights.h5"
    history = model.fit(
        features,
        words,
        batch_size=8,
        epochs=40,
        validation_data=batch(8, seed=1),
        verbose=0,
        callbacks=[
            callbacks.ModelCheckpoint(
                best, "val_loss", save_best_only=True, save_weights_only=True
            ),
            callbacks.ModelCheckpoint(tmp_path / "last.keras"),
            callbacks.EarlyStopping("val_loss", patience=3),
            callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1),
            callbacks.TensorBoard(tmp_path / "logs"),
        ],
    ).history
    assert len(history["loss"]) < 40
    assert history["learning_rate"][-1] < 0.05
    assert list((tmp_path / "logs").rglob("events.out.tfevents*"))
    last = keras.saving.load_model(tmp_path / "last.keras")
    expected = history["val_loss"][-1]
    assert last.evaluate(*batch(8, seed=1), verbose=0) == pytest.approx(expected, rel=1e-5)
    model.load_weights(best)
    expected = min(history["val_loss"])
    assert model.evaluate(*batch(8, seed=1), verbose=0) == pytest.approx(expected, rel=1e-5)


def test_backup_and_restore_goes_on_where_a_killed_run_stopped(tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise InterruptedError

    def fit(folder, *callbacks):
        model = captioner()
        model.compile(keras.optimizers.Adam(0.05))
        backup = keras.callbacks.BackupAndRestore(tmp_path / folder)
        options = {"batch_size": 8, "epochs": 4, "shuffle": False, "verbose": 0}
        return model.fit(*batch(16), callbacks=[backup, *callbacks], **options).history["loss"]

    undisturbed = fit("undisturbed")
    with pytest.raises(InterruptedError):
        fit("killed", Kill())
    np.testing.assert_allclose(fit("killed"), undisturbed[2:], rtol=1e-6)


def test_it_fits_on_a_stream_of_captions():
    features, words = batch(40)
    data = {
        "train_captions": words,
        "train_image_idxs": np.arange(40, dtype=np.int32),
        "train_features": features,
    }
    model = captioner()
    model.compile(keras.optimizers.Adam(0.05))
    dataset = caption_dataset(data, batch_size=16)
    losses = model.fit(dataset, epochs=25, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]
    loss = model.evaluate(caption_dataset(data, batch_size=16, shuffle=False), verbose=0)
    assert loss == pytest.approx(float(model.loss_and_gradients(features, words)[0]), rel=1e-4)


def test_the_optimizer_clips_all_gradients_together():
    features, words = batch()
    model = captioner()
    _, gradients = model.loss_and_gradients(features, words)
    norm = float(tf.linalg.global_norm(list(gradients.values())))
    before = weights(model)
    model.compile(keras.optimizers.SGD(1.0, global_clipnorm=norm / 4))
    model.fit(features, words, verbose=0)
    for name, value in weights(model).items():
        moved = before[name] - value
        np.testing.assert_allclose(moved, gradients[name] / 4, atol=1e-5)


# -------------------------------------------------------------------------------------- replicas


def steps_of_one(optimizer, batches, **options):
    model = captioner(**options)
    model.compile(optimizer)
    losses = []
    for features, words in batches:
        loss, share = model.optimize(tf.constant(features), tf.constant(words))
        assert float(share) == 1
        losses.append(float(loss))
    return losses, weights(model)


def steps_of_two(optimizer, batches, **options):
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(devices)
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        model = captioner(**options)
        model.compile(optimizer())
        model.optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(features, words):
        return strategy.run(model.optimize, args=(features, words))

    losses = []
    for features, words in batches:
        halves = [
            strategy.experimental_distribute_values_from_function(
                lambda context, array=array: array[context.replica_id_in_sync_group :: 2]
            )
            for array in (features, words)
        ]
        loss, share = step(*halves)
        shares = map(float, strategy.experimental_local_results(share))
        assert sum(shares) == pytest.approx(1)
        losses.append(sum(map(float, strategy.experimental_local_results(loss))))
    return losses, weights(model)


@pytest.mark.parametrize(
    ("clip", "policy"),
    [
        ({}, "float32"),
        ({"global_clipnorm": 0.5}, "mixed_float16"),
        ({"clipnorm": 0.1}, "float32"),
        ({"clipvalue": 0.01}, "mixed_float16"),
    ],
    ids=["whole", "clipped and scaled", "clipped each", "clipped in value and scaled"],
)
def test_two_replicas_do_together_what_one_does(clip, policy):
    batches = [batch(7, seed) for seed in range(3)]  # of which one takes four captions

    def optimizer():
        return keras.optimizers.SGD(0.5, momentum=0.9, **clip)

    losses, expected = steps_of_one(optimizer(), batches, dtype=policy)
    together, found = steps_of_two(optimizer, batches, dtype=policy)
    to = 1e-5 if policy == "float32" else 5e-3
    np.testing.assert_allclose(together, losses, rtol=to)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=to, err_msg=name)


# --------------------------------------------------------------------------------------- as Keras


@each_cell
def test_a_captioner_is_made_again_from_its_config(cell):
    options = {"dropout": 0.25, "label_smoothing": 0.1, "encoder": "squeezenet"}
    options |= {"feature_mean": np.arange(5.0), "feature_std": 2.0}
    model = captioner(cell, dtype="mixed_bfloat16", **options)
    again = CaptioningRNN.from_config(json.loads(json.dumps(model.get_config())))
    assert again.get_config() == model.get_config()
    assert (again.drop.rate, again.label_smoothing) == (0.25, 0.1)
    assert (again.cell_type, again.encoder) == (cell, "squeezenet")
    np.testing.assert_array_equal(again.feature_mean, np.arange(5.0))
    assert again.feature_std == 2
    assert again.dtype_policy.name == "mixed_bfloat16"


def test_a_keras_file_holds_the_whole_captioner(tmp_path):
    model = captioner(feature_mean=np.arange(5.0), dropout=0.1)
    model.compile(keras.optimizers.Adam(0.05))
    features, words = batch()
    model.fit(features, words, verbose=0)
    model.save(tmp_path / "captioner.keras")
    again = keras.saving.load_model(tmp_path / "captioner.keras")
    for mine, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(again((features, words)), model((features, words)))
    np.testing.assert_array_equal(again.sample(features, 6), model.sample(features, 6))
    assert again.idx_to_word == list(WORDS)


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"cell_type": "gru"},
            ValueError,
            'cell_type must be "rnn", "lstm" or "attention", received \'gru\'',
        ),
        ({"input_dim": 0}, ValueError, "input_dim must be a positive integer, received 0"),
        ({"hidden_dim": 2.5}, ValueError, "hidden_dim must be a positive integer.*, received 2.5"),
        ({"wordvec_dim": "4"}, ValueError, "wordvec_dim must be a positive integer.* received '4'"),
        ({"dropout": 1.0}, ValueError, "dropout must be at least 0 and below 1, received 1.0"),
        ({"dropout": "half"}, ValueError, "dropout must be .*, received 'half'"),
        ({"label_smoothing": -0.1}, ValueError, "label_smoothing must be .* received -0.1"),
        ({"feature_mean": [1.0, 2.0]}, ValueError, r"feature_mean has shape \(2,\), expected .*5"),
        ({"feature_mean": np.nan}, ValueError, "feature_mean .* all finite"),
        ({"feature_std": np.zeros(D)}, ValueError, "feature_std must be above 0"),
        ({"word_to_idx": {"a": 4, "b": 4}}, ValueError, "expected 0 to|the same id"),
        ({"word_to_idx": {"a": 0}}, ValueError, 'word_to_idx has no "<NULL>"'),
        ({"word_to_idx": {**VOCABULARY, "x": 8}}, ValueError, "'x' and 'sleeps' the same id 8"),
        ({"word_to_idx": list(WORDS)}, TypeError, "is a list, expected a dict from words to ids"),
    ],
)
def test_a_captioner_that_cannot_be_is_refused(options, error, words):
    sizes = {"input_dim": D, "wordvec_dim": W, "hidden_dim": H}
    with pytest.raises(error, match=words) as caught:
        CaptioningRNN(**{"word_to_idx": VOCABULARY, **sizes, **options})
    assert "\n" not in str(caught.value)


FEATURES, CAPTIONS = batch()


@pytest.mark.parametrize(
    ("features", "captions", "error", "words"),
    [
        (
            FEATURES[:, :3],
            CAPTIONS,
            ValueError,
            r"shape \(6, 3\), but this captioner takes \(N, 5\)",
        ),
        (FEATURES[0], CAPTIONS, ValueError, r"features have shape \(5,\)"),
        (FEATURES * np.nan, CAPTIONS, ValueError, "features hold NaN or infinity"),
        (FEATURES, CAPTIONS[:, :1], ValueError, r"captions have shape \(6, 1\), .* at least 2"),
        (FEATURES, CAPTIONS[:, :0], ValueError, r"captions have shape \(6, 0\), .* at least 2"),
        (FEATURES, CAPTIONS[0], ValueError, r"captions have shape \(7,\)"),
        (FEATURES, CAPTIONS.astype(float), TypeError, "integer ids, received float64"),
        (FEATURES, CAPTIONS + V, ValueError, "expected 0 to 8: they belong to another vocabulary"),
        (FEATURES, CAPTIONS - 1, ValueError, "captions hold ids from -1 to"),
        (FEATURES[:4], CAPTIONS, ValueError, "received features of 4 images and 6 captions"),
    ],
)
def test_features_and_captions_that_do_not_fit_are_refused(features, captions, error, words):
    model = captioner(encoder="squeezenet")
    model.compile("sgd")
    for use in (model.loss_and_gradients, model.fit, model.evaluate):
        with pytest.raises(error, match=words) as caught:
            use(features, captions)
        assert "\n" not in str(caught.value)


def test_captions_of_another_vocabulary_are_refused_for_validation_too():
    model = captioner()
    model.compile("sgd")
    with pytest.raises(ValueError, match="they belong to another vocabulary"):
        model.fit(FEATURES, CAPTIONS, validation_data=(FEATURES, CAPTIONS + V), verbose=0)


def test_what_training_would_overlook_is_refused():
    model = captioner()
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"sample weights .* not supported"):
        model.fit(FEATURES, CAPTIONS, sample_weight=np.ones(6), verbose=0)
    model.compile("sgd")
    with pytest.raises(ValueError, match="captions are missing"):
        model.fit(FEATURES, verbose=0)
    for given in ({"loss": "mse"}, {"metrics": ["accuracy"]}, {"loss_weights": [2.0]}):
        with pytest.raises(ValueError, match="own loss and no other metrics: pass compile an opt"):
            model.compile("sgd", **given)


def test_captions_may_be_lists_but_not_of_different_lengths():
    model = captioner()
    model.compile("adam")
    features, words = batch()
    lists = features.tolist(), words.tolist()
    model.fit(*lists, validation_data=lists, verbose=0)
    assert model.evaluate(*lists, verbose=0) == model.evaluate(features, words, verbose=0)
    ragged = [words.tolist()[0][:-1], *words.tolist()[1:]]
    for call in (model.fit, model.evaluate, model.loss_and_gradients):
        with pytest.raises(
            ValueError, match=r"captions are rows of different lengths.*with the id of"
        ):
            call(features, ragged)
    with pytest.raises(ValueError, match="captions are rows of different lengths"):
        model.fit(features, words, validation_data=(features, ragged), verbose=0)


# ---------------------------------------------------------------------------------------- exported

SERVE = """
import json, sys
import numpy as np
import tensorflow as tf
features = np.load("features.npy")
for folder in sys.argv[1:]:
    loaded = tf.saved_model.load(folder)
    served = loaded.serve(features)
    print(json.dumps([text.decode() for text in served["sentences"].numpy()]))
assert not {"tfcap", "visualization"} & set(sys.modules)
"""


@pytest.mark.slow
def test_exported_captioners_say_their_sentences_in_a_process_that_has_tensorflow_alone(tmp_path):
    expected = []
    features, _ = batch()
    np.save(tmp_path / "features.npy", features)
    for cell, beams in (("lstm", 1), ("rnn", 3)):
        model = captioner(cell)
        model.export_sentences(tmp_path / f"{cell}{beams}", beam_size=beams, max_length=6)
        ids = model.beam_search(features, beams, 1, 6)[0][:, 0]
        expected.append(decode_captions(ids, model.idx_to_word))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", SERVE, "lstm1", "rnn3"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected, done.stderr


def test_export_gives_the_scores_of_the_model(tmp_path):
    looking = CaptioningRNN(VOCABULARY, 5, 4, 6, "attention", heads=2)
    looking.export(tmp_path / "looking", verbose=False)
    features = np.random.default_rng(0).normal(size=(2, 9, 5)).astype("float32")
    said = np.array([[1, 4, 5], [1, 5, 4]], np.int32)
    loaded = tf.saved_model.load(tmp_path / "looking")
    served = loaded.serve((features, said))
    np.testing.assert_allclose(served, looking((features, said)), rtol=1e-4, atol=1e-5)
    looking.export_sentences(tmp_path / "sentences", beam_size=2, max_length=4)
    loaded = tf.saved_model.load(tmp_path / "sentences")
    ids = loaded.serve(features)["ids"]
    np.testing.assert_array_equal(ids, looking.beam_search(features, 2, 1, 4)[0][:, 0])
    with pytest.raises(ValueError, match="exported as 'tf_saved_model', received format='onnx'"):
        looking.export(tmp_path / "captioner.onnx", format="onnx")
