import json
import re
import sys

import numpy as np
import pytest

from tests.tfcap.caption_folders import WIDTH, WORDS, write_built, write_course
from tfcap import CaptioningRNN, evaluate
from tfcap.data.coco import decode_captions, load_coco_data
from tfcap.metrics.baselines import copied_share, nearest_neighbour_captions, shuffled_cider
from tfcap.metrics.results import read_coco_results, references_by_image
from tfcap.metrics.scores import score_captions

pytest.importorskip("pycocoevalcap.bleu.bleu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small data folder and a captioner of random weights for it."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_built(folder / "data")
    captioner(folder / "captioner")
    return folder


def captioner(folder, encoder="squeezenet", width=WIDTH):
    words = {word: idx for idx, word in enumerate(WORDS)}
    model = CaptioningRNN(words, width, 5, 7, encoder=encoder, feature_std=0.1)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    model.save_pretrained(folder)


def run(folders, out, *more, data="data", model="captioner"):
    where = ["--data", str(folders / data), "--model", str(folders / model), "--out", str(out)]
    return evaluate.main([*where, *more])


def record(out, split="val"):
    return json.loads((out / f"{split}_evaluation.json").read_text())


def test_it_writes_sentences_and_their_scores(folders, tmp_path, capsys):
    assert run(folders, tmp_path) == 0
    predictions = read_coco_results(tmp_path / "val_predictions.json")
    data = load_coco_data(folders / "data")
    references = references_by_image(data, "val")
    assert list(predictions) == sorted(references)
    found = record(tmp_path)["results"]["captioner"]
    expected = score_captions(predictions, references)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["CIDEr, images shuffled"] == pytest.approx(shuffled_cider(predictions, references))
    training = decode_captions(data["train_captions"], WORDS)
    assert found["found in training"] == copied_share(predictions, training)
    table = capsys.readouterr().out
    assert f"{100 * expected['BLEU-1']:.1f}" in table
    assert "20 references, beam 3" in table


def test_sentences_are_those_of_the_captioner(folders, tmp_path):
    model = CaptioningRNN.from_pretrained(folders / "captioner")
    data = load_coco_data(folders / "data")
    images = sorted(references_by_image(data, "val"))
    features = data["val_features"][images]
    options = {"max_length": 9, "never_empty": True}
    greedy = decode_captions(model.sample(features, **options), WORDS)
    beams = model.beam_search(features, 2, length_penalty=0.7, **options)[0][:, 0]
    beam = decode_captions(beams, WORDS)
    assert greedy != beam
    assert all(greedy + beam)
    more = ["--max-length", "9", "--repeat", "--length-penalty", "0.7"]
    for expected, beams in ((greedy, "1"), (beam, "2")):
        assert run(folders, tmp_path, "--beam", beams, *more) == 0
        predictions = read_coco_results(tmp_path / "val_predictions.json")
        assert predictions == dict(zip(images, expected, strict=True))
        assert record(tmp_path)["decoding"]["beam_size"] == int(beams)


def test_drawn_sentences_are_those_of_the_captioner(folders, tmp_path, capsys):
    model = CaptioningRNN.from_pretrained(folders / "captioner")
    data = load_coco_data(folders / "data")
    images = sorted(references_by_image(data, "val"))
    options = {"temperature": 1.0, "top_p": 0.8, "seed": 5}
    ids = model.sample(
        data["val_features"][images], block_trigrams=True, never_empty=True, **options
    )
    assert run(folders, tmp_path, "--top-p", "0.8", "--seed", "5") == 0
    predictions = read_coco_results(tmp_path / "val_predictions.json")
    assert predictions == dict(zip(images, decode_captions(ids, WORDS), strict=True))
    assert "drawn at temperature 1" in capsys.readouterr().out


def test_many_images_are_worked_on_in_parts(folders, tmp_path, monkeypatch):
    assert run(folders, tmp_path / "whole") == 0
    monkeypatch.setattr(evaluate, "_ROWS", 3)
    assert run(folders, tmp_path / "parts") == 0
    whole, parts = (
        read_coco_results(tmp_path / f"{one}/val_predictions.json") for one in ("whole", "parts")
    )
    assert whole == parts
    assert record(tmp_path / "whole")["results"] == record(tmp_path / "parts")["results"]


def test_looked_up_sentences_are_scored_beside(folders, tmp_path):
    assert run(folders, tmp_path) == 0
    data = load_coco_data(folders / "data")
    references = references_by_image(data, "val")
    images, known = sorted(references), references_by_image(data, "train")
    found = nearest_neighbour_captions(data["val_features"][images], data["train_features"], known)
    scores = score_captions(dict(zip(images, found, strict=True)), references)
    looked_up = record(tmp_path)["results"]["looked up"]
    assert {name: looked_up[name] for name in scores} == pytest.approx(scores)
    assert looked_up["found in training"] == 1


def test_the_training_split_is_not_looked_up_in_itself(folders, tmp_path):
    assert run(folders, tmp_path, "--split", "train", "--beam", "1") == 0
    assert list(record(tmp_path, "train")["results"]) == ["captioner"]


def test_a_folder_without_training_captions_is_evaluated_alone(folders, tmp_path):
    write_built(tmp_path / "data", counts={"test": 20})
    assert run(folders, tmp_path / "out", "--split", "test", data=tmp_path / "data") == 0
    results = record(tmp_path / "out", "test")["results"]
    assert list(results) == ["captioner"]
    assert "found in training" not in results["captioner"]


def test_limit_draws_images_by_the_seed(folders, tmp_path):
    def images(*more):
        assert run(folders, tmp_path, "--limit", "5", "--beam", "1", *more) == 0
        return list(read_coco_results(tmp_path / "val_predictions.json"))

    first = images()
    assert len(first) == 5
    assert images("--seed", "0") == first
    assert images("--seed", "1") != first


def test_one_image_has_no_other_to_be_shuffled_with(folders, tmp_path, capsys):
    assert run(folders, tmp_path, "--limit", "1", "--beam", "1") == 0
    assert "CIDEr, images shuffled" not in record(tmp_path)["results"]["captioner"]
    assert "shuffled" not in capsys.readouterr().out


def test_sentences_as_written_are_the_references_where_the_folder_has_them(
    tmp_path, folders, capsys
):
    write_built(tmp_path / "data")
    assert run(folders, tmp_path, data=tmp_path / "data") == 0
    assert "decoded from ids" in capsys.readouterr().out
    annotations = tmp_path / "data" / "photos_val_captions.json"
    entries = [{"image_id": image, "caption": "A dog's life."} for image in (2, 5)]
    annotations.write_text(json.dumps({"annotations": entries}))
    assert run(folders, tmp_path, data=tmp_path / "data") == 0
    assert "decoded from ids" not in capsys.readouterr().out
    assert record(tmp_path)["references_from"] == str(annotations)
    assert record(tmp_path)["words_of_references"] == {"mean": 4, "fewest": 4, "most": 4}
    assert list(read_coco_results(tmp_path / "val_predictions.json")) == [2, 5]


def test_quiet_prints_nothing(folders, tmp_path, capsys):
    assert run(folders, tmp_path, "--quiet", "--beam", "1") == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def refused(capsys):
    """The one sentence on the standard error."""
    error = capsys.readouterr().err
    (line,) = error.splitlines()
    assert line.startswith("python -m tfcap.evaluate: ")
    return line


def test_features_of_another_width_are_refused(folders, tmp_path, capsys):
    captioner(tmp_path / "wide", width=WIDTH + 1)
    assert run(folders, tmp_path / "out", model=tmp_path / "wide") == 2
    assert re.search(r"takes 7 features of squeezenet.*holds 6 of squeezenet", refused(capsys))
    assert list((tmp_path / "out").iterdir()) == []


def test_features_of_another_encoder_are_refused(folders, tmp_path, capsys):
    write_course(tmp_path / "course")
    assert run(folders, tmp_path / "out", data=tmp_path / "course") == 2
    assert re.search(r"takes 6 features of squeezenet.*holds 6 of vgg16_fc7_pca", refused(capsys))


def test_a_captioner_that_names_no_encoder_takes_any(folders, tmp_path):
    captioner(tmp_path / "any", encoder=None)
    assert run(folders, tmp_path / "out", "--beam", "1", model=tmp_path / "any") == 0


def test_words_of_the_captioner_and_of_the_data_may_differ(folders, tmp_path):
    words = {word: idx for idx, word in enumerate([*WORDS[:4], "a", "dog"])}
    CaptioningRNN(words, WIDTH, 5, 7).save_pretrained(tmp_path / "other")
    assert run(folders, tmp_path, "--beam", "1", model=tmp_path / "other") == 0
    said = " ".join(read_coco_results(tmp_path / "val_predictions.json").values())
    assert set(said.split()) <= {"a", "dog"}


@pytest.mark.parametrize(
    ("more", "where", "says"),
    [
        (["--split", "test"], {}, "no split 'test', only train, val"),
        ([], {"data": "captioner"}, "captioner"),
        ([], {"data": "nothing"}, "nothing"),
        ([], {"model": "data"}, "is not a captioner's folder"),
    ],
)
def test_wrong_input_is_one_sentence(more, where, says, folders, tmp_path, capsys):
    assert run(folders, tmp_path, *more, **where) == 2
    assert says in refused(capsys)


@pytest.mark.parametrize("option", ["--beam", "--max-length"])
def test_a_number_that_would_take_all_memory_is_refused(folders, tmp_path, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        run(folders, tmp_path, option, "1001")
    assert (
        f"argument {option}: '1001' is not a whole number from 1 to 1,000"
        in capsys.readouterr().err
    )


def test_a_missing_scorer_is_told_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
    assert run(tmp_path, tmp_path / "out", data="nothing") == 2
    assert "pip install pycocoevalcap==1.2" in refused(capsys)
