import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from visualization.backend import tf
from visualization.images.jpeg import encode_jpeg, jpeg
from visualization.images.round_trips import after_round_trip, through_round_trip


def by_pillow(pixels, quality):
    return np.stack([np.asarray(Image.open(io.BytesIO(encode_jpeg(i, quality)))) for i in pixels])


@pytest.mark.parametrize("quality", [75, 85, 95, 30])
def test_it_is_pillows_within_a_few_levels(quality, grace_hopper):
    for pixels in (grace_hopper[None], grace_hopper[None, :101, 50:139]):  # also parts of blocks
        ours = jpeg(tf.constant(pixels, tf.float32), quality).numpy()
        pillows = by_pillow(pixels, quality).astype(float)
        difference = np.abs(ours - pillows)
        loss = np.abs(pillows - pixels).mean()
        assert difference.mean() < 0.25 * loss
        assert difference.mean() < 0.6
        assert (difference <= 2).mean() > 0.95
        assert difference.max() <= 40


def test_the_file_has_the_tables_of_the_quality_and_halved_colours(grace_hopper):
    written = Image.open(io.BytesIO(encode_jpeg(grace_hopper, 75)))
    assert JpegImagePlugin.get_sampling(written) == 2  # 4:2:0
    assert written.quantization[0][:3] == [8, 6, 5]


def test_its_gradient_is_that_of_the_linear_parts():
    """Grey that changes slowly loses nothing but the rounding, so its gradient passes as it is."""
    rng = np.random.default_rng(0)
    grey = tf.constant(100 + 20 * rng.random((1, 16, 16, 1)) * np.ones(3), tf.float32)
    weights = tf.constant(rng.normal(size=(1, 16, 16, 1)) * np.ones(3), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(grey)
        value = tf.reduce_sum(weights * jpeg(grey, 95))
    gradient = tape.gradient(value, grey).numpy()
    np.testing.assert_allclose(gradient.sum(axis=3), weights.numpy().sum(axis=3), atol=1e-4)


@pytest.mark.parametrize("way", ["jpeg", "resize"])
def test_a_round_trip_gives_pillows_pixels_and_a_gradient(way, grace_hopper):
    pixels = tf.constant(grace_hopper[None, :99, :75], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        read = through_round_trip(pixels, way, 80)
    expected = after_round_trip(grace_hopper[None, :99, :75], way, 80)
    np.testing.assert_array_equal(read, expected)
    gradient = tape.gradient(read, pixels, output_gradients=tf.ones_like(read)).numpy()
    assert gradient.sum() == pytest.approx(gradient.size, rel=0.02)
