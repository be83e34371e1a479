"""``cs231n.net_visualization_tensorflow``: pictures made with gradients of the image."""

from visualization import (
    blur_image,
    class_visualization_update_step,
    compute_saliency_maps,
    jitter,
    make_fooling_image,
)

__all__ = [
    "blur_image",
    "class_visualization_update_step",
    "compute_saliency_maps",
    "jitter",
    "make_fooling_image",
]
