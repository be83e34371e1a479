"""What a folder without captions in our layout is instead, and how to make it one."""

import re
from collections.abc import Callable
from pathlib import Path

from visualization.command import SUFFIXES

_BUILD = "build it with 'python -m tfcap.datasets build' (see its --help)"


def no_captions(folder: Path) -> OSError | ValueError:
    """The error for a path at which there is no NAME_captions.h5: says what is there."""
    if not folder.exists():
        return FileNotFoundError(f"{folder} does not exist: check the path")
    if not folder.is_dir():
        return ValueError(
            f"{folder} is a file, expected the folder that holds NAME_captions.h5: {_file(folder)}"
        )
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return ValueError(
            f"{folder} is empty, expected a folder with NAME_captions.h5: check the path"
        )
    for looks, told in _KINDS:
        if any(looks(folder / name) for name in names):
            return ValueError(f"{folder} {told}")
    inside = ", ".join(name if name.isprintable() else ascii(name) for name in names[:4])
    return ValueError(
        f"{folder} holds no NAME_captions.h5 (only {inside}{', ...' if len(names) > 4 else ''}): name "
        f"the course's coco_captioning folder or a built one; to have one of your images, {_BUILD}"
    )


def _file(path: Path) -> str:
    if path.name.endswith("_captions.h5"):
        return f"name {path.parent}"
    return _BUILD if path.suffix in (".json", ".csv") else "check the path"


def _named(pattern: str) -> Callable[[Path], bool]:
    matches = re.compile(pattern, re.IGNORECASE).fullmatch
    return lambda path: bool(matches(path.name))


def _inside(pattern: str) -> Callable[[Path], bool]:
    """A folder with such a file in it."""
    named = _named(pattern)
    return lambda path: path.is_dir() and any(map(named, path.iterdir()))


# In this order: the first that fits any entry of the folder.
_KINDS: tuple[tuple[Callable[[Path], bool], str], ...] = (
    (
        _inside(r".+_captions\.h5"),
        "holds no NAME_captions.h5 itself, but a folder inside it does: name that folder",
    ),
    (
        _named(r"coco2014_vocab\.json|(train|val)2014_(urls\.txt|vgg16_fc7.*\.h5)"),
        "looks like the course's coco_captioning, but coco2014_captions.h5 is missing: get it again",
    ),
    (
        _named(r"model\.weights\.h5"),
        "looks like a trained model (it holds model.weights.h5), expected a folder of captions and "
        "features",
    ),
    (
        _named(r"flickr_?8k.*\.txt|flickr8k_text|flicker8k_dataset"),
        f"looks like Flickr8k as it is distributed, without features: {_BUILD}",
    ),
    (
        _named(r"results_20130124\.token|flickr30k.*"),
        f"looks like Flickr30k as it is distributed, without features: {_BUILD}",
    ),
    (
        _named(r"captions_.*\.json|annotations"),
        f"looks like COCO's annotations as they are distributed, without features: {_BUILD}",
    ),
    (
        _named(r"dataset(_.+)?\.json"),
        f"looks like Karpathy's json of captions, without features: {_BUILD}",
    ),
    (
        _named(r".+\.(csv|tsv)|captions\.txt"),
        f"looks like images with a table of captions, without features: {_BUILD}",
    ),
    (
        lambda path: path.suffix.lower() in SUFFIXES,
        "is a folder of images without captions: write these into a CSV beside them, file name and "
        f"caption, and {_BUILD}",
    ),
)
