import numpy as np
import pytest

from visualization import (
    auc,
    cascading_randomization,
    compare_with_random,
    compute_saliency_maps,
    deletion_curve,
    grad_cam,
    insertion_curve,
    predict_scores,
    preprocess_image,
)
from visualization.backend import keras

from .models import make, shared


def corner_model():
    """Sees class 0 exactly in the light of the upper left corner."""
    kernel = np.zeros((16, 16, 1))
    kernel[:4, :4] = 3
    model = keras.Sequential(
        [keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.layers[-1].set_weights(
        [np.stack([kernel.ravel(), 0 * kernel.ravel()], 1), np.array([-5.0, 0.0])]
    )
    image = np.zeros((1, 16, 16, 1), np.float32)
    image[:, :4, :4] = 1
    truth = image[..., 0].astype(float)
    return model, image, truth


def test_a_map_that_tells_the_truth_deletes_fast_and_inserts_fast():
    model, image, truth = corner_model()
    for curve, better in ((deletion_curve, np.less), (insertion_curve, np.greater)):
        right, wrong = (auc(curve(image, 0, model, m, steps=16))[0] for m in (truth, -truth))
        assert better(right, wrong)


def test_curves_start_and_end_at_the_whole_and_the_blurred_image(squeezenet, grace_hopper):
    X = preprocess_image(grace_hopper)[None]
    maps = compute_saliency_maps(X, 457, squeezenet)
    deletion = deletion_curve(X, 457, squeezenet, maps, steps=4)
    insertion = insertion_curve(X, 457, squeezenet, maps, steps=4)
    assert deletion.shape == (1, 5)
    assert 0.73 < deletion[0, 0] < 0.75
    assert deletion[0, 0] == pytest.approx(insertion[0, -1], rel=1e-3)
    assert deletion[0, -1] == pytest.approx(insertion[0, 0], abs=1e-3)
    np.testing.assert_allclose(
        deletion, deletion_curve(X, 457, squeezenet, maps, steps=4, batch_size=2), atol=1e-4
    )


def test_the_area_is_the_trapezoids():
    assert auc(np.array([1.0, 1.0, 1.0])) == 1
    np.testing.assert_allclose(auc(np.array([[1.0, 0.0], [0.5, 0.5]])), [0.5, 0.5])


def test_a_method_is_compared_with_random_maps():
    model, image, truth = corner_model()
    found = compare_with_random(image, 0, model, {"truth": truth, "lie": -truth}, steps=16)
    assert list(found) == ["truth", "lie", "random"]
    assert found["truth"].beats(found["random"])
    assert not found["lie"].beats(found["random"])


def test_the_comparison_is_the_mean_of_the_curves():
    model, X, y = shared("nested in another")
    maps = np.random.default_rng(0).random(X.shape[:3])
    found = compare_with_random(X, y, model, {"some": maps}, steps=3)["some"]
    for curve, mean in ((deletion_curve, found.deletion), (insertion_curve, found.insertion)):
        np.testing.assert_allclose(mean, curve(X, y, model, maps, steps=3).mean(axis=0))


def test_images_are_blurred_one_at_a_time_and_once_for_all_methods(monkeypatch):
    from visualization import faithfulness

    model, X, y = shared("nested in another")
    maps, shapes = np.ones(X.shape[:3]), []
    blur = faithfulness.blur_image
    monkeypatch.setattr(
        faithfulness, "blur_image", lambda X, sigma: shapes.append(X.shape) or blur(X, sigma)
    )
    compare_with_random(X, y, model, {"one": maps, "two": maps}, steps=2)
    assert shapes == [(1, *X.shape[1:])] * 3
    deletion_curve(X, y, model, maps, steps=2)
    insertion_curve(X, y, model, maps, steps=2)
    assert shapes == [(1, *X.shape[1:])] * 9


@pytest.mark.slow
def test_saliency_and_grad_cam_beat_random_on_the_validation_images(squeezenet, imagenet):
    X = preprocess_image(imagenet[0][:8])
    y = predict_scores(squeezenet, X).argmax(axis=1)
    maps = {
        method.__name__: method(X, y, squeezenet) for method in (compute_saliency_maps, grad_cam)
    }
    found = compare_with_random(X, y, squeezenet, maps, steps=10)
    for name in maps:
        assert found[name].beats(found["random"]), found


def test_randomising_goes_from_the_last_layer_to_the_first_and_is_undone():
    model, X, y = make("MobileNetV2")
    weights = [variable.numpy() for variable in model.weights]
    correlations = cascading_randomization(X[:1], y[:1], model, compute_saliency_maps)
    names = list(correlations)
    assert "predictions" in names[0]
    assert "Conv1" in names[-1] or "bn_Conv1" in names[-1]
    assert all(-1 <= value <= 1 for value in correlations.values())
    assert list(correlations.values())[-1] < 0.9
    for before, variable in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, variable)


def test_a_layer_once_randomised_stays_so_until_all_are():
    model, X, y = make("nested in another")
    seen = []
    method = lambda X, y, model: seen.append(model.get_weights()) or X.mean(axis=-1)  # noqa: E731
    layers = list(cascading_randomization(X, y, model, method))
    assert [name.split("/")[-1] for name in layers][1:] == ["last", "first"]
    original, *later = seen
    changed = [[bool((a != b).any()) for a, b in zip(original, now, strict=True)] for now in later]
    first, last, head = 2 * [True], 2 * [True], 2 * [True]
    kept = 2 * [False]
    assert changed == [kept + kept + head, kept + last + head, first + last + head]


def test_a_map_that_does_not_look_at_the_model_stays_the_same():
    model, X, y = make("nested in another")
    correlations = cascading_randomization(X, y, model, lambda X, y, model: X.mean(axis=-1))
    assert list(correlations.values()) == pytest.approx([1] * len(correlations))


def test_weights_come_back_when_the_method_fails():
    model, X, y = make("nested in another")
    before, calls = model.get_weights(), []

    def fails_later(X, y, model):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("enough")
        return X.mean(axis=-1)

    with pytest.raises(RuntimeError, match="enough"):
        cascading_randomization(X, y, model, fails_later)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("maps", "steps", "batch_size", "sentence"),
    [
        (np.zeros((1, 4, 4)), 5, 25, r"maps have shape \(1, 4, 4\), expected \(1, 16, 16\)"),
        (np.full((1, 16, 16), np.nan), 5, 25, "without NaN"),
        (np.zeros((1, 16, 16)), 0, 25, "steps is 0"),
        (np.zeros((1, 16, 16)), 5, 0, "^batch_size is 0"),
    ],
)
def test_wrong_maps_and_numbers_are_refused(maps, steps, batch_size, sentence):
    model, image, _ = corner_model()
    with pytest.raises(ValueError, match=sentence):
        deletion_curve(image, 0, model, maps, steps=steps, batch_size=batch_size)
