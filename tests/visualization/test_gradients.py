import gc
import warnings
import weakref

import numpy as np
import pytest

from visualization import (
    compute_saliency_maps,
    create_class_visualization,
    deletion_curve,
    grad_cam,
    image_gradients,
    insertion_curve,
    integrated_gradients,
    make_fooling_image,
    make_fooling_images,
    paint_class,
    predict_scores,
    preprocess_image,
    smoothed,
)
from visualization.backend import keras, tf
from visualization.compilation import compiled
from visualization.input_checks import check_labels

from .models import STYLES, Subclassed, make, recording, shared, smooth_network


def eager_gradient(model, X, y):
    """Two lines of tape; the softmax taken off by hand."""
    X = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(X)
        if isinstance(model, Subclassed):
            scores = model.logits(X)
        elif model.name == "nested":
            inside, head = model.layers[1:]
            scores = inside(X) @ head.kernel + head.bias
        else:
            scores = model(X, training=False)
        value = tf.gather(scores, y, batch_dims=1)
    return tape.gradient(value, X).numpy(), scores.numpy()


@pytest.mark.parametrize("style", STYLES)
def test_the_gradient_of_any_style_of_model_is_the_tapes(style):
    model, X, y = shared(style)
    expected, scores = eager_gradient(model, X, y)
    gradients, found = image_gradients(X, y, model)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(gradients, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("style", STYLES)
def test_batch_single_and_chunked_results_agree(style):
    model, X, y = shared(style)
    together, _ = image_gradients(X, y, model)
    for size in (1, 2):
        apart, _ = image_gradients(X, y, model, batch_size=size)
        np.testing.assert_allclose(apart, together, atol=1e-5 * np.abs(together).max())


def test_it_is_the_derivative(grace_hopper):
    model = smooth_network()
    X = np.random.default_rng(0).normal(size=(1, 6, 5, 3))
    gradients, _ = image_gradients(X, 2, model)
    assert gradients.dtype == np.float64
    numeric, step = np.zeros_like(X), 1e-5
    for index in np.ndindex(X.shape):
        for sign in (1, -1):
            moved = X.copy()
            moved[index] += sign * step
            numeric[index] += sign * predict_scores(model, moved)[0, 2] / (2 * step)
    error = np.linalg.norm(gradients - numeric)
    assert error / (np.linalg.norm(gradients) + np.linalg.norm(numeric)) < 1e-7
    maps = compute_saliency_maps(X, 2, model)
    np.testing.assert_allclose(maps, np.abs(numeric).max(axis=-1), atol=1e-9)


def test_a_nearly_certain_softmax_still_has_a_gradient():
    model, X, _ = make("subclassed that ends in a softmax")
    model.head.bias.assign([80.0, 0, 0, 0, 0])
    assert model(X).numpy()[:, 0].min() == 1.0
    assert np.abs(image_gradients(X, 0, model)[0]).max() > 1e-4


def test_half_precision_models_work_and_give_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, X, y = make("nested in another")
    finally:
        keras.config.set_dtype_policy("float32")
    gradients, scores = image_gradients(X, y, model)
    assert gradients.dtype == scores.dtype == np.float32
    assert np.isfinite(gradients).all()
    assert np.abs(gradients).max() > 0


def test_a_model_of_any_image_size_takes_any_image_size():
    model, _, _ = shared("subclassed that ends in a softmax")
    for size in (9, 20):
        X = np.random.default_rng(0).random((2, size, size + 3, 3), dtype=np.float32)
        assert image_gradients(X, 1, model)[0].shape == X.shape


IMAGES = np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32)
PIXELS = (255 * IMAGES).astype(np.uint8)
OWN = {"preprocess": lambda pixels: pixels / 255}
SIZED = OWN | {"image_shape": (8, 8, 3)}

IN_CHUNKS = {
    "scores": lambda m, n: predict_scores(m, IMAGES, batch_size=n),
    "gradients": lambda m, n: image_gradients(IMAGES, 1, m, batch_size=n),
    "saliency": lambda m, n: compute_saliency_maps(IMAGES, 1, m, batch_size=n),
    "integrated gradients": lambda m, n: integrated_gradients(IMAGES, 1, m, steps=7, batch_size=n),
    "Grad-CAM": lambda m, n: grad_cam(IMAGES, 1, m, batch_size=n),
    "SmoothGrad": lambda m, n: smoothed(compute_saliency_maps, samples=7)(
        IMAGES, 1, m, batch_size=n
    ),
    "deletion": lambda m, n: deletion_curve(IMAGES, 1, m, IMAGES[..., 0], steps=7, batch_size=n),
    "insertion": lambda m, n: insertion_curve(IMAGES, 1, m, IMAGES[..., 0], steps=7, batch_size=n),
    "fooling": lambda m, n: make_fooling_images(PIXELS, 1, m, minimal=True, batch_size=n, **OWN),
}


def no_other_holds(holders):
    """Whether the model in the list, taken out of it, is freed with what was compiled for it."""
    kept = weakref.ref(compiled(holders[0], lambda get_model: lambda: get_model()))
    gone = weakref.ref(holders.pop())
    gc.collect()
    return gone() is None and kept() is None


@pytest.mark.parametrize("method", IN_CHUNKS)
def test_the_model_never_sees_more_images_than_batch_size_and_is_freed_when_deleted(method):
    model, batches, _ = recording()
    IN_CHUNKS[method](model, 2)
    assert max(batches) == 2
    batches.clear()
    IN_CHUNKS[method](model, 25)
    assert max(batches) > 2
    holders = [model]
    del model
    assert no_other_holds(holders)


@pytest.mark.parametrize("draw", [create_class_visualization, paint_class])
def test_at_most_eight_classes_are_drawn_at_once(draw):
    model, batches, _ = recording()
    drawn = draw(9 * [1], model, num_iterations=2, **SIZED)
    assert len(drawn) == 9
    assert max(batches) == 8


NUMBERS = {
    "gradients": lambda m, i: image_gradients(IMAGES[: 1 + i], i % 3, m, batch_size=1 + i),
    "integrated gradients": lambda m, i: integrated_gradients(
        IMAGES[: 1 + i], i % 3, m, baseline=i / 10, steps=2 + i
    ),
    "Grad-CAM": lambda m, i: grad_cam(IMAGES[: 1 + i], i % 3, m),
    "the course's fooling": lambda m, i: make_fooling_image(
        IMAGES[:1], i % 3, m, learning_rate=0.1 + i, max_iterations=1 + i
    ),
    "fooling": lambda m, i: make_fooling_images(
        PIXELS[: 1 + i], i % 3, m, learning_rate=0.1 + i, max_iterations=1 + i, **OWN
    ),
    "the course's class visualisation": lambda m, i: create_class_visualization(
        list(range(1 + i % 3)), m, 0.1 * i, 1 + i, 2 + i, i, 3 + i, seed=i, **SIZED
    ),
    "painting": lambda m, i: paint_class(
        list(range(1 + i % 3)),
        m,
        num_iterations=2 + i,
        learning_rate=0.1 + i,
        max_jitter=3 + i,
        seed=i,
        **SIZED,
    ),
}


@pytest.mark.parametrize("method", NUMBERS)
def test_other_numbers_and_batches_do_not_trace_again_and_the_model_is_freed(method):
    model, _, traces = recording()
    for i in (0, 1, 2):  # the shapes are generalised
        NUMBERS[method](model, i)
    seen = len(traces)
    for i in (3, 4):
        NUMBERS[method](model, i)
    assert len(traces) == seen
    holders = [model]
    del model
    assert no_other_holds(holders)


def test_changed_weights_are_seen():
    model, X, y = make("nested in another")
    before, _ = image_gradients(X, y, model)
    model.layers[-1].kernel.assign(2 * model.layers[-1].kernel)
    np.testing.assert_allclose(image_gradients(X, y, model)[0], 2 * before, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("style", STYLES)
def test_a_deleted_model_of_any_style_is_freed(style):
    model, X, y = make(style)
    compute_saliency_maps(X, y, model)
    smoothed(compute_saliency_maps, samples=2)(X, y, model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_saliency_on_squeezenet_is_the_tapes(squeezenet, grace_hopper):
    X = preprocess_image(grace_hopper)[None]
    expected, _ = eager_gradient(squeezenet, X, np.array([457]))
    maps = compute_saliency_maps(X, [457], squeezenet)
    assert maps.shape == (1, 224, 224)
    np.testing.assert_allclose(maps, np.abs(expected).max(axis=-1), atol=1e-5)
    tensor = compute_saliency_maps(tf.constant(X), tf.constant([457]), squeezenet)
    assert tf.is_tensor(tensor)
    np.testing.assert_allclose(tensor, maps, atol=1e-6)


@pytest.mark.parametrize(
    ("X", "y", "kind", "sentence"),
    [
        (np.zeros((224, 224, 3), np.float32), 6, ValueError, r"shape \(224, 224, 3\)"),
        (np.zeros((0, 224, 224, 3), np.float32), 6, ValueError, "N > 0"),
        (np.zeros((1, 3, 224, 224), np.float32), 6, ValueError, r"takes \(None, 224, 224, 3\)"),
        (np.zeros((1, 224, 224, 3), np.uint8), 6, ValueError, "preprocess them first"),
        (np.full((1, 224, 224, 3), 255.0), 6, ValueError, "preprocess_image first"),
        (np.full((1, 224, 224, 3), np.inf, np.float32), 6, ValueError, "infinity"),
        (np.zeros((1, 224, 224, 3), np.float32), 1000, ValueError, "classes 0 to 999"),
        (np.zeros((1, 224, 224, 3), np.float32), [1, 2], ValueError, r"shape \(2,\)"),
        (np.zeros((1, 224, 224, 3), np.float32), "catt", ValueError, "the nearest names are"),
        (np.zeros((1, 224, 224, 3), np.float32), 0.5, TypeError, "integers"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(X, y, kind, sentence, squeezenet):
    for method in (compute_saliency_maps, image_gradients, smoothed(compute_saliency_maps)):
        with pytest.raises(kind, match=sentence):
            method(X, y, squeezenet)


def test_a_model_of_ones_own_called_squeezenet_may_take_pixels():
    layers = [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(2)], name="squeezenet")
    assert predict_scores(model, np.full((1, 8, 8, 3), 255.0)).shape == (1, 2)


@pytest.mark.parametrize("first", [[keras.Input((8, 8, 3), batch_size=1)], []])
def test_a_model_first_called_with_one_image_takes_any_number(first):
    model = keras.Sequential([*first, keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    alone = compute_saliency_maps(IMAGES[:1], 1, model)
    assert compute_saliency_maps(IMAGES[:1], 1, model).shape == (1, 8, 8)
    together = compute_saliency_maps(IMAGES, 1, model)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-5)
    assert make_fooling_images(PIXELS[:2], 1, model, max_iterations=2, **OWN).images.shape[0] == 2
    with pytest.raises(ValueError, match=r"takes \(None, 8, 8, 3\)"):
        compute_saliency_maps(IMAGES[:, :7], 1, model)


def test_a_model_without_scores_and_a_batch_of_nothing_are_refused():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match=r"^the output of model .* expected scores of shape"):
        image_gradients(np.zeros((1, 8, 8, 3), np.float32), 0, model)
    two = keras.Model(model.inputs, [model.outputs[0], model.outputs[0]])
    with pytest.raises(ValueError, match=r"^the output of model .* expected scores of shape"):
        image_gradients(np.zeros((1, 8, 8, 3), np.float32), 0, two)
    scores, X, _ = shared("nested in another")
    with pytest.raises(ValueError, match="batch_size is 0"):
        image_gradients(X, 0, scores, batch_size=0)


def test_swapped_arguments_and_several_inputs_are_told():
    model, X, y = shared("nested in another")
    for method in (compute_saliency_maps, image_gradients, grad_cam, integrated_gradients):
        with pytest.raises(TypeError, match="the model is of type ndarray, expected a Keras model"):
            method(X, model, y)
    for swapped in (
        lambda: make_fooling_images(PIXELS, model, 1, **OWN),
        lambda: create_class_visualization(model, 1, **OWN),
        lambda: paint_class(model, 1, **OWN),
    ):
        with pytest.raises(TypeError, match="the model is of type int, expected a Keras model"):
            swapped()
    inputs = [keras.Input((8, 8, 3)), keras.Input((2,))]
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(inputs[0]), inputs[1]])
    two = keras.Model(inputs, keras.layers.Dense(2)(flat), name="two")
    with pytest.raises(ValueError, match="model 'two' takes 2 inputs, expected one, the image"):
        compute_saliency_maps([IMAGES, np.zeros((5, 2))], 0, two)
    with pytest.raises(ValueError, match="arrays of several shapes"):
        compute_saliency_maps([X[0], X[1, 1:]], 0, model)


def test_that_no_preprocess_was_given_is_said_and_refused_for_other_channels(squeezenet):
    model, _, _ = shared("nested in another")
    with pytest.warns(UserWarning, match="model 'nested' is shown SqueezeNet's input"):
        paint_class(0, model, num_iterations=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paint_class(0, model, num_iterations=1, **OWN)
        paint_class(0, squeezenet, num_iterations=1)
    grey = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="the images have 1 channel, but without preprocess"):
        make_fooling_images(PIXELS[..., :1], 1, grey)
    with pytest.raises(ValueError, match="the images have 1 channel, but without preprocess"):
        create_class_visualization(1, grey)


LABELS = {
    "list": [0, 3, 2],
    "tensor": tf.constant([0, 3, 2]),
    "column": np.array([[0], [3], [2]], np.uint8),
    "one-hot": keras.utils.to_categorical([0, 3, 2], 5),
    "one-hot, whole": np.eye(5, dtype=int)[[0, 3, 2]],
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_are_taken_as_people_have_them(form):
    assert check_labels(LABELS[form], count=3, classes=5).tolist() == [0, 3, 2]


@pytest.mark.parametrize("scalar", [2, np.uint8(2), tf.constant(2), tf.constant(2, tf.int64)])
def test_one_label_serves_all_images(scalar):
    assert check_labels(scalar, count=3, classes=5).tolist() == [2, 2, 2]


def test_rows_that_are_no_labels_are_refused():
    for rows in (np.eye(5)[[0, 3, 2]] / 2, np.ones((3, 5)), np.ones((3, 5), int)):
        with pytest.raises((TypeError, ValueError), match="the labels"):
            check_labels(rows, count=3, classes=5)


def tape_of(score, X):
    X = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(X)
        value = score(X)
    return value.numpy(), tape.gradient(value, X).numpy()


def with_two_outputs():
    """A class and a box, as detectors have them, and an input that takes any number of images."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(4, 3, activation="tanh", name="features")(image)
    flat = keras.layers.Flatten()(features)
    outputs = {"class": keras.layers.Dense(3, "softmax")(flat), "box": keras.layers.Dense(4)(flat)}
    return keras.Model(image, outputs)


def difference(scores):
    return scores[:, 1] - scores[:, 2]


TARGETS = {
    "difference of probabilities": ("nested in another", difference),
    "side of a box": (None, lambda outputs: outputs["box"][:, 2:3]),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_function_of_the_outputs_is_explained_as_by_a_plain_tape(target):
    style, y = TARGETS[target]
    model, X, _ = shared(style) if style else (with_two_outputs(), IMAGES, None)
    value, expected = tape_of(lambda X: y(model(X)), X)
    close = {"rtol": 1e-3, "atol": 1e-4 * np.abs(expected).max()}
    gradients, found = image_gradients(X, y, model)
    np.testing.assert_allclose(gradients, expected, **close)
    np.testing.assert_allclose(found[:, 0], value.reshape(-1), rtol=1e-4, atol=1e-6)
    maps = np.abs(expected).max(axis=-1)
    np.testing.assert_allclose(compute_saliency_maps(X, y, model, batch_size=2), maps, **close)
    smooth = smoothed(compute_saliency_maps, samples=2, noise=0)(X, y, model)
    np.testing.assert_allclose(smooth, maps, **close)
    curve = deletion_curve(X, y, model, maps, steps=2)
    np.testing.assert_allclose(curve[:, 0], value.reshape(-1), rtol=1e-4, atol=1e-6)
    integrated = integrated_gradients(X, y, model, steps=30)
    at_zero = tape_of(lambda X: y(model(X)), 0 * X)[0]
    rise = (value - at_zero).reshape(-1)
    np.testing.assert_allclose(integrated.maps.sum(axis=(1, 2)), rise, rtol=0.05, atol=1e-3)


def test_grad_cam_of_a_function_of_the_outputs_is_that_of_the_class_it_names():
    model, X, _ = make("sequential that starts with Rescaling")
    expected = grad_cam(X, 3, model)
    found = grad_cam(X, lambda scores: scores[:, 3], model)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_a_function_that_gives_more_than_a_number_is_refused_and_none_is_kept():
    model, X, _ = make("sequential that starts with Rescaling")
    with pytest.raises(ValueError, match=r"y returned shape \(3, 5\), expected one number"):
        compute_saliency_maps(X, lambda scores: scores, model)
    compute_saliency_maps(X, difference, model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
