"""Builds caption data in the course's layout, and the command that builds, draws and inspects it.

``NAME_captions.h5`` (SPLIT_captions, SPLIT_image_idxs), ``NAME_SPLIT_squeezenet.h5`` (features),
``NAME_vocab.json``, ``NAME_SPLIT_images.txt`` (paths, relative to the folder where they lie in it), and
beside them ``NAME_SPLIT_captions.json``, the sentences as they were written, as COCO writes them.

TensorFlow is imported inside the functions that compute, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcap.data import shapes
from tfcap.data.features import ENCODER
from tfcap.data.sources import VAL_SHARE, CaptionSource, Photograph, read_source
from tfcap.data.vocabulary import SPECIAL, UNK, build_vocabulary, encode_captions, tokenize
from visualization.cli.arguments import Parser, number
from visualization.cli.output import OutputFolder, file_stem
from visualization.cli.running import loading_tensorflow, progress, run

if TYPE_CHECKING:
    from PIL import Image

    from tfcap.data.feature_files import FeatureFiles

_CAPTIONS = "_captions.h5"
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
    `tfcap.data.vocabulary.tokenize`. Of longer captions the first `max_words` words are kept, and <END> set
    after them. Photographs that cannot be read are left out, with their captions, and listed in
    ``NAME_left_out.txt``.

    If it is interrupted, the same call goes on where it was. An older set of that name stays as it was
    until the new one is complete; then the files change their names, NAME_captions.h5 last, so that a
    set of which only some have is told from a whole one.

    Args:
        source: the photographs with their captions.
        folder: where the set goes; made if missing.
        name: NAME in the files' names.
        grid: also write ``NAME_SPLIT_squeezenet_grid.h5``, float16 (images, 13, 13, 512).
        report: is told what is being done.

    Returns:
        The record that is also written, as ``NAME_build.json``.

    Raises:
        ValueError: there is no training photograph that can be read, or no word occurs often enough.
        OSError: the folder cannot be written to, or there is no room.
    """
    from tfcap.data.feature_files import FeatureFiles

    if not source.splits.get("train"):
        others = " and ".join(split for split in source.splits if split != "train")
        raise ValueError(
            f"{name}: there is no photograph with a caption in the training split, only in {others}: "
            "put some into train, or take the splits out, so that they are drawn"
        )
    start = time.monotonic()
    out = OutputFolder(Path(folder))
    other = next((p for p in out.path.glob(f"*{_CAPTIONS}") if p.name != name + _CAPTIONS), None)
    if other is not None:
        raise ValueError(
            f"--out {folder}: holds the set {other.name.removesuffix(_CAPTIONS)} already, and a folder "
            "holds one: name another folder"
        )
    _vocabulary(_words(source.splits["train"], max_words), min_count)  # refused before long work
    left_out = list(source.left_out)
    features: dict[str, FeatureFiles] = {}
    kept: dict[str, list[Photograph]] = {}
    for split, photographs in source.splits.items():
        files = FeatureFiles(
            out.path / f"{name}_{split}_{ENCODER}.h5",
            [photograph.path for photograph in photographs],
            grid=grid,
            what=f"photographs in {split}",
        )
        files.fill(_reporter(report, f"{split} features", len(photographs)))
        features[split] = files
        kept[split] = [p for p in photographs if p.path not in files.skipped]
        left_out += files.skipped.items()

    report("captions")
    words = {split: _words(photographs, max_words) for split, photographs in kept.items()}
    word_to_idx = _vocabulary(words["train"], min_count)
    captions, shares = _captions(words, word_to_idx)
    contents = {
        f"{name}_vocab.json": _vocabulary_json(word_to_idx),
        f"{name}_left_out.txt": _lines(f"{what}\t{why}" for what, why in left_out),
    }
    for split, photographs in kept.items():
        paths = [_relative(photograph.path, out.path) for photograph in photographs]
        contents[f"{name}_{split}_images.txt"] = _lines(paths)
        contents[f"{name}_{split}_captions.json"] = _coco_json(paths, photographs)
    contents[name + _CAPTIONS] = captions
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    for files in features.values():
        hashes |= _hashes(files.places(), report)
    record = {
        "command": "tfcap.datasets",
        "kind": source.kind,
        "sources": {str(path): _sha256(path) for path in source.files},
        **source.settings,
        "name": name,
        "min_count": min_count,
        "max_words": max_words,
        "encoder": ENCODER,
        "grid": grid,
        "vocabulary": len(word_to_idx),
        "splits": {
            split: {
                "images": len(photographs),
                "captions": sum(len(photograph.captions) for photograph in photographs),
                "captions_cut": _count_longer(photographs, max_words),
                "share_unknown": shares[split],
            }
            for split, photographs in kept.items()
        },
        "left_out": len(left_out),
        "seconds": round(time.monotonic() - start, 1),
        "files": hashes,
    }
    _put_in_place(out, f"{name}_build.json", record, contents, features.values())
    return record


def _put_in_place(
    out: OutputFolder,
    record_name: str,
    record: dict[str, Any],
    contents: dict[str, bytes],
    features: Iterable[FeatureFiles],
) -> None:
    """Writes all files under other names, and renames them when all are there.

    The last of `contents` is the file without which no set is taken for one: it goes before any other
    changes, and comes when all have.
    """
    from tfcap.data.feature_files import explained

    last = out.path / next(reversed(contents))
    unfinished = [out.path / f"{file}.partial" for file in (record_name, *contents)]
    try:
        out.write_json(unfinished[0].name, record)
        for path, content in zip(unfinished[1:], contents.values(), strict=True):
            out.write(path.name, content)
        with explained(last):
            last.unlink(missing_ok=True)
            for files in features:
                files.move_into_place()
            for path in unfinished:
                os.replace(path, path.with_suffix(""))
    finally:
        for path in unfinished:
            path.unlink(missing_ok=True)


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
    out = OutputFolder(Path(folder))
    pictures = OutputFolder(out.path / f"{name}_images")
    held_out = shapes.held_out_pairs(seed)
    splits: dict[str, list[Photograph]] = {"train": [], "val": []}
    for number, (split, count) in enumerate({"train": train, "val": val}.items()):
        tell = _reporter(report, f"{split} pictures", count)
        for index in range(count):
            tell(index)
            rng = np.random.default_rng([seed, 1 + number, index])
            scene = shapes.random_scene(rng, held_out, show=split == "val" and index % 2 == 1)
            path = _write_picture(pictures, f"{split}_{index:05}.jpg", shapes.draw(scene, rng))
            splits[split].append(Photograph(str(path), scene.captions(rng, 5)))
    settings = {"seed": seed, "held_out": sorted(" ".join(pair) for pair in held_out)}
    source = CaptionSource("shapes", splits, settings=settings)
    return build_dataset(source, out.path, name, min_count=1, report=report)


def _write_picture(folder: OutputFolder, name: str, picture: Image.Image) -> Path:
    """Leaves a file as it is that holds this picture already, so that its features are still good."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    path = folder.path / name
    if path.is_file() and path.read_bytes() == buffer.getvalue():
        return path
    return folder.write(name, buffer.getvalue())


def _words(photographs: Sequence[Photograph], max_words: int) -> list[list[list[str]]]:
    """The words of each photograph's captions, the first ones of long captions."""
    return [[tokenize(text)[:max_words] for text in one.captions] for one in photographs]


def _count_longer(photographs: Sequence[Photograph], max_words: int) -> int:
    return sum(len(tokenize(text)) > max_words for one in photographs for text in one.captions)


def _vocabulary(words: list[list[list[str]]], min_count: int) -> dict[str, int]:
    captions = [one for many in words for one in many]
    word_to_idx = build_vocabulary(captions, min_count)
    if len(word_to_idx) == len(SPECIAL):
        raise ValueError(
            f"no word occurs {min_count} times in the {len(captions):,} training captions, so a "
            "captioner could say none: lower --min-count, as to 1, with which every word counts"
        )
    return word_to_idx


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


def _hashes(places: Mapping[Path, Path], report: Callable[[str], None]) -> dict[str, str]:
    """The sha256 of files by their names: a grid has gigabytes, so each is reported."""
    hashes = {}
    for path, place in places.items():
        report(f"sha256 of {path.name} ({place.stat().st_size / 1e6:,.0f} MB)")
        hashes[path.name] = _sha256(place)
    return hashes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reporter(report: Callable[[str], None], what: str, total: int) -> Callable[[int], None]:
    start = time.monotonic()
    first: list[int] = []

    def tell(done: int) -> None:
        if not first:
            first.append(done)
        speed = (done - first[0]) / max(1e-9, time.monotonic() - start)
        left = f", {(total - done) / speed:.0f} s left" if speed else ""
        report(f"{what}: {done:,} of {total:,}{left}")

    return tell


def main(argv: list[str] | None = None) -> int:
    """``python -m tfcap.datasets build|shapes|inspect``."""
    parser = Parser(
        prog="python -m tfcap.datasets",
        description="Builds, draws and inspects photographs with captions to train on.",
        epilog="example: python -m tfcap.datasets build Flickr8k --out data/flickr8k",
    )
    commands = parser.add_subparsers(dest="job", required=True, metavar="build|shapes|inspect")
    _add_build(commands)
    _add_shapes(commands)
    _add_inspect(commands)
    jobs = {"build": _build, "shapes": _shapes, "inspect": _inspect}
    return run(parser, argv, lambda arguments: jobs[arguments.job](arguments))


def _add_build(commands: Any) -> None:
    build = commands.add_parser(
        "build",
        help="from Flickr8k, Flickr30k, COCO, Karpathy's json, or images and a CSV",
        description="Builds the course's layout from Flickr8k or Flickr30k (images, token file, files "
        "that list the splits), COCO's captions_*.json, Karpathy's dataset_*.json, or a CSV with the "
        "columns image and caption, and perhaps split. Interrupted, the same command goes on.",
        epilog="example: python -m tfcap.datasets build Flickr8k --out data/flickr8k",
    )
    build.add_argument(
        "source", type=Path, metavar="FOLDER|FILE", help="the data set, or its file of captions"
    )
    build.add_argument(
        "--images", type=Path, metavar="FOLDER", help="where the images are, if not there"
    )
    build.add_argument("--name", help="NAME in the files' names (default: the source's name)")
    build.add_argument(
        "--min-count",
        type=number(int, 1),
        default=MIN_COUNT,
        metavar="N",
        help="words that the training captions have less often become <UNK> (default: %(default)s)",
    )
    build.add_argument(
        "--max-words",
        type=number(int, 1),
        default=MAX_WORDS,
        metavar="N",
        help="longer captions are cut after so many words (default: %(default)s)",
    )
    build.add_argument(
        "--val-share",
        type=number(float, 0, excluding=(0,)),
        default=VAL_SHARE,
        metavar="SHARE",
        help="of the images, drawn at random, if nothing says the splits (default: %(default)s)",
    )
    build.add_argument(
        "--grid",
        action="store_true",
        help="also write the features of the 13x13 positions, in float16: 173 kB an image",
    )
    build.add_common_arguments()


def _add_shapes(commands: Any) -> None:
    drawn = commands.add_parser(
        "shapes",
        help="a small set of coloured shapes, drawn here",
        description="Draws coloured shapes of two sizes, one above, left of or inside another, with "
        "captions that say which. Eight pairs of colour and shape are shown in val only.",
        epilog="example: python -m tfcap.datasets shapes --out data/shapes",
    )
    drawn.add_argument("--name", default="shapes", help="NAME in the files' names")
    for split, count in (("train", 2000), ("val", 400)):
        drawn.add_argument(
            f"--{split}",
            type=number(int, 1),
            default=count,
            metavar="N",
            help=f"pictures in {split} (default: %(default)s)",
        )
    drawn.add_common_arguments()


def _add_inspect(commands: Any) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="what a folder holds, with a figure of images and their captions",
        description="Tells what a folder in the course's layout holds, the course's or one built here, "
        "and draws some of its images with their captions.",
        epilog="example: python -m tfcap.datasets inspect data/shapes",
    )
    inspect.add_argument("folder", type=Path, metavar="FOLDER", help="with NAME_captions.h5 in it")
    inspect.add_argument("--split", help="whose images are drawn (default: val, if there is one)")
    inspect.add_argument(
        "--count",
        type=number(int, 1),
        default=8,
        metavar="N",
        help="images drawn (default: %(default)s)",
    )
    inspect.add_common_arguments()


def _build(arguments: argparse.Namespace) -> int:
    name = arguments.name or file_stem(arguments.source.resolve().stem)
    _check_name(name)
    source = read_source(
        arguments.source, arguments.images, val_share=arguments.val_share, seed=arguments.seed
    )
    OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from visualization.backend import tf  # noqa: F401
    with progress("", arguments.quiet) as report:
        record = build_dataset(
            source,
            arguments.out,
            name,
            min_count=arguments.min_count,
            max_words=arguments.max_words,
            grid=arguments.grid,
            report=report,
        )
    return _tell(arguments, record)


def _shapes(arguments: argparse.Namespace) -> int:
    _check_name(arguments.name)
    OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from visualization.backend import tf  # noqa: F401
    with progress("", arguments.quiet) as report:
        record = make_shapes(
            arguments.out,
            arguments.name,
            train=arguments.train,
            val=arguments.val,
            seed=arguments.seed,
            report=report,
        )
    return _tell(arguments, record)


def _inspect(arguments: argparse.Namespace) -> int:
    from tfcap.data import inspection
    from tfcap.data.coco import load_coco_data
    from visualization import plotting

    data = load_coco_data(arguments.folder)
    splits = inspection.describe(data)
    split = arguments.split or ("val" if "val" in splits else next(iter(splits)))
    if split not in splits:
        raise ValueError(f"--split {split}: there is {', '.join(splits)}")
    out = OutputFolder(arguments.out)
    images, captions = inspection.draw_examples(data, split, arguments.count, arguments.seed)
    sources = [str(data[f"{split}_urls"][image]) for image in images]
    name = file_stem(arguments.folder.resolve().name)
    found = splits[split]
    title = f"{name}, {split}: {found['images']:,} images, {found['captions']:,} captions"
    drawn = inspection.caption_figure(sources, captions, title)
    figure = out.write(f"{name}-inspect.png", plotting.png(drawn))
    stored = [path for path in sorted(arguments.folder.glob("*.h5")) if path.is_file()]
    with progress("", arguments.quiet) as report:
        hashes = _hashes(dict(zip(stored, stored, strict=True)), report)
    record = {
        "command": "tfcap.datasets inspect",
        "folder": str(arguments.folder),
        "files": hashes,
        "encoder": data["encoder"],
        "vocabulary": len(data["idx_to_word"]),
        "frequent_words": data["idx_to_word"][4:24],
        "splits": splits,
        "drawn": {"split": split, "seed": arguments.seed, "images": sources},
        "figure": figure.name,
    }
    written = out.write_json(f"{name}-inspect.json", record)
    if not arguments.quiet:
        print(inspection.as_text(data, splits))
        for source, texts in zip(sources[:3], captions, strict=False):
            print(f"{source}: {texts[0]}")
        print(f"written  {figure}\n         {written}")
    return 0


def _check_name(name: str) -> None:
    if file_stem(name) != name:
        raise ValueError(
            f"--name {name}: expected letters, digits and hyphens, as {file_stem(name)}"
        )


def _tell(arguments: argparse.Namespace, record: dict[str, Any]) -> int:
    if arguments.quiet:
        return 0
    name = record["name"]
    for split, found in record["splits"].items():
        print(
            f"{split:6}{found['images']:8,} images {found['captions']:9,} captions, "
            f"{found['share_unknown']:.1%} of their words <UNK>"
        )
    if record["splits"]["train"]["share_unknown"] > 0.5:
        print(
            "warning: more than half of the words are <UNK>, which no caption will have: lower "
            f"--min-count (now {record['min_count']}), as to 1, with which every word counts",
            file=sys.stderr,
        )
    if "val" not in record["splits"]:
        print("none are in val, without which only --overfit trains: put some into val")
    cut = sum(found["captions_cut"] for found in record["splits"].values())
    if cut:
        print(f"{cut:,} captions were cut after {record['max_words']} words (--max-words)")
    print(f"{record['vocabulary']:,} words in the vocabulary, the four special ones included")
    if record["left_out"]:
        print(
            f"{record['left_out']:,} left out: {arguments.out / name}_left_out.txt says what and why"
        )
    print(f"written  {arguments.out / name}_*  ({record['seconds']:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
