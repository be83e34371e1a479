"""The training loop of a captioner: one compiled step, on one device or many, and its epochs."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tfcap.data.batches import caption_dataset
from tfcap.data.coco import decode_captions
from tfcap.metrics.results import references_by_image
from tfcap.metrics.scores import check_installed, score_captions
from tfcap.model import CaptioningRNN
from tfcap.train_state import SavedState, TrainConfig, TrainState, evenly_spread, fingerprint
from visualization.backend import keras, tf
from visualization.files.atomic import make_folder

__all__ = ["DivergedError", "Trainer", "agree", "is_chief", "validation_references"]

Batch = tuple[tuple[Any, Any], Any]  # (features (I, ...), image_of_row (N,)), captions (N, L)
SCORED_IMAGES = 1000  # of the validation set, after each epoch
_VALIDATION = {"split": "val", "batch_size": 256, "shuffle": False}
MOMENTS_IMAGES = 10_000  # for the features' mean and standard deviation


class DivergedError(ValueError):
    """The loss or the weights became NaN or infinite."""


class Trainer:
    """Trains a captioner; its folder then holds the best captioner and the state to go on from.

    The random generators of the caller (Python's, NumPy's, TensorFlow's, Keras's) are left as they are.

    Args:
        config: the settings.
        data: as `load_coco_data` returns it. Without "val_captions", the training loss decides which
            epoch is the best.
        folder: where the captioner and the state are written; made if missing.
        strategy: a ``tf.distribute.Strategy``; by default one device.
        references: image -> its captions, for the CIDEr that then decides which epoch is the best; see
            `validation_references`.
        captioner: what the run goes on from, with the data's vocabulary; by default a new one.
        save_every: seconds between saved states within an epoch; 0 saves one after every step.

    Attributes:
        model: the captioner.
        state: how far the run has come.
        is_chief: whether this process is the one that writes.

    Raises:
        ValueError: a setting is out of range.
        OSError: the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "dog": 4}
        >>> data = {"word_to_idx": words, "train_features": np.ones((2, 3), np.float32)}
        >>> data["train_captions"] = np.array([[1, 4, 2], [1, 4, 2]], np.int32)
        >>> data["train_image_idxs"] = np.array([0, 1])
        >>> config = TrainConfig(hidden_dim=4, wordvec_dim=4, epochs=2)
        >>> trainer = Trainer(config, data, tempfile.mkdtemp())
        >>> [results["epoch"] for results in trainer.epochs()]
        [1, 2]
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Mapping[str, Any],
        folder: str | os.PathLike[str],
        *,
        strategy: Any = None,
        references: Mapping[int, list[str]] | None = None,
        captioner: CaptioningRNN | None = None,
        save_every: float = 60,
    ) -> None:
        self.captioner = captioner
        self.config, self.data, self.folder = config, data, make_folder(folder)
        self.strategy = strategy or tf.distribute.get_strategy()
        self.references, self.save_every = references, save_every
        self.is_chief = is_chief(self.strategy)
        self.state = TrainState()
        with self.strategy.scope(), _seeded(config.seed):
            self.model = self._model()
            self.model.compile(
                keras.optimizers.Adam(
                    config.learning_rate,
                    weight_decay=config.weight_decay or None,
                    global_clipnorm=config.clip_norm or None,
                    use_ema=bool(config.average),
                    ema_momentum=config.average,
                )
            )
            self.model.optimizer.build(self.model.trainable_variables)
        ids = self.strategy.experimental_distribute_values_from_function(
            lambda context: context.replica_id_in_sync_group
        )
        # The replicas of this process; each reads a part, a shard, of every batch.
        self._replicas = tuple(map(int, self.strategy.experimental_local_results(ids)))

    @functools.cached_property
    def fingerprint(self) -> str:
        """The `fingerprint` of the data."""
        return fingerprint(self.data)

    @property
    def steps_per_epoch(self) -> int:
        """Of this epoch: the next may fill its batches with whole images better or worse."""
        return self._steps(self.state.epoch)

    @functools.cached_property
    def _steps(self) -> Callable[[int], int]:
        return functools.cache(
            lambda epoch: len(caption_dataset(self.data, **self._reading(0), epoch=epoch))
        )

    def epochs(
        self, report: Callable[[float, float], None] = lambda loss, speed: None
    ) -> Iterator[dict[str, float]]:
        """Trains the epochs that are left, until the results stop improving.

        Args:
            report: called after each step with its loss and the words a second of this epoch.

        Yields:
            After each epoch, once its state is saved: "epoch", "loss" (the mean over its batches),
            "seconds", and in the chief, where there is a validation set, "val_loss" and "CIDEr".

        Raises:
            DivergedError: with the step and the likely cause. The state remains that of the last
                save; weights that are NaN or infinite are never saved.
            ValueError, OSError: the data cannot be read any more.
        """
        while self.state.epoch < self.config.epochs and not agree(
            self.strategy, self._has_stalled()
        ):
            begun = time.monotonic()
            results = {"epoch": self.state.epoch + 1, "loss": self._train_epoch(report)}
            with self._averaged():
                if self.is_chief:
                    results |= self._validate()
            if agree(self.strategy, not all(map(math.isfinite, results.values()))):
                raise self._diverged("the validation loss is NaN or infinite")
            if self.is_chief:
                self._keep_if_best(results)
            results["seconds"] = time.monotonic() - begun
            self.state.history.append(results)
            self.state.epoch += 1
            self.state.batch = 0
            self.save()
            yield results

    def save(self) -> None:
        """Writes weights, optimizer, random state and progress, from which `load` goes on exactly."""
        if self.is_chief:
            arrays = [np.asarray(variable) for variable in self._variables()]
            SavedState.write(self.folder, self.config, self.state, self.fingerprint, arrays)

    def load(self, saved: SavedState) -> None:
        """Goes on from a saved state; raises ValueError if its data or its network are others."""
        if saved.data != self.fingerprint:
            raise ValueError(
                f"{saved.path} belongs to a run on other data: name the data folder of that run"
            )
        variables = self._variables()
        arrays = saved.arrays([tuple(variable.shape) for variable in variables])
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.state = saved.state

    def _variables(self) -> list[Any]:
        """All that steps change: weights, dropout's random state, the optimizer's variables."""
        model = [v for v in self.model.variables if v.path.split("/")[0] != "loss"]
        return [*model, *self.model.optimizer.variables]

    def _model(self) -> CaptioningRNN:
        config, features = self.config, self.data["train_features"]
        if self.captioner is not None:
            return self._going_on(self.captioner)
        attention = config.cell == "attention"
        if attention != (len(features.shape) == 3):
            how = "needs" if attention else "takes no"
            raise ValueError(
                f"the cell {config.cell} {how} features of cells, received {features.shape[1:]} for an "
                f"image: build the data {'with' if attention else 'without'} --cells"
            )
        images = MOMENTS_IMAGES // (10 if attention else 1)
        some = np.asarray(evenly_spread(features, images)).reshape(-1, features.shape[-1])
        mean, std = (f(some, axis=0, dtype=np.float64) for f in (np.mean, np.std))  # (D,)
        return CaptioningRNN(
            self.data["word_to_idx"],
            features.shape[-1],
            config.wordvec_dim,
            config.hidden_dim,
            config.cell,
            dropout=config.dropout,
            label_smoothing=config.label_smoothing,
            feature_mean=mean,
            feature_std=np.maximum(std, 1e-3),
            encoder=self.data.get("encoder"),
            heads=config.heads,
            feature_dropout=config.feature_dropout,
            dtype=config.precision,
        )

    def _going_on(self, captioner: CaptioningRNN) -> CaptioningRNN:
        """A copy of the captioner that is trained by this run's settings."""
        config, data = self.config, self.data
        if captioner.word_to_idx != data["word_to_idx"]:
            raise ValueError(
                "the data and the captioner number their words differently: use "
                "tfcap.fine_tuning.with_vocabulary_of"
            )
        shape = data["train_features"].shape
        if not captioner.takes(shape) or captioner.encoder != data.get("encoder"):
            raise ValueError(
                f"the data have features {shape[1:]} of {data.get('encoder')}, but the captioner takes "
                f"({'L, ' * captioner.looks}{captioner.input_dim}) of {captioner.encoder}: build the "
                "data with its encoder"
            )
        settings = captioner.get_config() | {
            "dtype": config.precision,
            "dropout": config.dropout,
            "feature_dropout": config.feature_dropout,
            "label_smoothing": config.label_smoothing,
        }
        model = CaptioningRNN(**settings)
        for name, variable in model.parameters.items():
            variable.assign(captioner.parameters[name])
        model.decoding.update(captioner.decoding)
        return model

    # ---- an epoch

    def _train_epoch(self, report: Callable[[float, float], None]) -> float:
        """Does what is left of the epoch; returns its mean loss over the batches."""
        state = self.state
        started = saved = time.monotonic()
        words = 0.0
        order = {"epoch": state.epoch, "start": state.batch}
        for batches in _batches(self.data, [self._reading(k) | order for k in self._replicas]):
            self.model.optimizer.learning_rate = self._learning_rate()
            loss, count = self.step_on(batches)
            state.step += 1
            if not math.isfinite(loss):
                raise self._diverged("the loss is NaN or infinite", batches)
            state.batch += 1
            state.losses.append(loss)
            words += count
            report(loss, words / (time.monotonic() - started))
            if time.monotonic() - saved >= self.save_every and self._has_finite_weights():
                self.save()
                saved = time.monotonic()
        if not self._has_finite_weights():  # the last step's loss is that before it
            raise self._diverged("weights are NaN or infinite")
        return float(np.mean(state.losses[-state.batch :]))

    def _reading(self, replica: int) -> dict[str, Any]:
        """How `caption_dataset` reads the batches of one replica."""
        return {
            "batch_size": self.config.batch_size,
            "seed": self.config.seed,
            "shard": (replica, self.strategy.num_replicas_in_sync),
        }

    def _learning_rate(self) -> float:
        config, state = self.config, self.state
        rate = config.learning_rate * config.decay**state.epoch
        if config.schedule == "cosine":  # I. Loshchilov, F. Hutter (2017), SGDR, equation 5
            done = (state.epoch + state.batch / self.steps_per_epoch) / config.epochs
            rate *= (1 + math.cos(math.pi * done)) / 2
        return rate

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Meanwhile the model has the average of its weights, if there is one."""
        if not self.config.average:
            yield
            return
        before = [np.asarray(variable) for variable in self._variables()]
        swap = keras.callbacks.SwapEMAWeights()
        swap.set_model(self.model)
        swap.on_test_begin()
        try:
            yield
        finally:  # swapped back, they would be rounded
            for variable, value in zip(self._variables(), before, strict=True):
                variable.assign(value)

    def _validate(self) -> dict[str, float]:
        """The mean loss of the validation captions, and the CIDEr of greedy sentences."""
        if "val_captions" not in self.data:
            return {}
        total = 0.0
        for (((features, image_of_row), captions),) in _batches(self.data, [_VALIDATION]):
            total += float(self._summed_loss(features, captions, image_of_row))
        results = {"val_loss": total / len(self.data["val_captions"])}
        if self.references:
            images = list(self.references)
            tokens = self.model.sample(self.data["val_features"][images])
            sentences = decode_captions(tokens, self.model.idx_to_word)
            predictions = dict(zip(images, sentences, strict=True))
            results |= score_captions(predictions, self.references, metrics=("CIDEr",))
        return results

    def _keep_if_best(self, results: Mapping[str, float]) -> None:
        """Keeps the weights of the highest CIDEr, or where there is none, of the lowest loss."""
        score = results.get("CIDEr", -results.get("val_loss", results["loss"]))
        if self.state.best is None or score > self.state.best:
            if self.state.best is None:
                self.save()  # no run could go on from a captioner alone
            self.state.best, self.state.best_epoch = score, int(results["epoch"])
            with self._averaged():
                self.model.save_pretrained(self.folder, half=self.config.half)

    def _has_stalled(self) -> bool:
        patience = self.config.patience
        return bool(patience) and self.state.epoch - self.state.best_epoch >= patience

    # ---- a step

    def step_on(self, batches: tuple[Batch, ...]) -> tuple[float, float]:
        """One step on the parts of a batch, one for each replica of this process -> loss, words."""
        loss, words = self.train_step(batches)
        return float(loss), float(words)

    @functools.cached_property
    def train_step(self) -> Any:
        """One step on a batch, compiled: the parts of this process's replicas -> loss, words."""
        parts = (self.signature(),) * len(self._replicas)
        return tf.function(self._replicated, input_signature=[parts], autograph=False)

    @functools.cached_property
    def _summed_loss(self) -> Any:
        def loss(features: Any, captions: Any, image_of_row: Any) -> Any:
            return self.model.summed_loss(features, captions, image_of_row=image_of_row)

        (features, image_of_row), captions = self.signature(_VALIDATION)
        signature = features, captions, image_of_row
        return tf.function(loss, input_signature=signature, autograph=False)

    def signature(self, reading: Mapping[str, Any] | None = None) -> Any:
        """Of batches of any length, so that TensorFlow traces a function only once."""
        return caption_dataset(self.data, **(reading or self._reading(0))).element_spec

    def _replicated(self, batches: tuple[Batch, ...]) -> tuple[Any, Any]:
        def step(batch: Batch) -> tuple[Any, Any]:
            (features, image_of_row), captions = batch
            context = tf.distribute.get_replica_context()
            loss, _ = self.model.optimize(features, captions, image_of_row)
            words = tf.reduce_sum(tf.cast(captions[:, 1:] != self.model.ids.null, tf.float32))
            return context.all_reduce("SUM", loss), context.all_reduce("SUM", words)

        parts = iter(batches)
        distribute = self.strategy.experimental_distribute_values_from_function
        loss, words = self.strategy.run(step, args=(distribute(lambda context: next(parts)),))
        first = self.strategy.experimental_local_results
        return first(loss)[0], first(words)[0]

    def _has_finite_weights(self) -> bool:
        return all(np.isfinite(w.numpy()).all() for w in self.model.trainable_variables)

    def _diverged(self, what: str, batches: tuple[Batch, ...] = ()) -> DivergedError:
        """The error for a run to which `what` happened after its last step, or on these batches."""
        what = f"step {self.state.step}: {what}"
        if not all(np.isfinite(features).all() for (features, _), _ in batches):
            return DivergedError(f"{what}, and so are its features: build them again")
        return DivergedError(
            f"{what}, most likely because the steps are too large: start again with a learning rate "
            f"below {self._learning_rate():g}"
            + ("" if self.config.clip_norm else " or with gradients clipped to a norm of 5")
        )


def validation_references(
    data: Mapping[str, Any], most: int = SCORED_IMAGES
) -> dict[int, list[str]]:
    """The captions of at most `most` validation images, evenly spread, for `Trainer`.

    Raises:
        ImportError: the scorer of CIDEr is not installed.
        ValueError: there is no validation set.

    Example:
        >>> data = {"val_captions": np.array([[1, 4, 2], [1, 5, 2]]), "val_image_idxs": [1, 0]}
        >>> data |= {"val_features": np.ones((2, 3)), "val_urls": ["a.jpg", "b.jpg"]}
        >>> data["idx_to_word"] = ["<NULL>", "<START>", "<END>", "<UNK>", "dog", "cat"]
        >>> validation_references(data)
        {0: ['cat'], 1: ['dog']}
    """
    check_installed()
    references = references_by_image(data, "val")
    images = sorted(references)[:: max(1, len(references) // most)][:most]
    return {image: references[image] for image in images}


def is_chief(strategy: Any) -> bool:
    """Whether this process is the one among a strategy's that writes and reports.

    Example:
        >>> is_chief(tf.distribute.get_strategy())
        True
    """
    resolver: Any = getattr(strategy, "cluster_resolver", None)
    jobs = resolver.cluster_spec().jobs if resolver else []
    first = "chief" if "chief" in jobs else "worker"
    return not jobs or (resolver.task_type, resolver.task_id) == (first, 0)


def agree(strategy: Any, yes: bool) -> bool:
    """What the chief says, in every process; each waits until all have asked.

    Example:
        >>> agree(tf.distribute.get_strategy(), True)
        True
    """
    if strategy.num_replicas_in_sync == 1:
        return yes
    vote = tf.constant(int(yes and is_chief(strategy)))

    @tf.function(autograph=False)
    def total() -> Any:
        votes = strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", vote))
        return strategy.experimental_local_results(votes)[0]

    return bool(total() > 0)


def _batches(
    data: Mapping[str, Any], readings: list[dict[str, Any]]
) -> Iterator[tuple[Batch, ...]]:
    """The batches of several datasets side by side; errors of reading are those that were raised."""
    errors: list[Exception] = []
    datasets = [caption_dataset(data, **reading, on_error=errors.append) for reading in readings]
    try:
        yield from zip(*datasets, strict=True)
    except tf.errors.OpError as error:  # in which TensorFlow has kept only the message of another
        raise (errors or [error])[0] from None


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Layers that are made meanwhile depend on the seed: Keras takes theirs from Python's generator."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
