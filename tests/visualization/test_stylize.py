import io
import json

import numpy as np
import pytest
from PIL import Image

from visualization import load_image, style, style_transfer
from visualization import stylize as command
from visualization.images.strokes import draw_strokes
from visualization.stylize import main

QUICK = ["--size", "64", "--iterations", "2"]
MODEL = """
import keras
def build():
    layers = [keras.Input((None, None, 3))]
    layers += [keras.layers.Conv2D(4, 3, name=f"conv{number}") for number in (1, 2, 3, 4)]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    return keras.Sequential(layers), lambda pixels: pixels / 255, (0, 255), ["cat", "dog"]
"""


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((150, 100), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def painting(tmp_path):
    path = tmp_path / "painting.png"
    Image.fromarray(draw_strokes(80, seed=5)).save(path)
    return path


@pytest.fixture
def stylize(tmp_path, capsys):
    """Runs the command, with a small model if not told otherwise: status, what it said, folder."""

    mine = tmp_path / "mine.py"
    mine.write_text(MODEL)

    def call(*arguments, network=("--model", f"{mine}:build")):
        out = tmp_path / "out"
        status = main([*QUICK, *map(str, arguments), *network, "--out", str(out)])
        return status, capsys.readouterr(), out

    return call


def test_it_paints_a_photograph_and_records_how(stylize, photo, painting):
    status, said, out = stylize(photo, painting, "--gif", "run.gif", network=())
    assert status == 0
    assert said.err == ""
    assert load_image(out / "photo-painting.png").shape == (64, 96, 3)
    record = json.loads((out / "photo-painting.json").read_text())
    assert record["picture"] == "photo-painting.png"
    assert record["image"]["source"] == str(photo)
    assert record["painting"]["source"] == str(painting)
    assert len(record["painting"]["sha256"]) == 64
    assert record["content_layer"] == "fire3"
    assert record["style_layers"] == ["conv1", "fire3", "fire5", "fire6"]
    assert record["strength"] == 1
    assert record["style_weights"] == [0.25] * 4
    assert len(record["before"]["first_five"]) == len(record["after"]["first_five"]) == 5
    assert record["others"][0]["network"]["network"] == "efficientnet-lite2"
    film = Image.open(io.BytesIO((out / "run.gif").read_bytes()))
    assert (film.n_frames, film.size) == (2, (96, 64))
    assert said.out.startswith(f"image    {photo}\nseen     squeezenet: ")


def test_without_arguments_it_paints_the_photograph_and_the_strokes_in_the_box(stylize):
    status, _, out = stylize("--seed", "3")
    assert status == 0
    record = json.loads((out / "grace_hopper-strokes.json").read_text())
    assert record["painting"]["seed"] == record["seed"] == 3
    assert record["painting"]["size"] == 64


@pytest.mark.parametrize(
    ("option", "name"),
    [("--invert", "photo-inverted"), ("--texture", "photo-texture-strokes")],
)
def test_inversions_and_textures_start_from_seeded_noise(stylize, photo, option, name):
    pictures = []
    for seed in (0, 0, 1):
        status, _, out = stylize(photo, option, "--seed", seed)
        assert status == 0
        pictures.append(load_image(out / f"{name}.png"))
    assert np.array_equal(pictures[0], pictures[1])
    assert np.abs(pictures[0].astype(int) - pictures[2]).mean() > 3
    record = json.loads((out / f"{name}.json").read_text())
    assert ("painting" in record) == (option == "--texture")
    assert (record["style_layers"] == []) == (option == "--invert")
    assert (record["content_weight"] == 0) == (option == "--texture")


def test_broad_strokes_are_painted_at_half_the_size_first(stylize, photo, monkeypatch):
    calls = []

    def noted(*images, **settings):
        calls.append(settings)
        return style_transfer(*images, **settings)

    monkeypatch.setattr(style, "style_transfer", noted)
    stylize(photo, "--strength", "2", "--iterations", "5")
    half, whole = calls
    assert (half["num_iterations"], whole["num_iterations"]) == (2, 3)
    assert (half["style_size"], whole["style_size"]) == (32, 64)
    assert sum(half["style_weights"]) > sum(whole["style_weights"]) == 2
    assert half["init_image"] is None
    assert whole["init_image"].shape == (32 + 16, 48 + 16, 3)  # with a margin
    for option, smoothing in {"--invert": 1, "--iterations=1": 0.3 / 2}.items():
        calls.clear()
        stylize(photo, option, "--strength", "0.5")
        assert len(calls) == 1
        assert calls[0]["tv_weight"] == smoothing


@pytest.mark.parametrize(
    ("known_up_to", "given", "taken"),
    [(1, (), 1), (0.5, (), 0.5), (0, (), 0.25), (0, ("--strength", "3"), 3)],
)
def test_it_paints_as_strongly_as_the_networks_still_know_the_photograph(
    stylize, photo, monkeypatch, known_up_to, given, taken
):
    tried = []

    def painted(network, settings, photo, painting, on_frame):
        strength = sum(settings["style_weights"])
        tried.append(strength)
        return photo if strength <= known_up_to else np.zeros_like(photo)

    monkeypatch.setattr(command, "_paint", painted)
    status, said, out = stylize(photo, *given, network=())
    assert status == 0
    assert tried[-1] == taken
    record = json.loads((out / "photo-strokes.json").read_text())
    assert record["strength"] == sum(record["style_weights"]) == taken
    assert record["tv_weight"] == pytest.approx(0.3 * min(taken, 1))
    assert ("strength" in said.out) == (len(tried) > 1)
    same = np.array_equal(load_image(out / "photo-strokes.png"), load_image(photo))
    assert same == (taken <= known_up_to)


def test_the_photograph_s_colours_are_kept_on_request(stylize, photo):
    _, _, out = stylize(photo, "--keep-colors")
    kept = Image.open(out / "photo-strokes.png").convert("YCbCr")
    original = Image.open(photo).resize((96, 64), Image.Resampling.BICUBIC).convert("YCbCr")
    change = np.abs(np.asarray(kept, int) - np.asarray(original, int))[..., 1:]
    assert change.mean() < 3


def test_it_paints_with_the_other_network(stylize, photo):
    status, _, out = stylize(photo, network=["--network", "efficientnet-lite2"])
    assert status == 0
    record = json.loads((out / "photo-strokes.json").read_text())
    assert record["network"]["network"] == "efficientnet-lite2"
    assert record["content_layer"] == "block5"


def test_it_paints_with_a_model_of_one_s_own_and_named_layers(stylize, photo):
    layers = ["--content-layer", "2", "--style-layers", "conv1", "1"]
    status, said, out = stylize(photo, *layers)
    assert status == 0
    record = json.loads((out / "photo-strokes.json").read_text())
    assert (record["content_layer"], record["style_layers"]) == (2, ["conv1", 1])
    assert record["others"] == []
    assert "seen     the model: " in said.out


def test_a_folder_is_painted_whole_and_what_cannot_be_read_is_skipped(stylize, photo, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.open(photo).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"nothing")
    status, said, out = stylize(folder)
    assert status == 1
    assert "b.png" in said.err
    assert (out / "a-strokes.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.jpg"], "missing.jpg"),
        (["PHOTO", "missing.jpg"], "missing.jpg"),
        (["PHOTO", "PHOTO", "--invert"], "--invert uses no painting"),
        (["PHOTO", "--gif", "a/run.gif"], "give a name only"),
        (["PHOTO", "--content-layer", "fire12"], "has no layer 'fire12'"),
        (["PHOTO", "--style-layers", "12"], "there is no layer 12"),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(stylize, photo, arguments, sentence):
    arguments = [str(photo) if text == "PHOTO" else text for text in arguments]
    status, said, out = stylize(*arguments)
    assert status == 2
    assert said.err.startswith("python -m visualization.stylize: ")
    assert said.err.count("\n") == 1
    assert sentence in said.err
    assert not out.exists() or not list(out.iterdir())


def test_a_gif_is_for_one_photograph(stylize, photo, painting, tmp_path):
    status, said, _ = stylize(tmp_path, "--gif", "run.gif")
    assert status == 2
    assert "--gif is for one photograph, but there are 2" in said.err


@pytest.mark.parametrize(
    "wrong", [["--size", "16"], ["--strength", "0"], ["--invert", "--texture"]], ids=str
)
def test_numbers_out_of_range_and_two_jobs_are_refused(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(wrong)
    assert capsys.readouterr().err


def test_help_has_an_example_and_names_what_it_does(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert "example: python -m visualization.stylize photo.jpg painting.jpg" in said
    assert "--keep-colors" in said
