"""What may be explained beside a class: functions of the outputs, units, segmentations, held inputs."""

import numpy as np
import pytest

from visualization import (
    SQUEEZENET_STD,
    class_over,
    compute_saliency_maps,
    create_class_visualization,
    grad_cam,
    image_gradients,
    integrated_gradients,
    smoothed,
    unit_of,
)
from visualization.backend import keras, tf

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


EVERYWHERE = ("unit of a dense layer", "channel in a nested model", "class over a mask")


@pytest.mark.parametrize("target", TARGETS)
def test_any_target_is_explained_and_drawn_as_by_a_plain_tape(target):
    found = closeness(target, everywhere=target in EVERYWHERE)
    assert max(found.values()) < 1e-4, found
