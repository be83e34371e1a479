import contextlib
import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from visualization import image_from_url, load_image
from visualization.images.reading import images_in


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


def tiff(stored, bits, sample_format=1, photometric=1, width=None):
    """An uncompressed grey TIFF whose header states the depth and the sign (1 unsigned, 2 signed)."""
    big = stored.dtype.byteorder == ">"
    order = ">" if big else "<"
    tags = [
        *((256, width or stored.shape[1]), (257, len(stored)), (258, bits), (259, 1)),
        *((262, photometric), (273, 134), (277, 1), (278, len(stored)), (279, stored.nbytes)),
        (339, sample_format),
    ]
    header = (b"MM" if big else b"II") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, value in tags:
        short = struct.pack(f"{order}HH", value, 0)
        header += struct.pack(f"{order}HHI", tag, 3, 1) + short
    return (header + bytes(4)).ljust(134, b"\0") + stored.tobytes()


RAMP = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<u4", "<i2", ">i2", "<i4", ">i4", "u1", "i1"])
def test_a_tiffs_depth_and_sign_are_those_that_it_states(dtype):
    dtype = np.dtype(dtype)
    bounds = np.iinfo(dtype)
    stored = np.round(RAMP * (int(bounds.max) - int(bounds.min)) / 255 + int(bounds.min))
    loaded = load_image(tiff(stored.astype(dtype), 8 * dtype.itemsize, 1 + (dtype.kind == "i")))
    np.testing.assert_array_equal(loaded, np.stack([RAMP] * 3, -1))


def test_twelve_bits_reach_white():
    packed = np.uint8([[0xFF, 0xF0, 0x00], [0x80, 0x08, 0x00]])  # 4095, 0; 2048, 2048
    loaded = load_image(tiff(np.ascontiguousarray(packed), 12, width=2))
    np.testing.assert_array_equal(loaded[..., 0], [[255, 0], [128, 128]])


def test_where_white_is_zero_sixteen_bits_are_inverted_as_eight_are():
    for dtype, bits in ("<u2", 16), ("u1", 8):
        stored = (RAMP * (257 if bits == 16 else 1)).astype(dtype)
        loaded = load_image(tiff(stored, bits, photometric=0))
        np.testing.assert_array_equal(loaded[..., 0], 255 - RAMP)


def test_the_transparency_of_sixteen_bits_of_grey_becomes_white():
    levels = np.uint16([[0, 257, 65535]])
    loaded = load_image(encode(Image.fromarray(levels), transparency=0))
    np.testing.assert_array_equal(loaded[0, :, 0], [255, 1, 255])


def test_a_grey_map_of_any_depth_reaches_white():
    assert load_image(b"P5 2 1 4095\n\x0f\xff\x00\x00")[0, :, 0].tolist() == [255, 0]


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
    with pytest.raises(ValueError, match=r"^the image: has floating-point pixels"):
        load_image(encode(Image.new("F", (2, 2)), "TIFF"))


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_only_the_error_tells_of_a_damaged_tiff(compression, capfd):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = bytearray(encode(Image.fromarray(noise), "TIFF", compression=compression))
    content[len(content) // 3 : len(content) // 2] = b"\xff" * (len(content) // 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for damaged in content, content[:-200]:
            with contextlib.suppress(ValueError):
                load_image(bytes(damaged))
    assert capfd.readouterr() == ("", "")


def test_what_is_known_but_not_read_is_named_with_what_to_do():
    with pytest.raises(ValueError, match="is a HEIC image, which is not read: save it as JPEG"):
        load_image(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(ValueError, match="is a PNG image that is damaged or of a rare variety"):
        load_image(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match="is a TIFF image that is damaged or of a rare variety"):
        load_image(tiff(np.zeros((2, 2), "<f8"), 64, 3))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow cannot read AVIF")
def test_avif_is_read(tmp_path):
    RED_BLUE.resize((64, 32), Image.Resampling.NEAREST).save(tmp_path / "a.avif", quality=100)
    loaded = load_image(tmp_path / "a.avif").astype(int)
    np.testing.assert_allclose(loaded[0, [0, -1]], [[255, 0, 0], [0, 0, 255]], atol=8)


def test_a_folder_shows_every_image_and_no_notes_of_macos(tmp_path):
    for name in ("a.jfif", "b.ICO", "c.pgm", "d.heic", "._a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert [Path(path).name for path in images_in(tmp_path)] == [
        "a.jfif",
        "b.ICO",
        "c.pgm",
        "d.heic",
    ]


@pytest.mark.parametrize("size", [1.5, "224", True, (2, True), (1, 2, 3), [8, 8]])
def test_a_size_that_is_no_whole_number_is_refused(size):
    with pytest.raises(TypeError, match=r"size is .*, expected a whole number of pixels, or None"):
        load_image(encode(RED_BLUE), size)
    for read in (load_image, image_from_url):
        with pytest.raises(TypeError, match="size is"):  # and not downloaded first
            read("http://example.invalid/photo.jpg", size=size)


def test_a_size_may_be_numpys_and_is_bounded():
    assert load_image(encode(RED_BLUE), np.int64(3)).shape == (3, 3, 3)
    with pytest.raises(ValueError, match=r"size is 1000000, .* 50,000,000 pixels"):
        load_image(encode(RED_BLUE), 10**6)


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_that_is_not_positive_is_refused(size):
    with pytest.raises(ValueError, match=f"size is {size}"):
        load_image(encode(RED_BLUE), size)
