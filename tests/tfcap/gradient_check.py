"""Central differences and the distance between two gradients, as the course's checker has them."""

from collections.abc import Callable, Sequence

import numpy as np


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b|| / (||a|| + ||b||), and 0 for two zeros."""
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    scale = np.linalg.norm(a) + np.linalg.norm(b)
    return float(np.linalg.norm(a - b) / scale) if scale else 0.0


def central_differences(
    outputs: Callable[[], Sequence[np.ndarray]],
    x: np.ndarray,
    upstream: Sequence[np.ndarray],
    step: float = 1e-5,
) -> np.ndarray:
    """The gradient at x, which is changed in place, of the sum of outputs . upstream."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        here = x[index]
        x[index] = here + step
        above = [output.copy() for output in outputs()]
        x[index] = here - step
        below = [output.copy() for output in outputs()]
        x[index] = here
        pairs = zip(above, below, upstream, strict=True)
        gradient[index] = sum(np.sum((a - b) * u) for a, b, u in pairs) / (2 * step)
    return gradient
