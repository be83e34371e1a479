import numpy as np

from visualization import SQUEEZENET_MEAN, SQUEEZENET_STD, deprocess_image, preprocess_image
from visualization.backend import tf


def test_preprocessing_is_the_courses():
    pixels = np.array([[[0, 128, 255]]], dtype=np.uint8)
    expected = (pixels / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    preprocessed = preprocess_image(pixels)
    assert preprocessed.dtype == np.float32
    np.testing.assert_allclose(preprocessed, expected, atol=1e-6)
    assert SQUEEZENET_MEAN.dtype == SQUEEZENET_STD.dtype == np.float32


def test_tensors_are_processed_to_tensors_of_the_same_values():
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
