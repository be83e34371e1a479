"""A command's results: pictures, and beside them a JSON that says what ran."""

import io
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visualization.files.atomic import make_folder, write_file
from visualization.files.json_file import record_json

__all__ = ["OutputFolder", "file_stem", "unused"]


def file_stem(*parts: str) -> str:
    """Makes a file name without extension, of letters, digits and hyphens, from free text.

    It has at most 100 bytes, so that two fit into the 255 that file systems allow.

    Example:
        >>> file_stem("great white shark, Carcharodon")
        'great-white-shark-Carcharodon'
    """
    stem = re.sub(r"[^\w]+", "-", "-".join(parts)).encode()[:100].decode(errors="ignore")
    return stem.strip("-") or "image"


def unused(stem: str, taken: set[str]) -> str:
    """Returns the stem, numbered if it is taken (in upper or lower case), and adds it to `taken`.

    Example:
        >>> taken = set()
        >>> [unused(stem, taken) for stem in ("cat", "Cat", "dog")]
        ['cat', 'Cat-2', 'dog']
    """
    numbered = (f"{stem}-{number}" for number in itertools.count(2))
    found = next(s for s in itertools.chain([stem], numbered) if s.casefold() not in taken)
    taken.add(found.casefold())
    return found


class OutputFolder:
    """A folder to write results into, made if missing, and checked before any long work.

    Raises:
        OSError: it cannot be made or written to.

    Example:
        >>> out = OutputFolder(Path("out"))
        >>> out.write_image("red.png", np.full((2, 3, 3), [255, 0, 0], np.uint8)).name
        'red.png'
        >>> out.write_json("red.json", {"seed": 0}).name
        'red.json'
    """

    def __init__(self, path: Path) -> None:
        self.path = make_folder(path)

    def write(self, name: str, content: bytes) -> Path:
        """Writes a file atomically."""
        return write_file(self.path / name, content)

    def write_image(self, name: str, pixels: np.ndarray) -> Path:
        """Writes uint8 RGB pixels (H, W, 3) as a lossless PNG."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return self.write(name, buffer.getvalue())

    def write_json(self, name: str, record: dict[str, Any]) -> Path:
        """Writes `record`, which says what ran, and the versions it ran with."""
        return self.write(name, record_json(record))
