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

Arrays are NumPy or tensors, all of one floating dtype, which the results keep; NumPy in gives NumPy
out, of arrays that are yours to change. What does not fit raises ValueError (shapes, ids out of
range, T = 0) or TypeError (dtypes) and says what was received. N may be 0.

Sources: R. J. Elman, Finding structure in time, Cognitive Science 14 (1990), for the recurrent
network; P. J. Werbos, Backpropagation through time, Proceedings of the IEEE 78 (1990), for its
gradients; S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9 (1997),
and F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation 12 (2000),
which added the forget gate. Stanford's CS231n, assignment 3, gave the functions their names.
"""

from collections.abc import Callable
from typing import Any

from tfcap.shape_checks import checks_shapes
from visualization.backend import tf

Tensor = Any  # a tf.Tensor, or a NumPy array at the edge
Cache = tuple  # what a backward function needs of its forward function

ROW_BLOCKS = 8  # a masked batch leaves out whole blocks of rows that have ended


# ------------------------------------------------------------------------------------------ affine


@checks_shapes(x="N ...D", w="D M", b="M")
def affine_forward(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Cache]:
    """out = x @ w + b, with each x flattened to D numbers.

    x (N, ...), w (D, M), b (M,) -> out (N, M), cache
    """
    flat = tf.reshape(x, [tf.shape(x)[0], w.shape[0]])  # (N, D)
    return flat @ w + b, (x, w)  # (N, M)


@checks_shapes(dout="N M")
def affine_backward(dout: Tensor, cache: Cache) -> tuple[Tensor, Tensor, Tensor]:
    """dx = dout @ w', dw = x' @ dout, db = the sum of dout over the batch.

    dout (N, M), cache -> dx (N, ...), dw (D, M), db (M,)
    """
    x, w = cache
    flat = tf.reshape(x, [tf.shape(x)[0], w.shape[0]])  # (N, D)
    dx = tf.reshape(tf.matmul(dout, w, transpose_b=True), tf.shape(x))  # (N, ...)
    dw = tf.matmul(flat, dout, transpose_a=True)  # (D, M)
    return dx, dw, tf.reduce_sum(dout, axis=0)  # db: (M,)


# ---------------------------------------------------------------------- the plain recurrent network


@checks_shapes(x="N D", prev_h="N H", Wx="D H", Wh="H H", b="H")
def rnn_step_forward(
    x: Tensor, prev_h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor
) -> tuple[Tensor, Cache]:
    """One step: next_h = tanh(x @ Wx + prev_h @ Wh + b)  (Elman 1990).

    x (N, D), prev_h (N, H), Wx (D, H), Wh (H, H), b (H,) -> next_h (N, H), cache
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
    """
    return rnn_sequence_backward(dh, tf.zeros_like(dh[:, 0]), cache)


@checks_shapes(x="N T D", h0="N H", Wx="D H", Wh="H H", b="H", mask="bool N T")
def rnn_sequence_forward(
    x: Tensor, h0: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Cache]:
    """`rnn_forward` with a mask and the final state.

    The inputs of all steps meet Wx in one product before the loop (of a long sequence `ops.rnn`
    makes parts of `ops.PART` steps, each with its own product). Where mask is False a step is
    skipped: the state, and the h that is shown for it, stay as they were (zeros are shown before
    the first step that counts). The loop ends with the last step that counts for anyone, and takes
    the sequences longest first, so that those that have ended, or with padding on the left not yet
    begun, are left out of its products; that needs an N which is known before the graph runs, as
    batches of ``drop_remainder=True`` have.

    x (N, T, D), h0 (N, H), Wx (D, H), Wh (H, H), b (H,), mask (N, T) or None
    -> h (N, T, H), final h (N, H), cache
    """
    H = Wh.shape[0]
    order = _longest_first(mask)  # (N,)
    x, h0, mask = _sorted(order, x, h0, mask)
    projected = _project(x, Wx)  # (T, N, H)
    keep, steps = _counted(mask, x)  # (T, N, 1), ()

    def step(t: Tensor, h: Tensor, hs: Tensor) -> tuple:
        next_h = tf.tanh(projected[t] + _product(h, Wh, keep, t) + b)  # (N, H)
        h = _where(keep, t, next_h, h)  # (N, H)
        return h, hs.write(t, h)

    h_last, hs = _loop(step, steps, x.shape[1], (h0, _array(x, H)))
    hs = _stack(hs, x, H)  # (T, N, H)
    h = _shown(hs, h_last, keep, steps)  # (N, T, H)
    return *_put_back(order, h, h_last), (x, h0, Wx, Wh, hs, mask, order)


@checks_shapes(dh="N T H", dh_last="N H")
def rnn_sequence_backward(
    dh: Tensor, dh_last: Tensor, cache: Cache
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """From the last step to the first: what comes from above is added to what comes from later.

    da_t = (dh_t + dh from later) . (1 - h_t^2), which sends da_t @ Wh' to the step before; where
    mask is False the gradient passes by untouched. dWx, dWh, db and dx are one product each over
    all steps (of a part), after the loop.

    dh (N, T, H), dh_last (N, H), cache -> dx (N, T, D), dh0 (N, H), dWx (D, H), dWh (H, H), db (H,)
    """
    x, h0, Wx, Wh, hs, mask, order = cache
    H = Wh.shape[0]
    dh, dh_last = _sorted(order, dh, dh_last)
    keep, steps = _counted(mask, x)  # (T, N, 1), ()
    dhs, dh_last = _shown_backward(dh, dh_last, keep, steps)  # (T, N, H), (N, H)
    Wh_transposed = tf.transpose(Wh)

    def step(s: Tensor, dh: Tensor, das: Tensor) -> tuple:
        t = steps - 1 - s
        dh = dh + dhs[t]  # (N, H)
        da = dh * (1 - hs[t] ** 2)  # (N, H)
        da = _where(keep, t, da, tf.zeros_like(da))  # (N, H)
        dh = _where(keep, t, _product(da, Wh_transposed, keep, t), dh)  # (N, H)
        return dh, das.write(t, da)

    dh0, das = _loop(step, steps, x.shape[1], (dh_last, _array(x, H)))
    dx, dWx, dWh, db = _gradients(_stack(das, x, H), x, h0, Wx, hs)
    return *_put_back(order, dx, dh0), dWx, dWh, db


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

    The inputs of all steps meet Wx in one product before the loop; parts and mask work as in
    `rnn_sequence_forward`.

    x (N, T, D), h0 and c0 (N, H), Wx (D, 4H), Wh (H, 4H), b (4H,), mask (N, T) or None
    -> h (N, T, H), final h (N, H), final c (N, H), cache
    """
    H = Wh.shape[0]
    order = _longest_first(mask)  # (N,)
    x, h0, c0, mask = _sorted(order, x, h0, c0, mask)
    projected = _project(x, Wx)  # (T, N, 4H)
    keep, steps = _counted(mask, x)  # (T, N, 1), ()

    def step(t: Tensor, h: Tensor, c: Tensor, hs: Tensor, cs: Tensor, gates: Tensor) -> tuple:
        a = gates.read(t) + _product(h, Wh, keep, t) + b  # (N, 4H)
        next_h, next_c, gate = _lstm_cell(a, c)
        h = _where(keep, t, next_h, h)  # (N, H)
        c = _where(keep, t, next_c, c)  # (N, H)
        return h, c, hs.write(t, h), cs.write(t, c), gates.write(t, gate)

    gates = _array(x, 4 * H).unstack(projected)  # each step's gates take the place of its input
    arrays = _array(x, H), _array(x, H), gates
    h_last, c_last, hs, cs, gates = _loop(step, steps, x.shape[1], (h0, c0, *arrays))
    hs, cs = _stack(hs, x, H), _stack(cs, x, H)  # (T, N, H)
    gates = _stack(gates, x, 4 * H)  # (T, N, 4H)
    h = _shown(hs, h_last, keep, steps)  # (N, T, H)
    cache = x, h0, c0, Wx, Wh, hs, cs, gates, mask, order
    return *_put_back(order, h, h_last, c_last), cache


@checks_shapes(dh="N T H", dh_last="N H", dc_last="N H")
def lstm_sequence_backward(
    dh: Tensor, dh_last: Tensor, dc_last: Tensor, cache: Cache
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """From the last step to the first: what comes from above is added to what comes from later.

    Each step is `lstm_step_backward`, where mask is False the gradient passes by untouched, and
    dWx, dWh, db and dx are one product each over all steps (of a part), after the loop.

    dh (N, T, H), dh_last and dc_last (N, H), cache
    -> dx (N, T, D), dh0 (N, H), dc0 (N, H), dWx (D, 4H), dWh (H, 4H), db (4H,)
    """
    x, h0, c0, Wx, Wh, hs, cs, gates, mask, order = cache
    H = Wh.shape[0]
    dh, dh_last, dc_last = _sorted(order, dh, dh_last, dc_last)
    keep, steps = _counted(mask, x)  # (T, N, 1), ()
    dhs, dh_last = _shown_backward(dh, dh_last, keep, steps)  # (T, N, H), (N, H)
    prev_cs = tf.concat([c0[tf.newaxis], cs[:-1]], axis=0)  # (T, N, H)
    Wh_transposed = tf.transpose(Wh)

    def step(s: Tensor, dh: Tensor, dc: Tensor, das: Tensor) -> tuple:
        t = steps - 1 - s
        dh = dh + dhs[t]  # (N, H)
        da, dprev_c = _lstm_cell_backward(dh, dc, gates[t], prev_cs[t], cs[t])
        da = _where(keep, t, da, tf.zeros_like(da))  # (N, 4H)
        dh = _where(keep, t, _product(da, Wh_transposed, keep, t), dh)  # (N, H)
        dc = _where(keep, t, dprev_c, dc)  # (N, H)
        return dh, dc, das.write(t, da)

    dh0, dc0, das = _loop(step, steps, x.shape[1], (dh_last, dc_last, _array(x, 4 * H)))
    dx, dWx, dWh, db = _gradients(_stack(das, x, 4 * H), x, h0, Wx, hs)
    return *_put_back(order, dx, dh0, dc0), dWx, dWh, db


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


def _time_first(x: Tensor) -> Tensor:
    """(N, T, D) to (T, N, D), or back."""
    return tf.transpose(x, [1, 0, 2])


def _rows(xs: Tensor) -> Tensor:
    """(T, N, D) to (TN, D): the steps of all sequences below each other, for one product."""
    return tf.reshape(xs, [-1, xs.shape[-1]])


def _project(x: Tensor, Wx: Tensor) -> Tensor:
    """x (N, T, D) @ Wx for all steps in one product, time first: (T, N, H) or (T, N, 4H)."""
    xs = _time_first(x)  # (T, N, D)
    return tf.reshape(_rows(xs) @ Wx, [tf.shape(xs)[0], tf.shape(xs)[1], Wx.shape[1]])


def _gradients(
    das: Tensor, x: Tensor, h0: Tensor, Wx: Tensor, hs: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx, dWx, dWh, db from the da of all steps, (T, N, H) or (T, N, 4H), in two or three products."""
    da = _rows(das)  # (TN, 4H)
    xs, prev_h = _rows(_time_first(x)), _rows(tf.concat([h0[tf.newaxis], hs[:-1]], axis=0))
    dxs = tf.reshape(
        tf.matmul(da, Wx, transpose_b=True), [tf.shape(x)[1], tf.shape(x)[0], x.shape[2]]
    )
    if xs.shape[1] + prev_h.shape[1] < da.shape[1]:
        # XLA's products with a wide da take a third longer if the first factor is only marked as
        # transposed. Joining [x h]' in memory makes dWx = x' @ da and dWh = h' @ da one product.
        inputs = tf.concat([tf.transpose(xs), tf.transpose(prev_h)], axis=0)  # (D + H, TN)
        dWx, dWh = tf.split(inputs @ da, [xs.shape[1], prev_h.shape[1]])
    else:
        dWx = tf.matmul(xs, da, transpose_a=True)  # (D, H) or (D, 4H)
        dWh = tf.matmul(prev_h, da, transpose_a=True)  # (H, H) or (H, 4H)
    return _time_first(dxs), dWx, dWh, tf.reduce_sum(da, axis=0)


def _loop(step: Callable, steps: Tensor, at_most: int | None, state: tuple) -> Any:
    """Runs state = step(t, *state) for t = 0 ... steps - 1 and returns the last state.

    XLA can only differentiate the loop, for second derivatives, if it knows `at_most`.
    """

    def body(t: Tensor, *state: Tensor) -> tuple:
        return (t + 1, *step(t, *state))

    start = (tf.constant(0), *state)
    return tf.while_loop(lambda t, *_: t < steps, body, start, maximum_iterations=at_most)[1:]


def _array(x: Tensor, width: int) -> tf.TensorArray:
    """Room for a result (N, width) of every step of x (N, T, D); zeros if a step is not taken."""
    size = x.shape[1] if x.shape[1] is not None else tf.shape(x)[1]
    return tf.TensorArray(x.dtype, size, element_shape=(x.shape[0], width))


def _stack(array: tf.TensorArray, x: Tensor, width: int) -> Tensor:
    """The array as a tensor (T, N, width)."""
    return tf.ensure_shape(array.stack(), (x.shape[1], x.shape[0], width))


def _counted(mask: Tensor | None, x: Tensor) -> tuple[Tensor | None, Tensor]:
    """The mask as (T, N, 1), and the number of steps up to the last one that counts for anyone."""
    if mask is None:
        return None, tf.shape(x)[1]
    anyone = tf.cast(tf.reduce_any(mask, axis=0), tf.int32)  # (T,)
    last = tf.reduce_max(anyone * tf.range(1, tf.shape(x)[1] + 1))
    return tf.transpose(mask)[:, :, tf.newaxis], tf.maximum(last, 1)


def _longest_first(mask: Tensor | None) -> Tensor | None:
    """The rows in the order of how many of their steps count, the most first: (N,)."""
    if mask is None:
        return None
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)  # (N,)
    return tf.argsort(lengths, direction="DESCENDING")


def _sorted(order: Tensor | None, *arrays: Tensor) -> list[Tensor]:
    """The arrays' rows in that order."""
    return [array if order is None else tf.gather(array, order) for array in arrays]


def _put_back(order: Tensor | None, *arrays: Tensor) -> list[Tensor]:
    """The opposite of `_sorted`."""
    return _sorted(None if order is None else tf.argsort(order), *arrays)


def _product(v: Tensor, W: Tensor, keep: Tensor | None, t: Tensor) -> Tensor:
    """v @ W in the rows up to the last one for which step t counts, zeros in most rows after it.

    XLA needs products of fixed sizes: the number of rows is rounded up to whole blocks.
    """
    N = v.shape[0]
    if keep is None or N is None or N < ROW_BLOCKS:
        return v @ W  # (N, 4H)
    rows = tf.reduce_max(tf.cast(keep[t, :, 0], tf.int32) * tf.range(1, N + 1))
    sizes = [N * k // ROW_BLOCKS for k in range(1, ROW_BLOCKS + 1)]
    products = [lambda n=n: tf.pad(v[:n] @ W, [[0, N - n], [0, 0]]) for n in sizes]
    return tf.switch_case(tf.searchsorted(sizes, [rows])[0], products)  # (N, 4H)


def _where(keep: Tensor | None, t: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` in the rows for which step t counts, `old` in the others."""
    return new if keep is None else tf.where(keep[t], new, old)


def _shown(hs: Tensor, h_last: Tensor, keep: Tensor | None, steps: Tensor) -> Tensor:
    """What a caller sees, batch first: zeros before the first step that counts, then the state."""
    if keep is not None:
        hs = tf.where(_taken(keep, steps), hs, h_last)
        hs = tf.where(_begun(keep), hs, tf.zeros_like(hs))
    return _time_first(hs)  # (N, T, H)


def _shown_backward(
    dh: Tensor, dh_last: Tensor, keep: Tensor | None, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of hs (T, N, H) and of the final state, from those of what was shown."""
    dhs = _time_first(dh)  # (T, N, H)
    if keep is not None:
        dhs = tf.where(_begun(keep), dhs, tf.zeros_like(dhs))
        after = tf.where(_taken(keep, steps), tf.zeros_like(dhs), dhs)  # (T, N, H)
        dh_last = dh_last + tf.reduce_sum(after, axis=0)  # (N, H)
    return dhs, dh_last


def _taken(keep: Tensor, steps: Tensor) -> Tensor:
    """True for the steps that the loop took: (T, 1, 1)."""
    return tf.range(tf.shape(keep)[0])[:, tf.newaxis, tf.newaxis] < steps


def _begun(keep: Tensor) -> Tensor:
    """True from each sequence's first step that counts: (T, N, 1)."""
    return tf.cumsum(tf.cast(keep, tf.int32), axis=0) > 0


# --------------------------------------------------------------------------- words in, scores out


@checks_shapes(x="int N T", W="V D")
def word_embedding_forward(x: Tensor, W: Tensor) -> tuple[Tensor, Cache]:
    """out[n, t] = W[x[n, t]]: each word's own vector.

    An id below 0 or not below V raises ValueError, in a graph tf.errors.InvalidArgumentError;
    ``jit_compile`` drops that check, so let ids be checked where they enter.

    x (N, T) integers, W (V, D) -> out (N, T, D), cache
    """
    x = in_range(x, W.shape[0], "word_embedding_forward: x holds")
    return tf.gather(W, x), (x, W)  # (N, T, D)


@checks_shapes(dout="N T D")
def word_embedding_backward(dout: Tensor, cache: Cache) -> Tensor:
    """dW[v] = the sum of dout[n, t] over all n, t with x[n, t] = v: a repeated word adds up.

    dout (N, T, D), cache -> dW (V, D)
    """
    x, W = cache
    rows = tf.reshape(dout, [-1, W.shape[1]])  # (NT, D)
    return tf.math.unsorted_segment_sum(rows, tf.reshape(x, [-1]), W.shape[0])  # (V, D)


@checks_shapes(x="N T D", w="D M", b="M")
def temporal_affine_forward(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Cache]:
    """out[n, t] = x[n, t] @ w + b: the same affine map at every step.

    x (N, T, D), w (D, M), b (M,) -> out (N, T, M), cache
    """
    out = _rows(x) @ w + b  # (NT, M)
    return tf.reshape(out, [tf.shape(x)[0], tf.shape(x)[1], w.shape[1]]), (x, w)


@checks_shapes(dout="N T M")
def temporal_affine_backward(dout: Tensor, cache: Cache) -> tuple[Tensor, Tensor, Tensor]:
    """dx = dout @ w', dw = x' @ dout, db = the sum of dout, over the steps of all sequences.

    dout (N, T, M), cache -> dx (N, T, D), dw (D, M), db (M,)
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

    x (N, T, V) scores, y (N, T) integers, mask (N, T); verbose prints the shape of dx
    -> loss (), dx (N, T, V)
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


def in_range(ids: Tensor, size: int, what: str) -> Tensor:
    """The ids, once it is sure that all are in 0 ... size - 1; raises ValueError otherwise."""
    expected = f"expected 0 to {size - 1}: check the ids against the vocabulary"
    if not tf.is_symbolic_tensor(ids):
        values = ids.numpy()
        if values.size and (values.min() < 0 or values.max() >= size):
            raise ValueError(f"{what} ids from {values.min()} to {values.max()}, {expected}")
        return ids
    fits = tf.reduce_all((ids >= 0) & (ids < tf.cast(size, ids.dtype)))
    check = tf.debugging.Assert(fits, [f"{what} an id out of range, {expected}"])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(ids)
