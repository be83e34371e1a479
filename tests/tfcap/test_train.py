"""The training command: what it writes, how it goes on, and what it refuses."""

import csv
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tfcap import train, training
from tfcap.data import shapes
from tfcap.data.coco import load_coco_data
from tfcap.model import CaptioningRNN
from tfcap.train_state import STATE_FILE, SavedState, fingerprint

from . import caption_folders

PROJECT = Path(__file__).parent.parent.parent
SMALL = ["--hidden-dim", "16", "--wordvec-dim", "8", "--batch-size", "31", "--patience", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("captions")
    caption_folders.write_built(path)
    return path


def run(folder, out, *options):
    return train.main(["--data", str(folder), "--out", str(out), *SMALL, *options])


def losses(out):
    with (out / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def record(out):
    return json.loads((out / "train.json").read_text())


def in_a_process(folder, out, *options, **environment):
    """The command in a process of its own, not waited for."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tfcap.train", "--data", folder, "--out", out),
            *SMALL,
            *options,
        ],
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """Two epochs of seven steps."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(folder, out, "--epochs", "2") == 0
    return out


@pytest.fixture
def trains_at_once(monkeypatch):
    """An epoch in no time."""

    def epochs(trainer, report):
        results = {"epoch": 1, "loss": 2.0, "val_loss": 1.0}
        trainer.state.losses, trainer.state.history, trainer.state.epoch = [2.0], [results], 1
        yield results

    monkeypatch.setattr(training.Trainer, "epochs", epochs)


def test_a_run_writes_a_captioner_its_losses_their_picture_and_a_record(folder, undisturbed):
    model = CaptioningRNN.from_pretrained(undisturbed)
    assert model.encoder == "squeezenet"
    assert model.sample(np.zeros((2, caption_folders.WIDTH))).shape == (2, 30)
    assert len(losses(undisturbed)) == 15
    assert (undisturbed / "losses.png").read_bytes().startswith(b"\x89PNG")
    written = record(undisturbed)
    assert [epoch["epoch"] for epoch in written["history"]] == [1, 2]
    assert {"loss", "val_loss", "CIDEr", "seconds"} <= written["history"][0].keys()
    expected = fingerprint(load_coco_data(folder))
    assert written["data"] == {"folder": str(folder), "fingerprint": expected}


def test_settings_reach_the_trainer_and_its_data(folder, tmp_path, monkeypatch):
    def stop(trainer, report):
        trainers.append(trainer)
        raise KeyboardInterrupt

    trainers = []
    monkeypatch.setattr(training.Trainer, "epochs", stop)
    options = {"cell": "rnn", "hidden-dim": 12, "wordvec-dim": 7, "epochs": 2, "batch-size": 25}
    options |= {"learning-rate": 0.01, "decay": 0.5, "dropout": 0.25, "weight-decay": 0.125}
    options |= {"clip-norm": 2.5, "label-smoothing": 0.0625, "precision": "mixed_bfloat16"}
    options |= {"max-train": 50, "seed": 3, "patience": 4}
    given = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    assert run(folder, tmp_path / "out", *given, "--save-every", "7") == 130
    (trainer,) = trainers
    for key, value in options.items():
        assert getattr(trainer.config, key.replace("-", "_")) == value
    assert trainer.save_every == 7
    drawn = load_coco_data(folder, 50, seed=3)["train_captions"]
    np.testing.assert_array_equal(trainer.data["train_captions"], drawn)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_been(folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = in_a_process(folder, out, "--epochs", "2", "--save-every", "0")
    while process.poll() is None and not (out / STATE_FILE).exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "losses.csv").exists()
    assert run(folder, out, "--resume", "--epochs", "2") == 0
    np.testing.assert_allclose(losses(out), losses(undisturbed), rtol=1e-5)


def test_a_run_killed_before_it_wrote_its_last_results_writes_them_and_can_be_made_longer(
    folder, undisturbed, tmp_path, monkeypatch
):
    def kill(*arguments):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr(train, "_write_results", kill)
    assert run(folder, out, "--epochs", "1") == 130
    monkeypatch.undo()
    assert not (out / "losses.csv").exists()
    assert run(folder, out, "--epochs", "1", "--resume") == 0
    np.testing.assert_allclose(losses(out), losses(undisturbed)[:7], rtol=1e-5)
    assert {"losses.png", "train.json"} <= {path.name for path in out.iterdir()}
    assert run(folder, out, "--epochs", "2", "--resume") == 0
    np.testing.assert_allclose(losses(out), losses(undisturbed), rtol=1e-5)


def test_a_run_of_the_first_version_goes_on_as_it_would_have(tmp_path):
    first = PROJECT / "tests" / "first_wave"
    out = tmp_path / "run"
    shutil.copytree(first / "run", out)
    options = ["--data", str(first / "data"), "--out", str(out), "--resume", "--epochs", "3"]
    assert train.main(options) == 0
    expected = losses_in(first / "resumed_losses.csv")
    assert len(expected) == 9
    np.testing.assert_allclose(losses(out), expected, atol=1e-4)
    assert [epoch["epoch"] for epoch in record(out)["history"]] == [1, 2, 3]


def losses_in(path):
    return np.loadtxt(path, delimiter=",", skiprows=1)[:, 1]


@pytest.mark.slow
def test_two_workers_train_as_one_from_one_state(folder, tmp_path):
    options = "--dropout", "0", "--clip-norm", "1"
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(folder, one, "--epochs", "1", *options) == 0
    shutil.copytree(one, two)
    assert run(folder, one, "--epochs", "2", "--resume") == 0
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("localhost", 0))
        cluster = {"worker": [f"localhost:{each.getsockname()[1]}" for each in (first, second)]}
    workers = [
        in_a_process(
            folder,
            two,
            *("--strategy", "multi-worker", "--resume", "--epochs", "2"),
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]
    printed = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    assert "epoch" in printed[0][0]
    assert not printed[1][0]
    np.testing.assert_allclose(losses(two), losses(one), atol=1e-4)
    states = [SavedState.read(out) for out in (one, two)]
    with np.load(one / STATE_FILE) as file:
        shapes = [file[f"variable {k}"].shape for k in range(len(file.files) - 1)]
    for alone, together in zip(*(state.arrays(shapes) for state in states), strict=True):
        np.testing.assert_allclose(together, alone, atol=1e-3)


def test_a_run_that_has_stopped_early_goes_on_only_with_more_patience(
    folder, tmp_path, capsys, monkeypatch
):
    def epochs(*more):
        assert run(folder, tmp_path / "out", "--epochs", "9", "--batch-size", "200", *more) == 0
        return len(record(tmp_path / "out")["history"])

    results = {"val_loss": 1.0}
    monkeypatch.setattr(training.Trainer, "_validate", lambda trainer: results)
    assert epochs("--patience", "1") == 2
    assert "no improvement in 1 epochs" in capsys.readouterr().out
    assert epochs("--patience", "1", "--resume") == 2
    assert epochs("--patience", "2", "--resume") == 3
    assert record(tmp_path / "out")["best_epoch"] == 1


# ---- the course's job


@pytest.mark.slow
def test_the_course_s_job_learns_50_captions_by_heart_and_draws_its_shapes_once(
    tmp_path, monkeypatch
):
    def draw(*arguments):
        drawn.append(arguments)
        if len(drawn) == 40:
            raise KeyboardInterrupt
        return original(*arguments)

    drawn, original, out = [], shapes.draw, tmp_path / "out"
    monkeypatch.setattr(shapes, "draw", draw)
    options = "--overfit", "--out", str(out), "--quiet"
    assert train.main([*options]) == 130
    assert train.main([*options]) == 0
    assert losses(out)[-1] < 0.1
    assert len(losses(out)) == 100
    count = len(drawn)
    assert train.main([*options, "--resume"]) == 0
    assert len(drawn) == count
    rnn = tmp_path / "rnn"
    shapes_folder = str(out / "shapes")
    options = "--overfit", "--data", shapes_folder, "--cell", "rnn", "--epochs", "25"
    assert train.main([*options, "--out", str(rnn), "--quiet"]) == 0
    assert losses(rnn)[-1] < 0.1
    assert "val_loss" not in record(rnn)["history"][0]


def test_the_course_s_job_needs_no_validation_captions(tmp_path, capsys):
    caption_folders.write_built(tmp_path / "data", counts={"train": 50})
    options = "--overfit", "--max-train", "9", "--epochs", "1"
    assert run(tmp_path / "data", tmp_path / "out", *options) == 1
    assert len(losses(tmp_path / "out")) == 1
    assert "not below 0.1" in capsys.readouterr().err


def test_the_course_s_job_takes_no_two_captions_of_an_image(folder, tmp_path, capsys):
    options = "--overfit", "--max-train", "31"
    assert "needs captions of 31 images" in refused(capsys, folder, tmp_path, *options)


def test_only_the_chief_draws_shapes_and_others_wait_for_them(
    tmp_path, monkeypatch, trains_at_once
):
    def agree(strategy, yes):
        caption_folders.write_built(tmp_path / "shapes")
        return yes

    monkeypatch.setattr(training, "is_chief", lambda strategy: False)
    monkeypatch.setattr(training, "agree", agree)
    options = "--overfit", "--out", str(tmp_path), "--epochs", "1", *SMALL
    assert train.main([*options, "--max-train", "9"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_curves_for_tensorboard_are_written_when_asked(folder, tmp_path, trains_at_once):
    pytest.importorskip("tensorboard")
    assert run(folder, tmp_path / "out", "--tensorboard") == 0
    (events,) = (tmp_path / "out" / "tensorboard").iterdir()
    assert b"val_loss" in events.read_bytes()


def test_without_a_scorer_the_loss_decides(folder, tmp_path, monkeypatch, capsys, trains_at_once):
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider", None)
    assert run(folder, tmp_path / "out") == 0
    assert "no CIDEr, the validation loss decides" in capsys.readouterr().out


# ---- what stops it


def refused(capsys, *arguments):
    assert run(*arguments) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    return sentence


def test_a_divergence_stops_the_run_with_one_sentence(folder, tmp_path, capsys):
    options = "--learning-rate", "1e30", "--clip-norm", "0"
    assert run(folder, tmp_path / "out", *options) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("stopped at step 2: ")
    assert "learning rate below 1e+30" in sentence
    assert list((tmp_path / "out").iterdir()) == []


def test_features_that_are_nan_are_refused(folder, tmp_path, capsys):
    data = caption_folders.write_built(tmp_path)
    with h5py.File(tmp_path / "photos_train_squeezenet.h5", "r+") as file:
        file["features"][data["train_image_idxs"][0]] = np.nan
    assert "of features is NaN" in refused(capsys, tmp_path, tmp_path / "out")


def test_data_that_is_removed_while_training_is_told_in_one_sentence(tmp_path, capsys, monkeypatch):
    def remove(trainer, *arguments, **options):
        made(trainer, *arguments, **options)
        path.unlink()

    path, made = tmp_path / "photos_train_squeezenet.h5", training.Trainer.__init__
    monkeypatch.setattr(training.Trainer, "__init__", remove)
    caption_folders.write_built(tmp_path)
    assert str(path) in refused(capsys, tmp_path, tmp_path / "out")


def test_a_folder_that_holds_a_run_is_not_overwritten(folder, undisturbed, capsys):
    before = {path: path.read_bytes() for path in undisturbed.iterdir()}
    sentence = refused(capsys, folder, undisturbed)
    assert "already holds a training run" in sentence
    assert "--resume" in sentence
    assert before == {path: path.read_bytes() for path in undisturbed.iterdir()}


@pytest.mark.parametrize("steps", [3, 10])  # within the first epoch of seven steps, and the second
def test_a_run_goes_on_from_its_last_whole_epoch_with_another_batch_size_and_says_so(
    folder, undisturbed, tmp_path, capsys, monkeypatch, steps
):
    def interrupt(loss, speed, seen):
        seen.append(loss)
        if len(seen) > steps:
            raise KeyboardInterrupt

    out, epochs = tmp_path / "out", steps // 7
    report = functools.partial(interrupt, seen=[])
    monkeypatch.setattr(train, "_reporter", lambda *_: report)
    assert run(folder, out, "--epochs", "2", "--save-every", "0") == 130
    assert SavedState.read(out).state.batch > 0
    monkeypatch.undo()
    capsys.readouterr()
    changed = ["--batch-size", "100", "--learning-rate", "0.002"]
    assert run(folder, out, "--resume", "--epochs", "2", *changed) == 0
    said = capsys.readouterr().out
    assert "batch size 100 in place of 31 and learning rate 0.002 in place of 0.001" in said
    assert f"going on from the end of epoch {epochs}" in said
    whole = losses(undisturbed)[: 7 * epochs]
    np.testing.assert_allclose(losses(out)[: 7 * epochs], whole, rtol=1e-5)
    assert len(losses(out)) < 15 - 7 * (1 - epochs)
    assert SavedState.read(out).config.batch_size == 100


def test_resume_asks_for_a_run_of_the_same_settings_on_the_same_data(
    folder, undisturbed, tmp_path, capsys
):
    before = (undisturbed / STATE_FILE).read_bytes()
    assert "holds no training run" in refused(capsys, folder, tmp_path / "no", "--resume")
    sentence = refused(capsys, folder, undisturbed, "--resume", "--dropout", "0.25")
    assert "--dropout 0.25: the run in" in sentence
    assert "has 0.5; omit it" in sentence
    caption_folders.write_built(tmp_path / "other", counts={"train": 100, "val": 20})
    sentence = refused(capsys, tmp_path / "other", undisturbed, "--resume")
    assert "belongs to a run on other data" in sentence
    assert (undisturbed / STATE_FILE).read_bytes() == before


@pytest.mark.parametrize("kept", ["config.json", "model.weights.h5"])
def test_a_captioner_without_a_run_is_not_overwritten(folder, undisturbed, tmp_path, capsys, kept):
    (tmp_path / kept).write_bytes((undisturbed / kept).read_bytes())
    before = (tmp_path / kept).read_bytes()
    assert f"already holds a captioner ({kept})" in refused(capsys, folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [kept]
    assert (tmp_path / kept).read_bytes() == before


def test_a_damaged_state_is_refused_and_kept(folder, tmp_path, capsys):
    (tmp_path / STATE_FILE).write_bytes(b"no state")
    assert "is damaged" in refused(capsys, folder, tmp_path, "--resume")
    assert (tmp_path / STATE_FILE).read_bytes() == b"no state"
    with zipfile.ZipFile(tmp_path / STATE_FILE, "w") as archive:
        archive.writestr("about.npy", b"\x93NUMPY\x01\0\x02\0(\n")  # tokenize.TokenError in NumPy
    assert "is damaged" in refused(capsys, folder, tmp_path, "--resume")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--batch-size", "0"),
        ("--dropout", "1"),
        ("--label-smoothing", "-0.1"),
        ("--clip-norm", "-1"),
        ("--learning-rate", "0"),
        ("--learning-rate", "nan"),
        ("--patience", "-1"),
        ("--patience", "0.5"),
        ("--save-every", "nan"),
        ("--save-every", "-1"),
    ],
)
def test_a_setting_out_of_range_is_refused(folder, tmp_path, capsys, option, value):
    with pytest.raises(SystemExit, match="2"):
        run(folder, tmp_path / "out", option, value)
    assert f"argument {option}: '{value}' is not a" in capsys.readouterr().err


def test_no_data_gets_a_sentence_that_says_how_to_make_some(tmp_path, capsys):
    assert train.main(["--out", str(tmp_path / "out")]) == 2
    assert "python -m tfcap.datasets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cluster", "why"),
    [
        (None, "it is not set"),
        ("{not json", "TF_CONFIG"),
        ('{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "evaluator", "index": 0}}', ""),
    ],
)
def test_workers_without_a_cluster_are_told_so(folder, tmp_path, capsys, monkeypatch, cluster, why):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if cluster:
        monkeypatch.setenv("TF_CONFIG", cluster)
    sentence = refused(capsys, folder, tmp_path / "out", "--strategy", "multi-worker")
    assert why in sentence
    assert 'give each process {"cluster": {"worker": ["HOST:PORT", ...]}, "task"' in sentence


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"test": 20}, "has no training captions: name a folder with the split train"),
        ({"train": 50}, "has no captions to validate on: build it again"),
    ],
)
def test_a_split_that_is_missing_is_told_before_the_training(tmp_path, capsys, counts, told):
    caption_folders.write_built(tmp_path / "data", counts=counts)
    assert told in refused(capsys, tmp_path / "data", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# ---- from a captioner


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    """The same words under other ids, and one more."""
    path = tmp_path_factory.mktemp("others")
    caption_folders.write_built(path)
    file = path / "photos_vocab.json"
    words = json.loads(file.read_text())["idx_to_word"]
    words = [*words[:4], *reversed(words[4:-1]), "zebra"]
    content = {"idx_to_word": words, "word_to_idx": {word: k for k, word in enumerate(words)}}
    file.write_text(json.dumps(content))
    return path


def test_fine_tuning_keeps_the_words_and_adds_new_ones(undisturbed, other_folder, tmp_path):
    began = CaptioningRNN.from_pretrained(undisturbed)
    out = tmp_path / "tuned"
    options = ["--init-from", str(undisturbed), "--epochs", "1"]
    assert train.main(["--data", str(other_folder), "--out", str(out), *options, "--quiet"]) == 0
    tuned = CaptioningRNN.from_pretrained(out)
    assert list(tuned.word_to_idx) == [*began.word_to_idx, "zebra"]
    assert record(out)["settings"]["learning_rate"] == 3e-4
    assert tuned.hidden_dim == began.hidden_dim
    moved = np.asarray(tuned.parameters["W_embed"])[:-1] - began.parameters["W_embed"]
    assert 0 < np.abs(moved).max() < 0.03
    assert train.main(["--data", str(other_folder), "--out", str(out), "--resume", "--quiet"]) == 0

    kept = tmp_path / "kept"
    options += ["--keep-vocabulary"]
    assert train.main(["--data", str(other_folder), "--out", str(kept), *options, "--quiet"]) == 0
    assert CaptioningRNN.from_pretrained(kept).word_to_idx == began.word_to_idx


def test_self_critical_training_goes_on_from_a_captioner(undisturbed, folder, tmp_path):
    out = tmp_path / "critical"
    options = ["--self-critical", str(undisturbed), "--epochs", "1", "--quiet"]
    assert train.main(["--data", str(folder), "--out", str(out), *options]) == 0
    written = record(out)
    assert written["settings"]["self_critical"]
    assert written["settings"]["dropout"] == 0
    assert all(loss <= 0 for loss in losses(out))
    assert (out / "losses.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--init-from", "BEGAN", "--cell", "rnn"],
            "--cell rnn: the captioner .* has lstm; omit it",
        ),
        (["--init-from", "BEGAN", "--hidden-dim", "7"], "--hidden-dim 7: the captioner"),
        (["--init-from", "/nowhere"], "is not a captioner's folder"),
        (["--keep-vocabulary"], "--keep-vocabulary needs --init-from"),
    ],
)
def test_what_contradicts_the_captioner_is_refused(
    undisturbed, folder, tmp_path, capsys, options, said
):
    options = [str(undisturbed) if option == "BEGAN" else option for option in options]
    assert train.main(["--data", str(folder), "--out", str(tmp_path / "out"), *options]) == 2
    assert re.search(said, capsys.readouterr().err)
