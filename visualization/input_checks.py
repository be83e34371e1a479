"""What every function of this package asks of images and labels, in one sentence each."""

from typing import Any

import numpy as np

from visualization.backend import keras
from visualization.networks.squeezenet import Fire

# SqueezeNet's preprocessed pixels lie between -2.2 and 2.7; steps along the gradient lead outside.
_LARGEST_SQUEEZENET_INPUT = 30


def check_images(model: keras.Model, images: Any) -> np.ndarray:
    """The images as float32 or float64 (N, H, W, C).

    Raises:
        ValueError: they are not preprocessed images that the model takes.
    """
    images = np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"the images have shape {images.shape}, expected (N, H, W, C) with N > 0")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"the images are {images.dtype}, expected floating point: preprocess them first"
        )
    if not np.isfinite(images).all():
        raise ValueError("the images hold NaN or infinity")
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, tuple) and not _fits(images.shape, expected):
        raise ValueError(
            f"the images have shape {images.shape}, but model {model.name!r} takes {expected}"
        )
    if _is_our_squeezenet(model) and np.abs(images).max() > _LARGEST_SQUEEZENET_INPUT:
        raise ValueError(
            f"the images hold values up to {np.abs(images).max():g}, as pixels of 0 to 255 do, but "
            "SqueezeNet takes about -2 to 3: use preprocess_image first"
        )
    return images.astype(np.float64 if images.dtype == np.float64 else np.float32, copy=False)


def _is_our_squeezenet(model: keras.Model) -> bool:
    """A model of the user's may bear the name too, and take pixels of 0 to 255."""
    first = getattr(model, "layers", [])[:4]
    names = [layer.name for layer in first]
    return names == ["image", "conv1", "pool1", "fire2"] and isinstance(first[-1], Fire)


def check_batch_size(batch_size: int) -> None:
    """Raises ValueError unless it is a number that a loop can go by."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected a positive integer")


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        theirs is None or ours == theirs for ours, theirs in zip(shape, expected, strict=True)
    )


def check_pixels(images: Any) -> np.ndarray:
    """The images as uint8 (N, H, W, C).

    Raises:
        ValueError: they have another shape or type.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"the images are {images.dtype} {images.shape}, expected uint8 (N, H, W, C) with N > 0, "
            "not preprocessed"
        )
    return images


def check_labels(labels: Any, count: int, classes: int) -> np.ndarray:
    """One label for each of `count` images, int32 (count,).

    Raises:
        TypeError: they are not integers.
        ValueError: their number does not fit, or there is no such class.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"the labels are {labels.dtype}, expected integers")
    if labels.shape not in ((), (1,), (count,)):
        raise ValueError(f"the labels have shape {labels.shape}, expected ({count},), one an image")
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        wrong = labels[(labels < 0) | (labels >= classes)].flat[0]
        raise ValueError(f"there is no class {wrong}: the model has classes 0 to {classes - 1}")
    return np.broadcast_to(labels, (count,)).astype(np.int32)
