import sys

import numpy as np
import pytest

from tfcap.metrics.scores import score_captions
from tfcap.metrics.tokenizer import ptb_tokenize


@pytest.fixture
def pycocoevalcap():
    return pytest.importorskip("pycocoevalcap.bleu.bleu")


REFERENCES = {
    1: ["A man rides a horse.", "A person on a brown horse."],
    2: ["Two dogs play in the snow.", "Dogs running through snow"],
    3: ["A red car is parked on the street.", "A car"],
}
PREDICTIONS = {1: "a man on a horse", 2: "two dogs run in the snow", 3: "a red car on the street"}


def own_scores(predictions, references):
    """What pycocoevalcap's scorers say about the words that `ptb_tokenize` finds."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truths = {k: [" ".join(ptb_tokenize(one)) for one in v] for k, v in references.items()}
    said = {k: [" ".join(ptb_tokenize(predictions.get(k, "")))] for k in references}
    bleu = Bleu(4).compute_score(truths, said, verbose=0)[0]
    scores = {f"BLEU-{n + 1}": bleu[n] for n in range(4)}
    scores["ROUGE-L"] = Rouge().compute_score(truths, said)[0]
    return scores | {"CIDEr": Cider().compute_score(truths, said)[0]}


def test_scores_are_the_scorers_own_on_those_words(pycocoevalcap):
    assert score_captions(PREDICTIONS, REFERENCES) == own_scores(PREDICTIONS, REFERENCES)


def test_scores_are_the_scorers_own_whatever_is_said(pycocoevalcap):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    sentence = st.lists(st.sampled_from(["a", "b", "man's", "dog-like", "the"]), max_size=9).map(
        " ".join
    )
    real = sentence.filter(bool)
    pairs = st.dictionaries(
        st.integers(0, 99), st.tuples(sentence, st.lists(real, min_size=1, max_size=4)), min_size=1
    )

    @hypothesis.given(pairs)
    @hypothesis.settings(deadline=None, max_examples=50)
    def check(pairs):
        predictions = {image: said for image, (said, _) in pairs.items()}
        references = {image: true for image, (_, true) in pairs.items()}
        scores = score_captions(predictions, references)
        assert scores == own_scores(predictions, references)
        assert all(0 <= score <= 10 + 1e-9 for score in scores.values())

    check()


def test_repeating_a_word_earns_it_no_more_often_than_a_reference_has_it(pycocoevalcap):
    references = {1: ["The cat is on the mat.", "There is a cat on the mat."]}
    scores = score_captions({1: "the the the the the the the"}, references, ["BLEU"])
    assert scores["BLEU-1"] == pytest.approx(2 / 7)
    assert scores["BLEU-2"] < 1e-6


def test_a_short_prediction_pays_for_its_brevity(pycocoevalcap):
    scores = score_captions({1: "a b c"}, {1: ["a b c d e f"]}, ["BLEU"])
    assert scores["BLEU-1"] == pytest.approx(np.exp(1 - 6 / 3))


def test_rouge_is_the_f_score_of_the_longest_common_subsequence(pycocoevalcap):
    scores = score_captions({1: "a x b c"}, {1: ["a b c d e"]}, ["ROUGE-L"])
    precision, recall, beta = 3 / 4, 3 / 5, 1.2
    expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert scores == {"ROUGE-L": pytest.approx(expected)}


def test_perfect_captions_of_different_images_have_the_highest_scores(pycocoevalcap):
    predictions = {1: "a man rides brown horses", 2: "two dogs play in snow"}
    scores = score_captions(predictions, {k: [v] for k, v in predictions.items()})
    assert scores.pop("CIDEr") == pytest.approx(10)
    assert all(score == pytest.approx(1) for score in scores.values())


def test_empty_predictions_score_nothing(pycocoevalcap):
    for silence in ("", " . ", "!"):
        scores = score_captions(dict.fromkeys(REFERENCES, silence), REFERENCES)
        assert all(abs(score) < 1e-9 for score in scores.values()), scores


def test_an_image_without_prediction_counts_as_one_about_which_nothing_was_said(pycocoevalcap):
    silent = {1: PREDICTIONS[1], 2: PREDICTIONS[2]}
    assert score_captions(silent, REFERENCES) == score_captions(silent | {3: ""}, REFERENCES)
    assert score_captions({}, REFERENCES)["CIDEr"] == 0


def test_a_single_image_has_no_cider(pycocoevalcap):
    scores = score_captions({1: "a man rides a horse"}, {1: REFERENCES[1]})
    assert scores["CIDEr"] == 0
    assert scores["BLEU-4"] == pytest.approx(1)


def test_references_without_a_word_are_left_out(pycocoevalcap):
    padded = {image: [*sentences, "", "..."] for image, sentences in REFERENCES.items()}
    assert score_captions(PREDICTIONS, padded) == score_captions(PREDICTIONS, REFERENCES)


def test_only_the_metrics_asked_for_are_computed(pycocoevalcap):
    assert list(score_captions(PREDICTIONS, REFERENCES, ("CIDEr",))) == ["CIDEr"]
    names = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
    assert list(score_captions(PREDICTIONS, REFERENCES)) == names


@pytest.mark.parametrize(
    ("predictions", "references", "error", "says"),
    [
        ({4: "a"}, REFERENCES, ValueError, "image 4 has a prediction, but no references"),
        ({}, {}, ValueError, "no references"),
        ({1: None}, REFERENCES, TypeError, "None, expected a string"),
        ({1: ["a man"]}, REFERENCES, TypeError, r"\['a man'\], expected a string"),
        ({1: "a"}, {1: "a man"}, TypeError, "'a man', expected a list of strings"),
        ({1: "a"}, {1: [3]}, TypeError, "expected a list of strings"),
        ({1: "a"}, {1: []}, ValueError, "image 1 has no reference with a word"),
        ({1: "a"}, {1: ["."]}, ValueError, "image 1 has no reference with a word"),
    ],
)
def test_what_cannot_be_scored_is_named(predictions, references, error, says):
    with pytest.raises(error, match=says):
        score_captions(predictions, references)


def test_an_unknown_metric_is_named_with_those_that_there_are():
    for metric in ("SPICE", "METEOR"):
        with pytest.raises(
            ValueError, match=f"no metric '{metric}': choose from BLEU, ROUGE-L, CID"
        ):
            score_captions(PREDICTIONS, REFERENCES, [metric])


def test_without_pycocoevalcap_one_learns_how_to_install_it(monkeypatch):
    for module in ("pycocoevalcap", "pycocoevalcap.bleu", "pycocoevalcap.bleu.bleu"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install pycocoevalcap==1\.2"):
        score_captions(PREDICTIONS, REFERENCES)
