import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tfcap import explain
from tfcap.caption import main as caption
from tfcap.data.features import encoder, image_features
from tfcap.metrics.results import read_coco_results
from tfcap.model import CaptioningRNN
from tfcap.plotting import caption_figure, explanation_figure
from visualization import grad_cam, load_image, preprocess_image
from visualization.backend import keras, tf
from visualization.plotting import png

WORDS = [
    "<NULL>",
    "<START>",
    "<END>",
    "<UNK>",
    "a",
    "dog",
    "runs",
    "on",
    "grass",
    "$5",
    "red",
    "cat",
]


@pytest.fixture(scope="module")
def captioner():
    """Untrained, with weights so large that its words depend on the photograph."""
    keras.utils.set_random_seed(3)
    model = CaptioningRNN(
        {word: idx for idx, word in enumerate(WORDS)}, 512, 8, 16, encoder="squeezenet"
    )
    for name in ("W_proj", "W_vocab"):
        variable = model.parameters[name]
        variable.assign(variable * (0.5 if name == "W_proj" else 8))
    model.parameters["b_vocab"].assign(-4 * np.eye(len(WORDS))[2])  # of <END>
    model.decoding["max_length"] = 7
    return model


@pytest.fixture(scope="module")
def model(captioner, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner")
    captioner.save_pretrained(folder)
    return folder


@pytest.fixture
def photographs(tmp_path, grace_hopper):
    """Two photographs and a file that is none."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.fromarray(grace_hopper).save(folder / "a.png")
    Image.fromarray(grace_hopper[:, ::-1, ::-1]).save(folder / "c.png")
    (folder / "b.jpg").write_bytes(b"no image")
    return folder


def run(*arguments):
    try:
        return caption([str(argument) for argument in arguments])
    except SystemExit as exit:
        return exit.code


def read(path):
    return json.loads(path.read_text("utf-8"))


def test_a_photograph_gets_its_likeliest_sentences(
    model, captioner, grace_hopper, tmp_path, capsys
):
    assert run("--model", model, "--n-best", 3, "--out", tmp_path) == 0
    record = read(tmp_path / "grace_hopper-caption.json")
    ids, log_p = captioner.beam_search(image_features(grace_hopper[None]), 3, 3, 7)
    said = [sentence["log_probability"] for sentence in record["sentences"]]
    np.testing.assert_allclose(said, log_p[0], rtol=1e-5)
    first = " ".join(WORDS[idx] for idx in ids[0, 0] if idx not in (0, 2))
    assert record["sentences"][0]["sentence"] == first
    assert list(read_coco_results(tmp_path / "captions.json").values()) == [first]
    assert load_image(tmp_path / record["figure"]).shape[0] > 900
    printed = capsys.readouterr()
    assert f"{record['figure']}: {first}" in printed.out
    assert printed.err == ""


def test_more_sentences_than_the_beam_is_wide_widen_it(model, tmp_path):
    assert run("--model", model, "--n-best", 5, "--quiet", "--out", tmp_path) == 0
    record = read(tmp_path / "grace_hopper-caption.json")
    assert record["decoding"]["beam_size"] == 5
    assert len(record["sentences"]) == 5


def test_in_a_folder_each_gets_its_figure_and_a_bad_file_is_skipped(
    model, photographs, tmp_path, capsys
):
    out = tmp_path / "out"
    assert run(photographs, "--model", model, "--out", out) == 1
    assert "1 of 3 images were skipped" in capsys.readouterr().err
    assert sorted(path.name for path in out.glob("*.png")) == ["a-caption.png", "c-caption.png"]
    assert len(read_coco_results(out / "captions.json")) == 2


def test_each_word_is_explained_and_the_explanation_tested(model, photographs, tmp_path, capsys):
    out = tmp_path / "out"
    (photographs / "b.jpg").unlink()
    assert run(photographs, "--model", model, "--explain", "--out", out) == 0
    record = read(out / "a-caption.json")
    explained = record["explanation"]
    sentence = record["sentences"][0]["sentence"]
    assert [word["word"] for word in explained["words"]] == sentence.split()
    assert load_image(out / explained["figure"]).shape[1] > 1500
    summary = read(out / "explanations.json")
    assert summary["photographs"] == 2
    falls = summary["falls_of_log_probability"]["words"]
    means = [
        np.mean([word["fall_when_hidden"] for word in read(path)["explanation"]["words"]])
        for path in sorted(out.glob("?-caption.json"))
    ]
    assert falls["own"] == pytest.approx(np.mean(means))
    assert f"{falls['own']:.3f}" in capsys.readouterr().out


def test_a_sentence_without_words_is_written_and_not_explained(captioner, tmp_path):
    silent = CaptioningRNN(captioner.word_to_idx, 512, 8, 16, encoder="squeezenet")
    silent.parameters["b_vocab"].assign(50 * np.eye(len(WORDS))[2])
    silent.save_pretrained(tmp_path / "silent")
    out = tmp_path / "out"
    assert run("--model", tmp_path / "silent", "--explain", "--quiet", "--out", out) == 0
    record = read(out / "grace_hopper-caption.json")
    assert record["sentences"][0]["sentence"] == ""
    assert record["explanation"] == {"words": []}


def test_log_probabilities_of_words_add_up_to_those_of_sentences(captioner, grace_hopper):
    features = image_features(np.stack([grace_hopper, grace_hopper[::-1]]))
    ids, log_p = captioner.beam_search(features, 4, 1, 7)
    words = explain.word_log_probabilities(captioner, features, ids[:, 0])
    np.testing.assert_allclose(words.sum(axis=1), log_p[:, 0], rtol=1e-4)


def test_the_maps_are_grad_cam_through_the_whole_network(captioner, grace_hopper):
    words = np.array([5, 6, 11, 8])

    @keras.saving.register_keras_serializable("test")
    class Words(keras.Model):
        """Scores are log p of each word."""

        def __init__(self):
            super().__init__()
            self.encoder, self.captioner = encoder(), captioner

        def call(self, images, training=False):
            features = self.encoder(images)
            before = tf.repeat([[1, *words[:-1]]], tf.shape(features)[0], axis=0)
            log_p = tf.nn.log_softmax(self.captioner((features, before)))
            return tf.stack([log_p[:, t, word] for t, word in enumerate(words)], axis=1)

    X = preprocess_image(np.repeat(grace_hopper[None], 4, axis=0))
    expected = grad_cam(X, np.arange(4), Words(), layer="fire9") * 169
    maps = explain.word_maps(captioner, grace_hopper, words)
    assert maps.max() > 0
    np.testing.assert_allclose(maps, expected, atol=5e-3 * expected.max())


def test_words_fall_more_when_their_own_region_is_hidden(captioner, grace_hopper):
    tested = []
    for image in (grace_hopper, grace_hopper[::-1], grace_hopper[:, ::-1, ::-1]):
        ids, _ = captioner.beam_search(image_features(image[None]), 3, 1, 7)
        words = ids[0, 0][ids[0, 0] > 2]
        maps = explain.word_maps(captioner, image, words)
        falls = explain.falls_when_hidden(captioner, image, words, maps)
        tested.append(([WORDS[idx] for idx in words], falls))
    result = explain.mean_falls(tested)
    assert result["own"] > 1.5 * abs(result["random"])
    assert result["words"] == sum(len(words) for words, _ in tested)


def test_the_region_is_the_square_of_the_largest_mean():
    maps = np.random.default_rng(0).random((3, 20, 30))
    for each, (top, left) in zip(maps, explain.regions(maps, 6), strict=True):
        means = {(i, k): each[i : i + 6, k : k + 6].mean() for i in range(15) for k in range(25)}
        assert max(means, key=means.get) == (top, left)


def test_only_the_region_is_hidden(grace_hopper):
    (hidden,) = explain.hide(grace_hopper, [(30, 50)], 64)
    changed = (hidden != grace_hopper).any(axis=-1)
    assert changed[30:94, 50:114].mean() > 0.9
    changed[30:94, 50:114] = False
    assert not changed.any()


def test_mean_falls_count_each_photograph_the_same_and_leave_words_out():
    one = explain.Falls(*np.array([[-1.0], [3.0], [np.nan], [1.0]]))
    two = explain.Falls(*np.array([[-1.0, -1.0], [1.0, 9.0], [0.5, 9.0], [2.0, 9.0]]))
    result = explain.mean_falls([(["dog"], one), (["cat", "a"], two)], leave_out=["a"])
    assert (result["own"], result["others"], result["random"]) == (2, 0.5, 1.5)
    assert result["gain"] == 0.5
    assert result["gain_error"] == pytest.approx(1.5)
    assert result["share_above_random"] == 0.5
    assert (result["photographs"], result["words"]) == (2, 2)
    assert explain.mean_falls([(["a"], one)], ["a"]) == {"photographs": 0, "words": 0}


def test_figures_hold_long_sentences_and_any_characters(grace_hopper):
    words = ["$x", "_{", "electroencephalographically"] * 10
    drawn = caption_figure(grace_hopper, [" ".join(words)] * 2, [-3.0, -4.0])
    assert png(drawn)
    tall = caption_figure(grace_hopper[:, :20], [""], [-1.0])
    assert png(tall)
    falls = explain.Falls(*np.zeros((4, 30)))
    maps, corners = np.zeros((30, 224, 224)), np.zeros((30, 2), int)
    drawn = explanation_figure(grace_hopper, words, maps, corners, falls)
    assert len(drawn.axes) >= 31
    assert png(drawn, dpi=30)


@pytest.mark.parametrize("words", [[0, 99], [-1], [[5]], [5.0], []])
def test_words_that_do_not_fit_are_refused(captioner, grace_hopper, words):
    with pytest.raises(ValueError, match="expected ids from 0 to 11"):
        explain.word_maps(captioner, grace_hopper, words)


def test_maps_that_do_not_fit_are_refused(captioner, grace_hopper):
    with pytest.raises(ValueError, match="one of the image's size for each word"):
        explain.falls_when_hidden(captioner, grace_hopper, [5], np.zeros((2, 224, 224)))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "train one with python -m tfcap.train"),
        (["--model", "nowhere"], "is not a captioner's folder"),
        (["--model", "other"], "cannot caption photographs"),
        (["--model", "damaged"], "damaged"),
        (["--model", "good", "--n-best", "5", "--beam", "3"], "received 5 with a beam of 3"),
        (["--model", "good", "--beam", "0"], "not a whole number from 1 to 1,000"),
        (
            ["--model", "good", "--beam", "1000000"],
            "--beam: '1000000' is not",
        ),
        (
            ["--model", "good", "--n-best", "1000000"],
            "--n-best: '1000000' is not",
        ),
        (["--model", "good", "nobody.jpg"], "no such image file"),
        (["--model", "good", "nobody.jpg", "noone.jpg"], "none of the 2 images could be read"),
    ],
)
def test_wrong_input_exits_with_2_and_writes_no_result(
    arguments, sentence, model, captioner, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "good")
    shutil.copytree(model, "damaged")
    (tmp_path / "damaged" / "model.weights.h5").write_bytes(b"nothing")
    CaptioningRNN(captioner.word_to_idx, 512, 8, 16, encoder="vgg16_fc7_pca").save_pretrained(
        "other"
    )
    assert run(*arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))
