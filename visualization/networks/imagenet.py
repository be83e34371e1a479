"""ImageNet's 1,000 classes by number and by name, and CS231n's 25 validation images."""

import difflib
import functools
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visualization.files.bundle import CLASSES, read_bundled

__all__ = ["class_names", "find_class", "load_imagenet_val", "short_name"]

_MAX_UNPACKED = 256 * 2**20  # bytes of imagenet_val_25.npz; the course's has 4 million


def class_names() -> list[str]:
    """The names of ImageNet's classes: `class_names()[i]` is the name of class i.

    A name lists synonyms, separated by commas. The two classes that ImageNet calls "crane" are told
    apart as "crane (bird)", 134, and "crane (machine)", 517.

    Raises:
        OSError: the bundled list is missing.
        ValueError: it is damaged.

    Example:
        >>> class_names()[0]
        'tench, Tinca tinca'
    """
    return list(_bundled_names())


def short_name(name: str) -> str:
    """The first synonym of a class name, for titles.

    Example:
        >>> short_name("tench, Tinca tinca")
        'tench'
    """
    return name.split(",")[0]


def find_class(text: str, names: Sequence[str] | None = None) -> int:
    """Finds a class by its number, its whole name or one of its synonyms, ignoring case.

    Args:
        text: for example "6", "stingray" or "Tinca tinca".
        names: the classes' names by number; by default ImageNet's.

    Raises:
        ValueError: there is no such class (the message gives the nearest names), or several have
            that name (the message gives their numbers).

    Example:
        >>> find_class("Stingray")
        6
        >>> find_class("crane")
        Traceback (most recent call last):
        ValueError: 'crane' is the name of several classes: give a number, 134 (crane (bird)) or ...
    """
    names = _bundled_names() if names is None else names
    wanted = text.strip().casefold()
    valid = f"a number from 0 to {len(names) - 1}"
    if wanted.lstrip("+-").isdecimal():
        index = int(wanted)
        if not 0 <= index < len(names):
            raise ValueError(f"there is no class {index}: give {valid}, or a name")
        return index

    found = [index for index, name in enumerate(names) if wanted in _spellings(name)]
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"{index} ({names[index]})" for index in found)
        raise ValueError(f"{text!r} is the name of several classes: give a number, {choices}")
    near = _nearest(wanted, names)
    advice = f"the nearest names are {near}" if near else f"give {valid} or a name"
    raise ValueError(f"there is no class {text!r}: {advice}")


def load_imagenet_val(
    num: int | None = None, *, path: str | os.PathLike[str] | None = None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Loads CS231n's 25 validation images of ImageNet.

    The names come from this project's own list: those in the file are pickled, and nothing is
    unpickled here.

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

    Example:
        >>> np.savez("imagenet_val_25.npz", X=np.zeros((2, 224, 224, 3), np.uint8), y=[958, 85])
        >>> X, y, names = load_imagenet_val(1, path="imagenet_val_25.npz")
        >>> X.shape, names[y[0]]
        ((1, 224, 224, 3), 'hay')
    """
    if num is not None and num < 1:
        raise ValueError(f"num is {num}, expected a positive number of images, or None for all")
    name = "imagenet_val_25.npz"
    places = [Path("cs231n", "datasets", name)] if path is None else [Path(path)]
    if path is None and os.environ.get("TFCAP_DATA"):
        places.insert(0, Path(os.environ["TFCAP_DATA"], name))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"there is no {' or '.join(map(str, places))}: download {name} with the course's "
            "get_imagenet_val.sh and set TFCAP_DATA to its folder"
        )
    try:
        with zipfile.ZipFile(found) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED:
                raise ValueError(f"it unpacks to more than {_MAX_UNPACKED:,} bytes")
        with np.load(found, allow_pickle=False) as arrays:
            X, y = arrays["X"], arrays["y"]
    except Exception as error:  # of zipfile, zlib and NumPy, which parses headers as Python
        raise ValueError(f"{found}: is not the course's {name}: {error}") from error
    if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] != 3 or y.shape != X.shape[:1]:
        raise ValueError(
            f"{found}: is not the course's {name}: X is {X.dtype} {X.shape} and y {y.dtype} {y.shape}, "
            "expected uint8 (N, H, W, 3) and (N,)"
        )
    return X[:num], y[:num].astype(np.int64), class_names()


@functools.cache
def _bundled_names() -> tuple[str, ...]:
    return tuple(read_bundled(CLASSES).decode().splitlines())


@functools.lru_cache(maxsize=2000)
def _spellings(name: str) -> set[str]:
    """All that a class may be called, in lower case; "crane (bird)" may also be called "crane"."""
    synonyms = {synonym.strip().casefold() for synonym in name.split(",")}
    return synonyms | {synonym.partition(" (")[0] for synonym in synonyms} | {name.casefold()}


def _nearest(wanted: str, names: Sequence[str]) -> str:
    """Up to five synonyms with their numbers: first those that contain `wanted`, then similar ones."""
    numbers: dict[str, int] = {}
    for index, name in enumerate(names):
        for synonym in name.split(","):
            numbers.setdefault(synonym.strip().casefold(), index)
    containing = [synonym for synonym in numbers if wanted and wanted in synonym.split()]
    similar = difflib.get_close_matches(wanted, numbers, n=5, cutoff=0.5)
    nearest = list(dict.fromkeys(containing + similar))[:5]
    return ", ".join(f"{name!r} ({numbers[name]})" for name in nearest)
