"""Goes on from a trained captioner on other data: its vocabulary is kept, or gets more words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcap.data.coco import SPLITS
from tfcap.data.vocabulary import UNK
from tfcap.model import CaptioningRNN

__all__ = ["with_more_words", "with_vocabulary_of"]


def with_more_words(
    captioner: CaptioningRNN, words: Mapping[str, int], seed: int = 0
) -> CaptioningRNN:
    """The captioner with the words that it lacks appended to its vocabulary.

    Their vectors, and their columns of W_vocab, are drawn like its own: normal, with the mean and the
    standard deviation of those that it has. Their biases are its smallest, so that it says them once it
    has learned them.

    Args:
        captioner: stays as it is.
        words: a vocabulary; the order of its new words is kept.
        seed: of the draw.

    Returns:
        Another captioner, or `captioner` itself if it knows all words.

    Example:
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "dog": 4}
        >>> captioner = CaptioningRNN(words, input_dim=6, wordvec_dim=4, hidden_dim=8)
        >>> more = with_more_words(captioner, {"<NULL>": 0, "cat": 1, "dog": 2})
        >>> more.word_to_idx["cat"], more.parameters["W_embed"].shape.as_list()
        (5, [6, 4])
    """
    new = [word for word in words if word not in captioner.word_to_idx]
    if not new:
        return captioner
    known = len(captioner.word_to_idx)
    numbered = {word: known + place for place, word in enumerate(new)}
    settings = captioner.get_config() | {"word_to_idx": captioner.word_to_idx | numbered}
    more, rng = CaptioningRNN(**settings), np.random.default_rng(seed)
    for name, variable in more.parameters.items():
        array = np.asarray(captioner.parameters[name])
        if name == "b_vocab":
            array = np.append(array, np.full(len(new), array.min(), array.dtype))
        elif name in ("W_embed", "W_vocab"):
            axis = 0 if name == "W_embed" else 1  # of the words
            shape = np.array(array.shape)
            shape[axis] = len(new)
            drawn = rng.normal(array.mean(), array.std(), shape).astype(array.dtype)
            array = np.concatenate([array, drawn], axis=axis)
        variable.assign(array)
    more.decoding.update(captioner.decoding)
    return more


def with_vocabulary_of(captioner: CaptioningRNN, data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with the captioner's ids for its words; words that it does not know become ``<UNK>``.

    Args:
        captioner: with at least the special words.
        data: as `load_coco_data` returns it.

    Returns:
        The same, with captions int32 (M, T) in memory, "word_to_idx" and "idx_to_word" renewed.

    Example:
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "dog": 4}
        >>> captioner = CaptioningRNN(words, input_dim=6, wordvec_dim=4, hidden_dim=8)
        >>> others = ["<NULL>", "<START>", "<END>", "<UNK>", "cat", "dog"]
        >>> data = {"idx_to_word": others, "train_captions": np.array([[1, 5, 4, 2]])}
        >>> with_vocabulary_of(captioner, data)["train_captions"]
        array([[1, 4, 3, 2]], dtype=int32)
    """
    ids = [captioner.word_to_idx.get(word, UNK) for word in data["idx_to_word"]]
    table = np.array(ids, np.int32)
    changed = {
        key: table[np.asarray(data[key])]
        for key in (f"{split}_captions" for split in SPLITS)
        if key in data
    }
    changed["word_to_idx"] = dict(captioner.word_to_idx)
    changed["idx_to_word"] = list(captioner.idx_to_word)
    return {**data, **changed}
