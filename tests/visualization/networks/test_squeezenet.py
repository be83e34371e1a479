import numpy as np
import pytest

from visualization import SqueezeNet, class_names, preprocess_image
from visualization.backend import keras
from visualization.files.bundle import BUNDLE, IMAGENET
from visualization.networks.squeezenet import Fire
from visualization.weight_files.architectures import SQUEEZENET


def test_the_architecture_has_the_published_size_and_names(squeezenet):
    assert squeezenet.count_params() == 1_235_496
    assert squeezenet.input_shape == (None, 224, 224, 3)
    assert squeezenet.output_shape == (None, 1000)
    with_weights = [layer.name for layer in squeezenet.layers if layer.weights]
    assert with_weights == ["conv1", *(f"fire{n}" for n in range(2, 10)), "conv10"]


def test_the_table_of_weights_is_the_architecture(squeezenet):
    assert {v.path: tuple(v.shape) for v in squeezenet.weights} == SQUEEZENET.shapes


def test_it_sees_a_bow_tie_in_grace_hopper(squeezenet, grace_hopper):
    scores = squeezenet.predict(preprocess_image(grace_hopper)[None], verbose=0)[0]
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    assert scores.argmax() == 457
    assert 0.73 <= probabilities[457] <= 0.75
    assert class_names()[np.argsort(scores)[-2]].startswith("suit")


def test_half_of_the_validation_images_are_right_at_first_guess(squeezenet, imagenet):
    X, y = imagenet
    ranked = np.argsort(-squeezenet.predict(preprocess_image(X), verbose=0), axis=1)
    assert np.mean(ranked[:, 0] == y) == 0.52
    assert np.mean([label in five for label, five in zip(y, ranked[:, :5], strict=True)]) == 0.80


def test_scores_are_never_negative(squeezenet):
    noise = np.random.default_rng(0).normal(size=(2, 224, 224, 3))
    assert squeezenet.predict(noise, verbose=0).min() >= 0


def test_without_top_it_gives_the_features_of_any_image_size(squeezenet, grace_hopper):
    features = SqueezeNet(include_top=False)
    x = preprocess_image(grace_hopper)[None]
    inside = keras.Model(squeezenet.inputs, squeezenet.get_layer("fire9").output)
    np.testing.assert_allclose(
        features.predict(x, verbose=0), inside.predict(x, verbose=0), atol=1e-4
    )
    assert features(x[:, :100, :131]).shape == (1, 5, 7, 512)


def test_it_survives_saving_as_keras_do(tmp_path, squeezenet, grace_hopper):
    x = preprocess_image(grace_hopper)[None]
    squeezenet.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(restored.get_layer("fire2"), Fire)
    np.testing.assert_allclose(restored(x), squeezenet(x), atol=1e-5)


def test_the_bundle_is_a_weight_file_that_keras_itself_loads(squeezenet):
    model = SqueezeNet(weights=None)
    model.load_weights(BUNDLE / IMAGENET)
    for ours, theirs in zip(squeezenet.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_computes_under_a_mixed_precision_policy(grace_hopper, squeezenet):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = SqueezeNet()
    finally:
        keras.config.set_dtype_policy("float32")
    scores = model.predict(preprocess_image(grace_hopper)[None], verbose=0)
    assert scores.dtype == np.float32
    assert scores.argmax() == 457


def test_building_needs_no_trace_of_the_modules_and_knows_their_shapes(monkeypatch):
    built = SqueezeNet(weights=None, include_top=False)
    shape = built(np.zeros((1, 64, 50, 3), np.float32)).shape
    assert built.compute_output_shape((1, 64, 50, 3)) == tuple(shape)
    monkeypatch.setattr(Fire, "call", lambda self, inputs: pytest.fail("traced"))
    assert SqueezeNet(weights=None).get_layer("fire9").output.shape == (None, 13, 13, 512)
