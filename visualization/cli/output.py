"""A command's results: pictures, and a JSON beside them of what ran."""

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
    """A file name without extension, of letters, digits and hyphens, from free text.

    It has at most 100 bytes, of the 255 that file systems take: two may stand in one name.
    """
    stem = re.sub(r"[^\w]+", "-", "-".join(parts)).encode()[:100].decode(errors="ignore")
    return stem.strip("-") or "image"


def unused(stem: str, taken: set[str]) -> str:
    """The stem, with a number behind it if it is taken (in upper or lower case); takes it."""
    numbered = (f"{stem}-{number}" for number in itertools.count(2))
    found = next(s for s in itertools.chain([stem], numbered) if s.casefold() not in taken)
    taken.add(found.casefold())
    return found


class OutputFolder:
    """A folder to write results into, made if missing, and tried before any long work.

    Raises:
        OSError: it cannot be made or written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = make_folder(path)

    def write(self, name: str, content: bytes) -> Path:
        """Writes a file whole or not at all."""
        return write_file(self.path / name, content)

    def write_image(self, name: str, pixels: np.ndarray) -> Path:
        """Writes uint8 RGB pixels (H, W, 3) as a lossless PNG."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return self.write(name, buffer.getvalue())

    def write_json(self, name: str, record: dict[str, Any]) -> Path:
        """Writes what ran: `record`, with the versions it ran with."""
        return self.write(name, record_json(record))
