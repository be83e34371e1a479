"""Kinds of files are told apart by how they start, and each comes with what to do."""

import pytest

from visualization.files.kinds import HDF5, ZIP, describe, image_format

ZIP_HEADER = ZIP + bytes(26)


@pytest.mark.parametrize(
    ("content", "name", "advice"),
    [
        (b"", "empty (0 bytes)", "download it again"),
        (bytes(2000), "nothing but zero bytes", "download it again"),
        (b"\n <!DocType HTML>", "a web page (HTML), not an image", "download the file itself"),
        (b"<?xml version='1.0'?>", "a web page (HTML), not an image", "download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer", "git lfs pull"),
        (b"\x80\x04\x95", "a pickle, which could run any code", "save its arrays as"),
        (ZIP_HEADER + b"model/data.pkl", "a PyTorch file", "save its arrays as"),
        (ZIP_HEADER + b"metadata.json", "a whole Keras model", "name the model.weights.h5 inside"),
        (ZIP_HEADER + b"a.txt", "a zip archive, not an image", "unzip it"),
        (b"\x1f\x8b\x08", "an archive or compressed file", "unpack it"),
        (bytes(257) + b"ustar", "an archive or compressed file", "unpack it"),
        (HDF5, "an HDF5 file, not an image", "name another file"),
        (b"\x93NUMPY\x01\0", "a single NumPy array (.npy), not an image", "np.savez"),
        (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model", "converted from"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file", "scipy.io.loadmat"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX model", "onnx.numpy_helper"),
        (b"\x08\x01\x12\xa4\x05", "a SavedModel's graph", "name the folder"),
        (b"\0\x05\x16\x07", "macOS's notes about another file", "without ._"),
        (b"%PDF-1.7", "a PDF document", "save what is in it"),
        (b"\0\0\0\x20ftypisom", "a video, not an image", "save a frame"),
    ],
)
def test_a_known_kind_is_named_with_what_to_do(content, name, advice):
    told = describe(content, "an image")
    assert told.startswith(f"is {name}")
    assert advice in told.split(": ", 1)[1]


def test_other_content_is_of_no_known_kind():
    assert describe(bytes(100) + b"1") is None
    assert describe(b"my first <html> page") is None


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),  # BigTIFF
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
        (b"<?xml version='1.0'?>\n<!-- a drawing -->\n<svg xmlns='a'>", "SVG"),
    ],
)
def test_the_format_of_an_image_is_known_by_how_it_starts(content, kind):
    assert image_format(content) == kind
    assert describe(content, "an image") is None
