"""Where a function of images looks, without its gradient: parts are hidden, and the score is watched.

They need nothing of a model but what it answers, so that it may be a Keras model or any function, such
as one that asks a model of another framework, or a service.

- `occlusion`: Zeiler, Fergus (2014), "Visualizing and understanding convolutional networks",
  arXiv:1311.2901, section 4.2.
- `rise`: Petsiuk, Das, Saenko (2018), "RISE", arXiv:1806.07421.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from visualization.backend import keras
from visualization.compilation import BATCH_SIZE
from visualization.gradients import check_target, predict_probabilities
from visualization.input_checks import (
    channel_axis,
    check_baseline,
    check_counts,
    check_labels,
    map_shape,
)

__all__ = ["occlusion", "rise"]

Score = Callable[[np.ndarray], np.ndarray]  # images (N, H, W, C) -> (N, K)


def occlusion(
    X: Any,
    y: Any,
    model: Any,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: Any = 0.0,
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """How far the score falls when a square that covers the pixel is hidden.

    Args:
        X: floating point (N, H, W, C), what the model takes.
        y: integers (N,), or one for all: the classes; also as one-hot rows (N, K); or a function from
            what the model returns to one number for each image, (N,).
        model: any Keras model with one output of shape (N, K), whose `predict_probabilities` are
            watched; or a function from images, a NumPy array, to scores (N, K) or (N,).
        window: the side of the square, in pixels; by default a seventh of the shorter side.
        stride: the way from one square to the next; by default half a square.
        baseline: what hides, anything that broadcasts to X; for SqueezeNet, 0 is the mean colour.
        batch_size: how many images are processed at a time; it bounds the memory.
        on_progress: called after each batch with the number of squares done, and of all.

    Returns:
        The maps, (N, H, W): the mean fall over all squares that cover a pixel; positive where it speaks
        for the class.

    Raises:
        ValueError: shapes that do not fit, NaN, a class that does not exist, or a square that is larger
            than the image.
        TypeError: y is not of integers, or the model is no function.

    Example:
        >>> def brightness_on_the_left(images):
        ...     return images[:, :, 0, 0].mean(axis=1)
        >>> occlusion(np.ones((1, 2, 3, 1)), 0, brightness_on_the_left, window=1)[0].tolist()
        [[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]]
    """
    X, y, score = _check_arguments(X, y, model, batch_size)
    hidden = check_baseline(baseline, X)
    height, width = map_shape(X.shape)[1:]
    window = max(1, round(min(height, width) / 7)) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    check_counts(window=window, stride=stride)
    if window > min(height, width):
        raise ValueError(f"window is {window}, expected at most the images' {min(height, width)}")
    corners = [
        (top, left)
        for top in _starts(height, window, stride)
        for left in _starts(width, window, stride)
    ]
    squares = np.zeros((len(corners), height, width), bool)
    for square, (top, left) in zip(squares, corners, strict=True):
        square[top : top + window, left : left + window] = True

    whole = score(X)[np.arange(len(X)), y]  # (N,)
    falls = np.zeros((len(X), len(corners)), X.dtype)
    channels = channel_axis(X.shape)
    for part in _parts(len(corners), batch_size, on_progress):
        covered = np.expand_dims(squares[part], channels)  # (B, H, W, 1)
        for n in range(len(X)):
            falls[n, part] = whole[n] - score(np.where(covered, hidden[n], X[n]))[:, y[n]]
    total = np.tensordot(falls, squares, axes=1)  # (N, H, W)
    return (total / squares.sum(axis=0)).astype(X.dtype)


def rise(
    X: Any,
    y: Any,
    model: Any,
    *,
    masks: int = 4000,
    cells: int = 7,
    kept: float = 0.5,
    baseline: Any = 0.0,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """RISE: the mean of random masks, each weighted by the score of the image that it leaves visible.

    A mask is a grid of cells that are kept or hidden at random, enlarged by bilinear interpolation to
    somewhat more than the image, and cut out at a random place. The map is equation 6,
    sum over i of f(X * M_i) M_i / (kept * masks).

    Args:
        masks: how many; the map is less grainy the more there are.
        cells: of each mask, along the height and along the width.
        kept: the probability that a cell stays visible.
        seed: of the masks; all images have the same ones, whatever the batch size.
        on_progress: called after each batch with the number of masks done, and of all.
        X, y, model, baseline, batch_size: as for `occlusion`.

    Returns:
        The maps, (N, H, W): what the class's score is on average while the pixel is visible. Only their
        differences within a map say something.

    Raises:
        ValueError: shapes that do not fit, NaN, a class that does not exist, or a number out of its
            range.
        TypeError: y is not of integers, or the model is no function.

    Example:
        >>> def brightness_on_the_left(images):
        ...     return images[:, :, :4, 0].mean(axis=(1, 2))
        >>> maps = rise(np.ones((1, 8, 8, 1)), 0, brightness_on_the_left, masks=200, cells=4)
        >>> bool(maps[0, :, :4].mean() > maps[0, :, 4:].mean())
        True
    """
    check_counts(masks=masks, cells=cells)
    if not 0 < kept < 1:
        raise ValueError(f"kept is {kept}, expected a probability between 0 and 1")
    X, y, score = _check_arguments(X, y, model, batch_size)
    hidden = check_baseline(baseline, X)
    shape = map_shape(X.shape)[1:]
    generator = np.random.default_rng(seed)
    grids = generator.random((masks, cells, cells)) < kept
    places = generator.random((masks, 2))  # of the image in the mask, 0 to 1 cell

    channels = channel_axis(X.shape)
    total = np.zeros((len(X), shape[0] * shape[1]))
    for part in _parts(masks, batch_size, on_progress):
        rows, columns = (
            _enlarging(places[part, axis], cells, shape[axis]).astype(X.dtype) for axis in (0, 1)
        )
        visible = rows @ grids[part].astype(X.dtype) @ columns.transpose(0, 2, 1)  # (B, H, W)
        of_channels = np.expand_dims(visible, channels)
        for n in range(len(X)):
            scores = score(hidden[n] + of_channels * (X[n] - hidden[n]))[:, y[n]]
            total[n] += scores @ visible.reshape(len(scores), -1)
    return (total / (kept * masks)).reshape(len(X), *shape).astype(X.dtype)


def _enlarging(places: np.ndarray, cells: int, size: int) -> np.ndarray:
    """The matrices (B, size, cells) that enlarge a column of cells to a column of pixels, linearly.

    The cells are enlarged to (cells + 1) / cells times the column, which is cut out of them at `places`
    (0: their start, 1: their end).
    """
    enlarged = size * (cells + 1) / cells
    pixels = np.arange(size) + 0.5 + places[:, None] * (enlarged - size)  # (B, size)
    positions = np.clip(pixels * cells / enlarged - 0.5, 0, cells - 1)
    return np.maximum(1 - np.abs(positions[..., None] - np.arange(cells)), 0)


def _parts(
    count: int, size: int, on_progress: Callable[[int, int], object] | None
) -> Iterator[slice]:
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield slice(start, stop)
        if on_progress:
            on_progress(stop, count)


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Where squares begin along an axis; the last ends with the image."""
    return [*range(0, length - window, stride), length - window]


def _check_arguments(
    X: Any, y: Any, model: Any, batch_size: int
) -> tuple[np.ndarray, np.ndarray, Score]:
    """The images, their classes, and what scores images."""
    check_counts(batch_size=batch_size)
    if isinstance(model, keras.Layer):
        X, y, keras_model = check_target(X, y, model)
        return (
            X,
            y,
            lambda images: predict_probabilities(keras_model, images, batch_size=batch_size),
        )
    if not callable(model):
        raise TypeError(
            f"the model is of type {type(model).__name__}, expected a Keras model or a function from "
            "images to scores"
        )
    X = np.asarray(X)
    if X.ndim != 4 or 0 in X.shape or not np.issubdtype(X.dtype, np.floating):
        raise ValueError(
            f"the images are {X.dtype} {X.shape}, expected floating point (N, H, W, C) with N > 0"
        )
    if not np.isfinite(X).all():
        raise ValueError("the images contain NaN or infinity")

    def score(images: np.ndarray) -> np.ndarray:
        parts = range(0, len(images), batch_size)
        return np.concatenate([_scores(images[i : i + batch_size], y, model) for i in parts])

    classes = score(X[:1]).shape[1]
    labels = np.zeros(len(X), np.int32) if callable(y) else check_labels(y, len(X), classes)
    return X, labels, score


def _scores(images: np.ndarray, y: Any, model: Callable[[Any], Any]) -> np.ndarray:
    """What a function says of images, (N, K)."""
    returned = model(images)
    scores = np.asarray(y(returned) if callable(y) else returned)
    if scores.ndim not in (1, 2) or len(scores) != len(images) or not np.isfinite(scores).all():
        raise ValueError(
            f"the model returned shape {scores.shape} for {len(images)} images, expected finite scores "
            "(N, K) or (N,)"
        )
    return scores.reshape(len(images), -1)
