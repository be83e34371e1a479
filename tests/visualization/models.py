"""Keras models in the styles that people write them, small, with random weights."""

import functools

import numpy as np

from visualization.backend import keras, tf


def convolutions(activation="relu", dtype=None):
    return [
        keras.layers.Conv2D(6, 3, activation=activation, dtype=dtype, name="first"),
        keras.layers.Conv2D(8, 3, activation=activation, dtype=dtype, name="last"),
        keras.layers.GlobalAveragePooling2D(dtype=dtype),
    ]


def sequential_with_rescaling():
    layers = [keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255), *convolutions()]
    return keras.Sequential([*layers, keras.layers.Dense(5)])


class Subclassed(keras.Model):
    """Ends in a softmax; has no input_shape, and takes images of any size."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.parts = convolutions()
        self.head = keras.layers.Dense(5)

    def call(self, images):
        for part in self.parts:
            images = part(images)
        return tf.nn.softmax(self.head(images))

    def logits(self, images):
        for part in self.parts:
            images = part(images)
        return self.head(images)


def nested():
    inside = keras.Sequential([keras.Input((16, 16, 3)), *convolutions()], name="inside")
    image = keras.Input((16, 16, 3))
    scores = keras.layers.Dense(5, activation="softmax")(inside(image))
    return keras.Model(image, scores, name="nested")


def mobilenet():
    """Batch normalisation and dropout; random weights."""
    return keras.applications.MobileNetV2(
        input_shape=(64, 64, 3), alpha=0.35, weights=None, classes=7, classifier_activation=None
    )


STYLES = {
    "sequential that starts with Rescaling": (sequential_with_rescaling, 16, 255),
    "subclassed that ends in a softmax": (Subclassed, 16, 1),
    "nested in another": (nested, 16, 1),
    "MobileNetV2": (mobilenet, 64, 1),
}


@functools.cache
def shared(style):
    """What `make` returns, made and traced once for all tests that leave it unchanged."""
    return make(style)


def make(style):
    """A model of one's own, three images for it, and their classes."""
    keras.utils.set_random_seed(1)
    build, size, largest = STYLES[style]
    model = build()
    X = largest * np.random.default_rng(0).random((3, size, size, 3), dtype=np.float32)
    model(X)
    for variable in model.trainable_weights:  # biases and batch normalisation start at 0 and 1
        if len(variable.shape) == 1:
            noise = np.random.default_rng(len(variable.path)).normal(scale=0.1, size=variable.shape)
            variable.assign_add(noise)
    return model, X, np.array([0, 3, 2])


def smooth_network():
    """A float64 network without kinks, for central differences."""
    keras.utils.set_random_seed(2)
    layers = [keras.Input((6, 5, 3), dtype="float64"), *convolutions("tanh", "float64")]
    return keras.Sequential([*layers, keras.layers.Dense(4, dtype="float64")])


def recording():
    """A model of 3 classes, the size of each batch that it is shown, and an entry for each trace."""
    batches, traces = [], []
    keras.utils.set_random_seed(3)

    class Recording(keras.Model):
        def __init__(self):
            super().__init__(name="recording")
            self.parts = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(3)]

        def call(self, images):
            traces.append(1)
            tf.py_function(lambda count: batches.append(int(count)), [tf.shape(images)[0]], [])
            for part in self.parts:
                images = part(images)
            return images

    model = Recording()
    model(np.zeros((1, 8, 8, 3), np.float32))
    batches.clear()
    traces.clear()
    return model, batches, traces
