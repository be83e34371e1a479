"""The 1,000 ImageNet classes by number and by name. Needs neither TensorFlow nor NumPy."""

import difflib
import functools
from collections.abc import Sequence

from .bundle import CLASSES, read_bundled


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
