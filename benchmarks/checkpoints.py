"""Loading weights beside the least that it could take: reading the bytes, building the network."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from visualization import SqueezeNet
from visualization.files import bundle
from visualization.weight_files import writers as weight_writers

from .timing import Case

PEER = "read the bytes, build without weights"


def cases() -> Iterator[Case]:
    """The bundle, and the same weights as a TensorFlow checkpoint."""
    bundled = bundle.BUNDLE / bundle.IMAGENET
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder, "squeezenet.ckpt")
        files = weight_writers.write(prefix, SqueezeNet(), {}, check=lambda written: None)
        yield Case(
            "checkpoints: the bundled weights",
            {"SqueezeNet()": SqueezeNet, PEER: least([bundled])},
            at_least={PEER: 1 / 2},
        )
        yield Case(
            "checkpoints: a TensorFlow checkpoint",
            {"SqueezeNet(weights=prefix)": lambda: SqueezeNet(weights=prefix), PEER: least(files)},
            at_least={PEER: 1 / 2},
        )


def least(files: list[Path]) -> Callable[[], object]:
    def run() -> object:
        for file in files:
            file.read_bytes()
        return SqueezeNet(weights=None)

    return run
