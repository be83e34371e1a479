"""Pictures of what a network sees: saliency maps, fooling images, class visualisation.

Names are loaded when they are first used, so that ``import visualization`` and the commands' ``--help``
need no TensorFlow. ("as" tells type checkers that a name is public.)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attribution import IntegratedGradients as IntegratedGradients
    from .attribution import grad_cam as grad_cam
    from .attribution import integrated_gradients as integrated_gradients
    from .attribution import smoothed as smoothed
    from .checkpoints import load_weights as load_weights
    from .class_viz import class_visualization_update_step as class_visualization_update_step
    from .class_viz import create_class_visualization as create_class_visualization
    from .classes import class_names as class_names
    from .classes import find_class as find_class
    from .faithfulness import Faithfulness as Faithfulness
    from .faithfulness import area as area
    from .faithfulness import cascading_randomization as cascading_randomization
    from .faithfulness import compare_with_random as compare_with_random
    from .faithfulness import deletion_curve as deletion_curve
    from .faithfulness import insertion_curve as insertion_curve
    from .fool import FoolingResult as FoolingResult
    from .fool import make_fooling_image as make_fooling_image
    from .fool import make_fooling_images as make_fooling_images
    from .gradients import image_gradients as image_gradients
    from .gradients import predict_scores as predict_scores
    from .images import SQUEEZENET_MEAN as SQUEEZENET_MEAN
    from .images import SQUEEZENET_STD as SQUEEZENET_STD
    from .images import blur_image as blur_image
    from .images import deprocess_image as deprocess_image
    from .images import image_from_url as image_from_url
    from .images import jitter as jitter
    from .images import load_image as load_image
    from .images import load_imagenet_val as load_imagenet_val
    from .images import preprocess_image as preprocess_image
    from .painting import paint_class as paint_class
    from .saliency import compute_saliency_maps as compute_saliency_maps
    from .squeezenet import SqueezeNet as SqueezeNet

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
