"""Words and their numbers: sentences into words, words into a vocabulary, words into ids."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral

import numpy as np

NULL, START, END, UNK = 0, 1, 2, 3
SPECIAL = ("<NULL>", "<START>", "<END>", "<UNK>")


class _Characters(dict[int, str]):
    """For `str.translate`: what belongs to no word becomes a space. Fills itself as it is asked."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        letter = unicodedata.category(character)[0] in "LMN"  # letters, their marks, numbers
        self[code] = character if letter or character in "'-" else " "
        return self[code]


_CHARACTERS = _Characters({ord(c): "'" for c in "\u2018\u2019\u02bc\uff07"})
_LETTER = r"[^\s'-]"
_WORD = re.compile(
    rf"""{_LETTER}+(?=n't(?!{_LETTER}))               # do-n't
    | n't(?!{_LETTER})
    | '(?:s|re|ve|ll|d|m)(?!{_LETTER})                # dog-'s
    | {_LETTER}+(?:-{_LETTER}+)*                      # dog, t-shirt
    """,
    re.VERBOSE,
)


def tokenize(sentence: str) -> list[str]:
    """The words of a sentence, as vocabularies are built from them.

    Everything is lower case. A word is a run of letters and digits; hyphens inside it belong to it
    ("t-shirt"). The endings n't, 's, 're, 've, 'll, 'd and 'm are words of their own, as in the Penn
    Treebank, with which captions are scored ("dog", "'s"). All other punctuation is left out.
    """
    text = unicodedata.normalize("NFC", sentence).lower()
    return _WORD.findall(text.translate(_CHARACTERS))


def build_vocabulary(captions: Iterable[Sequence[str]], min_count: int = 1) -> dict[str, int]:
    """Numbers every word that occurs at least `min_count` times.

    Ids 0 to 3 are the special words; the others follow by falling frequency, those that are equally
    frequent in alphabetical order.

    Args:
        captions: the words of each caption, as `tokenize` gives them. Special words in them do not
            count.

    Raises:
        ValueError: `min_count` is below 1.
        TypeError: a caption is a string instead of a list of words.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}, expected 1 or more")
    counts: Counter[str] = Counter()
    for words in captions:
        counts.update(_words(words))
    kept = [word for word, count in counts.items() if count >= min_count and word not in SPECIAL]
    kept.sort(key=lambda word: (-counts[word], word))
    return {word: index for index, word in enumerate([*SPECIAL, *kept])}


def encode_captions(
    captions: Iterable[Sequence[str]], word_to_idx: Mapping[str, int], length: int
) -> np.ndarray:
    """The captions as ids: <START> words <END> <NULL>..., int32 (N, length).

    A word that is not in the vocabulary, or is called as a special one, becomes <UNK>. Of a caption
    with more than ``length - 2`` words the first are kept.

    Raises:
        ValueError: `length` is below 3, or the vocabulary's ids 0 to 3 are not the special words.
        TypeError: a caption is a string instead of a list of words.
    """
    if length < 3:
        raise ValueError(f"length is {length}, expected 3 or more: <START>, a word, <END>")
    if any(word_to_idx.get(word) != index for index, word in enumerate(SPECIAL)):
        raise ValueError(f"the vocabulary's ids 0 to 3 are not {', '.join(SPECIAL)}")
    known = {word: index for word, index in word_to_idx.items() if word not in SPECIAL}
    rows = []
    for words in captions:
        ids = [known.get(word, UNK) for word in _words(words)[: length - 2]]
        rows.append([START, *ids, END] + [NULL] * (length - 2 - len(ids)))
    return np.array(rows, np.int32).reshape(len(rows), length)


def _words(words: Sequence[str]) -> Sequence[str]:
    if isinstance(words, str):
        raise TypeError(f"a caption is the string {words!r}, expected a list of words: tokenize it")
    return words


def check_vocabulary(word_to_idx: Mapping[str, int]) -> list[str]:
    """The words by their ids, after a look at whether each id is there once.

    A vocabulary has ids 0 to V - 1. Those that hold no <START>, as the tiny ones of the course's
    checks, may leave ids out and go up to V; <UNK> stands where an id is missing.

    Raises:
        TypeError: it does not map strings to integers.
        ValueError: two words have one id, an id is missing or too large, or a special word has
            another id than its own (0 to 3).
    """
    if not isinstance(word_to_idx, Mapping):
        raise TypeError(
            f"the vocabulary is a {type(word_to_idx).__name__}, expected a dict from words to ids"
        )
    size = len(word_to_idx)
    if not size:
        raise ValueError("the vocabulary is empty, expected a dict from words to ids")
    end = size if "<START>" in word_to_idx else size + 1
    words: list[str | None] = [None] * end
    for word, index in word_to_idx.items():
        if not isinstance(word, str) or not isinstance(index, Integral) or isinstance(index, bool):
            raise TypeError(f"the vocabulary maps {word!r} to {index!r}, expected a word to an id")
        if not 0 <= index < end:
            raise ValueError(
                f"the vocabulary has {size} words and gives {word!r} the id {index}, expected 0 to "
                f"{size - 1}, each once"
            )
        if words[index] is not None:
            raise ValueError(
                f"the vocabulary gives {word!r} and {words[index]!r} the same id {index}"
            )
        words[index] = word
    for index, word in enumerate(SPECIAL):
        if word_to_idx.get(word, index) != index:
            raise ValueError(
                f"the vocabulary gives {word} the id {word_to_idx[word]}, expected {index}"
            )
    if words[-1] is None:
        words.pop()
    return [SPECIAL[UNK] if word is None else word for word in words]
