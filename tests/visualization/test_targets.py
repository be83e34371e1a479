"""What may be explained beside a class: functions of the outputs, units, segmentations, held inputs."""

import numpy as np
import pytest

from visualization import (
    SQUEEZENET_STD,
    cascading_randomization,
    class_over,
    compute_saliency_maps,
    create_class_visualization,
    grad_cam,
    hold_inputs,
    image_gradients,
    integrated_gradients,
    make_fooling_image,
    make_fooling_images,
    paint_class,
    smoothed,
    unit_of,
)
from visualization.backend import keras, tf
from visualization.gradients import check_target

OWN = {"preprocess": lambda pixels: pixels / 255}
X = np.random.default_rng(0).random((3, 9, 8, 3), dtype=np.float32)


def convolution(filters, name, **settings):
    return keras.layers.Conv2D(filters, 3, activation="tanh", name=name, **settings)


def seeded(build):
    """The model that `build` makes, and the values of its parts: the image -> a dict."""
    keras.utils.set_random_seed(0)
    return build()


def functional(head):
    """Two convolutions, a dense layer, and a head: returns the model and a plain reading of it."""
    parts = [convolution(4, "first"), convolution(5, "second"), keras.layers.Flatten()]
    parts += [keras.layers.Dense(6, "tanh", name="hidden"), *head]
    model = keras.Sequential([keras.Input((9, 8, 3)), *parts])

    def read(images, first=None):
        values = {}
        for part in parts:
            images = part(images) if not (first is not None and part.name == "first") else first
            values[part.name] = images
        return values

    return model, read


def linear(count, activation=None):
    return [keras.layers.Dense(count, activation, name="head")]


def nested():
    inside, read = functional(linear(3))
    image = keras.Input((9, 8, 3))
    return keras.Model(image, keras.layers.Activation("relu")(inside(image))), read


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.inside, self.read = functional(linear(3))

    @property
    def input_shape(self):
        return (None, 9, 8, 3)

    def call(self, images):
        return self.inside(images)


def subclassed():
    model = Subclassed()
    return model, model.read


def with_two_outputs():
    """A class and a box, as detectors have them."""
    model, read = functional(linear(3))
    box = keras.layers.Dense(4, name="box")
    outputs = {"class": model.outputs[0], "box": box(model.get_layer("hidden").output)}
    two = keras.Model(model.inputs[0], outputs)
    return two, lambda images, first=None: {
        **(values := read(images, first)),
        "box": box(values["hidden"]),
    }


def segmentation(activation):
    first, second = convolution(4, "first"), convolution(5, "second")
    last = keras.layers.Conv2D(3, 1, name="scores")
    parts = [first, second, last, keras.layers.Activation(activation)]

    def read(images, given=None):
        return {"scores": last(second(first(images) if given is None else given))}

    return keras.Sequential([keras.Input((9, 8, 3)), *parts]), read


MASK = np.zeros((5, 4), bool)
MASK[1:3, 2:] = True


def over_mask(values, label):
    scores = values["scores"]  # (N, 5, 4, 3)
    return tf.add_n([scores[:, i, j, label] for i in (1, 2) for j in (2, 3)]) / 4


def head_of(count, activation):
    """A model whose head has an activation; its logit is plainly the linear part."""
    model, read = functional(linear(count, activation))
    head = model.layers[-1]
    return model, lambda images, first=None: {
        **(values := read(images, first)),
        "logits": values["hidden"] @ head.kernel + head.bias,
    }


# The model and its parts, y, and what it means by a plain reading of the parts.
TARGETS = {
    "unit of a dense layer": (
        lambda: functional(linear(3, "softmax")),
        unit_of("hidden", 2),
        lambda values: values["hidden"][:, 2],
    ),
    "channel of a feature map": (
        lambda: functional(linear(3)),
        unit_of("second", 4),
        lambda values: tf.reduce_mean(values["second"][..., 4], axis=(1, 2)),
    ),
    "channel in a nested model": (
        nested,
        unit_of("second", 1),
        lambda values: tf.reduce_mean(values["second"][..., 1], axis=(1, 2)),
    ),
    "channel in a subclassed model": (
        subclassed,
        unit_of("second", 0),
        lambda values: tf.reduce_mean(values["second"][..., 0], axis=(1, 2)),
    ),
    "difference of two classes": (
        lambda: functional(linear(3)),
        lambda scores: scores[:, 1] - scores[:, 2],
        lambda values: values["head"][:, 1] - values["head"][:, 2],
    ),
    "an output of several": (
        with_two_outputs,
        lambda outputs: outputs["box"][:, 2],
        lambda values: values["box"][:, 2],
    ),
    "single sigmoid": (lambda: head_of(1, "sigmoid"), 0, lambda values: values["logits"][:, 0]),
    "one label of several": (
        lambda: head_of(4, "sigmoid"),
        3,
        lambda values: values["logits"][:, 3],
    ),
    "regression": (lambda: functional(linear(1)), 0, lambda values: values["head"][:, 0]),
    "class over a mask": (
        lambda: segmentation("softmax"),
        class_over(MASK, 1),
        lambda values: over_mask(values, 1),
    ),
    "sigmoid over a mask": (
        lambda: segmentation("sigmoid"),
        class_over(MASK.astype(int), 2),
        lambda values: over_mask(values, 2),
    ),
}


def plain(read, meaning, images):
    """The value and its gradient by a plain tape."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = meaning(read(images))
    return value.numpy(), tape.gradient(value, images).numpy()


def plain_grad_cam(read, meaning, layer, images):
    activations = tf.constant(layer(images))
    with tf.GradientTape() as tape:
        tape.watch(activations)
        value = meaning(read(images, activations))
    weights = tape.gradient(value, activations).numpy().mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((weights * activations.numpy()).sum(axis=-1), 0)
    return tf.image.resize(maps[..., None], images.shape[1:3])[..., 0].numpy()


def layer_named(model, name):
    return next(one for one in model._flatten_layers() if one.name == name)


def closeness(target, everywhere=True):
    """The largest difference to a plain tape of each function, as a fraction of the largest value."""
    build, y, meaning = TARGETS[target]
    model, read = seeded(build)
    value, gradient = plain(read, meaning, X)
    found, numbers = image_gradients(X, y, model)
    pairs = {
        "gradients": (found, gradient),
        "numbers": (numbers[:, y if isinstance(y, int) else 0], value),
    }
    if everywhere:
        pairs["saliency"] = compute_saliency_maps(X, y, model), np.abs(gradient).max(axis=-1)
        pairs["integrated gradients"], pairs["convergence"] = integrated(model, read, y, meaning)
        by_hand = plain_grad_cam(read, meaning, layer_named(model, "first"), X)
        pairs["Grad-CAM"] = grad_cam(X, y, model, layer="first"), by_hand
        pairs["SmoothGrad"] = smooth(model, read, y, meaning)
        pairs["class visualisation"] = drawn(model, read, y, meaning)
    return {
        name: float(np.abs(ours - plain).max() / np.abs(plain).max())
        for name, (ours, plain) in pairs.items()
    }


def integrated(model, read, y, meaning):
    points = [np.float32((step + 0.5) / 4) * X for step in range(4)]
    mean = sum(plain(read, meaning, point)[1] for point in points) / 4
    found = integrated_gradients(X, y, model, steps=4)
    rise = plain(read, meaning, X)[0] - plain(read, meaning, 0 * X)[0]
    sums = found.maps.sum(axis=(1, 2))
    return (found.maps, (X * mean).sum(axis=-1)), (sums - found.convergence_delta, rise)


def smooth(model, read, y, meaning):
    noise = np.random.default_rng(5).standard_normal((2, *X.shape[1:]), dtype=np.float32)
    noisy = X[0] + np.float32(0.1) * (X[0].max() - X[0].min()) * noise
    found = smoothed(compute_saliency_maps, samples=2, noise=0.1, seed=5)(X[:1], y, model)
    return found[0], np.abs(plain(read, meaning, noisy)[1]).mean(axis=0).max(axis=-1)


def drawn(model, read, y, meaning):
    """Three steps of the course's loop, neither shifted nor blurred."""
    image = np.float32(np.random.default_rng(4).random((1, *X.shape[1:])))
    ratio = 1 / np.mean(1 / SQUEEZENET_STD)
    for _ in range(3):
        ascent = ratio**2 * plain(read, meaning, image)[1] - 2e-3 * image
        image = np.clip(image + np.float32(25) * np.float32(ascent), 0, 1)
    return create_class_visualization(y, model, 1e-3, 25, 3, 0, 1, seed=4, **OWN), image


EVERYWHERE = ("channel in a nested model", "class over a mask")  # the others differ in `y` alone


@pytest.mark.parametrize("target", TARGETS)
def test_any_target_is_explained_and_drawn_as_by_a_plain_tape(target):
    found = closeness(target, everywhere=target in EVERYWHERE)
    assert max(found.values()) < 1e-4, found


def test_the_layer_of_a_unit_may_be_given_itself_and_errors_are_told():
    model, _ = seeded(lambda: functional(linear(3)))
    hidden = model.get_layer("hidden")
    by_name = compute_saliency_maps(X, unit_of("hidden", 1), model)
    np.testing.assert_array_equal(compute_saliency_maps(X, unit_of(hidden, 1), model), by_name)
    for wrong, kind, sentence in (
        (lambda: unit_of(3, 1), TypeError, "^the layer is of type int"),
        (lambda: unit_of("hidden", 0.5), TypeError, "^the channel is 0.5"),
        (lambda: unit_of("hidden", -1), ValueError, "^the channel is -1"),
    ):
        with pytest.raises(kind, match=sentence):
            wrong()
    with pytest.raises(ValueError, match=r"^model '\w+' computes no layer 'hiden'.* are hidden,"):
        compute_saliency_maps(X, unit_of("hiden", 0), model)
    with pytest.raises(ValueError, match=r"^layer 'hidden' has channels 0 to 5, but 6 is asked"):
        grad_cam(X, unit_of("hidden", 6), model)


def test_a_unit_of_a_model_with_channels_first_is_where_its_channels_are():
    keras.utils.set_random_seed(0)
    swap = keras.layers.Permute((2, 3, 1))
    layers = [keras.layers.Conv2D(5, 3, data_format="channels_first"), keras.layers.ReLU(name="on")]
    model = keras.Sequential([keras.Input((3, 9, 8)), *layers, keras.layers.Flatten()])
    alike = keras.layers.Conv2D(5, 3)
    alike.build((None, 9, 8, 3))
    alike.set_weights(layers[0].get_weights())
    first = np.moveaxis(X, 3, 1)

    def channel(on):
        return tf.reduce_mean(on[..., 4], (1, 2))

    _, gradient = plain(lambda images: tf.nn.relu(alike(swap(images))), channel, first)
    found, _ = image_gradients(first, unit_of("on", 4), model)
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-7)
    assert grad_cam(first, 0, model, layer="on").shape == (3, 9, 8)


def test_painting_a_unit_excites_it():
    model, read = seeded(lambda: functional(linear(3)))
    unit = unit_of("second", 2)
    drawn = paint_class(unit, model, num_iterations=20, learning_rate=0.2, max_zoom=1, **OWN)
    assert drawn.shape == (1, 9, 8, 3)
    noise = np.random.default_rng(0).random((8, 9, 8, 3), dtype=np.float32)

    def value(images):
        return tf.reduce_mean(read(images)["second"][..., 2], (1, 2)).numpy()

    assert value(drawn)[0] > value(noise).max() + 0.1


def test_what_is_no_mask_and_does_not_fit_is_refused():
    for mask in (np.zeros((5, 4)), np.ones(4), np.full((5, 4), 0.5)):
        with pytest.raises(ValueError, match=r"^the mask is"):
            class_over(mask, 0)
    with pytest.raises(ValueError, match=r"^the class is -1"):
        class_over(MASK, -1)
    model, _ = seeded(lambda: segmentation("softmax"))
    with pytest.raises(ValueError, match=r"^the model's output is \(.*5, 4, 3\), which does not"):
        image_gradients(X, class_over(np.ones((4, 5)), 0), model)
    with pytest.raises(ValueError, match=r"^the model's output has channels 0 to 2, but 3 is"):
        image_gradients(X, class_over(MASK, 3), model)


def test_a_softmax_over_channels_that_come_first_is_taken_off_too():
    keras.utils.set_random_seed(0)
    first = [keras.layers.Conv2D(3, 3), keras.layers.Permute((3, 1, 2)), keras.layers.Softmax(1)]
    model = keras.Sequential([keras.Input((7, 6, 3)), *first])
    images, over = X[:, :7, :6], class_over(MASK, 1)

    def read(images):
        return {"scores": model.layers[0](images)}

    _, expected = plain(read, lambda values: over_mask(values, 1), images)
    found, _ = image_gradients(images, over, model)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def with_two_inputs(form):
    image, meta = keras.Input((9, 8, 3), name="image"), keras.Input((2,), name="meta")
    parts = [keras.layers.Conv2D(4, 3, activation="tanh"), keras.layers.Flatten()]
    together = keras.layers.Concatenate()([parts[1](parts[0](image)), meta])
    parts += [keras.layers.Dense(4, "tanh"), keras.layers.Dense(3)]
    inputs = {"list": [meta, image], "dict": {"image": image, "meta": meta}}[form]
    return keras.Model(inputs, parts[3](parts[2](together))), parts


@pytest.mark.parametrize("form", ["list", "dict"])
def test_other_inputs_are_held_while_the_image_is_explained_drawn_and_fooled(form):
    model, parts = seeded(lambda: with_two_inputs(form))
    value = np.float32([[0.3, -0.7]])
    held = hold_inputs(model, {"list": [value, None], "dict": {"image": None, "meta": value}}[form])

    def read(images):
        meta = tf.repeat(value, len(images), axis=0)
        return parts[3](parts[2](tf.concat([parts[1](parts[0](images)), meta], axis=1)))

    scores, gradient = plain(read, lambda scores: scores[:, 2], X)
    found, numbers = image_gradients(X, 2, held)
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(numbers[:, 2], scores, rtol=1e-4)
    if form == "dict":
        return
    assert grad_cam(X, 2, held, batch_size=2).shape == (3, 9, 8)
    drawn = create_class_visualization(2, held, num_iterations=2, **OWN)
    assert drawn.shape == (1, 9, 8, 3)
    pixels = (255 * X).astype(np.uint8)
    fooling = make_fooling_images(pixels, None, held, learning_rate=3, **OWN)
    assert fooling.success.all()
    seen = read(fooling.images / np.float32(255)).numpy().argmax(axis=1)
    assert (seen != fooling.predicted_before).all()


def test_inputs_that_do_not_say_where_the_image_is_are_refused():
    model, _ = seeded(lambda: with_two_inputs("list"))
    for inputs, kind, sentence in (
        ([np.ones((1, 2)), np.ones((1, 9, 8, 3))], ValueError, "^inputs have None 0 times"),
        ([None, None], ValueError, "^inputs have None 2 times"),
        ([np.ones((3, 2)), None], ValueError, r"shape \(3, 2\), expected one row"),
        (np.ones((1, 2)), TypeError, "^inputs is of type ndarray"),
    ):
        with pytest.raises(kind, match=sentence):
            hold_inputs(model, inputs)


def test_fooling_takes_no_function_and_says_what_to_do():
    model, _ = seeded(with_two_outputs)
    for fool in (
        lambda y: make_fooling_images(np.uint8(255 * X), y, model, **OWN),
        lambda y: make_fooling_image(X[:1], y, model),
    ):
        with pytest.raises(
            TypeError, match=r"^the target is a function, but a model is fooled once"
        ):
            fool(unit_of("hidden", 0))
        with pytest.raises(ValueError, match=r"expected scores of shape \(N, classes\): give y as"):
            fool(1)
    classes = keras.Model(model.input, model.output["class"])
    found = make_fooling_images(np.uint8(255 * X), 1, classes, learning_rate=3, **OWN)
    assert (model(found.images / 255)["class"].numpy().argmax(axis=1) == 1).all()


def test_classes_may_be_given_by_name(squeezenet):
    image = np.zeros((1, 224, 224, 3), np.float32)
    assert check_target(image, "stingray", squeezenet)[1].tolist() == [6]
    with pytest.raises(ValueError, match=r"^there is no class 'stingrey': the nearest .*stingray"):
        check_target(image, ["stingrey"], squeezenet)

    model, _ = seeded(lambda: functional(linear(3)))
    with pytest.raises(TypeError, match=r"^the labels are names, but of the model's 3 classes 0"):
        compute_saliency_maps(X, "dog", model)
    model.class_names = ["cat", "dog", "owl"]
    by_number = compute_saliency_maps(X, [1, 2, 1], model)
    np.testing.assert_array_equal(compute_saliency_maps(X, ["dog", "owl", "Dog"], model), by_number)
    found = make_fooling_images(np.uint8(255 * X), "owl", model, max_iterations=1, **OWN)
    assert found.targets.tolist() == [2, 2, 2]
    assert create_class_visualization("owl", model, num_iterations=1, **OWN).shape == (1, 9, 8, 3)


@pytest.mark.parametrize(("channels", "draw"), [(1, create_class_visualization), (4, paint_class)])
def test_images_of_one_and_four_channels_are_fooled_and_drawn(channels, draw):
    """Also of a model whose channels come first, with the same result."""
    keras.utils.set_random_seed(0)
    parts = [convolution(4, "only"), keras.layers.Flatten(), keras.layers.Dense(3)]
    last = keras.Sequential([keras.Input((9, 8, channels)), *parts])
    swapped = [keras.Input((channels, 9, 8)), keras.layers.Permute((2, 3, 1))]
    first = keras.Sequential([*swapped, *parts])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 8, channels), np.uint8)
    found = make_fooling_images(pixels, None, last, learning_rate=3, **OWN)
    alike = make_fooling_images(np.moveaxis(pixels, 3, 1), None, first, learning_rate=3, **OWN)
    assert found.success.all()
    assert alike.success.all()
    assert alike.images.shape == (3, channels, 9, 8)
    assert np.abs(np.moveaxis(alike.images, 1, 3).astype(int) - found.images).max() <= 1

    frames = []
    drawn = draw([0, 2], last, num_iterations=3, **OWN)
    keep = {"on_frame": lambda done, images: frames.append(images)} | OWN
    alike = draw([0, 2], first, num_iterations=3, **keep)
    np.testing.assert_allclose(np.moveaxis(alike, 1, 3), drawn, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(frames[-1], alike)


def test_a_unit_is_traced_once_while_the_weights_are_randomized():
    model, _ = seeded(lambda: functional(linear(3)))
    traces = []

    def counted(outputs):
        traces.append(1)
        return outputs[:, 1]

    found = cascading_randomization(X[:1], counted, model, compute_saliency_maps)
    assert len(traces) == 1
    assert found == cascading_randomization(X[:1], 1, model, compute_saliency_maps)
