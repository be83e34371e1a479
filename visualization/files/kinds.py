"""Tells what a file is from how it starts, and what to do if it is not the kind that was wanted."""

import re

__all__ = ["HDF5", "ZIP", "describe", "image_format"]

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"

_PICKLE = "which could run any code when read, so it is never unpickled"
_SAVE_SAFELY = "where you trust the file, save its arrays as .safetensors or .npz"
# How a file starts, what it is, what to do. Of a zip archive, byte 30 begins the first member's name.
_KINDS = [
    (rb"\Z", "empty (0 bytes)", "its download or copy failed, so download it again"),
    (rb"\0+\Z", "nothing but zero bytes", "its download or copy stopped, so download it again"),
    (
        rb"\s*(?i:<!doctype html|<html|<\?xml)",
        "a web page (HTML), not {wanted}",
        "the download got an error or login page, so download the file itself",
    ),
    (
        rb"version https://git-lfs",
        "a Git LFS pointer, which stands for the file",
        "fetch the file with 'git lfs pull'",
    ),
    (rb"\x80[\x02-\x05]", f"a pickle, {_PICKLE}", _SAVE_SAFELY),
    (
        rb"PK\x03\x04.{26}[^/]*/data\.pkl",
        f"a PyTorch file, a zipped pickle, {_PICKLE}",
        _SAVE_SAFELY,
    ),
    (
        rb"PK\x03\x04.{26}metadata\.json",
        "a whole Keras model (.keras), which is never deserialized",
        "unzip it and name the model.weights.h5 inside",
    ),
    (rb"PK\x03\x04", "a zip archive, not {wanted}", "unzip it and name the file inside"),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar",
        "an archive or compressed file (tar, gzip, bzip2, xz or zstd), not {wanted}",
        "unpack it and name the file inside",
    ),
    (
        rb"\x93NUMPY",
        "a single NumPy array (.npy), not {wanted}",
        "save all arrays by their names, with np.savez",
    ),
    (
        rb".{4}TFL3",
        "a TensorFlow Lite model, not {wanted}",
        "name the checkpoint or Keras file that it was converted from",
    ),
    (
        rb"MATLAB \d",
        "a MATLAB file, not {wanted}",
        "save its arrays as .npz, with scipy.io.loadmat and np.savez",
    ),
    (
        rb"\x08[\x03-\x20]\x12[\x03-\x20][A-Za-z]",
        "an ONNX model, not {wanted}",
        "save its arrays as .npz, with onnx.numpy_helper and np.savez",
    ),
    (
        rb"\x08\x01\x12",
        "a SavedModel's graph, not {wanted}",
        "name the folder that it lies in, with its variables/",
    ),
    (rb"\x89HDF\r\n", "an HDF5 file, not {wanted}", "name another file"),
    (
        rb"\0\x05\x16\x07",
        "macOS's notes about another file, not {wanted}",
        "name the file without ._ at the start of its name",
    ),
    (rb"%PDF", "a PDF document, not {wanted}", "save what is in it as a file of its own"),
    (
        rb".{4}ftyp(?!avi[fs]|hei|hev|mif1|msf1|crx)",
        "a video, not {wanted}",
        "save a frame of it as PNG",
    ),
]
# How an image starts, by the format.
_IMAGES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n",
    "GIF": rb"GIF8",
    "BMP": rb"BM.{12}[\x0c-\x7c]\0\0\0",
    "WEBP": rb"RIFF.{4}WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "PPM": rb"P[1-6]\s",
    "ICO": rb"\0\0\x01\0[^\0]\0",
    "AVIF": rb".{4}ftypavi[fs]",
    "HEIC": rb".{4}ftyp(hei|hev|mif1|msf1)",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
    "Photoshop": rb"8BPS",
    "SVG": rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg",
    "DICOM": rb".{128}DICM",
    "camera's raw": rb"FUJIFILMCCD-RAW|.{4}ftypcrx",
}


def describe(content: bytes, wanted: str = "weights") -> str | None:
    """What the content of a file is and what to do, or None if it is of no known kind.

    Args:
        content: the whole file, or at least its first 512 bytes.
        wanted: what the file should have been, such as "an image".

    Returns:
        the rest of a sentence that starts with the file's name.

    Example:
        >>> describe(b"<html><title>404 Not Found", "an image")
        'is a web page (HTML), not an image: the download got an error ... download the file itself'
    """
    if image_format(content):  # also of an SVG, which may start as a web page does
        return None
    for pattern, name, advice in _KINDS:
        if re.match(pattern, content, re.DOTALL):
            return f"is {name.format(wanted=wanted)}: {advice}"
    return None


def image_format(content: bytes) -> str | None:
    """The format of an image by how its file starts, or None if it is of no known one.

    Example:
        >>> image_format(b"GIF89a"), image_format(b"hello")
        ('GIF', None)
    """
    start = content[:4096]
    return next((kind for kind, how in _IMAGES.items() if re.match(how, start, re.DOTALL)), None)
