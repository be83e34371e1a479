import numpy as np
import pytest

from tfcap.data.features import ENCODER, encoder, image_features, read_images
from visualization import SqueezeNet, load_image, preprocess_image


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)


def test_the_features_are_the_mean_of_fire9(images):
    grid = SqueezeNet(include_top=False)(preprocess_image(images)).numpy()
    features = image_features(images, batch_size=2)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, grid.mean(axis=(1, 2)), rtol=1e-4, atol=1e-4)
    positions = image_features(images, grid=True, batch_size=2)
    assert positions.dtype == np.float16
    np.testing.assert_allclose(positions, grid, rtol=2e-3, atol=2e-3)


def test_the_encoder_takes_what_preprocess_image_gives_and_has_a_layer_for_the_grid(images):
    model = encoder()
    assert model.name == ENCODER
    assert model.get_layer("fire9").output.shape[1:] == (13, 13, 512)
    expected = image_features(images)
    np.testing.assert_allclose(
        model(preprocess_image(images)).numpy(), expected, rtol=1e-4, atol=1e-4
    )


def test_no_images_have_no_features():
    assert image_features(np.empty((0, 224, 224, 3), np.uint8)).shape == (0, 512)


@pytest.mark.parametrize(
    "wrong", [np.zeros((224, 224, 3), np.uint8), np.zeros((1, 224, 224, 3), np.float32)]
)
def test_other_than_pixels_of_the_right_size_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 224, 224, 3\)"):
        image_features(wrong)


def test_images_come_in_order_with_an_exception_for_each_that_cannot_be_read(tmp_path, paths):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    found = list(read_images([paths[0], str(broken), paths[1], str(tmp_path / "none.jpg")]))
    assert (found[0] == load_image(paths[0], 224)).all()
    assert isinstance(found[1], ValueError)
    assert (found[2] == load_image(paths[1], 224)).all()
    assert isinstance(found[3], FileNotFoundError)
