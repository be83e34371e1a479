"""The training command: what it writes, how it goes on, and what stops it."""

import csv
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import h5py
import numpy as np
import pytest

from tfcap import train, training
from tfcap.data import shapes
from tfcap.data.coco import load_coco_data
from tfcap.model import CaptioningRNN
from visualization.backend import tf

from . import caption_folders

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


def in_a_process(folder, out, *options, program=("-m", "tfcap.train"), **environment):
    """The command in a process of its own, not waited for."""
    command = [sys.executable, *program, "--data", str(folder), "--out", str(out)]
    project = Path(train.__file__).parent.parent
    return subprocess.Popen(
        [*command, *SMALL, *options],
        env={**os.environ, "PYTHONPATH": str(project), **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(process):
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return said


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """Two epochs of seven steps."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(folder, out, "--epochs", "2") == 0
    return out


def test_a_run_writes_a_captioner_its_losses_their_picture_and_a_record(folder, undisturbed):
    model = CaptioningRNN.from_pretrained(undisturbed)
    assert model.encoder == "squeezenet"
    assert model.sample(np.zeros((2, caption_folders.WIDTH))).shape == (2, 30)
    assert len(losses(undisturbed)) == 14
    assert (undisturbed / "losses.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((undisturbed / "train.json").read_text())
    assert [epoch["epoch"] for epoch in record["history"]] == [1, 2]
    assert {"loss", "val_loss", "CIDEr", "seconds"} <= record["history"][0].keys()
    expected = training.fingerprint(load_coco_data(folder))
    assert record["data"] == {"folder": str(folder), "fingerprint": expected}


@pytest.mark.parametrize("score", ["val_loss", "CIDEr"])
def test_the_captioner_that_is_kept_is_that_of_the_best_epoch(folder, tmp_path, monkeypatch, score):
    def validated(run):
        weights.append({name: w.numpy() for name, w in run.trainer.model.parameters.items()})
        ranks = [1.0, 3.0, 2.0][len(weights) - 1]
        return {"val_loss": -ranks} if score == "val_loss" else {"val_loss": ranks, "CIDEr": ranks}

    weights = []
    monkeypatch.setattr(train.Run, "_validated", validated)
    assert run(folder, tmp_path / "out", "--epochs", "3") == 0
    kept = CaptioningRNN.from_pretrained(tmp_path / "out").parameters
    for name, value in kept.items():
        np.testing.assert_array_equal(value.numpy(), weights[1][name])
    assert (weights[1]["W_vocab"] != weights[2]["W_vocab"]).any()
    assert json.loads((tmp_path / "out" / "train.json").read_text())["best_epoch"] == 2


def test_settings_reach_the_captioner_its_optimizer_and_its_data(folder, tmp_path, monkeypatch):
    def keep(run, trainer, *arguments):
        trainers.append(trainer)
        made(run, trainer, *arguments)

    trainers, made = [], train.Run.__init__
    monkeypatch.setattr(train.Run, "__init__", keep)
    options = {"cell": "rnn", "hidden-dim": 12, "wordvec-dim": 7, "epochs": 2, "batch-size": 25}
    options |= {"learning-rate": 0.01, "decay": 0.5, "dropout": 0.25, "weight-decay": 0.125}
    options |= {"clip-norm": 2.5, "label-smoothing": 0.0625, "precision": "mixed_bfloat16"}
    options |= {"max-train": 50, "seed": 3}
    given = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    assert run(folder, tmp_path / "out", *given) == 0
    (trainer,) = trainers
    model, optimizer = trainer.model, trainer.model.optimizer
    assert (model.cell_type, model.hidden_dim, model.wordvec_dim) == ("rnn", 12, 7)
    assert (model.drop.rate, model.label_smoothing) == (0.25, 0.0625)
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.125, 2.5)
    assert float(optimizer.learning_rate) == pytest.approx(0.01 * 0.5)
    assert trainer.data["train_captions"].shape[0] == 50
    drawn = load_coco_data(folder, 50, seed=3)["train_captions"]
    np.testing.assert_array_equal(trainer.data["train_captions"], drawn)
    assert len(losses(tmp_path / "out")) == 2 * 2
    np.testing.assert_allclose(model.feature_mean, trainer.data["train_features"][:].mean(0), 1e-5)


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(folder, undisturbed, tmp_path):
    assert run(folder, tmp_path / "same", "--epochs", "1") == 0
    assert run(folder, tmp_path / "other", "--epochs", "1", "--seed", "1") == 0
    np.testing.assert_allclose(losses(tmp_path / "same"), losses(undisturbed)[:7], rtol=1e-5)
    assert not np.allclose(losses(tmp_path / "other"), losses(undisturbed)[:7], rtol=1e-3)


@pytest.mark.parametrize("steps", [3, 9])
def test_a_run_stopped_in_mid_epoch_goes_on_as_if_nothing_had_been(
    folder, undisturbed, tmp_path, monkeypatch, steps
):
    def save(trainer):
        saved(trainer)
        if trainer.progress.step == steps:
            raise KeyboardInterrupt

    saved = training.Trainer.save
    monkeypatch.setattr(training.Trainer, "save", save)
    out = tmp_path / "out"
    assert run(folder, out, "--epochs", "2", "--save-every", "0") == 130
    monkeypatch.undo()
    assert run(folder, out, "--resume", "--epochs", "2") == 0
    np.testing.assert_allclose(losses(out), losses(undisturbed), rtol=1e-5)


def test_a_run_stopped_with_its_first_captioner_goes_on(folder, undisturbed, tmp_path, monkeypatch):
    def save_pretrained(model, path):
        saved(model, path)
        raise KeyboardInterrupt

    saved = CaptioningRNN.save_pretrained
    monkeypatch.setattr(CaptioningRNN, "save_pretrained", save_pretrained)
    out = tmp_path / "out"
    assert run(folder, out, "--epochs", "2") == 130
    monkeypatch.undo()
    assert run(folder, out, "--resume", "--epochs", "2") == 0
    np.testing.assert_allclose(losses(out), losses(undisturbed), rtol=1e-5)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_been(folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = in_a_process(folder, out, "--epochs", "2", "--save-every", "0")
    while process.poll() is None and not (out / training.STATE).exists():
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "losses.csv").exists()
    finished(in_a_process(folder, out, "--resume", "--epochs", "2"))
    np.testing.assert_allclose(losses(out), losses(undisturbed), rtol=1e-5)


@pytest.mark.slow
def test_a_finished_run_can_be_made_longer(folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    assert run(folder, out, "--epochs", "1") == 0
    assert run(folder, out, "--resume", "--epochs", "2") == 0
    np.testing.assert_allclose(losses(out), losses(undisturbed), rtol=1e-5)


@pytest.mark.slow
def test_two_workers_train_as_one_and_go_on_from_one_state(folder, tmp_path):
    options = "--dropout", "0", "--clip-norm", "1"
    assert run(folder, tmp_path / "one", "--epochs", "2", *options) == 0
    for more in (["--epochs", "1"], ["--resume", "--epochs", "2"]):
        workers = [
            in_a_process(
                folder,
                tmp_path / "two",
                *("--strategy", "multi-worker", *options, *more),
                TF_CONFIG=json.dumps(
                    {
                        "cluster": {"worker": ["localhost:29471", "localhost:29472"]},
                        "task": {"type": "worker", "index": index},
                    }
                ),
            )
            for index in range(2)
        ]
        said = [finished(worker) for worker in workers]
        assert "epoch" in said[0]
        assert not said[1]
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=1e-4)


# A process of its own, because TensorFlow numbers the collective ops of each strategy alike, and
# takes those of two in one process for each other.
WITH_TWO_DEVICES = """
import sys
from tests.tfcap import conftest
conftest.pytest_configure()
from tfcap import train
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_all_devices_of_a_machine_train_as_one(folder, tmp_path):
    options = "--dropout", "0", "--epochs", "1"
    assert run(folder, tmp_path / "one", *options) == 0
    mirrored = *options, "--strategy", "mirrored"
    finished(in_a_process(folder, tmp_path / "two", *mirrored, program=("-c", WITH_TWO_DEVICES)))
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=1e-4)


@pytest.mark.slow
def test_several_devices_drop_out_too_and_go_on_with_what_they_would_have_dropped(folder, tmp_path):
    for out, runs in {
        "whole": [["--epochs", "2"]],
        "parts": [["--epochs", "1"], ["--epochs", "2", "--resume"]],
    }.items():
        for options in runs:
            mirrored = *options, "--strategy", "mirrored"
            program = "-c", WITH_TWO_DEVICES
            finished(in_a_process(folder, tmp_path / out, *mirrored, program=program))
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_course_s_job_learns_50_captions_by_heart(cell, tmp_path):
    out = tmp_path / "out"
    assert train.main(["--overfit", "--cell", cell, "--out", str(out), "--quiet"]) == 0
    assert losses(out)[-1] < 0.1
    assert len(losses(out)) == 100


def test_a_run_whose_validation_gets_no_better_stops_early(folder, tmp_path, capsys):
    options = "--learning-rate", "1e-9", "--epochs", "9", "--patience", "1"
    assert run(folder, tmp_path / "out", *options) == 0
    record = json.loads((tmp_path / "out" / "train.json").read_text())
    assert len(record["history"]) == record["best_epoch"] + 1 < 9
    assert "no improvement in 1 epochs" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_has_stopped_early_goes_on_only_with_more_patience(folder, tmp_path):
    def epochs(*more):
        options = "--learning-rate", "1e-9", "--epochs", "9"
        assert run(folder, tmp_path / "out", *options, *more) == 0
        return len(json.loads((tmp_path / "out" / "train.json").read_text())["history"])

    stopped = epochs("--patience", "1")
    assert stopped < 9
    assert epochs("--patience", "1", "--resume") == stopped
    assert epochs("--patience", "2", "--resume") > stopped


def test_a_run_killed_before_it_wrote_its_last_results_writes_them(
    folder, undisturbed, tmp_path, monkeypatch
):
    def kill(run):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr(train.Run, "_write_results", kill)
    assert run(folder, out, "--epochs", "1") == 130
    monkeypatch.undo()
    assert not (out / "losses.csv").exists()
    assert run(folder, out, "--epochs", "1", "--resume") == 0
    np.testing.assert_allclose(losses(out), losses(undisturbed)[:7], rtol=1e-5)
    assert {"losses.png", "train.json"} <= {path.name for path in out.iterdir()}


# ---- what stops it


def test_a_loss_that_is_no_number_stops_the_run_with_its_step_and_cause(folder, tmp_path, capsys):
    options = "--learning-rate", "1e30", "--clip-norm", "0"
    assert run(folder, tmp_path / "out", *options) == 1
    error = capsys.readouterr().err
    assert "stopped at step " in error
    assert "--learning-rate below 1e+30 or with --clip-norm 5" in error


@pytest.mark.parametrize("size", ["200", "31"], ids=["an epoch's last", "another"])
@pytest.mark.parametrize("rate", ["1e39", "1e30"])
def test_what_a_step_made_no_numbers_is_not_kept(folder, tmp_path, capsys, size, rate):
    out = tmp_path / "out"
    options = "--learning-rate", rate, "--clip-norm", "0", "--batch-size", size
    assert run(folder, out, *options, "--save-every", "0" if rate == "1e39" else "60") == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "no number" in sentence
    assert f"--learning-rate below {float(rate):g}" in sentence
    assert list(out.iterdir()) == []


def test_a_validation_loss_that_is_no_number_stops_the_run(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training.Trainer, "validation_loss", lambda trainer: float("nan"))
    assert run(folder, tmp_path / "out") == 1
    assert "stopped at step 7: the validation loss is no number" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_features_that_are_no_numbers_are_named_as_the_cause(folder, tmp_path, capsys):
    data = caption_folders.write_built(tmp_path)
    with h5py.File(tmp_path / "photos_train_squeezenet.h5", "r+") as file:
        file["features"][data["train_image_idxs"][0]] = np.nan
    assert "of features holds NaN" in refused(capsys, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("what", ["damaged", "gone"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_features_that_change_while_training_are_told_in_one_sentence(
    tmp_path, capsys, monkeypatch, what, split
):
    def change(trainer, *arguments, **options):
        made(trainer, *arguments, **options)
        if what == "gone":
            path.unlink()
            return
        with h5py.File(path, "r+") as file:
            file["features"][...] = np.nan

    path = tmp_path / f"photos_{split}_squeezenet.h5"
    made = training.Trainer.__init__
    monkeypatch.setattr(training.Trainer, "__init__", change)
    caption_folders.write_built(tmp_path)
    told = {"damaged": "of features holds NaN", "gone": "No such file"}
    sentence = refused(capsys, tmp_path, tmp_path / "out")
    assert told[what] in sentence
    assert str(path) in sentence


def refused(capsys, *arguments):
    assert run(*arguments) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    return sentence


def test_a_folder_that_holds_a_run_is_not_overwritten(folder, undisturbed, capsys):
    before = {path: path.read_bytes() for path in undisturbed.iterdir()}
    sentence = refused(capsys, folder, undisturbed)
    assert "holds a training run already: go on with it by --resume" in sentence
    assert before == {path: path.read_bytes() for path in undisturbed.iterdir()}


def test_resume_asks_for_a_run_of_the_same_settings_on_the_same_data(
    folder, undisturbed, tmp_path, capsys
):
    before = (undisturbed / training.STATE).read_bytes()
    assert "holds no training run" in refused(capsys, folder, tmp_path / "no", "--resume")
    sentence = refused(capsys, folder, undisturbed, "--resume", "--dropout", "0.25")
    assert "--dropout 0.25: the run in" in sentence
    assert "has 0.5" in sentence
    caption_folders.write_built(tmp_path / "other", counts={"train": 100, "val": 20})
    sentence = refused(capsys, tmp_path / "other", undisturbed, "--resume")
    assert "is of a run on other data" in sentence
    assert (undisturbed / training.STATE).read_bytes() == before


@pytest.mark.parametrize("changed", ["train_captions", "train_image_idxs", "features"])
def test_resume_notices_other_data_of_the_same_sizes(undisturbed, tmp_path, capsys, changed):
    caption_folders.write_built(tmp_path)
    name = "train_squeezenet" if changed == "features" else "captions"
    with h5py.File(tmp_path / f"photos_{name}.h5", "r+") as file:
        row = file[changed][-1]
        file[changed][-1] = np.where(row > 3, row - 1, row) if changed != "features" else row + 1
        assert (file[changed][-1] != row).any()
    assert "is of a run on other data" in refused(capsys, tmp_path, undisturbed, "--resume")


@pytest.mark.parametrize("kept", ["config.json", "model.weights.h5"])
def test_a_captioner_without_a_run_is_not_overwritten(folder, undisturbed, tmp_path, capsys, kept):
    (tmp_path / kept).write_bytes((undisturbed / kept).read_bytes())
    before = (tmp_path / kept).read_bytes()
    assert f"holds a captioner already, {kept}" in refused(capsys, folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [kept]
    assert (tmp_path / kept).read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not numpy", "pickle"])
def test_a_damaged_state_is_refused(folder, undisturbed, tmp_path, capsys, damage):
    content = bytearray((undisturbed / training.STATE).read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 255
    elif damage == "not numpy":
        content = b"no state"
    else:
        np.savez(tmp_path / "pickled.npz", about=np.array({"a": 1}, dtype=object))
        content = (tmp_path / "pickled.npz").read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    (out / training.STATE).write_bytes(content)
    sentence = refused(capsys, folder, out, "--resume")
    assert "is damaged" in sentence
    assert (out / training.STATE).read_bytes() == content


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch-size", "0"], "'0' is not a positive whole number"),
        (["--dropout", "1"], "1 is not below 1"),
        (["--clip-norm", "-1"], "'-1' is not a number of at least 0"),
        (["--learning-rate", "nan"], "'nan' is not a positive number"),
        (["--patience", "-1"], "'-1' is not a positive whole number"),
        (["--patience", "0.5"], "'0.5' is not a positive whole number"),
        (["--save-every", "nan"], "'nan' is not a number of at least 0"),
        (["--save-every", "-1"], "'-1' is not a number of at least 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(folder, tmp_path, capsys, options, said):
    with pytest.raises(SystemExit) as exit_:
        run(folder, tmp_path / "out", *options)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


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
    ("jobs", "kind", "index", "expected"),
    [
        (("worker",), "worker", 0, True),
        (("worker",), "worker", 1, False),
        (("chief", "worker"), "chief", 0, True),
        (("chief", "worker"), "worker", 0, False),
        ((), None, None, True),
    ],
)
def test_a_cluster_has_one_chief(monkeypatch, jobs, kind, index, expected):
    cluster = {job: ["localhost:1", "localhost:2"][: 1 if job == "chief" else 2] for job in jobs}
    task = {"type": kind, "index": index}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task} if jobs else {}))
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    assert training.is_chief(types.SimpleNamespace(cluster_resolver=resolver)) == expected


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"test": 20}, "has no training captions: name a folder with the split train"),
        (
            {"train": 50},
            "has no captions to validate on: build it again with some images in the sp",
        ),
    ],
)
def test_a_split_that_is_missing_is_told_before_the_training(tmp_path, capsys, counts, told):
    caption_folders.write_built(tmp_path / "data", counts=counts)
    assert told in refused(capsys, tmp_path / "data", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_course_s_job_needs_no_validation_captions(tmp_path):
    caption_folders.write_built(tmp_path / "data", counts={"train": 50})
    options = "--overfit", "--max-train", "9", "--epochs", "1"
    assert run(tmp_path / "data", tmp_path / "out", *options) == 1
    assert len(losses(tmp_path / "out")) == 1


def test_only_the_chief_draws_shapes_and_others_wait_for_them(tmp_path, monkeypatch):
    def agree(strategy, yes):
        caption_folders.write_built(tmp_path / "shapes")
        return yes

    monkeypatch.setattr(training, "is_chief", lambda strategy: False)
    monkeypatch.setattr(training, "agree", agree)
    options = "--overfit", "--out", str(tmp_path), "--epochs", "1", *SMALL
    assert train.main([*options, "--max-train", "9"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


@pytest.mark.slow
def test_drawing_shapes_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    def draw(*arguments):
        drawn.append(arguments)
        if len(drawn) == 40:
            raise KeyboardInterrupt
        return original(*arguments)

    drawn, original = [], shapes.draw
    monkeypatch.setattr(shapes, "draw", draw)
    options = "--overfit", "--out", str(tmp_path), "--epochs", "1", *SMALL
    assert train.main([*options]) == 130
    assert train.main([*options]) == 1
    assert len(losses(tmp_path)) == 2
    count = len(drawn)
    assert train.main([*options, "--resume", "--epochs", "2"]) == 1
    assert len(drawn) == count


def test_curves_for_tensorboard_are_written_when_asked(folder, tmp_path):
    pytest.importorskip("tensorboard")
    assert run(folder, tmp_path / "out", "--epochs", "1", "--tensorboard") == 0
    (events,) = (tmp_path / "out" / "tensorboard").iterdir()
    assert b"val_loss" in events.read_bytes()
