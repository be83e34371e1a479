"""The pairs of `tfcap.functional` as differentiable TensorFlow ops: their gradients are the backward
functions.

The ops take tensors, variables or NumPy arrays and return tensors. They work eagerly and in
``tf.function``, compiled by XLA or not, with batch and time sizes known or unknown, in float16,
bfloat16, float32 and float64, and raise as the functions they are made of. Second and higher
derivatives are right: TensorFlow differentiates the backward function.

A sequence of more than `PART` steps is worked on in parts, with one product for each where
`tfcap.functional` has one for all steps; if it has a mask, or a length that is not known, it stays
whole.

A float32 sequence of at least `COMPILED_FROM` hidden numbers is compiled by XLA: its first call
with new sizes takes about a second. Lengths that a graph does not know are rounded up to multiples
of `ROUNDED_TO`, so that few are new. One of at least `COMPILED_IN_A_GRAPH_FROM` is compiled in a
``tf.function`` that knows N and T, which is made to run often, and so is an LSTM's single step, if it
is large. Smaller ones, other steps and other dtypes are not compiled.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tfcap import functional
from tfcap.shape_checks import check
from tfcap.unroll import taking
from visualization.backend import tf

__all__ = [
    "affine",
    "attention",
    "attention_lstm",
    "attention_lstm_step",
    "lstm",
    "lstm_step",
    "rnn",
    "rnn_step",
    "temporal_affine",
    "temporal_softmax_loss",
    "word_embedding",
]

Tensor = Any

PART = 32  # steps of a sequence that are worked on at once
ROUNDED_TO = 8  # what is compiled for so many steps serves all lengths up to it
COMPILED_FROM = 128
COMPILED_IN_A_GRAPH_FROM = 64


def affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """`functional.affine_forward`: x (N, ...), w (D, M), b (M,) -> (N, M).

    Example:
        >>> affine(tf.ones((2, 3)), tf.ones((3, 1)), tf.zeros(1)).numpy().ravel().tolist()
        [3.0, 3.0]
    """
    inputs = _tensors(functional.affine_forward, x=x, w=w, b=b)
    return _op(functional.affine_forward, functional.affine_backward, inputs)


def rnn_step(x: Tensor, prev_h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> Tensor:
    """`functional.rnn_step_forward`: x (N, D), prev_h (N, H) -> next_h (N, H).

    Example:
        >>> rnn_step(*map(tf.zeros, ((2, 3), (2, 4), (3, 4), (4, 4), (4,)))).shape.as_list()
        [2, 4]
    """
    inputs = _tensors(functional.rnn_step_forward, x=x, prev_h=prev_h, Wx=Wx, Wh=Wh, b=b)
    return _op(functional.rnn_step_forward, functional.rnn_step_backward, inputs)


def lstm_step(
    x: Tensor, prev_h: Tensor, prev_c: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """`functional.lstm_step_forward`: x (N, D), prev_h, prev_c (N, H) -> next_h, next_c (N, H).

    Example:
        >>> weights = map(tf.zeros, ((3, 16), (4, 16), (16,)))
        >>> h, c = lstm_step(tf.ones((2, 3)), tf.zeros((2, 4)), tf.ones((2, 4)), *weights)
        >>> c[0, 0].numpy().item()  # half of the cell state, as sigmoid(0) = 1/2
        0.5
    """
    inputs = _tensors(
        functional.lstm_step_forward, x=x, prev_h=prev_h, prev_c=prev_c, Wx=Wx, Wh=Wh, b=b
    )
    large = inputs[0].dtype == tf.float32 and inputs[1].shape[1] >= COMPILED_FROM
    compiled = tf.inside_function() and large  # a graph runs it often, as in a search for sentences
    pair = functional.lstm_step_forward, functional.lstm_step_backward
    return _op(*pair, inputs, compiled=compiled)


def rnn(
    x: Tensor,
    h0: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    b: Tensor,
    *,
    mask: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """`functional.rnn_sequence_forward`: x (N, T, D), h0 (N, H) -> h (N, T, H), final h (N, H).

    Args:
        x, h0, Wx, Wh, b: as there.
        mask: (N, T), False where a step is skipped.
        reverse: whether to take the steps from the last to the first; h then lies in the order in
            which they were taken, as in Keras's ``go_backwards``.

    Example:
        >>> h, h_last = rnn(*map(tf.zeros, ((2, 5, 3), (2, 4), (3, 4), (4, 4), (4,))))
        >>> h.shape.as_list(), h_last.shape.as_list()
        ([2, 5, 4], [2, 4])
    """
    x, h0, *weights, mask = _tensors(
        functional.rnn_sequence_forward, x=x, h0=h0, Wx=Wx, Wh=Wh, b=b, mask=mask
    )
    return _sequence(
        functional.rnn_sequence_forward,
        functional.rnn_sequence_backward,
        _reverse(x) if reverse else x,
        [h0],
        weights,
        _reverse(mask) if reverse else mask,
    )


def lstm(
    x: Tensor,
    h0: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    b: Tensor,
    *,
    c0: Tensor | None = None,
    mask: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """`functional.lstm_sequence_forward`: x (N, T, D), h0, c0 (N, H) -> h (N, T, H), final h, c.

    Args:
        x, h0, Wx, Wh, b: as there.
        c0: zero unless given.
        mask, reverse: as in `rnn`.

    Example:
        >>> h, h_last, c_last = lstm(*map(tf.zeros, ((2, 5, 3), (2, 4), (3, 16), (4, 16), (16,))))
        >>> h.shape.as_list(), c_last.shape.as_list()
        ([2, 5, 4], [2, 4])
    """
    c0 = tf.zeros_like(h0) if c0 is None else c0
    x, h0, c0, *weights, mask = _tensors(
        functional.lstm_sequence_forward, x=x, h0=h0, c0=c0, Wx=Wx, Wh=Wh, b=b, mask=mask
    )
    return _sequence(
        functional.lstm_sequence_forward,
        functional.lstm_sequence_backward,
        _reverse(x) if reverse else x,
        [h0, c0],
        weights,
        _reverse(mask) if reverse else mask,
    )


def attention(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """`functional.attention_forward`: q (N, H), keys, values (I, L, H) -> out (N, H), weights.

    The weights (N, heads, L) are for looking at: no gradient passes through them.

    Example:
        >>> out, weights = attention(tf.ones((2, 4)), *map(tf.ones, 2 * [(2, 9, 4)]), heads=2)
        >>> weights.shape.as_list()
        [2, 2, 9]
    """
    inputs = _tensors(functional.attention_forward, q=q, keys=keys, values=values)
    forward, backward = functional.attention_forward, functional.attention_backward
    return _op(forward, backward, inputs, heads, shown=1)


def attention_lstm_step(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`functional.attention_lstm_step_forward`: next_h, next_c, context (N, H), weights.

    The weights (N, heads, L) are for looking at: no gradient passes through them.

    Example:
        >>> image, weights = tf.ones((2, 9, 4)), map(tf.zeros, ((3, 16), (4, 16), (4, 16), (4, 4)))
        >>> state = tf.zeros((2, 4))
        >>> h, c, context, weights = attention_lstm_step(
        ...     tf.ones((2, 3)), state, state, image, image, *weights, tf.zeros(16), heads=2
        ... )
        >>> context[0].numpy().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    forward = functional.attention_lstm_step_forward
    state = {"prev_h": prev_h, "prev_c": prev_c, "keys": keys, "values": values}
    inputs = _tensors(forward, x=x, **state, Wx=Wx, Wh=Wh, Wz=Wz, Wq=Wq, b=b)
    return _op(forward, functional.attention_lstm_step_backward, inputs, heads, shown=1)


def attention_lstm(
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
    *,
    image_of_row: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`functional.attention_lstm_sequence_forward`, never in parts.

    Args:
        x, h0, c0, keys, values, Wx, Wh, Wz, Wq, b, heads: as there.
        image_of_row: (N,), the image of each row. Without it the rows of an image must lie together,
            equally many, which is faster.
        mask: (N, T), False where a step is skipped.

    Returns:
        h and context (N, T, H), final h and c (N, H), weights (N, T, heads, L). The weights are for
        looking at: no gradient passes through them.

    Example:
        >>> image, weights = tf.ones((2, 9, 4)), map(tf.zeros, ((3, 16), (4, 16), (4, 16), (4, 4)))
        >>> x, state = tf.ones((4, 5, 3)), tf.zeros((4, 4))
        >>> h, context, h_last, c_last, weights = attention_lstm(
        ...     x, state, state, image, image, *weights, tf.zeros(16), heads=2
        ... )
        >>> weights.shape.as_list()
        [4, 5, 2, 9]
    """
    forward = functional.attention_lstm_sequence_forward
    *inputs, image_of_row, mask = _tensors(
        forward,
        x=x,
        h0=h0,
        c0=c0,
        keys=keys,
        values=values,
        Wx=Wx,
        Wh=Wh,
        Wz=Wz,
        Wq=Wq,
        b=b,
        image_of_row=image_of_row,
        mask=mask,
    )
    backward = functional.attention_lstm_sequence_backward
    return _op(forward, backward, inputs, heads, image_of_row, mask, shown=1)


def word_embedding(x: Tensor, W: Tensor) -> Tensor:
    """`functional.word_embedding_forward`: ids x (N, T), W (V, D) -> (N, T, D).

    Under ``jit_compile`` TensorFlow drops the check of the ids.

    Example:
        >>> word_embedding([[1, 0]], [[0.0], [5.0]]).numpy().ravel().tolist()
        [5.0, 0.0]
    """
    x, W = _tensors(functional.word_embedding_forward, x=x, W=W)
    forward = inspect.unwrap(functional.word_embedding_forward)
    return _op(functools.partial(forward, x), functional.word_embedding_backward, [W])


def temporal_affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """`functional.temporal_affine_forward`: x (N, T, D), w (D, M), b (M,) -> (N, T, M).

    Example:
        >>> temporal_affine(tf.ones((1, 2, 3)), tf.ones((3, 1)), tf.zeros(1)).numpy().tolist()
        [[[3.0], [3.0]]]
    """
    inputs = _tensors(functional.temporal_affine_forward, x=x, w=w, b=b)
    return _op(functional.temporal_affine_forward, functional.temporal_affine_backward, inputs)


def temporal_softmax_loss(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """`functional.temporal_softmax_loss`: logits x (N, T, V), y and mask (N, T) -> the loss, ().

    No gradient passes to the mask.

    Example:
        >>> loss = temporal_softmax_loss(tf.zeros((1, 1, 2)), [[1]], [[True]])
        >>> round(loss.numpy().item(), 4)  # log 2
        0.6931
    """
    x, y, mask = _tensors(functional.temporal_softmax_loss, x=x, y=y, mask=mask)
    loss = inspect.unwrap(functional.temporal_softmax_loss)
    return _op(lambda x: loss(x, y, mask), lambda dloss, dx: dloss * dx, [x])


def _sequence(
    forward: Callable,
    backward: Callable,
    x: Tensor,
    states: list[Tensor],
    weights: list[Tensor],
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """A long sequence as parts, each from the states that the one before it ended with.

    What a backward function needs beside its cache then exists for one part at a time. A masked
    sequence stays whole: what it shows for a padded step may come from any step before.
    """
    if mask is not None or x.shape[1] is None or x.shape[1] <= PART:
        return _part(forward, backward, x, states, weights, mask)
    steps = [min(PART, x.shape[1] - start) for start in range(0, x.shape[1], PART)]
    hs = []
    for part in tf.split(x, steps, axis=1):
        h, *states = _part(forward, backward, part, states, weights, None)
        hs.append(h)
    return tf.concat(hs, axis=1), *states


def _part(
    forward: Callable,
    backward: Callable,
    x: Tensor,
    states: list[Tensor],
    weights: list[Tensor],
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """Where lengths differ from call to call, few of them are compiled, and serve the others."""
    _, Wh, _ = weights
    compiled = _worth_compiling(x, Wh)
    if not compiled or _made_for_its_sizes(x):
        return _op(forward, backward, [x, *states, *weights], mask, compiled=compiled)
    T = tf.shape(x)[1]
    missing = -T % ROUNDED_TO
    x = tf.pad(x, [[0, 0], [0, missing], [0, 0]])
    mask = None if mask is None else tf.pad(mask, [[0, 0], [0, missing]])
    pair = _first_steps(inspect.unwrap(forward), inspect.unwrap(backward))
    h, *states = _op(*pair, [x, *states, *weights], mask, T, compiled=True)
    return h[:, :T], *states


def _op(
    forward: Callable,
    backward: Callable,
    inputs: list[Tensor],
    *constants: Any,
    compiled: bool = False,
    shown: int = 0,
) -> Any:
    """forward(*inputs, *constants) -> (*outputs, cache) as one op, whose gradient is `backward`.

    The last outputs, as many as `shown`, pass no gradient on.

    Everything is passed by position and as tensors: `tf.custom_gradient` falls back to TensorFlow's
    own gradient for keywords, and fails on a captured variable under mixed precision.
    """
    forward, backward = inspect.unwrap(forward), inspect.unwrap(backward)
    run_forward, run_backward = forward, backward
    if compiled:
        widths = tuple(value.shape[-1] for value in inputs)
        run_forward, run_backward = _compiled(forward, widths), _compiled(backward, widths)

    @tf.custom_gradient
    def op(*inputs: Tensor) -> tuple[Any, Callable]:
        *outputs, cache = run_forward(*map(tf.stop_gradient, inputs), *constants)

        def gradient(*douts: Tensor) -> Any:
            used = list(map(_or_zeros, douts, outputs))
            return gradient_op(*inputs, *used[: len(used) - shown])

        @tf.custom_gradient
        def gradient_op(*arguments: Tensor) -> tuple[Any, Callable]:
            dinputs = _list(run_backward(*map(tf.stop_gradient, arguments[len(inputs) :]), cache))

            def second(*upstream: Tensor) -> Any:
                upstream = tuple(map(_or_zeros, upstream, dinputs))
                with tf.GradientTape() as tape:
                    tape.watch(arguments)
                    *_, again = forward(*arguments[: len(inputs)], *constants)
                    results = _list(backward(*arguments[len(inputs) :], again))
                return tape.gradient(results, arguments, upstream, tf.UnconnectedGradients.ZERO)

            return dinputs, second

        return outputs if len(outputs) > 1 else outputs[0], gradient

    outputs = op(*inputs)
    if shown:
        outputs = *outputs[:-shown], *map(tf.stop_gradient, outputs[-shown:])
    return outputs


@functools.cache
def _first_steps(forward: Callable, backward: Callable) -> tuple[Callable, Callable]:
    """The pair for sequences of which only the first steps are taken: forward(*inputs, mask, T)."""

    def first_forward(*arguments: Any) -> tuple:
        *inputs_and_mask, T = arguments
        with taking(T):
            *outputs, cache = forward(*inputs_and_mask)
        return *outputs, (T, cache)

    def first_backward(*arguments: Any) -> Any:
        *douts, (T, cache) = arguments
        with taking(T):
            return backward(*douts, cache)

    return first_forward, first_backward


@functools.cache
def _compiled(function: Callable, widths: tuple[int, ...]) -> Callable:
    """`widths` because one `tf.function` for layers of several sizes would forget all of them.

    What the function returns as it came, such as weights in a cache, is not returned by what is
    compiled: XLA would copy it.
    """
    traced: dict[str, Any] = {}

    @tf.function(jit_compile=True, reduce_retracing=True, autograph=False)
    def made(*arguments: Any) -> list[Tensor]:
        places = {id(value): place for place, value in enumerate(tf.nest.flatten(arguments))}
        results = function(*arguments)
        traced["structure"] = tf.nest.map_structure(lambda _: 0, results)
        flat = tf.nest.flatten(results)
        traced["places"] = [None if v is None else places.get(id(v)) for v in flat]
        return [v for v, place in zip(flat, traced["places"], strict=True) if place is None]

    def run(*arguments: Any) -> Any:
        new, given = iter(made(*arguments)), tf.nest.flatten(arguments)
        flat = [next(new) if place is None else given[place] for place in traced["places"]]
        return tf.nest.pack_sequence_as(traced["structure"], flat)

    return run


def _worth_compiling(x: Tensor, Wh: Tensor) -> bool:
    """XLA makes large float32 layers faster; its bfloat16 products are slower than TensorFlow's."""
    if x.dtype != tf.float32 or x.shape[1] == 1:
        return False
    H = Wh.shape[0]
    return H >= COMPILED_FROM or (_made_for_its_sizes(x) and H >= COMPILED_IN_A_GRAPH_FROM)


def _made_for_its_sizes(x: Tensor) -> bool:
    """Whether this is traced into a graph that knows N and T, so that no others are to come."""
    return tf.inside_function() and x.shape[:2].is_fully_defined()


def _tensors(function: Callable, **arguments: Tensor) -> list[Tensor]:
    """The arguments as tensors that fit `function`."""
    check(function, arguments)
    return list(arguments.values())


def _reverse(x: Tensor | None) -> Tensor | None:
    return None if x is None else tf.reverse(x, [1])


def _or_zeros(gradient: Tensor | None, value: Tensor) -> Tensor:
    """The gradient as one tensor; zeros if nobody used the value, which TensorFlow says by None."""
    return tf.zeros_like(value) if gradient is None else tf.convert_to_tensor(gradient)


def _list(results: Any) -> list[Tensor]:
    return list(results) if isinstance(results, tuple) else [results]
