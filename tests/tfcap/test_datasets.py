"""The command that builds, draws and inspects caption data."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from tfcap.data.coco import load_coco_data
from tfcap.datasets import main
from visualization import load_image


@pytest.fixture
def csv_folder(tmp_path, paths):
    folder = tmp_path / "my photos"
    folder.mkdir()
    rows = ["image,caption"]
    for number, path in enumerate(paths[:10]):
        os.link(path, folder / f"{number}.png")
        rows += [f"{number}.png,A tone of {word}." for word in ("red", "green")]
    (folder / "captions.csv").write_text("\n".join([*rows, "gone.png,lost", ""]))
    return folder


def test_the_command_builds_and_inspects_own_photographs(csv_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["build", str(csv_folder), "--out", str(out), "--min-count", "1"]) == 0
    told = capsys.readouterr().out
    assert "train        9 images        18 captions" in told
    assert "1 left out" in told
    assert "gone.png\tthere is no such image" in (out / "my-photos_left_out.txt").read_text()
    record = json.loads((out / "my-photos_build.json").read_text())
    assert record["kind"] == "CSV"
    assert record["seed"] == 0
    assert set(record["files"]) >= {"my-photos_captions.h5", "my-photos_train_squeezenet.h5"}

    assert main(["inspect", str(out), "--out", str(tmp_path / "seen")]) == 0
    told = capsys.readouterr().out
    assert "a tone of red" in told
    assert "squeezenet" in told
    record = json.loads((tmp_path / "seen" / "out-inspect.json").read_text())
    assert record["splits"]["train"] == {
        "images": 9,
        "captions": 18,
        "distinct_captions": 2,
        "images_without_caption": 0,
        "captions_per_image": 2.0,
        "words_per_caption": {"mean": 4.0, "most": 4},
        "share_unknown": 0.0,
        "feature_width": 512,
    }
    assert load_image(tmp_path / "seen" / "out-inspect.png").std() > 10


def test_captions_that_are_cut_and_words_that_are_rare_are_told(csv_folder, tmp_path, capsys):
    arguments = ["build", str(csv_folder), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--max-words", "4", "--min-count", "5"]) == 0
    told, warned = capsys.readouterr()
    assert "were cut" not in told
    assert not warned

    rows = [f"{number}.png,a b{number} c{number} d{number}" for number in range(10)]
    (csv_folder / "captions.csv").write_text("\n".join(["image,caption", *rows]))
    assert main([*arguments, "--max-words", "3"]) == 0
    told, warned = capsys.readouterr()
    assert "10 captions were cut after 3 words (--max-words)" in told
    assert "warning: more than half of the words are <UNK>" in warned
    assert "lower --min-count (now 5)" in warned
    record = json.loads((tmp_path / "out" / "my-photos_build.json").read_text())
    assert [found["captions_cut"] for found in record["splits"].values()] == [9, 1]


def test_captions_without_spaces_are_told_with_what_to_do(csv_folder, tmp_path, capsys):
    rows = [f"{number}.png,一只棕色的狗在草地上跑{number}" for number in range(10)]
    (csv_folder / "captions.csv").write_text("\n".join(["image,caption", *rows]), encoding="utf-8")
    arguments = ["build", str(csv_folder), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "separate their words by spaces" in capsys.readouterr().err
    assert main([*arguments, "--min-count", "1"]) == 0
    assert "warning: the captions have no spaces between their words" in capsys.readouterr().err


def test_a_set_without_val_is_built_and_told(csv_folder, tmp_path, capsys):
    rows = [f"{number}.png,a tone,{'test' if number > 6 else 'train'}" for number in range(10)]
    (csv_folder / "captions.csv").write_text("\n".join(["image,caption,split", *rows]))
    assert main(["build", str(csv_folder), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "no images are in val, without which only --overfit trains" in told
    data = load_coco_data(tmp_path / "out")
    assert [len(data[f"{split}_urls"]) for split in ("train", "test")] == [7, 3]
    assert "val_urls" not in data


def test_a_set_may_be_built_into_the_folder_of_its_photographs_again_and_again(csv_folder, capsys):
    for _ in range(2):
        assert main(["build", str(csv_folder), "--out", str(csv_folder), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    lines = (csv_folder / "my-photos_train_images.txt").read_text().splitlines()
    assert all((csv_folder / line).is_file() and "/" not in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["build", "/nowhere"], "/nowhere: there is no such folder or file"),
        (["build", "CSV", "--val-share", "2"], "the share of val is 2.0"),
        (["build", "CSV", "--name", "../x"], "--name ../x: expected letters"),
        (["build", "CSV", "--images", "/nowhere"], "--images /nowhere: there is no such folder"),
        (["inspect", "CSV"], "without features (captions.csv): build it with"),
        (["inspect", "/nowhere"], "/nowhere: there is no such folder"),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(
    csv_folder, tmp_path, capsys, arguments, expected
):
    arguments = [str(csv_folder) if one == "CSV" else one for one in arguments]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert len(told.splitlines()) == 1


def test_gigabytes_are_not_hashed_in_silence(csv_folder, tmp_path, monkeypatch):
    reported = []
    monkeypatch.setattr(
        "tfcap.datasets.progress", lambda *_: contextlib.nullcontext(reported.append)
    )
    out = ["--out", str(tmp_path / "set"), "--quiet"]
    assert main(["build", str(csv_folder), "--cells", *out]) == 0
    hashed = "sha256 of my-photos_train_squeezenet_cells.h5 (2 MB)"
    assert hashed in reported
    reported.clear()
    assert main(["inspect", str(tmp_path / "set"), "--out", str(tmp_path), "--quiet"]) == 0
    assert hashed in reported


def test_help_answers_without_tensorflow():
    code = "import sys; from tfcap.datasets import main\ntry: main(['build', '--help'])\n"
    code += "finally: assert 'tensorflow' not in sys.modules and 'matplotlib' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--min-count" in run.stdout
