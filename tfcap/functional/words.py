"""Words in, as vectors, and scores of words out, as a loss."""

from typing import Any

from tfcap.shape_checks import checks_shapes, in_range
from visualization.backend import tf

__all__ = [
    "temporal_softmax_loss",
    "word_embedding_backward",
    "word_embedding_forward",
]

Tensor = Any  # a tf.Tensor, or a NumPy array at the edge
Cache = tuple  # what a backward function needs of its forward function


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


@checks_shapes(x="N T V", y="int N T", mask="real N T")
def temporal_softmax_loss(
    x: Tensor, y: Tensor, mask: Tensor, verbose: bool = False
) -> tuple[Tensor, Tensor]:
    """The cross entropy of every step that counts, summed over time and divided by N only:

        p[n, t] = softmax(x[n, t])
        loss = -(1/N) sum over n, t of mask[n, t] . log p[n, t, y[n, t]]
        dx[n, t] = (1/N) mask[n, t] . (p[n, t] - onehot(y[n, t]))

    mask is boolean, or weighs each step. Where it is False or 0, y may hold anything; elsewhere an id
    below 0 or not below V raises ValueError, in a graph tf.errors.InvalidArgumentError (not under
    ``jit_compile``).

    x (N, T, V) logits, y (N, T) integers, mask (N, T); verbose prints the shape of dx
    -> loss (), dx (N, T, V)

    Example:
        >>> loss, dx = temporal_softmax_loss([[[0.0, 0.0]]], [[1]], [[True]])
        >>> loss.round(4), dx  # log 2, and softmax less the target
        (np.float64(0.6931), array([[[ 0.5, -0.5]]]))
    """
    y = tf.where(tf.cast(mask, tf.bool), y, tf.zeros_like(y))
    y = in_range(y, x.shape[2], "temporal_softmax_loss: y holds")
    weight = tf.cast(mask, x.dtype) / tf.cast(tf.maximum(tf.shape(x)[0], 1), x.dtype)  # (N, T)
    log_p = tf.nn.log_softmax(x)  # (N, T, V)
    loss = -tf.reduce_sum(weight * tf.gather(log_p, y, batch_dims=2))  # ()
    onehot = tf.one_hot(y, x.shape[2], dtype=x.dtype)  # (N, T, V)
    dx = weight[..., tf.newaxis] * (tf.exp(log_p) - onehot)  # (N, T, V)
    if verbose:
        print("dx.shape:", tuple(dx.shape))
    return loss, dx
