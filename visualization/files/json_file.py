"""JSON: the one reader, whose errors say where, and the records that say what ran."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from visualization.files.system_errors import reading

__all__ = ["MAX_BYTES", "parse_json", "read_json", "record_json"]

MAX_BYTES = 2**30


def read_json(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        max_bytes: the largest file that is read.

    Raises:
        OSError: it is missing, is not a regular file, or cannot be read.
        ValueError: it is too large, not UTF-8, or not valid JSON; the message says where.
    """
    path = Path(path)
    with reading(path):
        if path.exists() and not path.is_file():
            raise OSError(f"{path}: is not a regular file: name a JSON file")
        size = path.stat().st_size
        if size > max_bytes:
            raise ValueError(f"{path}: has {size:,} bytes, at most {max_bytes:,} are read")
        content = path.read_bytes()
    return parse_json(content, str(path))


def parse_json(content: bytes | str, name: str) -> Any:
    """What JSON text says; `name` is what errors call it.

    Raises:
        ValueError: it is not UTF-8, not valid JSON, or nested too deeply.
    """
    try:
        return json.loads(content.decode("utf-8-sig") if isinstance(content, bytes) else content)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{name}: is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: is not UTF-8 text (byte {error.start:,})") from None
    except (ValueError, RecursionError) as error:  # absurd numbers, absurd depth
        raise ValueError(f"{name}: is not valid JSON: {error}") from None


_PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "matplotlib")


def record_json(record: dict[str, Any]) -> bytes:
    """The JSON of a record of what ran, with the versions it ran with.

    Example:
        >>> sorted(json.loads(record_json({"seed": 0})))
        ['seed', 'versions']
    """
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    text = json.dumps(record | {"versions": versions}, indent=1, allow_nan=False)
    return f"{text}\n".encode()
