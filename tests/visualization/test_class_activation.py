import numpy as np
import pytest

from visualization import grad_cam, preprocess_image
from visualization.backend import keras, tf

from .models import make, shared


def cam_by_hand(model, layer, X, label, weighting="grad-cam"):
    """The papers' equations on a model cut at a layer."""
    cut = keras.Model(model.inputs, [model.get_layer(layer).output, model.outputs[0]])
    with tf.GradientTape() as tape:
        activations, scores = cut(X)
        score = scores[:, label]
    weights = tape.gradient(score, activations)
    if weighting == "grad-cam":
        weights = tf.reduce_mean(weights, axis=(1, 2), keepdims=True)
    elif weighting == "layercam":
        weights = tf.maximum(weights, 0)
    cam = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1, keepdims=True))
    return tf.image.resize(cam, X.shape[1:3])[..., 0].numpy()


@pytest.mark.parametrize("layer", ["conv10", "fire9", "fire5"])
def test_grad_cam_is_the_papers(layer, squeezenet, grace_hopper):
    X = preprocess_image(grace_hopper)[None]
    expected = cam_by_hand(squeezenet, layer, X, 457)
    np.testing.assert_allclose(
        grad_cam(X, 457, squeezenet, layer=layer), expected, atol=1e-4 * expected.max()
    )
    if layer == "conv10":
        np.testing.assert_array_equal(
            grad_cam(X, 457, squeezenet), grad_cam(X, 457, squeezenet, layer=layer)
        )


@pytest.mark.parametrize("layer", ["conv10", "fire5"])
@pytest.mark.parametrize("weighting", ["hirescam", "layercam"])
def test_the_other_weightings_are_those_of_their_papers(layer, weighting, squeezenet, grace_hopper):
    X = preprocess_image(grace_hopper)[None]
    expected = cam_by_hand(squeezenet, layer, X, 457, weighting)
    maps = grad_cam(X, 457, squeezenet, layer=layer, weighting=weighting)
    np.testing.assert_allclose(maps, expected, atol=1e-4 * expected.max())
    plain = grad_cam(X, 457, squeezenet, layer=layer)
    if layer == "conv10" and weighting == "hirescam":  # under an average all gradients are equal
        np.testing.assert_allclose(maps, plain, atol=1e-4 * plain.max())
    if layer == "fire5":
        assert np.abs(maps / maps.max() - plain / plain.max()).max() > 0.1


def test_a_weighting_that_does_not_exist_is_told():
    model, X, y = shared("nested in another")
    with pytest.raises(ValueError, match="weighting is 'mean', expected one of grad-cam, hirescam"):
        grad_cam(X, y, model, weighting="mean")


def test_grad_cam_is_never_negative_and_leaves_the_model_as_it_was(squeezenet, grace_hopper):
    model, X, y = shared("nested in another")
    calls = [layer.call.__func__ for layer in model._flatten_layers()]
    assert grad_cam(X, y, model).min() >= 0
    assert [layer.call.__func__ for layer in model._flatten_layers()] == calls


def gated():
    """Squeeze and excitation, whose gate is the convolution that is computed last."""
    image = keras.Input((12, 12, 3))
    features = keras.layers.Conv2D(6, 3, name="features")(image)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(features)
    gate = keras.layers.Conv2D(6, 1, activation="sigmoid", name="gate")(pooled)
    scaled = keras.layers.Multiply()([features, gate])
    scores = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(scaled))
    return keras.Model(image, scores)


class WithAuxiliaryBranch(keras.Model):
    """Its last convolution has no part in the scores."""

    def __init__(self):
        super().__init__(name="branching")
        self.features = keras.layers.Conv2D(4, 3, name="features")
        self.auxiliary = keras.layers.Conv2D(2, 3, name="auxiliary")
        self.pool, self.head = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)

    def call(self, images):
        features = self.features(images)
        self.auxiliary(features)
        return self.head(self.pool(features))


@pytest.mark.parametrize("build", [gated, WithAuxiliaryBranch])
def test_grad_cam_takes_the_last_convolution_with_places_that_the_score_depends_on(build):
    model, X = build(), np.random.default_rng(0).random((2, 12, 12, 3), np.float32)
    maps = grad_cam(X, [0, 1], model)
    assert np.ptp(maps) > 0
    np.testing.assert_array_equal(maps, grad_cam(X, [0, 1], model, layer="features"))


def test_a_layer_without_part_in_the_scores_and_a_gate_alone_are_told():
    X = np.ones((1, 12, 12, 3), np.float32)
    with pytest.raises(ValueError, match=r"of model 'branching' depend on no layer 'auxiliary'"):
        grad_cam(X, 0, WithAuxiliaryBranch(), layer="auxiliary")
    layers = [keras.layers.AveragePooling2D(12), keras.layers.Conv2D(4, 1), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((12, 12, 3)), *layers])
    with pytest.raises(
        ValueError, match=r"depend on no convolution or layer of tokens of more than"
    ):
        grad_cam(X, 0, model)


def test_grad_cam_leaves_a_layers_own_call_in_place():
    model, X, y = make("nested in another")
    layer, before = model.layers[1].layers[1], grad_cam(X, y, model)
    calls, call = [], layer.call
    layer.call = lambda *given, **named: calls.append(1) or call(*given, **named)
    own = layer.call
    maps = grad_cam(X, y, model, layer=layer.name)
    assert calls
    assert layer.call is own
    assert maps.shape == before.shape


def test_grad_cam_finds_the_tie(squeezenet, grace_hopper):
    cam = grad_cam(preprocess_image(grace_hopper)[None], 457, squeezenet)[0]
    row, column = np.unravel_index(cam.argmax(), cam.shape)
    assert 130 <= row <= 180
    assert 70 <= column <= 140


def test_a_model_without_convolution_and_a_layer_that_is_not_there_are_told():
    layers = [keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    X = np.ones((1, 4, 4, 3), np.float32)
    with pytest.raises(ValueError, match=r"^model '.*' computes no convolution"):
        grad_cam(X, 0, model)
    nested, X, y = shared("nested in another")
    with pytest.raises(ValueError, match=r"^model 'nested' computes no layer 'nowhere'"):
        grad_cam(X, y, nested, layer="nowhere")


def test_grad_cam_reads_the_cells_of_a_convolution_with_channels_first():
    settings = {"padding": "same", "name": "features"}
    last = keras.Sequential(
        [
            keras.Input((10, 7, 3)),
            keras.layers.Conv2D(4, 3, **settings),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    first = keras.Sequential(
        [
            keras.Input((3, 10, 7)),
            keras.layers.Conv2D(4, 3, data_format="channels_first", **settings),
            keras.layers.GlobalAveragePooling2D(data_format="channels_first"),
        ]
    )
    first.set_weights(last.get_weights())
    X = np.random.default_rng(0).random((2, 10, 7, 3), np.float32)
    expected = grad_cam(X, 1, last)
    np.testing.assert_allclose(grad_cam(np.moveaxis(X, 3, 1), 1, first), expected, atol=1e-5)
