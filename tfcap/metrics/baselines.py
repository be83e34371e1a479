"""What scores must be compared with: captions looked up, captions of other images, copied captions.

Predictions and references are as in `scores`. A captioner that does not look at its images ("a
parrot") says few different sentences, copies the training set, and loses no CIDEr when the images are
shuffled.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tfcap.metrics.scores import score_captions
from tfcap.metrics.tokenizer import ptb_tokenize

__all__ = ["copied_share", "distinct_share", "nearest_neighbour_captions", "shuffled_cider"]


def distinct_share(predictions: Mapping[Any, str]) -> float:
    """How many different sentences there are, as a share of the predictions: near 0 for a parrot.

    Raises:
        ValueError: there is no prediction.

    Example:
        >>> distinct_share({1: "A dog.", 2: "a dog"})
        0.5
    """
    sentences = _sentences(predictions)
    return len(sentences) / sentences.total()


def copied_share(predictions: Mapping[Any, str], training_captions: Iterable[str]) -> float:
    """The share of the predictions that are, word for word, in the training set.

    Args:
        predictions: a sentence for each image.
        training_captions: sentences; may be a generator, none is kept.

    Raises:
        ValueError: there is no prediction.

    Example:
        >>> copied_share({1: "a dog", 2: "a cat"}, ["A dog."])
        0.5
    """
    sentences = _sentences(predictions)
    words = (tuple(ptb_tokenize(caption)) for caption in training_captions)
    copied = {one for one in words if one in sentences}
    return sum(sentences[one] for one in copied) / sentences.total()


def _sentences(predictions: Mapping[Any, str]) -> Counter[tuple[str, ...]]:
    """How often each sentence occurs, as its words."""
    if not predictions:
        raise ValueError("there is no prediction, expected at least one")
    return Counter(tuple(ptb_tokenize(sentence)) for sentence in predictions.values())


def shuffled_cider(
    predictions: Mapping[Any, str], references: Mapping[Any, Sequence[str]], seed: int = 0
) -> float:
    """CIDEr when every image gets the sentence of another image: what remains needed no looking.

    Args:
        predictions, references: as in `score_captions`.
        seed: of the permutation, one cycle through all images, so that none keeps its own sentence.

    Raises:
        ValueError: there are fewer than two images; and as `score_captions`.

    Example:
        >>> references = {1: ["a man rides a horse"], 2: ["two dogs play in snow"]}
        >>> shuffled_cider({1: "a man rides a horse", 2: "two dogs play in snow"}, references)
        0.0
    """
    images = sorted(references, key=str)
    if len(images) < 2:
        raise ValueError(f"shuffling takes at least two images, received {len(images)}")
    order = np.random.default_rng(seed).permutation(len(images))
    others = np.roll(order, 1)
    given = {images[k]: predictions.get(images[j], "") for k, j in zip(order, others, strict=True)}
    unknown = {image: predictions[image] for image in predictions if image not in references}
    return score_captions(given | unknown, references, ["CIDEr"])["CIDEr"]


CHUNK = 1024  # rows of features that are compared with as many others at a time


def nearest_neighbour_captions(
    features: Any,
    training_features: Any,
    training_captions: Mapping[int, Sequence[str]],
    *,
    neighbours: int = 60,
) -> list[str]:
    """For each image, a caption of the training images that are most like it.

    Of all captions of these neighbours, it is the one most similar to all of them (Devlin et al.
    2015, "Exploring Nearest Neighbor Approaches for Image Captioning"). The similarity of images is
    the cosine of their features; that of captions the cosine of their words and pairs of words, each
    weighted by the logarithm of how few training images have it. A captioner that does not beat this
    has learnt little more.

    Args:
        features: (N, D), an array or one that is read from a file as it is indexed.
        training_features: (M, D), likewise.
        training_captions: the sentences of the training images that have any, by their row.
        neighbours: how many training images are looked up, at most all of them.

    Raises:
        ValueError: the widths differ, there is no training caption, a row is not among the features, or
            `neighbours` is below 1.

    Example:
        >>> captions = {0: ["a dog runs"], 2: ["a cat"]}
        >>> nearest_neighbour_captions(np.eye(3), np.eye(3), captions, neighbours=1)[::2]
        ['a dog runs', 'a cat']
    """
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}, expected 1 or more")
    if len(features.shape) != 2 or features.shape[1:] != training_features.shape[1:]:
        raise ValueError(
            f"the features have shape {tuple(features.shape)} and the training features "
            f"{tuple(training_features.shape)}, expected (N, D) and (M, D)"
        )
    captions = [
        (row, caption, words)
        for row in sorted(training_captions)
        for caption in training_captions[row]
        if (words := ptb_tokenize(caption))
    ]
    if not captions or captions[0][0] < 0 or captions[-1][0] >= len(training_features):
        raise ValueError(
            f"there are {len(captions)} training captions, expected some, all of the rows 0 to "
            f"{len(training_features) - 1} of the training features"
        )
    rows, first = np.unique([row for row, _, _ in captions], return_index=True)
    vectors = _caption_vectors([(row, words) for row, _, words in captions])
    # where the captions of each image are in the vectors
    bounds = np.searchsorted(vectors.caption, [*first, len(captions)])
    found = []
    for start in range(0, len(features), CHUNK):
        some = features[start : start + CHUNK]
        for near in _most_alike(some, training_features, rows, neighbours):
            parts = [slice(bounds[image], bounds[image + 1]) for image in near]
            found.append(captions[vectors.most_central(parts)][1])
    return found


def _most_alike(
    features: np.ndarray, training_features: Any, rows: np.ndarray, count: int
) -> np.ndarray:
    """For each image the places in `rows` of the most similar training images: (n, count), rising."""
    mine = _unit(features)  # (n, D)
    likeness = np.empty((len(mine), 0), np.float32)
    place = np.empty((len(mine), 0), np.int64)
    for start in range(0, len(rows), CHUNK):
        theirs = _unit(training_features[rows[start : start + CHUNK]])  # (m, D)
        likeness = np.concatenate([likeness, mine @ theirs.T], axis=1)
        new = np.broadcast_to(np.arange(start, start + len(theirs)), (len(mine), len(theirs)))
        place = np.concatenate([place, new], axis=1)
        if likeness.shape[1] > count:
            best = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            likeness = np.take_along_axis(likeness, best, axis=1)
            place = np.take_along_axis(place, best, axis=1)
    return np.sort(place, axis=1)


class _Vectors(NamedTuple):
    """Sparse vectors of length 1, one a caption: entry e of caption[e] at gram[e] is weight[e]."""

    caption: np.ndarray  # rising
    gram: np.ndarray
    weight: np.ndarray

    def most_central(self, parts: Sequence[slice]) -> int:
        """The caption with the largest mean cosine to all captions of the parts."""
        caption, gram, weight = (np.concatenate([a[part] for part in parts]) for a in self)
        _, gram = np.unique(gram, return_inverse=True)
        captions, caption = np.unique(caption, return_inverse=True)
        total = np.bincount(gram, weight)
        return int(captions[np.bincount(caption, weight * total[gram]).argmax()])


def _caption_vectors(captions: Sequence[tuple[int, list[str]]]) -> _Vectors:
    """The vectors of captions, given by their image's row and their words."""
    numbers: dict[Any, int] = {}
    grams, counts = array("q"), array("q")
    for _, words in captions:
        once = dict.fromkeys([*words, *pairwise(words)])
        grams.extend(numbers.setdefault(gram, len(numbers)) for gram in once)
        counts.append(len(once))
    caption, gram = np.repeat(np.arange(len(captions)), counts), np.array(grams)
    rows, image = np.unique([row for row, _ in captions], return_inverse=True)
    seen = np.unique(gram * len(rows) + image[caption]) // len(rows)  # once an image that has it
    weight = np.log((1 + len(rows)) / np.bincount(seen))[gram]
    length = np.sqrt(np.bincount(caption, weight**2))
    return _Vectors(caption, gram, weight / length[caption])


def _unit(features: Any) -> np.ndarray:
    features = np.asarray(features, dtype=np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(length, np.finfo(np.float32).tiny)
