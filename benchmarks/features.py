"""Building features of photographs on disk, beside PyTorch and the forward pass alone on the pixels."""

import importlib.util
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

from .timing import INSTALL, Case

PHOTOGRAPHS = 500
WORKERS = 2
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
    missing = {}
    if importlib.util.find_spec("torch"):
        contenders["torch"] = in_torch(paths)
    else:
        missing["torch"] = INSTALL
    name = f"features of photographs of {width} x {height}"
    promised = {"torch": 1.0} if width == 640 else {"forward pass": 0.7}
    return Case(name, contenders, promised, per_call=PHOTOGRAPHS, missing=missing)


def in_torch(paths: list[str]) -> Callable[[], np.ndarray]:
    """A DataLoader whose workers decode and resize, and the same network, channels last."""
    import torch

    from .pytorch import layouts

    network, layout = layouts("squeezenet")["PyTorch, channels last"]
    features = network[:13]  # up to fire9
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    loader = torch.utils.data.DataLoader(Pixels(paths), batch_size=25, num_workers=WORKERS)

    @torch.inference_mode()
    def run() -> np.ndarray:
        found = []
        for pixels in loader:
            x = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std
            found.append(features(x.contiguous(memory_format=layout)).mean((2, 3)))
        return torch.cat(found).numpy()

    return run


class Pixels:
    """A map-style data set of uint8 (224, 224, 3), resized as torchvision resizes."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> np.ndarray:
        image = Image.open(self.paths[number]).convert("RGB")
        scale = 224 / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        return np.array(image.crop((left, top, left + 224, top + 224)))


def write_photographs(folder: Path, width: int, height: int) -> list[str]:
    """Parts of the photograph that comes with matplotlib, as JPEG files."""
    whole = Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))
    paths = [str(folder / f"{number}.jpg") for number in range(PHOTOGRAPHS)]
    for number, path in enumerate(paths):
        box = (number % 16, number // 16, whole.width - 16, whole.height - 16)
        whole.crop(box).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths
