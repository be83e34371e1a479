"""Figures of captions, returned and never shown."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from visualization import load_image
from visualization.plotting import TITLE

__all__ = ["dataset_figure"]


def dataset_figure(sources: Sequence[str], captions: Sequence[Sequence[str]], title: str) -> Figure:
    """Images with their captions below them.

    Args:
        sources: paths. A URL, which is not fetched, and an image that cannot be read become a grey
            square that says so.
        captions: those of each image; the first three are shown.
        title: of the figure.

    Example:
        >>> figure = dataset_figure(["http://images.example/a.jpg"], [["a dog"]], "one image")
        >>> [text.get_text() for axes in figure.axes for text in axes.texts]
        ['a URL: not fetched', '\u2022 a dog']
    """
    columns = min(_COLUMNS, len(sources))
    rows = -(-len(sources) // columns)
    height = 5.6 * rows + 0.5  # inches, with the title
    figure = Figure(figsize=(3.8 * columns, height))
    figure.suptitle(title, x=0.01, y=1 - 0.08 / height, ha="left", fontsize=TITLE)
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3.7, 1.9] * rows)
    figure.subplots_adjust(0.01, 0, 0.99, 1 - 0.5 / height, wspace=0.05, hspace=0.03)
    pictures, below = axes[::2].ravel(), axes[1::2].ravel()
    for axis in axes.ravel():
        axis.set_axis_off()
    for picture, words, source, texts in zip(pictures, below, sources, captions, strict=False):
        pixels, reason = _pixels(source)
        picture.imshow(pixels)
        picture.text(_PIXELS / 2, _PIXELS / 2, reason, ha="center", va="center", fontsize=12)
        shown = [_wrapped(text) for text in texts[:_SHOWN_CAPTIONS]]
        if len(texts) > _SHOWN_CAPTIONS:
            shown.append(f"(and {len(texts) - _SHOWN_CAPTIONS} more)")
        style = {"va": "top", "fontsize": 12, "parse_math": False}
        words.text(0, 1, "\n".join(shown), transform=words.transAxes, **style)
    return figure


_COLUMNS = 4
_SHOWN_CAPTIONS = 3
_WRAP = 40  # characters in a line under a picture
_PIXELS = 224


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WRAP, initial_indent="\u2022 ", subsequent_indent="   ")


def _pixels(source: str) -> tuple[np.ndarray, str]:
    """uint8 (224, 224, 3), and why they are only grey."""
    if "://" not in source:
        try:
            return load_image(source, _PIXELS), ""
        except (OSError, ValueError):
            reason = "the image\ncannot be read"
    else:
        reason = "a URL: not fetched"
    return np.full((_PIXELS, _PIXELS, 3), 225, np.uint8), reason
