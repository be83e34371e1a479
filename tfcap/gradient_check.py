"""Gradients by central differences, under the names that CS231n's notebooks call them by.

A gradient that was derived by hand is right if it agrees with these in float64; the error of a central
difference falls with the square of the step, until rounding takes over.
"""

from collections.abc import Callable

import numpy as np


def eval_numerical_gradient(
    f: Callable[[np.ndarray], float], x: np.ndarray, verbose: bool = False, h: float = 1e-5
) -> np.ndarray:
    """The gradient of a number: (f(x + h) - f(x - h)) / 2h for each place of x.

    Args:
        f: called with x, in which one place was changed.
        x: float64, of any shape; it is changed in place and put back.
        verbose: prints each place and its slope.
        h: the step.

    Returns:
        float64, of x's shape.
    """
    gradient = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        here = x[place]
        x[place] = here + h
        above = f(x)
        x[place] = here - h
        below = f(x)
        x[place] = here
        gradient[place] = (above - below) / (2 * h)
        if verbose:
            print(place, gradient[place])
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, df: np.ndarray | float, h: float = 1e-5
) -> np.ndarray:
    """The gradient of the sum of f(x) . df, for an array f(x) and what comes from above, df.

    Arguments and result are those of `eval_numerical_gradient`; df has the shape of f(x).
    """
    gradient = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        here = x[place]
        x[place] = here + h
        above = np.array(f(x))
        x[place] = here - h
        below = np.array(f(x))
        x[place] = here
        gradient[place] = np.sum((above - below) * df) / (2 * h)
    return gradient


def rel_error(x: np.ndarray, y: np.ndarray) -> float:
    """The largest |x - y| / max(1e-8, |x| + |y|) of all places; x and y have one shape."""
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        raise ValueError(f"the arrays have shapes {x.shape} and {y.shape}, expected the same")
    return float(np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)), initial=0.0))
