import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tfcap.caption import main as caption
from tfcap.captioner import Captioner
from tfcap.data.features import image_features
from tfcap.explain import word_log_probabilities
from tfcap.metrics.results import read_coco_results
from tfcap.model import CaptioningRNN
from tfcap.pages import caption_section
from visualization import load_image
from visualization.cli.reports import Reports


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
    defaults = {"length_penalty": 1.0, "block_trigrams": True}
    ids, log_p = captioner.beam_search(image_features(grace_hopper[None]), 3, 3, 7, **defaults)
    said = [sentence["log_probability"] for sentence in record["sentences"]]
    np.testing.assert_allclose(said, log_p[0], rtol=1e-5)
    first = " ".join(captioner.idx_to_word[idx] for idx in ids[0, 0] if idx not in (0, 2))
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


def test_a_sentence_is_never_empty(captioner, tmp_path):
    silent = CaptioningRNN(captioner.word_to_idx, 512, 8, 16, encoder="squeezenet")
    silent.parameters["b_vocab"].assign(50 * np.eye(len(captioner.word_to_idx))[2])
    silent.save_pretrained(tmp_path / "silent")
    out = tmp_path / "out"
    options = ["--length-penalty", "0.7", "--quiet", "--out", out]
    assert run("--model", tmp_path / "silent", *options) == 0
    record = read(out / "grace_hopper-caption.json")
    assert record["sentences"][0]["sentence"].split()[1:] == []
    assert record["sentences"][0]["sentence"]
    assert record["decoding"]["block_trigrams"]
    assert record["decoding"]["length_penalty"] == 0.7


def test_sentences_are_drawn_by_the_seed_and_sorted(model, captioner, grace_hopper, tmp_path):
    options = ["--temperature", "2", "--n-best", 4, "--seed", 7, "--quiet", "--out", tmp_path]
    assert run("--model", model, *options) == 0
    record = read(tmp_path / "grace_hopper-caption.json")
    assert "beam_size" not in record["decoding"]
    said = [(one["sentence"], one["log_probability"]) for one in record["sentences"]]
    assert len({sentence for sentence, _ in said}) > 2
    assert said == sorted(said, key=lambda one: -one[1])

    features = image_features(grace_hopper[None])
    [found] = Captioner(captioner).sentences(features, 4, temperature=2.0, seed=7)
    assert said == [(sentence, log_p) for sentence, log_p, _ in found]
    for sentence, log_p, ids in found:
        assert sentence
        own = word_log_probabilities(captioner, features, ids[None]).sum()
        assert log_p == pytest.approx(own, rel=1e-4)
    [other] = Captioner(captioner).sentences(features, 4, temperature=2.0, seed=8)
    assert said != [(sentence, log_p) for sentence, log_p, _ in other]


def test_three_words_come_twice_only_where_they_may(captioner):
    stuck = CaptioningRNN(captioner.word_to_idx, 512, 8, 16, encoder="squeezenet")
    stuck.parameters["b_vocab"].assign(50 * np.eye(len(captioner.word_to_idx))[4])
    features, word = np.ones((1, 512), np.float32), captioner.idx_to_word[4]
    [[(default, *_)]] = Captioner(stuck).sentences(features)
    [[(free, *_)]] = Captioner(stuck).sentences(features, block_trigrams=False)
    assert free.split() == [word] * 30
    assert f"{word} {word} {word} {word}" not in default
    assert default.startswith(f"{word} {word}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "good", "--top-p", "0.9", "--beam", "3"], "give those of one kind"),
        (["--model", "good", "--temperature", "0"], "--temperature: '0' is not a number from 0.01"),
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


def test_a_page_has_the_sentence_and_a_look_for_each_word(model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setitem(Reports.__init__.__kwdefaults__, "methods", ["grad-cam"])  # to be quick
    options = ["--model", model, "--n-best", 2, "--quiet", "--out", out]
    assert run(*options, "--report", "page.html") == 0
    record = read(out / "grace_hopper-report.json")
    best, other = (one["sentence"] for one in record["sentences"])
    page = (out / "page.html").read_text("utf-8")
    assert f'<p class="sentence">{best}</p>' in page
    assert f'<th scope="row">{other}</th>' in page
    for number, word in enumerate(best.split(), 1):
        assert f"> {number}. {word}</label>" in page
    [network] = record["networks"]
    assert network["network"]["network"] == "squeezenet"


def test_the_look_of_a_word_is_the_brighter_the_more_the_captioner_looked(looking, grace_hopper):
    captioner = Captioner(looking)
    features = image_features(captioner.encoder.fit(grace_hopper)[None], captioner.encoder.name)
    [found] = captioner.sentences(features)
    body = caption_section(captioner, grace_hopper, found).body
    words = found[0][0].split()
    layers = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(layer))))
        for layer in re.findall(r'class="map"><img src="data:image/webp;base64,([^"]+)"', body)
    ]
    assert len(layers) == len(words) > 1
    [weights] = captioner.attention(features, found[0][2][None])
    middles = np.int32((np.arange(9) + 0.5) / 9 * 260)
    for layer, cells in zip(layers, weights, strict=False):
        strength = (layer[middles][:, middles, 3] / 255) ** 2
        assert np.corrcoef(strength.ravel(), cells.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("out/page.html", "give a name only"), ("captions.json", "give it a name with .html")],
)
def test_a_page_whose_name_is_no_pages_name_is_refused(name, sentence, tmp_path, capsys):
    assert run("--report", name, "--out", tmp_path) == 2
    assert sentence in capsys.readouterr().err
