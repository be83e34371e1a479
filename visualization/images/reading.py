"""The one reader of photographs: files, bytes and URLs become RGB pixels."""

import contextlib
import importlib.util
import io
import math
import os
import threading
import warnings
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from visualization.files.kinds import describe, image_format
from visualization.files.printable import on_one_line
from visualization.files.regular_file import read_file
from visualization.images.download import fetch

__all__ = [
    "SUFFIXES",
    "decode_image",
    "image_from_url",
    "images_in",
    "is_image_name",
    "load_image",
    "read_source",
]

# What a folder is searched for: also what is not read, so that it is told and not passed over.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".avif", ".heic", ".heif"),
)

_MAX_PIXELS = 50_000_000
_MAX_URL_BYTES = 20 * 2**20
_MAX_FILE_BYTES = 256 * 2**20

# Raster formats only: Pillow's EPS reader, for one, starts another program.
_FORMATS: tuple[str, ...] = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO")
if importlib.util.find_spec("PIL.AvifImagePlugin"):  # Pillow 11.3
    _FORMATS += ("AVIF",)


def load_image(source: str | os.PathLike[str] | bytes, size: int | None = None) -> np.ndarray:
    """Reads an image from a path, an http(s) URL, or the content of an image file.

    The camera's orientation (EXIF) is applied; palettes, grey, CMYK, and 12, 16 and 32 bits are
    converted, by the depth and the sign that the file states;
    transparent parts become white; of an animation, the first frame is read.

    Args:
        source: a path, a URL (read as `image_from_url` does), or a file's content.
        size: if given, the image's shorter side is resized to it, keeping the aspect ratio, and its
            centre is cropped; if None, the image keeps its size.

    Returns:
        uint8 RGB, 0..255: (H, W, 3), or (size, size, 3).

    Raises:
        ValueError: it is not an image, or is damaged, truncated or empty; it has more than 50
            megapixels or 256 MiB, or floating-point pixels; or `size` is not positive or makes more
            than 50 megapixels.
        TypeError: `size` is not a whole number.
        OSError: the file is missing, is a folder, or cannot be read; the URL cannot be downloaded.

    Example:
        >>> Image.new("RGB", (40, 30), "red").save("red.png")
        >>> load_image("red.png").shape
        (30, 40, 3)
        >>> load_image("red.png", size=8)[0, 0].tolist()
        [255, 0, 0]
    """
    _check_size(size)  # before anything is downloaded
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_image(bytes(source), "the image", size)
    return decode_image(read_source(source), str(source), size)


def images_in(folder: Path) -> list[str]:
    """The paths of the images in a folder, by name.

    Raises:
        OSError: there are none.

    Example:
        >>> Image.new("RGB", (9, 9)).save("a.png")
        >>> images_in(Path("."))
        ['a.png']
    """
    inside = sorted(filter(is_image_name, folder.iterdir()))
    if not inside:
        raise FileNotFoundError(f"{folder}: is a folder without images ({' '.join(SUFFIXES)})")
    return [str(path) for path in inside]


def is_image_name(path: Path) -> bool:
    """Whether a file's name is an image's; macOS's notes about one, ``._photo.jpg``, are not.

    Example:
        >>> is_image_name(Path("photo.JPG")), is_image_name(Path("._photo.jpg"))
        (True, False)
    """
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def image_from_url(
    url: str,
    *,
    timeout: float = 10,
    max_bytes: int = _MAX_URL_BYTES,
    size: int | None = None,
    allow_private: bool = False,
) -> np.ndarray:
    """Reads an image from the web, in memory: no temporary file is written.

    Only http and https URLs are read, and only from public addresses; redirects are checked too.

    Args:
        url: where the image is.
        timeout: seconds for the whole download.
        max_bytes: the largest file that is accepted, 20 MiB by default.
        size: as in `load_image`.
        allow_private: also read from private and loopback addresses.

    Returns:
        uint8 RGB (H, W, 3), as `load_image`.

    Raises:
        ValueError: the URL is refused, or what it gives is not an image, is damaged or too large.
        OSError: the download fails. Every message starts with the URL and gives the cause.

    Example:
        >>> image_from_url("ftp://example.org/cat.jpg")
        Traceback (most recent call last):
        ValueError: ftp://example.org/cat.jpg: only http:// and https:// URLs are read
    """
    _check_size(size)
    return decode_image(fetch(url, timeout, max_bytes, allow_private), url, size)


def read_source(source: str | os.PathLike[str]) -> bytes:
    """Returns the content of a path or an http(s) URL, undecoded; raises as `load_image` does.

    Example:
        >>> Image.new("RGB", (4, 3)).save("black.png")
        >>> read_source("black.png")[:4]
        b'\\x89PNG'
    """
    if isinstance(source, str) and "://" in source:
        return fetch(source, timeout=10, max_bytes=_MAX_URL_BYTES)
    return read_file(source, "image file", max_bytes=_MAX_FILE_BYTES)


def decode_image(
    content: bytes, name: str, size: int | tuple[int, int] | None = None
) -> np.ndarray:
    """Decodes the content of an image file; otherwise as `load_image`.

    Args:
        content: the content.
        name: what errors call it.
        size: as in `load_image`, or (height, width): the image is resized to cover that and its
            centre is cropped.

    Example:
        >>> Image.new("RGB", (4, 3), "blue").save("blue.png")
        >>> decode_image(read_source("blue.png"), "blue.png", (2, 5)).shape
        (2, 5, 3)
    """
    _check_size(size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what is refused below or read all the same
        image = _open(content, name)
        if image.width * image.height > _MAX_PIXELS:
            raise ValueError(
                f"{name}: has {image.width} x {image.height} pixels, at most {_MAX_PIXELS:,} are read"
            )
        if image.mode == "F":
            raise ValueError(
                f"{name}: has floating-point pixels, whose range is unknown: save it as 8-bit"
            )
        try:
            with _without_libtiffs_text() if image.format == "TIFF" else contextlib.nullcontext():
                image.load()
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _to_rgb(image)
        except Exception as error:  # a decoder can raise anything
            reason = on_one_line(error, longest=300)
            raise ValueError(f"{name}: is a damaged or truncated image: {reason}") from error
    if size is not None:
        height, width = (size, size) if not isinstance(size, tuple) else size
        pixels = ImageOps.fit(pixels, (width, height), Image.Resampling.BICUBIC)
    return np.array(pixels)


def _check_size(size: Any) -> None:
    sides = size if isinstance(size, tuple) else (size, size)
    if size is None:
        return
    if len(sides) != 2 or any(
        isinstance(side, bool) or not isinstance(side, Integral) for side in sides
    ):
        raise TypeError(f"size is {size!r}, expected a whole number of pixels, or None")
    if min(sides) < 1:
        raise ValueError(f"size is {size}, expected a positive number of pixels, or None")
    if sides[0] * sides[1] > _MAX_PIXELS:
        raise ValueError(
            f"size is {size}, which makes more than the {_MAX_PIXELS:,} pixels that are allowed: "
            f"at most {math.isqrt(_MAX_PIXELS):,} make a square"
        )


def _open(content: bytes, name: str) -> Image.Image:
    """The image, of which only the header is read."""
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: has more than {_MAX_PIXELS:,} pixels, the limit") from None
    except Exception as error:  # a decoder can raise anything
        told = describe(content, "an image")
        kind = image_format(content)
        if kind in _FORMATS:
            told = (
                f"is a {kind} image that is damaged or of a rare variety, as Pillow cannot read it: "
                "download it again, or save it as an 8-bit PNG"
            )
        elif kind:
            told = f"is a {kind} image, which is not read: save it as JPEG or PNG"
        told = told or f"is not an image of a known format ({', '.join(_FORMATS)})"
        raise ValueError(f"{name}: {told}") from error


_LIBTIFF = threading.Lock()


@contextlib.contextmanager
def _without_libtiffs_text() -> Iterator[None]:
    """Keeps what libtiff writes to the standard error itself, and no setting of Pillow stops."""
    with _LIBTIFF, open(os.devnull, "wb") as nowhere:
        try:
            terminal = os.dup(2)
        except OSError:  # a process without a standard error
            yield
            return
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _to_rgb(image: Image.Image) -> Image.Image:
    lowest, highest, inverted = _range(image)
    if (lowest, highest, inverted) != (0, 255, False):
        return _scaled(image, lowest, highest, inverted).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _range(image: Image.Image) -> tuple[int, int, bool]:
    """The levels that mean black and white in a file, and whether Pillow leaves them inverted."""
    deep = image.mode.startswith("I")
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode not in _OF_TIFF:
        return 0, 65535 if deep else 255, False  # of PNG and PPM, Pillow makes 16 bits
    bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0] if deep else 8
    signed = image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 2
    lowest = -(2 ** (bits - 1)) if signed else 0
    # "white is zero", which Pillow applies to 8 bits only
    inverted = deep and image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return lowest, lowest + 2**bits - 1, inverted


_OF_TIFF = ("I", "I;16", "I;16B", "L", "RGB")  # the modes that a TIFF's depth and sign matter to


def _scaled(image: Image.Image, lowest: int, highest: int, inverted: bool) -> Image.Image:
    """An image with these levels, which Pillow's convert() would clip, as 8 bits."""
    stored = np.asarray(image)
    if stored.dtype == np.int32 and highest >= 2**31:
        stored = stored.view(np.uint32)  # Pillow knows signed ones only
    if stored.dtype == np.uint8:
        stored = stored.view(np.int8)
    levels = (stored.astype(np.float64) - lowest) * (255 / (highest - lowest))
    scaled = np.clip(levels.round(), 0, 255).astype(np.uint8)
    if inverted:
        scaled = 255 - scaled
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # of a 16-bit PNG, one level
        scaled = np.where(stored == transparent, np.uint8(255), scaled)
    return Image.fromarray(scaled)
