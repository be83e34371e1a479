"""A captioner as a folder: how it is built in ``config.json``, its weights in ``model.weights.h5``.

The architecture is built by code and the weights are read as arrays: nothing in a folder is run.

Two files cannot be replaced at once. New weights therefore first lie beside the older ones, in
``model.weights.SHA256.h5``, then the config that names them is put in place, and then they are. A
process that is killed in between leaves a whole captioner, as `load` looks under that name first.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from visualization.files.printable import printable

if TYPE_CHECKING:
    from tfcap.model import CaptioningRNN

CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
SHA256 = re.compile("[0-9a-f]{64}")
FORMAT = 1
LARGEST_CONFIG = 64 * 2**20  # bytes; a vocabulary of 10,000 words takes 200,000
LARGEST_NUMBER = 10**6  # of words, or of numbers in a vector
ARCHITECTURE = {
    "word_to_idx": dict,
    "input_dim": int,
    "wordvec_dim": int,
    "hidden_dim": int,
    "cell_type": str,
    "dropout": int | float,
    "label_smoothing": int | float,
    "feature_mean": int | float | list,
    "feature_std": int | float | list,
    "encoder": str | None,
    "dtype": str,
}
DECODING = {"beam_size": 1, "max_length": 1, "length_penalty": 0.0}  # the least of each
MAX_DECODING = 1000  # the most of each
DTYPES = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def save(model: CaptioningRNN, folder: str | os.PathLike[str]) -> None:
    """Writes `model` into `folder`, which is made if missing; older files there are replaced.

    Raises OSError if that is not possible, ValueError for what could not be read again, such as
    weights that are NaN; what was there is then unchanged.
    """
    folder = Path(folder)
    arrays = {name: np.asarray(variable) for name, variable in model.parameters.items()}
    for name, array in arrays.items():
        if not _is_finite(array):
            raise ValueError(
                f"the captioner cannot be saved, as {name} holds NaN or infinity: go back to earlier "
                "weights and train with a lower learning rate"
            )
    config = model.get_config()
    architecture = {key: config[key] for key in ARCHITECTURE if key != "dtype"}
    architecture["dtype"] = model.dtype_policy.name
    if architecture["dtype"] not in DTYPES:
        raise ValueError(
            f"a captioner of dtype {architecture['dtype']!r} cannot be saved, expected one of "
            f"{', '.join(DTYPES)}"
        )
    if wrong := _wrong_default(dict(model.decoding)):
        raise ValueError(f"the captioner's {wrong}, expected {', '.join(DECODING)} in their ranges")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, WEIGHTS):
            if (folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{name} is a folder there")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
            weights, text = Path(unfinished, WEIGHTS), Path(unfinished, CONFIG)
            with h5py.File(weights, "w") as file:
                for name, array in arrays.items():
                    file[name] = _storable(array)
            sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
            content = {
                "format": FORMAT,
                "architecture": architecture,
                "decoding": dict(model.decoding),
                "weights": {"sha256": sha256},
            }
            text.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
            _put_in_place(folder, text, weights, _unplaced(folder, sha256))
    except OSError as error:
        raise OSError(
            f"{folder}: the captioner cannot be written ({error.strerror or error}): "
            "name another folder"
        ) from error


def _put_in_place(folder: Path, config: Path, weights: Path, unplaced: Path) -> None:
    """Moves both files into the folder, or raises OSError and leaves the older ones."""
    older = config.with_name("older")
    if (folder / CONFIG).exists():
        shutil.copyfile(folder / CONFIG, older)
    os.replace(weights, unplaced)
    try:
        os.replace(config, folder / CONFIG)
    except OSError:
        unplaced.unlink()
        raise
    try:
        os.replace(unplaced, folder / WEIGHTS)
    except OSError:
        if older.exists():
            os.replace(older, folder / CONFIG)
        else:
            (folder / CONFIG).unlink()
        unplaced.unlink()  # last: the new config would need it
        raise
    for left in _all_unplaced(folder):  # by a process that was killed
        left.unlink(missing_ok=True)


def load(folder: str | os.PathLike[str], build: type[CaptioningRNN]) -> CaptioningRNN:
    """The captioner in `folder`, as `build` makes it of the folder's config.

    Raises OSError if files are missing, ValueError if they are damaged or do not belong together.
    """
    folder = Path(folder)
    with _reading(folder):
        size = _size(folder / CONFIG)
        if size > LARGEST_CONFIG:
            raise ValueError(
                f"{folder / CONFIG} has {size:,} bytes, too many for a captioner's config"
            )
        text = (folder / CONFIG).read_text("utf-8", "replace")
    config = _parsed(text, folder / CONFIG)
    architecture, sha256 = dict(config["architecture"]), config["weights"]["sha256"]
    unplaced = _unplaced(folder, sha256)
    weights = unplaced if unplaced.exists() else folder / WEIGHTS
    expected = _shapes(architecture)
    numbers = sum(int(np.prod(shape)) for shape in expected.values())
    with _reading(folder):
        size = _size(weights)
        if size > 8 * numbers + 2**20:
            raise ValueError(
                f"{weights} has {size:,} bytes, but {CONFIG} tells of {numbers:,} weights: "
                "they do not belong together; copy both files from one folder"
            )
        content = weights.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{weights} is damaged or belongs to another captioner: its sha256 is not the "
            f"one in {CONFIG}; copy both files from one folder"
        )
    arrays = _arrays(content, expected, weights)
    try:
        model = build(**architecture)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG}: {printable(str(error), 300)}") from error
    for name, variable in model.parameters.items():
        variable.assign(arrays[name])
        if not _is_finite(np.asarray(variable)):
            raise ValueError(
                f"{weights} holds NaN or infinity in {name}: train again from before that"
            )
    model.decoding.update(config["decoding"])
    return model


def weights_sha256(folder: str | os.PathLike[str]) -> str:
    """The sha256 of the weights that `load` reads from this folder."""
    return _parsed((Path(folder) / CONFIG).read_text("utf-8"), Path(folder))["weights"]["sha256"]


def _unplaced(folder: Path, sha256: str) -> Path:
    return folder / f"model.weights.{sha256}.h5"


def _all_unplaced(folder: Path) -> list[Path]:
    found = folder.glob("model.weights.*.h5")
    return [path for path in found if SHA256.fullmatch(path.name.split(".")[2])]


def _is_finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(np.asarray(array, np.float64)).all())


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise FileNotFoundError(
            f"{folder}: is no captioner's folder, it has no {name}: name a folder that "
            "python -m tfcap.train or save_pretrained wrote"
        ) from None
    except OSError as error:
        raise OSError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _size(path: Path) -> int:
    """The bytes of a file, which must be one: a pipe or a device never ends."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a regular file: name the folder of a captioner")
    return status.st_size


def _storable(array: np.ndarray) -> np.ndarray:
    """The array in a dtype that HDF5 has: bfloat16 fits into float32."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _parsed(text: str, path: Path) -> dict[str, Any]:
    """The config, once it is sure to have what a captioner needs."""

    def damaged(what: str) -> ValueError:
        return ValueError(
            f"{path} is damaged or not a captioner's: {printable(what, 200)}; get it again"
        )

    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{error}") from None
    found = config.get("format") if isinstance(config, dict) else None
    if type(found) is int and FORMAT < found < 1000:
        raise ValueError(f"{path} has format {found}, which a later tfcap wrote: update tfcap")
    if type(found) is not int or found != FORMAT:
        raise damaged(f"its format is {found!r:.60}, expected {FORMAT}")
    parts: dict[str, Any] = {
        key: config.get(key) for key in ("architecture", "decoding", "weights")
    }
    for key, part in parts.items():
        if not isinstance(part, dict):
            raise damaged(f"it has no {key!r}")
    architecture = parts["architecture"]
    if set(architecture) != set(ARCHITECTURE):
        wrong = sorted(set(architecture) ^ set(ARCHITECTURE))
        raise damaged(f"its architecture lacks or does not know {', '.join(wrong)}")
    for key, kind in ARCHITECTURE.items():
        if not isinstance(architecture[key], kind) or isinstance(architecture[key], bool):
            raise damaged(f"{key} is {architecture[key]!r:.60}")
        if kind is int and not 1 <= architecture[key] <= LARGEST_NUMBER:
            raise damaged(f"{key} is {architecture[key]!r:.60}")
    if architecture["dtype"] not in DTYPES or architecture["cell_type"] not in ("rnn", "lstm"):
        raise damaged(
            f"dtype {architecture['dtype']!r:.60}, cell_type {architecture['cell_type']!r:.60}"
        )
    ids = architecture["word_to_idx"].values()
    if not ids or len(ids) > LARGEST_NUMBER or any(type(idx) is not int for idx in ids):
        raise damaged("word_to_idx does not give every word a number")
    if untrue := _wrong_default(parts["decoding"]):
        raise damaged(untrue)
    sha256 = parts["weights"].get("sha256")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise damaged("it has no sha256 of the weights")
    return config


def _wrong_default(decoding: dict[str, Any]) -> str | None:
    """What in the decoding defaults is none."""
    for key, value in decoding.items():
        least = DECODING.get(key)
        if (
            least is None
            or type(value) not in (int, type(least))
            or not least <= value <= MAX_DECODING
        ):
            return f"decoding has {key!r:.60}: {value!r:.60}"
    return None


def _shapes(architecture: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The weights' shapes, before anything of that size is made."""
    D, W, H = (architecture[key] for key in ("input_dim", "wordvec_dim", "hidden_dim"))
    V, gates = len(architecture["word_to_idx"]), 4 if architecture["cell_type"] == "lstm" else 1
    return {
        "W_proj": (D, H),
        "b_proj": (H,),
        "W_embed": (V, W),
        "Wx": (W, gates * H),
        "Wh": (H, gates * H),
        "b": (gates * H,),
        "W_vocab": (H, V),
        "b_vocab": (V,),
    }


def _arrays(
    content: bytes, expected: dict[str, tuple[int, ...]], path: Path
) -> dict[str, np.ndarray]:
    """The weights by name, of exactly the expected shapes."""
    arrays = {}
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            for name, shape in expected.items():
                if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"{path} has no {name}, or only a link to it: get it again")
                dataset = file[name]
                if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
                    raise ValueError(
                        f"{path} keeps {name} elsewhere, which is refused: get it again"
                    )
                whole = (
                    dataset.id.get_storage_size() == dataset.nbytes
                )  # nothing is left to fill in
                if dataset.shape != shape or dataset.dtype.kind != "f" or not whole:
                    raise ValueError(
                        f"{path} holds {name} as {dataset.dtype} {dataset.shape}, but the "
                        f"architecture in {CONFIG} needs {shape}: copy both files from one folder"
                    )
                arrays[name] = dataset[()]
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no HDF5 file that holds together ({error}): get it again"
        ) from None
    return arrays
