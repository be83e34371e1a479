"""Image captioning with recurrent networks whose gradients are written by hand.

The mathematics is in `tfcap.functional`, the same as differentiable ops in `tfcap.ops`, and as Keras
layers in `tfcap.layers`. These, and the names below, are loaded when they are first used, so that
``import tfcap`` and the commands' ``--help`` need no TensorFlow. ("as" tells type checkers that a name
is public.)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import functional as functional
    from . import layers as layers
    from . import ops as ops
    from .coco import caption_dataset as caption_dataset
    from .coco import decode_captions as decode_captions
    from .coco import load_coco_data as load_coco_data
    from .coco import sample_coco_minibatch as sample_coco_minibatch
    from .datasets import build_dataset as build_dataset
    from .datasets import make_shapes as make_shapes
    from .metrics import score_captions as score_captions
    from .model import CaptioningRNN as CaptioningRNN

_PARTS = ("functional", "ops", "layers")
_MODULES = {
    "model": ["CaptioningRNN"],
    "coco": ["load_coco_data", "sample_coco_minibatch", "decode_captions", "caption_dataset"],
    "datasets": ["build_dataset", "make_shapes"],
    "metrics": ["score_captions"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*_PARTS, *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f".{name}", __name__)
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
