"""CIDEr-D of word ids is that of pycocoevalcap."""

import numpy as np
import pytest

from tfcap.metrics.cider import CiderD

IMAGES, T, V = 30, 11, 9


def sentences(rng, count):
    rows = rng.integers(4, V, (count, T))
    rows[np.arange(T) >= rng.integers(1, T + 1, count)[:, None]] = 0
    return rows


def as_text(row):
    return " ".join(f"w{word}" for word in row[row > 0])


def test_scores_are_those_of_pycocoevalcap():
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer()
    rng = np.random.default_rng(0)
    references, image_of_row = sentences(rng, 4 * IMAGES), np.repeat(np.arange(IMAGES), 4)
    said = sentences(rng, IMAGES)
    for image in range(IMAGES):
        scorer.cook_append(as_text(said[image]), list(map(as_text, references[4 * image :][:4])))
    _, expected = scorer.compute_score()
    cider = CiderD(references, image_of_row, V)
    found = cider.score(said, np.arange(IMAGES), references, image_of_row)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert expected.max() > 1


def test_sentences_come_in_any_order_and_references_are_those_of_their_image():
    rng = np.random.default_rng(1)
    references, image_of_row = sentences(rng, 60), rng.integers(0, 10, 60)
    cider, said = CiderD(references, image_of_row, V), sentences(rng, 20)
    image_of_sentence, order = rng.integers(0, 10, 20), rng.permutation(20)
    found = cider.score(said, image_of_sentence, references, image_of_row)
    moved = cider.score(said[order], image_of_sentence[order], references, image_of_row)
    np.testing.assert_allclose(moved, found[order])
    alone = image_of_row == image_of_sentence[3]
    again = cider.score(said[3:4], image_of_sentence[3:4], references[alone], image_of_row[alone])
    np.testing.assert_allclose(again, found[3:4])


def test_a_sentence_that_breaks_off_scores_less_than_a_whole_one():
    """Because <END>, id 2, is a word: no reference ends in "with a", 7 4."""
    references = np.array([[4, 5, 7, 4, 8, 2], [4, 6, 2, 0, 0, 0], [6, 8, 2, 0, 0, 0]])
    cider = CiderD(references, np.array([0, 1, 2]), V)

    def score(sentence):
        return float(cider.score(np.array([sentence]), [0], references[:1], [0])[0])

    assert score([4, 5, 7, 4, 8, 2]) > score([4, 5, 7, 4, 8, 0])
    assert score([4, 5, 7, 4, 0]) > 1.1 * score([4, 5, 7, 4, 2])


def test_an_empty_sentence_and_unknown_words_score_nothing():
    references = np.array([[4, 5, 2], [4, 6, 2]])
    cider = CiderD(references, np.array([0, 1]), V)
    found = cider.score(np.array([[0, 0, 0], [8, 8, 8]]), [0, 1], references, np.array([0, 1]))
    np.testing.assert_array_equal(found, [0, 0])
