"""Recognises and reads photographs with captions in the layouts in which people have them.

`caption_files` reads the captions, `matching` finds the images and draws the splits. Images are found
by name among those in the folder, so that no path in a file can lead elsewhere.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfcap.data.caption_files import (
    READERS,
    Entries,
    LeftOut,
    caption_file_kind,
    read_flickr_splits,
)
from tfcap.data.folders import describe_folder, files_in
from tfcap.data.matching import Photograph, find_photographs, image_folder, split_photographs

__all__ = ["VAL_SHARE", "CaptionSource", "Photograph", "read_source"]

VAL_SHARE = 0.1


@dataclass(frozen=True)
class CaptionSource:
    """What a data set holds.

    Attributes:
        kind: the layout it was read from: "Flickr", "COCO", "Karpathy", "CSV" or "records".
        splits: those of "train", "val" and "test" that there are -> their photographs.
        files: what was read, without the images.
        left_out: (what, why) of everything that does not match.
        settings: with what it was made, for the record.

    Example:
        >>> source = CaptionSource("CSV", {"train": [Photograph("a.jpg", ["A dog runs."])]})
        >>> [photograph.path for photograph in source.splits["train"]]
        ['a.jpg']
    """

    kind: str
    splits: Mapping[str, Sequence[Photograph]]
    files: Sequence[Path] = ()
    left_out: list[tuple[str, str]] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_source(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    val_share: float = VAL_SHARE,
    seed: int = 0,
) -> CaptionSource:
    """Recognises the layout of a folder or file, and reads it.

    Where nothing says which split an image belongs to, or all are in "train", a share of them, drawn at
    random, becomes "val"; otherwise the splits are the given ones, even without a "val". Captions
    without words, captions that an image has twice, captions whose image is missing and images without
    captions are left out and listed. An image that several splits name is left out of "train", and of
    "val" if "test" has it.

    Args:
        path: a folder, or its file of captions.
        images: where the images are, at most three folders deep; by default, where the captions are.
        val_share: above 0 and below 1.
        seed: of the draw.

    Raises:
        ValueError: it is of another kind, is broken (with the line), or nothing in it matches.
        OSError: it does not exist or cannot be read.

    Example:
        >>> for name in ("a.jpg", "b.jpg"):
        ...     Path(name).touch()
        >>> _ = Path("c.csv").write_text("image,caption\\na.jpg,a dog\\nb.jpg,a cat\\n")
        >>> source = read_source(".", val_share=0.5)
        >>> source.kind, {split: len(photographs) for split, photographs in source.splits.items()}
        ('CSV', {'train': 1, 'val': 1})
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such folder or file: check the path")
    kind, files = _find(path) if path.is_dir() else (caption_file_kind(path), [path])
    if kind is None:
        raise ValueError(f"{path}: is not a file of captions that is known, expected {_EXPECTED}")
    left_out: LeftOut = []
    entries: Entries = {}
    for file in files:
        READERS[kind](file, entries, left_out)
    if kind == "Flickr":
        files += read_flickr_splits(files[0], entries, left_out)
    if not entries:
        raise ValueError(f"{files[0]}: holds no caption, expected {_EXPECTED}")
    photographs = find_photographs(entries, image_folder(path, images), left_out)
    splits = split_photographs(photographs, entries, val_share, seed)
    return CaptionSource(kind, splits, files, left_out, {"val_share": val_share, "seed": seed})


_EXPECTED = (
    "Flickr's token file, COCO's or Karpathy's JSON, a JSON list or .jsonl of images and captions, "
    "or a CSV with the columns image and caption"
)
_LIKELY = r".*\.(jsonl?|csv|token)|.*token\.txt|captions?\.txt"
_OTHERS = r".*(lemma.*|_(vocab|build|(train|val|test)_captions)\.json)"  # also those built here


def _find(folder: Path) -> tuple[str, list[Path]]:
    """The kind of a folder, and its files with captions."""
    found: dict[str, list[Path]] = {}
    for path in files_in(folder, depth=2):
        name = path.name.lower()
        likely = re.fullmatch(_LIKELY, name) and not re.fullmatch(_OTHERS, name)
        if likely and (kind := caption_file_kind(path)):
            found.setdefault(kind, []).append(path)
    if not found:
        raise ValueError(f"{folder}: it {describe_folder(folder)}")
    kind, paths = next(iter(found.items()))
    if len(found) == 1 and (kind in ("COCO", "records") or len(paths) == 1):
        return kind, sorted(paths)
    names = ", ".join(str(path) for paths in found.values() for path in paths)
    raise ValueError(f"{folder}: has several files of captions ({names}): name one of them")
