"""Whether a map tells the truth: deletion and insertion curves, and the randomisation check.

- Petsiuk, Das, Saenko (2018), "RISE", arXiv:1806.07421: remove (or restore) the pixels that a map marks
  as most important first, and watch the probability of the class.
- Adebayo et al. (2018), "Sanity checks for saliency maps", arXiv:1810.03292: a map that stays the same
  when the network's weights are replaced by noise does not show what the network has learned.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from visualization.backend import keras
from visualization.compilation import BATCH_SIZE
from visualization.gradients import check_target, predict_probabilities
from visualization.images.transforms import blur_image
from visualization.input_checks import channel_axis, check_counts, check_images, map_shape

__all__ = [
    "Faithfulness",
    "auc",
    "cascading_randomization",
    "compare_with_random",
    "deletion_curve",
    "insertion_curve",
]

_BLUR = 10.0  # standard deviation, in pixels, of what replaces a pixel


def deletion_curve(
    X: Any, y: Any, model: keras.Model, maps: Any, *, steps: int = 20, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """The class's probability while the most important pixels are blurred, step by step.

    The sooner it falls, the better the map: a good one has a small `auc`.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K), or as names where
            the model has `class_names` or is a bundled one; or a function from the model's output, or
            outputs, to one number for each image, (N,), such as `unit_of` and `class_over` make.
        model: any Keras model with one output of shape (N, K).
        maps: (N, H, W): the larger, the more important.
        steps: in how many equal steps all pixels are blurred.
        batch_size: how many images are processed at a time; it bounds the memory.

    Returns:
        `predict_probabilities` (N, steps + 1): first of the whole image, last of the blurred one.

    Raises:
        ValueError: shapes that do not fit, NaN, a class that does not exist, steps < 1.
        TypeError: y is not of integers.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> X = np.random.default_rng(0).random((1, 8, 8, 3))
        >>> deletion_curve(X, 0, model, X.max(axis=-1), steps=4).shape
        (1, 5)
    """
    X, y, model, maps = _check_arguments(X, y, model, maps, steps, batch_size)
    return np.stack(
        [
            _curve(image, _blurred(image), label, model, one, steps, batch_size)
            for image, label, one in zip(X, y, maps, strict=True)
        ]
    )


def insertion_curve(
    X: Any, y: Any, model: keras.Model, maps: Any, *, steps: int = 20, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """The class's probability while the most important pixels return into a blurred image.

    The sooner it rises, the better the map: a good one has a large `auc`. Arguments and errors as for
    `deletion_curve`; the first of the probabilities is the blurred image's.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> X = np.random.default_rng(0).random((1, 8, 8, 3))
        >>> insertion_curve(X, 0, model, X.max(axis=-1), steps=4).shape
        (1, 5)
    """
    X, y, model, maps = _check_arguments(X, y, model, maps, steps, batch_size)
    return np.stack(
        [
            _curve(_blurred(image), image, label, model, one, steps, batch_size)
            for image, label, one in zip(X, y, maps, strict=True)
        ]
    )


def auc(curve: np.ndarray) -> np.ndarray:
    """The area under curves (..., steps + 1), by the trapezoid rule over 0 to 1.

    Example:
        >>> float(auc(np.array([1.0, 0.5, 0.0])))
        0.5
    """
    return np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1)


@dataclass(frozen=True)
class Faithfulness:
    """How faithful one method's maps are.

    Attributes:
        deletion, insertion: the mean curves, (steps + 1,).
        deletion_auc, insertion_auc: the areas under them.

    Example:
        >>> sharp = Faithfulness(np.array([1, 0.1, 0]), np.array([0, 0.9, 1]))
        >>> sharp.beats(Faithfulness(np.array([1, 0.5, 0]), np.array([0, 0.5, 1])))
        True
    """

    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_auc(self) -> float:
        return float(auc(self.deletion))

    @property
    def insertion_auc(self) -> float:
        return float(auc(self.insertion))

    def beats(self, other: Self) -> bool:
        """True if the probability falls sooner when deleting, and rises sooner when inserting."""
        return self.deletion_auc < other.deletion_auc and self.insertion_auc > other.insertion_auc


def compare_with_random(
    X: Any,
    y: Any,
    model: keras.Model,
    maps: Mapping[str, Any],
    *,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> dict[str, Faithfulness]:
    """Deletion and insertion for the maps of several methods, and for a random map of each image.

    Args:
        maps: the method's name -> its maps, (N, H, W).
        seed: of the random maps.
        X, y, model, steps, batch_size: as for `deletion_curve`.

    Returns:
        The method's name -> its `Faithfulness`, averaged over the images; "random" is the last.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> X = np.random.default_rng(0).random((1, 8, 8, 3))
        >>> list(compare_with_random(X, 0, model, {"red": X[..., 0]}, steps=2))
        ['red', 'random']
    """
    X = check_images(model, X)
    random = np.random.default_rng(seed).random(map_shape(X.shape))
    checked = {}
    for name, values in [*maps.items(), ("random", random)]:
        checking = _check_arguments(X, y, model, values, steps, batch_size)
        X, labels, asked, checked[name] = checking
    curves = {name: np.zeros((2, steps + 1)) for name in checked}
    for n, (image, label) in enumerate(zip(X, labels, strict=True)):
        blurred = _blurred(image)
        for name, values in checked.items():
            rest = label, asked, values[n], steps, batch_size
            curves[name][0] += _curve(image, blurred, *rest)
            curves[name][1] += _curve(blurred, image, *rest)
    return {name: Faithfulness(*(total / len(X))) for name, total in curves.items()}


def cascading_randomization(
    X: Any,
    y: Any,
    model: keras.Model,
    method: Callable[..., Any],
    *,
    seed: int = 0,
    **keywords: Any,
) -> dict[str, float]:
    """How alike a method's maps stay while the weights become noise, from the last layer to the first.

    The weights of each layer in turn are replaced by Gaussian noise of the same mean and spread, and
    stay replaced; afterwards, also after an error, the model has its own weights again.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K), or as names where
            the model has `class_names` or is a bundled one; or a function from the model's output, or
            outputs, to one number for each image, (N,), such as `unit_of` and `class_over` make.
        model: any Keras model with one output of shape (N, K).
        method: a function of (X, y, model, **keywords) that returns maps (N, H, W).
        seed: of the noise.

    Returns:
        The name of each layer that has weights, from the last to the first -> the mean rank
        correlation (Spearman) of the maps with the original ones, -1 to 1. That of a method which
        depends on the weights falls towards 0.

    Example:
        >>> layers = [keras.layers.Flatten(), keras.layers.Dense(2, name="head")]
        >>> model = keras.Sequential([keras.Input((4, 4, 3)), *layers], name="small")
        >>> brightness = lambda X, y, model: X.mean(axis=-1)  # depends on no weight
        >>> X = np.random.default_rng(0).random((1, 4, 4, 3))
        >>> cascading_randomization(X, 0, model, brightness)["small/head"] > 0.999
        True
    """
    X, y, asked = check_target(X, y, model)
    original = _maps(method(X, y, asked, **keywords))
    generator = np.random.default_rng(seed)
    leaves = [layer for layer in dict.fromkeys(_leaves(model)) if layer.weights]
    saved = [(variable, variable.numpy()) for variable in model.weights]
    correlations = {}
    try:
        for layer in reversed(leaves):
            for variable in layer.weights:
                value = variable.numpy()
                if np.issubdtype(value.dtype, np.floating):
                    noise = generator.normal(value.mean(), value.std(), value.shape)
                    variable.assign(np.abs(noise) if value.min() >= 0 else noise)
            randomized = _maps(method(X, y, asked, **keywords))
            pairs = zip(original, randomized, strict=True)
            name = getattr(layer, "path", None) or layer.name
            correlations[name] = float(np.mean([_rank_correlation(a, b) for a, b in pairs]))
    finally:
        for variable, value in saved:
            variable.assign(value)
    return correlations


def _check_arguments(
    X: Any, y: Any, model: keras.Model, maps: Any, steps: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray, keras.Model, np.ndarray]:
    check_counts(steps=steps, batch_size=batch_size)
    X, y, model = check_target(X, y, model)
    maps = np.asarray(maps)
    if maps.shape != map_shape(X.shape) or not np.isfinite(maps).all():
        raise ValueError(
            f"the maps have shape {maps.shape}, expected {map_shape(X.shape)} without NaN or infinity"
        )
    return X, y, model, maps


def _blurred(image: np.ndarray) -> np.ndarray:
    channels = channel_axis((1, *image.shape)) - 1
    last = np.moveaxis(image, channels, -1)
    return np.moveaxis(blur_image(last[None], _BLUR)[0], -1, channels)


def _curve(
    start: np.ndarray,
    end: np.ndarray,
    label: int,
    model: keras.Model,
    importance: np.ndarray,
    steps: int,
    batch_size: int,
) -> np.ndarray:
    """Probabilities while the pixels of one image become those of another, by falling importance."""
    rank = np.empty(importance.size)
    rank[np.argsort(-importance, axis=None, kind="stable")] = np.arange(importance.size)
    channels = channel_axis((1, *start.shape)) - 1
    rank = np.expand_dims(
        rank.reshape(importance.shape), channels
    )  # (H, W, 1), 0 the most important
    limits = importance.size * np.arange(steps + 1) / steps
    curve = np.empty(steps + 1)
    for i in range(0, steps + 1, batch_size):
        part = limits[i : i + batch_size, None, None, None]
        mixed = np.where(rank < part, end, start)
        shown = predict_probabilities(model, mixed, batch_size=batch_size)
        curve[i : i + batch_size] = shown[:, label]
    return curve


def _leaves(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers without layers in them, in order; `_flatten_layers` reverses nested ones."""
    for inner in layer._layers:
        yield from _leaves(inner) if inner._layers else [inner]


def _maps(result: Any) -> np.ndarray:
    return np.asarray(result[0] if isinstance(result, tuple) else result)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, 0 where a map is flat; equal values share their mean rank."""
    a, b = _ranks(a.ravel()), _ranks(b.ravel())
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]
