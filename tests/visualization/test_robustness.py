import json
import shutil

import numpy as np
import pytest
from PIL import Image

from visualization import load_image
from visualization.robustness import main

MODEL = """
import keras, numpy as np
def build():
    layers = [keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential(layers), lambda pixels: pixels / 255, (0, 255), ["red", "green", "blue"]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Photographs of one colour, by class; the last one is in the wrong folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODEL)
    colours = {
        "red/a": (60, 50, 50),
        "red/b": (90, 50, 50),
        "blue/a": (0, 0, 9),
        "blue/b": (9, 0, 0),
    }
    for name, colour in colours.items():
        path = tmp_path / "photographs" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(path)
    return tmp_path / "photographs"


def test_it_draws_accuracy_and_writes_the_distance_of_each_photograph(folder, tmp_path, capsys):
    settings = ["--model", "mine.py:build", "--norm", "linf", "--epsilon", "5", "25"]
    assert main([str(folder), *settings, "--out", str(tmp_path / "out")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:4] == [["0", "75.0%"], ["5", "50.0%"], ["25", "0.0%"]]
    record = json.loads((tmp_path / "out" / "robustness-linf.json").read_text())
    found = {one["source"].split("photographs/")[1]: one["distance"] for one in record["images"]}
    # half the difference to the next colour, and a level more
    assert found["red/a.png"] == 6
    assert found["red/b.png"] == 21
    assert found["blue/b.png"] == 0
    accuracy = {row["epsilon"]: row["accuracy"] for row in record["accuracy"]}
    assert accuracy[0] == 0.75
    distances = np.array(list(found.values()))
    assert accuracy[5] == np.mean(distances > 5)
    assert load_image(tmp_path / "out" / record["figure"]).shape[1] > 500


def test_without_classes_what_is_seen_counts_as_right(folder, tmp_path):
    shutil.copy(folder / "red" / "a.png", folder / "blue" / "c.png")
    settings = ["--model", "mine.py:build", "--norm", "linf", "--quiet"]
    assert main([str(folder / "blue"), *settings, "--out", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "robustness-linf.json").read_text())
    assert record["accuracy"][0] == {"epsilon": 0, "accuracy": 1.0}
    assert [one["seen_as"]["name"] for one in record["images"]] == ["blue", "red", "red"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "FOLDER"),
        (["photographs", "--norm", "l1"], "invalid choice: 'l1'"),
        (["photographs", "--epsilon", "-1"], "'-1' is not a number of at least 0"),
        (["photographs"], "there is no class 'blue'"),
        (["nowhere"], "nowhere"),
        (["photographs/red", "--steps", "0"], "'0' is not a whole number of at least 1"),
    ],
)
def test_wrong_input_is_answered_with_one_sentence_and_status_2(
    arguments, sentence, folder, capsys, monkeypatch
):
    monkeypatch.setattr("visualization.robustness.start_tensorflow", None)  # not reached
    try:
        status = main(arguments)
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert "Traceback" not in printed.err
