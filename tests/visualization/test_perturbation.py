import numpy as np
import pytest

from visualization import occlusion, predict_probabilities, rise
from visualization.backend import tf
from visualization.perturbation import _enlarging

from .models import shared


def green_at(row, column):
    """A function of images without any model: the green of one pixel, and minus that."""

    def score(images):
        green = images[:, row, column, 1]
        return np.stack([green, -green], axis=1)

    return score


def test_occlusion_is_the_mean_fall_over_the_squares_that_cover_a_pixel():
    model, X, y = shared("nested in another")
    total, count = np.zeros(X.shape[:3]), np.zeros((16, 16))
    whole = predict_probabilities(model, X)
    for top in (0, 4, 8, 11):
        for left in (0, 4, 8, 11):
            hidden = X.copy()
            hidden[:, top : top + 5, left : left + 5] = 0.5
            fall = (whole - predict_probabilities(model, hidden))[np.arange(3), y]
            total[:, top : top + 5, left : left + 5] += fall[:, None, None]
            count[top : top + 5, left : left + 5] += 1
    for size in (25, 7):
        maps = occlusion(X, y, model, window=5, stride=4, baseline=0.5, batch_size=size)
        np.testing.assert_allclose(maps, total / count, atol=1e-6)


def test_rise_is_the_mean_of_the_masks_weighted_by_the_score():
    seen = []

    def score(images):
        seen.append(images[..., 0])
        return np.cos(7 * images[:, 3, 2] + images[:, 8, 9])

    X = np.ones((1, 12, 10, 3))
    maps = rise(X, 1, score, masks=60, kept=0.3, seed=4, batch_size=25)
    masks = np.concatenate(seen)[1:]  # the first call asked how many classes there are
    assert masks.shape == (60, 12, 10)
    assert masks.min() >= 0
    assert masks.max() <= 1
    expected = sum(np.cos(7 * mask[3, 2] + mask[8, 9]) * mask for mask in masks) / (0.3 * 60)
    np.testing.assert_allclose(maps[0], expected, rtol=1e-9)
    np.testing.assert_allclose(rise(X, 0, score, masks=60, kept=0.3, seed=4, batch_size=60), maps)
    assert not np.allclose(rise(X, 0, score, masks=60, kept=0.3, seed=5), maps)


def test_masks_are_grids_enlarged_and_cut_out_at_random():
    grid = np.random.default_rng(0).random((1, 7, 7)).round()
    whole = tf.image.resize(grid[..., None], (64, 64))[0, ..., 0]
    places = np.array([[0.25, 0.75]])  # of the 8 pixels that the mask is larger
    rows, columns = (_enlarging(places[:, axis], 7, 56) for axis in (0, 1))
    mask = (rows @ grid @ columns.transpose(0, 2, 1))[0]
    np.testing.assert_allclose(mask, whole[2:58, 6:62], atol=1e-6)


def test_a_mask_keeps_its_share_of_the_image():
    seen = []
    rise(np.ones((1, 28, 28, 1)), 0, lambda X: seen.append(X) or X[:, 0, 0, 0], masks=500, kept=0.3)
    assert np.concatenate(seen)[1:].mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("method", [occlusion, lambda *given: rise(*given, masks=1500)])
def test_the_pixel_that_a_function_looks_at_stands_out(method):
    X = np.random.default_rng(1).random((2, 20, 20, 3), np.float32) + 0.5
    maps = method(X, [0, 1], green_at(5, 12))
    assert maps.dtype == np.float32
    row, column = np.unravel_index(maps[0].argmax(), (20, 20))
    assert abs(row - 5) <= 2
    assert abs(column - 12) <= 2
    assert maps[1, 5, 12] < np.quantile(maps[1], 0.05)  # it speaks against the other class


def test_a_keras_model_and_a_function_that_calls_it_have_the_same_maps():
    model, X, y = shared("nested in another")
    moved = np.moveaxis(X, 3, 1)
    for method, settings in ((occlusion, {"window": 4}), (rise, {"masks": 30})):
        maps = method(X, y, model, **settings)
        same = method(X, y, lambda images: predict_probabilities(model, images), **settings)
        np.testing.assert_allclose(same, maps, atol=1e-6)
        by_channel = lambda images: predict_probabilities(model, np.moveaxis(images, 1, 3))  # noqa: E731
        np.testing.assert_allclose(method(moved, y, by_channel, **settings), maps, atol=1e-6)


def test_a_function_of_the_outputs_can_be_watched():
    model, X, _ = shared("nested in another")
    margin = lambda outputs: outputs[:, 0] - outputs[:, 1]  # noqa: E731
    maps = occlusion(X, margin, model, window=4)
    by_hand = occlusion(X, 0, lambda images: margin(model(images).numpy()), window=4)
    np.testing.assert_allclose(maps, by_hand, atol=1e-5)
    np.testing.assert_allclose(
        occlusion(X, margin, lambda images: model(images).numpy(), window=4), maps, atol=1e-5
    )


def test_progress_is_told_after_each_batch():
    told = []
    X = np.ones((2, 8, 8, 1))
    settings = {"batch_size": 25, "on_progress": lambda *given: told.append(given)}
    rise(X, 0, lambda images: images[:, 0, 0], masks=60, **settings)
    occlusion(X, 0, lambda images: images[:, 0, 0], window=2, stride=1, **settings)
    assert told == [(25, 60), (50, 60), (60, 60), (25, 49), (49, 49)]


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda X, f: occlusion(X, 0, f, window=9), ValueError, "window is 9, expected at most"),
        (lambda X, f: occlusion(X, 0, f, stride=0), ValueError, "stride is 0"),
        (lambda X, f: occlusion(X, 2, f), ValueError, "there is no class 2"),
        (lambda X, f: occlusion(X, 0, "SqueezeNet"), TypeError, "type str, expected a Keras"),
        (lambda X, f: rise(X, 0, f, kept=1), ValueError, "kept is 1, expected a probability"),
        (lambda X, f: rise(X, 0, f, masks=0), ValueError, "masks is 0"),
        (lambda X, f: rise(X, 0, f, baseline=np.ones(7)), ValueError, "baseline has shape"),
        (
            lambda X, f: rise(X[0], 0, f),
            ValueError,
            r"float64 \(8, 8, 3\), expected floating point",
        ),
        (lambda X, f: rise(X * np.nan, 0, f), ValueError, "contain NaN"),
        (lambda X, f: rise(X, 0, lambda X: 1), ValueError, r"returned shape \(\) for 1 images"),
        (lambda X, f: rise(X, 0, lambda X: f(X) * np.nan), ValueError, "expected finite scores"),
    ],
)
def test_wrong_arguments_are_told(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(np.ones((1, 8, 8, 3)), green_at(1, 1))
