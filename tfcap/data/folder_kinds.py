"""What a folder without captions in our layout is instead, and how to make it one."""

import re
from collections.abc import Callable
from pathlib import Path

from visualization.files.printable import printable
from visualization.images.reading import SUFFIXES


def no_captions(folder: Path) -> OSError | ValueError:
    """The error for a path at which there is no NAME_captions.h5: says what is there."""
    if not folder.exists():
        return FileNotFoundError(f"{folder} does not exist: check the path")
    build = f"build it with 'python -m tfcap.datasets build {folder} --out NEW_FOLDER'"
    if not folder.is_dir():
        told = "is a file, expected the folder that holds NAME_captions.h5: "
        if folder.name.endswith("_captions.h5"):
            return ValueError(f"{folder} {told}name {folder.parent}")
        known = folder.suffix.lower() in (".json", ".csv", ".txt", ".token")
        return ValueError(f"{folder} {told}{build if known else 'check the path'}")
    paths = sorted(folder.iterdir())
    for looks, told in _KINDS:
        found = next(filter(looks, paths), None)
        if found:
            return ValueError(f"{folder} {told.format(build=build, found=printable(found.name))}")
    inside = ", ".join(printable(path.name) for path in paths[:4]) + (
        ", ..." if len(paths) > 4 else ""
    )
    return ValueError(
        f"{folder} holds no NAME_captions.h5 ({f'only {inside}' if paths else 'it is empty'}): name "
        "the course's coco_captioning folder, or one that 'python -m tfcap.datasets' made"
    )


def _named(pattern: str) -> Callable[[Path], bool]:
    matches = re.compile(pattern, re.IGNORECASE).fullmatch
    return lambda path: bool(matches(path.name))


def _inside(pattern: str) -> Callable[[Path], bool]:
    """A folder with such a file in it."""
    named = _named(pattern)
    return lambda path: path.is_dir() and any(map(named, path.iterdir()))


# The first that fits any entry of the folder counts.
_KINDS: tuple[tuple[Callable[[Path], bool], str], ...] = (
    (
        _inside(r".+_captions\.h5"),
        "holds no NAME_captions.h5 itself, but its folder {found} does: name that one",
    ),
    (
        _named(r"coco2014_vocab\.json|(train|val)2014_(urls\.txt|vgg16_fc7.*\.h5)"),
        "looks like the course's coco_captioning, but coco2014_captions.h5 is missing: get it again",
    ),
    (
        _named(r".+\.progress\.json"),
        "looks like a set whose building was interrupted (it holds {found}): start the same command "
        "again, it goes on where it was",
    ),
    (
        _named(r".+_vocab\.json|.+_(train|val|test)_.+\.h5"),
        "looks like a built set (it holds {found}), but NAME_captions.h5 is missing: build it again",
    ),
    (
        _named(r"model\.weights\.h5"),
        "looks like a trained captioner (it holds {found}), expected a folder of captions and features",
    ),
    (
        _named(r"flickr_?8k.*|flicker8k_dataset"),
        "looks like Flickr8k as it is distributed (it holds {found}), without features: {build}",
    ),
    (
        _named(r"results_20130124\.token|flickr_?30k.*"),
        "looks like Flickr30k as it is distributed (it holds {found}), without features: {build}",
    ),
    (
        _named(r"dataset(_.+)?\.json"),
        "looks like captions in Karpathy's json (it holds {found}), without features: {build}",
    ),
    (
        lambda path: _named(r"captions_.*\.json")(path) or _inside(r"captions_.*\.json")(path),
        "looks like COCO as it is distributed (it holds {found}), without features: {build}",
    ),
    (
        _named(r".+\.(csv|tsv)|captions?\.txt"),
        "looks like images with a table of captions (it holds {found}), without features: {build}",
    ),
    (
        lambda path: path.suffix.lower() in SUFFIXES,
        "is a folder of images without captions: put a captions.csv beside them, with the columns "
        "image and caption, and {build}",
    ),
)
