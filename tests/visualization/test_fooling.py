import gc
import io
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visualization import (
    make_fooling_image,
    make_fooling_images,
    predict_probabilities,
    predict_scores,
    preprocess_image,
)
from visualization.backend import keras, tf

from .models import recording, smooth_network

ROOT = Path(__file__).resolve().parent.parent.parent
STINGRAY = 6


def by_hand(X, target, model, learning_rate=1.0, max_iterations=100):
    """The course's loop in eager TensorFlow: the image and how often it was changed."""
    X = tf.constant(X)
    for iteration in range(max_iterations):
        with tf.GradientTape() as tape:
            tape.watch(X)
            scores = model(X)
            score = scores[0, target]
        if tf.argmax(scores[0]) == target:
            return X.numpy(), iteration
        gradient = tape.gradient(score, X)
        X += learning_rate * gradient / tf.norm(gradient)
    return X.numpy(), max_iterations


def test_it_is_the_courses_algorithm(squeezenet, grace_hopper):
    X = preprocess_image(grace_hopper)[None]
    expected, _ = by_hand(X, STINGRAY, squeezenet)
    np.testing.assert_allclose(make_fooling_image(X, STINGRAY, squeezenet), expected, atol=2e-3)


def test_the_first_validation_image_takes_about_fifteen_updates_and_then_stays(
    squeezenet, imagenet
):
    """The course's count; the last digits differ between processors, and they decide the last step."""
    X = preprocess_image(imagenet[0][:1])

    def after(updates):
        return make_fooling_image(X, STINGRAY, squeezenet, max_iterations=updates)

    needed = 1
    while predict_scores(squeezenet, after(needed)).argmax() != STINGRAY:
        needed += 1
    assert 14 <= needed <= 16
    np.testing.assert_array_equal(after(needed), after(100))


def test_each_step_has_the_length_of_the_learning_rate(squeezenet, grace_hopper):
    X = preprocess_image(grace_hopper)[None]
    step = make_fooling_image(X, STINGRAY, squeezenet, learning_rate=0.25, max_iterations=1) - X
    assert np.linalg.norm(step) == pytest.approx(0.25, rel=1e-3)


def test_arrays_in_give_arrays_out_and_tensors_tensors(squeezenet, grace_hopper):
    X = preprocess_image(grace_hopper)[None]
    before = X.copy()
    assert isinstance(make_fooling_image(X, 457, squeezenet), np.ndarray)
    assert tf.is_tensor(make_fooling_image(tf.constant(X), 457, squeezenet))
    for given in (X, tf.constant(X)):
        assert make_fooling_image(given, 457, squeezenet).dtype == np.float32
    for given in (np.float64(X), tf.constant(X, tf.float64)):
        assert make_fooling_image(given, 457, squeezenet).dtype == np.float64
    np.testing.assert_array_equal(X, before)


def test_all_25_validation_images_fool_after_they_are_saved(squeezenet, imagenet):
    images = imagenet[0]
    result = make_fooling_images(images, STINGRAY, squeezenet)
    assert result.success.all()
    seen = squeezenet.predict(preprocess_image(result.images), verbose=0).argmax(axis=1)
    assert (seen == STINGRAY).all()
    np.testing.assert_array_equal(result.predicted_after, seen)
    change = result.images.astype(int) - images
    np.testing.assert_array_equal(result.linf, np.abs(change).max(axis=(1, 2, 3)))
    np.testing.assert_allclose(result.l2, np.sqrt((change**2).sum(axis=(1, 2, 3))))
    assert len(set(result.iterations)) > 3  # they stop one by one


def batch_and_singles(model, images, steps):
    """Raises AssertionError unless a batch gives what its images give one by one."""
    targets = np.array([STINGRAY, 76, 604])
    together = make_fooling_images(images, targets, model, max_iterations=steps)
    for i in range(3):
        alone = make_fooling_images(images[i : i + 1], targets[i], model, max_iterations=steps)
        assert alone.iterations[0] == together.iterations[i]
        assert np.abs(alone.images[0].astype(int) - together.images[i]).max() <= 1


def test_the_first_steps_of_a_batch_are_those_of_its_images(squeezenet, imagenet):
    """oneDNN rounds its sums differently for each batch size, and each step enlarges the difference."""
    batch_and_singles(squeezenet, imagenet[0][:3], steps=2)


@pytest.mark.usefixtures("imagenet")
def test_without_onednn_a_batch_gives_what_single_images_give():
    program = (
        "from tests.visualization.test_fooling import batch_and_singles\n"
        "from visualization import SqueezeNet, load_imagenet_val\n"
        "batch_and_singles(SqueezeNet(), load_imagenet_val(3)[0], steps=20)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_neither_the_batch_nor_its_size_changes_how_many_steps_an_image_takes(squeezenet, imagenet):
    images, targets = imagenet[0][:3], np.array([STINGRAY, 76, 604])
    together, in_two, alone = (
        make_fooling_images(images, targets, squeezenet, batch_size=size).iterations
        for size in (3, 2, 1)
    )
    np.testing.assert_array_equal(together, in_two)
    np.testing.assert_array_equal(together, alone)


def test_an_image_that_is_the_target_already_stays_as_it_is(squeezenet, grace_hopper):
    result = make_fooling_images(grace_hopper[None], 457, squeezenet)
    assert result.success[0]
    assert result.already[0]
    assert result.iterations[0] == 0
    np.testing.assert_array_equal(result.images[0], grace_hopper)


def test_giving_up_is_no_success(squeezenet, grace_hopper):
    result = make_fooling_images(grace_hopper[None], STINGRAY, squeezenet, max_iterations=1)
    assert not result.success[0]
    assert result.iterations[0] == 1
    assert result.predicted_after[0] != STINGRAY


def test_the_trace_holds_the_targets_score_at_each_step(squeezenet, grace_hopper):
    result = make_fooling_images(grace_hopper[None], STINGRAY, squeezenet)
    scores = squeezenet(preprocess_image(grace_hopper)[None]).numpy()
    assert result.trace.shape == (1, result.iterations[0] + 1)
    assert result.trace[0, 0] == pytest.approx(scores[0, STINGRAY], rel=1e-4)
    assert result.trace[0, -1] > result.trace[0, 0]


def network_with_dead_scores(live=1):
    """Scores of three classes of which all but `live` are cut off by the last ReLU."""
    kernel = np.zeros((4 * 4 * 3, 3), np.float32)
    kernel[:, live] = 0.1
    kernel[0, :] = [0.5, kernel[0, live], -0.5]
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="relu"),
        ]
    )
    model.layers[-1].set_weights([kernel, np.array([-0.2, 0.0, 0.2], np.float32)])
    return model


def test_a_target_without_gradient_is_reached_by_lowering_the_highest_score():
    model = network_with_dead_scores()
    X = np.full((1, 4, 4, 3), 0.3, np.float32)
    scores = model(X).numpy()[0]
    assert scores[0] == 0
    assert scores.argmax() == 1
    fooling = make_fooling_image(X, 0, model, learning_rate=0.3)
    assert np.isfinite(fooling).all()
    assert model(fooling).numpy()[0, 1] < scores[1]
    assert model(fooling).numpy().argmax() == 0


def test_where_nothing_has_a_gradient_the_image_stays_as_it_is():
    model = network_with_dead_scores()
    model.layers[-1].set_weights([np.zeros((48, 3)), np.array([0.0, 1.0, 0.0])])
    X = np.full((1, 4, 4, 3), 0.3, np.float32)
    np.testing.assert_array_equal(make_fooling_image(X, 0, model), X)


def test_a_black_image_has_classes_without_gradient_and_fools_without_nan(squeezenet):
    black = np.zeros((1, 224, 224, 3), np.uint8)
    scores = squeezenet(preprocess_image(black)).numpy()[0]
    dead = np.flatnonzero(scores == 0)
    assert len(dead) > 0
    fooling = make_fooling_image(preprocess_image(black), dead[0], squeezenet, max_iterations=3)
    assert np.isfinite(fooling).all()


def test_a_deleted_model_is_freed(grace_hopper):
    model = network_with_dead_scores()
    make_fooling_image(np.full((1, 4, 4, 3), 0.3, np.float32), 0, model, max_iterations=2)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"X": np.zeros((224, 224, 3), np.float32)}, ValueError, r"shape \(224, 224, 3\)"),
        ({"X": np.zeros((2, 224, 224, 3), np.float32)}, ValueError, "contains 2 images"),
        ({"X": np.zeros((1, 99, 99, 3), np.float32)}, ValueError, r"takes \(None, 224, 224, 3\)"),
        ({"X": np.zeros((1, 224, 224, 3), np.uint8)}, ValueError, "preprocess them first"),
        ({"X": np.full((1, 224, 224, 3), np.nan, np.float32)}, ValueError, "NaN"),
        ({"target_y": 1000}, ValueError, "no class 1000"),
        ({"target_y": -1}, ValueError, "no class -1"),
        ({"target_y": 6.0}, TypeError, "float64"),
        ({"target_y": [6, 7]}, ValueError, r"shape \(2,\)"),
        ({"learning_rate": -1.0}, ValueError, r"learning_rate is -1\.0"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate is nan"),
        ({"max_iterations": 0}, ValueError, "max_iterations is 0"),
        ({"max_iterations": 2**31}, ValueError, "max_iterations is 2147483648"),
        ({"learning_rate": 1e300}, ValueError, r"learning_rate is 1e\+300"),
    ],
)
def test_wrong_input_is_refused(change, kind, sentence, squeezenet):
    arguments = {"X": np.zeros((1, 224, 224, 3), np.float32), "target_y": 6, "model": squeezenet}
    with pytest.raises(kind, match=sentence):
        make_fooling_image(**arguments | change)


def test_a_model_without_scores_is_refused(squeezenet):
    model = keras.Model(squeezenet.inputs, squeezenet.get_layer("fire9").output)
    with pytest.raises(ValueError, match=r"^the output of model .* expected scores of shape"):
        make_fooling_image(np.zeros((1, 224, 224, 3), np.float32), 6, model)


def test_without_a_target_any_other_class_will_do(squeezenet, imagenet):
    images = imagenet[0][:5]
    result = make_fooling_images(images, None, squeezenet)
    assert result.success.all()
    assert not result.already.any()
    assert (result.predicted_after != result.predicted_before).all()
    np.testing.assert_array_equal(result.targets, result.predicted_before)


def test_the_smallest_change_still_fools_and_is_smaller(squeezenet, imagenet):
    images = imagenet[0][:4]
    usual = make_fooling_images(images, STINGRAY, squeezenet)
    least = make_fooling_images(images, STINGRAY, squeezenet, minimal=True)
    assert least.success.all()
    assert (least.l2 <= usual.l2).all()
    assert least.l2.sum() < usual.l2.sum()
    np.testing.assert_array_equal(
        predict_scores(squeezenet, preprocess_image(least.images)).argmax(axis=1), STINGRAY
    )


@pytest.mark.parametrize(("way", "quality"), [("jpeg", 75), ("resize", 85)])
def test_images_fool_after_what_pillow_does_to_them(way, quality, squeezenet, imagenet):
    images = imagenet[0][:3]
    settings = {"survives": (way,), "quality": quality, "learning_rate": 6}
    result = make_fooling_images(images, STINGRAY, squeezenet, **settings)
    assert result.success.all()
    for image, probabilities in zip(result.images, result.probabilities_after, strict=True):
        picture = Image.fromarray(image)
        if way == "jpeg":
            picture.save(buffer := io.BytesIO(), "JPEG", quality=quality)
            picture = Image.open(buffer)
        else:
            picture = picture.resize((112, 112), Image.Resampling.BILINEAR)
            picture = picture.resize((224, 224), Image.Resampling.BILINEAR)
        seen = predict_probabilities(squeezenet, preprocess_image(np.asarray(picture)[None]))
        assert seen.argmax() == STINGRAY
        np.testing.assert_allclose(probabilities, seen[0], atol=1e-4)


def test_what_only_survives_as_png_is_no_success_as_jpeg(squeezenet, imagenet):
    images = imagenet[0][:2]
    usual = make_fooling_images(images, STINGRAY, squeezenet).images
    again = make_fooling_images(
        usual, STINGRAY, squeezenet, survives=("png", "jpeg"), max_iterations=1
    )
    assert not again.already.any()
    assert (again.probabilities_before.argmax(axis=1) != STINGRAY).all()  # of the way that fails


def test_models_that_read_blue_first_are_fooled_through_jpeg():
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D()])
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    result = make_fooling_images(
        images,
        0,  # blue
        model,
        preprocess=lambda pixels: pixels[..., ::-1] / 255,
        survives=("png", "jpeg", "resize"),
        minimal=True,
    )
    assert result.success.all()
    assert (result.images.mean(axis=(1, 2)).argmax(axis=1) == 2).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"survives": ("gif",)}, r"survives is \('gif',\), expected one or more of 'png', 'jpeg'"),
        ({"survives": ()}, r"survives is \(\)"),
        ({"survives": ("jpeg",), "quality": 60}, "quality is 60, expected a whole number from 75"),
        ({"survives": ("jpeg",), "images": np.zeros((1, 8, 8, 1), np.uint8)}, "1 channels"),
    ],
)
def test_ways_to_survive_are_checked(settings, sentence):
    channels = settings.get("images", np.zeros((1, 8, 8, 3))).shape[3]
    model = keras.Sequential([keras.Input((8, 8, channels)), keras.layers.Flatten()])
    images = settings.pop("images", np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=sentence):
        make_fooling_images(images, 1, model, preprocess=lambda pixels: pixels / 255, **settings)


def network_of_brightness():
    """Class 1 is what is brighter than the middle; takes pixels of 0 to 1."""
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    kernel = np.stack([np.zeros(192), np.full(192, 1 / 192)], axis=1)
    model.layers[-1].set_weights([kernel, np.array([0.5, 0.0])])
    return model


def test_the_smallest_change_is_the_smallest_to_the_level():
    images = np.full((2, 8, 8, 3), 100, np.uint8)
    images[1] = 120
    settings = {"learning_rate": 1000, "preprocess": lambda pixels: pixels / 255}
    usual = make_fooling_images(images, 1, network_of_brightness(), **settings)
    np.testing.assert_array_equal(usual.linf, [155, 135])  # one step to white
    least = make_fooling_images(images, 1, network_of_brightness(), minimal=True, **settings)
    assert least.success.all()
    np.testing.assert_array_equal(least.images[:, 0, 0, 0], 128)
    np.testing.assert_array_equal(least.linf, [28, 8])


def test_a_network_in_float64_is_fooled_as_any_other():
    model = smooth_network()
    image = np.random.default_rng(0).integers(0, 256, (1, 6, 5, 3), dtype=np.uint8)
    target = int(np.argmin(predict_scores(model, preprocess_image(image))))
    result = make_fooling_images(image, target, model, learning_rate=0.1)
    assert result.success.all()
    assert not result.already.any()


def test_images_leave_the_batch_as_they_fool():
    model, batches, _ = recording()
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    result = make_fooling_images(
        images, 1, model, learning_rate=0.2, preprocess=lambda pixels: pixels / 255
    )
    assert result.success.all()
    steps = result.iterations
    assert len(set(steps)) > 2
    left = [int((steps >= t).sum()) for t in range(steps.max() + 1)]
    assert batches == [1, *left]  # the first image says how many classes there are
    for trace, taken in zip(result.trace, steps, strict=True):
        assert np.isfinite(trace[: taken + 1]).all()
        assert np.isnan(trace[taken + 1 :]).all()


def averages_of_channels(noting):
    """A network whose classes are the channels of the images that `noting` passes on."""
    image = keras.Input((8, 8, 3))
    noted = keras.layers.Lambda(noting)(image)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(noted))


def test_no_gradient_is_asked_for_when_no_image_goes_on():
    passes = []

    @tf.custom_gradient
    def noting(X):
        def back(gradient):
            tf.py_function(lambda: passes.append(1), [], [])
            return gradient

        return X, back

    model = averages_of_channels(noting)
    images = np.full((1, 8, 8, 3), 100, np.uint8)
    images[..., 0] = 101
    settings = {"preprocess": lambda pixels: pixels / 255, "learning_rate": 1e-3}
    for steps in (3, 1):
        passes.clear()
        make_fooling_images(images, 1, model, max_iterations=steps, **settings)
        assert len(passes) == steps
    passes.clear()
    assert make_fooling_images(images, 0, model, **settings).already.all()
    assert not passes


def test_the_courses_loop_looks_once_at_each_step():
    looks = []

    def noting(X):
        tf.py_function(lambda: looks.append(1), [], [])
        return X

    model = averages_of_channels(noting)
    red = np.float32(8 * [8 * [[0.9, 0.1, 0.1]]])[None]
    make_fooling_image(red, 1, model, learning_rate=1e-3, max_iterations=3)
    assert len(looks) == 3


@pytest.mark.parametrize("inner", ["LSTM", "condition"])
def test_a_pass_back_with_loops_and_conditions_is_left_out_as_any_other(inner):
    class Condition(keras.layers.Layer):
        def call(self, x):
            return tf.cond(tf.reduce_mean(x) > 0, lambda: tf.sin(x), lambda: x)

    keras.utils.set_random_seed(0)
    flat = keras.layers.Reshape((8, 24)), keras.layers.LSTM(4)
    layers = flat if inner == "LSTM" else (Condition(), keras.layers.Flatten())
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Dense(3)])
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    images[3] //= 4
    settings = {"preprocess": lambda pixels: pixels / 255, "learning_rate": 0.2}
    target = int(predict_scores(model, np.float32(images) / 255)[0].argmin())
    together = make_fooling_images(images, target, model, **settings)
    assert together.success.all()
    assert len(set(together.iterations)) > 1
    for image, alone in zip(images, together.images, strict=True):
        np.testing.assert_array_equal(
            make_fooling_images(image[None], target, model, **settings).images[0], alone
        )
    assert make_fooling_images(together.images, target, model, **settings).already.all()


def test_models_with_other_preprocessing_are_fooled_as_they_are_saved():
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D()])
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    caffe = np.array([103.939, 116.779, 123.68])
    for preprocess, bounds in (
        (lambda pixels: pixels[..., ::-1] - caffe, (0, 255)),  # blue first
        (lambda pixels: pixels * 2 - 1, (0, 1)),
    ):
        model_input = preprocess(images / 255 * bounds[1]).astype(np.float32)
        seen = predict_scores(model, model_input).argmax(axis=1)
        targets = (seen + 1) % 3  # the classes are the channels, the brightest wins
        found = make_fooling_images(images, targets, model, preprocess=preprocess, bounds=bounds)
        assert found.success.all()
        again = preprocess(found.images / 255 * bounds[1]).astype(np.float32)
        np.testing.assert_array_equal(predict_scores(model, again).argmax(axis=1), targets)


@pytest.mark.slow
def test_a_random_target_for_each_validation_image(squeezenet, imagenet):
    targets = np.random.default_rng(0).integers(0, 1000, 25)
    assert make_fooling_images(imagenet[0], targets, squeezenet).success.sum() >= 24
