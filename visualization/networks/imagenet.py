"""The 1,000 ImageNet classes by number and by name. Needs neither TensorFlow nor NumPy."""

import difflib
import functools
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visualization.files.bundle import CLASSES, read_bundled
from visualization.images.reading import MAX_FILE_BYTES


@functools.cache
def _bundled() -> tuple[str, ...]:
    return tuple(read_bundled(CLASSES).decode().splitlines())


def class_names() -> list[str]:
    """The names of ImageNet's classes: `class_names()[i]` is the name of class i.

    A name lists synonyms, separated by commas ("tench, Tinca tinca"). The two classes that ImageNet
    calls "crane" are told apart as "crane (bird)", 134, and "crane (machine)", 517.

    Raises:
        OSError: the bundled list is missing.
        ValueError: it is damaged.
    """
    return list(_bundled())


def short_name(name: str) -> str:
    """The first synonym of a class name, for titles."""
    return name.split(",")[0]


def find_class(text: str, names: Sequence[str] | None = None) -> int:
    """The number of the class that `text` means: a number, a whole name or one of its synonyms.

    Upper and lower case are the same.

    Args:
        text: for example "6", "stingray" or "Tinca tinca".
        names: the classes' names by number; by default ImageNet's.

    Raises:
        ValueError: there is no such class (the message gives the nearest names), or several have
            that name (the message gives their numbers).
    """
    names = _bundled() if names is None else names
    wanted = text.strip().casefold()
    if wanted.lstrip("+-").isdecimal():
        index = int(wanted)
        if not 0 <= index < len(names):
            raise ValueError(
                f"there is no class {index}: give a number from 0 to {len(names) - 1}, or a name"
            )
        return index

    found = [index for index, name in enumerate(names) if wanted in _names(name)]
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"{index} ({names[index]})" for index in found)
        raise ValueError(f"{text!r} is the name of several classes: give a number, {choices}")
    near = _nearest(wanted, names)
    raise ValueError(
        f"there is no class {text!r}: "
        + (
            f"the nearest names are {near}"
            if near
            else f"give a number from 0 to {len(names) - 1} or a name"
        )
    )


def _names(name: str) -> set[str]:
    """All that a class may be called, in lower case; "crane (bird)" may also be called "crane"."""
    synonyms = {synonym.strip().casefold() for synonym in name.split(",")}
    return synonyms | {synonym.partition(" (")[0] for synonym in synonyms} | {name.casefold()}


def _nearest(wanted: str, names: Sequence[str]) -> str:
    """Up to five synonyms near `wanted`, with their numbers: those that contain it, then the alike."""
    numbers: dict[str, int] = {}
    for index, name in enumerate(names):
        for synonym in name.split(","):
            numbers.setdefault(synonym.strip().casefold(), index)
    containing = [synonym for synonym in numbers if wanted and wanted in synonym.split()]
    alike = difflib.get_close_matches(wanted, numbers, n=5, cutoff=0.5)
    nearest = list(dict.fromkeys(containing + alike))[:5]
    return ", ".join(f"{name!r} ({numbers[name]})" for name in nearest)


def load_imagenet_val(
    num: int | None = None, path: str | os.PathLike[str] | None = None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """CS231n's 25 validation images of ImageNet.

    The names come from this project's own list: those in the file are pickled, and nothing here
    unpickles.

    Args:
        num: how many images, at most 25; all by default.
        path: the file ``imagenet_val_25.npz``; by default looked for in ``$TFCAP_DATA`` and in the
            course's place, ``cs231n/datasets``.

    Returns:
        X, uint8 (num, 224, 224, 3); y, int64 (num,); class_names, where class_names[i] is the name
        of class i.

    Raises:
        FileNotFoundError: the file is in none of these places.
        ValueError: the file is damaged or holds something else, or num is not positive.
    """
    if num is not None and num < 1:
        raise ValueError(f"num is {num}, expected a positive number of images, or None for all")
    name = "imagenet_val_25.npz"
    places = [Path("cs231n", "datasets", name)]
    if os.environ.get("TFCAP_DATA"):
        places.insert(0, Path(os.environ["TFCAP_DATA"], name))
    if path is not None:
        places = [Path(path)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"there is no {' or '.join(map(str, places))}: get {name} with the course's "
            "get_imagenet_val.sh and set TFCAP_DATA to its folder"
        )
    try:
        with zipfile.ZipFile(found) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_FILE_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_FILE_BYTES:,} bytes")
        with np.load(found, allow_pickle=False) as arrays:
            X, y = arrays["X"], arrays["y"]
    except (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{found}: is not the course's {name}: {error}") from error
    if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] != 3 or y.shape != X.shape[:1]:
        raise ValueError(f"{found}: X is {X.dtype}{X.shape} and y {y.dtype}{y.shape}, not images")
    return X[:num], y[:num].astype(np.int64), class_names()
