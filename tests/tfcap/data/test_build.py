"""Sets are built from photographs: complete, resumable, and never half-replaced."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from tfcap.data.build import build_dataset, feature_bytes, make_shapes
from tfcap.data.coco import decode_captions, load_coco_data
from tfcap.data.features import image_features
from tfcap.data.sources import CaptionSource, Photograph
from tfcap.metrics.results import references_by_image
from visualization import load_image


def source(paths, **changes):
    def photographs(first, last):
        return [
            Photograph(path, [f"A red dog number {i}.", "Two dogs, one cat!"])
            for i, path in enumerate(paths[first:last], first)
        ]

    return CaptionSource("test", {"train": photographs(0, 6), "val": photographs(6, 9)} | changes)


def test_what_is_built_is_read_by_load_coco_data(tmp_path, paths):
    build_dataset(source(paths), tmp_path, "mine", min_count=6)
    data = load_coco_data(tmp_path)
    assert data["encoder"] == "squeezenet"
    words = " ".join(data["idx_to_word"])
    assert words == "<NULL> <START> <END> <UNK> a cat dog dogs number one red two"
    assert data["train_captions"].shape == (12, 7)
    assert decode_captions(data["train_captions"][:2], data["idx_to_word"]) == [
        "a red dog number <UNK>",
        "two dogs one cat",
    ]
    assert np.asarray(data["val_image_idxs"]).tolist() == [0, 0, 1, 1, 2, 2]
    assert list(data["val_urls"][:]) == paths[6:9]
    pixels = np.stack([load_image(path, 224) for path in paths[6:9]])
    np.testing.assert_allclose(data["val_features"][:], image_features(pixels), atol=1e-4)


def test_cells_and_views_of_them_are_written_where_asked(tmp_path, paths):
    encoder = "efficientnet_lite2_cells"
    record = build_dataset(source(paths), tmp_path, "mine", encoder=encoder, views=2, seed=5)
    assert (record["encoder"], record["views"]) == (encoder, 2)
    data = load_coco_data(tmp_path)
    assert data["encoder"] == encoder
    count = len(data["train_features"])
    assert data["train_features"].shape == (count, 81, 352)
    assert data["train_views"].shape == (count, 2, 81, 352)
    assert "val_views" not in data
    stored = sum(path.stat().st_size for path in tmp_path.glob("*.h5"))
    needed = feature_bytes(source(paths), encoder, views=2)
    assert needed == pytest.approx(stored, rel=0.05)


def test_images_that_cannot_be_read_are_left_out_with_their_captions(tmp_path, paths):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"<html>not here</html>")
    mine = [paths[0], str(broken), str(tmp_path / "gone.jpg"), *paths[1:7]]
    record = build_dataset(source(mine), tmp_path / "out", "mine", min_count=1)
    data = load_coco_data(tmp_path / "out")
    assert list(data["train_urls"][:]) == [paths[0], *paths[1:4]]
    assert np.asarray(data["train_image_idxs"]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    numbers = [text.split()[-1] for text in _texts(data)[::2]]
    assert numbers == ["0", "3", "4", "5"]
    lines = (tmp_path / "out" / "mine_left_out.txt").read_text().splitlines()
    assert len(lines) == record["left_out"] == 2
    assert "is a web page (HTML), not an image" in lines[0]
    assert "there is no such image file" in lines[1]


def _texts(data):
    return decode_captions(np.asarray(data["train_captions"]), data["idx_to_word"])


def test_long_captions_are_cut_and_ended(tmp_path, paths):
    build_dataset(source(paths), tmp_path, "mine", min_count=1, max_words=3)
    data = load_coco_data(tmp_path)
    assert data["train_captions"].shape[1] == 5
    assert _texts(data)[:2] == ["a red dog", "two dogs one"]
    assert (np.asarray(data["train_captions"])[:, 4] == 2).all()


def test_the_sentences_stay_as_they_were_written_in_cocos_form(tmp_path, paths):
    build_dataset(source(paths), tmp_path, "mine", max_words=3)
    content = json.loads((tmp_path / "mine_val_captions.json").read_text())
    assert [one["file_name"] for one in content["images"]] == paths[6:9]
    assert content["annotations"][2] == {
        "id": 2,
        "image_id": 1,
        "caption": "A red dog number 7.",
    }


def test_a_vocabulary_without_words_is_refused_before_anything_is_computed(tmp_path, paths):
    four = source(paths, train=[Photograph(path, ["a dog"]) for path in paths[:4]])
    with pytest.raises(ValueError, match=r"no word occurs 5 times in the 4 .*: lower --min-count"):
        build_dataset(four, tmp_path, "mine")
    assert not list(tmp_path.iterdir())
    build_dataset(four, tmp_path, "mine", min_count=4)
    assert load_coco_data(tmp_path)["idx_to_word"][4:] == ["a", "dog"]


def test_a_split_of_which_nothing_can_be_read_is_named(tmp_path, paths):
    broken = source(paths, val=[Photograph(str(tmp_path / "gone.jpg"), ["a dog"])])
    with pytest.raises(ValueError, match=r"none of the 1 photographs in val can be read \(.*gone"):
        build_dataset(broken, tmp_path / "out", "mine")


def test_another_threshold_does_not_compute_the_features_again(tmp_path, paths, monkeypatch):
    build_dataset(source(paths), tmp_path, "mine", min_count=1)
    monkeypatch.setattr("tfcap.data.feature_files.read_images", None)
    record = build_dataset(source(paths), tmp_path, "mine", min_count=6)
    assert record["vocabulary"] == len(load_coco_data(tmp_path)["idx_to_word"]) == 12


def test_an_older_set_stays_whole_while_a_new_one_is_built(tmp_path, paths, monkeypatch):
    build_dataset(source(paths), tmp_path, "mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfcap.data.build._captions_hdf5", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_dataset(source(paths[20:]), tmp_path, "mine")
    for name, content in before.items():
        assert name.endswith("progress.json") or (tmp_path / name).read_bytes() == content
    monkeypatch.undo()
    build_dataset(source(paths[20:]), tmp_path, "mine")
    assert list(load_coco_data(tmp_path)["val_urls"][:]) == paths[26:29]
    assert {path.name for path in tmp_path.iterdir()} == set(before)


def held(folder):
    """All that a folder holds, or why it cannot be read."""
    try:
        data = load_coco_data(folder)
    except (ValueError, OSError) as error:
        return str(error)
    parts = [data[f"{split}_{key}"][:].tolist() for split in ("train", "val") for key in PARTS]
    return [*parts, data["idx_to_word"], references_by_image(data, "train")]


PARTS = ("captions", "image_idxs", "features", "urls")


def fail_at(monkeypatch, step, error):
    """Lets one of the writes, renames and removals fail; returns those that were tried."""
    tried = []

    def counted(function):
        def call(*arguments, **options):
            tried.append(function.__name__)
            if len(tried) == step:
                raise error
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(tempfile, "mkstemp", counted(tempfile.mkstemp))
    for name in ("write_text", "unlink"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    return tried


def test_a_set_that_is_half_replaced_is_told_and_never_mispaired(tmp_path, paths, monkeypatch):
    errors = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
    old, new = source(paths), source(paths[20:])
    before, filled = tmp_path / "before", tmp_path / "filled"
    build_dataset(new, tmp_path / "after", "mine", min_count=1)
    build_dataset(old, before, "mine", min_count=1)
    shutil.copytree(before, filled)
    with monkeypatch.context() as patched:
        patched.setattr("tfcap.data.build._captions_hdf5", _stop)
        with pytest.raises(RuntimeError):
            build_dataset(new, filled, "mine", min_count=1)
    whole = {name: held(tmp_path / name) for name in ("before", "after")}
    names = {path.name for path in (tmp_path / "after").iterdir()}
    outcomes = []
    for step in range(1, 100):
        folder = tmp_path / str(step)
        shutil.copytree(filled, folder)
        error = errors[step % 2]
        with monkeypatch.context() as patched:
            tried = fail_at(patched, step, error)
            with contextlib.suppress(type(error)):
                build_dataset(new, folder, "mine", min_count=1)
        left = held(folder)
        outcomes.append(
            next((name for name, content in whole.items() if left == content), "neither")
        )
        if outcomes[-1] == "neither":
            assert "looks like a set whose building was interrupted" in left
        if len(tried) < step:
            break
        build_dataset(new, folder, "mine", min_count=1)
        assert held(folder) == whole["after"]
        assert {path.name for path in folder.iterdir() if path.name[0] != "."} == names
    order = ["before", "neither", "after"]
    assert sorted(outcomes, key=order.index) == outcomes
    assert {*outcomes} == {*order}
    assert outcomes.count("before") > 8
    assert outcomes.count("neither") > 8


def _stop(*_):
    raise RuntimeError


KILLED = """
import sys
from tfcap.data import build, feature_files
feature_files._BETWEEN_COMMITS = 1
build.make_shapes(sys.argv[1], train=96, val=4)
"""


def test_a_killed_process_goes_on_and_makes_the_same_files(tmp_path):
    running = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "killed")])
    progress = tmp_path / "killed" / "shapes_train_squeezenet.progress.json"
    while not progress.exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert 0 < json.loads(progress.read_text())["done"] < 96
    for name in ("killed", "whole"):
        make_shapes(tmp_path / name, train=96, val=4)
    for path in (tmp_path / "whole").glob("*.h5"):
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


def test_a_folder_holds_one_set(tmp_path, paths):
    build_dataset(source(paths), tmp_path, "mine")
    with pytest.raises(ValueError, match="holds the set mine already"):
        build_dataset(source(paths), tmp_path, "yours")


def test_a_set_without_training_photographs_is_refused(tmp_path, paths):
    with pytest.raises(
        ValueError, match="no photograph with a caption in the training split, only in"
    ):
        build_dataset(source(paths, train=[]), tmp_path, "mine")


# ---- shapes


@pytest.fixture(scope="module")
def shapes_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, train=300, val=100)
    return folder


def test_the_pictures_of_the_shapes_lie_in_the_folder_which_may_be_moved(shapes_folder, tmp_path):
    os.symlink(shapes_folder, tmp_path / "elsewhere")
    data = load_coco_data(tmp_path / "elsewhere")
    first = data["val_urls"][0]
    assert first == str(tmp_path / "elsewhere" / "shapes_images" / "val_00000.jpg")
    features = image_features(load_image(first, 224)[None])
    np.testing.assert_allclose(data["val_features"][:1], features, rtol=1e-4, atol=1e-4)


def test_held_out_pairs_are_in_every_second_picture_of_val_and_not_in_train(shapes_folder):
    held_out = json.loads((shapes_folder / "shapes_build.json").read_text())["held_out"]
    assert len(held_out) == 8
    data = load_coco_data(shapes_folder)
    assert not any(pair in text for text in _texts(data) for pair in held_out)
    val = decode_captions(np.asarray(data["val_captions"]), data["idx_to_word"])
    shown = [
        any(pair in text for text in val[i : i + 5] for pair in held_out) for i in range(0, 500, 5)
    ]
    assert sum(shown[1::2]) > 45
    assert not any(shown[::2])
    assert "<UNK>" not in " ".join(val)


def test_the_features_tell_the_colours_the_shapes_and_the_sizes(shapes_folder):
    data = load_coco_data(shapes_folder)
    texts = np.array(_texts(data)).reshape(300, 5)
    features = data["train_features"][:]
    features = (features - features.mean(0)) / (features.std(0) + 1e-3)
    features = np.concatenate([features, np.ones((300, 1))], axis=1)
    fitted, tested = features[:240], features[240:]
    right = []
    for word in ("circle", "star", "heart", "above", "left", "yellow", "white"):
        there = np.array([any(word in text.split() for text in many) for many in texts])
        weights = np.linalg.solve(
            fitted.T @ fitted + 100 * np.eye(513), fitted.T @ (2.0 * there[:240] - 1)
        )
        right.append(((tested @ weights > 0) == there[240:]).mean())
    assert np.mean(right) > 0.85, right


def test_the_same_seed_makes_the_same_set(shapes_folder, tmp_path):
    make_shapes(tmp_path / "a", train=8, val=4)
    make_shapes(tmp_path / "b", train=8, val=4)
    assert make_shapes(tmp_path / "c", train=8, val=4, seed=1)["seed"] == 1
    for name in ("shapes_train_squeezenet.h5", "shapes_captions.h5", "shapes_images/val_00001.jpg"):
        first, again, other = ((tmp_path / one / name).read_bytes() for one in "abc")
        assert first == again != other


def test_it_is_said_if_the_name_of_a_file_made_the_split(paths, tmp_path):
    splits = {"val": [Photograph(paths[0], ["A dog."])]}
    lone = CaptionSource("COCO", splits, [tmp_path / "captions_val2017.json"])
    with pytest.raises(
        ValueError, match=r"only in val, as the name of captions_val2017\.json says"
    ):
        build_dataset(lone, tmp_path, "mine")
