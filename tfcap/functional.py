"""The mathematics of image captioning: every forward function with its backward function below it.

Notation, used throughout:

    N  sequences in a batch        x       inputs                 Wx  weights of the inputs
    T  steps of time               h, c    hidden and cell state  Wh  weights of the hidden state
    D  numbers in an input         a       activations            b   biases
    H  numbers in a hidden state   dv      d(loss)/dv: the gradient of any v, of v's shape
    V  words in the vocabulary     .       elementwise product
    M  numbers in an output        @       matrix product

A forward function returns its results and a cache; the backward function takes the gradients of
the results and that cache, and returns the gradients of the arguments, in their order. The four
gates of an LSTM lie side by side in the order i, f, o, g: Wx is (D, 4H), Wh (H, 4H), b (4H,).

Arrays are NumPy or tensors of one floating dtype, which the results keep. NumPy arrays in give new,
writable NumPy arrays out. Every function raises ValueError (shapes that do not fit, ids out of range,
T = 0) or TypeError (dtypes) with what was received and expected. N may be 0.

Sources: R. J. Elman, Finding structure in time, Cognitive Science 14 (1990), for the recurrent
network; P. J. Werbos, Backpropagation through time, Proceedings of the IEEE 78 (1990), for its
gradients; S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9 (1997),
and F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation 12 (2000),
which added the forget gate. Stanford's CS231n, assignment 3, gave the functions their names.
"""

from typing import Any

from tfcap.shape_checks import checks_shapes, in_range
from tfcap.unroll import begun, time_first, unroll, where, whole_blocks_product
from visualization.backend import tf

__all__ = [
    "affine_backward",
    "affine_forward",
    "lstm_backward",
    "lstm_forward",
    "lstm_step_backward",
    "lstm_step_forward",
    "rnn_backward",
    "rnn_forward",
    "rnn_step_backward",
    "rnn_step_forward",
    "sigmoid",
    "temporal_affine_backward",
    "temporal_affine_forward",
    "temporal_softmax_loss",
    "word_embedding_backward",
    "word_embedding_forward",
]

Tensor = Any  # a tf.Tensor, or a NumPy array at the edge
Cache = tuple  # what a backward function needs of its forward function


# ------------------------------------------------------------------------------- affine, sigmoid


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


@checks_shapes(x="...N")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow for large negative x; x of any shape.

    Example:
        >>> sigmoid([-1000.0, 0.0])
        array([0. , 0.5])
    """
    return tf.sigmoid(x)


# ---------------------------------------------------------------------- the plain recurrent network


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

    [h_last], [hs] = unroll(step, [h0], [_project(x, Wx), mask], [Wh.shape[0]])  # hs: (T, N, H)
    return time_first(_from_first_step(hs, mask)), h_last, (x, h0, Wx, Wh, hs, mask)


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
    dhs = _from_first_step(time_first(dh), mask)  # (T, N, H)
    Wh_transposed = tf.transpose(Wh)

    def step(dh: Tensor, dh_t: Tensor, h: Tensor, keep: Tensor | None) -> tuple:
        dh = dh + dh_t  # (N, H)
        da = where(keep, dh * (1 - h**2), tf.zeros_like(dh))  # (N, H)
        dh = where(keep, whole_blocks_product(da, Wh_transposed, keep), dh)  # (N, H)
        return [dh], [da]

    [dh0], [das] = unroll(step, [dh_last], [dhs, hs, mask], [Wh.shape[0]], reverse=True)
    dx, dWx, dWh, db = _input_and_weight_gradients(das, x, h0, Wx, hs)
    return dx, dh0, dWx, dWh, db


# -------------------------------------------------------------------------------------------- LSTM


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
    next_h, next_c, gates = _lstm_cell(a, prev_c)
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
    da, dprev_c = _lstm_cell_backward(dnext_h, dnext_c, gates, prev_c, next_c)  # (N, 4H), (N, H)
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
        next_h, next_c, gates = _lstm_cell(a, c)
        h, c = where(keep, next_h, h), where(keep, next_c, c)  # (N, H)
        return [h, c], [h, c, gates]

    inputs = [_project(x, Wx), mask]
    [h_last, c_last], [hs, cs, gates] = unroll(step, [h0, c0], inputs, [H, H, 4 * H])  # (T, N, ...)
    cache = x, h0, c0, Wx, Wh, hs, cs, gates, mask
    return time_first(_from_first_step(hs, mask)), h_last, c_last, cache


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
    dhs = _from_first_step(time_first(dh), mask)  # (T, N, H)
    prev_cs = tf.concat([c0[tf.newaxis], cs[:-1]], axis=0)  # (T, N, H)
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
        da, dprev_c = _lstm_cell_backward(dh, dc, gates, prev_c, c)  # (N, 4H), (N, H)
        da = where(keep, da, tf.zeros_like(da))  # (N, 4H)
        dh = where(keep, whole_blocks_product(da, Wh_transposed, keep), dh)  # (N, H)
        dc = where(keep, dprev_c, dc)  # (N, H)
        return [dh, dc], [da]

    inputs = [dhs, gates, prev_cs, cs, mask]
    width = Wx.shape[1]  # 4H
    [dh0, dc0], [das] = unroll(step, [dh_last, dc_last], inputs, [width], reverse=True)
    dx, dWx, dWh, db = _input_and_weight_gradients(das, x, h0, Wx, hs)
    return dx, dh0, dc0, dWx, dWh, db


def _lstm_cell(a: Tensor, prev_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The equations of `lstm_step_forward` after the first: a (N, 4H), prev_c (N, H)."""
    a_i, a_f, a_o, a_g = tf.split(a, 4, axis=-1)  # (N, H) each
    i, f, o, g = tf.sigmoid(a_i), tf.sigmoid(a_f), tf.sigmoid(a_o), tf.tanh(a_g)
    next_c = f * prev_c + i * g  # (N, H)
    next_h = o * tf.tanh(next_c)  # (N, H)
    return next_h, next_c, tf.concat([i, f, o, g], axis=-1)


def _lstm_cell_backward(
    dnext_h: Tensor, dnext_c: Tensor, gates: Tensor, prev_c: Tensor, next_c: Tensor
) -> tuple[Tensor, Tensor]:
    """The equations of `lstm_step_backward`: da (N, 4H) and dprev_c (N, H)."""
    i, f, o, g = tf.split(gates, 4, axis=-1)  # (N, H) each
    tanh_c = tf.tanh(next_c)
    do = dnext_h * tanh_c
    dc = dnext_c + dnext_h * o * (1 - tanh_c**2)
    di, df, dg = dc * g, dc * prev_c, dc * i
    da = [di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)]
    return tf.concat(da, axis=-1), dc * f


# ----------------------------------------------------------------------- what both sequences share


def _rows(xs: Tensor) -> Tensor:
    """(T, N, D) to (TN, D): the steps of all sequences below each other, for one product."""
    return tf.reshape(xs, [-1, xs.shape[-1]])


def _project(x: Tensor, Wx: Tensor) -> Tensor:
    """x (N, T, D) @ Wx for all steps in one product, time first: (T, N, H) or (T, N, 4H)."""
    xs = time_first(x)  # (T, N, D)
    return tf.reshape(_rows(xs) @ Wx, [tf.shape(xs)[0], tf.shape(xs)[1], Wx.shape[1]])


def _from_first_step(hs: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros in each row before the first step that counts: (T, N, H)."""
    return hs if mask is None else tf.where(begun(mask), hs, tf.zeros_like(hs))


def _input_and_weight_gradients(
    das: Tensor, x: Tensor, h0: Tensor, Wx: Tensor, hs: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx, dWx, dWh, db from the da of all steps, (T, N, H) or (T, N, 4H), in two or three products."""
    da = _rows(das)  # (TN, 4H)
    xs, prev_h = _rows(time_first(x)), _rows(tf.concat([h0[tf.newaxis], hs[:-1]], axis=0))
    dxs = tf.matmul(da, Wx, transpose_b=True)  # (TN, D)
    dxs = tf.reshape(dxs, [tf.shape(x)[1], tf.shape(x)[0], x.shape[2]])  # (T, N, D)
    if xs.shape[1] + prev_h.shape[1] < da.shape[1]:
        # XLA's products with a wide da take a third longer if the first factor is only marked as
        # transposed. Joining [x h]' in memory makes dWx = x' @ da and dWh = h' @ da one product.
        inputs = tf.concat([tf.transpose(xs), tf.transpose(prev_h)], axis=0)  # (D + H, TN)
        dWx, dWh = tf.split(inputs @ da, [xs.shape[1], prev_h.shape[1]])
    else:
        dWx = tf.matmul(xs, da, transpose_a=True)  # (D, H) or (D, 4H)
        dWh = tf.matmul(prev_h, da, transpose_a=True)  # (H, H) or (H, 4H)
    return time_first(dxs), dWx, dWh, tf.reduce_sum(da, axis=0)


# --------------------------------------------------------------------------- words in, scores out


@checks_shapes(x="int N T", W="V D")
def word_embedding_forward(x: Tensor, W: Tensor) -> tuple[Tensor, Cache]:
    """out[n, t] = W[x[n, t]]: each word's own vector.

    An id below 0 or not below V raises ValueError, in a graph tf.errors.InvalidArgumentError;
    ``jit_compile`` drops that check, so let ids be checked where they enter.

    x (N, T) integers, W (V, D) -> out (N, T, D), cache

    Example:
        >>> out, cache = word_embedding_forward([[1, 0]], [[0.0, 0.0], [3.0, 4.0]])
        >>> out
        array([[[3., 4.],
                [0., 0.]]])
    """
    x = in_range(x, W.shape[0], "word_embedding_forward: x holds")
    return tf.gather(W, x), (x, W)  # (N, T, D)


@checks_shapes(dout="N T D")
def word_embedding_backward(dout: Tensor, cache: Cache) -> Tensor:
    """dW[v] = the sum of dout[n, t] over all n, t with x[n, t] = v: a repeated word adds up.

    dout (N, T, D), cache -> dW (V, D)

    Example:
        >>> out, cache = word_embedding_forward([[1, 1]], [[0.0], [3.0]])
        >>> word_embedding_backward([[[1.0], [1.0]]], cache)
        array([[0.],
               [2.]])
    """
    x, W = cache
    rows = tf.reshape(dout, [-1, W.shape[1]])  # (NT, D)
    return tf.math.unsorted_segment_sum(rows, tf.reshape(x, [-1]), W.shape[0])  # (V, D)


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
    out = _rows(x) @ w + b  # (NT, M)
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
    rows = _rows(dout)  # (NT, M)
    dx = tf.reshape(tf.matmul(rows, w, transpose_b=True), tf.shape(x))  # (N, T, D)
    dw = tf.matmul(_rows(x), rows, transpose_a=True)  # (D, M)
    return dx, dw, tf.reduce_sum(rows, axis=0)  # db: (M,)


@checks_shapes(x="N T V", y="int N T", mask="bool N T")
def temporal_softmax_loss(
    x: Tensor, y: Tensor, mask: Tensor, verbose: bool = False
) -> tuple[Tensor, Tensor]:
    """The cross entropy of every step that counts, summed over time and divided by N only:

        p[n, t] = softmax(x[n, t])
        loss = -(1/N) sum over n, t of mask[n, t] . log p[n, t, y[n, t]]
        dx[n, t] = (1/N) mask[n, t] . (p[n, t] - onehot(y[n, t]))

    Where mask is False, y may hold anything; elsewhere an id below 0 or not below V raises
    ValueError, in a graph tf.errors.InvalidArgumentError (not under ``jit_compile``).

    x (N, T, V) logits, y (N, T) integers, mask (N, T); verbose prints the shape of dx
    -> loss (), dx (N, T, V)

    Example:
        >>> loss, dx = temporal_softmax_loss([[[0.0, 0.0]]], [[1]], [[True]])
        >>> loss.round(4), dx  # log 2, and softmax less the target
        (np.float64(0.6931), array([[[ 0.5, -0.5]]]))
    """
    y = tf.where(mask, y, tf.zeros_like(y))
    y = in_range(y, x.shape[2], "temporal_softmax_loss: y holds")
    weight = tf.cast(mask, x.dtype) / tf.cast(tf.maximum(tf.shape(x)[0], 1), x.dtype)  # (N, T)
    log_p = tf.nn.log_softmax(x)  # (N, T, V)
    loss = -tf.reduce_sum(weight * tf.gather(log_p, y, batch_dims=2))  # ()
    onehot = tf.one_hot(y, x.shape[2], dtype=x.dtype)  # (N, T, V)
    dx = weight[..., tf.newaxis] * (tf.exp(log_p) - onehot)  # (N, T, V)
    if verbose:
        print("dx.shape:", tuple(dx.shape))
    return loss, dx
