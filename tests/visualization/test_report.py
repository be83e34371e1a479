import argparse
import base64
import json
import re

import numpy as np
import pytest
from PIL import Image

from visualization import grad_cam, network_specification, predict_probabilities
from visualization.cli.output import OutputFolder
from visualization.cli.reports import Reports
from visualization.cli.user_model import load_user_model
from visualization.faithfulness import compare_with_random
from visualization.images.reading import decode_image
from visualization.pages.photograph import View
from visualization.report import main as report

MODEL = """
import keras
def build():
    "The classes are red, green and blue."
    model = keras.Sequential([
        keras.Input((20, 30, 3)), keras.layers.Conv2D(3, 1), keras.layers.GlobalAveragePooling2D(),
    ])
    model.layers[0].kernel.assign(9 * keras.ops.reshape(keras.ops.eye(3), (1, 1, 3, 3)))
    return model, lambda pixels: pixels / 255, (0, 255), ["<i>red</i>", "green & grass", "<i>red</i>"]

def value():
    model = keras.Sequential([*build()[0].layers[:2], keras.layers.Dense(1)])
    return model, lambda pixels: pixels / 255, (0, 255), ["age"]
"""


@pytest.fixture
def photographs(tmp_path):
    """Two photographs and a file that is none."""
    folder = tmp_path / "private" / "photographs"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(256, size=(2, 40, 60, 3), dtype=np.uint8)
    for name, pixels in zip(("a", "b & c"), noise, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "b.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "private" / "mine.py"
    path.write_text(MODEL)
    return f"{path}:build"


def test_the_page_and_its_record_say_what_the_network_sees(photographs, mine, tmp_path, capsys):
    one = str(photographs / "a.png")
    out = tmp_path / "out"
    assert report([one, "--model", mine, "--classes", "3", "--out", str(out)]) == 0
    page = (out / "a-report.html").read_text("utf-8")
    record = json.loads((out / "a-report.json").read_text())
    assert "sees" in capsys.readouterr().out
    assert "<i>" not in page
    assert str(tmp_path) not in page  # nor anything else of the machine that wrote it
    assert record["image"]["sha256"] in page
    [network] = record["networks"]
    assert network["network"]["sha256"] in page

    model, own = load_user_model(mine)
    X = own.to_input(np.asarray(Image.open(one))[None])
    probabilities = predict_probabilities(model, X)[0]
    first = [int(label) for label in np.argsort(-probabilities)]
    assert [seen["class"] for seen in network["first_five"]] == first
    assert set(network["faithfulness"]) == {str(label) for label in first}
    maps = grad_cam(X, first[1], model)
    expected = compare_with_random(X, first[1], model, {"grad-cam": maps})["grad-cam"]
    found = network["faithfulness"][str(first[1])]["grad-cam"]
    assert found["deletion"] == pytest.approx(expected.deletion_auc, rel=1e-4)
    assert f"insertion {expected.insertion_auc:.3f}" in page
    choices = re.findall(r'<figure data-choice="(. .)"', page)
    assert len(set(choices)) == len(choices) == 3 * 4

    [fooling] = exact_pictures(page)
    nearest = network["nearest_fooling_image"]
    [after] = predict_probabilities(model, own.to_input(fooling[None]))
    assert np.argmax(after) == nearest["class"] != first[0]
    change = fooling.astype(float) - own.scaling().to_pixels(X)[0]
    assert nearest["l2"] == pytest.approx(np.linalg.norm(change))
    assert nearest["linf"] == np.abs(change).max()


def test_classes_of_one_name_are_told_apart():
    names = ["crane, bird", "crane, machine", "dog"]
    view = View(np.zeros((2, 3, 3), np.uint8), [1, 0, 2], names, np.full(3, 1 / 3), "softmax")
    assert [view.shown(label) for label in range(3)] == [
        "crane (0) 33.3%",
        "crane (1) 33.3%",
        "dog 33.3%",
    ]


def exact_pictures(page):
    """Those that can be saved from a page as they are."""
    found = re.findall(r"data:image/png;base64,([\w+/=]+)", page)
    return [decode_image(base64.b64decode(one), "picture") for one in found]


def test_a_folder_gets_an_index_that_leads_to_each_page(photographs, mine, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        report([str(photographs), "--model", mine, "--method", "saliency", "--out", str(out)]) == 1
    )
    assert "1 of 3 images were skipped" in capsys.readouterr().err
    index = (out / "index.html").read_text("utf-8")
    pages = re.findall(r'href="([^"#]+)"', index)
    assert pages == ["a-report.html", "b-c-report.html"]
    assert all((out / page).is_file() for page in pages)
    assert "b &amp; c.png" in index


def test_an_index_named_as_a_photographs_page_overwrites_none(tmp_path):
    arguments = argparse.Namespace(command="tfcap.caption", seed=0, quiet=True)
    index = {"page": "cat-report.html", "several": True}
    reports = Reports(arguments, OutputFolder(tmp_path), [], methods=[], **index)
    names = ("cat", "dog")
    pages = [
        reports.add(name, np.zeros((2, 2, 3), np.uint8), {"source": f"{name}.png", "sha256": ""})
        for name in names
    ]
    reports.write_index()
    for name, page in zip(names, pages, strict=True):
        assert f"<h1>{name}.png</h1>" in page.read_text("utf-8")
    text = (tmp_path / "cat-report.html").read_text("utf-8")
    assert re.findall(r'href="([^"#]+)"', text) == [page.name for page in pages]
    assert json.loads((tmp_path / "cat-report.json").read_text())["page"] == pages[0].name


def test_a_network_of_values_is_shown_without_classes_to_reach(photographs, mine, tmp_path):
    model = ["--model", mine.replace("build", "value"), "--quiet"]
    assert report([str(photographs / "a.png"), *model, "--out", str(tmp_path)]) == 0
    [network] = json.loads((tmp_path / "a-report.json").read_text())["networks"]
    assert "value" in network["first_five"][0]
    assert "nearest_fooling_image" not in network


@pytest.mark.slow
def test_both_bundled_networks_are_asked_and_the_page_is_small(tmp_path, squeezenet):
    methods = ["--method", "saliency", "grad-cam", "--quiet"]
    assert report([*methods, "--classes", "2", "--out", str(tmp_path)]) == 0
    page = tmp_path / "grace_hopper-report.html"
    assert page.stat().st_size < 3e6 / 2
    record = json.loads((tmp_path / "grace_hopper-report.json").read_text())
    first, other = record["networks"]
    assert first["first_five"][0]["name"] == "bow tie, bow-tie, bowtie"
    assert other["network"]["network"] == "efficientnet-lite2"
    assert other["faithfulness"] == {}
    [fooling] = exact_pictures(page.read_text())
    X = network_specification("squeezenet").to_input(fooling[None])
    label = first["nearest_fooling_image"]["class"]
    assert predict_probabilities(squeezenet, X)[0].argmax() == label != 457


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--classes", "6"], "'6' is not a whole number from 1 to 5"),
        (["nobody.jpg"], "no such image file"),
        (["--model", "mine.py:f", "--network", "squeezenet"], "are two networks"),
    ],
)
def test_wrong_input_exits_with_2_and_writes_nothing(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    try:
        status = report(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))
