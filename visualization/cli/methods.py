"""The attribution methods that commands draw maps with, by the names that ``--method`` takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["METHODS", "attribution_method"]

# The methods, and the settings that each one is given.
METHODS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "smoothgrad": {"samples": 20, "noise": 0.15},
    "integrated-gradients": {"steps": 50},
    "grad-cam": {},
}


def attribution_method(
    name: str, seed: int, settings: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """The function of (X, y, model) that makes a method's maps.

    Args:
        name: a key of `METHODS`.
        seed: of SmoothGrad's noise.
        settings: the method's; by default those of `METHODS`.

    Example:
        >>> from visualization import compute_saliency_maps
        >>> attribution_method("saliency", seed=0) is compute_saliency_maps
        True
    """
    from visualization import attribution

    settings = METHODS[name] if settings is None else settings
    saliency = attribution.compute_saliency_maps
    methods: dict[str, Callable[[], Callable[..., Any]]] = {
        "saliency": lambda: saliency,
        "smoothgrad": lambda: attribution.smoothed(saliency, seed=seed, **settings),
        "integrated-gradients": lambda: functools.partial(
            attribution.integrated_gradients, **settings
        ),
        "grad-cam": lambda: functools.partial(attribution.grad_cam, **settings),
    }
    return methods[name]()
