import io
import os

import numpy as np
import pytest
from PIL import Image

from visualization import (
    SQUEEZENET_MEAN,
    SQUEEZENET_STD,
    deprocess_image,
    load_image,
    load_imagenet_val,
    preprocess_image,
)


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


def test_preprocessing_is_the_courses():
    pixels = np.array([[[0, 128, 255]]], dtype=np.uint8)
    expected = (pixels / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    preprocessed = preprocess_image(pixels)
    assert preprocessed.dtype == np.float32
    np.testing.assert_allclose(preprocessed, expected, atol=1e-6)
    assert SQUEEZENET_MEAN.dtype == SQUEEZENET_STD.dtype == np.float32


def test_tensors_are_processed_to_tensors_of_the_same_values():
    from visualization.backend import tf

    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    inputs = preprocess_image(tf.constant(pixels))
    assert tf.is_tensor(inputs)
    assert inputs.dtype == tf.float32
    np.testing.assert_allclose(inputs, preprocess_image(pixels), atol=1e-6)
    in_a_graph = tf.function(lambda x: deprocess_image(preprocess_image(x)), autograph=False)
    np.testing.assert_array_equal(in_a_graph(tf.constant(pixels)), pixels)
    for image in (inputs[:1] * 3, tf.ones((1, 2, 2, 3)) * SQUEEZENET_STD**-1):
        for rescale in (False, True):
            made = deprocess_image(image, rescale)
            assert tf.is_tensor(made)
            assert made.dtype == tf.uint8
            np.testing.assert_array_equal(made, deprocess_image(image.numpy(), rescale))


def test_a_round_trip_of_every_level_is_exact():
    levels = np.stack([np.arange(256, dtype=np.uint8)] * 3, -1)[None]
    np.testing.assert_array_equal(deprocess_image(preprocess_image(levels)), levels)


def test_deprocessing_clips_and_rescales():
    img = preprocess_image(np.float32([[[-100.0, 110.0, 300.0]]]))
    np.testing.assert_array_equal(deprocess_image(img), [[[0, 110, 255]]])
    np.testing.assert_array_equal(deprocess_image(img, rescale=True), [[[0, 134, 255]]])
    flat = preprocess_image(np.full((2, 2, 3), 7.0))
    assert deprocess_image(flat, rescale=True).dtype == np.uint8


def test_the_validation_images_load_with_names_and_without_unpickling(imagenet):
    X, y, names = load_imagenet_val(5)
    assert X.shape == (5, 224, 224, 3)
    assert X.dtype == np.uint8
    assert y.shape == (5,)
    assert names[y[0]] == "hay"


def test_missing_validation_images_are_answered_with_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TFCAP_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="TFCAP_DATA"):
        load_imagenet_val()


def test_a_file_with_pickled_images_is_refused(tmp_path):
    path = tmp_path / "imagenet_val_25.npz"
    np.savez(path, X=np.array([{}], dtype=object), y=np.zeros(1))
    with pytest.raises(ValueError, match=r"is not the course's imagenet_val_25\.npz"):
        load_imagenet_val(path=path)


@pytest.mark.parametrize("num", [-1, 0])
def test_a_number_of_validation_images_that_is_not_positive_is_refused(num):
    with pytest.raises(ValueError, match=f"num is {num}, expected a positive number"):
        load_imagenet_val(num)


def test_a_damaged_compressed_file_is_refused(tmp_path):
    path = tmp_path / "imagenet_val_25.npz"
    pixels = np.random.default_rng(0).integers(0, 9, (2, 9, 9, 3), dtype=np.uint8)
    np.savez_compressed(path, X=pixels, y=np.arange(2))
    content = bytearray(path.read_bytes())
    for start in (60, 150):
        damaged = content[:start] + bytes(20 * [255]) + content[start + 20 :]
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is not the course's imagenet_val_25\.npz"):
            load_imagenet_val(path=path)
