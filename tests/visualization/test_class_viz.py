import io
import json

import pytest
from PIL import Image

from visualization import (
    load_image,
    network_specification,
    predict_scores,
    preprocess_image,
)
from visualization.class_viz import main
from visualization.gradients import softmax

TARANTULA, GORILLA = 76, 366


@pytest.mark.slow
def test_the_command_writes_pictures_gif_and_record(tmp_path, capsys, squeezenet):
    arguments = ["--target", "gorilla", "hourglass", "--iterations", "40", "--gif", "run.gif"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "gorilla-hourglass.json").read_text())
    assert record["method"] == "fourier"
    assert record["gif"] == "run.gif"
    for entry, target in zip(record["classes"], (GORILLA, 604), strict=True):
        saved = load_image(tmp_path / entry["picture"])
        scores = predict_scores(squeezenet, preprocess_image(saved)[None])
        assert scores[0].argmax() == target
        assert softmax(scores)[0, target] == pytest.approx(entry["probability"], rel=1e-3)
        colours = saved / 255 - saved.mean(axis=2, keepdims=True) / 255
        assert 0.029 < colours.std() < 0.148  # as in nine of ten photographs of Flickr8k
    film = Image.open(io.BytesIO((tmp_path / "run.gif").read_bytes()))
    assert film.n_frames > 20
    assert film.size == (448, 224)
    assert "gorilla (366) at" in capsys.readouterr().out


def test_classes_of_one_name_get_pictures_of_their_own(tmp_path):
    arguments = ["--target", "638", "639", "638", "--iterations", "1", "--quiet"]
    assert main([*arguments, "--jitter", "3", "--out", str(tmp_path)]) in (0, 1)
    record = json.loads((tmp_path / "maillot-maillot-maillot.json").read_text())
    assert record["max_jitter"] == 3
    pictures = [entry["picture"] for entry in record["classes"]]
    assert pictures == ["maillot.png", "maillot-639.png", "maillot-638.png"]
    assert all((tmp_path / picture).is_file() for picture in pictures)


def test_a_picture_that_is_not_recognised_is_said_to_be_none(tmp_path, capsys):
    assert main(["--target", "76", "--iterations", "1", "--quiet", "--out", str(tmp_path)]) == 1
    assert "the network sees" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["tarantul", "1000"])
def test_wrong_classes_exit_with_2(target, capsys, tmp_path):
    assert main(["--target", "gorilla", target, "--out", str(tmp_path)]) == 2
    assert "there is no class" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_draws_for_either_network_and_says_what_the_other_sees(tmp_path, squeezenet, capsys):
    """After few steps, as the test of both at once shows that what is drawn is recognised."""
    arguments = ["--target", "tarantula", "--iterations", "4", "--network", "efficientnet-lite2"]
    main([*arguments, "--out", str(tmp_path)])
    assert " by squeezenet)" in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "tarantula.json").read_text())["classes"]
    saved = load_image(tmp_path / entry["picture"])
    assert saved.shape == (260, 260, 3)
    (other,) = entry["others"]
    X = network_specification("squeezenet").to_input(saved[None])
    probability = softmax(predict_scores(squeezenet, X))[0, TARANTULA]
    assert other["probability"] == pytest.approx(probability, rel=1e-3)


@pytest.mark.slow
def test_it_draws_for_both_networks_at_once_and_says_what_each_sees(tmp_path, squeezenet, lite2):
    both = {"squeezenet": squeezenet, "efficientnet-lite2": lite2}
    arguments = ["--target", "tarantula", "--iterations", "50", "--network", *both]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    (entry,) = json.loads((tmp_path / "tarantula.json").read_text())["classes"]
    saved = load_image(tmp_path / entry["picture"])
    assert saved.shape == (260, 260, 3)
    assert entry["others"] == []
    for one, (name, network) in zip(entry["networks"], both.items(), strict=True):
        assert one["network"]["network"] == name
        assert one["seen_as"]["class"] == TARANTULA
        X = network_specification(name).to_input(saved[None])
        probability = softmax(predict_scores(network, X))[0, TARANTULA]
        assert one["probability"] == pytest.approx(probability, rel=1e-3)


def test_each_network_that_does_not_recognise_a_joint_picture_is_named(tmp_path, capsys):
    both = ["squeezenet", "efficientnet-lite2"]
    arguments = ["--target", "76", "--iterations", "1", "--quiet", "--network", *both]
    assert main([*arguments, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" sees ")[0] for line in said] == both
