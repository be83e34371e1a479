"""``cs231n.image_utils``: images from files and from the web, and SqueezeNet's preprocessing."""

import os

import numpy as np

import visualization
from visualization import SQUEEZENET_MEAN, SQUEEZENET_STD, deprocess_image, preprocess_image
from visualization.style import read_resized

__all__ = [
    "SQUEEZENET_MEAN",
    "SQUEEZENET_STD",
    "deprocess_image",
    "image_from_url",
    "load_image",
    "preprocess_image",
]


def image_from_url(url: str) -> np.ndarray | None:
    """`visualization.image_from_url`, but prints why there is no image, and returns None.

    Example:
        >>> image_from_url("ftp://example.org/cat.jpg")
        ftp://example.org/cat.jpg: only http:// and https:// URLs are read
    """
    try:
        return visualization.image_from_url(url)
    except (ValueError, OSError) as error:
        print(error)
        return None


def load_image(filename: str | os.PathLike[str], size: int | None = None) -> np.ndarray:
    """Reads an image; its shorter side becomes `size`, and its aspect ratio stays.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        OSError, ValueError: it cannot be read.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (40, 30)).save("black.png")
        >>> load_image("black.png", size=15).shape
        (15, 20, 3)
    """
    return visualization.load_image(filename) if size is None else read_resized(filename, size)
