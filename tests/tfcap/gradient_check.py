"""Central differences and the distance between two gradients, as the course's checker has them."""

from collections.abc import Callable, Sequence

import numpy as np

Outputs = Callable[[], Sequence[np.ndarray]]


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / (||a|| + ||b||), and 0 for two zeros."""
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    scale = np.linalg.norm(a) + np.linalg.norm(b)
    return float(np.linalg.norm(a - b) / scale) if scale else 0.0


def slope(
    outputs: Outputs,
    x: np.ndarray,
    direction: np.ndarray,
    upstream: Sequence[np.ndarray],
    step: float = 1e-5,
) -> float:
    """How fast the sum of outputs . upstream grows at x, changed in place, along the direction."""
    here = x.copy()
    x += step * direction
    above = [np.array(output) for output in outputs()]
    x[...] = here - step * direction
    below = [np.array(output) for output in outputs()]
    x[...] = here
    pairs = zip(above, below, upstream, strict=True)
    return sum(np.sum((a - b) * u) for a, b, u in pairs) / (2 * step)


def central_differences(
    outputs: Outputs, x: np.ndarray, upstream: Sequence[np.ndarray]
) -> np.ndarray:
    """The gradient at x of the sum of outputs . upstream, one element after the other."""
    units = np.eye(x.size).reshape(-1, *x.shape)
    slopes = [slope(outputs, x, unit, upstream) for unit in units]
    return np.reshape(slopes, x.shape)


def check_along_directions(
    outputs: Outputs, x: np.ndarray, upstream: Sequence[np.ndarray], gradient: np.ndarray
) -> None:
    """The gradient at x against central differences along two random directions."""
    rng = np.random.default_rng(0)
    scale = np.linalg.norm(gradient) + 1e-3
    for direction in rng.normal(size=(2, *x.shape)):
        direction /= np.linalg.norm(direction) or 1
        numeric = slope(outputs, x, direction, upstream)
        assert abs(numeric - np.sum(gradient * direction)) < 1e-7 * scale
