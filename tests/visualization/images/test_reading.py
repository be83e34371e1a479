import io
import os

import numpy as np
import pytest
from PIL import Image

from visualization import load_image


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def half_and_half(left, right, size=(8, 4)):
    """An RGB image whose left half has one colour and its right half another."""
    image = Image.new("RGB", size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


RED_BLUE = half_and_half("red", "blue")


def test_a_path_its_bytes_and_a_pathlike_give_the_same_pixels(tmp_path):
    path = tmp_path / "bild mit ü.png"
    RED_BLUE.save(path)
    expected = np.asarray(RED_BLUE)
    for source in (path, str(path), path.read_bytes()):
        loaded = load_image(source)
        assert loaded.dtype == np.uint8
        np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_every_lossless_format_gives_the_pixels_that_were_written(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(load_image(encode(RED_BLUE, kind, **options)), RED_BLUE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(orientation):
    upright = half_and_half("red", "blue")
    stored = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(load_image(encode(stored, exif=exif)), upright)


def test_a_palette_becomes_its_colours():
    np.testing.assert_array_equal(load_image(encode(RED_BLUE.quantize(2))), RED_BLUE)


def test_grey_becomes_three_equal_channels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(
        load_image(encode(Image.fromarray(grey))), np.stack([grey] * 3, -1)
    )


def test_sixteen_bits_are_scaled_and_not_clipped():
    levels = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    loaded = load_image(encode(Image.fromarray(levels)))
    np.testing.assert_array_equal(loaded[..., 0].ravel(), np.arange(256))


def test_transparent_parts_become_white():
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    np.testing.assert_array_equal(load_image(encode(rgba))[0], [[255, 0, 0], [255, 255, 255]])
    grey = Image.new("LA", (1, 1), (0, 128))
    np.testing.assert_allclose(load_image(encode(grey))[0, 0], [127] * 3, atol=1)
    palette = RED_BLUE.quantize(2)
    red = palette.getpixel((0, 0))
    loaded = load_image(encode(palette, transparency=red))
    np.testing.assert_array_equal(loaded[0, [0, -1]], [[255, 255, 255], [0, 0, 255]])


def test_cmyk_becomes_rgb():
    loaded = load_image(encode(RED_BLUE.convert("CMYK"), "JPEG", quality=100, subsampling=0))
    np.testing.assert_allclose(loaded.astype(int), np.asarray(RED_BLUE).astype(int), atol=12)


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    loaded = load_image(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(loaded[0, 0], [255, 0, 0])


def test_size_keeps_the_aspect_ratio_and_crops_the_centre():
    stripes = Image.new("RGB", (400, 100), "black")
    stripes.paste("white", (150, 0, 250, 100))  # the central square
    wide = load_image(encode(stripes), size=50)
    assert wide.shape == (50, 50, 3)
    assert wide[:, 1:-1].min() == 255  # at the very edge the resampling sees the neighbours
    high = load_image(encode(stripes.rotate(90, expand=True)), size=50)
    assert high[1:-1].min() == 255


def test_any_mode_and_size_becomes_rgb_of_eight_bits():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.settings(max_examples=60, deadline=None)
    @hypothesis.given(
        st.sampled_from(["1", "L", "P", "LA", "RGB", "RGBA", "I;16"]),
        st.integers(1, 40),
        st.integers(1, 40),
        st.none() | st.integers(1, 30),
    )
    def check(mode, width, height, size):
        loaded = load_image(encode(Image.new(mode, (width, height))), size)
        assert loaded.dtype == np.uint8
        assert loaded.shape == ((height, width, 3) if size is None else (size, size, 3))

    check()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_is_refused(kind, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encode(Image.fromarray(noise), kind)
    path = tmp_path / "half.img"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"half\.img: is a damaged or truncated image"):
        load_image(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"hello", "is not an image of a known format"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "is not an image"),
    ],
)
def test_what_is_not_an_image_is_refused_with_the_reason(content, sentence, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"photo\.jpg: {sentence}"):
        load_image(path)


def png_header(width, height):
    """A PNG that claims a size and holds nothing."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(header))
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + checksum
    return start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("size", [(10_000, 5_001), (60_000, 60_000)])
def test_a_bomb_is_refused_before_it_is_unpacked(size):
    with pytest.raises(ValueError, match="50,000,000"):
        load_image(png_header(*size))


def test_a_missing_file_a_folder_and_a_device_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nobody\.jpg: there is no such image file"):
        load_image(tmp_path / "nobody.jpg")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_image(tmp_path)
    if os.path.exists("/dev/zero"):
        with pytest.raises(OSError, match="is not a regular file"):
            load_image("/dev/zero")


def test_floating_point_pixels_of_unknown_range_are_refused():
    with pytest.raises(ValueError, match="floating-point"):
        load_image(encode(Image.new("F", (2, 2)), "TIFF"))


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_that_is_not_positive_is_refused(size):
    with pytest.raises(ValueError, match=f"size is {size}"):
        load_image(encode(RED_BLUE), size)
