import numpy as np
import pytest
from PIL import Image

from tfcap.data.features import (
    ENCODERS,
    encoder_model,
    encoder_named,
    image_features,
    random_views,
    read_images,
)
from visualization import EfficientNetLite2, SqueezeNet, load_image, preprocess_image

SQUEEZENET = encoder_named("squeezenet")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)


def test_the_features_are_the_mean_of_fire9_and_its_cells_row_by_row(images):
    grid = SqueezeNet(include_top=False)(preprocess_image(images)).numpy()
    features = image_features(images, batch_size=2)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, grid.mean(axis=(1, 2)), rtol=1e-4, atol=1e-4)
    positions = image_features(images, grid=True, batch_size=2)
    assert positions.dtype == np.float16
    np.testing.assert_allclose(positions, grid, rtol=2e-3, atol=2e-3)
    cells = image_features(images[:2], "squeezenet_cells")
    np.testing.assert_array_equal(cells, positions[:2].reshape(2, 169, 512))


def test_lite2s_features_are_those_before_its_classifier_and_its_cells_those_before_its_head():
    image = np.random.default_rng(0).integers(0, 256, (1, 260, 260, 3), dtype=np.uint8)
    network = EfficientNetLite2()
    x = network.get_layer("stem")(image.astype(np.float32) / 128 - 127 / 128)
    for number in range(1, 22):
        x = network.get_layer(f"block{number}")(x)
    cells = image_features(image, "efficientnet_lite2_cells")
    np.testing.assert_allclose(cells.reshape(1, 9, 9, 352), x, rtol=1e-2, atol=1e-2)
    pooled = network.get_layer("head")(x).numpy().mean(axis=(1, 2))
    features = image_features(image, "efficientnet_lite2")
    np.testing.assert_allclose(features, pooled, rtol=1e-4, atol=1e-4)


def test_an_encoder_model_takes_what_preprocess_image_gives(images):
    model = encoder_model()
    assert model.name == "squeezenet"
    expected = image_features(images)
    np.testing.assert_allclose(
        model(preprocess_image(images)).numpy(), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", ENCODERS)
def test_what_an_encoder_says_of_its_features_is_so(name):
    encoder = encoder_named(name)
    features = image_features(np.zeros((1, encoder.size, encoder.size, 3), np.uint8), name)
    assert features.shape[1:] == encoder.shape == encoder_model(name).output_shape[1:]
    assert features.dtype == encoder.dtype


def test_squeezenet_sees_the_central_square_and_lite2_the_whole_image(tmp_path):
    halves = np.zeros((40, 120, 3), np.uint8)
    halves[:, 100:] = 255
    assert not SQUEEZENET.fit(halves).any()
    assert encoder_named("efficientnet_lite2").fit(halves).mean() == pytest.approx(255 / 6, abs=2)
    Image.fromarray(halves).save(tmp_path / "halves.png")
    np.testing.assert_array_equal(SQUEEZENET.fit(halves), load_image(tmp_path / "halves.png", 224))


def test_an_unknown_encoder_is_refused():
    with pytest.raises(
        ValueError, match="features of resnet cannot be computed here, only those of"
    ):
        encoder_named("resnet")


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
    sources = [paths[0], str(broken), paths[1], str(tmp_path / "none.jpg")]
    found = list(read_images(sources, SQUEEZENET))
    assert (found[0] == load_image(paths[0], 224)).all()
    assert isinstance(found[1], ValueError)
    assert (found[2] == load_image(paths[1], 224)).all()
    assert isinstance(found[3], FileNotFoundError)
    assert (next(read_images(sources, SQUEEZENET, first=2)) == found[2]).all()


def test_views_follow_the_image_and_depend_on_the_seed_and_the_place_alone(paths):
    def read(**options):
        return list(read_images(paths[:3], SQUEEZENET, views=2, **options))

    whole = read()
    assert [images.shape for images in whole] == 3 * [(3, 224, 224, 3)]
    assert (whole[1][0] == load_image(paths[1], 224)).all()
    assert (read(first=2)[0] == whole[2]).all()
    assert (read(seed=1)[2][1:] != whole[2][1:]).any()


def test_a_view_shows_at_least_half_of_the_image_and_half_of_them_are_mirrored():
    ramp = np.zeros((60, 80, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, 80).round()  # falls to the right where it is mirrored
    ramp[..., 1] = np.linspace(0, 255, 60).round()[:, np.newaxis]
    views = random_views(ramp, 400, 16, np.random.default_rng(0)).astype(float)
    width = np.abs(views[:, 8, -1, 0] - views[:, 8, 0, 0]) / 255 * 16 / 15
    height = (views[:, -1, 8, 1] - views[:, 0, 8, 1]) / 255 * 16 / 15
    assert (width * height).min() > 0.44
    assert (width * height).max() > 0.9
    mirrored = (views[:, 8, 0, 0] > views[:, 8, -1, 0]).mean()
    assert 0.4 < mirrored < 0.6
