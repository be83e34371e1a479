"""The one reader of photographs: files, bytes and URLs become RGB pixels."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from visualization.files.kinds import describe
from visualization.files.regular_file import read_file
from visualization.images.download import fetch

__all__ = ["SUFFIXES", "decode_image", "image_from_url", "images_in", "load_image", "read_source"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm")

_MAX_PIXELS = 50_000_000
_MAX_URL_BYTES = 20 * 2**20
_MAX_FILE_BYTES = 256 * 2**20

# Raster formats only: Pillow's EPS reader, for one, starts another program.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO")


def load_image(source: str | os.PathLike[str] | bytes, size: int | None = None) -> np.ndarray:
    """Reads an image from a path, an http(s) URL, or the content of an image file.

    The camera's orientation (EXIF) is applied; palettes, grey, CMYK and 16-bit images are converted;
    transparent parts become white; of an animation, the first frame is read.

    Args:
        source: a path, a URL (read as `image_from_url` does), or a file's content.
        size: if given, the image's shorter side is resized to it, keeping the aspect ratio, and its
            centre is cropped; if None, the image keeps its size.

    Returns:
        uint8 RGB, 0..255: (H, W, 3), or (size, size, 3).

    Raises:
        ValueError: it is not an image, or is damaged, truncated or empty; it has more than 50
            megapixels or 256 MiB; or `size` is not positive.
        OSError: the file is missing, is a folder, or cannot be read; the URL cannot be downloaded.

    Example:
        >>> Image.new("RGB", (40, 30), "red").save("red.png")
        >>> load_image("red.png").shape
        (30, 40, 3)
        >>> load_image("red.png", size=8)[0, 0].tolist()
        [255, 0, 0]
    """
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
    inside = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not inside:
        raise FileNotFoundError(f"{folder}: is a folder without images ({' '.join(SUFFIXES)})")
    return [str(path) for path in inside]


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
    height, width = (size, size) if isinstance(size, int) else size or (1, 1)
    if height < 1 or width < 1:
        raise ValueError(f"size is {size}, expected a positive number of pixels, or None")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: has more than {_MAX_PIXELS:,} pixels, the limit") from None
    except Image.UnidentifiedImageError:
        known = f"is not an image of a known format ({', '.join(_FORMATS)})"
        raise ValueError(f"{name}: {describe(content, 'an image') or known}") from None
    except Exception as error:  # a decoder can raise anything
        raise ValueError(f"{name}: is a damaged image: {error}") from error
    if image.width * image.height > _MAX_PIXELS:
        raise ValueError(
            f"{name}: has {image.width} x {image.height} pixels, at most {_MAX_PIXELS:,} are read"
        )
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        pixels = _to_rgb(image)
    except Exception as error:  # a decoder can raise anything
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
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
