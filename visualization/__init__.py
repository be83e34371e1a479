"""Pictures of what a network sees: saliency maps, fooling images, class visualisation.

Names are loaded when they are first used, so that ``import visualization`` and the commands' ``--help``
need no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attribution import IntegratedGradients, grad_cam, integrated_gradients, smoothed
    from .checkpoints import load_weights
    from .class_viz import class_visualization_update_step, create_class_visualization
    from .classes import class_names, find_class
    from .faithfulness import (
        Faithfulness,
        area,
        cascading_randomization,
        compare_with_random,
        deletion_curve,
        insertion_curve,
    )
    from .fool import FoolingResult, make_fooling_image, make_fooling_images
    from .gradients import image_gradients, predict_scores
    from .images import (
        SQUEEZENET_MEAN,
        SQUEEZENET_STD,
        blur_image,
        deprocess_image,
        image_from_url,
        jitter,
        load_image,
        load_imagenet_val,
        preprocess_image,
    )
    from .painting import paint_class
    from .saliency import compute_saliency_maps
    from .squeezenet import SqueezeNet

_MODULES = {
    "attribution": ["IntegratedGradients", "grad_cam", "integrated_gradients", "smoothed"],
    "checkpoints": ["load_weights"],
    "class_viz": ["class_visualization_update_step", "create_class_visualization"],
    "classes": ["class_names", "find_class"],
    "faithfulness": [
        "Faithfulness",
        "area",
        "cascading_randomization",
        "compare_with_random",
        "deletion_curve",
        "insertion_curve",
    ],
    "fool": ["FoolingResult", "make_fooling_image", "make_fooling_images"],
    "gradients": ["image_gradients", "predict_scores"],
    "images": [
        "SQUEEZENET_MEAN",
        "SQUEEZENET_STD",
        "blur_image",
        "deprocess_image",
        "image_from_url",
        "jitter",
        "load_image",
        "load_imagenet_val",
        "preprocess_image",
    ],
    "painting": ["paint_class"],
    "saliency": ["compute_saliency_maps"],
    "squeezenet": ["SqueezeNet"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
