"""Reads the files in which people have captions: Flickr's, COCO's, Karpathy's, lists, and CSV.

Flickr8k and Flickr30k (Hodosh et al. 2013; Young et al. 2014), COCO's caption JSON (Chen et al. 2015,
arXiv:1504.00325), Karpathy's JSON with its own splits (2015, arXiv:1412.2306); JSON lists of images and
captions, as neuraltalk2 has them, and Hugging Face's metadata.jsonl. Each reader fills a dictionary of
`Entry` by image name, and lists what it omits.
"""

import csv
import io
import mmap
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visualization.files.json_file import MAX_BYTES, parse_json, read_json
from visualization.files.system_errors import reading

__all__ = ["READERS", "Entry", "caption_file_kind", "read_flickr_splits"]


@dataclass
class Entry:
    """An image that a file names.

    Attributes:
        captions: the sentences about it.
        folder: the folder it is in, according to the file.
        name: its name without that folder, where its key has the folder (Karpathy's JSON).
        split: "train", "val" or "test"; None if the file does not say.

    Example:
        >>> Entry(["A dog runs."], split="val").captions
        ['A dog runs.']
    """

    captions: list[str] = field(default_factory=list)
    folder: str = ""
    name: str = ""
    split: str | None = None


Entries = dict[str, Entry]
LeftOut = list[tuple[str, str]]  # (what, why)

_SPLITS = {"train": "train", "restval": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLITS |= {"dev": "val", "test": "test"}
_STRICTER = ("train", "val", "test")  # of those that name an image, the last gets it


def caption_file_kind(path: Path) -> str | None:
    """The layout of a file, a key of `READERS`, by its content; None if it has no captions.

    Example:
        >>> _ = Path("photos.csv").write_text("image,caption")
        >>> caption_file_kind(Path("photos.csv"))
        'CSV'
    """
    with reading(path), path.open("rb") as file:
        start = file.read(2**16).decode("utf-8-sig", errors="replace")
    if path.suffix.lower() in (".json", ".jsonl") or start.lstrip()[:1] in ("{", "["):
        if re.search(r'"sentences"\s*:|"sentids"\s*:', start):
            return "Karpathy"
        if start.lstrip()[:1] == "[" or path.suffix.lower() == ".jsonl":
            both = (rf'"({"|".join(keys)})"\s*:' for keys in (_IMAGE_KEYS, _CAPTION_KEYS))
            if all(re.search(key, start) for key in both):
                return "records"
        coco = path.name.lower().startswith("captions") or _holds(path, rb'"caption"\s*:')
        return "COCO" if coco else "Karpathy" if _holds(path, rb'"sentences"\s*:') else None
    header = start.partition("\n")[0]
    if re.match(r"[^\t]+#\d+\t", header):
        return "Flickr"
    named_so = re.fullmatch(r".*\.csv|captions?\.txt", path.name.lower())
    return "CSV" if _columns(header) or named_so else None


def _holds(path: Path, pattern: bytes) -> bool:
    """Whether a file, of which only a part is in memory at a time, holds a pattern anywhere."""
    with reading(path), path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return re.search(pattern, content) is not None


# ---- JSON


def _read_coco(path: Path, entries: Entries, left_out: LeftOut) -> None:
    content = _json_with_lists(path, "images", "annotations")
    split = re.search(r"train|val|test", path.name.lower())
    folder = path.stem.partition("_")[2]  # captions_train2017.json: the images are in train2017
    names: dict[int, str] = {}
    for number, image in enumerate(content["images"]):
        name = _get(path, f"images[{number}]", image, "file_name", str)
        names[_get(path, f"images[{number}]", image, "id", int)] = name
        if name in entries and entries[name].folder != folder:
            raise ValueError(
                f"{path}: {name} is also the name of an image in another file: rename one of them"
            )
        entries[name] = Entry(folder=folder, split=split and split.group())
    for number, annotation in enumerate(content["annotations"]):
        where = f"annotations[{number}]"
        caption = _get(path, where, annotation, "caption", str)
        name = names.get(_get(path, where, annotation, "image_id", int), "")
        if name:
            entries[name].captions.append(caption)
        else:
            left_out.append((f"{path.name} {where}", "no image has its image_id"))


def _read_karpathy(path: Path, entries: Entries, left_out: LeftOut) -> None:
    for number, image in enumerate(_json_with_lists(path, "images")["images"]):
        where = f"images[{number}]"
        given = _get(path, where, image, "split", str)
        if given not in _SPLITS:
            raise ValueError(
                f"{path}: {where} is in the split {given!r}, expected one of {', '.join(_SPLITS)}"
            )
        sentences = _objects(path, f"{where} sentences", image.get("sentences"))
        captions = [_get(path, where, one, "raw", str) for one in sentences]
        name = _get(path, where, image, "filename", str)
        folder, split = str(image.get("filepath", "")).strip("/"), _SPLITS[given]
        key = f"{folder}/{name}" if folder else name
        entry = entries.setdefault(key, Entry([], folder, name, split))
        entry.captions += captions
        if entry.split and entry.split != split:
            less, entry.split = sorted((entry.split, split), key=_STRICTER.index)
            left_out.append((key, f"is left out of {less}: {entry.split} has it too"))


def _read_records(path: Path, entries: Entries, left_out: LeftOut) -> None:
    """A JSON list of {image, caption or captions}, such as neuraltalk2's, or one of them a line."""
    folder = ""
    if path.suffix.lower() == ".jsonl":
        folder = path.absolute().parent.name  # the images lie beside it: train/metadata.jsonl
        lines = enumerate(_lines(path), 1)
        records = [parse_json(line, f"{path}: line {n}") for n, line in lines if line.strip()]
    else:
        records = read_json(path)
    for number, record in enumerate(_objects(path, "it", records)):
        where = f"{path}: entry {number}"
        name = _first_of(record, _IMAGE_KEYS)
        captions = _first_of(record, _CAPTION_KEYS)
        captions = [captions] if isinstance(captions, str) else captions
        if isinstance(captions, list):
            captions = [one.get("raw") if isinstance(one, dict) else one for one in captions]
        if not isinstance(name, str) or not isinstance(captions, list):
            raise ValueError(f"{where} has no image and caption: name a file of captions")
        if not all(isinstance(caption, str) for caption in captions):
            raise ValueError(f"{where} has a caption that is not text: download the file again")
        key = f"{folder}/{name}" if folder else name
        of_folder = Entry([], folder, name, _SPLITS.get(folder.lower())) if folder else Entry()
        entry = entries.setdefault(key, of_folder)
        entry.captions += captions
        if record.get("split"):
            entry.split = _csv_split(f"{where}, {name},", str(record["split"]), entry.split)


def _first_of(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if key in record), None)


def _json_with_lists(path: Path, *keys: str) -> dict[str, list[dict[str, Any]]]:
    """A JSON file's content, in which these keys hold lists of objects."""
    content = read_json(path)
    for key in keys:
        _objects(path, key, content.get(key) if isinstance(content, dict) else None)
    return content


def _objects(path: Path, where: str, value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return value
    raise ValueError(f"{path}: {where} is not a list of objects: name a file of captions")


def _get(path: Path, where: str, record: Mapping[str, Any], key: str, kind: type) -> Any:
    value = record.get(key)
    if not isinstance(value, kind):
        raise ValueError(
            f"{path}: {where} has {key} {value!r}, expected {kind.__name__}: download the file again"
        )
    return value


# ---- Flickr's text files


def _read_flickr(path: Path, entries: Entries, left_out: LeftOut) -> None:
    broken: dict[int, str] = {}
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        found = re.fullmatch(r"([^\t]+?)#\d+\t(.*)", line)
        if found:
            entries.setdefault(found[1], Entry()).captions.append(found[2])
        elif line.strip():
            broken[number] = "is not NAME.jpg#NUMBER<TAB>CAPTION"
    _leave_out_lines(path, broken, len(lines), left_out)


def read_flickr_splits(path: Path, entries: Entries, left_out: LeftOut) -> list[Path]:
    """Sets the entries' splits from the files beside `path` that list them, and returns those files.

    An image that is in none of the lists is removed; one in several goes to the last of train, val
    and test, so that no image is both trained and tested on.

    Example:
        >>> entries = {"a.jpg": Entry(["a dog"]), "b.jpg": Entry(["a cat"])}
        >>> _ = Path("Flickr_8k.testImages.txt").write_text("b.jpg")
        >>> files = read_flickr_splits(Path("Flickr8k.token.txt"), entries, [])
        >>> {name: entry.split for name, entry in entries.items()}
        {'b.jpg': 'test'}
    """
    listed: dict[str, str] = {}
    files = []
    stems = {Path(name).stem: name for name in entries}
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


# ---- CSV

_IMAGE_COLUMNS = ("image", "image_name", "filename", "file_name", "file", "image_path", "path")
_CAPTION_COLUMNS = ("caption", "comment", "text", "sentence", "description")
_IMAGE_KEYS = (*_IMAGE_COLUMNS, "file_path", "filepath", "img")  # of JSON
_CAPTION_KEYS = (*_CAPTION_COLUMNS, "captions", "sentences")


def _columns(header: str) -> tuple[str, int, int, int | None] | None:
    """A CSV's delimiter, and which columns hold image, caption and split; None if it has none."""
    for delimiter in ",|;\t":
        names = [name.strip().strip('"').lower() for name in header.split(delimiter)]
        image = next((names.index(name) for name in _IMAGE_COLUMNS if name in names), None)
        caption = next((names.index(name) for name in _CAPTION_COLUMNS if name in names), None)
        if image is not None and caption is not None:
            return delimiter, image, caption, names.index("split") if "split" in names else None
    return None


def _read_csv(path: Path, entries: Entries, left_out: LeftOut) -> None:
    text = _text(path)
    header = text.partition("\n")[0]
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
                entry = entries.setdefault(fields[image].strip(), Entry())
                entry.captions.append(fields[caption])
                if split is not None:
                    where = f"{path}: line {rows.line_num}, field {split + 1},"
                    entry.split = _csv_split(where, fields[split], entry.split)
            elif fields:
                broken[rows.line_num] = f"has {len(fields)} fields, expected {len(names)}"
    except csv.Error as error:
        raise ValueError(
            f"{path}: the row that begins in line {good + 1} is broken ({error}): check its quotes"
        ) from None
    _leave_out_lines(path, broken, count, left_out)


def _csv_split(where: str, given: str, before: str | None) -> str:
    split = _SPLITS.get(given.strip().lower())
    if split is None:
        raise ValueError(f"{where} is the split {given!r}, expected train, val or test")
    if before not in (None, split):
        raise ValueError(
            f"{where} puts an image into {split} that a line above puts into {before}: name one split"
        )
    return split


# ---- lines of text

_MAX_BROKEN = 0.1  # of the lines; more mean that the file is another kind


def _leave_out_lines(path: Path, broken: Mapping[int, str], count: int, left_out: LeftOut) -> None:
    if len(broken) > _MAX_BROKEN * count:
        line, reason = next(iter(broken.items()))
        remedy = (
            "captions with commas in them need quotes" if "fields" in reason else "check the file"
        )
        raise ValueError(
            f"{path}: line {line} {reason}, like {len(broken):,} of {count:,} lines: {remedy}"
        )
    left_out += [(f"{path.name} line {line}", reason) for line, reason in broken.items()]


def _lines(path: Path) -> list[str]:
    return _text(path).replace("\r\n", "\n").split("\n")


def _text(path: Path) -> str:
    with reading(path):
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: has more than {MAX_BYTES:,} bytes, the limit: split it")
        content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()  # error.object lacks the byte order mark
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ValueError(
            f"{path}: line {line}, column {column}, is not UTF-8 text: save the file as UTF-8"
        ) from None


READERS: dict[str, Callable[[Path, Entries, LeftOut], None]] = {
    "Flickr": _read_flickr,
    "COCO": _read_coco,
    "Karpathy": _read_karpathy,
    "CSV": _read_csv,
    "records": _read_records,
}
