"""What a transformer's class token has taken from where, by its attention alone: rollout.

Abnar, Zuidema (2020), "Quantifying attention flow in transformers", arXiv:2005.00928, section 3.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from visualization.backend import keras, tf
from visualization.compilation import BATCH_SIZE, compiled, in_batches
from visualization.gradients import logits
from visualization.input_checks import check_images, map_shape
from visualization.tokens import attention_scores, token_grid

__all__ = ["attention_rollout"]


def attention_rollout(X: Any, model: keras.Model, *, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Attention of all layers multiplied: how much of each cell has come to the first token.

    The rolled-out attention of layer l is (A_l + I) / 2 times that of layer l - 1 (equation 1), where
    A_l is the mean over heads of its attention, and I stands for the residual connection. The map is
    the row of the class token, the first, or without one the mean over all rows. It is the same for
    every class.

    Args:
        X: floating point (N, H, W, C), the model's input.
        model: a Keras model whose layers attend from all its tokens to all, by a softmax, however it is
            written; not to windows of them.
        batch_size: how many images are processed at a time; it bounds the memory.

    Returns:
        The maps, (N, H, W), never negative, resized to the image by bilinear interpolation.

    Raises:
        ValueError: X does not fit the model, or it computes no attention that can be multiplied.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> tokens = keras.layers.Reshape((16, 8))(keras.layers.Conv2D(8, 2, strides=2)(image))
        >>> tokens = keras.layers.MultiHeadAttention(2, 4)(tokens, tokens)
        >>> model = keras.Model(image, keras.layers.GlobalAveragePooling1D()(tokens))
        >>> attention_rollout(np.ones((1, 8, 8, 3)), model).shape
        (1, 8, 8)
    """
    X = check_images(model, X)
    (maps,) = in_batches(compiled(model, _build_rollout, X.shape[1:]), batch_size, X)
    if len(maps) != len(X):
        raise ValueError(
            f"model {model.name!r} attends to windows: their attention cannot be rolled out"
        )
    return maps


def _build_rollout(
    get_model: Callable[[], keras.Model], shape: tuple[int, int, int]
) -> Callable[..., tuple[tf.Tensor]]:
    size = map_shape((1, *shape))[1:]

    @tf.function(reduce_retracing=True, autograph=False)
    def rollout(images: tf.Tensor) -> tuple[tf.Tensor]:
        scores = logits(get_model(), images)
        found = attention_scores(scores.graph)
        tokens = {one.shape[-1] for one in found}
        grid = token_grid(tokens.pop(), *size) if len(tokens) == 1 else None
        if grid is None:
            raise ValueError(
                f"model {get_model().name!r} computes no attention between all tokens of an image in "
                "every layer: attention_rollout is for transformers of one grid"
            )
        identity = tf.eye(found[0].shape[-1], dtype=found[0].dtype)
        rolled = identity
        for attention in found:  # (N, heads, T, T), or (N, T, T) of one head
            if attention.shape.rank == 4:
                attention = tf.reduce_mean(attention, axis=1)
            rolled = (attention + identity) / 2 @ rolled  # (N, T, T)
        of_tokens = rolled[:, 0] if grid.others else tf.reduce_mean(rolled, axis=1)  # (N, T)
        maps = tf.reshape(of_tokens[:, grid.others :], (-1, grid.height, grid.width, 1))
        return (tf.image.resize(maps, size)[..., 0],)  # (N, H, W)

    return rollout
