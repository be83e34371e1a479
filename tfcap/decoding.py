"""Sentences from a model that predicts the next word: greedy, sampled, and by beam search.

Each is one loop, to be compiled as a whole by ``tf.function``, that ends when every sentence is
finished. A model is given as ``step(tokens, states) -> logits, states``: the last tokens, int32
(M,), and its states, a list of tensors (M, ...), become logits of the next token, float32 (M, V),
and the next states. ``<NULL>``, ``<START>`` and ``<UNK>`` are banned, and ``<NULL>`` follows
``<END>``. A sentence does not depend on the others in its batch.

Sources: beam search as in I. Sutskever, O. Vinyals, Q. V. Le (2014), Sequence to sequence learning,
section 3.2; length penalty, Y. Wu et al. (2016), Google's neural machine translation system,
equation 14; top-k, A. Fan, M. Lewis, Y. Dauphin (2018), Hierarchical neural story generation; top-p,
A. Holtzman et al. (2020), The curious case of neural text degeneration; no trigram twice, R. Paulus,
C. Xiong, R. Socher (2018), A deep reinforced model for abstractive summarization.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from visualization.backend import tf

__all__ = ["DEFAULTS", "SpecialTokens", "beam_search", "decode", "greedy", "sampler", "without"]

Tensor = Any
Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
SelectToken = Callable[[Tensor, Tensor], Tensor]


# The commands'. With this penalty sentences are as long from a beam of 10 as from one of 1.
DEFAULTS: dict[str, Any] = {
    "beam_size": 3,
    "max_length": 30,
    "length_penalty": 1.0,
    "block_trigrams": True,
}


class SpecialTokens(NamedTuple):
    """The ids of ``<NULL>``, ``<START>``, ``<END>``, ``<UNK>``; None if the vocabulary has none.

    Example:
        >>> SpecialTokens(null=0, start=1, end=2, unk=None).banned
        [0, 1]
    """

    null: int
    start: int | None
    end: int | None
    unk: int | None

    @property
    def banned(self) -> list[int]:
        """The ids that decoding never selects."""
        return [token for token in (self.null, self.start, self.unk) if token is not None]


def greedy(logits: Tensor, t: Tensor) -> Tensor:
    """The likeliest next token: logits (N, V), the step t -> int32 (N,).

    Example:
        >>> greedy(tf.constant([[0.0, 3.0, 1.0]]), 0).numpy().tolist()
        [1]
    """
    return tf.argmax(logits, axis=1, output_type=tf.int32)


def sampler(
    temperature: Tensor, top_k: Tensor | None, top_p: Tensor | None, seed: Tensor
) -> SelectToken:
    """Draws the next token from softmax(logits / temperature), in place of `greedy`.

    Args:
        temperature: above 0; below 1 sharpens, above 1 flattens.
        top_k: draw among that many likeliest tokens.
        top_p: draw among the fewest tokens whose probabilities reach this sum, in (0, 1].
        seed: (2,) integers. What a sentence draws depends on the seed and its place in the batch.

    Example:
        >>> select_token = sampler(0.5, 1, None, tf.constant([0, 0]))
        >>> select_token(tf.constant([[0.0, 3.0, 1.0]]), 0).numpy().tolist()  # of the top 1
        [1]
    """

    def select_token(logits: Tensor, t: Tensor) -> Tensor:
        logits = logits / temperature  # (N, V)
        if top_k is not None:
            k = tf.minimum(top_k, tf.shape(logits)[1])
            logits = _at_least(logits, tf.math.top_k(logits, k).values[:, -1:])
        if top_p is not None:
            ranked = tf.sort(logits, axis=1, direction="DESCENDING")
            before = tf.cumsum(tf.nn.softmax(ranked), axis=1, exclusive=True)
            kept = tf.maximum(tf.reduce_sum(tf.cast(before < top_p, tf.int32), axis=1), 1)
            logits = _at_least(logits, tf.gather(ranked, kept - 1, batch_dims=1)[:, tf.newaxis])
        uniform = tf.random.stateless_uniform(
            tf.shape(logits), seed + tf.cast([0, t], seed.dtype), minval=1e-30, dtype=logits.dtype
        )
        gumbel = -tf.math.log(-tf.math.log(uniform))  # arg max of logits + gumbel is a draw
        return greedy(logits + gumbel, t)

    return select_token


def decode(
    step: Step,
    states: list[Tensor],
    ids: SpecialTokens,
    max_length: Tensor,
    select_token: SelectToken = greedy,
    *,
    plain: bool = False,
    block_trigrams: bool = False,
    never_empty: bool = False,
) -> Tensor:
    """One sentence a row: states of N rows -> int32 (N, max_length).

    Args:
        step, states: the model, and its states before the first word.
        ids: the special tokens.
        max_length: the most tokens, ``<END>`` included.
        select_token: `greedy`, or what `sampler` returns.
        plain: the course's bare arg max: no token is banned, and ``<END>`` ends nothing.
        block_trigrams: no three words in a row occur twice in a sentence.
        never_empty: ``<END>`` is not the first token.

    Example:
        >>> count_up = lambda tokens, states: (tf.one_hot(tokens + 1, 6), states)
        >>> ids = SpecialTokens(null=0, start=1, end=4, unk=None)
        >>> decode(count_up, [tf.zeros((1, 1))], ids, 5).numpy().tolist()
        [[2, 3, 4, 0, 0]]
    """
    count = tf.shape(states[0])[0]
    banned = [] if plain else ids.banned

    def body(t: Tensor, last: Tensor, finished: Tensor, tokens: Tensor, *before: Tensor) -> tuple:
        logits, states = step(last, list(before))  # (N, V)
        logits = without(logits, banned)
        if block_trigrams:
            logits = _without_repeated_trigrams(logits, tokens, t)
        if never_empty and ids.end is not None:
            logits = tf.where(t == 0, without(logits, [ids.end]), logits)
        last = tf.where(finished, ids.null, select_token(logits, t))  # (N,)
        if not plain and ids.end is not None:
            finished |= last == ids.end
        return t + 1, last, finished, tf.tensor_scatter_nd_update(tokens, [[t]], [last]), *states

    start = tf.fill([count], ids.start)
    tokens = tf.fill([max_length, count], ids.null)
    _, _, _, tokens, *_ = tf.while_loop(
        lambda t, last, finished, *_: (t < max_length) & ~tf.reduce_all(finished),
        body,
        (0, start, tf.zeros([count], tf.bool), tokens, *states),
        shape_invariants=_any_rows([(), (None,), (None,), (None, None)], states),
        parallel_iterations=1,
    )
    return tf.transpose(tokens)  # (N, max_length)


def beam_search(
    step: Step,
    states: list[Tensor],
    ids: SpecialTokens,
    max_length: Tensor,
    beam_size: int,
    n_best: int = 1,
    length_penalty: Tensor = 0.0,
    *,
    block_trigrams: bool = False,
    never_empty: bool = False,
) -> tuple[Tensor, Tensor]:
    """The likeliest sentences found by extending `beam_size` beginnings at a time.

    A finished sentence keeps its beam until better ones take it. Sentences are ranked by
    log p / ((5 + length) / 6)^length_penalty. With one beam the tokens are those of `greedy`.

    Args:
        step, states, ids, max_length: as in `decode`.
        beam_size: B, how many beginnings are extended.
        n_best: how many sentences to return, at most `beam_size`.
        length_penalty: above 0 favours longer sentences.
        block_trigrams: no three words in a row occur twice in a sentence.
        never_empty: ``<END>`` is not the first token.

    Returns:
        Tokens, int32 (N, n_best, max_length), the best sentence first, and log p, float32
        (N, n_best): the sum over the tokens of log softmax(logits), ``<END>`` included. Where fewer
        than n_best sentences are possible, the rest are all ``<NULL>`` and have log p of -inf.

    Example:
        >>> count_up = lambda tokens, states: (99 * tf.one_hot(tokens + 1, 6), states)
        >>> ids = SpecialTokens(null=0, start=1, end=4, unk=None)
        >>> tokens, log_p = beam_search(count_up, [tf.zeros((1, 1))], ids, 5, beam_size=2)
        >>> tokens.numpy().tolist()
        [[[2, 3, 4, 0, 0]]]
    """
    count, beams = tf.shape(states[0])[0], beam_size

    def rank(log_p: Tensor, length: Tensor) -> Tensor:
        return log_p / ((5.0 + tf.cast(length, log_p.dtype)) / 6.0) ** length_penalty

    def body(
        t: Tensor,
        last: Tensor,
        log_p: Tensor,
        length: Tensor,
        finished: Tensor,
        tokens: Tensor,
        *before: Tensor,
    ) -> tuple:
        logits, states = step(tf.reshape(last, [-1]), list(before))  # (N * B, V)
        total = tf.reduce_logsumexp(logits, axis=1, keepdims=True)  # of all tokens, banned or not
        if block_trigrams:
            flat = tf.reshape(tf.transpose(tokens, [2, 0, 1]), [max_length, -1])  # (T, N * B)
            logits = _without_repeated_trigrams(logits, flat, t)
        if never_empty and ids.end is not None:
            logits = tf.where(t == 0, without(logits, [ids.end]), logits)
        best, token = _likeliest(logits, ids.banned, beams)  # (N * B, B)
        from_beam = [count, -1, beams]
        gain, token = tf.reshape(best - total, from_beam), tf.reshape(token, from_beam)  # (N, B, B)

        alone = tf.one_hot(0, beams, on_value=0.0, off_value=-float("inf"))  # one way to go on
        gain = tf.where(finished[..., tf.newaxis], alone, gain)
        token = tf.where(finished[..., tf.newaxis], ids.null, token)
        new_length = length + tf.cast(~finished, tf.int32)
        new_log_p = log_p[..., tf.newaxis] + gain  # (N, B, B)

        order = tf.reshape(rank(new_log_p, new_length[..., tf.newaxis]), [count, -1])
        chosen = tf.math.top_k(order, beams).indices  # (N, B), best first
        beam = chosen // beams

        def take(value: Tensor) -> Tensor:
            return tf.gather(tf.reshape(value, [count, -1]), chosen, batch_dims=1)

        def follow(value: Tensor) -> Tensor:
            return tf.gather(value, beam, batch_dims=1)

        last, log_p = take(token), take(new_log_p)
        length, finished, tokens = follow(new_length), follow(finished), follow(tokens)
        if ids.end is not None:
            finished |= last == ids.end
        now = tf.range(max_length) == t  # (T,)
        tokens = tf.where(now, last[..., tf.newaxis], tokens)
        per_image = tf.shape(states[0])[0] // count  # 1 in the first step, then B
        rows = tf.reshape(tf.range(count)[:, tf.newaxis] * per_image + beam, [-1])
        states = [tf.gather(state, rows) for state in states]
        return t + 1, last, log_p, length, finished, tokens, *states

    def continues(
        t: Tensor, last: Tensor, log_p: Tensor, length: Tensor, finished: Tensor, *_: Tensor
    ) -> Tensor:
        """Whether some sentence that has not finished could still be among the n best."""
        never = tf.constant(-float("inf"))
        could_be = tf.where(
            finished, never, tf.maximum(rank(log_p, length), rank(log_p, max_length))
        )
        worst = tf.reduce_min(tf.where(finished, rank(log_p, length), never)[:, :n_best], axis=1)
        open_still = tf.reduce_any(tf.reduce_max(could_be, axis=1) > worst)
        return (t < max_length) & open_still

    first = (
        tf.fill([count, 1], ids.start),
        tf.zeros([count, 1]),
        tf.zeros([count, 1], tf.int32),
        tf.zeros([count, 1], tf.bool),
        tf.fill([count, 1, max_length], ids.null),
    )
    shapes = [(), *[(None, None)] * 4, (None, None, None)]
    _, _, log_p, _, _, tokens, *_ = tf.while_loop(
        continues,
        body,
        (0, *first, *states),
        shape_invariants=_any_rows(shapes, states),
        parallel_iterations=1,
    )
    possible = tf.math.is_finite(log_p)[..., tf.newaxis]
    return tf.where(possible, tokens, ids.null)[:, :n_best], log_p[:, :n_best]


def _any_rows(shapes: list[tuple], states: list[Tensor]) -> tuple:
    """The shapes of a loop's variables, with any number of rows."""
    return tuple(map(tf.TensorShape, [*shapes, *[(None, *s.shape[1:]) for s in states]]))


def _likeliest(logits: Tensor, banned: list[int], k: int) -> tuple[Tensor, Tensor]:
    """Logits and ids of the k likeliest tokens that are not banned: (M, V) -> (M, k), (M, k).

    Taking a few more from the top and dropping the banned ones among them saves a copy of the logits.
    Where there are fewer than k, the rest are -inf.
    """
    found = min(k + len(banned), logits.shape[1])
    best, tokens = tf.math.top_k(logits, found)  # (M, found)
    bad = tf.reduce_any(tokens[..., tf.newaxis] == tf.constant(banned), axis=-1)
    best, places = tf.math.top_k(tf.where(bad, -float("inf"), best), min(k, found))
    tokens = tf.gather(tokens, places, batch_dims=1)
    missing = [[0, 0], [0, k - min(k, found)]]
    return tf.pad(best, missing, constant_values=-float("inf")), tf.pad(tokens, missing)


def without(logits: Tensor, banned: list[int]) -> Tensor:
    """The logits (N, V) with -inf in the banned columns.

    Example:
        >>> without(tf.constant([[1.0, 2.0]]), [1]).numpy().tolist()
        [[1.0, -inf]]
    """
    if not banned:
        return logits
    columns = tf.reduce_any(tf.range(logits.shape[1])[:, tf.newaxis] == banned, axis=1)  # (V,)
    return tf.where(columns, tf.cast(-float("inf"), logits.dtype), logits)


def _at_least(logits: Tensor, threshold: Tensor) -> Tensor:
    return tf.where(logits >= threshold, logits, tf.cast(-float("inf"), logits.dtype))


def _without_repeated_trigrams(logits: Tensor, tokens: Tensor, t: Tensor) -> Tensor:
    """-inf for tokens that would repeat a trigram: logits (N, V), tokens (T, N) before step t.

    Some token always remains: no earlier trigram ends in ``<END>``.
    """
    length = tf.shape(tokens)[0]
    padded = tf.concat([tf.fill([2, tf.shape(tokens)[1]], -1), tokens], axis=0)  # (T + 2, N)
    last, before_last = padded[t + 1], padded[t]  # (N,)
    again = (tokens[:-2] == before_last) & (tokens[1:-1] == last)  # (T - 2, N)
    again &= tf.range(tf.maximum(length - 2, 0))[:, tf.newaxis] < t - 2
    k, n = tf.unstack(tf.where(again), num=2, axis=1)
    third = tf.gather_nd(tokens, tf.stack([k + 2, n], axis=1))
    places = tf.stack([n, tf.cast(third, n.dtype)], axis=1)
    never = tf.fill([tf.shape(places)[0]], tf.cast(-float("inf"), logits.dtype))
    return tf.tensor_scatter_nd_update(logits, places, never)
