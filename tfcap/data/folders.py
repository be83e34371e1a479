"""The files in a folder, and what a folder looks like that is not the data set one expected."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from visualization.files.printable import printable, some
from visualization.images.reading import SUFFIXES

__all__ = ["describe_folder", "files_in"]

_IMAGE = "|".join(re.escape(suffix) for suffix in SUFFIXES)
_CSV = "with the columns image and caption"
# The first pattern that matches the path of any file counts; paths are relative and in lower case.
_KINDS = {
    r"(.*/)?[^/]+_captions\.h5": "holds a set that is built already, {found}: train on its folder, or "
    "look at it with 'python -m tfcap.datasets inspect'",
    r"[^/]+\.progress\.json": "looks like a set whose building was interrupted ({found}): run the "
    "same command again, and it continues",
    r"[^/]+_vocab\.json|(train|val)2014_(urls\.txt|vgg16.*)|[^/]+_(train|val|test)_[^/]+\.h5": (
        "looks like a set without its captions ({found}): copy or build NAME_captions.h5 again"
    ),
    r"model\.weights\.h5": "is a trained captioner: name a folder of captions and features",
    r"(.*/)?(captions[^/]*\.(json|txt)|dataset(_[^/]+)?\.json|[^/]+(\.token|token\.txt|\.csv))": (
        "has captions without features ({found}): build it with 'python -m tfcap.datasets build "
        "{folder} --out NEW_FOLDER'"
    ),
    r"(.*/)?(instances|person_keypoints)_[^/]*\.json": "looks like COCO's boxes and keypoints "
    "({found}): download captions_train*.json and captions_val*.json, from the same archive",
    r".*\.(parquet|arrow)": "looks like a Hugging Face data set ({found}): save its images as files, "
    f"and its captions as a CSV {_CSV}",
    r".*(\.tar|\.zip|tfrecord[^/]*)": "holds archives ({found}): unpack them to images and a CSV "
    f"{_CSV}",
    rf".*({_IMAGE})": "holds images without captions ({found}): add a captions.csv "
    f"{_CSV} (and split, if you like)",
}


def describe_folder(folder: Path) -> str:
    """What a folder looks like and what to do; continues "FOLDER: it ".

    Example:
        >>> Path("part-0.parquet").touch()
        >>> describe_folder(Path("."))
        'looks like a Hugging Face data set (part-0.parquet): save its images as files, ...'
    """
    names = [path.relative_to(folder).as_posix() for path in files_in(folder, depth=3)]
    for pattern, advice in _KINDS.items():
        found = next((name for name in names if re.fullmatch(pattern, name.lower())), None)
        if found:
            return advice.format(found=printable(found), folder=folder)
    return f"holds {some(names)}: name another folder" if names else "is empty: name another folder"


def files_in(folder: Path, depth: int) -> Iterator[Path]:
    """The files in a folder and in those inside it, at most `depth` folders deep, in order.

    Example:
        >>> Path("a.jpg").touch()
        >>> [path.name for path in files_in(Path("."), depth=1)]
        ['a.jpg']
    """
    for place, folders, names in os.walk(folder, followlinks=True):
        if len(Path(place).relative_to(folder).parts) >= depth:
            folders.clear()
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))
