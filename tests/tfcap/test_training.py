"""The training loop: what it keeps, how it goes on, and what stops it."""

import dataclasses
import json
import random
import shutil
import subprocess
import sys
import types
from pathlib import Path

import h5py
import numpy as np
import pytest

from tfcap import training
from tfcap.data.batches import caption_dataset
from tfcap.data.coco import load_coco_data
from tfcap.model import CaptioningRNN
from tfcap.train_state import STATE_FILE, SavedState, TrainConfig, fingerprint
from tfcap.training import DivergedError, Trainer
from visualization.backend import keras, tf

from . import caption_folders

CONFIG = TrainConfig(hidden_dim=16, wordvec_dim=8, batch_size=31, patience=0, epochs=2)
ONE_STEP = {"batch_size": 200}  # an epoch


def make(data, out, *, trainer=Trainer, strategy=None, save_every=60, **config):
    config = dataclasses.replace(CONFIG, **config)
    return trainer(config, data, out, strategy=strategy, save_every=save_every)


def losses_of(trainer):
    for _ in trainer.epochs():
        pass
    return trainer.state.losses


def copied(data):
    """The same data, in memory."""
    return {key: value[:] if key.startswith("train_") else value for key, value in data.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("captions")
    caption_folders.write_built(path)
    return path


@pytest.fixture(scope="module")
def whole_data(folder):
    return load_coco_data(folder)


@pytest.fixture(scope="module")
def data(whole_data):
    """Without a validation set."""
    return {key: value for key, value in whole_data.items() if not key.startswith("val_")}


class Recorded(Trainer):
    """Keeps every state that it saves, by step, epoch and batch."""

    def save(self):
        super().save()
        copies = self.folder / f"{self.state.step}-{self.state.epoch}-{self.state.batch}"
        copies.mkdir(exist_ok=True)
        shutil.copy(self.folder / STATE_FILE, copies)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """Two epochs of seven and of eight steps: their orders fill batches of whole images differently."""
    trainer = make(data, tmp_path_factory.mktemp("run"), trainer=Recorded, save_every=0)
    losses_of(trainer)
    return trainer


# ---- a run


def test_the_step_is_traced_once_for_batches_of_all_shapes(data, undisturbed):
    lengths = {captions.shape[1] for _, captions in caption_dataset(data, batch_size=31)}
    assert len(lengths) > 1
    assert undisturbed.train_step.experimental_get_tracing_count() == 1


def test_losses_go_down_and_those_of_an_epoch_are_averaged(undisturbed):
    state = undisturbed.state
    assert (state.step, state.epoch, state.batch, len(state.losses)) == (15, 2, 0, 15)
    means = [epoch["loss"] for epoch in state.history]
    np.testing.assert_allclose(means, [np.mean(state.losses[:7]), np.mean(state.losses[7:])])
    assert means[1] < means[0]


@pytest.mark.parametrize("score", ["val_loss", "CIDEr", "loss"])
def test_the_captioner_that_is_kept_is_that_of_the_best_epoch(data, tmp_path, score):
    class Judged(Trainer):
        def _train_epoch(self, report):
            self.model.parameters["b_vocab"].assign_add(np.ones(40))
            rank = [1.0, 3.0, 2.0][self.state.epoch]
            self.scores = {"CIDEr": rank, "val_loss": rank if score == "CIDEr" else -rank}
            return -rank if score == "loss" else rank

        def _validate(self):
            return {} if score == "loss" else {k: self.scores[k] for k in {score, "val_loss"}}

    trainer = make(data, tmp_path, trainer=Judged, epochs=3)
    losses_of(trainer)
    kept = CaptioningRNN.from_pretrained(tmp_path).parameters
    np.testing.assert_array_equal(kept["b_vocab"], np.full(40, 2))
    assert trainer.state.best_epoch == 2


def test_settings_reach_the_captioner_and_its_optimizer(data, tmp_path):
    config = {"cell": "rnn", "hidden_dim": 12, "wordvec_dim": 7, "dropout": 0.25}
    config |= {"label_smoothing": 0.0625, "precision": "mixed_bfloat16", "weight_decay": 0.125}
    config |= {"clip_norm": 2.5, "learning_rate": 0.01, "decay": 0.5}
    trainer = make(data, tmp_path, **config, **ONE_STEP)
    model, optimizer = trainer.model, trainer.model.optimizer
    assert (model.cell_type, model.hidden_dim, model.wordvec_dim) == ("rnn", 12, 7)
    assert (model.drop.rate, model.label_smoothing) == (0.25, 0.0625)
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert model.encoder == "squeezenet"
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.125, 2.5)
    np.testing.assert_allclose(model.feature_mean, data["train_features"][:].mean(0), 1e-5)
    rates = [float(optimizer.learning_rate) for _ in trainer.epochs()]
    np.testing.assert_allclose(rates, [0.01, 0.01 * 0.5], rtol=1e-6)


@pytest.fixture(scope="module")
def cells_data(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells")
    caption_folders.write_built(path, cells=5)
    return load_coco_data(path)


def test_settings_of_attention_reach_the_captioner(cells_data, tmp_path):
    config = {"cell": "attention", "heads": 4, "feature_dropout": 0.25}
    trainer = make(cells_data, tmp_path, **config, epochs=1, **ONE_STEP)
    model = trainer.model
    assert (model.cell_type, model.heads, model.drop_features.rate) == ("attention", 4, 0.25)
    assert (model.input_dim, model.encoder) == (caption_folders.WIDTH, "squeezenet_cells")
    features = cells_data["train_features"][:]
    np.testing.assert_allclose(model.feature_mean, features.mean((0, 1)), atol=1e-4)
    (results,) = trainer.epochs()
    assert np.isfinite(results["val_loss"])
    again = CaptioningRNN.from_pretrained(tmp_path)
    assert (again.heads, again.drop_features.rate) == (4, 0.25)


def test_attention_needs_cells_and_other_cells_take_none(data, cells_data, tmp_path):
    with pytest.raises(ValueError, match=r"attention needs features of cells, received \(6,\)"):
        make(data, tmp_path, cell="attention")
    with pytest.raises(ValueError, match=r"lstm takes no features of cells, received \(5, 6\)"):
        make(cells_data, tmp_path)


def test_a_cosine_takes_the_learning_rate_to_nothing(data, tmp_path):
    rates = []

    class Watched(Trainer):
        def step_on(self, batches):
            rates.append(float(self.model.optimizer.learning_rate))
            return super().step_on(batches)

    losses_of(make(data, tmp_path, trainer=Watched, schedule="cosine", learning_rate=0.01))
    expected = [0.01 * (1 + np.cos(np.pi * k / 14)) / 2 for k in range(7)]
    np.testing.assert_allclose(rates[:7], expected, rtol=1e-4)
    assert 0 < rates[-1] < 2e-4


def test_the_average_of_the_weights_is_what_is_validated_and_written(data, tmp_path):
    weights = []

    class Watched(Trainer):
        def step_on(self, batches):
            done = super().step_on(batches)
            weights.append(np.asarray(self.model.parameters["W_vocab"]))
            return done

    trainer = make(data, tmp_path, trainer=Watched, average=0.75, epochs=1)
    losses_of(trainer)
    average = weights[0]
    for array in weights[1:]:
        average = 0.75 * average + 0.25 * array
    written = CaptioningRNN.from_pretrained(tmp_path).parameters["W_vocab"]
    np.testing.assert_allclose(written, average, atol=1e-6)
    np.testing.assert_array_equal(trainer.model.parameters["W_vocab"], weights[-1])


def test_a_captioner_in_half_precision_takes_half_the_room(data, tmp_path):
    for half in (False, True):
        losses_of(make(data, tmp_path / str(half), half=half, epochs=1, **ONE_STEP))
    whole, halved = (tmp_path / str(h) / "model.weights.h5" for h in (False, True))
    assert halved.stat().st_size < 0.62 * whole.stat().st_size
    again = CaptioningRNN.from_pretrained(tmp_path / "True").parameters
    for name, array in CaptioningRNN.from_pretrained(tmp_path / "False").parameters.items():
        np.testing.assert_allclose(again[name], array, rtol=1e-3, atol=1e-6)


def test_the_validation_set_is_judged_by_loss_and_cider(whole_data, tmp_path):
    trainer = Trainer(
        dataclasses.replace(CONFIG, epochs=1, **ONE_STEP),
        whole_data,
        tmp_path,
        references=training.validation_references(whole_data, 5),
    )
    assert len(trainer.references) == 5
    (results,) = trainer.epochs()
    assert {"epoch", "loss", "val_loss", "CIDEr", "seconds"} == results.keys()
    features = whole_data["val_features"][np.asarray(whole_data["val_image_idxs"])]
    expected, _ = trainer.model.loss_and_gradients(features, whole_data["val_captions"][:])
    assert results["val_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_weights_depend_on_the_seed_alone(data, tmp_path):
    random.seed(1)
    one = make(data, tmp_path / "one").model
    random.seed(2)
    same = make(data, tmp_path / "same").model
    other = make(data, tmp_path / "other", seed=1).model
    for variable, equal in zip(one.variables, same.variables, strict=True):
        np.testing.assert_array_equal(variable, equal)
    assert (np.asarray(one.embed.W) != np.asarray(other.embed.W)).any()


def test_the_order_of_the_data_depends_on_the_seed(data, tmp_path):
    def first(seed):
        trainer = make(data, tmp_path, seed=seed)
        return next(iter(caption_dataset(data, **trainer._reading(0))))[1].numpy()

    assert first(0).shape != first(1).shape or (first(0) != first(1)).any()


def test_the_caller_s_random_generators_are_left_as_they_are(data, tmp_path):
    def draws():
        return (
            random.random(),
            np.random.random(),
            float(tf.random.uniform(())),
            float(keras.random.uniform(())),
        )

    keras.utils.set_random_seed(5)
    expected = draws(), draws()
    keras.utils.set_random_seed(5)
    first = draws()
    losses_of(make(data, tmp_path, epochs=1, **ONE_STEP))
    assert (first, draws()) == expected


# ---- the state


@pytest.fixture(scope="module")
def going_on(data, tmp_path_factory):
    """Its step is traced once; a state takes the place of all that steps change."""
    return make(data, tmp_path_factory.mktemp("going_on"))


@pytest.mark.parametrize("place", ["3-0-3", "7-0-7", "7-1-0", "9-1-2"])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(undisturbed, going_on, place):
    trainer = going_on
    saved = SavedState.read(undisturbed.folder / place)
    trainer.load(saved)
    assert "-".join(map(str, (trainer.state.step, trainer.state.epoch, trainer.state.batch))) == (
        place
    )
    np.testing.assert_allclose(losses_of(trainer), undisturbed.state.losses, rtol=1e-5)


def test_a_run_stopped_with_its_first_captioner_can_go_on(data, tmp_path, monkeypatch):
    def save_pretrained(model, path, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_train_epoch", lambda trainer, report: 1.0)
    monkeypatch.setattr(CaptioningRNN, "save_pretrained", save_pretrained)
    with pytest.raises(KeyboardInterrupt):
        losses_of(make(data, tmp_path))
    assert SavedState.read(tmp_path).state.epoch == 0


def test_the_state_is_saved_as_often_as_asked(data, tmp_path, undisturbed):
    assert len(list(undisturbed.folder.glob("*-*-*"))) == 15 + 2  # each step, each epoch's end
    trainer = make(data, tmp_path, trainer=Recorded, epochs=1, save_every=1e9)
    losses_of(trainer)
    assert sorted(path.name for path in tmp_path.glob("*-*-*")) == ["7-0-7", "7-1-0"]


@pytest.mark.parametrize("changed", ["train_captions", "train_image_idxs", "features"])
def test_other_data_of_the_same_sizes_has_another_fingerprint(data, tmp_path, changed):
    caption_folders.write_built(tmp_path)
    assert fingerprint(load_coco_data(tmp_path)) == fingerprint(data)
    name = "train_squeezenet" if changed == "features" else "captions"
    with h5py.File(tmp_path / f"photos_{name}.h5", "r+") as file:
        row = file[changed][-1]
        file[changed][-1] = np.where(row > 3, row - 1, row) if changed != "features" else row + 1
        assert (file[changed][-1] != row).any()
    assert fingerprint(load_coco_data(tmp_path)) != fingerprint(data)


def test_a_state_of_other_data_or_another_network_is_refused(data, undisturbed, tmp_path):
    saved = SavedState.read(undisturbed.folder)
    other = copied(data) | {"encoder": "another"}
    with pytest.raises(ValueError, match=r"state\.npz belongs to a run on other data"):
        make(other, tmp_path).load(saved)
    with pytest.raises(ValueError, match=r"state\.npz belongs to another network"):
        make(data, tmp_path, hidden_dim=15).load(saved)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not numpy", "pickle", "other keys"])
def test_a_damaged_state_is_refused(undisturbed, tmp_path, damage):
    content = bytearray((undisturbed.folder / STATE_FILE).read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 255
    elif damage == "not numpy":
        content = b"no state"
    else:
        about = {"a": 1} if damage == "pickle" else json.dumps({"settings": {"no": 1}})
        np.savez(tmp_path / "other.npz", about=np.array(about))
        content = (tmp_path / "other.npz").read_bytes()
    (tmp_path / STATE_FILE).write_bytes(content)
    shapes = [tuple(variable.shape) for variable in undisturbed._variables()]
    with pytest.raises(ValueError, match=r"state\.npz is damaged"):
        SavedState.read(tmp_path).arrays(shapes)


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no training run \(state.npz is missing\)"):
        SavedState.read(tmp_path)


# ---- what stops it


@pytest.mark.parametrize(
    ("rate", "size"), [(1e39, 200), (1e30, 31)], ids=["an epoch's last step", "another step"]
)
def test_a_divergence_names_its_step_and_cause_and_nothing_is_kept(
    whole_data, tmp_path, rate, size
):
    trainer = make(
        whole_data,
        tmp_path,
        learning_rate=rate,
        clip_norm=0,
        batch_size=size,
        save_every=0 if rate == 1e39 else 60,
    )
    with pytest.raises(DivergedError) as caught:
        losses_of(trainer)
    assert f"step {1 if size == 200 else 2}: " in str(caught.value)
    assert "NaN or infinite" in str(caught.value)
    assert f"learning rate below {rate:g} or with gradients clipped" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_validation_loss_that_is_nan_stops_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_train_epoch", lambda trainer, report: 1.0)
    monkeypatch.setattr(Trainer, "_validate", lambda trainer: {"val_loss": float("nan")})
    with pytest.raises(DivergedError, match="the validation loss is NaN or infinite"):
        losses_of(make(data, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_features_that_became_nan_are_named_as_the_cause(data, tmp_path):
    data = copied(data)
    trainer = make(data, tmp_path)
    data["train_features"][...] = np.nan
    with pytest.raises(DivergedError, match=r"step 1: .* so are its features: build them again"):
        losses_of(trainer)


@pytest.mark.parametrize("what", ["damaged", "gone"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_error_of_reading_keeps_its_class(tmp_path, monkeypatch, what, split):
    caption_folders.write_built(tmp_path)
    path = tmp_path / f"photos_{split}_squeezenet.h5"
    trainer = make(load_coco_data(tmp_path), tmp_path / "out")
    if split == "val":
        monkeypatch.setattr(Trainer, "_train_epoch", lambda trainer, report: 1.0)
    if what == "gone":
        path.unlink()
    else:
        with h5py.File(path, "r+") as file:
            file["features"][...] = np.nan
    with pytest.raises(Exception, match=path.name) as caught:
        losses_of(trainer)
    assert caught.type is (FileNotFoundError if what == "gone" else ValueError)


# ---- many devices


# A process of its own, because TensorFlow numbers the collective ops of each strategy alike, and
# takes those of two in one process for each other.
IN_A_PROCESS = """
import sys
from tests.tfcap import conftest
conftest.pytest_configure()
from tests.tfcap import test_training
test_training.on_two_devices(*sys.argv[1:])
"""


def on_two_devices(folder, out):
    """Prints the losses without dropout, those with it, and those of a run that went on half-way."""
    data, strategy = load_coco_data(folder), tf.distribute.MirroredStrategy()
    data = {key: value for key, value in data.items() if not key.startswith("val_")}
    alike = make(data, f"{out}/alike", strategy=strategy, dropout=0, clip_norm=1)
    whole = make(data, f"{out}/whole", strategy=strategy, trainer=Recorded)
    parts = make(data, f"{out}/parts", strategy=strategy)
    found = [losses_of(alike), losses_of(whole)]
    parts.load(SavedState.read(f"{out}/whole/7-1-0"))
    found.append(losses_of(parts))
    traces = alike.train_step.experimental_get_tracing_count()
    print(json.dumps({"losses": found, "traces": traces, "replicas": parts._replicas}))


@pytest.mark.slow
def test_all_devices_of_a_machine_train_as_one(folder, data, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, folder, tmp_path],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        check=False,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert (found["traces"], found["replicas"]) == (1, [0, 1])
    alike, whole, parts = found["losses"]
    alone = make(data, tmp_path / "alone", dropout=0, clip_norm=1)
    np.testing.assert_allclose(alike, losses_of(alone), atol=1e-4)
    assert not np.allclose(alike, whole, atol=1e-2)  # these have dropped out
    np.testing.assert_allclose(parts, whole, rtol=1e-4)


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
