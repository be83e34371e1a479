"""The bundled files, verified: in `weights/` of a clone, in `visualization/weights/` once installed."""

import hashlib
import json
from pathlib import Path
from typing import Any

IMAGENET = "squeezenet_v1_1.weights.h5"
CLASSES = "imagenet_classes.txt"

_PACKAGE = Path(__file__).resolve().parent.parent
INSTALLED = (_PACKAGE / "weights").is_dir()
BUNDLE = _PACKAGE / "weights" if INSTALLED else _PACKAGE.parent / "weights"


def read_bundled(name: str) -> bytes:
    """The content of a file in `weights/`, after its size and sha256 were found as in the manifest.

    Raises:
        OSError: the file or the manifest is missing.
        ValueError: the content does not match the manifest.
    """
    entry = manifest()[name]
    path = BUNDLE / name
    restore = how_to_restore(name)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, which this project ships: {restore}")
    size = path.stat().st_size
    if size != entry["size"]:
        raise ValueError(
            f"{path} is damaged: it has {size} bytes instead of {entry['size']}: {restore}"
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry["sha256"]:
        raise ValueError(
            f"{path} is damaged: its sha256 is {digest} instead of {entry['sha256']}: {restore}"
        )
    return content


def manifest() -> dict[str, Any]:
    """The files of `weights/manifest.json`: name -> sha256, size in bytes, source, licence.

    Raises:
        OSError: it is missing.
        ValueError: it is damaged.
    """
    path = BUNDLE / "manifest.json"
    restore = how_to_restore("manifest.json")
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        for name in (IMAGENET, CLASSES):
            [files[name][key] for key in ("sha256", "size", "source", "licence")]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing, which this project ships: {restore}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): {restore}") from None
    return files


def how_to_restore(name: str) -> str:
    """What to do when the bundled file `name` is missing or damaged."""
    if INSTALLED:
        return "install tfcap anew, with 'pip install --force-reinstall --no-deps'"
    return f"restore it with 'git checkout weights/{name}'"
