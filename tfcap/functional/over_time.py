"""What the sequences do before and after their loops: one matrix product each for all steps.

Arrays of all steps lie time first, (T, N, width), as in ``unroll.py``.
"""

from typing import Any

from tfcap.unroll import begun, rows_that_count, time_first
from visualization.backend import tf

__all__ = ["from_first_step", "input_and_weight_gradients", "previous", "project", "rows"]

Tensor = Any


def rows(xs: Tensor) -> Tensor:
    """(T, N, D) to (TN, D): the steps of all sequences below each other, for one product.

    Example:
        >>> rows(tf.zeros((3, 2, 5))).shape.as_list()
        [6, 5]
    """
    return tf.reshape(xs, [-1, xs.shape[-1]])


def project(x: Tensor, Wx: Tensor, mask: Tensor | None = None) -> Tensor:
    """x (N, T, D) @ Wx for all steps in one product, time first: (T, N, H) or (T, N, 4H).

    Where the mask (T, N, 1) is False, they may be zeros.

    Example:
        >>> project(tf.ones((2, 3, 5)), tf.ones((5, 4))).shape.as_list()
        [3, 2, 4]
    """
    xs = time_first(x)  # (T, N, D)
    [projected], _ = rows_that_count(lambda xs: ([xs @ Wx], []), [rows(xs)], _by_row(mask))
    return tf.reshape(projected, [tf.shape(xs)[0], tf.shape(xs)[1], Wx.shape[1]])


def previous(hs: Tensor, h0: Tensor) -> Tensor:
    """The state before each step: hs (T, N, H) after each, h0 (N, H) before the first.

    Example:
        >>> previous(tf.constant([[[1.0]], [[2.0]]]), tf.zeros((1, 1))).numpy().ravel().tolist()
        [0.0, 1.0]
    """
    return tf.concat([h0[tf.newaxis], hs[:-1]], axis=0)


def from_first_step(hs: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros in each row before the first step that counts: hs (T, N, H), mask (T, N, 1).

    Example:
        >>> mask = tf.constant([False, True])[:, None, None]
        >>> from_first_step(tf.ones((2, 1, 1)), mask).numpy().ravel().tolist()
        [0.0, 1.0]
    """
    return hs if mask is None else tf.where(begun(mask), hs, tf.zeros_like(hs))


def input_and_weight_gradients(
    das: Tensor, x: Tensor, Wx: Tensor, *recurrent: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The gradients of a = x @ Wx + u @ Wu + ... + b of all steps, in a few products.

    Args:
        das: da of all steps, (T, N, M).
        x: (N, T, D).
        Wx: (D, M).
        recurrent: what met the other matrices at each step, u (T, N, U), ...
        mask: (T, N, 1), or None; where it is False, da is zero, and is left out.

    Returns:
        dx (N, T, D), db (M,), dWx (D, M), dWu (U, M), ...

    Example:
        >>> das, x, h = tf.ones((3, 2, 4)), tf.ones((2, 3, 5)), tf.ones((3, 2, 1))
        >>> dx, db, dWx, dWh = input_and_weight_gradients(das, x, tf.ones((5, 4)), h)
        >>> dWh.numpy().tolist()
        [[6.0, 6.0, 6.0, 6.0]]
    """
    inputs = [rows(time_first(x)), *map(rows, recurrent)]  # (TN, D), (TN, U), ...
    widths = [value.shape[1] for value in inputs]

    def products(da: Tensor, *inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        dxs = tf.matmul(da, Wx, transpose_b=True)  # (TN, D)
        if sum(widths) < da.shape[1]:
            # XLA's products with a wide da take a third longer if the first factor is only marked as
            # transposed. Joining [x u]' in memory makes dWx = x' @ da and dWu = u' @ da one product.
            joined = tf.concat([tf.transpose(value) for value in inputs], axis=0)  # (D + U, TN)
            dweights = tf.split(joined @ da, widths)
        else:
            dweights = [tf.matmul(value, da, transpose_a=True) for value in inputs]
        return [dxs], [tf.reduce_sum(da, axis=0), *dweights]

    [dxs], sums = rows_that_count(products, [rows(das), *inputs], _by_row(mask))
    dxs = tf.reshape(dxs, [tf.shape(x)[1], tf.shape(x)[0], x.shape[2]])  # (T, N, D)
    return time_first(dxs), *sums


def _by_row(mask: Tensor | None) -> Tensor | None:
    """(T, N, 1) to (TN,)."""
    return None if mask is None else tf.reshape(mask, [-1])
