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
from visualization.files.printable import on_one_line
from visualization.images.reading import decode_image, images_in, read_source

__all__ = ["Photographs", "image_sources"]


def image_sources(given: list[str]) -> list[str]:
    """Expands a command's arguments to paths and URLs: a folder stands for the images in it.

    Without arguments, it is the photograph that ships with matplotlib.

    Raises:
        OSError: a folder has no images in it.

    Example:
        >>> [Path(source).name for source in image_sources([])]
        ['grace_hopper.jpg']
    """
    if not given:
        import matplotlib

        return [str(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))]
    sources = []
    for source in given:
        if "://" in source or not Path(source).is_dir():
            sources.append(source)
            continue
        sources += images_in(Path(source))
    return sources


class Photographs:
    """Photographs, read one at a time, so that a folder of any size takes constant memory.

    Iterating yields, for each, a name for its files (no two alike), its pixels, uint8 (H, W, 3), and
    a record of its source and sha256. If there are several, one that cannot be read is reported and
    skipped; a single one is read at once, and raises.

    Args:
        sources: paths and URLs, as `image_sources` gives them.
        size: (height, width) to resize and crop to; None keeps each one's size.
        quiet: do not show progress.

    Raises:
        ValueError, OSError: as `visualization.load_image`, for a single photograph.

    Example:
        >>> photographs = Photographs(image_sources([]), (224, 224), quiet=True)
        >>> for stem, image, record in photographs:
        ...     print(stem, image.shape)
        grace_hopper (224, 224, 3)
        >>> photographs.status()
        0
    """

    def __init__(self, sources: list[str], size: tuple[int, int] | None, quiet: bool) -> None:
        self.sources, self.size, self.quiet = sources, size, quiet
        self._skipped = 0
        self._single: bytes | None = None
        if len(sources) == 1:
            self._single = read_source(sources[0])
            self._decode(sources[0], self._single)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, dict[str, str]]]:
        taken: set[str] = set()
        start = time.monotonic()
        for done, source in enumerate(self.sources):
            try:
                image, record = self._decode(source, self._single or read_source(source))
            except (ValueError, OSError) as error:
                self._skipped += 1
                print(f"skipped: {on_one_line(error)}", file=sys.stderr)
                continue
            stem = unused(file_stem(Path(source.partition("?")[0]).stem), taken)
            note = f"{done + 1} of {len(self.sources)} images"
            if done:
                left = (time.monotonic() - start) / done * (len(self.sources) - done)
                note += (
                    f", about {left / 60:.0f} min left" if left >= 60 else f", {left:.0f} s left"
                )
            with progress(note, self.quiet):
                yield stem, image, record

    def _decode(self, source: str, content: bytes) -> tuple[np.ndarray, dict[str, str]]:
        record = {"source": source, "sha256": hashlib.sha256(content).hexdigest()}
        return decode_image(content, source, self.size), record

    def status(self) -> int:
        """The exit status: 0 if every photograph was read, 1 if some were skipped.

        Raises:
            ValueError: all were skipped.
        """
        total = len(self.sources)
        if self._skipped == total:
            raise ValueError(f"none of the {total} images could be read")
        if self._skipped:
            print(f"{self._skipped} of {total} images were skipped", file=sys.stderr)
        return int(self._skipped > 0)
