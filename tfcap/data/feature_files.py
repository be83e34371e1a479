"""Features of many image files, written to HDF5 in such a way that an interrupted run can continue.

While NAME.h5 is being filled it is called NAME.h5.partial; NAME.progress.json says how much is done.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from tfcap.data.features import BATCH_SIZE, Encoder, compiled_encoder, read_images
from visualization.files.bundle import manifest
from visualization.files.hdf5 import open_hdf5, safe_dataset
from visualization.files.json_file import read_json
from visualization.files.system_errors import writing

__all__ = ["FeatureFiles"]

_BETWEEN_COMMITS = 8  # batches; what a killed run loses
_ROWS_AT_ONCE = 256  # while copying
_BESIDE = 2**12  # bytes an image; room for its captions, which are written after the features


class FeatureFiles:
    """The features of one list of images, a row for each that could be read.

    Args:
        path: NAME.h5, with the dataset ``features``, (rows, *encoder.shape).
        sources: the paths of the images.
        encoder: what makes the features.
        views: K; if there are some, also make NAME_views.h5, with the ``features`` of K random crops of
            each image, (rows, K, *encoder.shape).
        seed: of the crops.
        what: what errors call the images.

    Attributes:
        skipped: what could not be read, source -> why; complete after `fill`.

    Example:
        >>> from PIL import Image
        >>> from tfcap.data.features import encoder_named
        >>> Image.new("RGB", (9, 9)).save("a.png")
        >>> encoder = encoder_named("squeezenet")
        >>> files = FeatureFiles(Path("a.h5"), ["a.png", "gone.png"], encoder)
        >>> files.fill()
        >>> files.move_into_place()
        >>> with h5py.File("a.h5") as file:
        ...     file["features"].shape, list(files.skipped)
        ((1, 512), ['gone.png'])
    """

    def __init__(
        self,
        path: Path,
        sources: Sequence[str],
        encoder: Encoder,
        *,
        views: int = 0,
        seed: int = 0,
        what: str = "images",
    ) -> None:
        self.sources, self._encoder, self._what = sources, encoder, what
        self._views, self._seed = views, seed
        self._views_path = path.with_name(f"{path.stem}_views.h5")
        self._files = [_FeatureFile(path, encoder.shape, encoder)]
        if views:
            self._files.append(_FeatureFile(self._views_path, (views, *encoder.shape), encoder))
        self._progress = path.with_name(f"{path.stem}.progress.json")
        self._next_progress = path.with_name(f"{path.stem}.progress.json.partial")
        self._digest = _digest(sources, encoder, seed if views else 0)
        self.skipped: dict[str, str] = {}
        self._done = self._rows = 0
        self._in_place = False

    def fill(self, report: Callable[[int], None] = lambda done: None) -> None:
        """Computes the features that are missing.

        Args:
            report: called with the number of images that are done.

        Raises:
            ValueError: no image can be read.
            OSError: there is no room, or the files cannot be written.
        """
        if not self._resume():
            self._start()
        if self._in_place:
            return
        with contextlib.ExitStack() as opened:
            for file in self._files:
                opened.enter_context(file)
            images = read_images(
                self.sources,
                self._encoder,
                first=self._done,
                views=self._views,
                seed=self._seed,
            )
            opened.enter_context(contextlib.closing(images))
            self._compute(images, report)
        if not self._rows:
            reason = next(iter(self.skipped.values()))
            raise ValueError(
                f"none of the {len(self.sources):,} {self._what} can be read ({reason}): download "
                "them again, or remove them from the captions"
            )
        for file in self._files:
            file.shorten(self._rows)
        self._stage_state(in_place=True)

    def places(self) -> dict[Path, Path]:
        """The names of the files -> where they are: NAME.partial until `move_into_place`."""
        return {file.path: file.path if self._in_place else file.partial for file in self._files}

    def move_into_place(self) -> None:
        """Renames the files to their final names; this takes no room on the disk."""
        if self._in_place:
            return
        self._views_path.unlink(missing_ok=True)  # of other images, perhaps
        for file in self._files:
            os.replace(file.partial, file.path)
        os.replace(self._next_progress, self._progress)
        self._in_place = True

    def _compute(
        self, images: Iterator[np.ndarray | Exception], report: Callable[[int], None]
    ) -> None:
        forward = compiled_encoder(self._encoder.name)
        done, rows, batches = self._done, self._rows, 0
        while done < len(self.sources):
            report(done)
            batch = []
            for source in self.sources[done : done + BATCH_SIZE]:
                image = next(images)
                if isinstance(image, Exception):
                    self.skipped[source] = " ".join(str(image).split())
                else:
                    batch.append(image)
                done += 1
            if batch:
                views = np.stack(batch, axis=1)  # (1 + views, n, size, size, 3)
                features = [forward(part).numpy() for part in views]
                self._files[0].write(rows, features[0])
                if self._views:
                    self._files[1].write(rows, np.stack(features[1:], axis=1))
                rows += len(batch)
            batches += 1
            if batches % _BETWEEN_COMMITS == 0 or done == len(self.sources):
                self._commit(done, rows)

    def _commit(self, done: int, rows: int) -> None:
        for file in self._files:
            file.sync()
        self._done, self._rows = done, rows
        self._stage_state(in_place=False)
        os.replace(self._next_progress, self._progress)

    def _resume(self) -> bool:
        """Continues what an earlier run left, if it is complete so far and of the same images."""
        state, count = self._state(), len(self.sources)
        if state is None or state["views"] != self._views:
            return False
        for file in self._files:
            found = file.rows_of(file.path if state["in_place"] else file.partial)
            shortened = state["done"] == count and found == state["rows"]
            if not shortened and (state["in_place"] or found != count):
                return False
        self._done, self._rows, self.skipped = state["done"], state["rows"], state["skipped"]
        self._in_place = state["in_place"]
        return True

    def _start(self) -> None:
        self._progress.unlink(missing_ok=True)
        needed = (sum(file.row_bytes for file in self._files) + _BESIDE) * len(self.sources)
        free = shutil.disk_usage(self._progress.parent).free
        if needed > free:
            raise OSError(
                f"{self._progress.parent}: features and captions take {needed / 1e6:,.1f} MB, but only "
                f"{free / 1e6:,.1f} MB are free: free some space, or name another folder"
            )
        for file in self._files:
            file.create(len(self.sources))

    def _stage_state(self, in_place: bool) -> None:
        state = {"digest": self._digest, "done": self._done, "rows": self._rows}
        state |= {"skipped": self.skipped, "views": self._views, "in_place": in_place}
        with _writing(self._progress):
            self._next_progress.write_text(json.dumps(state), encoding="utf-8")

    def _state(self) -> dict[str, Any] | None:
        """The note of an earlier run on the same images, if it is there and undamaged."""
        try:
            state = read_json(self._progress)
            possible = 0 <= state["rows"] <= state["done"] <= len(self.sources)
            possible = possible and isinstance(state["in_place"], bool)
            possible = possible and isinstance(state["skipped"], dict) and "views" in state
            return state if possible and state["digest"] == self._digest else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


class _FeatureFile:
    """The HDF5 file of one kind of features, with its rows one after another.

    They get their place in the file when it is created, and are written there without HDF5, which marks
    a file that it has open for writing: a killed run leaves a valid file.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], encoder: Encoder) -> None:
        self.path, self.partial = path, path.with_name(f"{path.name}.partial")
        self._shape, self._encoder, self._dtype = shape, encoder, encoder.dtype.newbyteorder("<")
        self.row_bytes = int(np.prod(shape)) * self._dtype.itemsize

    def create(self, rows: int) -> None:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        with _writing(self.partial), h5py.File(self.partial, "w") as file:
            file.attrs["encoder"] = self._encoder.name
            options = {"dcpl": layout, "track_times": False}  # a time would make files differ
            file.create_dataset("features", (rows, *self._shape), self._dtype, **options)

    def rows_of(self, path: Path) -> int | None:
        """How many rows a file has; None if it is missing, damaged or of another kind."""
        try:
            with open_hdf5(path) as file:
                features = safe_dataset(file, "features", str(path))
                fits = features.shape[1:] == self._shape and features.dtype == self._dtype
                return len(features) if fits else None
        except (OSError, ValueError):
            return None

    def __enter__(self) -> Self:
        with _writing(self.partial):
            with h5py.File(self.partial, "r") as file:
                self._offset = file["features"].id.get_offset()
            self._file = self.partial.open("r+b")
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk, which `write` or `sync` has reported
            self._file.close()

    def write(self, row: int, features: np.ndarray) -> None:
        with _writing(self.partial):
            self._file.seek(self._offset + row * self.row_bytes)
            self._file.write(np.ascontiguousarray(features, self._dtype).data)

    def sync(self) -> None:
        with _writing(self.partial):
            self._file.flush()
            os.fsync(self._file.fileno())

    def shorten(self, rows: int) -> None:
        """Keeps the first rows only; HDF5 cannot shorten such a file, so they are copied."""
        with h5py.File(self.partial, "r") as file:
            features = file["features"]
            if len(features) == rows:
                return
            shorter = _FeatureFile(self.partial, self._shape, self._encoder)
            shorter.create(rows)
            with shorter:
                for start in range(0, rows, _ROWS_AT_ONCE):
                    shorter.write(start, features[start : min(start + _ROWS_AT_ONCE, rows)])
                shorter.sync()
        os.replace(shorter.partial, self.partial)


def _digest(sources: Sequence[str], encoder: Encoder, seed: int) -> str:
    """Changes when the list, an image file, the seed, or the encoder's weights change."""
    weights = manifest()[encoder.weights]["sha256"]
    digest = hashlib.sha256(f"{encoder.name} {weights} {seed}".encode())
    for source in sources:
        try:
            status = os.stat(source)
            digest.update(f"\0{source}\0{status.st_size}\0{status.st_mtime_ns}".encode())
        except OSError:
            digest.update(f"\0{source}\0missing".encode())
    return digest.hexdigest()


def _writing(path: Path) -> contextlib.AbstractContextManager[None]:
    return writing(path, "run the same command again once it can be, and it continues")
