"""The one reader of photographs: files, bytes and URLs become RGB pixels."""

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from visualization.images.download import fetch

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm")

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
