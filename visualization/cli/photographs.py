"""The photographs that a command is given: paths, URLs and folders, read one at a time."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from visualization.cli.output import file_stem, unused
from visualization.cli.running import progress
from visualization.images.reading import SUFFIXES, decode_image, read_source


def image_sources(given: list[str]) -> list[str]:
    """The paths and URLs that the arguments mean: folders become the images in them.

    Without any, it is the photograph that ships with matplotlib.

    Raises:
        OSError: a folder holds no image.
    """
    if not given:
        import matplotlib

        return [str(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))]
    sources = []
    for source in given:
        if "://" in source or not Path(source).is_dir():
            sources.append(source)
            continue
        inside = sorted(path for path in Path(source).iterdir() if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise FileNotFoundError(f"{source}: is a folder without images ({' '.join(SUFFIXES)})")
        sources += map(str, inside)
    return sources


class Photographs:
    """The photographs, read one at a time, so that a folder of any size takes constant memory.

    Iterating gives, for each, a name for its files (no two alike), its pixels uint8 (H, W, 3) and a
    record of its source and sha256. Where there are several, one that cannot be read is reported and
    skipped; a single one raises, at once.
    """

    def __init__(self, sources: list[str], size: tuple[int, int] | None, quiet: bool) -> None:
        self.sources, self.quiet = sources, quiet
        self.skipped: list[str] = []
        self.size = size
        self._contents: dict[str, bytes] = {}
        if len(sources) == 1:
            self._read(sources[0])

    def _read(self, source: str) -> tuple[np.ndarray, dict[str, str]]:

        content = self._contents.get(source) or read_source(source)
        if len(self.sources) == 1:
            self._contents[source] = content
        record = {"source": source, "sha256": hashlib.sha256(content).hexdigest()}
        return decode_image(content, source, self.size), record

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, dict[str, str]]]:
        taken: set[str] = set()
        start = time.monotonic()
        for done, source in enumerate(self.sources):
            try:
                image, record = self._read(source)
            except (ValueError, OSError) as error:
                self.skipped.append(source)
                print(f"skipped: {' '.join(str(error).split())}", file=sys.stderr)
                continue
            stem = unused(file_stem(Path(source.partition("?")[0]).stem), taken)
            left = (time.monotonic() - start) / done * (len(self.sources) - done) if done else 0
            note = f"{done + 1} of {len(self.sources)} images"
            note += f", about {left / 60:.0f} min left" if left >= 60 else f", {left:.0f} s left"
            with progress(note if done else f"{note.partition(',')[0]} ...", self.quiet):
                yield stem, image, record

    def status(self) -> int:
        """0 if every photograph was read, 1 if some were skipped; raises if all were."""
        if len(self.skipped) == len(self.sources):
            raise ValueError(f"none of the {len(self.sources)} images could be read")
        if self.skipped:
            print(
                f"{len(self.skipped)} of {len(self.sources)} images were skipped", file=sys.stderr
            )
        return int(bool(self.skipped))
