"""``cs231n.style_transfer_tensorflow``: the losses of style transfer."""

from tfcap.gradient_check import rel_error
from visualization import content_loss, extract_features, gram_matrix, style_loss, tv_loss

__all__ = [
    "content_loss",
    "extract_features",
    "gram_matrix",
    "rel_error",
    "style_loss",
    "tv_loss",
]
