"""An LSTM that looks at an image before each step.

After K. Xu et al. (2015), Show, attend and tell, with the attention of A. Vaswani et al. (2017),
section 3.2: the last hidden state asks, and what it sees joins the gates' input.
"""

from typing import Any

from tfcap.functional.attention import (
    attend,
    attend_backward,
    attention_backward,
    attention_forward,
    by_head,
    from_heads,
    looked_for,
)
from tfcap.functional.lstm import lstm_cell, lstm_cell_backward
from tfcap.functional.over_time import (
    from_first_step,
    input_and_weight_gradients,
    previous,
    project,
    rows,
)
from tfcap.shape_checks import checks_shapes, in_range
from tfcap.unroll import time_first, unroll, where, whole_blocks
from visualization.backend import tf

__all__ = [
    "attention_lstm_sequence_backward",
    "attention_lstm_sequence_forward",
    "attention_lstm_step_backward",
    "attention_lstm_step_forward",
]

Tensor = Any  # a tf.Tensor, or a NumPy array at the edge
Cache = tuple  # what a backward function needs of its forward function

_IMAGES = {"keys": "I L H", "values": "I L H"}
_WEIGHTS = {"Wx": "D 4H", "Wh": "H 4H", "Wz": "H 4H", "Wq": "H H", "b": "4H"}


@checks_shapes(x="N D", prev_h="N H", prev_c="N H", **_IMAGES, **_WEIGHTS)
def attention_lstm_step_forward(
    x: Tensor,
    prev_h: Tensor,
    prev_c: Tensor,
    keys: Tensor,
    values: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    Wz: Tensor,
    Wq: Tensor,
    b: Tensor,
    heads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Cache]:
    """One step: `attention_forward` for the last hidden state, then `lstm_step_forward` with it:

        context, weights = attention(prev_h @ Wq, keys, values)
        [a_i a_f a_o a_g] = x @ Wx + prev_h @ Wh + context @ Wz + b

    x (N, D), prev_h and prev_c (N, H), keys and values (I, L, H) as `attention_forward` takes them,
    Wx (D, 4H), Wh and Wz (H, 4H), Wq (H, H), b (4H,), heads a divisor of H
    -> next_h, next_c and context (N, H), weights (N, heads, L), cache

    Example:
        >>> W, zero = [[0.0, 0.0, 0.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]
        >>> image, b = [[[1.0], [3.0]]], [9.0, 9.0, 9.0, 0.0]
        >>> h, c, context, weights, cache = attention_lstm_step_forward(
        ...     [[0.0]], [[0.0]], [[0.0]], image, image, zero, zero, W, [[1.0]], b, heads=1
        ... )
        >>> context, c.round(2)  # the mean of the cells, and its tanh
        (array([[2.]]), array([[0.96]]))
    """
    context, weights, looked = attention_forward(prev_h @ Wq, keys, values, heads)
    a = x @ Wx + prev_h @ Wh + context @ Wz + b  # (N, 4H)
    next_h, next_c, gates = lstm_cell(a, prev_c)
    cache = x, prev_h, prev_c, Wx, Wh, Wz, Wq, gates, next_c, context, *looked
    return next_h, next_c, context, weights, cache


@checks_shapes(dnext_h="N H", dnext_c="N H", dcontext="N H")
def attention_lstm_step_backward(
    dnext_h: Tensor, dnext_c: Tensor, dcontext: Tensor, cache: Cache
) -> tuple[Tensor, ...]:
    """The step from the last equation to the first, with da as in `lstm_step_backward`:

        dcontext = dcontext + da @ Wz'   dWz = context' @ da
        dq, dkeys, dvalues = `attention_backward` of that dcontext
        dprev_h = da @ Wh' + dq @ Wq'   dWq = prev_h' @ dq

    and the rest as in `lstm_step_backward`.

    dnext_h, dnext_c and dcontext (N, H), what comes from above to each result; the weights pass no
    gradient on. cache
    -> dx, dprev_h, dprev_c, dkeys, dvalues, dWx, dWh, dWz, dWq, db

    Example:
        >>> zero, image = [[0.0, 0.0, 0.0, 0.0]], [[[1.0], [3.0]]]
        >>> *_, cache = attention_lstm_step_forward(
        ...     [[0.0]], [[0.0]], [[0.0]], image, image, zero, zero, zero, [[1.0]], zero[0], heads=1
        ... )
        >>> dx, dh, *rest = attention_lstm_step_backward([[0.0]], [[0.0]], [[1.0]], cache)
        >>> dh  # the variance of the cells: how fast asking for more moves their mean
        array([[1.]])
    """
    x, prev_h, prev_c, Wx, Wh, Wz, Wq, gates, next_c, context, *looked = cache
    da, dprev_c = lstm_cell_backward(dnext_h, dnext_c, gates, prev_c, next_c)  # (N, 4H), (N, H)
    dcontext = dcontext + tf.matmul(da, Wz, transpose_b=True)  # (N, H)
    dq, dkeys, dvalues = attention_backward(dcontext, tuple(looked))
    dx = tf.matmul(da, Wx, transpose_b=True)  # (N, D)
    dprev_h = tf.matmul(da, Wh, transpose_b=True) + tf.matmul(dq, Wq, transpose_b=True)  # (N, H)
    dWx, dWh, dWz = (tf.matmul(v, da, transpose_a=True) for v in (x, prev_h, context))
    dWq = tf.matmul(prev_h, dq, transpose_a=True)  # (H, H)
    db = tf.reduce_sum(da, axis=0)  # (4H,)
    return dx, dprev_h, dprev_c, dkeys, dvalues, dWx, dWh, dWz, dWq, db


@checks_shapes(
    x="N T D",
    h0="N H",
    c0="N H",
    **_IMAGES,
    **_WEIGHTS,
    image_of_row="int N",
    mask="bool N T",
)
def attention_lstm_sequence_forward(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    keys: Tensor,
    values: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    Wz: Tensor,
    Wq: Tensor,
    b: Tensor,
    heads: int,
    image_of_row: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Cache]:
    """All steps, each as `attention_lstm_step_forward`; keys and values are those of the images.

    The mask works as in `rnn_sequence_forward`; context and weights of a step that is skipped are
    zero.

    x (N, T, D), h0 and c0 (N, H), keys and values (I, L, H), Wx (D, 4H), Wh and Wz (H, 4H),
    Wq (H, H), b (4H,), heads a divisor of H, image_of_row int (N,), the image of each row, or None
    where they lie as `attention_forward` takes them, mask (N, T) or None
    -> h and context (N, T, H), final h and c (N, H), weights (N, T, heads, L), cache

    Example:
        >>> x, zero, image = [[[0.0], [0.0]]], [[0.0, 0.0, 0.0, 0.0]], [[[1.0], [3.0]]]
        >>> h, context, h_last, c_last, weights, cache = attention_lstm_sequence_forward(
        ...     x, [[0.0]], [[0.0]], image, image, zero, zero, zero, [[1.0]], zero[0], heads=1
        ... )
        >>> context.ravel(), weights[0, 1]
        (array([2., 2.]), array([[0.5, 0.5]]))
    """
    H, images = Wh.shape[0], keys
    if image_of_row is not None:
        if images.shape[0] is not None:
            what = "attention_lstm_sequence_forward: image_of_row holds"
            image_of_row = in_range(image_of_row, images.shape[0], what)
        keys, values = tf.gather(keys, image_of_row), tf.gather(values, image_of_row)  # (N, L, H)
    looked_for(h0, keys, heads)
    keys_heads, values_heads = by_head(keys, keys, heads), by_head(values, keys, heads)
    mask = None if mask is None else time_first(mask[..., tf.newaxis])  # (T, N, 1)
    Whq = tf.concat([Wh, Wq], axis=1)  # (H, 5H)
    alone = keys.shape[0] == x.shape[0]  # no two rows look at the same keys

    def move(h: Tensor, c: Tensor, ax: Tensor, keys: Tensor, values: Tensor) -> list[Tensor]:
        ah, q = tf.split(h @ Whq, [4 * H, H], axis=1)
        context, weights = map(from_heads, attend(by_head(q, keys, heads), keys, values))
        h, c, gates = lstm_cell(ax + ah + context @ Wz + b, c)
        return [h, c, gates, q, context, weights]

    def step(h: Tensor, c: Tensor, ax: Tensor, keep: Tensor | None) -> tuple:
        next_h, next_c, gates, q, context, weights = whole_blocks(
            move, [h, c, ax, keys_heads, values_heads], keep if alone else None
        )
        context = where(keep, context, tf.zeros_like(context))  # (N, H)
        weights = where(keep, weights, tf.zeros_like(weights))  # (N, heads L)
        h, c = where(keep, next_h, h), where(keep, next_c, c)  # (N, H)
        return [h, c], [h, c, gates, q, context, weights]

    L = keys.shape[1]
    widths = [H, H, 4 * H, H, H, None if L is None else heads * L]
    states, steps = unroll(step, [h0, c0], [project(x, Wx, mask), mask], widths)  # (T, N, width)
    hs, _, _, _, contexts, weights = steps
    N, T = tf.shape(x)[0], tf.shape(x)[1]
    shown = tf.reshape(time_first(weights), [N, T, heads, tf.shape(keys)[1] if L is None else L])
    cache = x, h0, c0, images, image_of_row, keys_heads, values_heads, Wx, Wh, Wz, Wq, mask, *steps
    return time_first(from_first_step(hs, mask)), time_first(contexts), *states, shown, cache


@checks_shapes(dh="N T H", dcontext="N T H", dh_last="N H", dc_last="N H")
def attention_lstm_sequence_backward(
    dh: Tensor, dcontext: Tensor, dh_last: Tensor, dc_last: Tensor, cache: Cache
) -> tuple[Tensor, ...]:
    """From the last step to the first, each as `attention_lstm_step_backward`.

    Where mask is False the gradient passes by untouched. dx and the gradients of the weights, the
    keys and the values are one product each over all steps, after the loop; those of the keys and
    values add up over the rows of an image.

    dh and dcontext (N, T, H), dh_last and dc_last (N, H), cache; the weights pass no gradient on
    -> dx, dh0, dc0, dkeys, dvalues, dWx, dWh, dWz, dWq, db

    Example:
        >>> x, zero, image = [[[0.0], [0.0]]], [[0.0, 0.0, 0.0, 0.0]], [[[1.0], [3.0]]]
        >>> h, context, h_last, c_last, weights, cache = attention_lstm_sequence_forward(
        ...     x, [[0.0]], [[0.0]], image, image, zero, zero, zero, [[1.0]], zero[0], heads=1
        ... )
        >>> dx, dh0, dc0, dkeys, dvalues, *dweights = attention_lstm_sequence_backward(
        ...     0 * h, 1 + 0 * h, [[0.0]], [[0.0]], cache
        ... )
        >>> dvalues.ravel()  # half of each step goes to each cell
        array([1., 1.])
    """
    x, h0, c0, images, image_of_row, keys, values, Wx, Wh, Wz, Wq, mask, *steps = cache
    hs, cs, gates, qs, contexts, weights = steps
    heads, d = keys.shape[1], keys.shape[3]
    H = heads * d
    dhs, dcontexts = from_first_step(time_first(dh), mask), time_first(dcontext)  # (T, N, H)
    back = tf.transpose(tf.concat([Wh, Wz], axis=0))  # (4H, 2H)
    Wq_transposed = tf.transpose(Wq)

    alone = keys.shape[0] == x.shape[0]  # no two rows look at the same keys

    def move(
        dh: Tensor,
        dc: Tensor,
        dcontext: Tensor,
        gates: Tensor,
        prev_c: Tensor,
        c: Tensor,
        weights: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> list[Tensor]:
        da, dprev_c = lstm_cell_backward(dh, dc, gates, prev_c, c)  # (N, 4H), (N, H)
        dprev_h, more = tf.split(da @ back, 2, axis=1)  # (N, H)
        dcontext = dcontext + more
        dout, weights = by_head(dcontext, keys, heads), _weights_by_head(weights, keys)
        dq, ds = map(from_heads, attend_backward(dout, keys, values, weights))
        return [dprev_h + dq @ Wq_transposed, dprev_c, da, dcontext, dq, ds]

    def step(dh: Tensor, dc: Tensor, dh_t: Tensor, *now: Tensor | None) -> tuple:
        *values_now, keep = now
        dh = dh + dh_t  # (N, H)
        dprev_h, dprev_c, *grown = whole_blocks(
            move, [dh, dc, *values_now, keys, values], keep if alone else None
        )
        grown = [where(keep, value, tf.zeros_like(value)) for value in grown]
        return [where(keep, dprev_h, dh), where(keep, dprev_c, dc)], grown

    inputs = [dhs, dcontexts, gates, previous(cs, c0), cs, weights, mask]
    widths = [4 * H, H, H, weights.shape[2]]
    [dh0, dc0], grown = unroll(step, [dh_last, dc_last], inputs, widths, reverse=True)
    das, dcontexts, dqs, dss = grown  # (T, N, width)
    prev_hs = previous(hs, h0)  # (T, N, H)
    dx, db, dWx, dWh, dWz = input_and_weight_gradients(das, x, Wx, prev_hs, contexts, mask=mask)
    dWq = tf.matmul(rows(prev_hs), rows(dqs), transpose_a=True)  # (H, H)
    dkeys = _cells(dss, qs / d**0.5, keys)
    dvalues = _cells(weights, dcontexts, keys)
    if image_of_row is not None:
        count = tf.shape(images)[0]
        dkeys, dvalues = (
            tf.math.unsorted_segment_sum(value, image_of_row, count) for value in (dkeys, dvalues)
        )
    return dx, dh0, dc0, dkeys, dvalues, dWx, dWh, dWz, dWq, db


def _weights_by_head(weights: Tensor, keys: Tensor) -> Tensor:
    """One step's (N, heads L) as (I, heads, N / I, L)."""
    images, heads, length = tf.shape(keys)[0], keys.shape[1], tf.shape(keys)[2]
    each = tf.shape(weights)[0] // tf.maximum(images, 1)
    return tf.transpose(tf.reshape(weights, [images, each, heads, length]), [0, 2, 1, 3])


def _cells(over_cells: Tensor, over_numbers: Tensor, keys: Tensor) -> Tensor:
    """over_cells' @ over_numbers for each image and head, over all its rows and steps, in one product.

    over_cells (T, N, heads L), over_numbers (T, N, H), keys (I, heads, L, d) -> (I, L, H)
    """
    images, heads, length, d = tf.shape(keys)[0], keys.shape[1], tf.shape(keys)[2], keys.shape[3]
    T, N = tf.unstack(tf.shape(over_numbers)[:2])
    each = N // tf.maximum(images, 1)

    def split(value: Tensor, width: Any) -> Tensor:
        value = tf.reshape(value, [T, images, each, heads, width])
        value = tf.transpose(value, [1, 3, 0, 2, 4])
        return tf.reshape(value, [images, heads, T * each, width])

    product = tf.matmul(split(over_cells, length), split(over_numbers, d), transpose_a=True)
    return tf.reshape(tf.transpose(product, [0, 2, 1, 3]), [images, length, heads * d])
