"""Finds the images that caption files name, and which split each belongs to."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfcap.data.caption_files import Entries, LeftOut
from tfcap.data.folders import files_in
from tfcap.data.vocabulary import tokenize
from visualization.images.reading import SUFFIXES, is_image_name

__all__ = ["Photograph", "find_photographs", "image_folder", "split_photographs"]

_MAX_DEPTH = 3  # folders


@dataclass(frozen=True)
class Photograph:
    """An image file and the sentences about it, as they were written.

    Example:
        >>> Photograph("a.jpg", ["A dog runs."]).captions
        ['A dog runs.']
    """

    path: str
    captions: Sequence[str]


def image_folder(path: Path, images: str | os.PathLike[str] | None) -> Path:
    """The folder with the images.

    Args:
        path: the folder or file of the captions; without `images`, they are looked for in it, or beside
            it and one folder up.
        images: the folder that the user named.

    Raises:
        NotADirectoryError: there is no such folder.
        ValueError: it has no images.

    Example:
        >>> Path("photos").mkdir()
        >>> Path("photos/a.jpg").touch()
        >>> str(image_folder(Path("photos/captions.csv"), None))
        'photos'
    """
    if images is not None:
        places = [Path(images)]
    else:
        places = [path] if path.is_dir() else [path.parent, path.parent.parent]
    for place in places:
        if not place.is_dir():
            raise NotADirectoryError(f"--images {place}: there is no such folder: check the path")
        if any(is_image_name(file) for file in files_in(place, _MAX_DEPTH)):
            return place
    raise ValueError(f"{places[0]}: holds no images: name their folder with --images")


def find_photographs(entries: Entries, root: Path, left_out: LeftOut) -> dict[str, Photograph]:
    """The entries whose image is under `root` and which have captions, by their keys.

    Args:
        entries: what the caption files name.
        root: the folder with the images.
        left_out: (what, why) of what cannot be used is appended to it.

    Raises:
        ValueError: none can be used.

    Example:
        >>> from tfcap.data.caption_files import Entry
        >>> Path("a.jpg").touch()
        >>> left_out = []
        >>> entries = {"a.jpg": Entry(["a dog"]), "b.jpg": Entry()}
        >>> found = find_photographs(entries, Path("."), left_out)
        >>> found["a.jpg"].captions, left_out
        (['a dog'], [('b.jpg', 'has no caption')])
    """
    files = [
        file.relative_to(root).as_posix()
        for file in filter(is_image_name, files_in(root, _MAX_DEPTH))
    ]
    there = {spelled: _by_name(files, spelled) for spelled in (str, _caseless, _without_ending)}
    loosely: list[tuple[str, str]] = []
    photographs: dict[str, Photograph] = {}
    used: dict[str, str] = {}
    named = Counter(entry.name for entry in entries.values())
    for name, entry in entries.items():
        captions = _usable_captions(name, entry.captions, left_out)
        for spelled in there:
            wanted = (entry.name or name).replace("\\", "/")
            found = _files_meant(wanted, entry.folder, there[spelled], spelled)
            if entry.name and named[entry.name] > 1:  # only its folder tells it from the others
                found = [
                    file
                    for file in found
                    if spelled(f"/{root.resolve().name}/{file}").endswith(spelled(f"/{name}"))
                ]
            if found:
                break
        if not captions:
            left_out.append((name, "has no caption"))
        elif not found:
            reason = f"there is no such image in {root}, so its captions are left out too: "
            left_out.append((name, f"{reason}{len(captions)}"))
        elif len(found) > 1:
            left_out.append((name, f"there are several: {', '.join(found[:3])}"))
        elif found[0] in used:
            left_out.append((name, f"is the same file as {used[found[0]]}"))
        elif not found[0].isprintable():
            left_out.append((name, "its name has characters that cannot be printed"))
        else:
            photographs[name] = Photograph(str(root / found[0]), captions)
            used[found[0]] = name
            if spelled is not str:
                loosely.append((name, found[0]))
    if loosely:
        name, file = loosely[0]
        count = f"{len(loosely):,} names" if len(loosely) > 1 else "1 name"
        reason = (
            f"{count} in it, such as {name} for {file}, match without their case or ending only"
        )
        left_out.append((str(root), f"{reason}, and are used"))
    spare = len(files) - len(used)
    if spare:
        left_out.append((str(root), f"{spare:,} images in it have no caption that is used"))
    if not photographs:
        name, reason = next(one for one in left_out if one[0] in entries)
        raise ValueError(
            f"{root}: none of the {len(entries):,} images that are named can be used ({name}: "
            f"{reason}): name their folder with --images"
        )
    return photographs


def split_photographs(
    photographs: Mapping[str, Photograph], entries: Entries, val_share: float, seed: int
) -> dict[str, list[Photograph]]:
    """The photographs by split, as the caption files say; without such a statement, it is "train".

    Args:
        photographs: by the entries' keys.
        entries: what the caption files name.
        val_share: above 0 and below 1: if all are in "train", such a share becomes "val".
        seed: of the draw.

    Raises:
        ValueError: `val_share` is out of range, or there is only one photograph to draw from.

    Example:
        >>> from tfcap.data.caption_files import Entry
        >>> photographs = {"a": Photograph("a.jpg", ["a dog"]), "b": Photograph("b.jpg", ["a cat"])}
        >>> entries = {"a": Entry(), "b": Entry(split="test")}
        >>> list(split_photographs(photographs, entries, 0.1, seed=0))
        ['train', 'test']
    """
    splits = {name: entries[name].split or "train" for name in photographs}
    if {*splits.values()} == {"train"}:
        if not 0 < val_share < 1:
            raise ValueError(f"the share of val is {val_share}, expected a number between 0 and 1")
        if len(photographs) < 2:
            raise ValueError("there is one photograph only, too few for a train and a val split")
        names = sorted(photographs)
        drawn = np.random.default_rng(seed).permutation(len(names))
        for index in drawn[: max(1, round(val_share * len(names)))]:
            splits[names[index]] = "val"
    return {
        split: [photographs[name] for name in photographs if splits[name] == split]
        for split in ("train", "val", "test")
        if split in splits.values()
    }


def _caseless(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()  # macOS writes names in NFD


def _without_ending(path: str) -> str:
    stem, _, ending = _caseless(path).rpartition(".")
    return stem if f".{ending}" in SUFFIXES else _caseless(path)


def _by_name(files: Sequence[str], spelled: Callable[[str], str]) -> dict[str, list[str]]:
    """The name of a file, without its folder, as spelled -> the files of that name."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(spelled(file.rpartition("/")[2]), []).append(file)
    return found


def _files_meant(
    wanted: str,
    folder: str,
    there: Mapping[str, Sequence[str]],
    spelled: Callable[[str], str],
) -> Sequence[str]:
    """The files that a name can mean: one path must be the end of the other."""
    full = spelled(f"/{wanted}")
    paths = {file: spelled(f"/{file}") for file in there.get(full.rpartition("/")[2], [])}
    files = [file for file, path in paths.items() if path.endswith(full) or full.endswith(path)]
    beside = [
        file for file in files if folder and paths[file].endswith(spelled(f"/{folder}/{wanted}"))
    ]
    return [file for file in files if paths[file] == full] or beside or files


def _usable_captions(name: str, captions: Sequence[str], left_out: LeftOut) -> list[str]:
    usable: list[str] = []
    for given in captions:
        caption = unicodedata.normalize("NFC", " ".join(given.split()))
        if not tokenize(caption):
            left_out.append((name, f"a caption has no words: {caption!r}"))
        elif caption in usable:
            left_out.append((name, f"has the same caption twice: {caption!r}"))
        else:
            usable.append(caption)
    return usable
