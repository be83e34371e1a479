"""Affine maps, of one input or at every step of a sequence, and the sigmoid."""

from typing import Any

from tfcap.functional.over_time import rows
from tfcap.shape_checks import checks_shapes
from visualization.backend import tf

__all__ = [
    "affine_backward",
    "affine_forward",
    "sigmoid",
    "temporal_affine_backward",
    "temporal_affine_forward",
]

Tensor = Any  # a tf.Tensor, or a NumPy array at the edge
Cache = tuple  # what a backward function needs of its forward function


@checks_shapes(x="N ...D", w="D M", b="M")
def affine_forward(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Cache]:
    """out = x @ w + b, with each x flattened to D numbers.

    x (N, ...), w (D, M), b (M,) -> out (N, M), cache

    Example:
        >>> out, cache = affine_forward([[1.0, 2.0]], [[1.0], [1.0]], [0.5])
        >>> out
        array([[3.5]])
    """
    flat = tf.reshape(x, [tf.shape(x)[0], w.shape[0]])  # (N, D)
    return flat @ w + b, (x, w)  # (N, M)


@checks_shapes(dout="N M")
def affine_backward(dout: Tensor, cache: Cache) -> tuple[Tensor, Tensor, Tensor]:
    """dx = dout @ w', dw = x' @ dout, db = the sum of dout over the batch.

    dout (N, M), cache -> dx (N, ...), dw (D, M), db (M,)

    Example:
        >>> out, cache = affine_forward([[1.0, 2.0]], [[1.0], [1.0]], [0.5])
        >>> dx, dw, db = affine_backward([[1.0]], cache)
        >>> dw
        array([[1.],
               [2.]])
    """
    x, w = cache
    flat = tf.reshape(x, [tf.shape(x)[0], w.shape[0]])  # (N, D)
    dx = tf.reshape(tf.matmul(dout, w, transpose_b=True), tf.shape(x))  # (N, ...)
    dw = tf.matmul(flat, dout, transpose_a=True)  # (D, M)
    return dx, dw, tf.reduce_sum(dout, axis=0)  # db: (M,)


@checks_shapes(x="N T D", w="D M", b="M")
def temporal_affine_forward(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Cache]:
    """out[n, t] = x[n, t] @ w + b: the same affine map at every step.

    x (N, T, D), w (D, M), b (M,) -> out (N, T, M), cache

    Example:
        >>> out, cache = temporal_affine_forward([[[1.0], [2.0]]], [[3.0]], [0.5])
        >>> out
        array([[[3.5],
                [6.5]]])
    """
    out = rows(x) @ w + b  # (NT, M)
    return tf.reshape(out, [tf.shape(x)[0], tf.shape(x)[1], w.shape[1]]), (x, w)


@checks_shapes(dout="N T M")
def temporal_affine_backward(dout: Tensor, cache: Cache) -> tuple[Tensor, Tensor, Tensor]:
    """dx = dout @ w', dw = x' @ dout, db = the sum of dout, over the steps of all sequences.

    dout (N, T, M), cache -> dx (N, T, D), dw (D, M), db (M,)

    Example:
        >>> out, cache = temporal_affine_forward([[[1.0], [2.0]]], [[3.0]], [0.5])
        >>> dx, dw, db = temporal_affine_backward([[[1.0], [1.0]]], cache)
        >>> dw, db
        (array([[3.]]), array([2.]))
    """
    x, w = cache
    flat = rows(dout)  # (NT, M)
    dx = tf.reshape(tf.matmul(flat, w, transpose_b=True), tf.shape(x))  # (N, T, D)
    dw = tf.matmul(rows(x), flat, transpose_a=True)  # (D, M)
    return dx, dw, tf.reduce_sum(flat, axis=0)  # db: (M,)


@checks_shapes(x="...N")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow for large negative x; x of any shape.

    Example:
        >>> sigmoid([-1000.0, 0.0])
        array([0. , 0.5])
    """
    return tf.sigmoid(x)
