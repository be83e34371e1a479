"""What a network needs beside its weights, for the bundled networks and for those of a user."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from visualization.images.channel_statistics import standardize
from visualization.images.pixel_scaling import PixelScaling
from visualization.networks import NETWORKS
from visualization.networks.imagenet import class_names

__all__ = ["NetworkSpecification", "network_specification"]


@dataclass(frozen=True)
class NetworkSpecification:
    """What a network needs beside its weights.

    Attributes:
        size: (height, width) of its images.
        preprocess: pixels (N, H, W, 3), floating point, an array or a tensor -> the model's input; it
            scales, shifts or reorders channels.
        bounds: the pixel values that `preprocess` expects for black and white.
        names: the names of its classes: names[i] is that of class i.

    Example:
        >>> halves = NetworkSpecification((8, 8), lambda pixels: pixels / 255, (0, 255), ["cat", "dog"])
        >>> halves.to_input(np.full((1, 30, 40, 3), 51, np.uint8)).shape
        (1, 8, 8, 3)
    """

    size: tuple[int, int]
    preprocess: Callable[[Any], Any]
    bounds: tuple[float, float]
    names: Sequence[str]

    def to_input(self, images: np.ndarray) -> np.ndarray:
        """The model's input, float32 (N, height, width, 3), for photographs, uint8 (N, H, W, 3).

        Those of another size are resized, bicubically, to cover the network's, and cropped to it.
        """
        height, width = self.size
        if images.shape[1:3] != self.size:
            resized = (
                ImageOps.fit(Image.fromarray(image), (width, height), Image.Resampling.BICUBIC)
                for image in images
            )
            images = np.stack([np.asarray(image) for image in resized])
        return self.scaling().to_input(images)

    def scaling(self) -> PixelScaling:
        """The map between 8-bit pixels and the model's input."""
        return PixelScaling(self.preprocess, self.bounds)


def network_specification(network: str) -> NetworkSpecification:
    """What a bundled network needs beside its weights.

    Args:
        network: "squeezenet", whose preprocessing is that of `preprocess_image`; or
            "efficientnet-lite2", whose input is (pixels - 127) / 128.

    Raises:
        ValueError: there is no such network.

    Example:
        >>> lite2 = network_specification("efficientnet-lite2")
        >>> lite2.size, lite2.names[6]
        ((260, 260), 'stingray')
        >>> lite2.preprocess(np.float32([0, 127, 255])).tolist()
        [-0.9921875, 0.0, 1.0]
    """
    if network == "squeezenet":
        return NetworkSpecification((224, 224), standardize, (0, 255), class_names())
    if network == "efficientnet-lite2":
        return NetworkSpecification((260, 260), _centre, (0, 255), class_names())
    raise ValueError(f"there is no network {network!r}: give one of {', '.join(NETWORKS)}")


def _centre(pixels: Any) -> Any:
    """(pixels - 127) / 128; 8-bit pixels would wrap around in a subtraction that comes first."""
    return pixels / 128 - 127 / 128
