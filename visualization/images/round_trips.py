"""What becomes of a picture on its way: saved as PNG or JPEG, or resized and enlarged again."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from visualization.backend import tf
from visualization.images.jpeg import encode_jpeg, jpeg
from visualization.images.transforms import resample, resizing

__all__ = ["ROUND_TRIPS", "after_round_trip", "check_round_trips", "through_round_trip"]

ROUND_TRIPS = ("png", "jpeg", "resize")


def after_round_trip(pixels: np.ndarray, way: str, quality: int = 85) -> np.ndarray:
    """Images as Pillow reads them back.

    Args:
        pixels: uint8 (N, H, W, C).
        way: "png", which changes nothing; "jpeg", saved as `encode_jpeg` does; or "resize", to half
            the height and width and back, bilinearly.
        quality: of JPEG, libjpeg's scale.

    Returns:
        uint8 (N, H, W, C).

    Example:
        >>> striped = np.uint8([0, 200, 0, 200])[None, None, :, None] * np.ones((1, 4, 1, 3), np.uint8)
        >>> after_round_trip(striped, "resize")[0, 0, :, 0].tolist()
        [86, 93, 107, 114]
    """
    if way == "png":
        return pixels
    if way == "jpeg":
        files = (io.BytesIO(encode_jpeg(image, quality)) for image in pixels)
        return np.stack([np.asarray(Image.open(file)) for file in files])
    H, W = pixels.shape[1:3]
    bilinear = Image.Resampling.BILINEAR
    halves = (Image.fromarray(image).resize(_half((W, H)), bilinear) for image in pixels)
    return np.stack([np.asarray(half.resize((W, H), bilinear)) for half in halves])


def through_round_trip(pixels: tf.Tensor, way: str, quality: int = 85) -> tf.Tensor:
    """What `after_round_trip` returns, with gradients as if nothing was rounded; in a `tf.function`.

    Args:
        pixels: floating point (N, H, W, 3), whole numbers of 0 to 255.
        way, quality: as there.

    Example:
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(grey := tf.fill((1, 4, 4, 3), 7.0))
        ...     back = through_round_trip(grey, "resize")
        >>> back[0, 0, 0].numpy().tolist(), tape.gradient(back, grey).numpy().sum().round().item()
        ([7.0, 7.0, 7.0], 48.0)
    """
    if way == "png":
        return pixels
    if way == "jpeg":
        ours = jpeg(pixels, quality)
    else:
        H, W = pixels.shape[1:3]
        half_height, half_width = _half((H, W))
        rows = resizing(half_height, H) @ resizing(H, half_height)
        columns = resizing(half_width, W) @ resizing(W, half_width)
        ours = resample(pixels, rows, columns)
    exact = tf.numpy_function(
        lambda pixels: after_round_trip(pixels, way, quality),
        [tf.cast(pixels, tf.uint8)],
        tf.uint8,
        stateful=False,
    )
    return ours + tf.stop_gradient(tf.cast(tf.ensure_shape(exact, pixels.shape), ours.dtype) - ours)


def check_round_trips(survives: Sequence[str], quality: int, channels: int) -> tuple[str, ...]:
    """Returns the ways in a tuple.

    Raises:
        ValueError: there are none, or one is unknown; the quality is not one of 75 to 95; or an image
            without three channels is to survive more than "png".

    Example:
        >>> check_round_trips(["gif"], 85, 3)
        Traceback (most recent call last):
        ValueError: survives is ['gif'], expected one or more of 'png', 'jpeg', 'resize'
    """
    ways = (survives,) if isinstance(survives, str) else tuple(survives)
    if not ways or not set(ways) <= set(ROUND_TRIPS):
        known = ", ".join(map(repr, ROUND_TRIPS))
        raise ValueError(f"survives is {survives!r}, expected one or more of {known}")
    if not isinstance(quality, int) or not 75 <= quality <= 95:
        raise ValueError(f"quality is {quality!r}, expected a whole number from 75 to 95")
    if set(ways) != {"png"} and channels != 3:
        raise ValueError(
            f"survives is {survives!r}, but the images have {channels} channels, expected 3: RGB"
        )
    return ways


def _half(sides: tuple[int, int]) -> tuple[int, int]:
    first, second = sides
    return max(1, first // 2), max(1, second // 2)
