"""A training run's settings and progress, and the file from which it goes on exactly.

The state is a NumPy archive, ``state.npz``: every variable that a step changes, and a JSON text with
the settings, the progress and a fingerprint of the data. Reading it runs nothing from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tfcap.data.lazy_array import blocks
from visualization.files.atomic import write_file
from visualization.files.json_file import parse_json
from visualization.files.system_errors import reading

__all__ = [
    "EPOCH_STATE_FILE",
    "STATE_FILE",
    "SavedState",
    "TrainConfig",
    "TrainState",
    "evenly_spread",
    "fingerprint",
]

STATE_FILE = "state.npz"
EPOCH_STATE_FILE = "state_of_last_epoch.npz"  # as it was before the epoch that STATE_FILE is in
MAX_STATE_BYTES = 2**34


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The settings of a run; two runs with the same settings and data have the same losses.

    Example:
        >>> TrainConfig(cell="rnn", epochs=3).batch_size
        128
    """

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
    feature_dropout: float = 0.0
    heads: int = 8  # of attention
    schedule: str = "constant"  # of the learning rate within the run, or "cosine": down to 0
    average: float = 0.0  # what an average of the weights keeps of itself a step; 0: no average
    precision: str = "float32"
    half: bool = False  # whether the captioner is written in half precision
    max_train: int | None = None
    init_from: str | None = None  # the captioner that the run goes on from
    self_critical: bool = False  # on CIDEr, as `tfcap.self_critical` does
    patience: int = 5  # epochs without improvement; 0: never stops early
    seed: int = 0


@dataclasses.dataclass
class TrainState:
    """How far a run has come.

    Example:
        >>> TrainState().epoch
        0
    """

    step: int = 0  # of the whole run
    epoch: int = 0  # completed epochs
    batch: int = 0  # completed batches of the current epoch
    best: float | None = None
    best_epoch: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)  # one a step
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)  # one an epoch


@dataclasses.dataclass(frozen=True)
class SavedState:
    """A run's ``state.npz``.

    Attributes:
        path: the file.
        config, state: the run's settings and progress.
        data: the `fingerprint` of its data.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = SavedState.write(folder, TrainConfig(), TrainState(step=7), "0abc", [np.zeros(3)])
        >>> saved = SavedState.read(folder)
        >>> saved.state.step, saved.data
        (7, '0abc')
        >>> saved.arrays([(3,)])
        [array([0., 0., 0.])]
    """

    path: Path
    config: TrainConfig
    state: TrainState
    data: str

    @staticmethod
    def write(
        folder: str | os.PathLike[str],
        config: TrainConfig,
        state: TrainState,
        data: str,
        arrays: Sequence[np.ndarray],
    ) -> Path:
        """Writes the file whole or not at all; raises OSError if that fails.

        A state within an epoch leaves that of the last whole epoch beside it.
        """
        about = {
            "settings": dataclasses.asdict(config),
            "progress": dataclasses.asdict(state),
            "data": data,
        }
        named = {f"variable {k}": array for k, array in enumerate(arrays)}
        buffer = io.BytesIO()
        np.savez(buffer, about=np.array(json.dumps(about)), **named)  # type: ignore[arg-type]
        if not state.batch:
            write_file(Path(folder) / EPOCH_STATE_FILE, buffer.getvalue())
        return write_file(Path(folder) / STATE_FILE, buffer.getvalue())

    @classmethod
    def read(cls, folder: str | os.PathLike[str], name: str = STATE_FILE) -> Self:
        """Reads all but the variables, of `STATE_FILE` or `EPOCH_STATE_FILE`.

        Raises:
            OSError: the folder holds no run, or it cannot be read.
            ValueError: the file is damaged, or is not a run's state.
        """
        path = Path(folder) / name
        if not path.exists():
            raise FileNotFoundError(
                f"{folder}: holds no training run ({name} is missing): name a run's output folder"
            )
        with reading(path):
            try:
                if path.stat().st_size > MAX_STATE_BYTES:
                    raise ValueError(f"it has more than {MAX_STATE_BYTES:,} bytes")
                with np.load(path, allow_pickle=False) as file:
                    about = parse_json(str(file["about"]), str(path))
                config, state = TrainConfig(**about["settings"]), TrainState(**about["progress"])
                return cls(path, config, state, about["data"])
            except OSError:
                raise
            except Exception as error:  # of zipfile, zlib and NumPy, which parses headers as Python
                raise ValueError(
                    f"{path} is damaged or is not a training run's state: start a new run in another "
                    "folder"
                ) from error

    def arrays(self, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """The variables; raises ValueError if they are damaged or do not have these shapes."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = [file[f"variable {k}"] for k in range(len(file.files) - 1)]
        except Exception as error:
            raise ValueError(
                f"{self.path} is damaged: start a new run in another folder"
            ) from error
        if [array.shape for array in arrays] != list(shapes):
            raise ValueError(
                f"{self.path} belongs to another network or another version of this program: start a "
                "new run in another folder"
            )
        return arrays


def fingerprint(data: Mapping[str, Any]) -> str:
    """Tells data sets apart by vocabulary, encoder, training captions and some of the features.

    Args:
        data: as `load_coco_data` returns it.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> data = {"word_to_idx": {"<NULL>": 0}, "train_captions": np.zeros((2, 3), np.int32)}
        >>> data |= {"train_image_idxs": np.arange(2), "train_features": np.ones((2, 4))}
        >>> fingerprint(data) == fingerprint(data | {"train_features": np.zeros((2, 4))})
        False
    """
    captions, features = data["train_captions"], data["train_features"]
    described = [
        sorted(data["word_to_idx"].items(), key=lambda item: item[1]),
        str(data.get("encoder")),
        [list(captions.shape), list(features.shape)],
    ]
    hashed = hashlib.sha256(json.dumps(described).encode())
    for stored in (captions, data["train_image_idxs"]):
        for block in blocks(stored):
            hashed.update(np.ascontiguousarray(block, np.int32).data)
    hashed.update(np.ascontiguousarray(evenly_spread(features, 100), np.float32).data)
    return hashed.hexdigest()


def evenly_spread(rows: Any, most: int) -> np.ndarray:
    """At most `most` rows, evenly spread over all.

    Example:
        >>> evenly_spread(np.arange(9), 3)
        array([0, 4, 8])
    """
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]
