"""Sentences: greedy, drawn and by beam search, beside plain loops and exhaustive search in NumPy."""

import functools
import itertools

import numpy as np
import pytest

from tfcap import decoding, generation
from tfcap.model import CaptioningRNN
from visualization.backend import keras, tf

NULL, START, END, UNK = range(4)
D, V = 5, 7
seeds = pytest.mark.parametrize("seed", range(2))


def captioner(seed=0, words=V - 4, cell="lstm", scale=3.0, vocabulary=None, **options):
    """A captioner of random weights, decided enough that its sentences differ."""
    vocabulary = vocabulary or ["<NULL>", "<START>", "<END>", "<UNK>", *map(str, range(words))]
    keras.utils.set_random_seed(seed)
    made = CaptioningRNN({word: k for k, word in enumerate(vocabulary)}, D, 6, 8, cell, **options)
    made.embed.W.assign(100 * made.embed.W)
    made.vocab.w.assign(scale * made.vocab.w)
    return made


unchanged = functools.cache(captioner)  # compiled once for all tests that leave it as it is


def pictures(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, D)).astype("float32")


def log_probabilities(made, features, words):
    """The model's own log p of sentences, ended or cut: features (N, D), words (N, T) -> (N,)."""
    words = np.asarray(words)
    before = np.concatenate([np.full((len(words), 1), START), words[:, :-1]], axis=1)
    log_p = tf.nn.log_softmax(made((features, before))).numpy()
    each = np.take_along_axis(log_p, words[..., np.newaxis], axis=2)[..., 0]
    return np.where(words == NULL, 0, each).sum(axis=1)


def lengths(words):
    return (np.asarray(words) != NULL).sum(axis=-1)


def every_sentence(max_length, said=range(4, V)):
    """All that can be said: each ends with <END> or has max_length words."""
    found = []
    for length in range(max_length + 1):
        for words in itertools.product(said, repeat=length):
            ended = [*words, END] if length < max_length else words
            found.append([*ended, *[NULL] * (max_length - len(ended))])
    return np.array(found)


# ------------------------------------------------------------------------------------------ greedy


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_greedy_says_the_likeliest_word_that_may_be_said(cell):
    made = captioner(cell=cell, words=20)
    features = pictures(8)
    words = made.sample(features, 9)
    assert words.shape == (8, 9)
    assert words.dtype == np.int32
    said = np.full((8, 1), START)
    ended = np.zeros(8, bool)
    for t in range(9):
        scores = made((features, said)).numpy()[:, -1]
        scores[:, [NULL, START, UNK]] = -np.inf
        expected = np.where(ended, NULL, scores.argmax(axis=1))
        np.testing.assert_array_equal(words[:, t], expected)
        ended |= expected == END
        said = np.concatenate([said, expected[:, np.newaxis]], axis=1)
    assert ended.any()
    assert not ended.all()


def test_plain_is_the_bare_arg_max():
    made = captioner()
    made.vocab.b.assign([3, 3, 3, 3, 0, 0, 0])
    features = pictures(30)
    words = made.sample(features, 12, plain=True)
    before = np.concatenate([np.full((30, 1), START), words[:, :-1]], axis=1)
    np.testing.assert_array_equal(words, made((features, before)).numpy().argmax(axis=2))
    assert {NULL, START, END, UNK} <= set(words.ravel())
    first = (words == END).argmax(axis=1)
    assert any(words[row, first[row] + 1 :].any() for row in np.flatnonzero(first))


WAYS = {
    "greedy": lambda made, x, **k: made.sample(x, 9, **k),
    "drawn": lambda made, x, **k: made.sample(x, 9, temperature=2.0, **k),
    "drawn among few": lambda made, x, **k: made.sample(x, 9, temperature=1.0, top_k=3, **k),
    "drawn from a part": lambda made, x, **k: made.sample(x, 9, temperature=1.0, top_p=0.8, **k),
    "beam": lambda made, x, **k: made.beam_search(x, 3, 3, max_length=9, **k)[0].reshape(-1, 9),
}
each_way = pytest.mark.parametrize("way", WAYS)


@each_way
def test_null_start_and_unk_are_never_said_however_likely(way):
    made = captioner()
    made.vocab.b.assign([40, 30, 0, 50, 0, 0, 0])
    words = WAYS[way](made, pictures(20))
    ended = np.cumsum(words == END, axis=1) - (words == END) > 0
    assert not np.isin(words[~ended], [NULL, START, UNK]).any()
    assert not words[ended].any()
    assert ended.any()


@each_way
def test_a_sentence_does_not_depend_on_the_others_in_its_batch(way, monkeypatch):
    made, features = unchanged(words=20), pictures(7)
    whole = WAYS[way](made, features)
    alike = len(whole) // len(features)
    if "drawn" not in way:
        for row in (0, 3, 6):
            alone = WAYS[way](made, features[row : row + 1])
            np.testing.assert_array_equal(alone, whole[alike * row : alike * (row + 1)])
    fewer = WAYS[way](made, features[:3])
    np.testing.assert_array_equal(fewer, whole[: 3 * alike])
    other = np.concatenate([features[:3], pictures(4, seed=1)])
    np.testing.assert_array_equal(WAYS[way](made, other)[: 3 * alike], whole[: 3 * alike])


@pytest.mark.parametrize("way", ["greedy", "beam"])
def test_many_images_are_worked_on_in_parts_with_the_same_result(way, monkeypatch):
    made, features = unchanged(words=20), pictures(11)
    whole = WAYS[way](made, features)
    monkeypatch.setattr(generation, "ROWS_AT_ONCE", 4)
    np.testing.assert_array_equal(WAYS[way](made, features), whole)
    monkeypatch.setattr(generation, "ROWS_AT_ONCE", 1)
    np.testing.assert_array_equal(WAYS[way](made, features), whole)


def test_parts_draw_each_for_itself(monkeypatch):
    monkeypatch.setattr(generation, "ROWS_AT_ONCE", 4)
    same = np.repeat(pictures(1), 12, axis=0)
    words = unchanged(words=20).sample(same, 9, temperature=3.0)
    assert len({tuple(row) for row in words}) == 12


@each_way
def test_no_images_give_no_sentences(way):
    assert WAYS[way](unchanged(words=20), pictures(0)).shape == (0, 9)


@pytest.mark.parametrize("beams", [None, 1, 3])
def test_the_loop_stops_when_every_sentence_has_ended(beams):
    calls = []

    def step(words, states):
        """Sentence k ends after k words."""
        calls.append(1)
        (left,) = states
        end = tf.one_hot(END, V, on_value=30.0, off_value=0.0)
        go_on = tf.one_hot(5, V, on_value=20.0, off_value=0.0)
        return tf.where(left[:, tf.newaxis] <= 1, end, go_on), [left - 1]

    states = [tf.constant([1.0, 4.0, 2.0])]
    ids = decoding.SpecialTokens(NULL, START, END, UNK)
    if beams is None:
        words = decoding.decode(step, states, ids, 20)
    else:
        words = decoding.beam_search(step, states, ids, 20, beams)[0][:, 0]
    expected = np.zeros((3, 20), int)
    expected[0, :1], expected[1, :4], expected[2, :2] = [END], [5, 5, 5, END], [5, END]
    np.testing.assert_array_equal(words, expected)
    assert len(calls) == 4


@each_way
def test_each_way_is_one_loop_compiled_for_batches_of_any_size(way):
    made = captioner(words=20)
    for count in (2, 3, 7, 1, 12):
        WAYS[way](made, pictures(count))
    loops = [vars(made).get(name) for name in ("_decode", "_beams")]
    (loop,) = filter(None, loops)
    assert loop.experimental_get_tracing_count() <= 2  # for the first size, and for any


# ------------------------------------------------------------------------------------------- beams


@seeds
@pytest.mark.parametrize("block_trigrams", [False, True])
def test_a_beam_of_one_is_greedy(seed, block_trigrams):
    made, features = captioner(seed, words=12), pictures(40, seed)
    greedy = made.sample(features, 14, block_trigrams=block_trigrams)
    for penalty in (0.0, 1.0):
        words, log_p = made.beam_search(
            features, 1, max_length=14, length_penalty=penalty, block_trigrams=block_trigrams
        )
        np.testing.assert_array_equal(words[:, 0], greedy)
        np.testing.assert_allclose(
            log_p[:, 0], log_probabilities(made, features, greedy), atol=1e-4
        )


@seeds
@pytest.mark.parametrize("penalty", [0.0, 0.7, 4.0, -1.0])
def test_a_wide_beam_finds_the_best_of_all_sentences(seed, penalty):
    made, features, longest = captioner(seed, scale=1.5), pictures(4, seed), 4
    sentences = every_sentence(longest)  # 3^0 + ... + 3^4 = 121
    words, log_p = made.beam_search(features, 121, 121, max_length=longest, length_penalty=penalty)
    for row in range(len(features)):
        own = log_probabilities(made, np.repeat(features[row : row + 1], 121, axis=0), sentences)
        rank = own / ((5 + lengths(sentences)) / 6) ** penalty
        best = np.argsort(-rank, kind="stable")
        np.testing.assert_array_equal(words[row, 0], sentences[best[0]])
        alone, _ = made.beam_search(
            features[row : row + 1], 121, max_length=longest, length_penalty=penalty
        )  # which may stop before the other 120 sentences have ended
        np.testing.assert_array_equal(alone[0, 0], sentences[best[0]])
        np.testing.assert_allclose(np.sort(log_p[row]), np.sort(own), atol=1e-4)
        assert {tuple(w) for w in words[row]} == {tuple(w) for w in sentences}
        found = log_p[row] / ((5 + lengths(words[row])) / 6) ** penalty
        np.testing.assert_allclose(found, rank[best], atol=1e-4)


@seeds
def test_a_length_penalty_changes_which_sentence_is_best(seed):
    made, features = captioner(seed, scale=4.0), pictures(30, seed)
    made.vocab.b.assign([0, 0, -2, 0, 0, 0, 0])
    mean = [
        lengths(made.beam_search(features, 121, max_length=4, length_penalty=penalty)[0]).mean()
        for penalty in (-3.0, 0.0, 3.0)
    ]
    assert mean[0] < mean[1] < mean[2]


@seeds
def test_the_n_best_are_sorted_distinct_and_have_the_log_probabilities_of_the_model(seed):
    made, features = captioner(seed, words=12, scale=2.0), pictures(10, seed)
    words, log_p = made.beam_search(features, 5, 4, max_length=8)
    assert words.shape == (10, 4, 8)
    assert words.dtype == np.int32
    assert log_p.shape == (10, 4)
    assert log_p.dtype == np.float32
    assert (np.diff(log_p, axis=1) <= 0).all()
    assert all(len({tuple(w) for w in row}) == 4 for row in words)
    for place in range(4):
        own = log_probabilities(made, features, words[:, place])
        np.testing.assert_allclose(log_p[:, place], own, atol=1e-4)
    fewer, _ = made.beam_search(features, 5, 2, max_length=8)
    np.testing.assert_array_equal(fewer, words[:, :2])


def test_sentences_are_never_empty_where_that_is_asked_for():
    made, features = captioner(words=4), pictures(3)
    made.vocab.b.assign(50 * np.eye(8)[END])
    assert (made.sample(features, 4)[:, 0] == END).all()
    for words in (
        made.sample(features, 4, never_empty=True),
        made.sample(features, 4, never_empty=True, temperature=1.0),
        made.beam_search(features, 2, 2, 4, never_empty=True)[0].reshape(-1, 4),
    ):
        assert (words[:, 0] > UNK).all()
        assert (words[:, 1] == END).any()


def test_where_fewer_sentences_are_possible_the_rest_are_empty():
    words, log_p = captioner().beam_search(pictures(3), 20, 20, max_length=2)
    possible = {tuple(w) for w in every_sentence(2)}  # 1 + 3 + 9
    for row in range(3):
        assert {tuple(w) for w in words[row, :13]} == possible
        assert np.isfinite(log_p[row, :13]).all()
        assert not words[row, 13:].any()
        assert (log_p[row, 13:] == -np.inf).all()


# ----------------------------------------------------------------------------------------- trigrams


def has_repeated_trigram(words):
    words = [word for word in words if word != NULL]
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) < len(trigrams)


@pytest.mark.parametrize("way", WAYS)
def test_blocked_trigrams_occur_once(way):
    made = captioner()
    made.vocab.b.assign([0, 0, -9, 0, 3, 0, 0])  # "0 0 0 ..." and no <END>
    features = pictures(20)
    assert any(map(has_repeated_trigram, WAYS[way](made, features)))
    blocked = WAYS[way](made, features, block_trigrams=True)
    assert not any(map(has_repeated_trigram, blocked))
    assert blocked.any()


def test_a_sentence_ends_when_nothing_new_can_be_said():
    made = captioner(words=1)
    made.vocab.b.assign([0, 0, -50, 0, 50])
    words = made.sample(pictures(1), 9, block_trigrams=True)
    np.testing.assert_array_equal(words, [[4, 4, 4, END, 0, 0, 0, 0, 0]])


def test_log_probabilities_are_the_models_own_with_trigrams_blocked_too():
    made = captioner()
    made.vocab.b.assign([0, 0, -9, 0, 3, 0, 0])
    features = pictures(5)
    words, log_p = made.beam_search(features, 3, max_length=9, block_trigrams=True)
    own = log_probabilities(made, features, words[:, 0])
    np.testing.assert_allclose(log_p[:, 0], own, atol=1e-4)


@each_way
@pytest.mark.parametrize("longest", [1, 2, 3])
def test_the_shortest_sentences_are_the_beginnings_of_longer_ones(way, longest):
    made, features = unchanged(words=20), pictures(6)
    if way == "beam":
        words = made.beam_search(features, 3, max_length=longest, block_trigrams=True)[0][:, 0]
        assert words.shape == (6, longest)
        return
    draw = {"drawn": {"temperature": 2.0}, "drawn among few": {"temperature": 1.0, "top_k": 3}}
    options = draw.get(way, {})
    short = made.sample(features, longest, block_trigrams=True, **options)
    np.testing.assert_array_equal(short, made.sample(features, 9, **options)[:, :longest])


def test_three_words_repeat_nothing_even_if_they_are_all_null():
    made = captioner()
    made.vocab.b.assign([50, 0, 0, 0, 0, 0, 0])
    words = made.sample(pictures(2), 4, plain=True, block_trigrams=True)
    assert not words[:, :3].any()
    assert words[:, 3].all()


# ----------------------------------------------------------------------------------------- drawing


def first_words(count=4000, **options):
    """How often each word is drawn first for one image, and the model's probabilities, (V,)."""
    made = unchanged(scale=2.0)
    features = np.repeat(pictures(1, seed=3), count, axis=0)
    words = made.sample(features, 1, **options)[:, 0]
    scores = made((features[:1], np.array([[START]]))).numpy()[0, 0].astype("float64")
    scores[[NULL, START, UNK]] = -np.inf
    p = np.exp(scores / options["temperature"])
    return np.bincount(words, minlength=V) / count, p / p.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_words_are_drawn_as_often_as_they_are_likely(temperature):
    drawn, p = first_words(temperature=temperature)
    assert (p[[END, 4, 5, 6]] > 0).all()
    # four standard deviations
    assert (np.abs(drawn - p) <= 4 * np.sqrt(p * (1 - p) / 4000) + 1e-9).all(), (drawn, p)


def test_top_k_draws_among_the_k_likeliest():
    for k in (1, 2, 3, 100):
        drawn, p = first_words(temperature=2.0, top_k=k)
        kept = np.argsort(-p)[:k]
        expected = np.zeros(V)
        expected[kept] = p[kept] / p[kept].sum()
        assert (np.abs(drawn - expected) <= 4 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_top_p_draws_among_the_fewest_words_that_reach_the_sum():
    _, p = first_words(temperature=2.0)
    order = np.argsort(-p)
    sums = np.cumsum(p[order])
    for count, top_p in ((1, 1e-6), (1, sums[0] - 1e-3), (2, sums[0] + 1e-3), (2, sums[1] - 1e-3)):
        drawn, _ = first_words(temperature=2.0, top_p=top_p)
        assert set(np.flatnonzero(drawn)) == set(order[:count])
    drawn, _ = first_words(temperature=2.0, top_p=1.0)
    assert set(np.flatnonzero(drawn)) == {END, 4, 5, 6}


def test_draws_are_decided_by_the_seed():
    made, features = unchanged(words=20), pictures(8)
    words = made.sample(features, 9, temperature=2.0, seed=7)
    np.testing.assert_array_equal(made.sample(features, 9, temperature=2.0, seed=7), words)
    for seed in (8, -7, 2**40):
        assert (made.sample(features, 9, temperature=2.0, seed=seed) != words).any()


def test_every_step_draws_anew():
    made = captioner(words=20)
    made.vocab.w.assign(0 * made.vocab.w)
    made.vocab.b.assign(np.where(np.arange(24) == END, -50, 0))
    words = made.sample(pictures(50), 20, temperature=1.0)
    assert (words[:, 1:] == words[:, :-1]).mean() == pytest.approx(1 / 20, abs=0.03)
    assert (words[1:] == words[:-1]).mean() == pytest.approx(1 / 20, abs=0.03)


def test_a_cold_draw_is_greedy():
    made, features = unchanged(words=20), pictures(8)
    cold = made.sample(features, 9, temperature=1e-4)
    np.testing.assert_array_equal(cold, made.sample(features, 9))
    few = made.sample(features, 9, temperature=5.0, top_k=1)
    np.testing.assert_array_equal(few, made.sample(features, 9))


# --------------------------------------------------------------------------- vocabularies, bad input


@pytest.mark.parametrize("rest", [("a", "b"), ("a", "<UNK>")])
def test_without_end_a_sentence_has_all_its_words(rest):
    made = captioner(vocabulary=("<NULL>", "<START>", *rest))
    sayable = [k for k in (2, 3) if rest[k - 2] != "<UNK>"]
    for words in (made.sample(pictures(9), 6), made.beam_search(pictures(9), max_length=6)[0]):
        assert set(words.ravel()) <= set(sayable)


def test_a_vocabulary_without_start_trains_but_says_nothing():
    made = CaptioningRNN({"<NULL>": 0, "cat": 2, "dog": 3}, D, 6, 8)
    assert np.isfinite(made.summed_loss(pictures(2), np.array([[1, 2, 0], [2, 1, 2]])))
    for way in (made.sample, made.beam_search):
        with pytest.raises(ValueError, match='no "<START>", with which every sentence begins'):
            way(pictures(2))


@pytest.mark.parametrize(
    ("way", "options", "words"),
    [
        (
            "sample",
            {"temperature": -1.0},
            "temperature must be a finite number of at least 0, received -1.0",
        ),
        ("sample", {"temperature": float("nan")}, "temperature must be .*, received nan"),
        ("sample", {"temperature": float("inf")}, "temperature must be .*, received inf"),
        ("sample", {"top_k": 3}, "top_k and top_p need a temperature above 0"),
        ("sample", {"top_p": 0.5}, "top_k and top_p need a temperature above 0"),
        ("sample", {"temperature": 1.0, "top_k": 0}, "top_k must be a positive integer"),
        ("sample", {"temperature": 1.0, "top_k": 2.5}, "top_k must be .*, received 2.5"),
        ("sample", {"temperature": 1.0, "top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ("sample", {"temperature": 1.0, "top_p": 1.5}, "top_p must be .*, received 1.5"),
        ("sample", {"max_length": 0}, "max_length must be a positive integer, received 0"),
        ("beam_search", {"max_length": -3}, "max_length must be a positive integer"),
        ("beam_search", {"beam_size": 0}, "beam_size must be a positive integer, received 0"),
        ("beam_search", {"n_best": 0}, "n_best must be a positive integer, received 0"),
        ("beam_search", {"n_best": 4}, "n_best must be at most beam_size, received 4 .* 3"),
        ("beam_search", {"length_penalty": float("nan")}, "length_penalty must be finite"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(way, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        getattr(unchanged(), way)(pictures(2), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (pictures(3)[:, :4], r"features have shape \(3, 4\), .* takes \(N, 5\) of squeezenet"),
        (pictures(3)[0], r"features have shape \(5,\)"),
        (pictures(3) * np.inf, "features hold NaN or infinity"),
        (1.0, r"features have shape \(\)"),
    ],
)
def test_features_that_do_not_fit_are_refused(features, words):
    made = captioner(encoder="squeezenet")
    for way in (made.sample, made.beam_search):
        with pytest.raises(ValueError, match=words) as caught:
            way(features)
        assert "\n" not in str(caught.value)


def test_features_may_be_tensors_lists_or_of_another_dtype():
    made, features = captioner(), pictures(3)
    expected = made.sample(features, 6)
    for other in (tf.constant(features), features.tolist(), features.astype("float64")):
        np.testing.assert_array_equal(made.sample(other, 6), expected)
