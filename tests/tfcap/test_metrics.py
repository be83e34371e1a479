import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfcap.metrics import scores as metrics
from tfcap.metrics.scores import (
    copied_share,
    distinct_share,
    nearest_neighbour_captions,
    read_coco_results,
    references_by_image,
    score_captions,
    shuffled_cider,
    tokenize,
    write_coco_results,
)

# captions, and what the PTB tokeniser and COCO's removal of punctuation make of them
PTB = {
    "A man, in a red shirt, rides a horse.": "a man in a red shirt rides a horse",
    "the dogs .": "the dogs",
    "A man's dog, and the boys' toys.": "a man 's dog and the boys toys",
    "They can't and don't; it isn't I'm": "they ca n't and do n't it is n't i 'm",
    "We've, you'd, she'll, CAN'T, who's": "we 've you 'd she 'll ca n't who 's",
    "a man\u2019s \u201cbest\u201d friend doesn\u2019t bark": "a man 's best friend does n't bark",
    "He cannot go, he's gonna fall; 'twas wet": "he can not go he 's gon na fall 't was wet",
    "a T-shirt, a 3-d x-ray, a merry-go-round": "a t-shirt a 3-d x-ray a merry-go-round",
    "a half - eaten cake -- or pie--on a dog-": "a half eaten cake or pie on a dog",
    "a bird's-eye-view of New York": "a bird 's eye-view of new york",
    "J. P. Morgan's U.S. flag at 5 p.m. in plan B.": "j. p. morgan 's u.s. flag at 5 p.m. in plan b",
    "The sign says \"Stop!\" or 'Go'.": "the sign says stop or go",
    "a dog (the brown one) [sic] {x}": "a dog -lrb- the brown one -rrb- -lsb- sic -rsb- -lcb- x -rcb-",
    "It waits... and waits.. wait\u2026 . . .": "it waits and waits wait",
    "and/or he/she w/ a b/w photo, 1/2 a/c 24/7": "and/or he/she w / a b/w photo 1/2 a/c 24/7",
    "salt & pepper, AT&T, B&W, b&w, M&Ms": "salt & pepper at&t b&w b & w m&m s",
    "50% off for $5 or $1.50, #1 in £5": "50 % off for $ 5 or $ 1.50 # 1 in # 5",
    "1,000 cows at 10:30 or 3:00pm, 2.5 .5 -5": "1,000 cows at 10:30 or 3:00 pm 2.5 .5 -5",
    "a 5-year-old, 1st and 20th, 4x4, 3.5-inch": "a 5-year-old 1st and 20th 4x4 3.5-inch",
    "5'10\" tall in the 1950's and '90s": "5 10 tall in the 1950 's and '90s",
    "Mr. Smith of Main St. vs. Dr. No. No. 5": "mr. smith of main st. vs. dr. no no. 5",
    "rock 'n' roll, o'clock, O'Brien, 'em, y'all": "rock 'n' roll o'clock o'brien 'em y' all",
    "a jack-o'-lantern and a jack-o-lantern": "a jack-o lantern and a jack-o-lantern",
    "cat,dog end.The dog wow!! what?! ok:no": "cat dog end.the dog wow !! what ?! ok no",
    "caf\u00e9 na\u00efve pi\u00f1ata 70\u00b0F \u2603 \U0001f600 \u00bd": (
        "caf\u00e9 na\u00efve pi\u00f1ata 70 \u00b0 f \u2603 1/2"
    ),
    "#tag @home @ # a + b = c * < >": "#tag @home @ # a + b = c * < >",
    "a <UNK> on a <UNK>": "a <unk> on a <unk>",
    "": "",
    " . , ! ? ; : ' \" - ": "",
}


def ptb_words(sentences, folder):
    """What Stanford's tokeniser and COCO's removal of punctuation make of each sentence."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("there is no java to run the PTB tokeniser")
    ptb = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    file = folder / "sentences.txt"
    file.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    jar = Path(ptb.__file__).with_name(ptb.STANFORD_CORENLP_3_4_1_JAR)
    command = [java, "-Dfile.encoding=UTF-8", "-cp", str(jar)]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    ran = subprocess.run([*command, str(file)], capture_output=True, timeout=300, check=True)
    lines = ran.stdout.decode().split("\n")[: len(sentences)]
    return [[w for w in line.split() if w not in ptb.PUNCTUATIONS] for line in lines]


@pytest.fixture
def pycocoevalcap():
    return pytest.importorskip("pycocoevalcap.bleu.bleu")


@pytest.mark.parametrize(("sentence", "words"), PTB.items())
def test_words_are_those_of_the_ptb_tokeniser(sentence, words):
    assert tokenize(sentence) == words.split()


def test_the_fixed_examples_are_what_java_makes_of_them(tmp_path):
    assert ptb_words(list(PTB), tmp_path) == [words.split() for words in PTB.values()]


def test_all_captions_of_flickr8k_have_the_words_that_java_finds(data, tmp_path):
    file = data / "flickr8k" / "Flickr8k_text" / "Flickr8k.token.txt"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    captions = [line.partition("\t")[2] for line in file.read_text().splitlines()]
    ours = [tokenize(caption) for caption in captions]
    differ = [k for k, words in enumerate(ptb_words(captions, tmp_path)) if words != ours[k]]
    assert len(differ) <= len(captions) / 1000, [captions[k] for k in differ[:10]]


def test_tokenizing_words_again_changes_nothing_of_plain_text():
    hypothesis = pytest.importorskip("hypothesis")
    words = hypothesis.strategies.text("abcdefghijklmnopqrstuvwxyz", min_size=1)
    whole = words.filter(lambda word: word not in metrics._SPLIT)

    @hypothesis.given(hypothesis.strategies.lists(whole, max_size=8))
    def check(words):
        assert tokenize(" ".join(words)) == words

    check()


def test_any_text_becomes_lower_case_words_without_blanks():
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.given(hypothesis.strategies.text())
    def check(text):
        for word in tokenize(text):
            assert word
            assert not any(letter.isspace() for letter in word)
            assert word == word.lower()

    check()


REFERENCES = {
    1: ["A man rides a horse.", "A person on a brown horse."],
    2: ["Two dogs play in the snow.", "Dogs running through snow"],
    3: ["A red car is parked on the street.", "A car"],
}
PREDICTIONS = {1: "a man on a horse", 2: "two dogs run in the snow", 3: "a red car on the street"}


def own_scores(predictions, references):
    """What pycocoevalcap's scorers say about the words that `tokenize` finds."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truths = {k: [" ".join(tokenize(one)) for one in v] for k, v in references.items()}
    said = {k: [" ".join(tokenize(predictions.get(k, "")))] for k in references}
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
    with pytest.raises(
        ValueError, match="no metric 'SPICE': choose from BLEU, ROUGE-L, CIDEr, METEOR"
    ):
        score_captions(PREDICTIONS, REFERENCES, ["SPICE"])


def test_without_pycocoevalcap_one_learns_how_to_install_it(monkeypatch):
    for module in ("pycocoevalcap", "pycocoevalcap.bleu", "pycocoevalcap.bleu.bleu"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install pycocoevalcap==1\.2"):
        score_captions(PREDICTIONS, REFERENCES)


def test_meteor_without_java_says_so(pycocoevalcap, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="METEOR needs Java"):
        score_captions(PREDICTIONS, REFERENCES, ["METEOR"])


def test_meteor_that_takes_too_long_is_stopped(pycocoevalcap, monkeypatch, tmp_path):
    slow = tmp_path / "java"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(slow))
    monkeypatch.setattr(metrics, "METEOR_SECONDS", 0.2)
    with pytest.raises(OSError, match=r"stopped after 0\.2 seconds"):
        score_captions(PREDICTIONS, REFERENCES, ["METEOR"])


def test_meteor_that_fails_is_told_with_its_last_words(pycocoevalcap, monkeypatch, tmp_path):
    broken = tmp_path / "java"
    broken.write_text("#!/bin/sh\necho Could not reserve enough space >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken))
    with pytest.raises(OSError, match=r"\(status 1\): Could not reserve enough space"):
        score_captions(PREDICTIONS, REFERENCES, ["METEOR"])


@pytest.mark.slow
def test_meteor_is_what_pycocoevalcap_gives(pycocoevalcap):
    if shutil.which("java") is None:
        pytest.skip("there is no java")
    references = REFERENCES | {1: REFERENCES[1][:1]}  # the last two images have two each
    scores = score_captions(PREDICTIONS, references, ["METEOR"])
    assert scores == {"METEOR": pytest.approx(0.4493950116396862)}  # pycocoevalcap.meteor
    assert score_captions({}, references, ["METEOR"]) == {"METEOR": 0}


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
    monkeypatch.setattr(metrics, "score_captions", lambda p, r, m: seen.append(p) or {"CIDEr": 0.0})
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
    monkeypatch.setattr(metrics, "CHUNK", 7)
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
    monkeypatch.setattr(metrics, "CHUNK", 3)
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
    with pytest.raises(ValueError, match=says):
        nearest_neighbour_captions(np.ones((2, width)), np.ones((5, 3)), captions, neighbours)


def test_results_are_read_as_they_were_written(tmp_path):
    predictions = {391895: "a man\u2019s \u201chorse\u201d", 7: "", "dev/1.jpg": "\U0001f40e \\ \n"}
    file = tmp_path / "results.json"
    write_coco_results(file, predictions)
    assert read_coco_results(file) == predictions
    assert json.loads(file.read_text())[1] == {"image_id": 7, "caption": ""}
    write_coco_results(file, {np.int64(3): "a"})
    assert read_coco_results(file) == {3: "a"}
    file.write_text('[{"image_id": 3, "caption": "caf\u00e9"}]', encoding="utf-8-sig")
    assert read_coco_results(file) == {3: "caf\u00e9"}
    write_coco_results(file, {})
    assert read_coco_results(file) == {}


@pytest.mark.parametrize("wrong", [{1.5: "a"}, {True: "a"}, {1: None}, {None: "a"}])
def test_results_of_other_types_are_not_written(wrong, tmp_path):
    file = tmp_path / "results.json"
    write_coco_results(file, {1: "before"})
    with pytest.raises(TypeError):
        write_coco_results(file, {2: "good"} | wrong)
    assert read_coco_results(file) == {1: "before"}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"image_id": 1,\n "caption": "a",}]', "line 2, column 17"),
        ("", "line 1, column 1"),
        ('[{"image_id": 1, "caption": "a"}', "line 1, column 33"),
        ('{"annotations": [], "images": []}', "holds COCO annotations, expected COCO results"),
        ("3", "holds a JSON int"),
        ('["a man"]', 'entry 0 is "a man", expected'),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": 2}]', 'entry 1 is {"image_id": 2}'),
        ('[{"image_id": 1.5, "caption": "a"}]', "entry 0"),
        ('[{"image_id": true, "caption": "a"}]', "entry 0"),
        ('[{"image_id": 1, "caption": ["a"]}]', "entry 0"),
        (
            '[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]',
            "image_id 1 has two",
        ),
        ("[" * 100_000, "is not JSON"),
        ('[{"image_id": ' + "9" * 5000 + ', "caption": "a"}]', "is not JSON"),
    ],
)
def test_a_broken_result_file_is_described_in_one_sentence(text, says, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        read_coco_results(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_result_file_that_is_no_text_is_described(tmp_path):
    file = tmp_path / "results.json"
    file.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="is not JSON"):
        read_coco_results(file)
    with pytest.raises(FileNotFoundError):
        read_coco_results(tmp_path / "missing.json")


class Lines(list):
    """The image names of a split, which know their file."""

    path: Path


def built(folder, annotations):
    data = {
        "val_captions": np.array([[1, 4, 2, 0], [1, 5, 3, 2], [1, 5, 4, 2]], np.int32),
        "val_image_idxs": np.array([2, 0, 2], np.int32),
        "val_features": np.zeros((4, 3), np.float32),
        "val_urls": Lines("abcd"),
        "idx_to_word": ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"],
    }
    data["val_urls"].path = folder / "x_val_images.txt"
    if annotations is not None:
        (folder / "x_val_captions.json").write_text(annotations, encoding="utf-8")
    return data


def test_references_are_the_captions_decoded_where_only_ids_are_kept(tmp_path):
    data = built(tmp_path, None)
    assert references_by_image(data, "val") == {2: ["a", "dog a"], 0: ["dog <UNK>"]}
    data["val_urls"] = np.array(list("abcd"))
    assert references_by_image(data, "val") == {2: ["a", "dog a"], 0: ["dog <UNK>"]}


def test_references_are_the_sentences_as_written_where_these_are_kept(tmp_path):
    sentences = [(2, "A."), (0, "A dog, caf\u00e9!"), (2, "a dog")]
    entries = [{"image_id": image, "caption": text} for image, text in sentences]
    data = built(tmp_path, json.dumps({"annotations": entries}, ensure_ascii=False))
    assert references_by_image(data, "val") == {2: ["A.", "a dog"], 0: ["A dog, caf\u00e9!"]}


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ("{", "line 1, column 2"),
        ("[]", "annotation 0 is not the caption of an image from 0 to 3"),
        ('{"annotations": 3}', "annotation 0 is not"),
        ('{"annotations": [{"image_id": 4, "caption": "a"}]}', "annotation 0 is not"),
        ('{"annotations": [{"image_id": "2", "caption": "a"}]}', "annotation 0 is not"),
        ('{"annotations": [{"image_id": 2, "caption": 5}]}', "annotation 0 is not"),
    ],
)
def test_damaged_annotations_are_named(annotations, says, tmp_path):
    with pytest.raises(ValueError, match=rf"x_val_captions\.json: .*{says}"):
        references_by_image(built(tmp_path, annotations), "val")


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match="no split 'test', only val"):
        references_by_image(built(tmp_path, None), "test")
