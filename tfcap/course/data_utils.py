"""``cs231n.data_utils``: the 25 images of ImageNet."""

from typing import Any, NoReturn

from visualization import load_imagenet_val

__all__ = ["load_imagenet_val", "load_tiny_imagenet"]


def load_tiny_imagenet(*_: Any, **__: Any) -> NoReturn:
    """Raises ValueError: notebooks import this name, and none calls it.

    Example:
        >>> load_tiny_imagenet("datasets/tiny-imagenet-100-A")
        Traceback (most recent call last):
        ValueError: Tiny ImageNet is not read here: load_imagenet_val(num) gives ImageNet's images
    """
    raise ValueError(
        "Tiny ImageNet is not read here: load_imagenet_val(num) gives ImageNet's images"
    )
