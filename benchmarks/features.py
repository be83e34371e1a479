"""Building features of photographs on disk, beside the forward pass alone on their pixels."""

import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from tfcap.data.feature_files import FeatureFiles
from tfcap.data.features import encoder_named, image_features
from visualization import load_image

from .timing import Case

PHOTOGRAPHS = 192
SQUEEZENET = encoder_named("squeezenet")


def cases() -> Iterator[Case]:
    """Photographs of Flickr8k's and of COCO's usual sizes."""
    for width, height in ((500, 375), (640, 480)):
        with tempfile.TemporaryDirectory() as scratch:
            yield building(Path(scratch), width, height)


def building(scratch: Path, width: int, height: int) -> Case:
    """Reading, decoding and resizing, with the network at work meanwhile."""
    paths = write_photographs(scratch, width, height)
    pixels = np.stack([load_image(path, 224) for path in paths])
    numbers = count()

    contenders: dict[str, Callable[[], object]] = {
        "FeatureFiles": lambda: FeatureFiles(
            scratch / f"{next(numbers)}.h5", paths, SQUEEZENET
        ).fill(),
        "forward pass": lambda: image_features(pixels),
    }
    name = f"features of photographs of {width} x {height}"
    promised = {"forward pass": 0.7} if width == 500 else {}  # Flickr8k's size
    return Case(name, contenders, promised, per_call=PHOTOGRAPHS)


def write_photographs(folder: Path, width: int, height: int) -> list[str]:
    """Parts of the photograph that comes with matplotlib, as JPEG files."""
    whole = Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))
    paths = [str(folder / f"{number}.jpg") for number in range(PHOTOGRAPHS)]
    for number, path in enumerate(paths):
        box = (number % 16, number // 16, whole.width - 16, whole.height - 16)
        whole.crop(box).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths
