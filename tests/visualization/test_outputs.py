"""What a model's outputs are taken for, and the numbers that follow from it."""

import json

import numpy as np
import pytest

from visualization import (
    compute_saliency_maps,
    create_class_visualization,
    deletion_curve,
    forget,
    grad_cam,
    image_gradients,
    integrated_gradients,
    make_fooling_image,
    make_fooling_images,
    predict_probabilities,
)
from visualization import fool as fool_command
from visualization import saliency as saliency_command
from visualization.backend import keras, tf
from visualization.gradients import predict

X = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
OWN = {"preprocess": lambda pixels: pixels / 255}


def head(*layers):
    """A model of one dense layer with known weights, and the layers that follow."""
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), *layers])


def mean_of_two(activation):
    image = keras.Input((4, 4, 3))
    flat = keras.layers.Flatten()(image)
    two = [keras.layers.Dense(3, activation)(flat) for _ in range(2)]
    return keras.Model(image, keras.layers.Average()(two))


class Mapped(keras.Model):
    """Sees one image at a time."""

    def __init__(self):
        super().__init__()
        self.flat, self.head = keras.layers.Flatten(), keras.layers.Dense(3, "softmax")

    def call(self, images):
        return tf.map_fn(lambda image: self.head(self.flat(image[None]))[0], images)


def gated():
    """A sigmoid of features, as in squeeze-and-excitation, is no sigmoid of classes."""
    image = keras.Input((4, 4, 3))
    gate = keras.layers.Dense(3, "sigmoid")(keras.layers.GlobalAveragePooling2D()(image))
    scaled = keras.layers.Multiply()([image, keras.layers.Reshape((1, 1, 3))(gate)])
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(scaled))


dense, clip = keras.layers.Dense, lambda p: keras.ops.clip(p, 1e-7, 1)
HEADS = {
    "softmax": ("softmax", lambda: head(dense(3, "softmax"))),
    "softmax, reshaped": ("softmax", lambda: head(dense(3, "softmax"), keras.layers.Reshape([3]))),
    "softmax, clipped": ("softmax", lambda: head(dense(3, "softmax"), keras.layers.Lambda(clip))),
    "softmax, smoothed": (
        "probabilities",
        lambda: head(dense(4, "softmax"), keras.layers.Rescaling(0.9, 0.025)),
    ),
    "mean of softmaxes": ("probabilities", lambda: mean_of_two("softmax")),
    "softmax in a loop": ("probabilities", Mapped),
    "sigmoid": ("sigmoid", lambda: head(dense(1, "sigmoid"))),
    "labels": ("sigmoid", lambda: head(dense(3, "sigmoid"))),
    "mean of sigmoids": ("values", lambda: mean_of_two("sigmoid")),
    "percent": ("values", lambda: head(dense(1, "sigmoid"), keras.layers.Rescaling(100))),
    "regression": ("values", lambda: head(dense(1))),
}


@pytest.mark.parametrize("kind_of_head", HEADS)
def test_the_numbers_shown_are_the_models_outputs(kind_of_head):
    kind, make = HEADS[kind_of_head]
    model = make()
    outputs = model(X, training=False).numpy()
    assert predict(model, X).kind == kind
    np.testing.assert_allclose(predict_probabilities(model, X), outputs, rtol=1e-5, atol=1e-6)
    curve = deletion_curve(X, 0, model, X[..., 0], steps=1)
    np.testing.assert_allclose(curve[:, 0], outputs[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [lambda: head(dense(3)), gated])
def test_linear_outputs_are_logits_of_a_softmax(make):
    model = make()
    expected = tf.nn.softmax(model(X)).numpy()
    np.testing.assert_allclose(predict_probabilities(model, X), expected, rtol=1e-5)


def test_a_saturated_sigmoid_has_the_gradient_of_its_logit():
    model = head(dense(1, "sigmoid"))
    model.layers[-1].bias.assign([90.0])
    gradients, scores = image_gradients(X, 0, model)
    kernel = model.layers[-1].kernel.numpy().reshape(4, 4, 3)
    np.testing.assert_allclose(gradients, np.stack(3 * [kernel]), rtol=1e-5)
    assert scores.min() > 50
    assert compute_saliency_maps(X, 0, model).max() > 0


@pytest.mark.parametrize("count", [1, 3])
def test_fooling_a_sigmoid_brings_the_target_above_one_half(count):
    model = head(dense(count, "sigmoid"))
    bias = [-0.2 - predict(model, PIXELS / 255).scores[:, 0].max(), 9, 9]
    model.layers[-1].bias.assign(bias[:count])
    found = make_fooling_images(PIXELS, 0, model, max_iterations=40, **OWN)
    assert not found.already.any()
    assert found.success.all()
    assert (found.probabilities_before[:, 0] < 0.5).all()
    assert (found.probabilities_after[:, 0] > 0.5).all()
    image = make_fooling_image(PIXELS[:1] / 255, 0, model)
    assert model(image).numpy()[0, 0] > 0.5


def test_a_regression_has_no_class_to_reach():
    for fool in (
        lambda model: make_fooling_images(PIXELS, 0, model, **OWN),
        lambda model: make_fooling_image(X[:1], 0, model),
    ):
        with pytest.raises(ValueError, match=r"gives one value for an image.* no class to reach"):
            fool(head(dense(1)))
    with pytest.raises(
        ValueError, match="no class 6: the model has one output, which counts as class 0"
    ):
        make_fooling_image(X[:1], 6, head(dense(1)))


MODEL = """
import keras
def build():
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
    layers.append(keras.layers.Dense(1, {activation!r}, kernel_initializer="zeros"))
    layers[-1].bias_initializer = keras.initializers.Constant({bias})
    return keras.Sequential(layers), lambda pixels: pixels / 255, (0, 255), [{name!r}]
"""


def test_the_commands_show_a_regressions_value_and_a_sigmoids_probability(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "age.py").write_text(MODEL.format(activation="linear", bias=34.25, name="age"))
    (tmp_path / "dog.py").write_text(MODEL.format(activation="sigmoid", bias=-3, name="dog"))
    one = ["--method", "saliency", "--model"]
    assert saliency_command.main([*one, "age.py:build"]) == 0
    assert "age (0) at 34.25" in capsys.readouterr().out
    record = json.loads((tmp_path / "out/grace_hopper-saliency.json").read_text())
    assert record["value"] == 34.25
    assert "probability" not in record
    assert saliency_command.main([*one, "dog.py:build"]) == 0
    assert "dog (0) at 4.7%" in capsys.readouterr().out

    few = ["--target", "0", "--max-iter", "2", "--model"]
    assert fool_command.main([*few, "dog.py:build"]) == 1  # its weights are zero
    assert "already" not in capsys.readouterr().out
    assert fool_command.main([*few, "age.py:build"]) == 2
    assert "no class to reach" in capsys.readouterr().err


class ItsOwnFunction(keras.Model):
    """Its `call` is a `tf.function`, and ends in a softmax."""

    def __init__(self):
        super().__init__(name="function")
        self.features = keras.layers.Conv2D(4, 2, name="features")
        self.flat, self.head = keras.layers.Flatten(), keras.layers.Dense(3)

    @tf.function
    def call(self, images):
        return tf.nn.softmax(self.head(self.flat(self.features(images))))


@pytest.fixture
def run_eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_a_model_whose_call_is_a_function_is_as_one_without():
    model = ItsOwnFunction()
    probabilities = model(X).numpy()
    plain = keras.Sequential([keras.Input((4, 4, 3)), model.features, model.flat, model.head])
    np.testing.assert_allclose(predict(model, X).scores, plain(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predict_probabilities(model, X), probabilities, rtol=1e-4)
    for method in (compute_saliency_maps, grad_cam):
        np.testing.assert_allclose(method(X, 1, model), method(X, 1, plain), rtol=1e-3, atol=1e-6)
    assert not tf.config.functions_run_eagerly()


def test_a_function_that_needs_autograph_and_one_that_was_loaded(tmp_path):
    class Branches(ItsOwnFunction):
        @tf.function
        def call(self, images):
            if tf.reduce_sum(images) > 1e9:
                images = images / 2
            return tf.nn.softmax(self.head(self.flat(self.features(images))))

    model = Branches()
    np.testing.assert_allclose(predict_probabilities(model, X), model(X), rtol=1e-4)
    with pytest.raises(ValueError, match=r"layer of tokens, or only inside a loop or a function"):
        grad_cam(X, 0, model)

    signature = tf.TensorSpec((None, 4, 4, 3), tf.float32)
    serve = tf.function(lambda images: {"scores": model(images)}, input_signature=[signature])
    holder = tf.Module()
    holder.model, holder.serve = model, serve
    tf.saved_model.save(holder, str(tmp_path), signatures=serve)
    image = keras.Input((4, 4, 3))
    layer = keras.layers.TFSMLayer(str(tmp_path), call_endpoint="serving_default")
    loaded = keras.Model(image, layer(image)["scores"])
    np.testing.assert_allclose(predict_probabilities(loaded, X), model(X), rtol=1e-4)
    assert compute_saliency_maps(X, 0, loaded).max() > 0


def test_everything_works_while_functions_run_eagerly_to_debug(run_eagerly):
    model = ItsOwnFunction()
    np.testing.assert_allclose(predict_probabilities(model, X), model(X), rtol=1e-4)
    assert (
        grad_cam(X, 0, model).shape == integrated_gradients(X, 0, model).maps.shape == X.shape[:3]
    )
    assert make_fooling_images(PIXELS, 0, model, max_iterations=2, **OWN).images.shape == (
        2,
        4,
        4,
        3,
    )
    assert make_fooling_image(X[:1], 0, model).shape == (1, 4, 4, 3)
    assert create_class_visualization(
        0, model, num_iterations=2, image_shape=(4, 4, 3), **OWN
    ).any()
    assert tf.config.functions_run_eagerly()


CUT = {
    "rounding": tf.round,
    "NumPy": lambda x: tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), x.shape),
    "integers": lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32),
}


@pytest.mark.parametrize("cut", CUT)
def test_a_gradient_that_is_cut_off_is_told(cut):
    layers = [keras.layers.Lambda(CUT[cut], output_shape=(4, 4, 3)), keras.layers.Conv2D(2, 2)]
    layers = [keras.Input((4, 4, 3)), *layers, keras.layers.Flatten()]
    model = keras.Sequential(layers, name="cut")
    for method in (
        lambda: compute_saliency_maps(X, 0, model),
        lambda: make_fooling_images(PIXELS, 0, model, **OWN),
    ):
        with pytest.raises(ValueError, match=r"^no gradient of model 'cut' reaches the image"):
            method()
    assert grad_cam(X, 0, model).shape == X.shape[:3]  # which needs none of the image


def test_what_was_exchanged_is_seen_after_forgetting():
    model = head(dense(3))
    linear = predict_probabilities(model, X)
    model.layers[-1].activation = keras.activations.sigmoid
    np.testing.assert_array_equal(predict_probabilities(model, X), linear)
    forget(model)
    np.testing.assert_allclose(predict_probabilities(model, X), model(X), rtol=1e-5)
