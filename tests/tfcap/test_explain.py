"""Which part of a photograph each word depends on."""

import numpy as np
import pytest

from tfcap import explain
from tfcap.data.features import encoder_model, encoder_named, image_features
from visualization import grad_cam, preprocess_image
from visualization.backend import keras, tf


def test_log_probabilities_of_words_add_up_to_those_of_sentences(captioner, grace_hopper):
    features = image_features(np.stack([grace_hopper, grace_hopper[::-1]]))
    ids, log_p = captioner.beam_search(features, 4, 1, 7)
    words = explain.word_log_probabilities(captioner, features, ids[:, 0])
    np.testing.assert_allclose(words.sum(axis=1), log_p[:, 0], rtol=1e-4)


def test_the_maps_are_grad_cam_through_the_whole_network(captioner, grace_hopper):
    words = np.array([5, 6, 11, 8])

    @keras.saving.register_keras_serializable("test")
    class Words(keras.Model):
        """Scores are log p of each word."""

        def __init__(self):
            super().__init__()
            self.encoder, self.captioner = encoder_model(), captioner

        def call(self, images, training=False):
            features = self.encoder(images)
            before = tf.repeat([[1, *words[:-1]]], tf.shape(features)[0], axis=0)
            log_p = tf.nn.log_softmax(self.captioner((features, before)))
            return tf.stack([log_p[:, t, word] for t, word in enumerate(words)], axis=1)

    X = preprocess_image(np.repeat(grace_hopper[None], 4, axis=0))
    expected = grad_cam(X, np.arange(4), Words(), layer="fire9") * 169
    maps = explain.word_maps(captioner, grace_hopper, words)
    assert maps.max() > 0
    np.testing.assert_allclose(maps, expected, atol=5e-3 * expected.max())


def test_words_fall_more_when_their_own_region_is_hidden(captioner, grace_hopper):
    tested = []
    for image in (grace_hopper, grace_hopper[::-1], grace_hopper[:, ::-1, ::-1]):
        ids, _ = captioner.beam_search(image_features(image[None]), 3, 1, 7)
        words = ids[0, 0][ids[0, 0] > 2]
        maps = explain.word_maps(captioner, image, words)
        falls = explain.falls_when_hidden(captioner, image, words, maps)
        tested.append(([captioner.idx_to_word[idx] for idx in words], falls))
    result = explain.mean_falls(tested)
    assert result["own"] > 1.5 * abs(result["random"])
    assert result["words"] == sum(len(words) for words, _ in tested)


def test_the_region_is_the_square_of_the_largest_mean():
    maps = np.random.default_rng(0).random((3, 20, 30))
    for each, (top, left) in zip(maps, explain.regions(maps, 6), strict=True):
        means = {(i, k): each[i : i + 6, k : k + 6].mean() for i in range(15) for k in range(25)}
        assert max(means, key=means.get) == (top, left)


def test_only_the_region_is_hidden(grace_hopper):
    (hidden,) = explain.hide(grace_hopper, [(30, 50)], 64)
    changed = (hidden != grace_hopper).any(axis=-1)
    assert changed[30:94, 50:114].mean() > 0.9
    changed[30:94, 50:114] = False
    assert not changed.any()


def test_mean_falls_count_each_photograph_the_same_and_leave_words_out():
    one = explain.Falls(*np.array([[-1.0], [3.0], [np.nan], [1.0]]))
    two = explain.Falls(*np.array([[-1.0, -1.0], [1.0, 9.0], [0.5, 9.0], [2.0, 9.0]]))
    result = explain.mean_falls([(["dog"], one), (["cat", "a"], two)], leave_out=["a"])
    assert (result["own"], result["others"], result["random"]) == (2, 0.5, 1.5)
    assert result["gain"] == 0.5
    assert result["gain_error"] == pytest.approx(1.5)
    assert result["share_above_random"] == 0.5
    assert (result["photographs"], result["words"]) == (2, 2)
    assert explain.mean_falls([(["a"], one)], ["a"]) == {"photographs": 0, "words": 0}


@pytest.mark.parametrize("words", [[0, 99], [-1], [[5]], [5.0], []])
def test_words_that_do_not_fit_are_refused(captioner, grace_hopper, words):
    with pytest.raises(ValueError, match="expected ids from 0 to 11"):
        explain.word_maps(captioner, grace_hopper, words)


def test_maps_that_do_not_fit_are_refused(captioner, grace_hopper):
    with pytest.raises(ValueError, match="one of the image's size for each word"):
        explain.falls_when_hidden(captioner, grace_hopper, [5], np.zeros((2, 224, 224)))


def test_with_attention_the_maps_are_where_it_looked(looking, grace_hopper):
    encoder = encoder_named("efficientnet_lite2_cells")
    image, words = encoder.fit(grace_hopper), np.array([5, 6, 11, 8])
    maps = explain.word_maps(looking, image, words)
    assert maps.shape == (4, 260, 260)
    features = image_features(image[None], encoder.name)
    weights = looking.attention(features, words[None])[0].mean(axis=1).reshape(4, 9, 9)
    middles = np.array([14 + 29 * k for k in range(9)])  # a cell is 260 / 9 pixels wide
    np.testing.assert_allclose(maps[:, middles][:, :, middles], weights, atol=0.1 * weights.max())
    falls = explain.falls_when_hidden(looking, image, words, maps)
    assert np.isfinite(falls.own).all()
