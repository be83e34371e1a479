"""The LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000): a step, and whole sequences."""

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
    "lstm_backward",
    "lstm_cell",
    "lstm_cell_backward",
    "lstm_forward",
    "lstm_sequence_backward",
    "lstm_sequence_forward",
    "lstm_step_backward",
    "lstm_step_forward",
]

Tensor = Any  # a tf.Tensor, or a NumPy array at the edge
Cache = tuple  # what a backward function needs of its forward function


@checks_shapes(x="N D", prev_h="N H", prev_c="N H", Wx="D 4H", Wh="H 4H", b="4H")
def lstm_step_forward(
    x: Tensor, prev_h: Tensor, prev_c: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, Cache]:
    """One step (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000):

        [a_i a_f a_o a_g] = x @ Wx + prev_h @ Wh + b
        i = sigmoid(a_i)   f = sigmoid(a_f)   o = sigmoid(a_o)   g = tanh(a_g)
        next_c = f . prev_c + i . g
        next_h = o . tanh(next_c)

    x (N, D), prev_h and prev_c (N, H), Wx (D, 4H), Wh (H, 4H), b (4H,)
    -> next_h (N, H), next_c (N, H), cache

    Example:
        >>> Wx = Wh = [[0.0, 0.0, 0.0, 0.0]]
        >>> h, c, cache = lstm_step_forward([[1.0]], [[0.0]], [[2.0]], Wx, Wh, [0.0, 0.0, 0.0, 0.0])
        >>> c  # f = 1/2, and i . g = 0
        array([[1.]])
    """
    a = x @ Wx + prev_h @ Wh + b  # (N, 4H)
    next_h, next_c, gates = lstm_cell(a, prev_c)
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, gates, next_c)


@checks_shapes(dnext_h="N H", dnext_c="N H")
def lstm_step_backward(
    dnext_h: Tensor, dnext_c: Tensor, cache: Cache
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The step's equations from the last to the first, with sigmoid' = s (1 - s):

        do = dnext_h . tanh(next_c)
        dc = dnext_c + dnext_h . o . (1 - tanh(next_c)^2)
        df = dc . prev_c   di = dc . g   dg = dc . i   dprev_c = dc . f
        da = [di . i . (1 - i)   df . f . (1 - f)   do . o . (1 - o)   dg . (1 - g^2)]

    and then dx, dprev_h, dWx, dWh and db from da as for the plain network.

    dnext_h and dnext_c (N, H), cache
    -> dx (N, D), dprev_h (N, H), dprev_c (N, H), dWx (D, 4H), dWh (H, 4H), db (4H,)

    Example:
        >>> Wx = Wh = [[0.0, 0.0, 0.0, 0.0]]
        >>> h, c, cache = lstm_step_forward([[1.0]], [[0.0]], [[2.0]], Wx, Wh, [0.0, 0.0, 0.0, 0.0])
        >>> dx, dprev_h, dprev_c, *dweights = lstm_step_backward([[0.0]], [[1.0]], cache)
        >>> dprev_c  # f
        array([[0.5]])
    """
    x, prev_h, prev_c, Wx, Wh, gates, next_c = cache
    da, dprev_c = lstm_cell_backward(dnext_h, dnext_c, gates, prev_c, next_c)  # (N, 4H), (N, H)
    dx = tf.matmul(da, Wx, transpose_b=True)  # (N, D)
    dprev_h = tf.matmul(da, Wh, transpose_b=True)  # (N, H)
    dWx = tf.matmul(x, da, transpose_a=True)  # (D, 4H)
    dWh = tf.matmul(prev_h, da, transpose_a=True)  # (H, 4H)
    return dx, dprev_h, dprev_c, dWx, dWh, tf.reduce_sum(da, axis=0)  # db: (4H,)


@checks_shapes(x="N T D", h0="N H", Wx="D 4H", Wh="H 4H", b="4H")
def lstm_forward(x: Tensor, h0: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> tuple[Tensor, Cache]:
    """All steps from the hidden state h0 and a cell state of zeros.

    x (N, T, D), h0 (N, H), Wx (D, 4H), Wh (H, 4H), b (4H,) -> h (N, T, H), cache

    Example:
        >>> Wx, Wh, b = [[0.0, 0.0, 0.0, 9.0]], [[0.0, 0.0, 0.0, 0.0]], [9.0, 9.0, 9.0, 0.0]
        >>> h, cache = lstm_forward([[[1.0], [1.0]]], [[0.0]], Wx, Wh, b)
        >>> h.round(2)  # all gates open: c is 1, then 2, and h its tanh
        array([[[0.76],
                [0.96]]])
    """
    h, _, _, cache = lstm_sequence_forward(x, h0, tf.zeros_like(h0), Wx, Wh, b)
    return h, cache


@checks_shapes(dh="N T H")
def lstm_backward(dh: Tensor, cache: Cache) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Backpropagation through time (Werbos 1990); dh is what comes from above, for every step.

    From the last step to the first, and with zeros as the first dh_next and dc_next:

        dh_t = dh[:, t] + dh_next
        da_t, dc_next = da and dprev_c of `lstm_step_backward` for dh_t and dc_next
        dh_next = da_t @ Wh'

    and then dx, dh0, dWx, dWh and db from dh_next and da_t as for the plain network.

    dh (N, T, H), cache -> dx (N, T, D), dh0 (N, H), dWx (D, 4H), dWh (H, 4H), db (4H,)

    Example:
        >>> Wx, Wh, b = [[0.0, 0.0, 0.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]], [9.0, 9.0, 9.0, 0.0]
        >>> h, cache = lstm_forward([[[0.0], [0.0]]], [[0.0]], Wx, Wh, b)
        >>> dx, dh0, dWx, dWh, db = lstm_backward([[[0.0], [1.0]]], cache)
        >>> dx.ravel().round(2)  # the cell state carries the gradient back unchanged
        array([1., 1.])
    """
    zero = tf.zeros_like(dh[:, 0])
    dx, dh0, _, dWx, dWh, db = lstm_sequence_backward(dh, zero, zero, cache)
    return dx, dh0, dWx, dWh, db


@checks_shapes(x="N T D", h0="N H", c0="N H", Wx="D 4H", Wh="H 4H", b="4H", mask="bool N T")
def lstm_sequence_forward(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    b: Tensor,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Cache]:
    """`lstm_forward` with an initial cell state, a mask and the final states.

    The mask works as in `rnn_sequence_forward`.

    x (N, T, D), h0 and c0 (N, H), Wx (D, 4H), Wh (H, 4H), b (4H,), mask (N, T) or None
    -> h (N, T, H), final h (N, H), final c (N, H), cache

    Example:
        >>> Wx, Wh, b = [[0.0, 0.0, 0.0, 9.0]], [[0.0, 0.0, 0.0, 0.0]], [9.0, 9.0, 9.0, 0.0]
        >>> x, mask = [[[1.0], [1.0]]], [[True, False]]
        >>> h, h_last, c_last, cache = lstm_sequence_forward(x, [[0.0]], [[1.0]], Wx, Wh, b, mask)
        >>> c_last.round(2)  # one step of two
        array([[2.]])
    """
    H = Wh.shape[0]
    mask = None if mask is None else time_first(mask[..., tf.newaxis])  # (T, N, 1)

    def step(h: Tensor, c: Tensor, ax: Tensor, keep: Tensor | None) -> tuple:
        a = ax + whole_blocks_product(h, Wh, keep) + b  # (N, 4H)
        next_h, next_c, gates = lstm_cell(a, c)
        h, c = where(keep, next_h, h), where(keep, next_c, c)  # (N, H)
        return [h, c], [h, c, gates]

    inputs = [project(x, Wx, mask), mask]
    [h_last, c_last], [hs, cs, gates] = unroll(step, [h0, c0], inputs, [H, H, 4 * H])  # (T, N, ...)
    cache = x, h0, c0, Wx, Wh, hs, cs, gates, mask
    return time_first(from_first_step(hs, mask)), h_last, c_last, cache


@checks_shapes(dh="N T H", dh_last="N H", dc_last="N H")
def lstm_sequence_backward(
    dh: Tensor, dh_last: Tensor, dc_last: Tensor, cache: Cache
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """From the last step to the first: what comes from above is added to what comes from later.

    Each step is `lstm_step_backward`, where mask is False the gradient passes by untouched, and
    dWx, dWh, db and dx are one product each over all steps, after the loop.

    dh (N, T, H), dh_last and dc_last (N, H), cache
    -> dx (N, T, D), dh0 (N, H), dc0 (N, H), dWx (D, 4H), dWh (H, 4H), db (4H,)

    Example:
        >>> Wx = Wh = [[0.0, 0.0, 0.0, 0.0]]
        >>> x, b = [[[1.0], [1.0]]], [0.0, 0.0, 0.0, 0.0]
        >>> h, h_last, c_last, cache = lstm_sequence_forward(x, [[0.0]], [[1.0]], Wx, Wh, b)
        >>> dx, dh0, dc0, *dweights = lstm_sequence_backward(0 * h, [[0.0]], [[1.0]], cache)
        >>> dc0  # f = 1/2, twice
        array([[0.25]])
    """
    x, h0, c0, Wx, Wh, hs, cs, gates, mask = cache
    dhs = from_first_step(time_first(dh), mask)  # (T, N, H)
    prev_cs = previous(cs, c0)  # (T, N, H)
    Wh_transposed = tf.transpose(Wh)

    def step(
        dh: Tensor,
        dc: Tensor,
        dh_t: Tensor,
        gates: Tensor,
        prev_c: Tensor,
        c: Tensor,
        keep: Tensor | None,
    ) -> tuple:
        dh = dh + dh_t  # (N, H)
        da, dprev_c = lstm_cell_backward(dh, dc, gates, prev_c, c)  # (N, 4H), (N, H)
        da = where(keep, da, tf.zeros_like(da))  # (N, 4H)
        dh = where(keep, whole_blocks_product(da, Wh_transposed, keep), dh)  # (N, H)
        dc = where(keep, dprev_c, dc)  # (N, H)
        return [dh, dc], [da]

    inputs = [dhs, gates, prev_cs, cs, mask]
    width = Wx.shape[1]  # 4H
    [dh0, dc0], [das] = unroll(step, [dh_last, dc_last], inputs, [width], reverse=True)
    dx, db, dWx, dWh = input_and_weight_gradients(das, x, Wx, previous(hs, h0), mask=mask)
    return dx, dh0, dc0, dWx, dWh, db


def lstm_cell(a: Tensor, prev_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The equations of `lstm_step_forward` after the first.

    a (N, 4H), prev_c (N, H) -> next_h (N, H), next_c (N, H), the gates i, f, o, g (N, 4H)

    Example:
        >>> next_h, next_c, gates = lstm_cell(tf.zeros((1, 4)), tf.constant([[2.0]]))
        >>> next_c.numpy().tolist(), gates.numpy().tolist()
        ([[1.0]], [[0.5, 0.5, 0.5, 0.0]])
    """
    a_i, a_f, a_o, a_g = tf.split(a, 4, axis=-1)  # (N, H) each
    i, f, o, g = tf.sigmoid(a_i), tf.sigmoid(a_f), tf.sigmoid(a_o), tf.tanh(a_g)
    next_c = f * prev_c + i * g  # (N, H)
    next_h = o * tf.tanh(next_c)  # (N, H)
    return next_h, next_c, tf.concat([i, f, o, g], axis=-1)


def lstm_cell_backward(
    dnext_h: Tensor, dnext_c: Tensor, gates: Tensor, prev_c: Tensor, next_c: Tensor
) -> tuple[Tensor, Tensor]:
    """The equations of `lstm_step_backward`, up to da.

    dnext_h, dnext_c (N, H), gates (N, 4H), prev_c, next_c (N, H) -> da (N, 4H), dprev_c (N, H)

    Example:
        >>> next_h, next_c, gates = lstm_cell(tf.zeros((1, 4)), tf.ones((1, 1)))
        >>> da, dprev_c = lstm_cell_backward(
        ...     tf.zeros((1, 1)), tf.ones((1, 1)), gates, tf.ones((1, 1)), next_c
        ... )
        >>> dprev_c.numpy().tolist()  # f
        [[0.5]]
    """
    i, f, o, g = tf.split(gates, 4, axis=-1)  # (N, H) each
    tanh_c = tf.tanh(next_c)
    do = dnext_h * tanh_c
    dc = dnext_c + dnext_h * o * (1 - tanh_c**2)
    di, df, dg = dc * g, dc * prev_c, dc * i
    da = [di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)]
    return tf.concat(da, axis=-1), dc * f
