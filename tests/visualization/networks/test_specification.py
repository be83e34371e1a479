import numpy as np
import pytest
from PIL import Image

from visualization import NetworkSpecification, network_specification, preprocess_image
from visualization.backend import tf
from visualization.networks import NETWORKS


def test_the_bundled_networks_have_the_preprocessing_that_they_were_trained_with():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    squeezenet = network_specification("squeezenet")
    np.testing.assert_array_equal(squeezenet.to_input(pixels), preprocess_image(pixels))
    pixels = np.arange(256, dtype=np.uint8)[:, None]  # (256, 1)
    lite2 = network_specification("efficientnet-lite2")
    expected = (np.arange(256) - 127) / 128
    for form in (pixels, pixels.astype(np.float32), tf.constant(pixels)):
        np.testing.assert_array_equal(np.asarray(lite2.preprocess(form))[:, 0], expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_photographs_of_any_shape_are_resized_and_cropped_to_the_network(network):
    specification = network_specification(network)
    height, width = specification.size
    photograph = np.zeros((1, 300, 900, 3), np.uint8)
    photograph[:, :, 350:550] = 255  # the middle
    X = specification.to_input(photograph)
    assert X.shape == (1, height, width, 3)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(specification.scaling().to_pixels(X)[0, :, width // 2], 255)
    square = Image.fromarray(photograph[0, :, 300:600]).resize((width, height), Image.BICUBIC)
    np.testing.assert_array_equal(specification.scaling().to_pixels(X)[0], square)


def test_images_of_its_size_are_not_touched():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    bgr = NetworkSpecification((5, 4), lambda x: x[..., ::-1] - 100, (0, 255), ["a", "b"])
    np.testing.assert_array_equal(bgr.to_input(pixels), pixels[..., ::-1] - np.float32(100))


def test_another_network_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="no network 'vgg16': give one of squeezenet, efficien"):
        network_specification("vgg16")
