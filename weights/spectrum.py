"""Measures the spectrum of photographs: ``python -m weights.spectrum FLICKR8K``.

How much of each spatial frequency photographs have, in brightness and in two opponent colours: the
units in which `paint_class` draws. It comes from Flickr8k's 6,000 training photographs.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from visualization.files.bundle import BUNDLE, SPECTRUM
from visualization.images.reading import load_image
from visualization.painting import OPPONENT_COLOURS
from weights.hashes import add_to_manifest

SIZE = 224


def main() -> None:
    """Writes the spectrum, and its sha256 into the manifest."""
    parser = argparse.ArgumentParser(prog="python -m weights.spectrum", description=__doc__)
    parser.add_argument(
        "flickr8k", type=Path, metavar="FLICKR8K", help="the folder of its photographs and texts"
    )
    folder = parser.parse_args().flickr8k
    names = (folder / "Flickr8k_text" / "Flickr_8k.trainImages.txt").read_text().split()
    paths = [folder / "Flicker8k_Dataset" / name for name in names]
    np.save(BUNDLE / SPECTRUM, measure(paths), allow_pickle=False)
    add_to_manifest(BUNDLE, entries())


def measure(paths: list[Path]) -> np.ndarray:
    """The root mean square of the Fourier coefficients of photographs from 0 to 1, over directions.

    Returns:
        float32 (3, 1 + SIZE / sqrt(2)): by opponent colour and by frequency, in cycles per picture.
    """
    steps = SIZE * np.fft.fftfreq(SIZE)
    frequency = np.rint(np.hypot(steps[:, None], steps)).astype(int).ravel()  # (SIZE * SIZE,)
    power = np.zeros((3, SIZE * SIZE))
    for path in paths:
        colours = load_image(path, SIZE) / 255 @ np.array(OPPONENT_COLOURS)  # (SIZE, SIZE, 3)
        coefficients = np.fft.fft2(colours, axes=(0, 1), norm="forward")
        power += np.abs(coefficients.reshape(-1, 3).T) ** 2
    sums = [np.bincount(frequency, plane) for plane in power]
    means = np.stack(sums) / np.bincount(frequency) / len(paths)
    return np.sqrt(means).astype(np.float32)


def entries() -> dict[str, dict[str, Any]]:
    """What the manifest says of the spectrum, but for its hash."""
    return {
        SPECTRUM: {
            "what": "what photographs have of each spatial frequency, in brightness and in two colours",
            "source": "measured here on Flickr8k's training photographs: python -m weights.spectrum",
            "licence": "MIT; averages over 6,000 photographs of Flickr8k",
        }
    }


if __name__ == "__main__":
    main()
