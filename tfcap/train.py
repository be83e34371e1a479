"""``python -m tfcap.train``: trains a captioner on a folder of captions and features."""

from __future__ import annotations

import argparse
import builtins
import dataclasses
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser, number
from visualization.cli.output import OutputFolder
from visualization.cli.running import loading_tensorflow, progress, run

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from tfcap.training import State, TrainConfig, Trainer

# The course's job: it learns 50 captions by heart. Its learning rate decays by cell.
OVERFIT = {
    "epochs": 50,
    "batch_size": 25,
    "learning_rate": 5e-3,
    "dropout": 0.0,
    "clip_norm": 0.0,
    "max_train": 50,
    "patience": 0,
}
OVERFIT_DECAY = {"rnn": 0.95, "lstm": 0.995}
OVERFITTED = 0.1  # the loss that the course asks of it
SCORED_IMAGES = 1000  # of the validation set, for CIDEr after each epoch


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 if the loss became no number or --overfit did not."""
    parser = Parser(
        prog="python -m tfcap.train",
        description="Trains a captioner. What it writes is a folder for python -m tfcap.caption.",
        epilog="example: python -m tfcap.train --data flickr8k --out captioner",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="what python -m tfcap.datasets wrote, or the course's coco_captioning "
        "(default with --overfit: drawn shapes)",
    )
    parser.add_argument(
        "--overfit",
        action="store_true",
        help="the course's job: learn 50 captions of 50 images by heart",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, exactly where it was"
    )
    _add_settings(parser)
    parser.add_argument(
        "--strategy",
        choices=("mirrored", "multi-worker"),
        help="train on all devices of this machine, or as one of the processes that the variable "
        "TF_CONFIG names, with the same --out on a disk that all see",
    )
    parser.add_argument(
        "--save-every",
        type=_at_least_0,
        default=60,
        metavar="SECONDS",
        help="how often the state for --resume is saved, beside each epoch's end "
        "(default: %(default)s; 0: after every step)",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="also write the figures of each epoch for TensorBoard (needs pip install tensorboard)",
    )
    parser.add_common_arguments()
    parser.set_defaults(seed=None, out=Path("captioner"))
    return run(parser, argv, _train)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """TrainConfig are None unless given, so that --resume can tell."""
    add = parser.add_argument
    count, positive = number(int, 1), number(float, 0, excluding=(0,))
    add("--cell", choices=("rnn", "lstm"), help="default: lstm")
    add("--hidden-dim", type=count, metavar="H", help="default: 512")
    add("--wordvec-dim", type=count, metavar="W", help="default: 256")
    add("--epochs", type=count, help="default: 15")
    add("--batch-size", type=count, help="captions in a step, over all devices (default: 128)")
    add("--learning-rate", type=positive, help="of Adam (default: 0.001)")
    add("--decay", type=positive, help="the learning rate's factor an epoch (default: 1)")
    add("--dropout", type=_fraction, help="default: 0.5")
    add("--weight-decay", type=_at_least_0, help="default: 0")
    add("--clip-norm", type=_at_least_0, help="of all gradients together (default: 5; 0: none)")
    add("--label-smoothing", type=_fraction, help="default: 0")
    add("--max-train", type=count, metavar="N", help="train on N captions, drawn by the seed")
    add(
        "--patience",
        type=_whole_at_least_0,
        metavar="EPOCHS",
        help="stop after so many without improvement (default: 5; 0: never)",
    )
    add(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        help="default: float32",
    )


def _fraction(text: str) -> float:
    value = _at_least_0(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text} is not below 1")
    return value


def _at_least_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def _whole_at_least_0(text: str) -> int:
    return 0 if text.strip() == "0" else number(int, 1)(text)


def _train(arguments: argparse.Namespace) -> int:
    out = OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from tfcap import training
    # Collective ops of several workers must be set up before TensorFlow does anything else.
    strategy = _strategy(arguments.strategy)
    state = training.State.read(out.path) if arguments.resume else None
    if not state and (out.path / training.STATE).exists():
        raise ValueError(
            f"--out {out.path} holds a training run already: go on with it by --resume, or name "
            "another folder"
        )
    if not state:
        _check_holds_no_captioner(out.path)
    settings = _settings(arguments, state)
    folder = _folder(arguments, out, strategy)
    data = _load(folder, settings, arguments.overfit)
    trainer = training.Trainer(settings, data, out, strategy, arguments.save_every)
    if state:
        trainer.load(state)
    quiet = arguments.quiet or not trainer.is_chief
    run = Run(trainer, out, folder, quiet, arguments.overfit, arguments.tensorboard)
    try:
        return run.to_the_end()
    except training.DivergedError as error:
        print(f"stopped at {error}", file=sys.stderr)
        return 1
    except training.READING_ERRORS as error:  # tf.data wraps what its reader raised
        for kind, reason in re.findall(r"\b(\w+Error): (.+)", str(error)):
            for known in (ValueError, OSError):
                if issubclass(getattr(builtins, kind, Warning), known):
                    raise known(reason) from error
        raise


def _check_holds_no_captioner(folder: Path) -> None:
    """One without a run's state is somebody's result, which the first epoch would replace."""
    from tfcap.pretrained import CONFIG, WEIGHTS

    for name in (CONFIG, WEIGHTS):
        if (folder / name).exists():
            raise ValueError(
                f"--out {folder} holds a captioner already, {name}, and no run to go on with: name "
                "another folder"
            )


def _strategy(name: str | None) -> Any:
    from visualization.backend import tf

    if name is None:
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        task = strategy.cluster_resolver.task_type
        if task not in ("chief", "worker"):
            raise ValueError(f"its task is of type {task!r}" if task else "it is not set")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"TF_CONFIG names no cluster that this process is in ({error}): give each process "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": K}}'
        ) from error
    return strategy


def _settings(arguments: argparse.Namespace, state: State | None) -> TrainConfig:
    """Those given, else those of the run that goes on, else the defaults."""
    from tfcap.training import TrainConfig

    names = {field.name for field in dataclasses.fields(TrainConfig)}
    said: dict[str, Any] = vars(arguments)
    given = {name: said[name] for name in names & said.keys() if said[name] is not None}
    if state:
        for name, value in given.items():
            if name not in ("epochs", "patience") and value != state.settings[name]:
                raise ValueError(
                    f"--{name.replace('_', '-')} {value}: the run in {state.path.parent} has "
                    f"{state.settings[name]}; leave it away, or begin another run with another --out"
                )
        return TrainConfig(**state.settings | given)
    if arguments.overfit:
        given = OVERFIT | {"decay": OVERFIT_DECAY[given.get("cell", "lstm")]} | given
    return TrainConfig(**given)


def _folder(arguments: argparse.Namespace, out: OutputFolder, strategy: Any) -> Path:
    """Where the data are: --data, or the shapes that --overfit draws, and goes on to draw."""
    from tfcap.training import agree, is_chief

    if arguments.data:
        return arguments.data
    if not arguments.overfit:
        raise ValueError(
            "--data names no folder: make one with python -m tfcap.datasets, or try --overfit"
        )
    folder = out.path / "shapes"
    if is_chief(strategy) and not (folder / "shapes_build.json").exists():  # written last
        from tfcap.data.build import make_shapes

        make_shapes(folder, train=100, val=20)
    agree(strategy, True)  # wait for the chief
    return folder


def _load(folder: Path, settings: TrainConfig, overfit: bool) -> dict:
    """The data; with --overfit, captions of as many images."""
    from tfcap.data import coco

    most = None if overfit else settings.max_train
    data = coco.load_coco_data(folder, most, seed=settings.seed)
    if "train_captions" not in data:
        raise ValueError(
            f"--data {folder} has no training captions: name a folder with the split train, as "
            "python -m tfcap.datasets builds it"
        )
    if overfit:
        rows = _of_distinct_images(data, settings.max_train or 50, settings.seed)
        for key in ("train_captions", "train_image_idxs"):
            data[key] = data[key][rows]
    elif "val_captions" not in data:
        raise ValueError(
            f"--data {folder} has no captions to validate on: build it again with some images in the "
            "split val, or with no splits given, where python -m tfcap.datasets draws them"
        )
    return data


def _of_distinct_images(data: dict, count: int, seed: int) -> np.ndarray:
    """Places of `count` training captions, no two of one image, drawn by the seed."""
    import numpy as np

    images = np.asarray(data["train_image_idxs"])
    order = np.random.default_rng(seed).permutation(len(images))
    _, first = np.unique(images[order], return_index=True)
    rows = order[np.sort(first)[:count]]
    if len(rows) < count:
        raise ValueError(f"--overfit needs {count} images, but the data has {len(rows)}")
    return np.sort(rows)


class Run:
    """A training run as the command shows and writes it: epochs, scores, the best weights, a curve."""

    def __init__(
        self,
        trainer: Trainer,
        out: OutputFolder,
        folder: Path,
        quiet: bool,
        overfit: bool,
        tensorboard: bool,
    ) -> None:
        self.trainer, self.out, self.folder = trainer, out, folder
        self.quiet, self.overfit = quiet, overfit
        self.references: dict[int, list[str]] = {}
        self.summaries: Any = None
        if trainer.is_chief:
            self.references = {} if overfit else _references(trainer.data, quiet)
            self.summaries = _summaries(out.path / "tensorboard") if tensorboard else None

    def to_the_end(self) -> int:
        """Trains the epochs that are left; returns the command's status."""
        trainer, settings = self.trainer, self.trainer.settings
        self._say(
            f"{len(trainer.data['train_captions']):,} captions, {len(trainer.data['word_to_idx']):,} "
            f"words, {trainer.steps_per_epoch()} steps an epoch, "
            f"{trainer.model.count_params():,} weights"
        )
        first = trainer.progress.epoch
        while trainer.progress.epoch < settings.epochs:
            if trainer.agree(self._has_stalled()):
                self._say(f"stopped: no improvement in {settings.patience} epochs")
                break
            self._epoch()
        if not trainer.is_chief:
            return 0
        if trainer.progress.epoch == first:  # the run may have been killed before it wrote them
            self._write_results()
        losses = trainer.progress.losses
        best = trainer.progress.best_epoch
        self._say(f"written  {self.out.path}: the captioner of epoch {best}, losses.png")
        if self.overfit and not losses[-1] < OVERFITTED:
            print(f"the loss is {losses[-1]:.3f}, not below {OVERFITTED}", file=sys.stderr)
            return 1
        return 0

    def _epoch(self) -> None:
        trainer, state = self.trainer, self.trainer.progress
        steps, first, begun = trainer.steps_per_epoch(), state.batch, time.monotonic()
        epochs = trainer.settings.epochs
        to_do = steps * (epochs - state.epoch)
        heading = f"epoch {state.epoch + 1} of {epochs}"
        with progress(f"{heading} ...", self.quiet) as show:

            def shown(batch: int, loss: float, speed: float) -> None:
                left = (time.monotonic() - begun) / (batch - first) * (to_do - batch)
                show(
                    f"{heading}, step {batch} of {steps}, loss {loss:.3f}, {speed:,.0f} words/s, "
                    f"{left / 60:.0f} min left"
                )

            results = {"epoch": state.epoch + 1, "loss": trainer.train_epoch(shown)}
            if trainer.is_chief:
                show(f"{heading}, validating ...")
                results |= self._validated()
            trainer.check(results)
            if trainer.is_chief:
                self._keep_if_best(results)
                if self.summaries:
                    self.summaries(results)
        results["seconds"] = time.monotonic() - begun
        trainer.end_epoch(results)
        if trainer.is_chief:
            self._write_results()
        self._say(
            "  ".join(
                f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value:3d}"
                for name, value in results.items()
            )
        )

    def _validated(self) -> dict[str, float]:
        """Loss and CIDEr on the validation set; --overfit has none."""
        if self.overfit:
            return {}
        results = {"val_loss": self.trainer.validation_loss()}
        if self.references:
            from tfcap.data.coco import decode_captions
            from tfcap.metrics.scores import score_captions

            model, images = self.trainer.model, list(self.references)
            words = model.sample(self.trainer.data["val_features"][images])
            said = dict(zip(images, decode_captions(words, model.idx_to_word), strict=True))
            results |= score_captions(said, self.references, metrics=("CIDEr",))
        return results

    def _keep_if_best(self, results: dict[str, float]) -> None:
        """Keeps the weights of the highest CIDEr, or where there is none of the lowest loss."""
        progress = self.trainer.progress
        score = results.get("CIDEr", -results.get("val_loss", results["loss"]))
        if progress.best is None or score > progress.best:
            if progress.best is None:
                self.trainer.save()  # no run could go on from a captioner alone
            progress.best, progress.best_epoch = score, int(results["epoch"])
            self.trainer.model.save_pretrained(self.out.path)

    def _has_stalled(self) -> bool:
        patience, progress = self.trainer.settings.patience, self.trainer.progress
        return bool(patience) and progress.epoch - progress.best_epoch >= patience

    def _write_results(self) -> None:
        from visualization.plotting import png

        trainer, state = self.trainer, self.trainer.progress
        lines = ["step,loss", *(f"{k + 1},{loss!r}" for k, loss in enumerate(state.losses))]
        self.out.write("losses.csv", "\n".join([*lines, ""]).encode())
        figure = loss_figure(state.losses, state.history)
        self.out.write("losses.png", png(figure))
        record = {
            "command": "tfcap.train",
            "settings": dataclasses.asdict(trainer.settings),
            "data": {"folder": str(self.folder), "fingerprint": trainer.fingerprint},
            "captions": len(trainer.data["train_captions"]),
            "encoder": trainer.data.get("encoder"),
            "history": state.history,
            "best_epoch": state.best_epoch,
            "steps": state.step,
        }
        self.out.write_json("train.json", record)

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)


def loss_figure(losses: Sequence[float], history: Sequence[Mapping[str, float]]) -> Figure:
    """The loss of every training step, and after each epoch that of the validation set.

    Args:
        losses: one a step.
        history: one an epoch, with "val_loss" where there is one.
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="compressed")
    axes = figure.subplots()
    width = max(1, len(losses) // 100)
    smooth = np.convolve(losses, np.full(width, 1 / width), "valid")
    axes.plot(range(1, len(losses) + 1), losses, "C0", linewidth=1, alpha=1 if width == 1 else 0.3)
    axes.plot(range(width, len(losses) + 1), smooth, "C0", label="training")
    validated = [epoch["val_loss"] for epoch in history if "val_loss" in epoch]
    if validated:
        steps = [len(losses) * (k + 1) / len(validated) for k in range(len(validated))]
        axes.plot(steps, validated, "C1o-", label="validation")
        axes.legend()
    axes.set_xlabel("step")
    axes.set_ylabel("loss: cross entropy of a caption")
    axes.set_title("Training loss history")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return figure


def _summaries(folder: Path) -> Any:
    """Writes what TensorBoard shows; raises ImportError where it is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ImportError("--tensorboard needs TensorBoard: pip install tensorboard") from None
    from visualization.backend import tf

    writer = tf.summary.create_file_writer(str(folder))

    def write(results: Mapping[str, float]) -> None:
        with writer.as_default():
            for name, value in results.items():
                tf.summary.scalar(name, value, step=int(results["epoch"]))
        writer.flush()

    return write


def _references(data: Mapping[str, Any], quiet: bool) -> dict[int, list[str]]:
    """The captions of at most `SCORED_IMAGES` validation images; none where CIDEr cannot be had."""
    from tfcap.metrics.results import references_by_image
    from tfcap.metrics.scores import check_installed

    try:
        check_installed()
    except ImportError as error:
        if not quiet:
            print(f"no CIDEr, the validation loss decides: {error}", flush=True)
        return {}
    references = references_by_image(data, "val")
    images = sorted(references)
    step = max(1, len(images) // SCORED_IMAGES)
    return {image: references[image] for image in images[::step][:SCORED_IMAGES]}


if __name__ == "__main__":
    sys.exit(main())
