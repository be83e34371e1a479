"""Training on CIDEr: rewards, the policy's gradient, and a run that goes on from a captioner."""

import dataclasses

import numpy as np
import pytest

from tfcap.data.coco import load_coco_data
from tfcap.metrics.cider import CiderD
from tfcap.model import CaptioningRNN
from tfcap.self_critical import SAMPLES, SelfCriticalTrainer, advantages
from tfcap.train_state import SavedState, TrainConfig
from tfcap.training import Trainer
from visualization.backend import tf

from . import caption_folders

CONFIG = TrainConfig(
    hidden_dim=16,
    wordvec_dim=8,
    batch_size=64,
    patience=0,
    epochs=3,
    dropout=0,
    learning_rate=0.01,
    self_critical=True,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    caption_folders.write_built(folder)
    loaded = load_coco_data(folder)
    return {key: value for key, value in loaded.items() if not key.startswith("val_")}


@pytest.fixture(scope="module")
def captioner(data):
    return CaptioningRNN(data["word_to_idx"], 6, 8, 16, "lstm", encoder="squeezenet")


def make(data, captioner, folder, **config):
    config = dataclasses.replace(CONFIG, **config)
    return SelfCriticalTrainer(config, data, folder, captioner=captioner)


def test_an_advantage_is_the_reward_less_that_of_the_images_other_sentences():
    rewards = np.arange(10.0) ** 2
    found = advantages(rewards, samples=5).reshape(2, 5)
    for image, mine in zip(rewards.reshape(2, 5), found, strict=True):
        for k in range(5):
            assert mine[k] == pytest.approx(image[k] - np.delete(image, k).mean())
    assert not advantages(np.full(10, 0.7)).any()


def test_the_weighted_loss_is_that_of_the_distribution_that_is_drawn_from(captioner):
    rng = np.random.default_rng(0)
    features, words = rng.normal(size=(2, 6)), caption_folders.captions(4)
    words = words[np.argsort(-np.count_nonzero(words, axis=1))]
    image_of_row, weights = np.array([1, 0, 0, 1]), np.float32([1, -2, 0.5, 3])
    logits = captioner((features[image_of_row], words[:, :-1])).numpy().astype(np.float64)
    logits[..., captioner.ids.banned] = -np.inf
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    following = words[:, 1:]
    said = np.take_along_axis(log_p, following[..., None], axis=2)[..., 0]
    said = np.where(following == 0, 0, said)
    allowed = ~np.isin(following, (1, 3)).any(axis=1)
    found = captioner.weighted_loss(
        features, words[allowed], weights[allowed], image_of_row[allowed]
    )
    expected = -(said[allowed].sum(axis=1) * weights[allowed]).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_mean_step_follows_the_gradient_of_the_expected_reward(data, tmp_path):
    """The gradient of E[r], enumerated over all sentences of two words, beside many drawn steps."""
    words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "a": 4, "b": 5}
    model = CaptioningRNN(words, 3, 4, 5, "lstm")
    model.parameters["b_vocab"].assign([0, 0, 0.3, 0, -0.2, 0.4])
    features, reference = np.ones((1, 3), np.float32), np.array([[4, 5]])
    cider = CiderD(np.array([[4, 5], [5, 5], [4, 4]]), np.arange(3), 6)
    sentences = np.array([[a, b] for a in (4, 5) for b in (2, 4, 5)] + [[2, 0]])
    rewards = cider.score(sentences, np.zeros(7, int), reference, np.zeros(1, int))
    began = np.insert(sentences, 0, 1, axis=1).astype(np.int32)
    row = np.zeros(7, np.int32)
    bias = model.parameters["b_vocab"]

    def log_p(k):
        one = np.ones(1, np.float32)
        return -model.weighted_loss(features, began[k : k + 1], one, row[:1])

    with tf.GradientTape() as tape:
        expected_reward = sum(tf.exp(log_p(k)) * np.float32(rewards[k]) for k in range(7))
    exact = tape.gradient(expected_reward, bias.value).numpy()

    count = 4000
    options = {"temperature": tf.constant(1.0), "seed": tf.constant([0, 0], tf.int64)}
    drawn = model._decode(features, tf.constant(2), **options, count=count).numpy()
    scores = cider.score(drawn, np.zeros(count, int), reference, np.zeros(1, int))
    weights = advantages(scores).astype(np.float32)
    with tf.GradientTape() as tape:
        image_of_row = np.zeros(count, np.int32)
        loss = model.weighted_loss(features, np.insert(drawn, 0, 1, axis=1), weights, image_of_row)
    found = -tape.gradient(loss, bias.value).numpy() / count
    assert np.linalg.norm(found - exact) < 0.15 * np.linalg.norm(exact)


def test_training_raises_the_reward(data, captioner, tmp_path):
    trainer = make(data, captioner, tmp_path, epochs=12, learning_rate=0.05)
    rewards = [-results["loss"] for results in trainer.epochs()]
    assert np.mean(rewards[-3:]) > 1.1 * np.mean(rewards[:3])
    assert trainer.state.history[0].keys() == {"epoch", "loss", "seconds"}


@pytest.mark.slow
def test_it_begins_with_the_captioner_and_goes_on_exactly_where_it_was(data, captioner, tmp_path):
    whole = make(data, captioner, tmp_path / "whole")
    for name, variable in whole.model.parameters.items():
        np.testing.assert_array_equal(variable, captioner.parameters[name])
    epochs = whole.epochs()
    next(epochs)
    saved = SavedState.read(tmp_path / "whole")
    parts = make(data, captioner, tmp_path / "parts")
    parts.load(saved)
    assert [r["loss"] for r in parts.epochs()][-2:] == [r["loss"] for r in epochs]


def test_it_needs_a_captioner_with_the_datas_vocabulary_and_features(data, captioner, tmp_path):
    with pytest.raises(ValueError, match="goes on from a captioner"):
        make(data, None, tmp_path)
    words = list(data["word_to_idx"])
    others = {word: i for i, word in enumerate([*words[:4], *reversed(words[4:])])}
    moved = CaptioningRNN(others, 6, 8, 16, encoder="squeezenet")
    with pytest.raises(ValueError, match="number their words differently"):
        Trainer(CONFIG, data, tmp_path, captioner=moved)
    wide = CaptioningRNN(data["word_to_idx"], 7, 8, 16, encoder="squeezenet")
    with pytest.raises(ValueError, match=r"features \(6,\) of squeezenet, .* takes \(7\)"):
        Trainer(CONFIG, data, tmp_path, captioner=wide)


def test_sentences_are_drawn_side_by_side_for_each_image(captioner):
    features = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    options = {"temperature": tf.constant(1.0), "seed": tf.constant([0, 0], tf.int64)}
    drawn = captioner._decode(features, tf.constant(6), **options, count=SAMPLES).numpy()
    assert drawn.shape == (3 * SAMPLES, 6)
    assert len({tuple(row) for row in drawn}) > SAMPLES
