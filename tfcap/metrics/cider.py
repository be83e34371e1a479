"""CIDEr-D of sentences of word ids, as fast as training asks for it.

R. Vedantam, C. L. Zitnick, D. Parikh (2015), CIDEr: Consensus-based image description evaluation. The
scores are those of `score_captions` if sentences and references are the same words, except that
``<END>`` counts as a word: so a sentence that breaks off, "a dog with a", scores less than a whole one.
"""

from typing import Any

import numpy as np

from tfcap.data.vocabulary import NULL

__all__ = ["CiderD"]

N_GRAMS = 4
SIGMA = 6.0  # words: of the penalty for another length than a reference's


class CiderD:
    """Scores sentences against references, with words weighted by how few images have them.

    Args:
        captions: the references by which n-grams are weighted, integers (M, T), `NULL` after the last
            word. All of an image's captions count once.
        image_idxs: the image of each, integers (M,).
        vocabulary_size: V; ids are below it.

    Example:
        >>> captions, image_idxs = np.array([[4, 5, 2], [4, 6, 2]]), np.array([0, 1])
        >>> cider = CiderD(captions, image_idxs, vocabulary_size=7)
        >>> cider.score(np.array([[4, 5, 2]]), np.array([0]), captions, image_idxs).round(2)
        array([7.5])
    """

    def __init__(self, captions: Any, image_idxs: Any, vocabulary_size: int) -> None:
        captions, image_idxs = np.asarray(captions), np.asarray(image_idxs)
        self._base = vocabulary_size
        self._log_images = np.log(max(len(np.unique(image_idxs)), 1))
        self._known: list[tuple[np.ndarray, np.ndarray]] = []  # codes of n-grams, their frequencies
        for n in range(1, N_GRAMS + 1):
            rows, codes = self._codes(captions, n)
            pairs = np.unique(np.stack([codes, image_idxs[rows]]), axis=1)
            self._known.append(np.unique(pairs[0], return_counts=True))

    def score(
        self,
        sentences: np.ndarray,
        image_of_sentence: Any,
        references: np.ndarray,
        image_of_row: Any,
    ) -> np.ndarray:
        """The CIDEr-D of each sentence, the mean over its image's references.

        Args:
            sentences: integers (S, T).
            image_of_sentence: (S,).
            references: integers (R, T'), in which each of those images occurs.
            image_of_row: (R,).

        Returns:
            float64 (S,), 0 to 10.
        """
        mine, theirs = np.nonzero(
            np.asarray(image_of_sentence)[:, None] == np.asarray(image_of_row)
        )
        lengths = np.count_nonzero(sentences, axis=1)[mine]
        delta = lengths - np.count_nonzero(references, axis=1)[theirs]
        penalty = np.exp(-(delta**2) / (2 * SIGMA**2))  # (pairs,)
        total = np.zeros(len(mine))
        for n in range(1, N_GRAMS + 1):
            ours, others = self._vectors(sentences, references, n)  # (S, U), (R, U)
            norms = np.linalg.norm(ours, axis=1)[mine] * np.linalg.norm(others, axis=1)[theirs]
            ours, others = ours[mine], others[theirs]
            common = np.einsum("pu,pu->p", np.minimum(ours, others), others)
            total += penalty * common / np.maximum(norms, 1e-12)
        counts = np.bincount(mine, minlength=len(sentences))
        sums = np.bincount(mine, total, minlength=len(sentences))
        return 10 / N_GRAMS * sums / np.maximum(counts, 1)

    def _vectors(
        self, sentences: np.ndarray, references: np.ndarray, n: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The weighted counts of the n-grams of both, over the U that occur in them."""
        found = [self._codes(part, n) for part in (sentences, references)]
        used, places = np.unique(np.concatenate([codes for _, codes in found]), return_inverse=True)
        known, images = self._known[n - 1]
        at = np.minimum(np.searchsorted(known, used), len(known) - 1)
        frequency = np.where(known[at] == used, images[at], 1) if len(known) else np.ones(len(used))
        weight = self._log_images - np.log(frequency)  # (U,)
        vectors, start = [], 0
        for part, (rows, codes) in zip((sentences, references), found, strict=True):
            cells = rows * len(used) + places[start : start + len(codes)]
            counts = np.bincount(cells, minlength=len(part) * len(used))
            vectors.append(counts.reshape(len(part), len(used)) * weight)
            start += len(codes)
        return vectors[0], vectors[1]

    def _codes(self, captions: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Every n-gram as one number, and its row; none has a <NULL> in it."""
        count = captions.shape[1] - n + 1
        if count < 1:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        codes = np.zeros((len(captions), count), np.int64)
        whole = np.ones(codes.shape, bool)
        for k in range(n):
            words = captions[:, k : k + count]
            codes, whole = codes * self._base + words, whole & (words != NULL)
        return np.nonzero(whole)[0], codes[whole]
