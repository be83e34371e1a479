import itertools

import numpy as np
import pytest

from tests.tfcap.metrics.test_scores import PREDICTIONS
from tfcap.metrics import baselines
from tfcap.metrics.baselines import (
    copied_share,
    distinct_share,
    nearest_neighbour_captions,
    shuffled_cider,
)
from tfcap.metrics.scores import score_captions


@pytest.fixture
def pycocoevalcap():
    return pytest.importorskip("pycocoevalcap.bleu.bleu")


def test_distinct_share_counts_sentences_that_differ_in_words():
    assert distinct_share({1: "A dog.", 2: "a dog", 3: "a cat", 4: "a  dog !"}) == 0.5
    assert distinct_share(PREDICTIONS) == 1
    with pytest.raises(ValueError, match="no prediction"):
        distinct_share({})


def test_copied_share_finds_training_captions_word_for_word():
    training = (line for line in ["A dog.", "a dog", "a cat on a mat"])
    assert copied_share({1: "a dog", 2: "a dog", 3: "a cat", 4: "a bird"}, training) == 0.5
    with pytest.raises(ValueError, match="no prediction"):
        copied_share({}, ["a dog"])


def test_shuffling_takes_the_captions_from_their_images_and_cider_with_them(pycocoevalcap):
    names = [
        f"{a} {b} on {c}" for a in ("red", "blue") for b in ("cat", "dog") for c in ("ice", "wood")
    ]
    references = {k: [f"a {name} here"] for k, name in enumerate(names)}
    predictions = {k: sentences[0] for k, sentences in references.items()}
    assert score_captions(predictions, references)["CIDEr"] == pytest.approx(10)
    assert shuffled_cider(predictions, references) < 5
    assert shuffled_cider(predictions, references, 3) == shuffled_cider(predictions, references, 3)
    turned = dict(reversed(references.items()))
    assert shuffled_cider(predictions, turned) == pytest.approx(
        shuffled_cider(predictions, references)
    )
    parrot = dict.fromkeys(references, "a red cat on ice here")
    assert shuffled_cider(parrot, references) == score_captions(parrot, references)["CIDEr"]


def test_no_image_keeps_its_caption_when_shuffled(monkeypatch):
    seen = []
    monkeypatch.setattr(
        baselines, "score_captions", lambda p, r, m: seen.append(p) or {"CIDEr": 0.0}
    )
    for count in (2, 3, 10):
        for seed in range(20):
            said = {f"image {k}": str(k) for k in range(count)}
            shuffled_cider(said, {image: ["x"] for image in said}, seed)
            assert sorted(seen[-1].values()) == sorted(said.values())
            assert all(seen[-1][image] != said[image] for image in said)


def test_one_image_cannot_be_shuffled():
    with pytest.raises(ValueError, match="at least two images, received 1"):
        shuffled_cider({1: "a"}, {1: ["a"]})


class Rows:
    """An array that can only be indexed, as one in a file, and remembers how much was taken at once."""

    def __init__(self, array):
        self.array, self.shape, self.most = array, array.shape, 0

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        taken = self.array[index]
        self.most = max(self.most, len(taken))
        return taken


def test_with_one_neighbour_it_is_the_image_with_the_largest_cosine(monkeypatch):
    monkeypatch.setattr(baselines, "CHUNK", 7)
    rng = np.random.default_rng(0)
    features, scale = rng.normal(size=(30, 5)), rng.uniform(1, 9, (50, 1))
    training = rng.normal(size=(50, 5)) * scale
    captions = {k: [f"caption {k}"] for k in range(0, 50, 2)} | {1: ["."], 3: []}
    lazy, lazy_training = Rows(features.astype("f4")), Rows(training.astype("f4"))
    got = nearest_neighbour_captions(lazy, lazy_training, captions, neighbours=1)
    cosine = features @ (training / np.linalg.norm(training, axis=1, keepdims=True)).T
    cosine[:, 1::2] = -2  # these have no captions
    assert got == [f"caption {k}" for k in cosine.argmax(axis=1)]
    assert max(lazy.most, lazy_training.most) <= 7


def test_of_the_neighbours_captions_the_most_central_is_taken(monkeypatch):
    rng = np.random.default_rng(0)
    features, training = rng.normal(size=(9, 4)), rng.normal(size=(40, 4))
    words = [f"w{k}" for k in range(12)]
    captions = {
        row: [" ".join(rng.choice(words, 6)) for _ in range(rng.integers(1, 4))]
        for row in range(40)
    }
    training /= np.linalg.norm(training, axis=1, keepdims=True)

    def grams(caption):
        said = caption.split()
        return {*said, *itertools.pairwise(said)}

    had = [set().union(*map(grams, captions[row])) for row in range(40)]

    def vector(caption):
        weights = {g: np.log(41 / sum(g in one for one in had)) for g in grams(caption)}
        length = np.sqrt(sum(weight**2 for weight in weights.values()))
        return {gram: weight / length for gram, weight in weights.items()}

    def likeness(one, other):
        return sum(weight * other.get(gram, 0) for gram, weight in one.items())

    expected = []
    for feature in features:
        near = np.argsort(-training @ feature)[:5]
        near_captions = [caption for row in sorted(near) for caption in captions[row]]
        vectors = [vector(caption) for caption in near_captions]
        means = [sum(likeness(one, other) for other in vectors) for one in vectors]
        expected.append(near_captions[int(np.argmax(means))])
    assert nearest_neighbour_captions(features, training, captions, neighbours=5) == expected
    monkeypatch.setattr(baselines, "CHUNK", 3)
    assert nearest_neighbour_captions(features, training, captions, neighbours=5) == expected


def test_few_training_images_are_all_neighbours():
    captions = {0: ["a dog runs"], 2: ["a dog runs far", "a cat"]}
    assert nearest_neighbour_captions(np.eye(3), np.eye(3), captions) == ["a dog runs"] * 3
    assert nearest_neighbour_captions(np.zeros((1, 3)), np.eye(3), {1: ["One!"]}) == ["One!"]


@pytest.mark.parametrize(
    ("width", "captions", "neighbours", "says"),
    [
        (4, {0: ["a"]}, 1, r"\(2, 4\) and the training features \(5, 3\)"),
        (3, {}, 1, "there are 0 training captions"),
        (3, {0: [""]}, 1, "there are 0 training captions"),
        (3, {5: ["a"]}, 1, "rows 0 to 4"),
        (3, {-1: ["a"]}, 1, "rows 0 to 4"),
        (3, {0: ["a"]}, 0, "neighbours is 0"),
    ],
)
def test_neighbours_that_cannot_be_looked_up(width, captions, neighbours, says):
    features = np.ones((2, width)), np.ones((5, 3))
    with pytest.raises(ValueError, match=says):
        nearest_neighbour_captions(*features, captions, neighbours=neighbours)
