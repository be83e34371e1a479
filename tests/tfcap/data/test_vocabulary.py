"""Words and ids: the stated tokenisation, vocabularies, captions as rows of ids."""

import json

import numpy as np
import pytest

from tfcap.data.coco import decode_captions
from tfcap.data.vocabulary import (
    END,
    NULL,
    SPECIAL,
    START,
    UNK,
    build_vocabulary,
    check_vocabulary,
    encode_captions,
    lack_spaces,
    tokenize,
)


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A dog, running; fast!", "a dog running fast"),
        ("एक कुत्ता।", "एक कुत्ता"),  # marks belong to their letters
        ("می\u200cدود", "می\u200cدود"),  # and so do joiners
        ("a pin\u0303ata-shaped \u2764\ufe0f", "a piñata-shaped"),  # NFD becomes NFC
        ("Two men's T-shirts (red).", "two men 's t-shirts red"),
        ("The dog 's toy", "the dog 's toy"),
        ("It\u2019s a man who doesn't swim", "it 's a man who does n't swim"),
        ("they're, we've, I'll, he'd, I'm", "they 're we 've i 'll he 'd i 'm"),
        ("a 'quoted' word -- and \"another\"", "a quoted word and another"),
        ("rock'n'roll at 5 o'clock", "rock n roll at 5 o clock"),
        ("a 5-year-old's ball", "a 5-year-old 's ball"),
        ("ein GROSSER Hund läuft über", "ein grosser hund läuft über"),
        ("nai\u0308ve \u2028 caf\u00e9", "naïve café"),
        ("कुत्ता घास पर", "कुत्ता घास पर"),
        ("snake_case a/b 50%", "snake case a b 50"),
        ("<START> <NULL>", "start null"),
        (" \t\n", ""),
        ("--'-", ""),
    ],
)
def test_a_sentence_becomes_these_words(sentence, words):
    assert tokenize(sentence) == words.split()


def test_tokenizing_the_joined_words_again_changes_nothing():
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.given(hypothesis.strategies.text())
    def run(sentence):
        words = tokenize(sentence)
        assert tokenize(" ".join(words)) == words
        assert not any(word in SPECIAL or word.split() != [word] for word in words)

    run()


def test_a_vocabulary_counts_then_sorts_by_letters():
    sentences = ["the cat", "the dog", "a bird", "the bird"]
    vocabulary = build_vocabulary((tokenize(sentence) for sentence in sentences), min_count=1)
    assert list(vocabulary) == [*SPECIAL, "the", "bird", "a", "cat", "dog"]
    assert list(vocabulary.values()) == list(range(9))
    assert list(build_vocabulary(map(tokenize, sentences), min_count=2)) == [
        *SPECIAL,
        "the",
        "bird",
    ]


def test_special_words_among_the_words_take_no_second_id():
    assert build_vocabulary([["<END>", "dog", "<START>"]]) == {
        **{word: index for index, word in enumerate(SPECIAL)},
        "dog": 4,
    }


def test_a_threshold_below_one_is_refused():
    with pytest.raises(ValueError, match="min_count is 0, expected 1 or more"):
        build_vocabulary([["dog"]], min_count=0)


def test_captions_become_rows_of_ids():
    vocabulary = build_vocabulary([["a", "dog", "runs"]])
    rows = encode_captions([["dog", "flies"], ["a"] * 9, ["<END>"]], vocabulary, 5)
    assert rows.dtype == np.int32
    assert rows.tolist() == [
        [START, vocabulary["dog"], UNK, END, NULL],
        [START, vocabulary["a"], vocabulary["a"], vocabulary["a"], END],
        [START, UNK, END, NULL, NULL],
    ]
    assert encode_captions([], vocabulary, 5).shape == (0, 5)


def test_what_is_encoded_decodes_to_the_known_words():
    hypothesis = pytest.importorskip("hypothesis")
    words = hypothesis.strategies.sampled_from(["a", "dog", "runs", "'s", "t-shirt"])
    lists = hypothesis.strategies.lists

    @hypothesis.given(lists(lists(words, max_size=8), max_size=5))
    def run(captions):
        vocabulary = build_vocabulary([["a", "dog", "runs", "'s", "t-shirt"]])
        rows = encode_captions(captions, vocabulary, 10)
        assert decode_captions(rows, check_vocabulary(vocabulary)) == [
            " ".join(c) for c in captions
        ]

    run()


@pytest.mark.parametrize("make", [build_vocabulary, lambda c: encode_captions(c, SPECIAL_IDS, 5)])
def test_a_sentence_in_place_of_its_words_is_refused(make):
    with pytest.raises(
        TypeError, match="the string 'a dog', expected a list of words: tokenize it"
    ):
        make(["a dog"])


SPECIAL_IDS = {word: index for index, word in enumerate(SPECIAL)}


def test_rows_too_short_for_a_word_are_refused():
    with pytest.raises(ValueError, match="length is 2, expected 3 or more"):
        encode_captions([["dog"]], SPECIAL_IDS, 2)


def test_encoding_needs_the_special_words():
    with pytest.raises(ValueError, match="ids 0 to 3 are not <NULL>, <START>, <END>, <UNK>"):
        encode_captions([["dog"]], {"<NULL>": 0, "cat": 1, "dog": 2}, 5)


def test_the_course_s_vocabulary_is_in_order(data):
    content = json.loads((data / "coco2014_vocab.json").read_text())
    assert check_vocabulary(content["word_to_idx"]) == content["idx_to_word"]


def test_the_tiny_vocabulary_of_the_course_s_loss_check_passes():
    assert check_vocabulary({"<NULL>": 0, "cat": 2, "dog": 3}) == ["<NULL>", "<UNK>", "cat", "dog"]
    assert check_vocabulary({"<NULL>": 0, "cat": 1, "dog": 2}) == ["<NULL>", "cat", "dog"]


@pytest.mark.parametrize(
    ("vocabulary", "error", "said"),
    [
        (["a"], TypeError, "the vocabulary is a list, expected a dict from words to ids"),
        ({}, ValueError, "the vocabulary is empty"),
        ({"<NULL>": "0"}, TypeError, "maps '<NULL>' to '0', expected a word to an id"),
        ({"<NULL>": False}, TypeError, "maps '<NULL>' to False"),
        ({"<NULL>": 0, 1: 1}, TypeError, "maps 1 to 1"),
        (SPECIAL_IDS | {"a": 5}, ValueError, "5 words and gives 'a' the id 5, expected 0 to 4"),
        (SPECIAL_IDS | {"a": -1}, ValueError, "gives 'a' the id -1, expected 0 to 4"),
        (SPECIAL_IDS | {"a": 4, "b": 4}, ValueError, "gives 'b' and 'a' the same id 4"),
        ({"a": 0, "<NULL>": 1}, ValueError, "gives <NULL> the id 1, expected 0"),
    ],
)
def test_a_vocabulary_out_of_order_is_refused(vocabulary, error, said):
    with pytest.raises(error, match=said):
        check_vocabulary(vocabulary)


@pytest.mark.parametrize(
    ("sentence", "separated"),
    [
        ("一只棕色的狗在草地上跑", "一只 棕色 的 狗 在 草地 上 跑"),
        ("公園で、犬が走っている。", "公園 で 犬 が 走っ て いる"),
        ("หมาวิ่งในสวน", "หมา วิ่ง ใน สวน"),
    ],
)
def test_captions_without_spaces_between_words_are_known(sentence, separated):
    assert lack_spaces([tokenize(sentence)] * 2)
    assert not lack_spaces([tokenize(separated)] * 2)
    assert not lack_spaces([["a", "dog"], ["dog"]])
