"""JSON: the one reader, whose errors say where, and the records that say what ran."""

import importlib.metadata
import json
import os
import platform
from typing import Any

from visualization.files.regular_file import read_file

__all__ = ["MAX_BYTES", "parse_json", "read_json", "record_json", "versions"]

MAX_BYTES = 2**30

_PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "matplotlib")


def read_json(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Any:
    """Returns what a JSON file holds.

    Args:
        path: the file.
        max_bytes: the largest file that is read.

    Raises:
        OSError: it is missing, is not a regular file, or cannot be read.
        ValueError: it is too large, not UTF-8, or not valid JSON; the message says where.

    Example:
        >>> with open("config.json", "w") as file:
        ...     _ = file.write('{"layers": 2}')
        >>> read_json("config.json")
        {'layers': 2}
    """
    return parse_json(read_file(path, "JSON file", max_bytes=max_bytes), str(path))


def parse_json(content: bytes | str, name: str) -> Any:
    """Returns what JSON text holds; `name` is what errors call it.

    Raises:
        ValueError: it is not UTF-8, not valid JSON, or nested too deeply.

    Example:
        >>> parse_json(b'{"layers": 2,}', "config.json")
        Traceback (most recent call last):
        ValueError: config.json: is not valid JSON: line 1, column 14: Expecting property name ...
    """
    try:
        return json.loads(content.decode("utf-8-sig") if isinstance(content, bytes) else content)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{name}: is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: is not UTF-8 text (byte {error.start:,})") from None
    except (ValueError, RecursionError) as error:  # absurdly long numbers, absurdly deep nesting
        raise ValueError(f"{name}: is not valid JSON: {error}") from None


def record_json(record: dict[str, Any]) -> bytes:
    """A JSON file's content: `record`, which says what ran, and the versions it ran with.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot hold.

    Example:
        >>> sorted(json.loads(record_json({"seed": 0})))
        ['seed', 'versions']
    """
    text = json.dumps(record | {"versions": versions()}, indent=1, allow_nan=False)
    return f"{text}\n".encode()


def versions() -> dict[str, str]:
    """What results depend on beside the code: Python's version, and those of packages.

    Example:
        >>> list(versions())
        ['python', 'tensorflow', 'keras', 'numpy', 'pillow', 'matplotlib']
    """
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}
