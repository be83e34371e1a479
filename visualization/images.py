"""The one reader of images, and the way from pixels to the network's input and back."""

import io
import math
import os
import stat
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .classes import class_names
from .download import fetch

SQUEEZENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
SQUEEZENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

MAX_PIXELS = 50_000_000
MAX_URL_BYTES = 20 * 2**20
MAX_FILE_BYTES = 256 * 2**20

# Raster formats only: Pillow's EPS reader, for one, starts another program.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO")

Source = str | os.PathLike[str] | bytes


def load_image(source: Source, size: int | None = None) -> np.ndarray:
    """Reads an image from a path, an http(s) URL or the bytes of a file.

    The orientation that a camera noted (EXIF) is applied; palettes, grey, CMYK and 16-bit images are
    converted; transparent parts become white; of an animation the first frame is taken.

    Args:
        source: a path, a URL (read as `image_from_url` does), or a file's content.
        size: if given, the short side is resized to it, keeping the aspect ratio, and the centre is
            cropped; if None, the image keeps its size.

    Returns:
        uint8 RGB, 0..255: (H, W, 3), or (size, size, 3).

    Raises:
        ValueError: it is not an image, is damaged, empty or truncated, has more than 50 megapixels
            or 256 MiB, or `size` is not positive.
        OSError: the file is missing, is a folder, or cannot be read; the URL cannot be fetched.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_image(bytes(source), "the image", size)
    return decode_image(read_source(source), str(source), size)


def image_from_url(
    url: str,
    timeout: float = 10,
    max_bytes: int = MAX_URL_BYTES,
    size: int | None = None,
    allow_private: bool = False,
) -> np.ndarray:
    """Reads an image from the web, in memory: no temporary file is made.

    Only http and https are read, and only from public addresses; every redirect is checked anew.

    Args:
        url: where the image is.
        timeout: seconds that the whole may take.
        max_bytes: the largest file that is accepted, 20 MiB by default.
        size: as in `load_image`.
        allow_private: also read from private and loopback addresses.

    Returns:
        uint8 RGB (H, W, 3), as `load_image`.

    Raises:
        ValueError: the URL is refused, or what it gives is not an image, is damaged or too large.
        OSError: it cannot be fetched. Every message starts with the URL and gives the cause.
    """
    return decode_image(fetch(url, timeout, max_bytes, allow_private), url, size)


def read_source(source: str | os.PathLike[str]) -> bytes:
    """The content of a path or an http(s) URL, not yet decoded; raises as `load_image` does."""
    if isinstance(source, str) and "://" in source:
        return fetch(source, timeout=10, max_bytes=MAX_URL_BYTES)
    path = Path(source)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{path}: is a folder: name an image file in it")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path}: is not a regular file: name an image file")
        if status.st_size > MAX_FILE_BYTES:
            raise ValueError(
                f"{path}: has {status.st_size:,} bytes, at most {MAX_FILE_BYTES:,} are read"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such image file: check the path") from None
    except OSError as error:
        if error.strerror is None:
            raise
        raise OSError(f"{path}: cannot be read: {error.strerror}") from error


def decode_image(
    content: bytes, name: str, size: int | tuple[int, int] | None = None
) -> np.ndarray:
    """uint8 RGB pixels of a file's content; `name` is what error messages call it.

    `size` may also be (height, width): the image is resized to cover it, and its centre is cropped.
    """
    height, width = (size, size) if isinstance(size, int) else size or (1, 1)
    if height < 1 or width < 1:
        raise ValueError(f"size is {size}, expected a positive number of pixels, or None")
    if not content:
        raise ValueError(f"{name}: is empty (0 bytes): name an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: has more than {MAX_PIXELS:,} pixels, the limit") from None
    except Exception as error:  # any decoder's complaint about the header
        if isinstance(error, Image.UnidentifiedImageError):
            raise ValueError(f"{name}: {_looks_like(content)}") from None
        raise ValueError(f"{name}: is a damaged image: {error}") from error
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{name}: has {image.width} x {image.height} pixels, "
            f"more than the limit of {MAX_PIXELS:,}"
        )
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        pixels = _to_rgb(image)
    except Exception as error:  # any decoder's complaint about the data
        raise ValueError(f"{name}: is a damaged or truncated image: {error}") from error
    if size is not None:
        pixels = ImageOps.fit(pixels, (width, height), Image.Resampling.BICUBIC)
    return np.array(pixels)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it as 8-bit")
    if image.mode.startswith("I"):  # 16 bits a pixel, and Pillow's convert() would clip them
        levels = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(np.clip(levels.round(), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _looks_like(content: bytes) -> str:
    start = content[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page and not an image: save the image itself"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not an image: fetch the file with 'git lfs pull'"
    return f"is not an image of a known format ({', '.join(_FORMATS)})"


def preprocess_image(img: Any) -> Any:
    """Pixels to SqueezeNet's input: (img / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD.

    Args:
        img: RGB (..., 3), 0..255, uint8 or floating point.

    Returns:
        float32 of the same shape, about -2.1 to 2.6; a tensor if img is one, else an array.
    """
    return (_float32(img) / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD


def deprocess_image(img: Any, rescale: bool = False) -> Any:
    """SqueezeNet's input back to pixels; the reverse of `preprocess_image`, exact on a round trip.

    Args:
        img: preprocessed RGB (..., 3), floating point.
        rescale: first stretch the values to their own range, so that the smallest becomes 0 and the
            largest 255.

    Returns:
        uint8 of the same shape, clipped to 0..255 and rounded; a tensor if img is one, else an array.
    """
    values = _float32(img) * SQUEEZENET_STD + SQUEEZENET_MEAN
    if not _is_tensor(img):
        if rescale:
            low, high = values.min(), values.max()
            values = (values - low) / (high - low if high > low else 1)
        return np.clip(255 * values, 0, 255).round().astype(np.uint8)
    from .backend import tf

    if rescale:
        low, high = tf.reduce_min(values), tf.reduce_max(values)
        values = (values - low) / tf.where(high > low, high - low, 1)
    return tf.cast(tf.round(tf.clip_by_value(255 * values, 0, 255)), tf.uint8)


def _float32(img: Any) -> Any:
    if not _is_tensor(img):
        return np.asarray(img, dtype=np.float32)
    from .backend import tf

    return tf.cast(img, tf.float32)


def _is_tensor(value: Any) -> bool:
    """Without an import of TensorFlow: where there is none, there are no tensors."""
    return "tensorflow" in sys.modules and sys.modules["tensorflow"].is_tensor(value)


class InputScale:
    """How the levels of an 8-bit image become a model's input, and back.

    `preprocess` is looked at through a few probes: every input channel must depend on one channel of
    the pixels, along a straight line, as all that `keras.applications` preprocess do.

    Args:
        preprocess: pixels (N, H, W, C) float32 -> the model's input of the same shape.
        bounds: the pixel values that `preprocess` expects for black and white.
        channels: C.

    Attributes:
        low, high: float32 (C,): the input for black and for white, by input channel.
        order: the pixel channel that each input channel shows; (2, 1, 0) for BGR input.
        width: how wide the input's range is beside SqueezeNet's, whose is 1: what the course says of
            step lengths in its units is true of other models after a multiplication by it.

    Raises:
        ValueError: `preprocess` is not such a map, or `bounds` are not two numbers in order.
    """

    def __init__(
        self,
        preprocess: Callable[[Any], Any] = preprocess_image,
        bounds: tuple[float, float] = (0, 255),
        channels: int = 3,
    ) -> None:
        try:
            black, white = (float(bound) for bound in bounds)
        except (TypeError, ValueError):
            black = white = math.nan
        if not -math.inf < black < white < math.inf:
            raise ValueError(
                f"bounds are {bounds}, expected the values of black and of white, as (0, 255)"
            )
        self._preprocess, self._black, self._width = preprocess, black, white - black
        primaries = [255 * np.eye(channels)[c] for c in range(channels)]
        levels = [np.zeros(channels), np.full(channels, 255), np.full(channels, 51), *primaries]
        made = self.to_input(np.array(levels)[:, None, None, :])  # (3 + C, 1, 1, C)
        if made.shape != (3 + channels, 1, 1, channels):
            raise ValueError(
                f"preprocess made {made.shape} of pixels {(3 + channels, 1, 1, channels)}, expected "
                "the same shape"
            )
        probes = made[:, 0, 0]  # (3 + C, C)
        self.low, self.high, fifth = probes[:3]
        shows = np.isclose(probes[3:], self.high) & ~np.isclose(probes[3:], self.low)  # (C, C)
        on_a_line = np.allclose(fifth, self.low + (self.high - self.low) / 5, atol=1e-3)
        if not (on_a_line and (shows.sum(axis=0) == 1).all()):
            raise ValueError(
                "preprocess must map each channel of the pixels on its own and along a straight line, "
                f"but black, white and dark grey become {probes[0]}, {probes[1]} and {probes[2]}"
            )
        if not (self.high > self.low).all():
            raise ValueError(
                f"preprocess turns black into {self.low} and white into {self.high}, expected white "
                "to be larger in each channel: leave out what inverts the image"
            )
        self.order = tuple(int(channel) for channel in shows.argmax(axis=0))
        self.width = float(np.mean(self.high - self.low) / np.mean(1 / SQUEEZENET_STD))

    def to_input(self, levels: Any) -> np.ndarray:
        """8-bit levels (N, H, W, C), 0..255, to the model's input, float32."""
        pixels = self._black + self._width * np.asarray(levels, np.float32) / 255
        if (self._black, self._width) == (0, 255):
            pixels = np.array(levels, np.float32)  # exact
        return np.asarray(self._preprocess(pixels), np.float32)

    def to_levels(self, inputs: Any) -> np.ndarray:
        """The model's input (N, H, W, C) to 8-bit levels, uint8, clipped and rounded."""
        levels = 255 * (np.asarray(inputs, np.float32) - self.low) / (self.high - self.low)
        rounded = np.clip(levels, 0, 255).round().astype(np.uint8)
        return rounded[..., np.argsort(self.order)]


def jitter(X: Any, ox: int, oy: int) -> Any:
    """Shifts images cyclically: what leaves on one side comes back on the other.

    Args:
        X: (N, H, W, C), a tensor or an array.
        ox: pixels to the right, along the width, axis 2.
        oy: pixels down, along the height, axis 1.

    Returns:
        The same shape, dtype and kind as X.
    """
    from .backend import tf

    if tf.is_tensor(X):
        return tf.roll(X, shift=[oy, ox], axis=[1, 2])
    return np.roll(X, shift=(oy, ox), axis=(1, 2))


def blur_image(X: Any, sigma: float = 1) -> Any:
    """Blurs images with a Gaussian along the height and the width.

    Borders are reflected and the Gaussian is cut at 4 sigma, as in SciPy's ``gaussian_filter1d``.

    Args:
        X: floating point (N, H, W, C), a tensor or an array.
        sigma: the Gaussian's standard deviation, in pixels, above 0.

    Returns:
        The same shape, dtype and kind as X.

    Raises:
        ValueError: sigma is not positive, or X has not four axes or is not floating point.
    """
    from .backend import tf

    blurred = tf.convert_to_tensor(X)
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}, expected a positive number of pixels")
    if blurred.shape.rank != 4:
        raise ValueError(f"X has shape {tuple(blurred.shape)}, expected (N, H, W, C)")
    if not blurred.dtype.is_floating:
        raise ValueError(f"X is {blurred.dtype.name}, expected floating point: convert it first")
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        length = tf.shape(blurred)[axis]
        positions = tf.range(-radius, length + radius) % (2 * length)
        mirrored = tf.minimum(positions, 2 * length - 1 - positions)
        padded = tf.gather(blurred, mirrored, axis=axis)
        blurred = tf.zeros_like(blurred)
        for i, weight in enumerate(weights.tolist()):  # one copy in memory, not 2r + 1
            part = padded[:, i : i + length] if axis == 1 else padded[:, :, i : i + length]
            blurred += weight * part
    return blurred if tf.is_tensor(X) else blurred.numpy()


def load_imagenet_val(
    num: int | None = None, path: str | os.PathLike[str] | None = None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """CS231n's 25 validation images of ImageNet.

    The names come from this project's own list: those in the file are pickled, and nothing here
    unpickles.

    Args:
        num: how many images, at most 25; all by default.
        path: the file ``imagenet_val_25.npz``; by default looked for in ``$TFCAP_DATA`` and in the
            course's place, ``cs231n/datasets``.

    Returns:
        X, uint8 (num, 224, 224, 3); y, int64 (num,); class_names, where class_names[i] is the name
        of class i.

    Raises:
        FileNotFoundError: the file is in none of these places.
        ValueError: the file is damaged or holds something else, or num is not positive.
    """
    if num is not None and num < 1:
        raise ValueError(f"num is {num}, expected a positive number of images, or None for all")
    name = "imagenet_val_25.npz"
    places = [Path("cs231n", "datasets", name)]
    if os.environ.get("TFCAP_DATA"):
        places.insert(0, Path(os.environ["TFCAP_DATA"], name))
    if path is not None:
        places = [Path(path)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"there is no {' or '.join(map(str, places))}: get {name} with the course's "
            "get_imagenet_val.sh and set TFCAP_DATA to its folder"
        )
    try:
        with zipfile.ZipFile(found) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_FILE_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_FILE_BYTES:,} bytes")
        with np.load(found, allow_pickle=False) as arrays:
            X, y = arrays["X"], arrays["y"]
    except (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{found}: is not the course's {name}: {error}") from error
    if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] != 3 or y.shape != X.shape[:1]:
        raise ValueError(f"{found}: X is {X.dtype}{X.shape} and y {y.dtype}{y.shape}, not images")
    return X[:num], y[:num].astype(np.int64), class_names()
