"""Models of several inputs, of which one is the image and the others are held fixed."""

from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.input_checks import check_model, names_of

__all__ = ["hold_inputs"]


def hold_inputs(model: keras.Model, inputs: Any) -> keras.Model:
    """A model of the image alone, that holds another model's other inputs at given values.

    Every function of this package takes it; only its image is explained or changed.

    Args:
        model: any Keras model of several inputs.
        inputs: what the model takes, a list, tuple or dict, with None in the image's place; the others
            are one row each, (1, ...), which serves all images.

    Raises:
        TypeError: the model is no Keras model, or inputs is not a list, tuple or dict.
        ValueError: None is not there exactly once, or a value has more than one row.

    Example:
        >>> from visualization import image_gradients
        >>> image, age = keras.Input((1, 1, 3), name="image"), keras.Input((1,), name="age")
        >>> flat = keras.layers.Flatten()(image)
        >>> model = keras.Model({"image": image, "age": age}, keras.layers.Multiply()([flat, age]))
        >>> at_seven = hold_inputs(model, {"image": None, "age": [[7.0]]})
        >>> gradients, scores = image_gradients(np.ones((2, 1, 1, 3)), 0, at_seven)
        >>> gradients[0, 0, 0].tolist(), scores.shape
        ([7.0, 0.0, 0.0], (2, 3))
    """
    check_model(model)
    if not isinstance(inputs, list | tuple | dict):
        raise TypeError(
            f"inputs is of type {type(inputs).__name__}, expected a list, tuple or dict as the model "
            "takes, with None in the image's place"
        )
    values = inputs.values() if isinstance(inputs, dict) else inputs
    images = sum(value is None for value in values)
    if images != 1:
        raise ValueError(f"inputs have None {images} times, expected once, in the image's place")
    for value in values:
        if value is not None and np.shape(value)[:1] != (1,):
            raise ValueError(
                f"an input is held at a value of shape {np.shape(value)}, expected one row, (1, ...)"
            )
    return _Held(model, inputs)


class _Held(keras.Model):
    def __init__(self, model: keras.Model, inputs: Any) -> None:
        super().__init__(name=model.name, autocast=False)  # float64 stays so
        self.model = model
        keys = inputs.keys() if isinstance(inputs, dict) else range(len(inputs))
        held = {key: None if inputs[key] is None else np.asarray(inputs[key]) for key in keys}
        self.get_held = lambda: held  # Keras would make a container of its own of a dict
        self.kind = type(inputs)
        self.class_names = names_of(model)

    @property
    def input_shape(self) -> Any:
        (key,) = (key for key, value in self.get_held().items() if value is None)
        theirs = getattr(self.model, "input", None)  # none of a subclassed model
        if isinstance(theirs, list | tuple) and isinstance(key, str):  # Keras takes names, too
            theirs = {one.name: one for one in theirs}
        return None if theirs is None else theirs[key].shape

    def call(self, images: tf.Tensor, training: bool = False) -> Any:
        rows = tf.shape(images)[0]
        inputs = {
            key: images if value is None else tf.repeat(value, rows, axis=0)
            for key, value in self.get_held().items()
        }
        if self.kind is not dict:
            return self.model(self.kind(inputs.values()), training=training)
        return self.model(inputs, training=training)
