"""The bundled files, verified: ``weights/`` in a clone, ``visualization/weights/`` once installed."""

import hashlib
from pathlib import Path
from typing import Any

from visualization.files.json_file import parse_json

__all__ = [
    "BUNDLE",
    "CAPTIONER",
    "CLASSES",
    "EFFICIENTNET_LITE2",
    "IMAGENET",
    "SPECTRUM",
    "manifest",
    "read_bundled",
]

IMAGENET = "squeezenet_v1_1.weights.h5"
EFFICIENTNET_LITE2 = "efficientnet_lite2.weights.h5"
CLASSES = "imagenet_classes.txt"
CAPTIONER = "captioner_flickr8k"  # a folder
SPECTRUM = "photograph_spectrum.npy"

_PACKAGE = Path(__file__).resolve().parent.parent
_INSTALLED = (_PACKAGE / "weights").is_dir()
BUNDLE = (_PACKAGE if _INSTALLED else _PACKAGE.parent) / "weights"


def read_bundled(name: str) -> bytes:
    """Returns a file of `BUNDLE`, after comparing its size and sha256 with the manifest.

    Args:
        name: as in the manifest: `IMAGENET`, `EFFICIENTNET_LITE2`, `CLASSES`, `SPECTRUM`,
            or a file in the folder `CAPTIONER`.

    Raises:
        OSError: the file or the manifest is missing.
        ValueError: the content does not match the manifest.

    Example:
        >>> read_bundled(CLASSES)[:18]
        b'tench, Tinca tinca'
    """
    entry = manifest()[name]
    content = _read(name)
    for what, value in ("size", len(content)), ("sha256", hashlib.sha256(content).hexdigest()):
        if value != entry[what]:
            raise ValueError(
                f"{BUNDLE / name} is damaged: its {what} is {value} instead of {entry[what]}: "
                f"{_how_to_restore(name)}"
            )
    return content


def manifest() -> dict[str, Any]:
    """The files of ``manifest.json``: name -> sha256, size in bytes, source, licence.

    Raises:
        OSError: it is missing.
        ValueError: it is damaged.

    Example:
        >>> manifest()[IMAGENET]["size"]
        5044720
    """
    name = "manifest.json"
    try:
        files = parse_json(_read(name), name)["files"]
        for bundled in (IMAGENET, EFFICIENTNET_LITE2, CLASSES, SPECTRUM):
            [files[bundled][key] for key in ("sha256", "size", "source", "licence")]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{BUNDLE / name} is damaged ({error!r}): {_how_to_restore(name)}"
        ) from None
    return files


def _read(name: str) -> bytes:
    try:
        return (BUNDLE / name).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{BUNDLE / name} is missing, which this project ships: {_how_to_restore(name)}"
        ) from None


def _how_to_restore(name: str) -> str:
    if _INSTALLED:
        return "reinstall tfcap with 'pip install --force-reinstall --no-deps'"
    return f"restore it with 'git checkout weights/{name}'"
