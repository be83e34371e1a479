"""Gradients by central differences, under the names that CS231n's notebooks call them by.

A gradient that was derived by hand is right if it agrees with these in float64; the error of a central
difference falls with the square of the step, until rounding takes over.
"""

from collections.abc import Callable

import numpy as np

__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array", "rel_error"]


def eval_numerical_gradient(
    f: Callable[[np.ndarray], float], x: np.ndarray, verbose: bool = False, h: float = 1e-5
) -> np.ndarray:
    """The gradient of a number: (f(x + h) - f(x - h)) / 2h for each element of x.

    Args:
        f: called with x, one element of which is changed.
        x: float64, of any shape; it is changed in place and restored.
        verbose: prints each index and its slope.
        h: the step.

    Returns:
        float64, of x's shape.

    Example:
        >>> eval_numerical_gradient(lambda x: float(np.sum(x**2)), np.array([1.0, -3.0])).round(6)
        array([ 2., -6.])
    """
    gradient = eval_numerical_gradient_array(f, x, 1.0, h)  # type: ignore[arg-type]
    if verbose:
        for index in np.ndindex(*x.shape):
            print(index, gradient[index])
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, df: np.ndarray | float, h: float = 1e-5
) -> np.ndarray:
    """The gradient of the sum of f(x) . df, for an array f(x) and the gradient from above, df.

    Args:
        f: called with x, one element of which is changed.
        x: float64, of any shape; it is changed in place and restored.
        df: of the shape of f(x).
        h: the step.

    Returns:
        float64, of x's shape.

    Example:
        >>> x, df = np.array([1.0, -3.0]), np.array([1.0, 10.0])
        >>> eval_numerical_gradient_array(lambda x: x**2, x, df).round(6)
        array([  2., -60.])
    """
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        here = x[index]
        x[index] = here + h
        above = np.array(f(x))
        x[index] = here - h
        below = np.array(f(x))
        x[index] = here
        gradient[index] = np.sum((above - below) * df) / (2 * h)
    return gradient


def rel_error(x: np.ndarray, y: np.ndarray) -> float:
    """The largest |x - y| / max(1e-8, |x| + |y|) over all elements.

    Args:
        x, y: arrays of one shape.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> rel_error(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
        0.0
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        raise ValueError(f"the arrays have shapes {x.shape} and {y.shape}, expected the same")
    return float(np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)), initial=0.0))
