from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from visualization import (
    compute_saliency_maps,
    deletion_curve,
    grad_cam,
    image_gradients,
    integrated_gradients,
    predict_scores,
    preprocess_image,
    smoothed,
)
from visualization.backend import keras

from .models import STYLES, make, shared


def linear_model(weights):
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.layers[-1].set_weights([np.stack([weights.ravel(), -weights.ravel()], 1), np.zeros(2)])
    return model


def test_integrated_gradients_of_a_linear_model_are_weight_times_input():
    random = np.random.default_rng(0)
    weights, X = random.normal(size=(4, 4, 3)), random.normal(size=(2, 4, 4, 3)).astype("float32")
    for steps in (1, 7):
        result = integrated_gradients(X, [0, 1], linear_model(weights), steps=steps)
        expected = (X * weights).sum(axis=-1) * np.array([1, -1])[:, None, None]
        np.testing.assert_allclose(result.maps, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result.convergence_delta, 0, atol=1e-4)


def test_the_completeness_gap_closes_with_more_steps(squeezenet, grace_hopper):
    X = preprocess_image(grace_hopper)[None]
    few = integrated_gradients(X, 457, squeezenet, steps=3)
    many = integrated_gradients(X, 457, squeezenet, steps=60)
    assert abs(many.convergence_delta[0]) < abs(few.convergence_delta[0])
    rise = (predict_scores(squeezenet, X) - predict_scores(squeezenet, np.zeros_like(X)))[0, 457]
    assert many.maps.sum() - many.convergence_delta[0] == pytest.approx(rise, rel=1e-3)
    assert abs(many.convergence_delta[0]) < 0.05 * rise


def test_the_baseline_has_no_attribution_to_itself():
    model, X, y = shared("nested in another")
    result = integrated_gradients(X, y, model, baseline=X, steps=4)
    np.testing.assert_array_equal(result.maps, 0)
    np.testing.assert_array_equal(result.convergence_delta, 0)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("method", [compute_saliency_maps, integrated_gradients, grad_cam])
def test_every_method_works_on_every_style_and_in_chunks(method, style):
    model, X, y = shared(style)
    many, few = (method(X, y, model, batch_size=size) for size in (25, 2))
    if method is integrated_gradients:
        many, few = many.maps, few.maps
    assert many.shape == X.shape[:3]
    assert np.abs(many).max() > 0
    np.testing.assert_allclose(many, few, atol=1e-3 * np.abs(many).max())  # of sums that cancel


def test_threads_get_the_maps_of_one_thread():
    model, X, y = make("nested in another")
    jobs = [
        lambda model: grad_cam(X, y, model),
        lambda model: compute_saliency_maps(X, y, model),
        lambda model: grad_cam(X, y, model, layer="first"),
        lambda model: grad_cam(X, y, model, layer="last"),
    ]
    expected = [job(model) for job in jobs]
    for _ in range(3):
        twin = keras.models.clone_model(model)
        twin.set_weights(model.get_weights())
        with ThreadPoolExecutor(len(jobs)) as pool:
            together = [pool.submit(job, twin) for job in jobs]
        for found, right in zip(together, expected, strict=True):
            np.testing.assert_allclose(found.result(), right, atol=1e-4 * right.max())


def test_smoothing_without_noise_changes_nothing():
    model, X, y = shared("nested in another")
    plain = compute_saliency_maps(X, y, model)
    smooth = smoothed(compute_saliency_maps, samples=3, noise=0)(X, y, model)
    np.testing.assert_allclose(smooth, plain, atol=1e-6 * plain.max())


def test_smoothed_saliency_is_the_largest_channel_of_the_mean():
    model, X, y = shared("nested in another")
    seen = []

    def kept(X, y, model, batch_size):
        seen.append(X)
        return compute_saliency_maps(X, y, model)

    mean_of_largest = smoothed(kept, samples=8, seed=1)(X[:1], y[:1], model)[0]
    gradients, _ = image_gradients(np.concatenate(seen), np.repeat(y[:1], 8), model)
    expected = np.abs(gradients).mean(axis=0).max(axis=-1)
    smooth = smoothed(compute_saliency_maps, samples=8, seed=1)(X[:1], y[:1], model)[0]
    np.testing.assert_allclose(smooth, expected, rtol=1e-3, atol=1e-5 * expected.max())
    assert (smooth <= mean_of_largest * 1.001).all()
    assert smooth.mean() < 0.99 * mean_of_largest.mean()


def test_smoothing_is_the_mean_over_noise_of_the_images_own_range():
    seen = []

    def spread(X, y, model, batch_size):
        seen.append(X)
        return X.mean(axis=-1)

    model, X, y = make("sequential that starts with Rescaling")
    X[1] *= 0.1
    smooth = smoothed(spread, samples=400, noise=0.2, seed=3)(X, y, model, batch_size=64)
    for n in range(3):
        noisy = np.concatenate(seen[7 * n : 7 * n + 7])
        assert noisy.shape == (400, 16, 16, 3)
        assert (noisy - X[n]).std() == pytest.approx(0.2 * np.ptp(X[n]), rel=0.02)
        np.testing.assert_allclose(smooth[n], noisy.mean(axis=(0, -1)), rtol=1e-4)


def test_a_method_of_ones_own_needs_not_take_a_batch_size():
    model, X, y = shared("nested in another")
    smooth = smoothed(lambda X, y, model: X.mean(axis=-1), samples=3, noise=0)
    np.testing.assert_allclose(smooth(X, y, model, batch_size=2), X.mean(axis=-1), rtol=1e-5)
    sizes = smoothed(lambda X, *_, **given: np.full(X.shape[:3], given["batch_size"]), samples=3)
    np.testing.assert_array_equal(sizes(X, y, model, batch_size=2), 2)


@pytest.mark.parametrize("method", [compute_saliency_maps, integrated_gradients, grad_cam])
def test_smoothing_any_method_is_repeatable_and_follows_its_seed(method):
    model, X, y = shared("nested in another")
    first = smoothed(method, samples=5, seed=1)(X, y, model)
    np.testing.assert_array_equal(first, smoothed(method, samples=5, seed=1)(X, y, model))
    assert not np.array_equal(first, smoothed(method, samples=5, seed=2)(X, y, model))
    alone = smoothed(method, samples=5, seed=1)(X[1:2], y[1:2], model, batch_size=2)
    np.testing.assert_allclose(alone[0], first[1], atol=1e-4 * np.abs(first).max())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda *a: smoothed(compute_saliency_maps, samples=0)(*a), "samples is 0"),
        (lambda *a: smoothed(compute_saliency_maps, noise=-1)(*a), "noise is -1"),
        (lambda *a: integrated_gradients(*a, steps=0), "steps is 0"),
        (lambda *a: integrated_gradients(*a, batch_size=0), "^batch_size is 0, expected"),
        (lambda *a: smoothed(grad_cam)(*a, batch_size=0), "^batch_size is 0, expected"),
        (lambda *a: integrated_gradients(*a, baseline=np.zeros(7)), "baseline has shape"),
    ],
)
def test_wrong_settings_are_refused(call, sentence):
    model, X, y = shared("nested in another")
    with pytest.raises(ValueError, match=sentence):
        call(X, y, model)


def test_images_with_channels_first_get_maps_of_their_height_and_width():
    last = keras.Sequential(
        [keras.Input((10, 7, 3)), *(keras.layers.Conv2D(4, 3, name=name) for name in "ab")]
    )
    first = keras.Sequential(
        [
            keras.Input((3, 10, 7)),
            keras.layers.Permute((2, 3, 1)),
            *last.layers,
        ]
    )
    pool = keras.layers.GlobalAveragePooling2D()
    last.add(pool)
    first.add(pool)
    X = np.random.default_rng(0).random((2, 10, 7, 3), np.float32)
    moved = np.moveaxis(X, 3, 1)

    def deletion(X, y, model):
        return deletion_curve(X, y, model, saliency, steps=3)

    saliency = compute_saliency_maps(X, 1, last)
    for method in (
        compute_saliency_maps,
        lambda *given: integrated_gradients(*given, steps=3).maps,
        grad_cam,
        smoothed(compute_saliency_maps, samples=3, noise=0),
        deletion,
    ):
        expected = method(X, 1, last)
        np.testing.assert_allclose(method(moved, 1, first), expected, rtol=1e-3, atol=1e-5)
    assert saliency.shape == (2, 10, 7)
