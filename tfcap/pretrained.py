"""A captioner as a folder: its architecture in ``config.json``, its weights in ``model.weights.h5``.

`tfcap.model` builds the architecture; weights are read as arrays, and nothing in a folder is executed.

Two files cannot be replaced at once. New weights are therefore first written beside the older ones, as
``model.weights.SHA256.h5``; then the config that names them is put in place, and then they are. A
process that is killed in between leaves a whole captioner, as `load` looks under that name first.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from visualization.files.atomic import make_folder, write_file
from visualization.files.hdf5 import RefusedError, open_hdf5, safe_dataset
from visualization.files.json_file import read_json
from visualization.files.printable import printable
from visualization.files.system_errors import reading, writing

__all__ = [
    "CONFIG",
    "MAX_DECODING",
    "WEIGHTS",
    "Pretrained",
    "load",
    "read_config",
    "save",
]

CONFIG = "config.json"
WEIGHTS = "model.weights.h5"

_FORMAT = 1
_MAX_CONFIG = 64 * 2**20  # bytes; a vocabulary of 10,000 words takes 200,000
_MAX_SIZE = 10**6  # words, or numbers in a vector
_SHA256 = re.compile("[0-9a-f]{64}")
_ARCHITECTURE = {
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
_LATER = {"feature_dropout": int | float}  # may be missing: format 1 began without it
_CELLS = ("rnn", "lstm", "attention")
_WITH_ATTENTION = {"heads": int}  # for the cell_type "attention" only
_DECODING = {  # the least of each
    "beam_size": 1,
    "max_length": 1,
    "length_penalty": 0.0,
    "block_trigrams": False,
}
MAX_DECODING = 1000  # the most of each
_DTYPES = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


class Pretrained(NamedTuple):
    """What a captioner's folder holds.

    Example:
        >>> Pretrained({"hidden_dim": 6}, {"beam_size": 3}, {}, Path("config.json")).decoding
        {'beam_size': 3}
    """

    architecture: dict[str, Any]  # the arguments of CaptioningRNN
    decoding: dict[str, Any]  # its defaults for decoding
    arrays: dict[str, np.ndarray]  # its weights by the course's names
    config: Path


def save(
    folder: str | os.PathLike[str],
    architecture: Mapping[str, Any],
    decoding: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    half: bool = False,
) -> None:
    """Writes a captioner into a folder, which is made if it is missing, in place of an older one.

    Args:
        folder: where to.
        architecture: the arguments of `tfcap.CaptioningRNN`, and its dtype; others are left out.
        decoding: beam_size, max_length, length_penalty, block_trigrams.
        arrays: the weights by their names.
        half: store them in half precision, in half the room; they are loaded as what they were.

    Raises:
        OSError: a file cannot be written; an older captioner there is unchanged.
        ValueError: it could not be loaded again, as when weights are NaN.

    Example:
        >>> from tfcap import CaptioningRNN
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
        >>> CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6).save_pretrained("captioner")
        >>> saved = load("captioner")
        >>> save("copy", saved.architecture, saved.decoding, saved.arrays)
        >>> read_config("copy") == read_config("captioner")
        True
    """
    folder = Path(folder)
    for name, array in arrays.items():
        if not _is_finite(array.astype(np.float16) if half else array):
            raise ValueError(
                f"the captioner cannot be saved: {name} holds NaN or infinity; go back to earlier "
                "weights and train with a lower learning rate"
            )
    if architecture["dtype"] not in _DTYPES:
        raise ValueError(
            f"a captioner of dtype {architecture['dtype']!r} cannot be saved, expected one of "
            f"{', '.join(_DTYPES)}"
        )
    if wrong := _wrong_default(decoding):
        raise ValueError(
            f"the captioner's {wrong}, expected {', '.join(_DECODING)} in their ranges"
        )
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, array in arrays.items():
            # HDF5 has no bfloat16, which fits into float32
            array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
            file[name] = array.astype(np.float16) if half else array
    weights = memory.getvalue()
    sha256 = hashlib.sha256(weights).hexdigest()
    content = {
        "format": _FORMAT,
        "architecture": {key: architecture[key] for key in _expected(architecture)},
        "decoding": dict(decoding),
        "weights": {"sha256": sha256},
    }
    config = json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"
    make_folder(folder)
    _replace_both(folder, config, weights, _unplaced(folder, sha256))


def _replace_both(folder: Path, config: bytes, weights: bytes, unplaced: Path) -> None:
    """Writes both files into the folder, or raises OSError and leaves the older ones."""
    older = None
    with contextlib.suppress(OSError):
        older = (folder / CONFIG).read_bytes()
    write_file(unplaced, weights)
    try:
        write_file(folder / CONFIG, config)
    except OSError:
        unplaced.unlink()
        raise
    try:
        with writing(folder / WEIGHTS):
            os.replace(unplaced, folder / WEIGHTS)
    except OSError:
        if older is None:
            (folder / CONFIG).unlink()
        else:
            write_file(folder / CONFIG, older)
        unplaced.unlink()  # last: the new config would need it
        raise
    for path in folder.glob("model.weights.*.h5"):  # from processes that were killed
        if _SHA256.fullmatch(path.name.split(".")[2]):
            path.unlink(missing_ok=True)


def load(folder: str | os.PathLike[str]) -> Pretrained:
    """Reads what `save` wrote, and checks that both files are whole and belong together.

    Raises:
        OSError: files are missing or cannot be read.
        ValueError: they are damaged or do not belong together.

    Example:
        >>> from tfcap import CaptioningRNN
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
        >>> CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6).save_pretrained("captioner")
        >>> load("captioner").arrays["W_proj"].shape
        (8, 6)
    """
    folder = Path(folder)
    config = read_config(folder)
    architecture, sha256 = config["architecture"], config["weights"]["sha256"]
    shapes = _shapes(architecture)
    path = _unplaced(folder, sha256)
    path = path if path.exists() else _existing(folder / WEIGHTS)
    numbers = sum(map(math.prod, shapes.values()))
    with reading(path):
        size = path.stat().st_size
        if size > 8 * numbers + 2**20:
            raise ValueError(
                f"{path} has {size:,} bytes, too many for the {numbers:,} weights that {CONFIG} "
                "describes: copy both files from one folder"
            )
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path} is damaged or belongs to another captioner: its sha256 is not the one in "
            f"{CONFIG}; copy both files from one folder"
        )
    dtype = {"float16": np.float16, "float64": np.float64}.get(architecture["dtype"], np.float32)
    arrays = {name: array.astype(dtype) for name, array in _arrays(content, shapes, path).items()}
    for name, array in arrays.items():
        if not _is_finite(array):
            raise ValueError(f"{path} holds NaN or infinity in {name}: train it again")
    return Pretrained(architecture, config["decoding"], arrays, folder / CONFIG)


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """A captioner's config, once it is sure to have what a captioner needs; its weights are not read.

    Returns:
        "architecture", the arguments of `tfcap.CaptioningRNN`, "decoding", and "weights", with the
        "sha256" of the weights that `load` reads, 64 hexadecimal digits.

    Raises:
        OSError, ValueError: as `load`, for the config.

    Example:
        >>> from tfcap import CaptioningRNN
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
        >>> CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6).save_pretrained("captioner")
        >>> config = read_config("captioner")
        >>> config["architecture"]["hidden_dim"], len(config["weights"]["sha256"])
        (6, 64)
    """
    path = _existing(Path(folder) / CONFIG)
    config = read_json(path, max_bytes=_MAX_CONFIG)
    found = config.get("format") if isinstance(config, dict) else None
    if type(found) is int and _FORMAT < found < 1000:
        raise ValueError(f"{path} has format {found}, which a later tfcap wrote: update tfcap")
    if problem := _problem(config, found):
        raise ValueError(
            f"{path} is damaged or not a captioner's: {printable(problem, 200)}; download it again"
        )
    return config


def _unplaced(folder: Path, sha256: str) -> Path:
    return folder / f"model.weights.{sha256}.h5"


def _is_finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(np.asarray(array, np.float64)).all())


def _existing(path: Path) -> Path:
    """The path, which must be a regular file: a pipe or a device never ends."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path.parent} is not a captioner's folder, it has no {path.name}: name a folder that "
            "python -m tfcap.train or save_pretrained wrote"
        )
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file: name the folder of a captioner")
    return path


def _problem(config: Any, found: Any) -> str | None:
    """What is wrong with a config, whose format was found to be `found`."""
    if type(found) is not int or found != _FORMAT:
        return f"its format is {found!r:.60}, expected {_FORMAT}"
    for key in ("architecture", "decoding", "weights"):
        if not isinstance(config.get(key), dict):
            return f"it has no {key!r}"
    architecture = config["architecture"]
    expected = _expected(architecture)
    if wrong := sorted(set(architecture) ^ set(expected)):
        return f"its architecture lacks or does not know {', '.join(wrong)}"
    for key, kind in expected.items():
        value = architecture[key]
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits or (kind is int and not 1 <= value <= _MAX_SIZE):
            return f"{key} is {value!r:.60}"
    if architecture["dtype"] not in _DTYPES or architecture["cell_type"] not in _CELLS:
        return f"dtype {architecture['dtype']!r:.60}, cell_type {architecture['cell_type']!r:.60}"
    ids = architecture["word_to_idx"].values()
    if not ids or len(ids) > _MAX_SIZE or any(type(idx) is not int for idx in ids):
        return "word_to_idx does not give every word a number"
    sha256 = config["weights"].get("sha256")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        return "it has no sha256 of the weights"
    return _wrong_default(config["decoding"])


def _expected(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """What an architecture of its cell_type consists of."""
    looks = architecture.get("cell_type") == "attention"
    later = {key: kind for key, kind in _LATER.items() if key in architecture}
    return {**_ARCHITECTURE, **later, **(_WITH_ATTENTION if looks else {})}


def _wrong_default(decoding: Mapping[str, Any]) -> str | None:
    """Which default for decoding is unknown or out of range."""
    for key, value in decoding.items():
        least = _DECODING.get(key)
        kinds = (int, float) if type(least) is float else (type(least),)
        if least is None or type(value) not in kinds or not least <= value <= MAX_DECODING:
            return f"decoding has {key!r:.60}: {value!r:.60}"
    return None


def _shapes(architecture: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The weights' shapes, before anything of that size is allocated."""
    D, W, H = (architecture[key] for key in ("input_dim", "wordvec_dim", "hidden_dim"))
    cell, V = architecture["cell_type"], len(architecture["word_to_idx"])
    gates, states = 1 if cell == "rnn" else 4, 2 if cell == "attention" else 1
    shapes = {
        "W_proj": (D, states * H),
        "b_proj": (states * H,),
        "W_embed": (V, W),
        "Wx": (W, gates * H),
        "Wh": (H, gates * H),
        "b": (gates * H,),
        "W_vocab": (H, V),
        "b_vocab": (V,),
    }
    if cell == "attention":
        shapes |= {"W_keys": (D, H), "W_values": (D, H), "b_values": (H,)}
        shapes |= {"Wz": (H, 4 * H), "Wq": (H, H), "W_out": (2 * H + W, H), "b_out": (H,)}
    return shapes


def _arrays(
    content: bytes, shapes: dict[str, tuple[int, ...]], path: Path
) -> dict[str, np.ndarray]:
    """The weights by name, of exactly these shapes."""
    arrays = {}
    with open_hdf5(content, str(path)) as file:
        for name, shape in shapes.items():
            dataset = safe_dataset(file, name, str(path))
            whole = dataset.id.get_storage_size() == dataset.nbytes  # nothing to unpack or fill in
            if dataset.shape != shape or dataset.dtype.kind != "f" or not whole:
                raise RefusedError(
                    f"{path} holds {name} as {dataset.dtype} {dataset.shape}, but the architecture "
                    f"in {CONFIG} needs {shape}: copy both files from one folder"
                )
            arrays[name] = dataset[()]
    return arrays
