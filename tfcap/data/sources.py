"""Reads photographs and their captions in the layouts in which people have them.

Flickr8k and Flickr30k (Hodosh et al. 2013; Young et al. 2014), COCO's caption json (Chen et al. 2015,
arXiv:1504.00325), Karpathy's json with its own splits (2015, arXiv:1412.2306), and a CSV. Images are
found by name among those in the folder, so that no path in a file can lead elsewhere.
"""

import csv
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfcap.data.vocabulary import tokenize
from visualization.images.reading import SUFFIXES

VAL_SHARE = 0.1

_SPLITS = {"train": "train", "restval": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLITS |= {"dev": "val", "test": "test"}
_STRICTER = ("train", "val", "test")  # of those that name an image, the last gets it
_IMAGE_COLUMNS = ("image", "image_name", "filename", "file_name", "file", "image_path", "path")
_CAPTION_COLUMNS = ("caption", "comment", "text", "sentence", "description")
_OTHERS = r"lemma|_(vocab|build|(train|val|test)_captions)\.json$"  # the last are those built here
_MAX_BYTES = 2**30
_MAX_DEPTH = 3
_MAX_BROKEN = 0.1  # of the lines; more mean that the file is another kind


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
        settings: with what it was made, for the record.
    """

    kind: str
    splits: Mapping[str, Sequence[Photograph]]
    files: Sequence[Path] = ()
    left_out: list[tuple[str, str]] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Entry:
    """An image that a file names: its captions, the folder it is said to be in, and its split.

    `name` is its name without that folder, where its key in `_Entries` has it.
    """

    captions: list[str] = field(default_factory=list)
    folder: str = ""
    name: str = ""
    split: str | None = None


_Entries = dict[str, _Entry]  # by the image's name, in Karpathy's json with the folder before it
_LeftOut = list[tuple[str, str]]


def read_source(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    val_share: float = VAL_SHARE,
    seed: int = 0,
) -> CaptionSource:
    """Finds out what a folder or file is, and reads it.

    Where nothing says which split an image belongs to, or all are said to be "train", a share of them,
    drawn at random, becomes "val"; otherwise the splits are those that are said, even without a "val".
    Captions without words, captions that an image has twice, captions whose image is not there and
    images without captions are left out and listed. An image that several splits name is left out of
    "train", and of "val" if "test" has it.

    Args:
        path: a folder, or its file with the captions.
        images: where the images are, at most three folders deep; by default, where the captions are.
        val_share: above 0 and below 1.
        seed: of the draw.

    Raises:
        ValueError: it is something else, is broken (with the line), or nothing in it fits together.
        OSError: it does not exist or cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such folder or file: check the path")
    kind, files = _find(path) if path.is_dir() else (_kind_of(path), [path])
    if kind is None:
        raise ValueError(
            f"{path}: is no file of captions that is known: expected Flickr's token file, COCO's or "
            "Karpathy's json, or a CSV with the columns image and caption"
        )
    left_out: _LeftOut = []
    entries: _Entries = {}
    for file in files:
        _READERS[kind](file, entries, left_out)
    if kind == "Flickr":
        files += _read_flickr_splits(files[0], entries, left_out)
    if not entries:
        raise ValueError(f"{files[0]}: holds no caption")
    root = _image_folder(path, images)
    photographs = _match(entries, root, left_out)
    splits = _split(photographs, entries, val_share, seed)
    return CaptionSource(kind, splits, files, left_out, {"val_share": val_share, "seed": seed})


# ---- which kind it is


def _find(folder: Path) -> tuple[str, list[Path]]:
    """The kind of a folder, and its files with captions."""
    found: dict[str, list[Path]] = {}
    for path in _files(folder, depth=2):
        name = path.name.lower()
        likely = path.suffix.lower() in (".json", ".csv", ".token") or re.search(
            r"token\.txt$|^captions?\.txt$", name
        )
        if likely and not re.search(_OTHERS, name) and (kind := _kind_of(path)):
            found.setdefault(kind, []).append(path)
    several = [kind for kind, paths in found.items() if len(paths) > 1 and kind != "COCO"]
    if len(found) == 1 and not several:
        kind, paths = next(iter(found.items()))
        return kind, sorted(paths)
    if found:
        names = ", ".join(str(path) for paths in found.values() for path in paths)
        raise ValueError(f"{folder}: has several files of captions ({names}): name one of them")
    raise ValueError(f"{folder}: {_what_else(folder)}")


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=True):
        if len(Path(place).relative_to(folder).parts) >= depth:
            folders.clear()
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def _kind_of(path: Path) -> str | None:
    """By the file's first characters; None if it is no file of captions."""
    with path.open("rb") as file:
        start = file.read(2**16).decode("utf-8-sig", errors="replace")
    if path.suffix.lower() == ".json" or start.lstrip()[:1] in ("{", "["):
        if re.search(r'"sentences"\s*:|"sentids"\s*:', start):
            return "Karpathy"
        if path.name.lower().startswith("captions") or re.search(r'"caption"\s*:', start):
            return "COCO"
        return None
    first = start.partition("\n")[0]
    if re.match(r"[^\t]+#\d+\t", first):
        return "Flickr"
    if _columns(first) is not None or path.suffix.lower() == ".csv":
        return "CSV"
    return None


def _what_else(folder: Path) -> str:
    """What a folder without captions looks like, and what to do."""
    paths = list(_files(folder, depth=_MAX_DEPTH))
    names = [path.name.lower() for path in paths]
    pictures = [path for path in paths if path.suffix.lower() in SUFFIXES]
    classes = {path.parent for path in pictures} - {folder}
    looks: list[tuple[Any, str]] = [
        (not paths, "is empty: name the folder with the images and the captions"),
        (
            any(name.endswith("_captions.h5") for name in names),
            "holds captions and features that are built already: train on it, or look at it with "
            "'python -m tfcap.datasets inspect'",
        ),
        (
            any(name.startswith(("instances_", "person_keypoints_")) for name in names),
            "looks like COCO's boxes and keypoints, without captions: get captions_train*.json and "
            "captions_val*.json, which are in the same annotations file",
        ),
        (
            any(name.endswith(".parquet") or name.endswith(".arrow") for name in names),
            "looks like a Hugging Face data set: save its images as files, and its captions as a CSV "
            "with the columns image and caption",
        ),
        (
            any(name.endswith((".tfrecord", ".tar")) or "tfrecord" in name for name in names),
            "holds records or archives: unpack them to images and a CSV with the columns image and "
            "caption",
        ),
        (
            any(path.parent.name == "JPEGImages" for path in pictures),
            "looks like Pascal VOC, which has no captions",
        ),
        (
            any(name.startswith(("data_batch", "test_batch")) for name in names),
            "looks like CIFAR, which has no captions",
        ),
        (
            len(classes) > 3,
            f"looks like images sorted by class (in {len(classes)} folders), without captions",
        ),
        (
            pictures,
            f"holds {len(pictures)} images and no captions: add a captions.csv with the columns image "
            "and caption (and split, if you like)",
        ),
        (
            any(name.endswith(".zip") for name in names),
            "holds zip files: unpack them there first",
        ),
    ]
    otherwise = (
        f"holds neither captions nor images (but {', '.join(path.name for path in paths[:3])})"
    )
    return next((text for holds, text in looks if holds), otherwise)


# ---- the files with captions


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: has more than {_MAX_BYTES:,} bytes, the limit")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()  # error.object lacks the byte order mark
        raise ValueError(
            f"{path}: {_place(before)} is not UTF-8 text: save the file as UTF-8"
        ) from None


def _place(before: str) -> str:
    """The line and column that follow a file's first characters."""
    line = before.count("\n") + 1
    return f"line {line}, column {len(before) - before.rfind(chr(10))},"


def _lines(path: Path) -> list[str]:
    return _text(path).replace("\r\n", "\n").split("\n")


def _json(path: Path, lists: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """A json file's content, in which these keys hold lists of objects."""
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: is broken json at line {error.lineno}, column {error.colno} ({error.msg}): "
            "get it again"
        ) from None
    except RecursionError:
        raise ValueError(f"{path}: is json nested too deeply: it is no file of captions") from None
    for key in lists:
        value = content.get(key) if isinstance(content, dict) else None
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise ValueError(f"{path}: has no list of objects {key!r}: it is no file of captions")
    return content


def _get(path: Path, where: str, record: Mapping[str, Any], key: str, kind: type) -> Any:
    value = record.get(key)
    if not isinstance(value, kind):
        raise ValueError(
            f"{path}: {where} has {key} {value!r}, expected {kind.__name__}: it is broken"
        )
    return value


def _read_coco(path: Path, entries: _Entries, left_out: _LeftOut) -> None:
    content = _json(path, ("images", "annotations"))
    split = re.search(r"train|val|test", path.name.lower())
    folder = path.stem.partition("_")[2]  # captions_train2017.json: the images are in train2017
    names: dict[int, str] = {}
    for number, image in enumerate(content["images"]):
        name = _get(path, f"images[{number}]", image, "file_name", str)
        names[_get(path, f"images[{number}]", image, "id", int)] = name
        if name in entries and entries[name].folder != folder:
            raise ValueError(f"{path}: {name} is the name of an image in another file too")
        entries[name] = _Entry(folder=folder, split=split and split.group())
    for number, annotation in enumerate(content["annotations"]):
        where = f"annotations[{number}]"
        caption = _get(path, where, annotation, "caption", str)
        named = names.get(_get(path, where, annotation, "image_id", int))
        if named is None:
            left_out.append((f"{path.name} {where}", "its image_id is that of no image"))
        else:
            entries[named].captions.append(caption)


def _read_karpathy(path: Path, entries: _Entries, left_out: _LeftOut) -> None:
    for number, image in enumerate(_json(path, ("images",))["images"]):
        where = f"images[{number}]"
        given = _get(path, where, image, "split", str)
        if given not in _SPLITS:
            raise ValueError(
                f"{path}: {where} is in the split {given!r}, expected one of {', '.join(_SPLITS)}"
            )
        sentences = _get(path, where, image, "sentences", list)
        if not all(isinstance(one, dict) for one in sentences):
            raise ValueError(f"{path}: {where} has sentences that are no objects: it is broken")
        captions = [_get(path, where, one, "raw", str) for one in sentences]
        name = _get(path, where, image, "filename", str)
        folder, split = str(image.get("filepath", "")).strip("/"), _SPLITS[given]
        key = f"{folder}/{name}" if folder else name
        entry = entries.setdefault(key, _Entry([], folder, name, split))
        entry.captions += captions
        if entry.split and entry.split != split:
            less, entry.split = sorted((entry.split, split), key=_STRICTER.index)
            left_out.append((key, f"is left out of {less}: {entry.split} has it too"))


def _read_flickr(path: Path, entries: _Entries, left_out: _LeftOut) -> None:
    broken: dict[int, str] = {}
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        found = re.fullmatch(r"([^\t]+?)#\d+\t(.*)", line)
        if found:
            entries.setdefault(found[1], _Entry()).captions.append(found[2])
        elif line.strip():
            broken[number] = "is not NAME.jpg#NUMBER<TAB>CAPTION"
    _leave_out_lines(path, broken, len(lines), left_out)


def _read_flickr_splits(path: Path, entries: _Entries, left_out: _LeftOut) -> list[Path]:
    """Sets the entries' splits from the files beside `path` that list them; returns those files."""
    listed: dict[str, str] = {}
    files = []
    stems = {Path(name).stem: name for name in entries}
    # what comes last counts: no image that is tested on is trained on
    for split in ("train", "dev", "val", "test"):
        for file in sorted(path.parent.glob("*.txt")):
            if not re.search(rf"(^|[^a-z]){split}(images)?\.txt$", file.name.lower()):
                continue
            files.append(file)
            for line in filter(None, map(str.strip, _lines(file))):
                name = line if line in entries else stems.get(line)
                if name is None:
                    left_out.append((line, f"{file.name} lists it, but it has no caption"))
                    continue
                if name in listed and listed[name] != _SPLITS[split]:
                    left_out.append((line, f"is left out of {listed[name]}: {split} has it too"))
                listed[name] = _SPLITS[split]
    for name in list(entries) if files else []:
        if name in listed:
            entries[name].split = listed[name]
        else:
            left_out.append((name, "is in none of the files that list the splits"))
            del entries[name]
    return files


def _columns(header: str) -> tuple[str, int, int, int | None] | None:
    """A CSV's delimiter, and which columns hold image, caption and split; None if it has none."""
    for delimiter in ",|;\t":
        names = [name.strip().strip('"').lower() for name in header.split(delimiter)]
        image = next((names.index(name) for name in _IMAGE_COLUMNS if name in names), None)
        caption = next((names.index(name) for name in _CAPTION_COLUMNS if name in names), None)
        if image is not None and caption is not None:
            return delimiter, image, caption, names.index("split") if "split" in names else None
    return None


def _read_csv(path: Path, entries: _Entries, left_out: _LeftOut) -> None:
    text = _text(path)
    header, _, _ = text.partition("\n")
    columns = _columns(header)
    if columns is None:
        raise ValueError(
            f"{path}: line 1 is {header.strip()[:80]!r}, expected the names of the columns, image and "
            "caption among them"
        )
    delimiter, image, caption, split = columns
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL,  # as Flickr30k's is
        strict=True,
    )
    broken: dict[int, str] = {}
    names, count, good = next(rows), 0, 1
    try:
        for fields in rows:
            count, good = count + 1, rows.line_num
            if len(fields) == len(names):
                name = fields[image].strip()
                entry = entries.setdefault(name, _Entry())
                entry.captions.append(fields[caption])
                if split is not None:
                    where = f"line {rows.line_num}, field {split + 1},"
                    entry.split = _csv_split(path, where, fields[split], entry.split)
            elif fields:
                broken[rows.line_num] = f"has {len(fields)} fields, expected {len(names)}: " + (
                    f"{names[len(fields)].strip()} is missing"
                    if len(fields) < len(names)
                    else f"field {len(names) + 1} is one too many"
                )
    except csv.Error as error:
        raise ValueError(
            f"{path}: {_broken_field(text, good, delimiter)} is broken ({error}): look at its quotes"
        ) from None
    _leave_out_lines(path, broken, count, left_out)


def _broken_field(text: str, lines: int, delimiter: str) -> str:
    """Where the first field is, in the row after so many lines, that no delimiter ends."""
    start = sum(map(len, itertools.islice(io.StringIO(text, newline=""), lines)))
    whole = re.compile(rf'(?:"(?:[^"]|"")*"|(?!")[^{delimiter}\r\n]*){re.escape(delimiter)}')
    number = 1
    while (field := whole.match(text, start)) and len(field[0]) <= csv.field_size_limit():
        number, start = number + 1, field.end()
    return f"{_place(text[:start])} field {number} of its row,"


def _csv_split(path: Path, where: str, given: str, before: str | None) -> str:
    split = _SPLITS.get(given.strip().lower())
    if split is None:
        raise ValueError(f"{path}: {where} is the split {given!r}, expected train, val or test")
    if before not in (None, split):
        raise ValueError(
            f"{path}: {where} puts an image into {split} that a line above puts into {before}"
        )
    return split


def _leave_out_lines(path: Path, broken: Mapping[int, str], count: int, left_out: _LeftOut) -> None:
    if len(broken) > _MAX_BROKEN * count:
        line, reason = next(iter(broken.items()))
        raise ValueError(
            f"{path}: line {line} {reason} (and {len(broken) - 1:,} of {count:,} lines like it): "
            "captions with commas in them need quotes"
            if path.suffix.lower() == ".csv"
            else f"{path}: line {line} {reason}, as {len(broken):,} of {count:,} lines"
        )
    left_out += [(f"{path.name} line {line}", reason) for line, reason in broken.items()]


_READERS: dict[str, Callable[[Path, _Entries, _LeftOut], None]] = {
    "Flickr": _read_flickr,
    "COCO": _read_coco,
    "Karpathy": _read_karpathy,
    "CSV": _read_csv,
}


# ---- images, and which split they are in


def _image_folder(path: Path, images: str | os.PathLike[str] | None) -> Path:
    """The folder with the images; beside the captions, or one folder up, if it is not named."""
    if images is not None:
        places = [Path(images)]
    else:
        places = [path] if path.is_dir() else [path.parent, path.parent.parent]
    for place in places:
        if not place.is_dir():
            raise NotADirectoryError(f"--images {place}: there is no such folder: check the path")
        if any(file.suffix.lower() in SUFFIXES for file in _files(place, _MAX_DEPTH)):
            return place
    raise ValueError(f"{places[0]}: there are no images: name their folder with --images")


def _match(entries: _Entries, root: Path, left_out: _LeftOut) -> dict[str, Photograph]:
    """Finds each entry's file under `root`, and leaves out what cannot be used."""
    there: dict[str, list[str]] = {}
    for file in _files(root, _MAX_DEPTH):
        if file.suffix.lower() in SUFFIXES:
            there.setdefault(file.name, []).append(file.relative_to(root).as_posix())
    photographs: dict[str, Photograph] = {}
    used: dict[str, str] = {}
    named = Counter(entry.name for entry in entries.values())
    for name, entry in entries.items():
        captions = _usable_captions(name, entry.captions, left_out)
        found = _choose((entry.name or name).replace("\\", "/"), entry.folder, there)
        if entry.name and named[entry.name] > 1:  # so only its folder tells it from the others
            found = [
                file for file in found if f"/{root.resolve().name}/{file}".endswith(f"/{name}")
            ]
        if not captions:
            left_out.append((name, "has no caption"))
        elif not found:
            told = f"there is no such image in {root}, so its captions are left out too: "
            left_out.append((name, f"{told}{len(captions)}"))
        elif len(found) > 1:
            left_out.append((name, f"there are several: {', '.join(found[:3])}"))
        elif found[0] in used:
            left_out.append((name, f"is the same file as {used[found[0]]}"))
        elif not found[0].isprintable():
            left_out.append((name, "its name has characters that cannot be printed"))
        else:
            photographs[name] = Photograph(str(root / found[0]), captions)
            used[found[0]] = name
    spare = sum(len(files) for files in there.values()) - len(used)
    if spare:
        left_out.append((str(root), f"{spare:,} images in it have no caption that is used"))
    if not photographs:
        name, reason = next(one for one in left_out if one[0] in entries)
        raise ValueError(
            f"{root}: none of the {len(entries):,} images that are named can be used ({name}: "
            f"{reason}): name their folder with --images"
        )
    return photographs


def _choose(wanted: str, folder: str, there: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The files that a name can mean: one path must be the end of the other."""
    files = [
        file
        for file in there.get(wanted.rpartition("/")[2], [])
        if f"/{file}".endswith(f"/{wanted}") or f"/{wanted}".endswith(f"/{file}")
    ]
    beside = [file for file in files if folder and f"/{file}".endswith(f"/{folder}/{wanted}")]
    return [file for file in files if file == wanted] or beside or files


def _usable_captions(name: str, captions: Sequence[str], left_out: _LeftOut) -> list[str]:
    usable: list[str] = []
    for caption in (" ".join(caption.split()) for caption in captions):
        if not tokenize(caption):
            left_out.append((name, f"a caption has no words: {caption!r}"))
        elif caption in usable:
            left_out.append((name, f"has the same caption twice: {caption!r}"))
        else:
            usable.append(caption)
    return usable


def _split(
    photographs: Mapping[str, Photograph], entries: _Entries, val_share: float, seed: int
) -> dict[str, list[Photograph]]:
    """By what the files say; an image of which they do not, beside others of which they do, trains."""
    splits = {name: entries[name].split or "train" for name in photographs}
    if {*splits.values()} == {"train"}:
        if not 0 < val_share < 1:
            raise ValueError(f"the share of val is {val_share}, expected a number between 0 and 1")
        if len(photographs) < 2:
            raise ValueError("there is one photograph only, too few for a train and a val split")
        names = sorted(photographs)
        drawn = np.random.default_rng(seed).permutation(len(names))
        count = max(1, round(val_share * len(names)))
        val = {names[i] for i in drawn[:count]}
        splits = {name: "val" if name in val else "train" for name in photographs}
    return {
        split: [photographs[name] for name in photographs if splits[name] == split]
        for split in ("train", "val", "test")
        if split in splits.values()
    }
