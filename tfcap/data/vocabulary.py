"""The vocabulary: sentences become words, words get ids, captions become rows of ids."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral

import numpy as np

__all__ = [
    "END",
    "MARKS",
    "MAX_WORDS",
    "MIN_COUNT",
    "NULL",
    "SPECIAL",
    "START",
    "UNK",
    "build_vocabulary",
    "check_vocabulary",
    "encode_captions",
    "lack_spaces",
    "tokenize",
]

NULL, START, END, UNK = 0, 1, 2, 3
SPECIAL = ("<NULL>", "<START>", "<END>", "<UNK>")

# what a data set is built with by default
MIN_COUNT = 5  # of a word in the training captions
MAX_WORDS = 20  # of a caption; 98 of 100 captions of Flickr8k have no more


def tokenize(sentence: str) -> list[str]:
    """The words of a sentence, as vocabularies are built from them.

    Everything is lower case, and Unicode's NFC. A word is a run of letters, with their combining marks,
    and digits; hyphens inside it belong to it ("t-shirt"). The endings n't, 's, 're, 've, 'll, 'd and
    'm are words of their own, as in the Penn Treebank, by which captions are scored ("dog", "'s"). All
    other punctuation is omitted.

    Example:
        >>> tokenize("The dog's T-shirt!")
        ['the', 'dog', "'s", 't-shirt']
    """
    text = unicodedata.normalize("NFC", sentence).lower()
    return _WORD.findall(_LOOSE.sub("", text.translate(_CHARACTERS)))


# Marks belong to the letter before them, and so do the joiners that Persian and Indian scripts need.
MARKS = "\u200c\u200d" + "".join(
    chr(code) for code in range(0x300, 0x12000) if unicodedata.category(chr(code))[0] == "M"
)


class _Characters(dict[int, str]):
    """For `str.translate`: a character that belongs to no word becomes a space; filled on demand."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        letter = unicodedata.category(character)[0] in "LMN"  # letters, their marks, numbers
        self[code] = character if letter or character in "'-\u200c\u200d" else " "
        return self[code]


_CHARACTERS = _Characters({ord(c): "'" for c in "\u2018\u2019\u02bc\uff07"})
_LETTER = r"[^\s'-]"
_LOOSE = re.compile(rf"(?<!{_LETTER})[{MARKS}]+")  # such as what makes a heart red
_WORD = re.compile(
    rf"""{_LETTER}+(?=n't(?!{_LETTER}))               # do-n't
    | n't(?!{_LETTER})
    | '(?:s|re|ve|ll|d|m)(?!{_LETTER})                # dog-'s
    | {_LETTER}+(?:-{_LETTER}+)*                      # dog, t-shirt
    """,
    re.VERBOSE,
)


# Han, kana, Thai, Lao, Myanmar and Khmer are written without spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def lack_spaces(captions: Iterable[Sequence[str]]) -> bool:
    """Whether captions in a script without spaces have not been separated into words.

    Args:
        captions: the words of each, as `tokenize` returns them.

    Example:
        >>> lack_spaces([tokenize("一只狗在跑")]), lack_spaces([tokenize("一 只 狗 在 跑")])
        (True, False)
    """
    lengths = [len(words) for words in captions if any(map(_UNSPACED.search, words))]
    return bool(lengths) and sum(lengths) < 3 * len(lengths)


def build_vocabulary(captions: Iterable[Sequence[str]], min_count: int = 1) -> dict[str, int]:
    """Numbers every word that occurs at least `min_count` times.

    Ids 0 to 3 are the special words; the others follow by falling frequency, and alphabetically where
    that is equal.

    Args:
        captions: the words of each caption, as `tokenize` returns them. Special words are not counted.
        min_count: 1 or more.

    Raises:
        ValueError: `min_count` is below 1.
        TypeError: a caption is a string instead of a list of words.

    Example:
        >>> build_vocabulary([["a", "dog"], ["a", "cat"]], min_count=2)
        {'<NULL>': 0, '<START>': 1, '<END>': 2, '<UNK>': 3, 'a': 4}
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

    A word that is not in the vocabulary, or has a special word's name, becomes <UNK>. A caption with
    more than ``length - 2`` words is cut.

    Raises:
        ValueError: `length` is below 3, or the vocabulary's ids 0 to 3 are not the special words.
        TypeError: a caption is a string instead of a list of words.

    Example:
        >>> encode_captions([["a", "dog"]], build_vocabulary([["a"]]), 5)
        array([[1, 4, 3, 2, 0]], dtype=int32)
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


def check_vocabulary(word_to_idx: Mapping[str, int]) -> list[str]:
    """Checks that every id occurs once, and returns the words by their ids.

    A vocabulary has ids 0 to V - 1. One without <START>, such as the tiny ones of the course's checks,
    may skip ids and go up to V; skipped ids become <UNK>.

    Raises:
        TypeError: it does not map strings to integers.
        ValueError: two words have one id, an id is missing or too large, or a special word has
            another id than its own (0 to 3).

    Example:
        >>> check_vocabulary({"<NULL>": 0, "cat": 2, "dog": 3})
        ['<NULL>', '<UNK>', 'cat', 'dog']
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


def _words(words: Sequence[str]) -> Sequence[str]:
    if isinstance(words, str):
        raise TypeError(f"a caption is the string {words!r}, expected a list of words: tokenize it")
    return words
