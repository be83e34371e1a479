import numpy as np
import pytest

from visualization import SQUEEZENET_STD, preprocess_image
from visualization.images.pixel_scaling import PixelScaling

LEVELS = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 7)], -1)[None, None]


def bgr(pixels):
    return pixels[..., ::-1] - np.float32([103.9, 116.8, 123.7])


@pytest.mark.parametrize(
    ("preprocess", "bounds"),
    [
        (None, (0, 255)),
        (bgr, (0, 255)),
        (lambda pixels: pixels, (0, 1)),
        (lambda pixels: pixels * 2 - 1, (0, 1)),
        (lambda pixels: 3 * pixels, (-1, 1)),
    ],
)
def test_every_level_survives_the_way_to_the_input_and_back(preprocess, bounds):
    scaling = PixelScaling(preprocess, bounds)
    inputs = scaling.to_input(LEVELS)
    assert inputs.dtype == np.float32
    pixels = scaling.to_pixels(inputs)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, LEVELS)


def test_squeezenets_scaling_is_its_preprocessing_and_the_unit_of_ranges():
    scaling = PixelScaling()
    np.testing.assert_array_equal(scaling.to_input(LEVELS), preprocess_image(LEVELS))
    np.testing.assert_allclose(scaling.upper - scaling.lower, 1 / SQUEEZENET_STD, rtol=1e-5)
    assert scaling.relative_range == pytest.approx(1)
    assert scaling.channel_order == (0, 1, 2)


def test_other_preprocessing_is_described_by_its_bounds_order_and_range():
    scaling = PixelScaling(bgr)
    np.testing.assert_allclose(scaling.lower, [-103.9, -116.8, -123.7])
    np.testing.assert_allclose(scaling.upper, [151.1, 138.2, 131.3], rtol=1e-5)
    assert scaling.channel_order == (2, 1, 0)
    assert scaling.relative_range == pytest.approx(255 / np.mean(1 / SQUEEZENET_STD))


@pytest.mark.parametrize(
    ("preprocess", "bounds", "sentence"),
    [
        (lambda pixels: pixels**2, (0, 255), "on its own and linearly"),
        (lambda pixels: pixels.mean(-1, keepdims=True) + 0 * pixels, (0, 255), "on its own"),
        (lambda pixels: 0 * pixels, (0, 255), "on its own|white to be larger"),
        (lambda pixels: 255 - pixels, (0, 255), "omit the step that inverts"),
        (lambda pixels: pixels[..., :2], (0, 255), "expected the same shape"),
        (None, (255, 0), r"bounds are \(255, 0\)"),
        (None, (0, float("nan")), "bounds are"),
        (None, 255, "bounds are 255"),
    ],
)
def test_what_is_not_linear_in_each_channel_is_refused(preprocess, bounds, sentence):
    with pytest.raises(ValueError, match=sentence):
        PixelScaling(preprocess, bounds)
