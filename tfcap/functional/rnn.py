"""The plain recurrent network (Elman 1990): a step, and all steps of a sequence."""

from typing import Any

from tfcap.functional.over_time import (
    from_first_step,
    input_and_weight_gradients,
    previous,
    project,
)
from tfcap.shape_checks import checks_shapes
from tfcap.unroll import time_first, unroll, where, whole_blocks_product
from visualization.backend import tf

__all__ = [
    "rnn_backward",
    "rnn_forward",
    "rnn_sequence_backward",
    "rnn_sequence_forward",
    "rnn_step_backward",
    "rnn_step_forward",
]

Tensor = Any  # a tf.Tensor, or a NumPy array at the edge
Cache = tuple  # what a backward function needs of its forward function


@checks_shapes(x="N D", prev_h="N H", Wx="D H", Wh="H H", b="H")
def rnn_step_forward(
    x: Tensor, prev_h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor
) -> tuple[Tensor, Cache]:
    """One step: next_h = tanh(x @ Wx + prev_h @ Wh + b)  (Elman 1990).

    x (N, D), prev_h (N, H), Wx (D, H), Wh (H, H), b (H,) -> next_h (N, H), cache

    Example:
        >>> next_h, cache = rnn_step_forward([[1.0]], [[0.5]], [[1.0]], [[2.0]], [-2.0])
        >>> next_h  # tanh(1 + 1 - 2)
        array([[0.]])
    """
    next_h = tf.tanh(x @ Wx + prev_h @ Wh + b)  # (N, H)
    return next_h, (x, prev_h, Wx, Wh, next_h)


@checks_shapes(dnext_h="N H")
def rnn_step_backward(
    dnext_h: Tensor, cache: Cache
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """With a the argument of tanh, da = dnext_h . (1 - next_h^2), as tanh' = 1 - tanh^2; then

    dx = da @ Wx', dprev_h = da @ Wh', dWx = x' @ da, dWh = prev_h' @ da, db = the sum of da.

    dnext_h (N, H), cache -> dx (N, D), dprev_h (N, H), dWx (D, H), dWh (H, H), db (H,)

    Example:
        >>> next_h, cache = rnn_step_forward([[1.0]], [[0.5]], [[1.0]], [[2.0]], [-2.0])
        >>> dx, dprev_h, dWx, dWh, db = rnn_step_backward([[1.0]], cache)
        >>> dprev_h
        array([[2.]])
    """
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * (1 - next_h**2)  # (N, H)
    dx = tf.matmul(da, Wx, transpose_b=True)  # (N, D)
    dprev_h = tf.matmul(da, Wh, transpose_b=True)  # (N, H)
    dWx = tf.matmul(x, da, transpose_a=True)  # (D, H)
    dWh = tf.matmul(prev_h, da, transpose_a=True)  # (H, H)
    return dx, dprev_h, dWx, dWh, tf.reduce_sum(da, axis=0)  # db: (H,)


@checks_shapes(x="N T D", h0="N H", Wx="D H", Wh="H H", b="H")
def rnn_forward(x: Tensor, h0: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> tuple[Tensor, Cache]:
    """All steps from the state h0: h_t = tanh(x_t @ Wx + h_{t-1} @ Wh + b).

    x (N, T, D), h0 (N, H), Wx (D, H), Wh (H, H), b (H,) -> h (N, T, H), cache

    Example:
        >>> h, cache = rnn_forward([[[0.0], [0.0]]], [[1.0]], [[1.0]], [[1.0]], [0.0])
        >>> h.round(3)  # tanh(1), tanh(tanh(1))
        array([[[0.762],
                [0.642]]])
    """
    h, _, cache = rnn_sequence_forward(x, h0, Wx, Wh, b)
    return h, cache


@checks_shapes(dh="N T H")
def rnn_backward(dh: Tensor, cache: Cache) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Backpropagation through time (Werbos 1990); dh is what comes from above, for every step.

    From the last step to the first, and with zeros as the first dh_next:

        dh_t = dh[:, t] + dh_next
        da_t = dh_t . (1 - h_t^2)
        dh_next = da_t @ Wh'

    dh0 is the last dh_next, dx_t = da_t @ Wx', and x_t' @ da_t, h_{t-1}' @ da_t and da_t, summed
    over all steps, are dWx, dWh and db.

    dh (N, T, H), cache -> dx (N, T, D), dh0 (N, H), dWx (D, H), dWh (H, H), db (H,)

    Example:
        >>> h, cache = rnn_forward([[[0.0], [0.0]]], [[0.0]], [[1.0]], [[3.0]], [0.0])
        >>> dx, dh0, dWx, dWh, db = rnn_backward([[[0.0], [1.0]]], cache)
        >>> dh0  # through Wh twice
        array([[9.]])
    """
    return rnn_sequence_backward(dh, tf.zeros_like(dh[:, 0]), cache)


@checks_shapes(x="N T D", h0="N H", Wx="D H", Wh="H H", b="H", mask="bool N T")
def rnn_sequence_forward(
    x: Tensor, h0: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Cache]:
    """`rnn_forward` with a mask and the final state.

    The inputs of all steps meet Wx in one product before the loop. Where mask is False a row skips
    the step: its state, and the h that is returned for the step, stay as they were, and h is zero
    before the first step that counts. Rows may come in any order; where they are sorted by falling
    length, those that have ended are left out of the loop's products.

    x (N, T, D), h0 (N, H), Wx (D, H), Wh (H, H), b (H,), mask (N, T) or None
    -> h (N, T, H), final h (N, H), cache

    Example:
        >>> x, mask = [[[1.0], [5.0]]], [[True, False]]
        >>> h, h_last, cache = rnn_sequence_forward(x, [[0.0]], [[1.0]], [[0.0]], [0.0], mask)
        >>> h.round(3)  # the second step is skipped
        array([[[0.762],
                [0.762]]])
    """
    mask = None if mask is None else time_first(mask[..., tf.newaxis])  # (T, N, 1)

    def step(h: Tensor, ax: Tensor, keep: Tensor | None) -> tuple:
        next_h = tf.tanh(ax + whole_blocks_product(h, Wh, keep) + b)  # (N, H)
        h = where(keep, next_h, h)  # (N, H)
        return [h], [h]

    inputs = [project(x, Wx, mask), mask]
    [h_last], [hs] = unroll(step, [h0], inputs, [Wh.shape[0]])  # hs: (T, N, H)
    return time_first(from_first_step(hs, mask)), h_last, (x, h0, Wx, Wh, hs, mask)


@checks_shapes(dh="N T H", dh_last="N H")
def rnn_sequence_backward(
    dh: Tensor, dh_last: Tensor, cache: Cache
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """From the last step to the first: what comes from above is added to what comes from later.

    da_t = (dh_t + dh from later) . (1 - h_t^2), which sends da_t @ Wh' to the step before; where
    mask is False the gradient passes by untouched. dWx, dWh, db and dx are one product each over
    all steps, after the loop.

    dh (N, T, H), dh_last (N, H), cache -> dx (N, T, D), dh0 (N, H), dWx (D, H), dWh (H, H), db (H,)

    Example:
        >>> x, mask = [[[0.0], [5.0]]], [[True, False]]
        >>> h, h_last, cache = rnn_sequence_forward(x, [[0.0]], [[1.0]], [[2.0]], [0.0], mask)
        >>> dx, dh0, *dweights = rnn_sequence_backward([[[0.0], [0.0]]], [[1.0]], cache)
        >>> dx.ravel(), dh0
        (array([1., 0.]), array([[2.]]))
    """
    x, h0, Wx, Wh, hs, mask = cache
    dhs = from_first_step(time_first(dh), mask)  # (T, N, H)
    Wh_transposed = tf.transpose(Wh)

    def step(dh: Tensor, dh_t: Tensor, h: Tensor, keep: Tensor | None) -> tuple:
        dh = dh + dh_t  # (N, H)
        da = where(keep, dh * (1 - h**2), tf.zeros_like(dh))  # (N, H)
        dh = where(keep, whole_blocks_product(da, Wh_transposed, keep), dh)  # (N, H)
        return [dh], [da]

    [dh0], [das] = unroll(step, [dh_last], [dhs, hs, mask], [Wh.shape[0]], reverse=True)
    dx, db, dWx, dWh = input_and_weight_gradients(das, x, Wx, previous(hs, h0), mask=mask)
    return dx, dh0, dWx, dWh, db
