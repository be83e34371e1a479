import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from visualization import load_image, network_specification
from visualization.backend import keras
from visualization.fool import main as fool
from visualization.saliency import main as saliency

OWN_MODEL = """
import keras

def bright():
    "Class 1 is a bright image; takes pixels of -1 to 1, blue first."
    model = keras.Sequential([
        keras.Input((20, 30, 3)), keras.layers.Conv2D(2, 1), keras.layers.GlobalAveragePooling2D(),
    ])
    kernel = keras.ops.convert_to_tensor([[[[0.0, 9.0], [0.0, 9.0], [0.0, 9.0]]]])
    model.layers[0].kernel.assign(kernel)
    return model, lambda pixels: pixels[..., ::-1] * 2 - 1, (0, 1), ["dark", "bright"]

def broken():
    return undefined

def nothing():
    return 7

def made(preprocess=lambda pixels: pixels, bounds=(0, 1), names=("dark", "bright")):
    return bright()[0], preprocess, bounds, names

def no_preprocess(): return made(preprocess=None)
def fails_on_pixels(): return made(preprocess=lambda pixels: pixels["red"])
def other_shape(): return made(preprocess=lambda pixels: pixels[..., 0])
def one_bound(): return made(bounds=255)
def turned_bounds(): return made(bounds=(255, 0))
def words_as_bounds(): return made(bounds=("black", "white"))
def too_few_names(): return made(names=["dark"])
def numbers_as_names(): return made(names=[0, 1])
def one_string(): return made(names="ab")
def no_names(): return made(names=None)
def no_scores():
    inputs = keras.Input((8, 8, 3))
    return (keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)), *made()[1:])

def leaves(): raise SystemExit("enough")

class Fails(keras.Model):
    def call(self, images):
        return images["red"]

def fails_when_called(): return (Fails(), *made()[1:])

class Mean(keras.Model):
    "Takes images of 6 by 9 only, but does not say so."
    def call(self, images):
        return keras.ops.reshape(images, (-1, 6 * 9 * 3))[:, :2]

def unsized(): return (Mean(), *made()[1:])
"""

AS_PROGRAMS_ARE_WRITTEN = """
from __future__ import annotations
import sys
from dataclasses import dataclass
import beside

@dataclass
class Settings:
    size: int = 8
    kind: beside.Kind = None

def model():
    import keras
    print("said by the user's model", file=sys.stderr)
    size = Settings().size
    layers = [keras.Input((size, size, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(layers), lambda pixels: pixels, (0, 1), ["a", "b"]
"""


@pytest.fixture
def folder(tmp_path, grace_hopper):
    """Four photographs, two of one name and one of the name that the second would get, and no image."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    Image.fromarray(grace_hopper).save(photographs / "a.png")
    Image.fromarray(grace_hopper).save(photographs / "a.jpg")
    Image.fromarray(grace_hopper).save(photographs / "a-2.png")
    Image.fromarray(grace_hopper[:, ::-1]).save(photographs / "c.png")
    (photographs / "b.jpg").write_bytes(b"no image")
    (photographs / "notes.txt").write_text("not looked at")
    return photographs


def test_one_photograph_gives_a_figure_and_a_record(tmp_path, capsys):
    assert saliency(["--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "grace_hopper-saliency.json").read_text())
    assert record["class"] == {"class": 457, "name": "bow tie, bow-tie, bowtie"}
    assert record["methods"] == ["saliency", "smoothgrad", "integrated-gradients", "grad-cam"]
    assert record["settings"] == {
        "smoothgrad": {"samples": 20, "noise": 0.15},
        "integrated-gradients": {"steps": 50},
    }
    assert abs(record["convergence_delta"]["integrated-gradients"]) < 2
    assert load_image(tmp_path / record["figure"]).shape[1] > 1500
    assert capsys.readouterr().err == ""


def test_maps_of_the_other_network_are_drawn_at_its_size_and_for_what_it_sees(tmp_path, lite2):
    arguments = ["--network", "efficientnet-lite2", "--method", "saliency", "--quiet"]
    assert saliency([*arguments, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "grace_hopper-saliency.json").read_text())
    assert record["network"]["network"] == "efficientnet-lite2"
    photograph = load_image(record["image"]["source"], 260)[None]
    scores = lite2(network_specification("efficientnet-lite2").to_input(photograph))
    assert record["class"]["class"] == record["seen_as"]["class"] == np.argmax(scores)
    assert record["methods"] == ["saliency"]


def test_a_class_and_a_layer_can_be_asked_for(tmp_path):
    methods = ["grad-cam", "layercam", "hirescam"]
    arguments = ["--class", "suit", "--method", *methods, "--layer", "fire5", "--quiet"]
    assert saliency([*arguments, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "grace_hopper-saliency.json").read_text())
    assert record["settings"] == {name: {"layer": "fire5"} for name in methods}
    assert record["class"]["class"] == 834
    assert record["seen_as"]["class"] == 457


def test_in_a_folder_a_bad_file_is_reported_and_skipped(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert saliency([str(folder), "--method", "saliency", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert "skipped:" in printed.err
    assert "b.jpg" in printed.err
    assert "1 of 5 images were skipped" in printed.err
    names = sorted(path.name for path in out.iterdir() if path.suffix == ".png")
    assert names == [f"{name}-saliency.png" for name in ("a-2", "a-3", "a", "c")]


def test_a_folder_of_photographs_can_be_fooled_with(folder, tmp_path):
    (folder / "b.jpg").unlink()
    out = tmp_path / "out"
    arguments = ["--target", "6", "--image", str(folder), "--quiet", "--out", str(out)]
    assert fool([*arguments, "--minimal"]) == 0
    records = [json.loads(path.read_text()) for path in out.glob("*.json")]
    assert len(records) == 4
    assert all(record["success"] for record in records)


@pytest.mark.slow
def test_the_evaluation_names_what_does_not_beat_random(tmp_path, capsys):
    arguments = ["--method", "grad-cam", "saliency", "--evaluate"]
    assert saliency([*arguments, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(record["auc"]) == {"grad-cam", "saliency", "random"}
    printed = capsys.readouterr().out
    for name, areas in record["auc"].items():
        if name != "random":
            line = next(line for line in printed.splitlines() if line.startswith(name))
            assert ("not better than random" in line) == (not areas["beats_random"])
    values = record["rank_correlations"]["grad-cam"]
    assert len(values) == 26
    assert (tmp_path / "evaluation.png").is_file()


def test_a_users_own_model_is_looked_at_and_fooled(tmp_path):
    (tmp_path / "own.py").write_text(OWN_MODEL)
    dark = np.full((40, 60, 3), 100, np.uint8)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    own = ["--model", f"{tmp_path / 'own.py'}:bright", "--quiet", "--out", str(tmp_path)]
    methods = ["grad-cam", "integrated-gradients", "occlusion", "rise"]
    assert saliency([str(tmp_path / "dark.png"), "--method", *methods, *own]) == 0
    record = json.loads((tmp_path / "dark-saliency.json").read_text())
    assert record["methods"] == methods
    assert record["settings"]["rise"] == {"masks": 4000}
    assert record["class"]["name"] == "dark"
    assert len(record["network"]["sha256"]) == 64
    assert fool(["--target", "bright", "--image", str(tmp_path / "dark.png"), *own]) == 0
    changed = load_image(tmp_path / "dark-bright.png")
    assert changed.shape == (20, 30, 3)
    assert changed.mean() > 127


def test_a_model_that_does_not_state_its_size_is_given_one(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN_MODEL)
    few = [
        "--method",
        "saliency",
        "--quiet",
        "--out",
        str(tmp_path),
        "--input-size",
        "6",
        "9",
        "--model",
    ]
    assert saliency([*few, f"{tmp_path / 'own.py'}:unsized"]) == 0
    assert saliency([*few, f"{tmp_path / 'own.py'}:bright"]) == 2
    assert "the model takes (20, 30), not --input-size 6 9" in capsys.readouterr().err


def test_weights_of_a_model_of_ones_own_are_sent_to_the_other_argument(tmp_path, capsys):
    whole = tmp_path / "whole.h5"
    with h5py.File(whole, "w") as file:
        file["model_weights/dense/kernel"] = np.zeros((3, 2), np.float32)
    assert saliency(["--weights", str(whole)]) == 2
    said = capsys.readouterr().err
    assert "is of another network" in said
    assert "for a model of your own, give --model FILE.py:FUNCTION" in said
    whole = tmp_path / "whole.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(whole)
    assert saliency(["--weights", str(whole)]) == 2
    assert "for a model of your own, give --model FILE.py:FUNCTION" in capsys.readouterr().err
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    for name in ("damaged.npz", "missing.h5"):
        assert saliency(["--weights", str(tmp_path / name)]) == 2
        assert "--model" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("nowhere.py:f", "there is no file nowhere.py"),
        ("own.py", "expected FILE.py:FUNCTION"),
        ("whole.keras", "expected FILE.py:FUNCTION, a function that builds your model"),
        ("own.py:missing", "own.py defines no function missing()"),
        ("own.py:broken", "own.py, line 14: NameError: name 'undefined'"),
        ("own.py:nothing", "expected a tuple"),
        (
            "own.py:no_preprocess",
            "preprocess is None, expected a function of pixels: for none, return",
        ),
        (
            "own.py:fails_on_pixels",
            "preprocess fails on a blank image (1, 20, 30, 3): own.py, line 23:",
        ),
        ("own.py:other_shape", "expected the same shape"),
        ("own.py:one_bound", "bounds are 255, expected the values of black and of white"),
        ("own.py:turned_bounds", "bounds are (255, 0), expected"),
        ("own.py:words_as_bounds", "bounds are ('black', 'white'), expected"),
        ("own.py:too_few_names", "the class names are ['dark'], expected a list of 2 strings"),
        ("own.py:numbers_as_names", "the class names are [0, 1], expected a list of 2 strings"),
        ("own.py:one_string", "the class names are 'ab', expected a list of 2 strings"),
        ("own.py:no_names", "the class names are None, expected a list of 2 strings"),
        ("own.py:no_scores", "expected scores of shape (N, classes)"),
        ("own.py:leaves", "own.py, line 36: SystemExit: enough"),
        (
            "own.py:fails_when_called",
            "the model fails on a blank image (1, 224, 224, 3): own.py, line",
        ),
    ],
)
def test_a_wrong_model_file_is_answered_in_a_sentence(
    spec, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN_MODEL)
    assert saliency(["--model", spec]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"python -m visualization.saliency: --model {spec}: ")
    assert sentence in printed
    assert len(printed.splitlines()) == 1


def test_a_model_file_is_run_as_a_program_is_and_may_say_something(tmp_path):
    """Annotations as text, a module beside it; TensorFlow is silenced, and it is not."""
    (tmp_path / "own.py").write_text(AS_PROGRAMS_ARE_WRITTEN)
    (tmp_path / "beside.py").write_text("class Kind: pass")
    command = ["--model", str(tmp_path / "own.py:model"), "--method", "saliency", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "visualization.saliency", *command, "--out", str(tmp_path)],
        cwd=Path(__file__).resolve().parent.parent.parent,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "said by the user's model\n")


def test_a_wrong_model_is_told_without_what_tensorflow_said(tmp_path):
    (tmp_path / "own.py").write_text(
        "import sys\nprint('mine', file=sys.stderr)\ndef f(): return 1 / 0"
    )
    done = subprocess.run(
        [sys.executable, "-m", "visualization.saliency", "--model", str(tmp_path / "own.py:f")],
        cwd=Path(__file__).resolve().parent.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert done.stderr.startswith("mine\npython -m visualization.saliency: --model ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["empty"], "is a folder without images"),
        (["nobody.jpg"], "no such image file"),
        (["nobody.jpg", "noone.jpg"], "none of the 2 images could be read"),
        (["--class", "crane"], "134"),
        (["--method", "magic"], "invalid choice"),
        (["--method", "saliency", "--layer", "fire9"], "--layer fire9 is for --method grad-cam"),
        (["--method", "grad-cam", "--layer", "fire99"], "computes no layer 'fire99'"),
        (["--model", "a.py:f", "--weights", "b.h5"], "not allowed with argument"),
        (["--input-size", "8", "8"], "--input-size 8 8 is for a --model that takes any size"),
        (["--seed", "-1"], "'-1' is not a whole number from 0 to 4,294,967,295"),
        (["--seed", "4294967296"], "'4294967296' is not a whole number"),
    ],
)
def test_wrong_input_exits_with_2(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    try:
        status = saliency(arguments)
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 235, "图" * 78, "x" * 98 + "图"])
def test_long_names_are_cut_and_told_apart(name, tmp_path, grace_hopper):
    for ending in (".png", "a.png", ".jpg"):
        Image.fromarray(grace_hopper).save(tmp_path / f"{name}{ending}")
    out = tmp_path / "out"
    arguments = ["--target", "457", "--image", str(tmp_path), "--quiet", "--out", str(out)]
    assert fool(arguments) == 0
    assert len(list(out.glob("*.json"))) == 3
    assert all(name.startswith(path.name[:33]) for path in out.iterdir())


def test_an_interruption_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    import os

    from visualization.cli.output import OutputFolder

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        OutputFolder(tmp_path).write("name", b"content")
    assert not list(tmp_path.iterdir())


def test_a_full_or_vanished_folder_leaves_no_half_written_file(tmp_path, monkeypatch, capsys):
    import os

    saliency(["--method", "saliency", "--quiet", "--out", str(tmp_path)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert saliency(["--method", "grad-cam", "--quiet", "--out", str(tmp_path)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shutil.rmtree(tmp_path)
