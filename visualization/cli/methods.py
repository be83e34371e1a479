"""The attribution methods that commands draw maps with, by the names that ``--method`` takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["BY_DEFAULT", "METHODS", "OF_A_LAYER", "WITHOUT_GRADIENT", "attribution_method"]

# The methods, and the settings that each one is given.
METHODS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "smoothgrad": {"samples": 20, "noise": 0.15},
    "integrated-gradients": {"steps": 50},
    "grad-cam": {},
    "hirescam": {},
    "layercam": {},
    "occlusion": {},
    "rise": {"masks": 4000},
}
BY_DEFAULT = ("saliency", "smoothgrad", "integrated-gradients", "grad-cam")
OF_A_LAYER = ("grad-cam", "hirescam", "layercam")
WITHOUT_GRADIENT = ("occlusion", "rise")


def attribution_method(
    name: str,
    seed: int,
    settings: dict[str, Any] | None = None,
    show: Callable[[str], object] = lambda text: None,
) -> Callable[..., Any]:
    """The function of (X, y, model) that makes a method's maps.

    Args:
        name: a key of `METHODS`.
        seed: of what the method draws.
        settings: the method's; by default those of `METHODS`.
        show: called with the progress of a method that takes long.

    Example:
        >>> from visualization import compute_saliency_maps
        >>> attribution_method("saliency", seed=0) is compute_saliency_maps
        True
    """
    from visualization import attribution, perturbation
    from visualization.class_activation import grad_cam

    settings = METHODS[name] if settings is None else settings
    if name in OF_A_LAYER:
        weighting = None if name == "grad-cam" else name  # None: what suits the layer
        return functools.partial(grad_cam, weighting=weighting, **settings)
    saliency = attribution.compute_saliency_maps
    methods: dict[str, Callable[[], Callable[..., Any]]] = {
        "saliency": lambda: saliency,
        "smoothgrad": lambda: attribution.smoothed(saliency, seed=seed, **settings),
        "integrated-gradients": lambda: functools.partial(
            attribution.integrated_gradients, **settings
        ),
        "occlusion": lambda: functools.partial(
            perturbation.occlusion,
            on_progress=lambda done, of: show(f"occlusion: {done} of {of} squares"),
            **settings,
        ),
        "rise": lambda: functools.partial(
            perturbation.rise,
            seed=seed,
            on_progress=lambda done, of: show(f"rise: {done} of {of} masks"),
            **settings,
        ),
    }
    return methods[name]()
