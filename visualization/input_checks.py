"""Input checks that this package's functions share: images, pixels, labels and numbers."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from visualization.backend import keras
from visualization.networks.efficientnet_lite2 import InvertedResidual
from visualization.networks.imagenet import class_names, find_class
from visualization.networks.squeezenet import Fire

__all__ = [
    "channel_axis",
    "check_baseline",
    "check_counts",
    "check_images",
    "check_is_class",
    "check_labels",
    "check_model",
    "check_pixels",
    "check_positive",
    "map_shape",
    "names_of",
    "warn_without_preprocess",
]

_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
# Preprocessed pixels lie between -2.2 and 2.7, but steps along the gradient leave that.
_LARGEST_INPUT = 30


def check_images(model: keras.Model, images: Any) -> np.ndarray:
    """Returns preprocessed images as float32, or float64 if they are, (N, H, W, C).

    Raises:
        ValueError: they are not floating point or not finite, or the model takes another shape, or
            several inputs.
        TypeError: the model is none.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()], name="small")
        >>> check_images(model, np.zeros((2, 9, 8, 3)))
        Traceback (most recent call last):
        ValueError: the images have shape (2, 9, 8, 3), but model 'small' takes (None, 8, 8, 3)
    """
    check_model(model)
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, list | dict) and len(expected) > 1:
        raise ValueError(
            f"model {model.name!r} takes {len(expected)} inputs, expected one, the image: hold the "
            "others fixed with visualization.hold_inputs"
        )
    try:
        images = np.asarray(images)
    except ValueError:
        raise ValueError(
            "the images are arrays of several shapes, expected one array (N, H, W, C)"
        ) from None
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"the images have shape {images.shape}, expected (N, H, W, C) with N > 0")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"the images are {images.dtype}, expected floating point: preprocess them first"
        )
    if not np.isfinite(images).all():
        raise ValueError("the images contain NaN or infinity")
    if isinstance(expected, tuple) and not _fits(images.shape, expected):
        raise ValueError(
            f"the images have shape {images.shape}, but model {model.name!r} takes "
            f"{(None, *expected[1:])}"
        )
    if (advice := _input_of_ours(model)) and np.abs(images).max() > _LARGEST_INPUT:
        raise ValueError(
            f"the images contain values up to {np.abs(images).max():g}, like pixels of 0 to 255, but "
            f"{advice}"
        )
    return images.astype(np.float64 if images.dtype == np.float64 else np.float32, copy=False)


def check_model(model: Any) -> None:
    """Raises TypeError unless the argument is a Keras model: arguments are often swapped.

    Example:
        >>> check_model(3)
        Traceback (most recent call last):
        TypeError: the model is of type int, expected a Keras model: look at the arguments' order
    """
    if not isinstance(model, keras.Layer):
        raise TypeError(
            f"the model is of type {type(model).__name__}, expected a Keras model: look at the "
            "arguments' order"
        )


def channel_axis(shape: tuple[int, ...]) -> int:
    """The axis of the channels, of which there are one, three or four: 3, or 1 if only that fits.

    Example:
        >>> channel_axis((2, 32, 24, 3)), channel_axis((2, 3, 32, 24)), channel_axis((2, 8, 8, 16))
        (3, 1, 3)
    """
    return 1 if shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4) else 3


def map_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(N, H, W), the shape of maps for images (N, H, W, C) or (N, C, H, W).

    Example:
        >>> map_shape((2, 32, 24, 3)), map_shape((2, 3, 32, 24))
        ((2, 32, 24), (2, 32, 24))
    """
    axis = channel_axis(shape)
    return shape[:axis] + shape[axis + 1 :]


def check_baseline(baseline: Any, images: np.ndarray) -> np.ndarray:
    """Returns what images (N, H, W, C) are compared with or hidden by, in their shape and dtype.

    Raises:
        ValueError: it does not broadcast to the images.

    Example:
        >>> check_baseline(0.5, np.ones((1, 1, 2, 1))).ravel().tolist()
        [0.5, 0.5]
    """
    try:
        return np.broadcast_to(np.asarray(baseline, images.dtype), images.shape)
    except ValueError:
        raise ValueError(
            f"the baseline has shape {np.shape(baseline)}, which does not fit images {images.shape}"
        ) from None


def check_pixels(images: Any) -> np.ndarray:
    """Returns 8-bit images as uint8 (N, H, W, C).

    Raises:
        ValueError: they have another shape or type.

    Example:
        >>> check_pixels(np.zeros((1, 8, 8, 3)))
        Traceback (most recent call last):
        ValueError: the images are float64 (1, 8, 8, 3), expected uint8 (N, H, W, C) with N > 0, ...
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"the images are {images.dtype} {images.shape}, expected uint8 (N, H, W, C) with N > 0, "
            "not preprocessed"
        )
    return images


def check_labels(labels: Any, count: int, classes: int, names: Sequence[str] = ()) -> np.ndarray:
    """Returns one label for each of `count` images, int32 (count,).

    Args:
        labels: integers (count,) or (count, 1), or one for all; or one-hot rows (count, classes); or
            names.
        count: the number of images.
        classes: the number of classes.
        names: the classes' names, where they are known.

    Raises:
        TypeError: they are not integers, or names that are not known.
        ValueError: there are too few or too many, or there is no such class.

    Example:
        >>> check_labels(6, count=3, classes=1000).tolist()
        [6, 6, 6]
    """
    labels = np.asarray(labels)
    if labels.dtype.kind == "U":
        labels = _found_by_name(labels, classes, names)
    if labels.shape == (count, classes) and _are_one_hot(labels):
        labels = labels.argmax(axis=1)
    elif labels.shape == (count, 1):  # as `keras.datasets` has them
        labels = labels[:, 0]
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"the labels are {labels.dtype}, expected integers")
    if labels.shape not in ((), (1,), (count,)):
        raise ValueError(
            f"the labels have shape {labels.shape}, expected ({count},), one for each image"
        )
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        has = (
            f"classes 0 to {classes - 1}" if classes > 1 else "one output, which counts as class 0"
        )
        raise ValueError(f"there is no class {wrong.flat[0]}: the model has {has}")
    return np.broadcast_to(labels, (count,)).astype(np.int32)


def check_is_class(target: Any) -> None:
    """Raises TypeError for a target that is a function, where a class must be seen.

    Example:
        >>> check_is_class(lambda scores: scores[:, 1] - scores[:, 2])
        Traceback (most recent call last):
        TypeError: the target is a function, but a model is fooled once it sees a class: ...
    """
    if callable(target):
        raise TypeError(
            "the target is a function, but a model is fooled once it sees a class: give a class, and "
            "of several outputs make a model of the one with the scores, "
            "keras.Model(model.input, model.output[...])"
        )


def names_of(model: keras.Model) -> Sequence[str]:
    """The names of a model's classes: its own `class_names`, or ImageNet's of a bundled network.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
        >>> model.class_names = ["cat", "dog"]
        >>> list(names_of(model))
        ['cat', 'dog']
    """
    names = getattr(model, "class_names", None)
    if names is None:
        return class_names() if _input_of_ours(model) else ()
    return names


def check_positive(**numbers: float) -> None:
    """Raises ValueError unless every number, given by its name, is above 0 and fits float32.

    Example:
        >>> check_positive(learning_rate=-1.0)
        Traceback (most recent call last):
        ValueError: learning_rate is -1.0, expected a positive number below 3e38
    """
    for name, value in numbers.items():
        if not 0 < value <= _LARGEST_FLOAT32:
            raise ValueError(f"{name} is {value}, expected a positive number below 3e38")


def check_counts(**numbers: int) -> None:
    """Raises ValueError unless every number, given by its name, is whole, from 1 to 2**31 - 1.

    Example:
        >>> check_counts(steps=50, batch_size=0)
        Traceback (most recent call last):
        ValueError: batch_size is 0, expected a positive integer
    """
    for name, value in numbers.items():
        if not isinstance(value, int | np.integer) or not 1 <= value < 2**31:
            raise ValueError(f"{name} is {value}, expected a positive integer")


def warn_without_preprocess(model: keras.Model, preprocess: Any) -> None:
    """Warns that a model which is not SqueezeNet is shown SqueezeNet's input, as none was named.

    Example:
        >>> warn_without_preprocess(keras.Sequential(name="small"), lambda pixels: pixels / 255)
    """
    theirs = getattr(model, "takes_squeezenets_input", False) or _is_squeezenet(model)
    if preprocess is None and not theirs:
        warnings.warn(
            f"no preprocess was given, so model {model.name!r} is shown SqueezeNet's input, about -2 "
            "to 3: give what turns pixels into its own, such as preprocess=lambda pixels: pixels / 255",
            stacklevel=4,  # the functions that call this are wrapped
        )


def _found_by_name(labels: np.ndarray, classes: int, names: Sequence[str]) -> np.ndarray:
    if len(names) != classes:
        raise TypeError(
            f"the labels are names, but of the model's {classes} classes {len(names)} have one: give "
            "integers, or set model.class_names to the list of all names"
        )
    found = [find_class(str(label), names) for label in labels.flat]
    return np.array(found, np.int64).reshape(labels.shape)


def _are_one_hot(labels: np.ndarray) -> bool:
    if labels.shape[1] < 2 or labels.dtype.kind not in "biuf":
        return False
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Keras takes a batch of any size, also where a model states one."""
    return len(shape) == len(expected) and all(
        theirs in (None, ours) for ours, theirs in zip(shape[1:], expected[1:], strict=True)
    )


def _input_of_ours(model: keras.Model) -> str | None:
    """What one of the bundled networks takes; None for other models.

    They are known by their layers, because another model may bear the same name and take pixels.
    """
    if _is_squeezenet(model):
        return "SqueezeNet takes about -2 to 3: call preprocess_image first"
    layers = [(layer.name, type(layer)) for layer in getattr(model, "layers", [])[:4]]
    if layers[1:3] == [("stem", keras.layers.Conv2D), ("block1", InvertedResidual)]:
        return (
            "EfficientNetLite2 takes -1 to 1: call "
            "network_specification('efficientnet-lite2').to_input first"
        )
    return None


def _is_squeezenet(model: keras.Model) -> bool:
    layers = getattr(model, "layers", [])[:4]
    names = [layer.name for layer in layers]
    return names == ["image", "conv1", "pool1", "fire2"] and isinstance(layers[3], Fire)
