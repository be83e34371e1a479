"""Figures, returned and never shown: write one with `figure.savefig`, or with `png`."""

import io

import numpy as np
from matplotlib.figure import Figure


def fooling_figure(
    original: np.ndarray, fooling: np.ndarray, title_before: str, title_after: str
) -> Figure:
    """Original, fooling image, their difference, and the difference magnified, side by side.

    Args:
        original: uint8 (H, W, 3).
        fooling: uint8 (H, W, 3).
        title_before: what the network sees in the original.
        title_after: what it sees in the fooling image.
    """
    change = fooling.astype(np.int64) - original
    visible = np.quantile(np.abs(change), 0.999)  # a few values may be cut off
    factor = max(1, int(127 / visible)) if visible else 1
    panels = {
        f"original\n{title_before}": original,
        f"fooling image\n{title_after}": fooling,
        f"difference\nat most {np.abs(change).max()} of 255": _around_grey(change),
        f"difference x {factor}\ngrey: no change": _around_grey(factor * change),
    }
    figure = Figure(figsize=(14, 4.25), layout="compressed")
    for axes, (title, image) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        axes.imshow(image)
        axes.set_title(title, fontsize=15)
        axes.set_axis_off()
    return figure


def png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as the content of a PNG file, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _around_grey(change: np.ndarray) -> np.ndarray:
    return np.clip(128 + change, 0, 255).astype(np.uint8)
