"""The training loop: one step for one device or many, and a state from which it goes on exactly."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import math
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from tfcap.data.batches import caption_dataset
from tfcap.data.lazy_array import blocks
from tfcap.model import CaptioningRNN
from visualization.backend import keras, tf
from visualization.cli.output import OutputFolder

STATE = "state.npz"
LARGEST_STATE = 2**34  # bytes


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What decides a run; two runs with the same settings and data give the same losses."""

    cell: str = "lstm"
    hidden_dim: int = 512
    wordvec_dim: int = 256
    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 1e-3
    decay: float = 1.0  # the learning rate's factor from one epoch to the next
    dropout: float = 0.5
    weight_decay: float = 0.0
    clip_norm: float = 5.0  # of all gradients together; 0: not clipped
    label_smoothing: float = 0.0
    precision: str = "float32"
    max_train: int | None = None
    patience: int = 5  # epochs without improvement; 0: never stops early
    seed: int = 0


@dataclasses.dataclass
class TrainState:
    """Where a run is."""

    step: int = 0  # steps done in all
    epoch: int = 0
    batch: int = 0  # batches done of this epoch
    best: float | None = None
    best_epoch: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)  # one a step
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)  # one an epoch


READING_ERRORS = tf.errors.InvalidArgumentError, tf.errors.UnknownError


class DivergedError(ValueError):
    """The loss is no number any more."""


class Trainer:
    """Trains a captioner on the captions of `data`, a dictionary as `load_coco_data` gives it.

    Args:
        settings: what decides the run.
        data: training captions and features.
        out: where the state goes.
        strategy: a ``tf.distribute.Strategy``; by default one device.
        save_every: seconds between savings of the state; 0 saves after every step.

    Raises ValueError where settings do not fit.
    """

    def __init__(
        self,
        settings: TrainConfig,
        data: Mapping[str, Any],
        out: OutputFolder,
        strategy: Any = None,
        save_every: float = 60,
    ) -> None:
        self.settings, self.data, self.out = settings, data, out
        self.strategy = strategy or tf.distribute.get_strategy()
        self.save_every = save_every
        self.progress = TrainState()
        keras.utils.set_random_seed(settings.seed)
        with self.strategy.scope():
            self.model = self._model()
            self.model.compile(self._optimizer())
            self.model.optimizer.build(self.model.trainable_variables)

    @property
    def is_chief(self) -> bool:
        return is_chief(self.strategy)

    @functools.cached_property
    def fingerprint(self) -> str:
        """That of the data."""
        return fingerprint(self.data)

    def steps_per_epoch(self) -> int:
        return len(self._dataset(epoch=0, start=0, shard=0))

    def train_epoch(self, show: Callable[[int, float, float], None]) -> float:
        """Does what is left of the epoch, and returns its mean loss over the batches.

        `show(batch, loss, words a second)` is called after each step. Raises DivergedError, with
        the step and the likely cause; the state is then that of the last saving, and weights that
        are no numbers are never saved.
        """
        settings, progress = self.settings, self.progress
        rate = settings.learning_rate * settings.decay**progress.epoch
        self.model.optimizer.learning_rate = rate
        saved = time.monotonic()
        words, started = 0, time.monotonic()
        for batch in self._batches():
            loss, real = (float(value) for value in self._compiled(*batch))
            progress.step += 1
            if not math.isfinite(loss):
                raise self._diverged("the loss is no number", batch)
            progress.batch += 1
            progress.losses.append(loss)
            words += int(real)
            show(progress.batch, loss, words / (time.monotonic() - started))
            if time.monotonic() - saved >= self.save_every and self._has_finite_weights():
                self.save()
                saved = time.monotonic()
        if not self._has_finite_weights():  # the last step's loss is that before it
            raise self._diverged("weights are no numbers")
        return float(np.mean(progress.losses[-progress.batch :]))

    def validation_loss(self) -> float:
        """The mean loss of the validation set's captions."""
        total, count = 0.0, 0
        for features, captions in caption_dataset(self.data, "val", 256, shuffle=False):
            total += float(self._summed(features, captions))
            count += len(captions)
        return total / count

    def check(self, results: Mapping[str, float]) -> None:
        """Raises DivergedError in every process if one of the chief's results is no number."""
        if self.agree(not all(map(math.isfinite, results.values()))):
            raise self._diverged("the validation loss is no number")

    def end_epoch(self, results: dict[str, float]) -> None:
        """Saves the state at the end of an epoch that gave these results."""
        self.progress.history.append(results)
        self.progress.epoch += 1
        self.progress.batch = 0
        self.save()

    def agree(self, stop: bool) -> bool:
        return agree(self.strategy, stop)

    # ---- the state

    def save(self) -> None:
        """Writes weights, optimizer, random state and place, so that `load` goes on exactly."""
        if not self.is_chief:
            return
        about = {
            "settings": dataclasses.asdict(self.settings),
            "progress": dataclasses.asdict(self.progress),
            "data": self.fingerprint,
        }
        arrays = {f"variable {k}": np.asarray(v) for k, v in enumerate(self._variables())}
        buffer = io.BytesIO()
        np.savez(buffer, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        self.out.write(STATE, buffer.getvalue())

    def load(self, state: State) -> None:
        """Goes on from a state; raises ValueError if it is of other data or another network."""
        if state.data != self.fingerprint:
            raise ValueError(
                f"{state.path} is of a run on other data: give --data the folder of that run"
            )
        arrays = state.arrays([tuple(variable.shape) for variable in self._variables()])
        for variable, array in zip(self._variables(), arrays, strict=True):
            variable.assign(array)
        self.progress = TrainState(**state.progress)

    def _variables(self) -> list[Any]:
        """All that steps change: weights, dropout's random state, the optimizer's variables."""
        model = [v for v in self.model.variables if v.path.split("/")[0] != "loss"]
        return [*model, *self.model.optimizer.variables]

    # ---- a step

    def _model(self) -> CaptioningRNN:
        settings = self.settings
        width = self.data["train_features"].shape[1]
        mean, std = _moments(self.data["train_features"])
        return CaptioningRNN(
            self.data["word_to_idx"],
            width,
            settings.wordvec_dim,
            settings.hidden_dim,
            settings.cell,
            dropout=settings.dropout,
            label_smoothing=settings.label_smoothing,
            feature_mean=mean,
            feature_std=std,
            encoder=self.data.get("encoder"),
            dtype=settings.precision,
        )

    def _optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(
            self.settings.learning_rate,
            weight_decay=self.settings.weight_decay or None,
            global_clipnorm=self.settings.clip_norm or None,
        )

    @functools.cached_property
    def _summed(self) -> Any:
        return tf.function(self.model.summed_loss, reduce_retracing=True, autograph=False)

    @functools.cached_property
    def _compiled(self) -> Any:
        return tf.function(self._replicated, reduce_retracing=True, autograph=False)

    def _replicated(self, features: Any, captions: Any) -> tuple[Any, Any]:
        """One step on every replica's rows: the batch's loss, and the words it had."""

        def step(features: Any, captions: Any) -> tuple[Any, Any]:
            replicas = tf.distribute.get_replica_context()
            loss, _ = self.model.optimize(features, captions)
            real = tf.reduce_sum(tf.cast(captions[:, 1:] != self.model.ids.null, tf.float32))
            return replicas.all_reduce("SUM", loss), replicas.all_reduce("SUM", real)

        results = self.strategy.run(step, args=(features, captions))
        loss, real = (self.strategy.experimental_local_results(result)[0] for result in results)
        return loss, real

    def _dataset(self, epoch: int, start: int, shard: int) -> Any:
        return caption_dataset(
            self.data,
            "train",
            self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
            start=start,
            shard=(shard, self.strategy.num_replicas_in_sync),
        )

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        """The batches that are left of this epoch; of several replicas, each has its own rows."""
        place = {"epoch": self.progress.epoch, "start": self.progress.batch}
        if self.strategy.num_replicas_in_sync == 1:
            yield from self._dataset(**place, shard=0)
            return
        shards: dict[int, Iterator] = {}

        def rows(context: Any) -> tuple[Any, Any]:
            shard = context.replica_id_in_sync_group
            if shard not in shards:
                shards[shard] = iter(self._dataset(**place, shard=shard))
            return next(shards[shard])

        for _ in range(self.steps_per_epoch() - self.progress.batch):
            yield self.strategy.experimental_distribute_values_from_function(rows)

    def _has_finite_weights(self) -> bool:
        return all(np.isfinite(w.numpy()).all() for w in self.model.trainable_variables)

    def _diverged(self, what: str, batch: tuple[Any, Any] | None = None) -> DivergedError:
        """The error for a run that came to this, after its last step or in it, on this batch."""
        what = f"step {self.progress.step}: {what}"
        features = self.strategy.experimental_local_results(batch[0]) if batch else ()
        if not all(np.isfinite(rows).all() for rows in features):
            return DivergedError(f"{what}, nor are its features: build them again")
        rate = self.settings.learning_rate * self.settings.decay**self.progress.epoch
        return DivergedError(
            f"{what}, most likely because steps are too long: begin again with a --learning-rate "
            f"below {rate:g}" + ("" if self.settings.clip_norm else " or with --clip-norm 5")
        )


@dataclasses.dataclass(frozen=True)
class State:
    """What `Trainer.save` wrote, read without running anything of it."""

    path: Path
    settings: dict[str, Any]
    progress: dict[str, Any]
    data: str

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises OSError if the folder holds no run, ValueError if its state is damaged."""
        path = folder / STATE
        if not path.exists():
            raise FileNotFoundError(
                f"{folder}: holds no training run ({STATE} is missing): name the run's --out folder"
            )
        damaged = ValueError(f"{path} is damaged or not a training run's: begin again")
        try:
            if path.stat().st_size > LARGEST_STATE:
                raise damaged
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
            state = cls(path, about["settings"], about["progress"], about["data"])
            TrainConfig(**state.settings), TrainState(**state.progress)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise damaged from error
        return state

    def arrays(self, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
        """The variables, which must have these shapes."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = [file[f"variable {k}"] for k in range(len(file.files) - 1)]
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path} is damaged: begin again") from error
        if [array.shape for array in arrays] != shapes:
            raise ValueError(f"{self.path} is of another network or another version: begin again")
        return arrays


def is_chief(strategy: Any) -> bool:
    """Whether this process is the one of a strategy's that writes and reports."""
    resolver: Any = getattr(strategy, "cluster_resolver", None)
    jobs = resolver.cluster_spec().jobs if resolver else []
    first = "chief" if "chief" in jobs else "worker"
    return not jobs or (resolver.task_type, resolver.task_id) == (first, 0)


def agree(strategy: Any, yes: bool) -> bool:
    """What the chief says, for every process; each waits until all have asked."""
    if strategy.num_replicas_in_sync == 1:
        return yes
    vote = tf.constant(int(yes and is_chief(strategy)))

    @tf.function(autograph=False)
    def total() -> Any:
        votes = strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", vote))
        return strategy.experimental_local_results(votes)[0]

    return bool(total() > 0)


def fingerprint(data: Mapping[str, Any]) -> str:
    """Tells data sets apart by vocabulary, encoder, training captions and some of the features."""
    captions, features = data["train_captions"], data["train_features"]
    told = [
        sorted(data["word_to_idx"].items(), key=lambda item: item[1]),
        str(data.get("encoder")),
        [list(captions.shape), list(features.shape)],
    ]
    hashed = hashlib.sha256(json.dumps(told).encode())
    for stored in (captions, data["train_image_idxs"]):
        for block in blocks(stored):
            hashed.update(np.ascontiguousarray(block, np.int32).data)
    hashed.update(np.ascontiguousarray(_some(features, 100), np.float32).data)
    return hashed.hexdigest()


def _some(features: Any, most: int) -> np.ndarray:
    """The features of at most so many images, evenly spread over all."""
    return features[np.linspace(0, len(features) - 1, min(len(features), most)).astype(int)]


def _moments(features: Any, most: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature, over at most `most` images, both (D,)."""
    rows = np.asarray(_some(features, most), np.float64)
    return rows.mean(0), np.maximum(rows.std(0), 1e-3)
