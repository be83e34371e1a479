"""Scaled dot-product attention over the cells of images.

A. Vaswani et al. (2017), Attention is all you need, section 3.2; over an image's cells as K. Xu et al.
(2015), Show, attend and tell. The heads share a vector's H numbers: d = H / heads each, side by side.
"""

from typing import Any

from tfcap.shape_checks import checks_shapes, positive_integer
from visualization.backend import tf

__all__ = [
    "attend",
    "attend_backward",
    "attention_backward",
    "attention_forward",
    "by_head",
    "from_heads",
    "looked_for",
]

Tensor = Any  # a tf.Tensor, or a NumPy array at the edge
Cache = tuple  # what a backward function needs of its forward function


@checks_shapes(q="N H", keys="I L H", values="I L H")
def attention_forward(
    q: Tensor, keys: Tensor, values: Tensor, heads: int
) -> tuple[Tensor, Tensor, Cache]:
    """How much each query looks at each cell of its image, and what it sees there. For each head:

        weights[n] = softmax(q[n] @ keys[i]' / sqrt(d))
        out[n] = weights[n] @ values[i]

    The queries of one image lie together: row n looks at image i = n // (N / I), and with N = I
    each row at its own.

    q (N, H), keys and values (I, L, H), heads a divisor of H
    -> out (N, H), weights (N, heads, L), cache

    Raises:
        ValueError: also if heads does not divide H, or I not N.

    Example:
        >>> keys = values = [[[1.0, 0.0], [0.0, 1.0]]]
        >>> out, weights, cache = attention_forward([[9.0, 0.0]], keys, values, heads=1)
        >>> out.round(3)  # nearly all of the first cell
        array([[0.998, 0.002]])
    """
    looked_for(q, keys, heads)
    q_heads, keys_heads, values_heads = (by_head(v, keys, heads) for v in (q, keys, values))
    out, weights = attend(q_heads, keys_heads, values_heads)
    shown = from_heads(weights, keep_heads=True)  # (N, heads, L)
    return from_heads(out), shown, (q_heads, keys_heads, values_heads, weights)


@checks_shapes(dout="N H")
def attention_backward(dout: Tensor, cache: Cache) -> tuple[Tensor, Tensor, Tensor]:
    """With s the argument of softmax, and dweights = dout @ values':

        ds = weights . (dweights - the sum over L of weights . dweights)
        dq = ds @ keys / sqrt(d)   dkeys = ds' @ q / sqrt(d)   dvalues = weights' @ dout

    in which the queries of one image add up in its keys' and values' gradients.

    dout (N, H), cache -> dq (N, H), dkeys and dvalues (I, L, H)

    Example:
        >>> keys, values = [[[0.0], [0.0]]], [[[1.0], [3.0]]]
        >>> out, weights, cache = attention_forward([[1.0]], keys, values, heads=1)
        >>> dq, dkeys, dvalues = attention_backward([[1.0]], cache)
        >>> dkeys.ravel(), dvalues.ravel()
        (array([-0.5,  0.5]), array([0.5, 0.5]))
    """
    q, keys, values, weights = cache
    dout = by_head(dout, keys, keys.shape[1])
    dq, ds = attend_backward(dout, keys, values, weights)
    dkeys = tf.matmul(ds, q, transpose_a=True) / q.shape[-1] ** 0.5  # (I, heads, L, d)
    dvalues = tf.matmul(weights, dout, transpose_a=True)  # (I, heads, L, d)
    return from_heads(dq), _image(dkeys), _image(dvalues)


def looked_for(q: Tensor, keys: Tensor, heads: int) -> None:
    """Checks that heads share H, and images the rows, equally.

    Raises:
        ValueError: they do not.

    Example:
        >>> looked_for(tf.ones((4, 6)), tf.ones((2, 9, 6)), heads=3)
    """
    H, count, images = q.shape[-1], q.shape[0], keys.shape[0]
    if H % positive_integer("heads", heads):
        raise ValueError(f"heads must divide H, received {heads} heads and H = {H}")
    if None not in (count, images) and (count % images if images else count):
        raise ValueError(
            f"each image must have as many rows as the others, received {count} rows and {images} "
            "images: give image_of_row, or an image for each row"
        )


def by_head(value: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Rows (N, H) or cells (I, L, H) as (I, heads, N / I, d) or (I, heads, L, d).

    Args:
        value: what is to be split.
        keys: of the images, (I, ...).
        heads: how many.

    Example:
        >>> by_head(tf.ones((6, 8)), tf.ones((3, 5, 8)), heads=2).shape.as_list()
        [3, 2, 2, 4]
    """
    H, images = value.shape[-1], tf.shape(keys)[0]
    cells = len(value.shape) == 3
    each = tf.shape(value)[1] if cells else tf.shape(value)[0] // tf.maximum(images, 1)
    value = tf.reshape(value, [images, each, heads, H // heads])
    return tf.transpose(value, [0, 2, 1, 3])


def from_heads(value: Tensor, *, keep_heads: bool = False) -> Tensor:
    """(I, heads, R, width) as (N, heads * width) or, with `keep_heads`, (N, heads, width).

    Example:
        >>> from_heads(tf.ones((3, 2, 2, 4))).shape.as_list()
        [6, 8]
    """
    images, heads, rows, width = tf.unstack(tf.shape(value))
    heads = value.shape[1]
    width = width if value.shape[3] is None else value.shape[3]
    value = tf.transpose(value, [0, 2, 1, 3])  # (I, R, heads, width)
    if keep_heads:
        return tf.reshape(value, [images * rows, heads, width])
    return tf.reshape(value, [images * rows, heads * width])


def attend(q: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The equations of `attention_forward`, by head.

    q (I, heads, R, d), keys and values (I, heads, L, d) -> out (I, heads, R, d), weights
    (I, heads, R, L)

    Example:
        >>> q, keys, values = tf.ones((1, 1, 1, 2)), tf.zeros((1, 1, 4, 2)), tf.ones((1, 1, 4, 2))
        >>> attend(q, keys, values)[1].numpy().ravel().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    q = q / q.shape[-1] ** 0.5
    weights = tf.nn.softmax(tf.matmul(q, keys, transpose_b=True))  # (I, heads, R, L)
    return weights @ values, weights


def attend_backward(
    dout: Tensor, keys: Tensor, values: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """dq (I, heads, R, d) and ds (I, heads, R, L) of `attention_backward`, by head.

    Example:
        >>> keys, values = tf.ones((1, 1, 2, 1)), tf.constant([[[[1.0], [3.0]]]])
        >>> dq, ds = attend_backward(tf.ones((1, 1, 1, 1)), keys, values, tf.fill((1, 1, 1, 2), 0.5))
        >>> ds.numpy().ravel().tolist()
        [-0.5, 0.5]
    """
    dweights = tf.matmul(dout, values, transpose_b=True)  # (I, heads, R, L)
    ds = weights * (dweights - tf.reduce_sum(weights * dweights, axis=-1, keepdims=True))
    return ds @ keys / dout.shape[-1] ** 0.5, ds


def _image(cells: Tensor) -> Tensor:
    """(I, heads, L, d) as (I, L, H)."""
    images, _, length, _ = tf.unstack(tf.shape(cells))
    width = cells.shape[1] * cells.shape[3]
    return tf.reshape(tf.transpose(cells, [0, 2, 1, 3]), [images, length, width])
