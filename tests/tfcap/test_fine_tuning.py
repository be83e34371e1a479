"""A captioner that goes on with other data keeps its words, or gets more."""

import numpy as np
import pytest

from tfcap.fine_tuning import with_more_words, with_vocabulary_of
from tfcap.model import CaptioningRNN

SPECIAL = ["<NULL>", "<START>", "<END>", "<UNK>"]


def numbered(*words):
    return {word: index for index, word in enumerate([*SPECIAL, *words])}


@pytest.fixture(scope="module", params=["lstm", "attention"])
def captioner(request):
    more = {"heads": 2} if request.param == "attention" else {}
    model = CaptioningRNN(numbered("a", "dog"), 5, 3, 4, request.param, **more)
    model.parameters["b_vocab"].assign(np.arange(6) - 2.0)
    model.decoding["beam_size"] = 7
    return model


def features(captioner):
    shape = (2, 9, 5) if captioner.looks else (2, 5)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_what_the_captioner_knew_it_says_as_before(captioner):
    more = with_more_words(captioner, numbered("cat", "a", "mat"), seed=3)
    assert list(more.word_to_idx) == [*SPECIAL, "a", "dog", "cat", "mat"]
    words = np.array([[1, 4, 5], [1, 5, 4]])
    before = captioner((features(captioner), words)).numpy()
    after = more((features(captioner), words)).numpy()
    np.testing.assert_allclose(after[..., :6], before, rtol=1e-6)
    assert more.decoding["beam_size"] == 7


def test_new_words_are_drawn_like_the_others_by_the_seed(captioner):
    new = [f"w{k}" for k in range(200)]
    one, same, other = (with_more_words(captioner, numbered(*new), seed=k) for k in (0, 0, 1))
    drawn = np.asarray(one.parameters["W_embed"])[6:]
    known = np.asarray(captioner.parameters["W_embed"])
    assert drawn.std() == pytest.approx(known.std(), rel=0.15)
    np.testing.assert_array_equal(one.parameters["W_vocab"], same.parameters["W_vocab"])
    assert (np.asarray(one.parameters["W_vocab"]) != np.asarray(other.parameters["W_vocab"])).any()
    np.testing.assert_array_equal(np.asarray(one.parameters["b_vocab"])[6:], np.full(200, -2))


def test_a_captioner_that_knows_all_words_is_returned_as_it_is(captioner):
    assert with_more_words(captioner, numbered("dog")) is captioner


def test_captions_keep_their_words_under_the_captioners_ids(captioner):
    words = numbered("dog", "runs", "a")
    captions = np.array([[1, 6, 4, 5, 2, 0]])
    data = {"word_to_idx": words, "idx_to_word": list(words), "train_captions": captions, "x": 1}
    found = with_vocabulary_of(captioner, data)
    np.testing.assert_array_equal(found["train_captions"], [[1, 4, 5, 3, 2, 0]])
    assert (found["word_to_idx"], found["x"]) == (captioner.word_to_idx, 1)
    assert found["idx_to_word"] == [*SPECIAL, "a", "dog"]
    np.testing.assert_array_equal(data["train_captions"], captions)
