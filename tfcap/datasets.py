"""Builds caption data in the course's layout, and the command that builds, draws and inspects it.

``NAME_captions.h5`` (SPLIT_captions, SPLIT_image_idxs), ``NAME_SPLIT_squeezenet.h5`` (features),
``NAME_vocab.json``, ``NAME_SPLIT_images.txt`` (paths, relative to the folder where they lie in it), and
beside them ``NAME_SPLIT_captions.json``, the sentences as they were written, as COCO writes them.

TensorFlow is imported inside the functions that compute, so that ``--help`` answers at once.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visualization import command

from . import shapes
from .caption_sources import CaptionSource, Photograph
from .vocabulary import UNK, build_vocabulary, encode_captions, tokenize

MIN_COUNT = 5
MAX_WORDS = 20  # 98 of 100 captions of Flickr8k have no more


def build_dataset(
    source: CaptionSource,
    folder: str | Path,
    name: str,
    *,
    min_count: int = MIN_COUNT,
    max_words: int = MAX_WORDS,
    grid: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Writes captions, vocabulary and features of photographs into a folder.

    The vocabulary has the words that occur `min_count` times in the training captions, by
    `tfcap.vocabulary.tokenize`. Of longer captions the first `max_words` words are kept, and <END> set
    after them. Photographs that cannot be read are left out, with their captions, and listed in
    ``NAME_left_out.txt``.

    If it is interrupted, the same call goes on where it was. An older set of that name stays as it was
    until the new one is complete.

    Args:
        source: the photographs with their captions.
        folder: where the set goes; made if missing.
        name: NAME in the files' names.
        grid: also write ``NAME_SPLIT_squeezenet_grid.h5``, float16 (images, 13, 13, 512).
        report: is told what is being done.

    Returns:
        The record that is also written, as ``NAME_build.json``.

    Raises:
        ValueError: there is no training photograph that can be read.
        OSError: the folder cannot be written to, or there is no room.
    """
    from .feature_files import FeatureFiles

    if not source.splits.get("train"):
        raise ValueError(f"{name}: there is no photograph with a caption in the training split")
    out = command.OutputFolder(Path(folder))
    left_out = list(source.left_out)
    features: dict[str, FeatureFiles] = {}
    kept: dict[str, list[Photograph]] = {}
    for split, photographs in source.splits.items():
        files = FeatureFiles(
            out.path / f"{name}_{split}_squeezenet.h5",
            [photograph.path for photograph in photographs],
            out.path / f"{name}_{split}_squeezenet_grid.h5" if grid else None,
        )
        files.fill(_reporter(report, f"{split} features", len(photographs)))
        features[split] = files
        kept[split] = [p for p in photographs if p.path not in files.skipped]
        left_out += files.skipped.items()

    report("captions")
    words = {
        split: [[tokenize(text)[:max_words] for text in p.captions] for p in photographs]
        for split, photographs in kept.items()
    }
    word_to_idx = build_vocabulary((one for many in words["train"] for one in many), min_count)
    captions, shares = _captions(words, word_to_idx)
    written = [
        out.write(f"{name}_captions.h5", captions),
        out.write(f"{name}_vocab.json", _vocabulary_json(word_to_idx)),
        out.write(f"{name}_left_out.txt", _lines(f"{what}\t{why}" for what, why in left_out)),
    ]
    for split, photographs in kept.items():
        features[split].move_into_place()
        paths = [_relative(photograph.path, out.path) for photograph in photographs]
        written.append(out.write(f"{name}_{split}_images.txt", _lines(paths)))
        written.append(out.write(f"{name}_{split}_captions.json", _coco_json(paths, photographs)))
    record = {
        "command": "tfcap.datasets",
        "kind": source.kind,
        "sources": {str(path): _sha256(path) for path in source.files},
        "name": name,
        "min_count": min_count,
        "max_words": max_words,
        "encoder": "squeezenet",
        "grid": grid,
        "vocabulary": len(word_to_idx),
        "splits": {
            split: {
                "images": len(photographs),
                "captions": sum(len(photograph.captions) for photograph in photographs),
                "share_unknown": shares[split],
            }
            for split, photographs in kept.items()
        },
        "left_out": len(left_out),
        "files": {path.name: _sha256(path) for path in written},
    }
    out.write_json(f"{name}_build.json", record)
    return record


def make_shapes(
    folder: str | Path,
    name: str = "shapes",
    *,
    train: int = 2000,
    val: int = 400,
    seed: int = 0,
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Draws a set of coloured shapes with captions, and builds it: the pictures are in NAME_images.

    Every picture has five captions. The pairs of `shapes.held_out_pairs` are shown in every second
    picture of val, and nowhere in train.

    Returns, raises: as `build_dataset`.
    """
    out = command.OutputFolder(Path(folder))
    pictures = out.path / f"{name}_images"
    pictures.mkdir(exist_ok=True)
    held_out = shapes.held_out_pairs(seed)
    splits: dict[str, list[Photograph]] = {"train": [], "val": []}
    for number, (split, count) in enumerate({"train": train, "val": val}.items()):
        tell = _reporter(report, f"{split} pictures", count)
        for index in range(count):
            tell(index)
            rng = np.random.default_rng([seed, 1 + number, index])
            scene = shapes.random_scene(rng, held_out, show=split == "val" and index % 2 == 1)
            path = pictures / f"{split}_{index:05}.jpg"
            shapes.draw(scene, rng).save(path, quality=92)
            splits[split].append(Photograph(str(path), scene.captions(rng, 5)))
    record = build_dataset(
        CaptionSource("shapes", splits), out.path, name, min_count=1, report=report
    )
    record |= {"seed": seed, "held_out": sorted(" ".join(pair) for pair in held_out)}
    out.write_json(f"{name}_build.json", record)
    return record


def _captions(
    words: dict[str, list[list[list[str]]]], word_to_idx: dict[str, int]
) -> tuple[bytes, dict[str, float]]:
    """The content of NAME_captions.h5, and of each split the share of words that are <UNK>."""
    import h5py

    buffer = io.BytesIO()
    shares = {}
    longest = max(len(one) for split in words.values() for many in split for one in many)
    with h5py.File(buffer, "w") as file:
        for split, photographs in words.items():
            counts = [len(captions) for captions in photographs]
            ids = encode_captions(
                [one for captions in photographs for one in captions], word_to_idx, longest + 2
            )
            file[f"{split}_captions"] = ids  # (M, T) int32
            file[f"{split}_image_idxs"] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
            shares[split] = float((ids == UNK).sum() / max(1, (ids >= UNK).sum()))
    return buffer.getvalue(), shares


def _vocabulary_json(word_to_idx: dict[str, int]) -> bytes:
    vocabulary = {"idx_to_word": list(word_to_idx), "word_to_idx": word_to_idx}
    return json.dumps(vocabulary, ensure_ascii=False).encode()


def _coco_json(paths: Sequence[str], photographs: Sequence[Photograph]) -> bytes:
    """The sentences as COCO's annotation files have them; an image's id is its row."""
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
    return (
        absolute.relative_to(inside).as_posix()
        if absolute.is_relative_to(inside)
        else str(absolute)
    )


def _lines(lines: Any) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reporter(report: Callable[[str], None], what: str, total: int) -> Callable[[int], None]:
    start = time.monotonic()
    first: list[int] = []

    def tell(done: int) -> None:
        first.append(done) if not first else None
        speed = (done - first[0]) / max(1e-9, time.monotonic() - start)
        left = f", {(total - done) / speed:.0f} s left" if speed else ""
        report(f"{what}: {done:,} of {total:,}{left}")

    return tell
