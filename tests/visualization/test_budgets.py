import numpy as np
import pytest

from visualization import (
    fooling_distances,
    predict_scores,
    preprocess_image,
    projected_gradient_ascent,
    smallest_fooling_images,
)
from visualization.backend import keras, tf
from visualization.budgets import _whole_in_ball

STINGRAY = 6


def linear_network(seed=0):
    """Two classes, a plane between them; takes pixels of 0 to 1."""
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    normal = np.random.default_rng(seed).normal(size=192)
    model.layers[-1].set_weights([np.stack([normal, -normal], axis=1), np.zeros(2)])
    return model, normal


SETTINGS = {"preprocess": lambda pixels: pixels / 255}


def test_the_whole_change_is_the_best_of_its_length():
    change = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype(np.float32)
    epsilon = np.array([3.0, 9.0], np.float32)
    whole = _whole_in_ball(tf.constant(change), epsilon[:, None, None, None]).numpy()
    for one, direction, most in zip(whole, change, epsilon, strict=True):
        np.testing.assert_array_equal(one, one.round())
        assert most - 1 < np.linalg.norm(one) <= most
        # what a unit more gains for what it costs, the best first, as long as it fits
        left, best = most**2, np.zeros_like(direction)
        while True:
            gain = np.abs(direction) / (2 * np.abs(best) + 1)
            place = np.unravel_index(gain.argmax(), gain.shape)
            cost = 2 * abs(best[place]) + 1
            if cost > left:
                break
            best[place] += np.sign(direction[place])
            left -= cost
        assert (one * direction).sum() >= 0.9 * (best * direction).sum()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_smallest_change_of_a_linear_network_is_the_distance_to_its_plane(norm):
    model, normal = linear_network()
    images = np.random.default_rng(1).integers(60, 200, (3, 8, 8, 3), dtype=np.uint8)
    found = smallest_fooling_images(images, None, model, norm=norm, **SETTINGS)
    assert found.success.all()
    distance = np.abs(images.reshape(3, -1) @ normal)
    if norm == "linf":
        exact = np.ceil(distance / np.abs(normal).sum())
        np.testing.assert_array_equal(found.linf, np.maximum(exact, 1))
    else:
        exact = distance / np.linalg.norm(normal)
        assert (found.l2 >= exact).all()
        assert (found.l2 <= 1.1 * exact + 1).all()  # whole levels are not quite so near
    seen = predict_scores(model, (found.images / 255).astype(np.float32)).argmax(axis=1)
    assert (seen != found.targets).all()


@pytest.mark.parametrize(("norm", "epsilon"), [("l2", 200), ("linf", 1.9)])
def test_no_saved_change_is_above_its_budget(norm, epsilon, squeezenet, imagenet):
    images = imagenet[0][:2]
    settings = {"norm": norm, "epsilon": epsilon, "steps": 10, "starts": 2}
    found = projected_gradient_ascent(images, STINGRAY, squeezenet, **settings)
    assert found.success.any()
    assert (getattr(found, norm) <= epsilon).all()
    seen = predict_scores(squeezenet, preprocess_image(found.images)).argmax(axis=1)
    np.testing.assert_array_equal(seen == STINGRAY, found.success)
    assert not found.already.any()


def test_other_starts_are_random_and_a_seed_repeats_them():
    """A bump in the middle of a plain: from the image itself, no gradient leads to it."""
    flat = keras.Sequential(
        [
            keras.Input((2, 2, 3)),
            keras.layers.Flatten(),
            keras.layers.Lambda(lambda x: tf.stack([0 * x[:, 0], tf.nn.relu(x[:, 1] - 103)], 1)),
        ]
    )
    images = np.full((2, 2, 2, 3), 100, np.uint8)
    settings = {"norm": "linf", "epsilon": 6, "steps": 2, "preprocess": lambda pixels: pixels}
    assert not projected_gradient_ascent(images, 1, flat, **settings).success.any()
    found = [
        projected_gradient_ascent(images, 1, flat, starts=30, seed=seed, **settings)
        for seed in (0, 0, 1)
    ]
    assert found[0].success.all()
    assert (found[0].iterations > 0).all()
    np.testing.assert_array_equal(found[0].images, found[1].images)
    assert (found[0].images != found[2].images).any()


def test_a_network_that_nothing_changes_is_infinitely_far_from_an_error():
    model, _ = linear_network()
    model.layers[-1].set_weights([np.zeros((192, 2)), np.array([1.0, 0.0])])
    images = np.full((1, 8, 8, 3), 9, np.uint8)
    assert fooling_distances(images, 0, model, steps=2, **SETTINGS).tolist() == [np.inf]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"norm": "l1"}, "norm is 'l1', expected one of 'l2', 'linf'"),
        ({"epsilon": 0}, "epsilon is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"starts": 0}, "starts is 0"),
        ({"targets": 2}, "no class 2"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    arguments = {"targets": 1, "model": linear_network()[0], "epsilon": 9, **SETTINGS}
    with pytest.raises(ValueError, match=sentence):
        projected_gradient_ascent(np.zeros((1, 8, 8, 3), np.uint8), **arguments | settings)
