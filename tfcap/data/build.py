"""Builds caption data in the course's layout from photographs with captions.

``NAME_captions.h5`` (SPLIT_captions, SPLIT_image_idxs), ``NAME_SPLIT_ENCODER.h5`` (features),
``NAME_vocab.json``, ``NAME_SPLIT_images.txt`` (paths, relative where they are inside the folder), and
``NAME_SPLIT_captions.json``, the sentences as they were written, in COCO's format.
"""

import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from tfcap.data import shapes
from tfcap.data.feature_files import FeatureFiles
from tfcap.data.features import encoder_named
from tfcap.data.sources import CaptionSource, Photograph
from tfcap.data.vocabulary import (
    MAX_WORDS,
    MIN_COUNT,
    SPECIAL,
    UNK,
    build_vocabulary,
    encode_captions,
    lack_spaces,
    tokenize,
)
from visualization.files.atomic import make_folder, write_file
from visualization.files.json_file import record_json
from visualization.files.system_errors import writing

__all__ = ["NO_SPACES", "build_dataset", "feature_bytes", "hash_files", "make_shapes"]

_CAPTIONS = "_captions.h5"
Report = Callable[[str], None]


def build_dataset(
    source: CaptionSource,
    folder: str | Path,
    name: str,
    *,
    min_count: int = MIN_COUNT,
    max_words: int = MAX_WORDS,
    encoder: str = "squeezenet",
    views: int = 0,
    seed: int = 0,
    report: Report = lambda text: None,
) -> dict[str, Any]:
    """Writes captions, vocabulary and features of photographs into a folder.

    Words are those that `tfcap.data.vocabulary.tokenize` finds. Photographs that cannot be read are
    left out with their captions, and listed in ``NAME_left_out.txt``. If it is interrupted, the same
    call continues. An older set of that name stays as it was until the new one is complete; then the
    files are renamed, NAME_captions.h5 last: a partly renamed set is never taken for a complete one.

    Args:
        source: the photographs with their captions.
        folder: where the set goes; made if missing.
        name: NAME in the files' names.
        min_count: rarer words of the training captions become <UNK>.
        max_words: longer captions are cut, and <END> follows.
        encoder: what makes the features, the name of a `tfcap.data.features.Encoder`.
        views: K; if there are some, also write ``NAME_train_ENCODER_views.h5``, with the features of K
            random crops of each photograph, half of them mirrored, (images, K, *features).
        seed: of the crops.
        report: called with a line of text about the progress.

    Returns:
        The record that is also written, as ``NAME_build.json``.

    Raises:
        ValueError: there is no training photograph that can be read, or no word occurs often enough.
        OSError: the folder cannot be written to, or there is no room.

    Example:
        >>> Image.new("RGB", (9, 9)).save("a.png")
        >>> source = CaptionSource("own", {"train": [Photograph("a.png", ["A black square."])]})
        >>> build_dataset(source, "data", "squares", min_count=1)["vocabulary"]
        7
    """
    if not source.splits.get("train"):
        others = " and ".join(split for split in source.splits if split != "train")
        named = f", as the name of {source.files[0].name} says" if source.kind == "COCO" else ""
        raise ValueError(
            f"{name}: there is no photograph with a caption in the training split, only in {others}"
            f"{named}: put some into train, or omit the splits{' from its name' * bool(named)}, and "
            "they are drawn"
        )
    start = time.monotonic()
    made_by = encoder_named(encoder)
    folder = make_folder(folder)
    other = next((p for p in folder.glob(f"*{_CAPTIONS}") if p.name != name + _CAPTIONS), None)
    if other is not None:
        raise ValueError(
            f"{folder}: holds the set {other.name.removesuffix(_CAPTIONS)} already, and a folder "
            "holds one: name another folder"
        )
    _vocabulary(_words(source.splits["train"]), min_count, max_words)  # fails before long work
    left_out = list(source.left_out)
    features: dict[str, FeatureFiles] = {}
    kept: dict[str, list[Photograph]] = {}
    for split, photographs in source.splits.items():
        files = FeatureFiles(
            folder / f"{name}_{split}_{encoder}.h5",
            [photograph.path for photograph in photographs],
            made_by,
            views=views if split == "train" else 0,
            seed=seed,
            what=f"photographs in {split}",
        )
        files.fill(_reporter(report, f"{split} features", len(photographs)))
        features[split] = files
        kept[split] = [p for p in photographs if p.path not in files.skipped]
        left_out += files.skipped.items()

    report("captions")
    words = {split: _words(photographs) for split, photographs in kept.items()}
    word_to_idx = _vocabulary(words["train"], min_count, max_words)
    longest = max(len(caption) for captions in words.values() for caption in captions)
    length = min(longest, max_words) + 2  # with <START> and <END>
    ids = {split: encode_captions(many, word_to_idx, length) for split, many in words.items()}
    vocabulary = {"idx_to_word": list(word_to_idx), "word_to_idx": word_to_idx}
    contents = {
        f"{name}_vocab.json": json.dumps(vocabulary, ensure_ascii=False).encode(),
        f"{name}_left_out.txt": _lines(f"{what}\t{why}" for what, why in left_out),
    }
    for split, photographs in kept.items():
        paths = [_relative(photograph.path, folder) for photograph in photographs]
        contents[f"{name}_{split}_images.txt"] = _lines(paths)
        contents[f"{name}_{split}_captions.json"] = _coco_json(paths, photographs)
    contents[name + _CAPTIONS] = _captions_hdf5(ids, kept)
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    for files in features.values():
        hashes |= hash_files(files.places(), report)
    record = {
        "command": "tfcap.datasets",
        "kind": source.kind,
        "sources": {str(path): _sha256(path) for path in source.files},
        **source.settings,
        "name": name,
        "min_count": min_count,
        "max_words": max_words,
        "encoder": encoder,
        "views": views,
        "seed": seed,
        "vocabulary": len(word_to_idx),
        "splits": {
            split: {
                "images": len(kept[split]),
                "captions": len(words[split]),
                "captions_cut": sum(len(caption) > max_words for caption in words[split]),
                "share_unknown": _share_unknown(ids[split]),
            }
            for split in kept
        },
        "lack_spaces": lack_spaces(words["train"]),
        "left_out": len(left_out),
        "seconds": round(time.monotonic() - start, 1),
        "files": hashes,
    }
    contents = {f"{name}_build.json": record_json(record)} | contents
    _put_in_place(folder, contents, features.values())
    return record


def feature_bytes(source: CaptionSource, encoder: str = "squeezenet", views: int = 0) -> int:
    """What the features of `build_dataset` take on the disk, in bytes.

    Example:
        >>> source = CaptionSource("own", {"train": [Photograph("a.png", ["A black square."])]})
        >>> feature_bytes(source, "efficientnet_lite2_cells", views=4)
        285120
    """
    one = encoder_named(encoder)
    rows = {split: len(photographs) for split, photographs in source.splits.items()}
    count = sum(rows.values()) + views * rows.get("train", 0)
    return count * math.prod(one.shape) * one.dtype.itemsize


def make_shapes(
    folder: str | Path,
    name: str = "shapes",
    *,
    train: int = 2000,
    val: int = 400,
    seed: int = 0,
    encoder: str = "squeezenet",
    report: Report = lambda text: None,
) -> dict[str, Any]:
    """Draws a set of coloured shapes with captions, and builds it: the pictures are in NAME_images.

    Every picture has five captions. The pairs of `shapes.held_out_pairs` are shown in every second
    picture of val, and never in train.

    Args:
        folder: where the set goes; made if missing.
        name: NAME in the files' names.
        train, val: pictures in each split.
        seed: of the drawing.
        encoder: as for `build_dataset`.
        report: called with a line of text about the progress.

    Returns:
        As `build_dataset`.

    Raises:
        OSError: the folder cannot be written to, or there is no room.

    Example:
        >>> make_shapes("data", train=2, val=1)["splits"]["train"]["captions"]
        10
    """
    pictures = make_folder(Path(folder) / f"{name}_images")
    held_out = shapes.held_out_pairs(seed)
    splits: dict[str, list[Photograph]] = {"train": [], "val": []}
    for number, (split, count) in enumerate({"train": train, "val": val}.items()):
        report_done = _reporter(report, f"{split} pictures", count)
        for index in range(count):
            report_done(index)
            rng = np.random.default_rng([seed, 1 + number, index])
            scene = shapes.random_scene(rng, held_out, show=split == "val" and index % 2 == 1)
            path = pictures / f"{split}_{index:05}.jpg"
            _write_picture(path, shapes.draw(scene, rng))
            splits[split].append(Photograph(str(path), scene.captions(rng, 5)))
    settings = {"seed": seed, "held_out": sorted(" ".join(pair) for pair in held_out)}
    source = CaptionSource("shapes", splits, settings=settings)
    return build_dataset(
        source, folder, name, min_count=1, encoder=encoder, seed=seed, report=report
    )


def hash_files(places: Mapping[Path, Path], report: Report = lambda text: None) -> dict[str, str]:
    """The sha256 of files; each is reported, because the features of cells have gigabytes.

    Args:
        places: the names of the files -> where they are now.
        report: called with a line of text before each file.

    Returns:
        The file's name, without its folder -> the sha256.

    Example:
        >>> path = write_file("a.h5", b"")
        >>> hash_files({path: path})["a.h5"][:8]
        'e3b0c442'
    """
    hashes = {}
    for path, place in places.items():
        report(f"sha256 of {path.name} ({place.stat().st_size / 1e6:,.0f} MB)")
        hashes[path.name] = _sha256(place)
    return hashes


# ---- the content of the files


NO_SPACES = (
    "the captions have no spaces between their words, so that each counts as one word or a few: "
    "separate their words by spaces, as a word segmenter does, and build the set again"
)


def _words(photographs: Sequence[Photograph]) -> list[list[str]]:
    """The words of each caption."""
    return [tokenize(text) for photograph in photographs for text in photograph.captions]


def _vocabulary(captions: list[list[str]], min_count: int, max_words: int) -> dict[str, int]:
    word_to_idx = build_vocabulary([words[:max_words] for words in captions], min_count)
    if len(word_to_idx) == len(SPECIAL):
        if lack_spaces(captions):
            raise ValueError(
                f"no word occurs {min_count} times in the {len(captions):,} training captions, because "
                f"{NO_SPACES}"
            )
        raise ValueError(
            f"no word occurs {min_count} times in the {len(captions):,} training captions, so that a "
            "captioner would have no words: lower --min-count, for example to 1, which keeps all words"
        )
    return word_to_idx


def _share_unknown(captions: np.ndarray) -> float:
    """The share of the words in rows of ids that are <UNK>."""
    return float((captions == UNK).sum() / max(1, (captions >= UNK).sum()))


def _captions_hdf5(
    ids: Mapping[str, np.ndarray], photographs: Mapping[str, Sequence[Photograph]]
) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for split, captions in ids.items():
            counts = [len(photograph.captions) for photograph in photographs[split]]
            file[f"{split}_captions"] = captions  # (M, T) int32
            file[f"{split}_image_idxs"] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return buffer.getvalue()


def _coco_json(paths: Sequence[str], photographs: Sequence[Photograph]) -> bytes:
    """The sentences as in COCO's annotation files; an image's id is its row."""
    texts = [(row, text) for row, one in enumerate(photographs) for text in one.captions]
    content = {
        "images": [{"id": row, "file_name": path} for row, path in enumerate(paths)],
        "annotations": [
            {"id": number, "image_id": row, "caption": text}
            for number, (row, text) in enumerate(texts)
        ],
    }
    return json.dumps(content, ensure_ascii=False).encode()


def _relative(path: str, folder: Path) -> str:
    absolute, inside = Path(path).absolute(), folder.absolute()
    if absolute.is_relative_to(inside):
        return absolute.relative_to(inside).as_posix()
    return str(absolute)


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- writing


def _put_in_place(
    folder: Path, contents: Mapping[str, bytes], features: Iterable[FeatureFiles]
) -> None:
    """Writes all files under other names, and renames them once all are there.

    A folder is a set only while it has the last of `contents`: it is removed before any other file
    changes, and comes back when all have.
    """
    final = [folder / name for name in contents]
    unfinished = [path.with_name(f"{path.name}.partial") for path in final]
    try:
        for path, content in zip(unfinished, contents.values(), strict=True):
            write_file(path, content)
        with writing(final[-1], "run the same command again once it can be"):
            final[-1].unlink(missing_ok=True)
            for files in features:
                files.move_into_place()
            for path, place in zip(unfinished, final, strict=True):
                os.replace(path, place)
    finally:
        for path in unfinished:
            path.unlink(missing_ok=True)


def _write_picture(path: Path, picture: Image.Image) -> None:
    """Does not touch a file that already holds this picture: its features remain valid."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    if not path.is_file() or path.read_bytes() != buffer.getvalue():
        write_file(path, buffer.getvalue())


def _reporter(report: Report, what: str, total: int) -> Callable[[int], None]:
    """Reports how many of `total` are done, and the seconds left."""
    start = time.monotonic()
    first: list[int] = []

    def report_done(done: int) -> None:
        if not first:
            first.append(done)
        speed = (done - first[0]) / max(1e-9, time.monotonic() - start)
        left = f", {(total - done) / speed:.0f} s left" if speed else ""
        report(f"{what}: {done:,} of {total:,}{left}")

    return report_done
