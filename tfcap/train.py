"""``python -m tfcap.train``: trains a captioner on a folder of captions and features."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser, number
from visualization.cli.output import OutputFolder
from visualization.cli.running import loading_tensorflow, progress, run

if TYPE_CHECKING:
    import numpy as np

    from tfcap.model import CaptioningRNN
    from tfcap.train_state import SavedState, TrainConfig
    from tfcap.training import Trainer

# Small steps keep what the captioner has learned.
_FINE_TUNE = {"learning_rate": 3e-4}
_SELF_CRITICAL = {
    "learning_rate": 5e-5,
    "epochs": 10,
    "batch_size": 125,
    "dropout": 0.0,
    "schedule": "cosine",
    "patience": 0,
}

# The course's job: it learns 50 captions by heart. Its learning rate decays by cell.
_OVERFIT = {
    "epochs": 50,
    "batch_size": 25,
    "learning_rate": 5e-3,
    "dropout": 0.0,
    "clip_norm": 0.0,
    "max_train": 50,
    "patience": 0,
}
_OVERFIT_DECAY = {"rnn": 0.95, "lstm": 0.995, "attention": 0.995}
_OVERFITTED = 0.1  # the loss that the course asks of it
_DRAW_EVERY = 10  # seconds: small epochs take less time than their picture


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 if the loss became NaN or --overfit did not overfit."""
    parser = Parser(
        prog="python -m tfcap.train",
        description="Trains a captioner. What it writes is a folder for python -m tfcap.caption.",
        epilog="example: python -m tfcap.train --data flickr8k --out captioner",
    )
    add = parser.add_argument
    count, positive = number(int, 1), number(float, 0, excluding=(0,))
    from_0, fraction = number(float, 0), number(float, 0, 1, excluding=(1,))
    add(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="what python -m tfcap.datasets wrote, or the course's coco_captioning "
        "(default with --overfit: drawn shapes)",
    )
    add(
        "--overfit",
        action="store_true",
        help="the course's job: learn 50 captions of 50 images by heart",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --out, exactly where it was; with another --batch-size or "
        "--learning-rate, from its last whole epoch",
    )
    going_on = parser.add_mutually_exclusive_group()
    going_on.add_argument(
        "--init-from",
        metavar="CAPTIONER",
        help="go on from a trained captioner on this data (learning rate 0.0003); its vocabulary gets "
        "the data's new words",
    )
    going_on.add_argument(
        "--self-critical",
        metavar="CAPTIONER",
        help="go on from a trained captioner on CIDEr itself: it draws sentences and learns from how "
        "each scores (learning rate 0.00005, cosine, 10 epochs, no dropout)",
    )
    add(
        "--keep-vocabulary",
        action="store_true",
        help="with --init-from: new words become <UNK>",
    )
    # None unless given, so that --resume can tell. The defaults are those of TrainConfig.
    add("--cell", choices=("rnn", "lstm", "attention"), help="default: lstm")
    add("--hidden-dim", type=count, metavar="H", help="default: 512")
    add("--wordvec-dim", type=count, metavar="W", help="default: 256")
    add("--epochs", type=count, help="default: 15")
    add("--batch-size", type=count, help="captions in a step, over all devices (default: 128)")
    add("--learning-rate", type=positive, help="of Adam (default: 0.001)")
    add("--decay", type=positive, help="the learning rate's factor an epoch (default: 1)")
    add("--dropout", type=fraction, help="default: 0.5")
    add("--weight-decay", type=from_0, help="default: 0")
    add("--clip-norm", type=from_0, help="of all gradients together (default: 5; 0: none)")
    add("--label-smoothing", type=fraction, help="default: 0")
    add("--feature-dropout", type=fraction, help="of the photographs' features (default: 0)")
    add("--heads", type=count, help="of attention (default: 8)")
    add(
        "--schedule",
        choices=("constant", "cosine"),
        help="of the learning rate; cosine: down to 0 at the last step (default: constant)",
    )
    add(
        "--average",
        type=fraction,
        metavar="SHARE",
        help="keep a moving average of the weights, of which each step keeps this share, such as "
        "0.999; it is what is validated and written (default: 0, no average)",
    )
    add("--max-train", type=count, metavar="N", help="train on N captions, drawn by the seed")
    add(
        "--patience",
        type=number(int, 0),
        metavar="EPOCHS",
        help="stop after so many without improvement (default: 5; 0: never)",
    )
    add(
        "--half",
        action="store_true",
        default=None,
        help="write the captioner in half precision, in half the room",
    )
    precisions = ("float32", "mixed_bfloat16", "mixed_float16")
    add("--precision", choices=precisions, help="default: float32")
    add(
        "--strategy",
        choices=("mirrored", "multi-worker"),
        help="train on all devices of this machine, or as one of the processes that the variable "
        "TF_CONFIG names, with the same --out on a disk that all see",
    )
    add(
        "--save-every",
        type=from_0,
        default=60,
        metavar="SECONDS",
        help="how often to save the state for --resume within an epoch; it is also saved after each "
        "(default: %(default)s; 0: after every step)",
    )
    add(
        "--tensorboard",
        action="store_true",
        help="also write each epoch's results for TensorBoard (needs pip install tensorboard)",
    )
    parser.add_common_arguments()
    parser.set_defaults(seed=None, out=Path("captioner"))
    return run(parser, argv, _train)


def _train(arguments: argparse.Namespace) -> int:
    from tfcap.train_state import SavedState

    if arguments.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ImportError("--tensorboard needs TensorBoard: pip install tensorboard")
    out = OutputFolder(arguments.out)
    saved = SavedState.read(out.path) if arguments.resume else None
    if not saved:
        _check_unused(out.path)
    config = _config(arguments, saved)
    start, changed = (saved, []) if saved is None else _start(config, saved)
    if arguments.keep_vocabulary and not arguments.init_from:
        raise ValueError("--keep-vocabulary needs --init-from: omit it")
    with loading_tensorflow(arguments.quiet):
        from tfcap import training
    # Collective ops of several workers must be set up before TensorFlow does anything else.
    strategy = _strategy(arguments.strategy)
    chief = training.is_chief(strategy)
    quiet = arguments.quiet or not chief

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    cells = config.cell == "attention"
    folder = arguments.data or _shapes(arguments.overfit, cells, out, strategy)
    data = _load(folder, config, arguments.overfit)
    captioner, data = _captioner(config, data, saved, out.path, arguments.keep_vocabulary)
    references = None
    if chief and "val_captions" in data:
        try:
            references = training.validation_references(data)
        except ImportError as error:
            say(f"no CIDEr, the validation loss decides: {error}")
    kind: type[Trainer] = training.Trainer
    if config.self_critical:
        from tfcap.self_critical import SelfCriticalTrainer

        kind = SelfCriticalTrainer
    trainer = kind(
        config,
        data,
        out.path,
        strategy=strategy,
        references=references,
        captioner=captioner,
        save_every=arguments.save_every,
    )
    if changed:
        epochs = start.state.epoch if start else 0
        say(f"{' and '.join(changed)}: going on from the end of epoch {epochs}")
    if start:
        trainer.load(start)
    summarize = _summaries(out.path / "tensorboard") if arguments.tensorboard and chief else None
    say(
        f"{len(data['train_captions']):,} captions, {len(data['word_to_idx']):,} words, "
        f"{trainer.steps_per_epoch} steps an epoch, {trainer.model.count_params():,} weights"
    )
    drawn = time.monotonic()
    try:
        with progress("training ...", quiet) as show:
            for results in trainer.epochs(_reporter(trainer, show)):
                show("")
                say("  ".join(f"{name} {value:.4g}" for name, value in results.items()))
                if chief:
                    draw = time.monotonic() - drawn > _DRAW_EVERY
                    _write_results(out, trainer, folder, draw)
                    drawn = time.monotonic() if draw else drawn
                if summarize:
                    summarize(results)
    except training.DivergedError as error:
        print(f"stopped at {error}", file=sys.stderr)
        return 1
    if not chief:
        return 0
    state = trainer.state
    _write_results(out, trainer, folder, draw=True)
    if state.epoch < config.epochs:
        say(f"stopped: no improvement in {config.patience} epochs")
    say(f"written  {out.path}: the captioner of epoch {state.best_epoch}, losses.png")
    if arguments.overfit and not state.losses[-1] < _OVERFITTED:
        print(f"the loss is {state.losses[-1]:.3f}, not below {_OVERFITTED}", file=sys.stderr)
        return 1
    return 0


def _check_unused(folder: Path) -> None:
    """The first epoch would replace a captioner, which may be somebody's result."""
    from tfcap.pretrained import CONFIG, WEIGHTS
    from tfcap.train_state import STATE_FILE

    if (folder / STATE_FILE).exists():
        raise ValueError(
            f"--out {folder} already holds a training run: continue it with --resume, or name another "
            "folder"
        )
    for name in (CONFIG, WEIGHTS):
        if (folder / name).exists():
            raise ValueError(
                f"--out {folder} already holds a captioner ({name}) and no run to continue: name "
                "another folder"
            )


def _config(arguments: argparse.Namespace, saved: SavedState | None) -> TrainConfig:
    """The settings given, else those of the run that goes on, else the defaults."""
    from tfcap.train_state import TrainConfig

    names = [field.name for field in dataclasses.fields(TrainConfig)]
    given: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    if given.pop("self_critical"):
        given |= {"self_critical": True, "init_from": arguments.self_critical}
    given = {name: value for name, value in given.items() if value is not None}
    if saved:
        for name, value in given.items():
            before = getattr(saved.config, name)
            if name not in ("epochs", "patience", *_FROM_WHOLE_EPOCH) and value != before:
                raise ValueError(
                    f"--{name.replace('_', '-')} {value}: the run in {saved.path.parent} has {before}; "
                    "omit it, or start another run with another --out"
                )
        return dataclasses.replace(saved.config, **given)
    if given.get("init_from"):
        given = (_SELF_CRITICAL if given.get("self_critical") else _FINE_TUNE) | given
        given |= _of_captioner(given)
    if arguments.overfit:
        decay = _OVERFIT_DECAY[str(given.get("cell", "lstm"))]
        given = _OVERFIT | {"decay": decay} | given
    return TrainConfig(**given)


def _start(config: TrainConfig, saved: SavedState) -> tuple[SavedState | None, list[str]]:
    """The state that the run goes on from, None for its beginning, and which settings have changed.

    Batches of another size are others, so that the epoch that was interrupted begins again.
    """
    from tfcap.train_state import EPOCH_STATE_FILE, SavedState

    now, before = dataclasses.asdict(config), dataclasses.asdict(saved.config)
    changed = [
        f"{name.replace('_', ' ')} {now[name]:g} in place of {before[name]:g}"
        for name in _FROM_WHOLE_EPOCH
        if now[name] != before[name]
    ]
    if not changed or not saved.state.batch:
        return saved, changed
    if not saved.state.epoch:
        return None, changed
    if not (saved.path.parent / EPOCH_STATE_FILE).exists():
        raise ValueError(
            f"{saved.path.parent} has no {EPOCH_STATE_FILE}, from which a run goes on with other "
            "settings: resume it without them until an epoch ends"
        )
    return SavedState.read(saved.path.parent, EPOCH_STATE_FILE), changed


_FROM_WHOLE_EPOCH = ("batch_size", "learning_rate")  # what a run may go on with from there
_ARCHITECTURE = {
    "cell": "cell_type",
    "hidden_dim": "hidden_dim",
    "wordvec_dim": "wordvec_dim",
    "heads": "heads",
}


def _of_captioner(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the captioner decides from which the run goes on."""
    from tfcap.pretrained import read_config

    has = read_config(given["init_from"])["architecture"]
    decided = {name: has[key] for name, key in _ARCHITECTURE.items() if key in has}
    for name, value in decided.items():
        if given.get(name, value) != value:
            raise ValueError(
                f"--{name.replace('_', '-')} {given[name]}: the captioner {given['init_from']} has "
                f"{value}; omit it"
            )
    return decided


def _captioner(
    config: TrainConfig,
    data: dict[str, Any],
    saved: SavedState | None,
    out: Path,
    keep_vocabulary: bool,
) -> tuple[CaptioningRNN | None, dict[str, Any]]:
    """The captioner that the run goes on from, and the data with its vocabulary."""
    from tfcap.fine_tuning import with_more_words, with_vocabulary_of
    from tfcap.model import CaptioningRNN

    if config.init_from is None:
        return None, data
    captioner = CaptioningRNN.from_pretrained(out if saved else config.init_from)
    if not (saved or keep_vocabulary or config.self_critical):
        captioner = with_more_words(captioner, data["word_to_idx"], config.seed)
    if not saved:
        captioner.save_pretrained(out)  # what --resume begins with
    return captioner, with_vocabulary_of(captioner, data)


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


def _shapes(overfit: bool, cells: bool, out: OutputFolder, strategy: Any) -> Path:
    """A folder of drawn shapes for --overfit, which the chief draws, or goes on to draw."""
    from tfcap import make_shapes, training

    if not overfit:
        raise ValueError(
            "--data names no folder: make one with python -m tfcap.datasets, or try --overfit"
        )
    folder = out.path / "shapes"
    if training.is_chief(strategy) and not (folder / "shapes_build.json").exists():  # written last
        encoder = "squeezenet_cells" if cells else "squeezenet"
        make_shapes(folder, train=100, val=20, encoder=encoder)
    training.agree(strategy, True)  # wait for the chief
    return folder


def _load(folder: Path, config: TrainConfig, overfit: bool) -> dict[str, Any]:
    """The data; with --overfit, captions of as many images and nothing to validate on."""
    from tfcap import load_coco_data

    data = load_coco_data(folder, None if overfit else config.max_train, seed=config.seed)
    if "train_captions" not in data:
        raise ValueError(
            f"--data {folder} has no training captions: name a folder with the split train, as "
            "python -m tfcap.datasets builds it"
        )
    if overfit:
        rows = _of_distinct_images(data, config.max_train or 50, config.seed)
        for key in ("train_captions", "train_image_idxs"):
            data[key] = data[key][rows]
        return {key: value for key, value in data.items() if not key.startswith("val_")}
    if "val_captions" not in data:
        raise ValueError(
            f"--data {folder} has no captions to validate on: build it again with some images in the "
            "split val, or with no splits given, where python -m tfcap.datasets draws them"
        )
    return data


def _of_distinct_images(data: Mapping[str, Any], count: int, seed: int) -> np.ndarray:
    """The rows of `count` training captions, no two of one image, drawn by the seed."""
    import numpy as np

    images = np.asarray(data["train_image_idxs"])
    order = np.random.default_rng(seed).permutation(len(images))
    _, first = np.unique(images[order], return_index=True)
    rows = order[np.sort(first)[:count]]
    if len(rows) < count:
        raise ValueError(
            f"--overfit needs captions of {count} images, but the data has those of {len(rows)}: give "
            "a smaller --max-train"
        )
    return np.sort(rows)


def _reporter(trainer: Trainer, show: Callable[[str], None]) -> Callable[[float, float], None]:
    """Shows where the run is after each step, and how long it may still take."""
    begun, first = time.monotonic(), trainer.state.step
    epochs = trainer.config.epochs

    def report(loss: float, speed: float) -> None:
        state, steps = trainer.state, trainer.steps_per_epoch
        to_do = steps * (epochs - state.epoch) - state.batch
        left = (time.monotonic() - begun) / (state.step - first) * to_do
        show(
            f"epoch {state.epoch + 1} of {epochs}, "
            + (f"step {state.batch} of {steps}" if state.batch < steps else "validating ...")
            + f", loss {loss:.3f}, {speed:,.0f} words/s, {left / 60:.0f} min left"
        )

    return report


def _summaries(folder: Path) -> Callable[[Mapping[str, float]], None]:
    """Writes what TensorBoard shows."""
    from visualization.backend import tf

    writer = tf.summary.create_file_writer(str(folder))

    def write(results: Mapping[str, float]) -> None:
        with writer.as_default():
            for name, value in results.items():
                tf.summary.scalar(name, value, step=int(results["epoch"]))
        writer.flush()

    return write


def _write_results(out: OutputFolder, trainer: Trainer, folder: Path, draw: bool) -> None:
    from tfcap.plotting import loss_figure
    from visualization.plotting import png

    state = trainer.state
    lines = ["step,loss", *(f"{k + 1},{loss!r}" for k, loss in enumerate(state.losses))]
    out.write("losses.csv", "\n".join([*lines, ""]).encode())
    if draw:
        out.write("losses.png", png(loss_figure(state.losses, state.history)))
    record = {
        "command": "tfcap.train",
        "settings": dataclasses.asdict(trainer.config),
        "data": {"folder": str(folder), "fingerprint": trainer.fingerprint},
        "captions": len(trainer.data["train_captions"]),
        "encoder": trainer.data.get("encoder"),
        "history": state.history,
        "best_epoch": state.best_epoch,
        "steps": state.step,
    }
    out.write_json("train.json", record)


if __name__ == "__main__":
    sys.exit(main())
