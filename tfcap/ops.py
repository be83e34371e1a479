"""The pairs of ``functional.py`` as differentiable TensorFlow ops: their gradients are the backward
functions.

The ops take tensors, variables or NumPy arrays and return tensors. They work eagerly and in
``tf.function``, compiled by XLA or not, with batch and time sizes known or unknown, in float16,
bfloat16, float32 and float64, and raise as the functions they are made of. Second and higher
derivatives are right: TensorFlow differentiates the backward function.

A sequence of more than `PART` steps is worked on in parts, with one product for each where
``functional.py`` has one for all steps; if it has a mask, or a length that is not known, it stays
whole.

A float32 sequence of at least `COMPILED_FROM` hidden numbers is compiled by XLA: its first call
with new sizes takes about a second. Smaller ones, single steps and other dtypes are not compiled.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tfcap import functional
from tfcap.shape_checks import check
from visualization.backend import tf

Tensor = Any

PART = 32  # steps of a sequence that are worked on at once
COMPILED_FROM = 128


def rnn_step(x: Tensor, prev_h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> Tensor:
    """`functional.rnn_step_forward`: x (N, D), prev_h (N, H) -> next_h (N, H)."""
    inputs = _checked(functional.rnn_step_forward, x=x, prev_h=prev_h, Wx=Wx, Wh=Wh, b=b)
    return _op(functional.rnn_step_forward, functional.rnn_step_backward, inputs)


def lstm_step(
    x: Tensor, prev_h: Tensor, prev_c: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """`functional.lstm_step_forward`: x (N, D), prev_h, prev_c (N, H) -> next_h, next_c (N, H)."""
    inputs = _checked(
        functional.lstm_step_forward, x=x, prev_h=prev_h, prev_c=prev_c, Wx=Wx, Wh=Wh, b=b
    )
    return _op(functional.lstm_step_forward, functional.lstm_step_backward, inputs)


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

    `mask` (N, T) is False where a step is skipped. With `reverse` the steps are taken from the last
    to the first, and h lies in the order in which they were taken, as in Keras's ``go_backwards``.
    """
    x, h0, *weights, mask = _checked(
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

    `c0` is zero unless given; `mask` and `reverse` are those of `rnn`.
    """
    c0 = tf.zeros_like(h0) if c0 is None else c0
    x, h0, c0, *weights, mask = _checked(
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


def word_embedding(x: Tensor, W: Tensor) -> Tensor:
    """`functional.word_embedding_forward`: ids x (N, T), W (V, D) -> (N, T, D).

    Under ``jit_compile`` TensorFlow drops the check of the ids.
    """
    x, W = _checked(functional.word_embedding_forward, x=x, W=W)
    forward = inspect.unwrap(functional.word_embedding_forward)
    return _op(functools.partial(forward, x), functional.word_embedding_backward, [W])


def temporal_affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """`functional.temporal_affine_forward`: x (N, T, D), w (D, M), b (M,) -> (N, T, M)."""
    inputs = _checked(functional.temporal_affine_forward, x=x, w=w, b=b)
    return _op(functional.temporal_affine_forward, functional.temporal_affine_backward, inputs)


def temporal_softmax_loss(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """`functional.temporal_softmax_loss`: scores x (N, T, V), y and mask (N, T) -> the loss, ()."""
    x, y, mask = _checked(functional.temporal_softmax_loss, x=x, y=y, mask=mask)
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
    _, Wh, _ = weights
    compiled = _worth_compiling(x, Wh)
    if mask is not None or x.shape[1] is None or x.shape[1] <= PART:
        return _op(forward, backward, [x, *states, *weights], mask, compiled=compiled)
    steps = [min(PART, x.shape[1] - start) for start in range(0, x.shape[1], PART)]
    hs = []
    for part in tf.split(x, steps, axis=1):
        h, *states = _op(forward, backward, [part, *states, *weights], mask, compiled=compiled)
        hs.append(h)
    return tf.concat(hs, axis=1), *states


def _op(
    forward: Callable,
    backward: Callable,
    inputs: list[Tensor],
    *constants: Tensor,
    compiled: bool = False,
) -> Any:
    """forward(*inputs, *constants) -> (*outputs, cache) as one op, whose gradient is `backward`.

    Everything is passed by position and as tensors: `tf.custom_gradient` falls back to TensorFlow's
    own gradient for keywords, and fails on a captured variable under mixed precision.
    """
    forward, backward = inspect.unwrap(forward), inspect.unwrap(backward)
    run_forward, run_backward = (forward, backward)
    if compiled:
        masked = any(constant is not None for constant in constants)
        widths = tuple(value.shape[-1] for value in inputs)
        run_forward = _compiled_forward(forward, masked, widths)
        run_backward = _compiled(backward, widths)

    @tf.custom_gradient
    def op(*inputs: Tensor) -> tuple[Any, Callable]:
        *outputs, cache = run_forward(*map(tf.stop_gradient, inputs), *constants)

        def gradient(*douts: Tensor) -> Any:
            used = [_or_zeros(dout, output) for dout, output in zip(douts, outputs, strict=True)]
            return gradient_op(*inputs, *used)

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

    return op(*inputs)


@functools.cache
def _compiled(function: Callable, widths: tuple[int, ...]) -> Callable:
    """`widths` because one `tf.function` for layers of several sizes would forget all of them."""
    return tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)


@functools.cache
def _compiled_forward(forward: Callable, masked: bool, widths: tuple[int, ...]) -> Callable:
    """The same, but what the cache only repeats of the inputs does not pass through XLA: it copies.

    `masked` because a forward function that is given a mask keeps other things.
    """
    repeated: dict[int, int] = {}  # a place in the cache -> the input that stands there

    def run(*inputs: Tensor) -> tuple[list, list]:
        *outputs, cache = forward(*inputs)
        places = {id(value): place for place, value in enumerate(inputs)}
        repeated.update({k: places[id(v)] for k, v in enumerate(cache) if id(v) in places})
        return outputs, [None if k in repeated else value for k, value in enumerate(cache)]

    def whole(*inputs: Tensor) -> tuple:
        outputs, kept = compiled(*inputs)
        cache = (inputs[repeated[k]] if k in repeated else v for k, v in enumerate(kept))
        return *outputs, tuple(cache)

    compiled = _compiled(run, widths)
    return whole


def _worth_compiling(x: Tensor, Wh: Tensor) -> bool:
    """XLA makes large float32 layers faster; its bfloat16 products are slower than TensorFlow's."""
    return x.dtype == tf.float32 and x.shape[1] != 1 and Wh.shape[0] >= COMPILED_FROM


def _checked(function: Callable, **arguments: Tensor) -> list[Tensor]:
    check(function, arguments)
    return list(arguments.values())


def _reverse(x: Tensor | None) -> Tensor | None:
    return None if x is None else tf.reverse(x, [1])


def _or_zeros(gradient: Tensor | None, value: Tensor) -> Tensor:
    """The gradient; zeros if nobody used the value, which TensorFlow says by None."""
    return tf.zeros_like(value) if gradient is None else gradient


def _list(results: Any) -> list[Tensor]:
    return list(results) if isinstance(results, tuple) else [results]
