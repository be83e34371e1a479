import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visualization import (
    load_image,
    make_fooling_images,
    network_specification,
    preprocess_image,
)
from visualization.cli.network import Network
from visualization.fool import main
from visualization.gradients import softmax

ROOT = Path(__file__).resolve().parent.parent.parent
STINGRAY = 6


def test_the_command_writes_a_picture_that_fools_when_it_is_read_back(tmp_path, squeezenet, capsys):
    out = tmp_path / "new" / "folder"
    assert main(["--target", "stingray", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "bow tie (457) at 7" in printed.out
    assert "stingray (6)" in printed.out
    assert printed.err == ""

    record = json.loads((out / "grace_hopper-stingray.json").read_text())
    saved = load_image(out / record["fooling_image"])
    seen = squeezenet(preprocess_image(saved)[None]).numpy()[0]
    assert seen.argmax() == STINGRAY == record["after"]["class"]
    assert record["success"]
    assert not record["already"]
    assert record["before"]["name"] == "bow tie, bow-tie, bowtie"
    assert record["iterations"] + 1 == len(record["target_scores"])
    assert record["seed"] == 0
    assert {"tensorflow", "keras", "numpy", "python"} <= set(record["versions"])
    assert len(record["image"]["sha256"]) == len(record["network"]["sha256"]) == 64
    assert load_image(out / record["figure"]).shape[1] > 1000
    assert len(list(out.iterdir())) == 3


@pytest.mark.parametrize("way", ["jpeg", "resize"])
def test_the_picture_that_it_writes_survives_what_was_asked_for(way, tmp_path, squeezenet, capsys):
    arguments = ["--target", "stingray", "--survives", way, "--quality", "80"]
    assert main([*arguments, "--learning-rate", "4", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "grace_hopper-stingray.json").read_text())
    assert record["fooling_image"] == f"grace_hopper-stingray.{'jpg' if way == 'jpeg' else 'png'}"
    with Image.open(tmp_path / record["fooling_image"]) as picture:
        pictures = [picture.copy()]
    if way == "resize":
        pictures.append(pictures[0].resize((112, 112), Image.Resampling.BILINEAR))
        pictures[1] = pictures[1].resize((224, 224), Image.Resampling.BILINEAR)
        assert "resized  stingray (6) at " in capsys.readouterr().out
    for picture in pictures:
        X = preprocess_image(np.asarray(picture)[None])
        assert squeezenet(X).numpy().argmax() == STINGRAY
    assert record.get("quality") == (80 if way == "jpeg" else None)


def test_it_records_what_the_other_network_sees(tmp_path, squeezenet, lite2, capsys):
    arguments = ["--target", "stingray", "--network", "efficientnet-lite2"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert "other    squeezenet: bow tie (457) at " in capsys.readouterr().out
    record = json.loads((tmp_path / "grace_hopper-stingray.json").read_text())
    saved = load_image(tmp_path / record["fooling_image"])
    assert saved.shape == (260, 260, 3)
    assert record["network"]["network"] == "efficientnet-lite2"
    X = network_specification("efficientnet-lite2").to_input(saved[None])
    assert lite2(X).numpy().argmax() == STINGRAY == record["after"]["class"]
    (other,) = record["others"]
    assert other["network"]["network"] == "squeezenet"
    assert other["before"]["class"] == other["after"]["class"] == 457
    X = network_specification("squeezenet").to_input(saved[None])
    probabilities = softmax(squeezenet(X).numpy())[0]
    assert other["after"]["probability"] == pytest.approx(probabilities[457], rel=1e-3)
    assert other["after"]["target_probability"] == pytest.approx(probabilities[6], rel=1e-2)


@pytest.mark.slow
def test_one_picture_fools_both_networks_and_the_record_says_what_each_sees_in_it(tmp_path, capsys):
    both = ["squeezenet", "efficientnet-lite2"]
    assert main(["--target", "stingray", "--network", *both, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "grace_hopper-stingray.json").read_text())
    assert record["success"]
    assert record["others"] == []
    assert [one["network"]["network"] for one in record["networks"]] == both
    assert load_image(tmp_path / record["fooling_image"]).shape == (260, 260, 3)
    for one, name in zip(record["networks"], both, strict=True):
        assert f"after    {name}: stingray (6) at " in printed
        # what a command that is given the saved picture sees
        seen = network_of(name).probabilities(load_image(tmp_path / record["fooling_image"])[None])
        assert seen.argmax() == STINGRAY == one["after"]["class"]
        assert one["after"]["probability"] == pytest.approx(seen.max(), rel=1e-3)
        assert one["before"]["class"] != STINGRAY


def network_of(name):
    network = Network(argparse.Namespace(network=name, weights="imagenet", model=None))
    network.load()
    return network


def test_the_saved_picture_is_judged_and_not_what_the_loop_says(tmp_path, monkeypatch, capsys):
    def believing(images, targets, model, **settings):
        result = make_fooling_images(images, targets, model, **settings)
        return dataclasses.replace(result, images=images)

    monkeypatch.setattr("visualization.fooling.make_fooling_images", believing)
    assert main(["--target", "stingray", "--quiet", "--out", str(tmp_path)]) == 1
    assert "the network does not take" in capsys.readouterr().err


def test_two_runs_write_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        assert main(["--target", "6", "--quiet", "--out", str(tmp_path / name)]) == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_giving_up_exits_with_1_and_says_so(tmp_path, capsys):
    arguments = ["--target", "6", "--max-iter", "1", "--quiet", "--out", str(tmp_path)]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "does not take" in printed.err
    assert "--max-iter" in printed.err
    assert not json.loads((tmp_path / "grace_hopper-stingray.json").read_text())["success"]


def test_a_photograph_that_is_the_target_is_said_to_be(tmp_path, capsys):
    assert main(["--target", "457", "--out", str(tmp_path)]) == 0
    assert "already taken for the target" in capsys.readouterr().out
    assert json.loads((tmp_path / "grace_hopper-bow-tie.json").read_text())["already"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "1000"], "no class 1000"),
        (["--target", "stingrey"], "'stingray' (6)"),
        (["--target", "crane"], "134"),
        (["--target", "6", "--image", "nobody.jpg"], "no such image file"),
        (["--target", "6", "--image", "."], "is a folder without images"),
        (["--target", "6", "--image", __file__], "is not an image"),
        (["--target", "6", "--image", "http://127.0.0.1/x.png"], "not public"),
        (["--target", "6", "--out", __file__], "cannot be written"),
        (
            ["--target", "6", "--weights", "nobody.h5"],
            "nobody.h5",
        ),
        (["--target", "6", "--weights", __file__], "of no known format"),
        (["--target", "6", "--learning-rate", "-1"], "'-1' is not a number above 0"),
        (["--target", "6", "--learning-rate", "nan"], "'nan' is not a number above 0"),
        (["--target", "6", "--max-iter", "0"], "'0' is not a whole number of at least 1"),
        (["--target", "6", "--survives", "fax"], "invalid choice: 'fax'"),
        (["--target", "6", "--quality", "50"], "'50' is not a whole number from 75 to 95"),
        ([], "--target"),
        (["--target", "6", "--network", "vgg16"], "invalid choice: 'vgg16'"),
        (["--target", "6", "--network", "squeezenet", "squeezenet"], "name each network once"),
        (
            [
                "--target",
                "6",
                "--weights",
                "a.npz",
                "--network",
                "squeezenet",
                "efficientnet-lite2",
            ],
            "--weights a.npz is for one network, but --network names 2: name one, or leave --weights",
        ),
    ],
)
def test_wrong_input_is_answered_with_one_sentence_and_status_2(
    arguments, sentence, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("visualization.fool.start_tensorflow", None)  # not reached
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert "Traceback" not in printed.err
    assert printed.err.splitlines()[-1].startswith("python -m visualization.fool: ")


def python(*arguments, **environment):
    import os

    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_help_and_argument_errors_do_not_import_tensorflow():
    program = """
import sys, runpy
sys.argv = ["fool", *{arguments}]
try:
    runpy.run_module("visualization.fool", run_name="__main__")
except SystemExit as exit:
    print("status", exit.code)
print("loaded", "tensorflow" in sys.modules)
"""
    for arguments, status in ((["--help"], 0), (["--target", "6", "--seed", "-1"], 2)):
        done = python("-c", program.format(arguments=arguments))
        assert f"status {status}\nloaded False" in done.stdout


def test_the_command_as_a_process_prints_nothing_but_its_report(tmp_path):
    done = python("-m", "visualization.fool", "--target", "6", "--out", str(tmp_path))
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("image ")


@pytest.mark.parametrize("how", ["environment", "file"])
def test_another_keras_backend_is_told_in_one_sentence(how, tmp_path):
    if how == "environment":
        environment = {"KERAS_BACKEND": "jax"}
    else:
        (tmp_path / "keras.json").write_text('{"backend": "jax"}')
        environment = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": ""}
    out = str(tmp_path / "out")
    done = python("-m", "visualization.fool", "--target", "6", "--out", out, **environment)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "'jax'" in done.stderr
    assert "KERAS_BACKEND=tensorflow" in done.stderr

    done = python("-c", "from visualization import SqueezeNet", **environment)
    assert done.stderr.splitlines()[-1].startswith("ImportError: Keras is set to the backend 'jax'")
