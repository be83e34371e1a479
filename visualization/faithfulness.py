"""Whether a map tells the truth: deletion and insertion curves, and the randomisation check.

- Petsiuk, Das, Saenko (2018), "RISE", arXiv:1806.07421: take away (or put back) the pixels that a map
  calls important first, and watch the probability of the class.
- Adebayo et al. (2018), "Sanity checks for saliency maps", arXiv:1810.03292: a map that stays as it is
  when the network's weights are replaced by noise does not show what the network has learned.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from visualization.backend import keras
from visualization.gradients import BATCH_SIZE, class_count, predict_scores, softmax
from visualization.images.transforms import blur_image
from visualization.input_checks import check_batch_size, check_images, check_labels

BLUR = 10.0  # standard deviation, in pixels, of what takes the place of a pixel


def deletion_curve(
    X: Any,
    y: Any,
    model: keras.Model,
    maps: Any,
    steps: int = 20,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """The class's probability while the most important pixels are blurred away, step by step.

    The sooner it falls, the better the map: a good one has a small `auc`.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes.
        model: any Keras model with one output of shape (N, K).
        maps: (N, H, W): the larger, the more important.
        steps: in how many equal steps all pixels go.
        batch_size: how many images are worked on at a time; it bounds the memory.

    Returns:
        Softmax probabilities (N, steps + 1): of the whole image first, of the wholly blurred one last.

    Raises:
        ValueError: shapes that do not fit, NaN, a class that does not exist, steps < 1.
        TypeError: y is not of integers.
    """
    X, y, maps = _checked(X, y, model, maps, steps, batch_size)
    return np.stack(
        [
            _curve(image, _blurred(image), label, model, found, steps, batch_size)
            for image, label, found in zip(X, y, maps, strict=True)
        ]
    )


def insertion_curve(
    X: Any,
    y: Any,
    model: keras.Model,
    maps: Any,
    steps: int = 20,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """The class's probability while the most important pixels come back into a blurred image.

    The sooner it rises, the better the map: a good one has a large `auc`. Arguments and errors as
    for `deletion_curve`; the first of the probabilities is the wholly blurred image's.
    """
    X, y, maps = _checked(X, y, model, maps, steps, batch_size)
    return np.stack(
        [
            _curve(_blurred(image), image, label, model, found, steps, batch_size)
            for image, label, found in zip(X, y, maps, strict=True)
        ]
    )


def _checked(
    X: Any, y: Any, model: keras.Model, maps: Any, steps: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X = check_images(model, X)
    y = check_labels(y, len(X), class_count(model, X))
    maps = np.asarray(maps)
    if maps.shape != X.shape[:3] or not np.isfinite(maps).all():
        raise ValueError(
            f"the maps have shape {maps.shape}, expected {X.shape[:3]} without NaN or infinity"
        )
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected a positive integer")
    check_batch_size(batch_size)
    return X, y, maps


def _blurred(image: np.ndarray) -> np.ndarray:
    return blur_image(image[None], BLUR)[0]


def _curve(
    start: np.ndarray,
    end: np.ndarray,
    label: int,
    model: keras.Model,
    found: np.ndarray,
    steps: int,
    batch_size: int,
) -> np.ndarray:
    """Probabilities while the pixels of one image turn into those of another, by falling importance."""
    rank = np.empty(found.size)
    rank[np.argsort(-found, axis=None, kind="stable")] = np.arange(found.size)
    rank = rank.reshape(found.shape)[..., None]  # (H, W, 1), 0 the most important
    limits = found.size * np.arange(steps + 1) / steps
    curve = np.empty(steps + 1)
    for i in range(0, steps + 1, batch_size):
        part = limits[i : i + batch_size, None, None, None]
        scores = predict_scores(model, np.where(rank < part, end, start), batch_size)
        curve[i : i + batch_size] = softmax(scores)[:, label]
    return curve


def auc(curve: np.ndarray) -> np.ndarray:
    """The area under curves (..., steps + 1), by the trapezoid rule over 0 to 1."""
    return np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1)


@dataclass(frozen=True)
class Faithfulness:
    """How one method does, beside random maps on the same images.

    Attributes:
        deletion, insertion: the mean curves, (steps + 1,).
        deletion_auc, insertion_auc: the areas under them.
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
        """True if the class goes sooner when deleting, and comes back sooner when inserting."""
        return self.deletion_auc < other.deletion_auc and self.insertion_auc > other.insertion_auc


def compare_with_random(
    X: Any,
    y: Any,
    model: keras.Model,
    maps: Mapping[str, Any],
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
    """
    X = check_images(model, X)
    random = np.random.default_rng(seed).random(X.shape[:3])
    checked = {}
    for name, found in [*maps.items(), ("random", random)]:
        X, y, checked[name] = _checked(X, y, model, found, steps, batch_size)
    curves = {name: np.zeros((2, steps + 1)) for name in checked}
    for n, (image, label) in enumerate(zip(X, y, strict=True)):
        blurred = _blurred(image)
        for name, found in checked.items():
            rest = label, model, found[n], steps, batch_size
            curves[name][0] += _curve(image, blurred, *rest)
            curves[name][1] += _curve(blurred, image, *rest)
    return {name: Faithfulness(*(total / len(X))) for name, total in curves.items()}


def cascading_randomization(
    X: Any,
    y: Any,
    model: keras.Model,
    method: Callable[..., Any],
    seed: int = 0,
    **keywords: Any,
) -> dict[str, float]:
    """How alike a method's maps stay while the weights become noise, from the last layer to the first.

    The weights of each layer are replaced by Gaussian noise of the same mean and spread, in turn, and
    stay replaced; when all is done, or fails, the model has its own weights again.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes.
        model: any Keras model with one output of shape (N, K).
        method: a function of (X, y, model, **keywords) that returns maps (N, H, W).
        seed: of the noise.

    Returns:
        The name of each layer that has weights, from the last to the first -> the mean rank
        correlation (Spearman) of the maps with the original ones, -1 to 1. An honest method falls
        towards 0.
    """
    X = check_images(model, X)
    original = _maps(method(X, y, model, **keywords))
    generator = np.random.default_rng(seed)
    leaves = [layer for layer in dict.fromkeys(_leaves(model)) if layer.weights]
    saved = [(variable, variable.numpy()) for variable in model.weights]
    alike = {}
    try:
        for layer in reversed(leaves):
            for variable in layer.weights:
                value = variable.numpy()
                if np.issubdtype(value.dtype, np.floating):
                    noise = generator.normal(value.mean(), value.std(), value.shape)
                    variable.assign(np.abs(noise) if value.min() >= 0 else noise)
            randomised = _maps(method(X, y, model, **keywords))
            pairs = zip(original, randomised, strict=True)
            name = getattr(layer, "path", None) or layer.name
            alike[name] = float(np.mean([_rank_correlation(a, b) for a, b in pairs]))
    finally:
        for variable, value in saved:
            variable.assign(value)
    return alike


def _leaves(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers without layers in them, in order; `_flatten_layers` turns that of inner ones."""
    for inner in layer._layers:
        yield from _leaves(inner) if inner._layers else [inner]


def _maps(found: Any) -> np.ndarray:
    return np.asarray(found[0] if isinstance(found, tuple) else found)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, 0 where a map is flat; equal values share their mean rank."""
    a, b = _ranks(a.ravel()), _ranks(b.ravel())
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]
