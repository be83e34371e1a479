"""The loop over time that the sequences of `tfcap.functional` share, and what a mask leaves out.

Arrays of all steps lie time first, (T, N, width). A mask is (T, N, 1): False where a row skips a
step.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from visualization.backend import tf

__all__ = [
    "begun",
    "taking",
    "time_first",
    "unroll",
    "where",
    "whole_blocks",
    "whole_blocks_product",
]

Tensor = Any

EIGHTHS = 8  # what a mask leaves out is rounded to whole eighths of all rows


def unroll(
    step: Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]],
    states: Sequence[Tensor],
    inputs: Sequence[Tensor | None],
    widths: Sequence[int],
    *,
    reverse: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Takes all steps of a batch of sequences, one after the other, in one loop of the graph.

    Args:
        step: called as ``step(*states, *inputs)`` with one step's inputs, (N, width) each; returns
            the new states and the step's outputs, two lists.
        states: what passes from step to step, (N, width) each.
        inputs: (T, N, width) each; what is None stays None for every step.
        widths: of the outputs.
        reverse: whether to go from the last step to the first.

    Returns:
        The final states, (N, width) each, and the outputs, (T, N, width) each, in the order of time.

    Example:
        >>> total = lambda total, x: ([total + x], [total + x])
        >>> [last], [sums] = unroll(total, [tf.zeros((1, 1))], [tf.ones((3, 1, 1))], [1])
        >>> sums.numpy().ravel().tolist()
        [1.0, 2.0, 3.0]
    """
    x: Any = inputs[0]
    size: Any = x.shape[0] if x.shape[0] is not None else tf.shape(x)[0]
    T: Any = size if _steps.get() is None else _steps.get()
    outputs = [tf.TensorArray(x.dtype, size, element_shape=(x.shape[1], width)) for width in widths]

    def goes_on(t: Tensor, *_: Any) -> Tensor:
        return t >= 0 if reverse else t < T

    def body(t: Tensor, states: list[Tensor], outputs: list[tf.TensorArray]) -> tuple:
        now = [None if value is None else value[t] for value in inputs]
        new_states, made = step(*states, *now)
        outputs = [array.write(t, value) for array, value in zip(outputs, made, strict=True)]
        return t - 1 if reverse else t + 1, list(new_states), outputs

    # XLA can only differentiate the loop, for second derivatives, if it knows how long it is at most.
    start = T - 1 if reverse else 0, list(states), outputs
    _, last, outputs = tf.while_loop(goes_on, body, start, maximum_iterations=x.shape[0])
    return last, [array.stack() for array in outputs]


@contextlib.contextmanager
def taking(steps: Tensor) -> Iterator[None]:
    """Makes `unroll` take only the first steps of the sequences, inside of the block.

    The outputs of the others are zeros. So what is compiled for one length serves shorter ones too.

    Example:
        >>> total = lambda total, x: ([total + x], [total + x])
        >>> with taking(2):
        ...     [last], [sums] = unroll(total, [tf.zeros((1, 1))], [tf.ones((3, 1, 1))], [1])
        >>> sums.numpy().ravel().tolist()
        [1.0, 2.0, 0.0]
    """
    token = _steps.set(steps)
    try:
        yield
    finally:
        _steps.reset(token)


_steps: contextvars.ContextVar[Tensor | None] = contextvars.ContextVar("steps", default=None)


def time_first(x: Tensor) -> Tensor:
    """(N, T, width) to (T, N, width), or back.

    Example:
        >>> time_first(tf.zeros((2, 3, 4))).shape.as_list()
        [3, 2, 4]
    """
    return tf.transpose(x, [1, 0, 2])


def where(keep: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """`new` in the rows that take this step, `old` in the others.

    Args:
        keep: (N, 1), or None if every row takes every step.
        new, old: (N, width).

    Example:
        >>> where(tf.constant([[True], [False]]), tf.ones((2, 1)), tf.zeros((2, 1))).numpy().tolist()
        [[1.0], [0.0]]
    """
    return new if keep is None else tf.where(keep, new, old)


def whole_blocks_product(v: Tensor, W: Tensor, keep: Tensor | None) -> Tensor:
    """v @ W by `whole_blocks`: v (N, D), W (D, M) -> (N, M).

    Example:
        >>> keep = tf.constant([[True], *[[False]] * 7])
        >>> whole_blocks_product(tf.ones((8, 1)), tf.ones((1, 1)), keep).numpy().ravel().tolist()
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    [product] = whole_blocks(lambda v: [v @ W], [v], keep)
    return product


def whole_blocks(
    function: Callable[..., Sequence[Tensor]], values: Sequence[Tensor], keep: Tensor | None
) -> list[Tensor]:
    """function(*values), without the blocks at the end of the batch in which no row takes this step.

    Right for rows in any order; where they come sorted by falling length, those that have ended are
    left out. XLA needs fixed sizes: the rows are rounded up to whole eighths of N, and nothing is left
    out if N is only known when the graph runs.

    Args:
        function: makes a list of tensors (N, ...) of the values, each row from its own rows.
        values: (N, ...) each.
        keep: (N, 1), or None if every row takes every step.

    Returns:
        The function's results, with zeros or its values in the rows that do not take this step.

    Example:
        >>> keep = tf.constant([[True], *[[False]] * 7])
        >>> [doubled] = whole_blocks(lambda v: [2 * v], [tf.ones((8, 1))], keep)
        >>> doubled.numpy().ravel().tolist()
        [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    N = values[0].shape[0]
    if keep is None or N is None:
        return list(function(*values))

    def first(n: int) -> list[Tensor]:
        results = function(*[value[:n] for value in values])
        return [tf.pad(v, [[0, N - n], *[[0, 0]] * (len(v.shape) - 1)]) for v in results]

    rows = tf.reduce_max(tf.cast(keep[:, 0], tf.int32) * tf.range(1, N + 1))  # up to the last one
    return list(_in_eighths(first, N, rows))


def rows_that_count(
    function: Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]],
    values: Sequence[Tensor],
    keep: Tensor | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """function(*values) of only the rows that count, in any order, as many as whole eighths hold.

    Args:
        function: makes two lists of the values (n, ...): tensors (n, ...), each row from its own rows,
            and sums over all rows, to which rows that do not count add nothing.
        values: (R, ...) each; nothing is left out if R is only known when the graph runs.
        keep: bool (R,), or None if every row counts.

    Returns:
        The function's results, the former (R, ...), with zeros in the rows that do not count.

    Example:
        >>> keep = tf.constant([False, True])
        >>> doubled_and_sum = lambda v: ([2 * v], [tf.reduce_sum(v)])
        >>> [doubled], _ = rows_that_count(doubled_and_sum, [tf.ones((2, 1))], keep)
        >>> doubled.numpy().ravel().tolist()
        [0.0, 2.0]
    """
    R = values[0].shape[0]
    if keep is None or R is None:
        each, sums = function(*values)
        return list(each), list(sums)
    order = tf.argsort(tf.cast(~keep, tf.int32), stable=True)  # those that count come first
    place = tf.cumsum(tf.cast(keep, tf.int32))  # of each of them in that order, from 1

    def first(n: int) -> tuple[list[Tensor], list[Tensor]]:
        if n == R:
            each, sums = function(*values)
            return [tf.where(keep[:, tf.newaxis], v, tf.zeros_like(v)) for v in each], list(sums)
        each, sums = function(*[tf.gather(value, order[:n]) for value in values])
        zero_first = [tf.pad(value, [[1, 0], [0, 0]]) for value in each]
        from_place = tf.where(keep, place, tf.zeros_like(place))
        return [tf.gather(value, from_place) for value in zero_first], list(sums)

    return _in_eighths(first, R, tf.reduce_sum(tf.cast(keep, tf.int32)))


def _in_eighths(first: Callable[[int], Any], size: int, needed: Tensor) -> Any:
    """first(n) for the smallest n that is enough, of which a graph, or XLA, must know all."""
    sizes = sorted({size * k // EIGHTHS for k in range(EIGHTHS + 1)})
    choices = [functools.partial(first, n) for n in sizes]
    return tf.switch_case(tf.searchsorted(sizes, [needed])[0], choices)


def begun(mask: Tensor) -> Tensor:
    """True from each row's first step that counts: bool (T, N, 1).

    Example:
        >>> begun(tf.constant([False, True, False])[:, None, None]).numpy().ravel().tolist()
        [False, True, True]
    """
    return tf.cumsum(tf.cast(mask, tf.int32), axis=0) > 0
