import gc
import weakref

import numpy as np
import pytest

from tests.visualization.models import convolutions
from visualization import (
    NetworkSpecification,
    build_ensemble,
    make_fooling_images,
    network_specification,
    paint_class,
    predict_scores,
)
from visualization.backend import keras, tf
from visualization.gradients import logits_and_gradients, score_and_margin, softmax

COLOURS = ["red", "green", "blue", "grey"]


def member(size, scale, last=None):
    """A small network without kinks, in float64, and what it needs: BGR, of a range of its own."""
    keras.utils.set_random_seed(size)
    layers = [keras.Input((size, size, 3), dtype="float64"), *convolutions("tanh", "float64")]
    layers.append(keras.layers.Dense(4, dtype="float64", kernel_initializer="he_normal"))
    if last:
        layers.append(last)
    needs = NetworkSpecification(
        (size, size), lambda x: x[..., ::-1] * scale - 1, (0, 255), COLOURS
    )
    return keras.Sequential(layers), needs


@pytest.fixture(scope="module")
def small():
    members = [member(12, 1 / 128), member(10, 1 / 100)]
    return members, *build_ensemble(members)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(60, 190, (2, 12, 12, 3), dtype=np.uint8)


def test_the_score_of_a_class_is_the_sum_of_what_each_network_says_of_the_picture(small, pixels):
    members, model, specification = small
    assert specification.size == (12, 12)
    expected = sum(predict_scores(network, needs.to_input(pixels)) for network, needs in members)
    scores = predict_scores(model, specification.to_input(pixels))
    assert scores.shape == (2, 5)
    # a file is rounded to 8 bits once it is resized
    np.testing.assert_allclose(scores[:, :4], expected, atol=0.01)


def test_a_softmax_at_a_networks_end_is_looked_behind(small, pixels):
    members, plain, specification = small
    softened = [member(12, 1 / 128, keras.layers.Softmax(dtype="float64")), members[1]]
    model, _ = build_ensemble(softened)
    X = specification.to_input(pixels)
    np.testing.assert_allclose(predict_scores(model, X), predict_scores(plain, X), rtol=1e-6)
    np.testing.assert_allclose(model(X), predict_scores(plain, X), rtol=1e-6)  # also when eager


def test_the_gradient_of_the_joint_objective_is_that_of_central_differences(small, pixels):
    _, model, specification = small
    X = tf.constant(specification.to_input(pixels).astype(np.float64))
    objective = score_and_margin(tf.constant([2, 0]))
    run = tf.function(lambda images: logits_and_gradients(model, images, objective))
    scores, gradient = run(X)
    assert scores.dtype == gradient.dtype == tf.float64
    generator, step = np.random.default_rng(1), 1e-5
    for _ in range(3):
        direction = generator.standard_normal(X.shape)
        up, down = (objective(run(X + sign * step * direction)[0]) for sign in (1, -1))
        expected = np.sum(gradient * direction, axis=(1, 2, 3))
        np.testing.assert_allclose((up - down) / (2 * step), expected, rtol=1e-6)


def test_a_class_has_the_highest_score_only_if_every_network_gives_it_more_than_one_half():
    """Networks whose logits are three pixels' values, so that any logits can be tried."""
    reads = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten()])
    turned = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Flatten()])
    needs = [
        NetworkSpecification((1, 1), lambda x: x / 20, (0, 255), COLOURS[:3]),
        NetworkSpecification((1, 1), lambda x: x[..., ::-1] / 20, (0, 255), COLOURS[:3]),
    ]
    model, specification = build_ensemble([(reads, needs[0]), (turned, needs[1])])
    pixels = np.random.default_rng(0).integers(0, 256, (500, 1, 1, 3), dtype=np.uint8)
    found = predict_scores(model, specification.to_input(pixels)).argmax(axis=1)
    shares = [softmax(one.to_input(pixels)[:, 0, 0]) for one in needs]
    decided = found < 3
    assert 20 < decided.sum() < 480
    for share in shares:
        assert (share[decided, found[decided]] > 0.5).all()
    sure = (shares[0] * shares[1]).max(axis=1) > 0.501
    assert decided[sure].all()


def test_one_picture_fools_both_bundled_networks_as_each_reads_it(squeezenet, lite2, grace_hopper):
    members = [
        (squeezenet, network_specification("squeezenet")),
        (lite2, network_specification("efficientnet-lite2")),
    ]
    model, specification = build_ensemble(members)
    assert specification.size == (260, 260)
    picture = np.pad(grace_hopper, [(18, 18), (18, 18), (0, 0)], "reflect")
    result = make_fooling_images(picture[None], 6, model)
    assert result.success.all()
    assert result.linf.max() < 64
    for network, needs in members:
        assert softmax(predict_scores(network, needs.to_input(result.images)))[0, 6] > 0.5


def test_a_class_is_drawn_for_several_networks_at_once(small):
    _, model, _ = small
    drawn = paint_class(1, model, num_iterations=20, image_shape=(12, 12, 3))
    start = paint_class(1, model, num_iterations=1, image_shape=(12, 12, 3))
    up = predict_scores(model, drawn) - predict_scores(model, start)
    assert up[0, 1] > 0


def test_an_ensemble_is_freed_with_what_was_compiled_for_it(pixels):
    model, specification = build_ensemble([member(12, 1 / 128), member(10, 1 / 100)])
    predict_scores(model, specification.to_input(pixels))
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_networks_that_cannot_share_a_picture_are_refused(small):
    (first, second), *_ = small
    with pytest.raises(ValueError, match="an ensemble of 1 networks was asked for"):
        build_ensemble([first])
    network, needs = second
    others = NetworkSpecification(needs.size, needs.preprocess, needs.bounds, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"have 4, 3 classes, or other names for them: give"):
        build_ensemble([first, (network, others)])
    wide = NetworkSpecification((10, 20), needs.preprocess, needs.bounds, COLOURS)
    with pytest.raises(ValueError, match=r"images of \(12, 12\), \(10, 20\), .* one shape"):
        build_ensemble([first, (network, wide)])
