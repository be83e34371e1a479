"""A transformer's tokens: which cells of the image they stand for, and how they attend."""

from typing import NamedTuple

from visualization.backend import tf

__all__ = ["TokenGrid", "attention_scores", "token_grid"]

_MOST_OTHERS = 16  # class, distillation and register tokens; published networks have up to nine


class TokenGrid(NamedTuple):
    """How (N, tokens, C) stand for an image: `others` come first, then `height` rows of `width`.

    Example:
        >>> others, height, width = TokenGrid(1, 14, 14)
        >>> others + height * width
        197
    """

    others: int
    height: int
    width: int


def token_grid(tokens: int, height: int, width: int) -> TokenGrid | None:
    """The grid of square cells that leaves the fewest tokens over, or None if there is none.

    Args:
        tokens: how many there are, class and register tokens among them, which come first.
        height, width: of the image, in pixels. Cells that divide them go before others.

    Example:
        >>> token_grid(197, 224, 224), token_grid(65, 160, 96), token_grid(5, 224, 224)
        (TokenGrid(others=1, height=14, width=14), TokenGrid(others=5, height=10, width=6), ...)
    """
    found = []
    for cell in range(1, min(height, width) + 1):
        for extra in (0, cell - 1):  # what a cell does not fill is cut off, or padded
            grid = TokenGrid(0, (height + extra) // cell, (width + extra) // cell)
            cells = grid.height * grid.width
            others = tokens - cells
            if cells > 1 and 0 <= others <= min(_MOST_OTHERS, cells - 1):
                uneven = bool(height % cell or width % cell)
                found.append((uneven, others, grid._replace(others=others)))
    return min(found)[2] if found else None


def attention_scores(graph: tf.Graph) -> list[tf.Tensor]:
    """How much each token attends to each, in each attention of a traced model, in order.

    These are the softmaxes over a square, (N, heads, T, T), or (N, T, T) where there is one head,
    whichever layers they come from; in windows of attention N is larger than the number of images.

    Example:
        >>> @tf.function
        ... def count(x):
        ...     tf.nn.softmax(x)
        ...     return len(attention_scores(x.graph))
        >>> int(count(tf.zeros((2, 4, 9, 9)))), int(count(tf.zeros((2, 9))))
        (1, 0)
    """
    softmaxes = [one.outputs[0] for one in graph.get_operations() if one.type == "Softmax"]
    return [
        one
        for one in softmaxes
        if one.shape.rank in (3, 4) and one.shape[-1] and one.shape[-1] == one.shape[-2]
    ]
