"""Sentences from a model that scores the next word: greedy, sampled, and by beam search.

Each is one loop, to be compiled as a whole by ``tf.function``, that ends when every sentence has.
A model is given as ``step(words, states) -> scores, states``: the words just said, int32 (M,), and
its states, a list of tensors (M, ...), become scores of the next word, float32 (M, V), and the
states after it. ``<NULL>``, ``<START>`` and ``<UNK>`` are never said, and ``<NULL>`` follows
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

Tensor = Any
Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
Choose = Callable[[Tensor, Tensor], Tensor]


class SpecialIds(NamedTuple):
    """The ids of ``<NULL>``, ``<START>``, ``<END>``, ``<UNK>``; None for one that is not there."""

    null: int
    start: int | None
    end: int | None
    unk: int | None

    @property
    def never_said(self) -> list[int]:
        return [word for word in (self.null, self.start, self.unk) if word is not None]


def greedy(scores: Tensor, t: Tensor) -> Tensor:
    """The likeliest next word: scores (N, V), the step t -> int32 (N,)."""
    return tf.argmax(scores, axis=1, output_type=tf.int32)


def sampler(
    temperature: Tensor, top_k: Tensor | None, top_p: Tensor | None, seed: Tensor
) -> Choose:
    """Draws the next word from softmax(scores / temperature), in place of `greedy`.

    Args:
        temperature: above 0; below 1 sharpens, above 1 flattens.
        top_k: draw among that many likeliest words.
        top_p: draw among the fewest words whose probabilities reach this sum, in (0, 1].
        seed: (2,) integers. What a sentence draws depends on the seed and its place in the batch.
    """

    def choose(scores: Tensor, t: Tensor) -> Tensor:
        scores = scores / temperature  # (N, V)
        if top_k is not None:
            k = tf.minimum(top_k, tf.shape(scores)[1])
            scores = _at_least(scores, tf.math.top_k(scores, k).values[:, -1:])
        if top_p is not None:
            ranked = tf.sort(scores, axis=1, direction="DESCENDING")
            before = tf.cumsum(tf.nn.softmax(ranked), axis=1, exclusive=True)
            kept = tf.maximum(tf.reduce_sum(tf.cast(before < top_p, tf.int32), axis=1), 1)
            scores = _at_least(scores, tf.gather(ranked, kept - 1, batch_dims=1)[:, tf.newaxis])
        uniform = tf.random.stateless_uniform(
            tf.shape(scores), seed + tf.cast([0, t], seed.dtype), minval=1e-30, dtype=scores.dtype
        )
        gumbel = -tf.math.log(-tf.math.log(uniform))  # arg max of scores + gumbel is a draw
        return greedy(scores + gumbel, t)

    return choose


def decode(
    step: Step,
    states: list[Tensor],
    ids: SpecialIds,
    max_length: Tensor,
    choose: Choose = greedy,
    *,
    plain: bool = False,
    block_trigrams: bool = False,
) -> Tensor:
    """One sentence a row: states of N rows -> int32 (N, max_length).

    Args:
        choose: `greedy`, or what `sampler` returns.
        plain: the course's bare arg max: any word may be said, and ``<END>`` ends nothing.
        block_trigrams: no three words in a row occur twice in a sentence.
    """
    count = tf.shape(states[0])[0]
    barred = [] if plain else ids.never_said

    def body(t: Tensor, words: Tensor, ended: Tensor, said: Tensor, *before: Tensor) -> tuple:
        scores, states = step(words, list(before))  # (N, V)
        scores = _without(scores, barred)
        if block_trigrams:
            scores = _without_repeated_trigrams(scores, said, t)
        words = tf.where(ended, ids.null, choose(scores, t))  # (N,)
        if not plain and ids.end is not None:
            ended |= words == ids.end
        return t + 1, words, ended, tf.tensor_scatter_nd_update(said, [[t]], [words]), *states

    start = tf.fill([count], ids.start)
    said = tf.fill([max_length, count], ids.null)
    _, _, _, said, *_ = tf.while_loop(
        lambda t, words, ended, *_: (t < max_length) & ~tf.reduce_all(ended),
        body,
        (0, start, tf.zeros([count], tf.bool), said, *states),
        shape_invariants=_any_rows([(), (None,), (None,), (None, None)], states),
        parallel_iterations=1,
    )
    return tf.transpose(said)  # (N, max_length)


def beam_search(
    step: Step,
    states: list[Tensor],
    ids: SpecialIds,
    max_length: Tensor,
    beam_size: int,
    n_best: int = 1,
    length_penalty: Tensor = 0.0,
    *,
    block_trigrams: bool = False,
) -> tuple[Tensor, Tensor]:
    """The likeliest sentences that are found by following `beam_size` beginnings at a time.

    An ended sentence keeps its place until better ones take it. Sentences are ranked by
    log p / ((5 + length) / 6)^length_penalty. With one beam the words are those of `greedy`.

    Returns words int32 (N, n_best, max_length), best first, and log p float32 (N, n_best): the sum
    over the words of log softmax(scores), ``<END>`` included. Where fewer than n_best sentences are
    possible, the rest are all ``<NULL>`` and have log p of -inf.
    """
    count, beams = tf.shape(states[0])[0], beam_size

    def rank(log_p: Tensor, length: Tensor) -> Tensor:
        return log_p / ((5.0 + tf.cast(length, log_p.dtype)) / 6.0) ** length_penalty

    def body(
        t: Tensor,
        words: Tensor,
        log_p: Tensor,
        length: Tensor,
        ended: Tensor,
        said: Tensor,
        *before: Tensor,
    ) -> tuple:
        scores, states = step(tf.reshape(words, [-1]), list(before))  # (N * B, V)
        total = tf.reduce_logsumexp(scores, axis=1, keepdims=True)  # of all words, blocked or not
        if block_trigrams:
            flat = tf.reshape(tf.transpose(said, [2, 0, 1]), [max_length, -1])  # (T, N * B)
            scores = _without_repeated_trigrams(scores, flat, t)
        best, word = _likeliest(scores, ids.never_said, beams)  # (N * B, B)
        from_beam = [count, -1, beams]
        gain, word = tf.reshape(best - total, from_beam), tf.reshape(word, from_beam)  # (N, B, B)

        alone = tf.one_hot(0, beams, on_value=0.0, off_value=-float("inf"))  # one way to stay ended
        gain = tf.where(ended[..., tf.newaxis], alone, gain)
        word = tf.where(ended[..., tf.newaxis], ids.null, word)
        new_length = length + tf.cast(~ended, tf.int32)
        new_log_p = log_p[..., tf.newaxis] + gain  # (N, B, B)

        order = tf.reshape(rank(new_log_p, new_length[..., tf.newaxis]), [count, -1])
        chosen = tf.math.top_k(order, beams).indices  # (N, B), best first
        beam = chosen // beams

        def take(value: Tensor) -> Tensor:
            return tf.gather(tf.reshape(value, [count, -1]), chosen, batch_dims=1)

        def follow(value: Tensor) -> Tensor:
            return tf.gather(value, beam, batch_dims=1)

        words, log_p = take(word), take(new_log_p)
        length, ended, said = follow(new_length), follow(ended), follow(said)
        if ids.end is not None:
            ended |= words == ids.end
        now = tf.range(max_length) == t  # (T,)
        said = tf.where(now, words[..., tf.newaxis], said)
        per_image = tf.shape(states[0])[0] // count  # 1 in the first step, then B
        rows = tf.reshape(tf.range(count)[:, tf.newaxis] * per_image + beam, [-1])
        states = [tf.gather(state, rows) for state in states]
        return t + 1, words, log_p, length, ended, said, *states

    def goes_on(
        t: Tensor, words: Tensor, log_p: Tensor, length: Tensor, ended: Tensor, *_: Tensor
    ) -> Tensor:
        """Whether some sentence that has not ended could still be among the n best."""
        never = tf.constant(-float("inf"))
        could_be = tf.where(ended, never, tf.maximum(rank(log_p, length), rank(log_p, max_length)))
        worst = tf.reduce_min(tf.where(ended, rank(log_p, length), never)[:, :n_best], axis=1)
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
    _, _, log_p, _, _, said, *_ = tf.while_loop(
        goes_on,
        body,
        (0, *first, *states),
        shape_invariants=_any_rows(shapes, states),
        parallel_iterations=1,
    )
    possible = tf.math.is_finite(log_p)[..., tf.newaxis]
    return tf.where(possible, said, ids.null)[:, :n_best], log_p[:, :n_best]


def _any_rows(shapes: list[tuple], states: list[Tensor]) -> tuple:
    """The loops' shapes, in which the number of rows is open."""
    return tuple(map(tf.TensorShape, [*shapes, *[(None, *s.shape[1:]) for s in states]]))


def _likeliest(scores: Tensor, barred: list[int], k: int) -> tuple[Tensor, Tensor]:
    """Scores and ids of the k likeliest words that are not barred: (M, V) -> (M, k), (M, k).

    Looking for a few words more, and dropping barred ones among them, spares a copy of the scores.
    Where there are fewer than k words, the rest are -inf.
    """
    found = min(k + len(barred), scores.shape[1])
    best, words = tf.math.top_k(scores, found)  # (M, found)
    bad = tf.reduce_any(words[..., tf.newaxis] == tf.constant(barred), axis=-1)
    best, places = tf.math.top_k(tf.where(bad, -float("inf"), best), min(k, found))
    words = tf.gather(words, places, batch_dims=1)
    missing = [[0, 0], [0, k - min(k, found)]]
    return tf.pad(best, missing, constant_values=-float("inf")), tf.pad(words, missing)


def _without(scores: Tensor, barred: list[int]) -> Tensor:
    """The scores with -inf in some columns: (N, V)."""
    if not barred:
        return scores
    bar = tf.reduce_any(tf.range(scores.shape[1])[:, tf.newaxis] == barred, axis=1)  # (V,)
    return tf.where(bar, tf.cast(-float("inf"), scores.dtype), scores)


def _at_least(scores: Tensor, threshold: Tensor) -> Tensor:
    return tf.where(scores >= threshold, scores, tf.cast(-float("inf"), scores.dtype))


def _without_repeated_trigrams(scores: Tensor, said: Tensor, t: Tensor) -> Tensor:
    """-inf for words that would end a trigram again: scores (N, V), said (T, N) before step t.

    A sentence is never left without a word: ``<END>`` ends no trigram that was there before.
    """
    length = tf.shape(said)[0]
    padded = tf.concat([tf.fill([2, tf.shape(said)[1]], -1), said], axis=0)  # (T + 2, N)
    last, before_last = padded[t + 1], padded[t]  # (N,)
    again = (said[:-2] == before_last) & (said[1:-1] == last)  # (T - 2, N)
    again &= tf.range(tf.maximum(length - 2, 0))[:, tf.newaxis] < t - 2
    k, n = tf.unstack(tf.where(again), num=2, axis=1)
    words = tf.gather_nd(said, tf.stack([k + 2, n], axis=1))
    places = tf.stack([n, tf.cast(words, n.dtype)], axis=1)
    never = tf.fill([tf.shape(places)[0]], tf.cast(-float("inf"), scores.dtype))
    return tf.tensor_scatter_nd_update(scores, places, never)
