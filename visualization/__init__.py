"""Pictures of what a network sees: saliency maps, fooling images, class visualisation.

Names are loaded when they are first used, so that ``import visualization`` and the commands' ``--help``
need no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classes import class_names, find_class
    from .fool import FoolingResult, make_fooling_image, make_fooling_images
    from .images import (
        SQUEEZENET_MEAN,
        SQUEEZENET_STD,
        deprocess_image,
        image_from_url,
        load_image,
        load_imagenet_val,
        preprocess_image,
    )
    from .squeezenet import SqueezeNet

_MODULES = {
    "classes": ("class_names", "find_class"),
    "fool": ("FoolingResult", "make_fooling_image", "make_fooling_images"),
    "images": (
        "SQUEEZENET_MEAN",
        "SQUEEZENET_STD",
        "deprocess_image",
        "image_from_url",
        "load_image",
        "load_imagenet_val",
        "preprocess_image",
    ),
    "squeezenet": ("SqueezeNet",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SQUEEZENET_MEAN",
    "SQUEEZENET_STD",
    "FoolingResult",
    "SqueezeNet",
    "class_names",
    "deprocess_image",
    "find_class",
    "image_from_url",
    "load_image",
    "load_imagenet_val",
    "make_fooling_image",
    "make_fooling_images",
    "preprocess_image",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
