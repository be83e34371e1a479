"""Photographs and their captions, as people have them on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Photograph:
    """An image file and the sentences about it, as they were written."""

    path: str
    captions: Sequence[str]


@dataclass(frozen=True)
class CaptionSource:
    """What a data set holds.

    Attributes:
        kind: which layout it was read from.
        splits: "train", "val" and "test", as far as they are there -> their photographs.
        files: what was read, without the images.
        left_out: (what, why) of all that does not fit together.
    """

    kind: str
    splits: Mapping[str, Sequence[Photograph]]
    files: Sequence[Path] = ()
    left_out: list[tuple[str, str]] = field(default_factory=list)
