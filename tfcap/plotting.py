"""Figures of captions and captioners, returned and never shown: write one with `plotting.png`."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tfcap.explain import REGION, Falls
from visualization.images.reading import load_image
from visualization.plotting import TITLE, overlay

__all__ = [
    "attention_figure",
    "caption_figure",
    "dataset_figure",
    "explanation_figure",
    "loss_figure",
]


def loss_figure(losses: Sequence[float], history: Sequence[Mapping[str, float]] = ()) -> Figure:
    """The loss of every training step, and that of the validation set after each epoch.

    Args:
        losses: one a step; with more than 200 a moving average is drawn over them.
        history: one an epoch, with "val_loss" where there is one.

    Example:
        >>> figure = loss_figure([3.0, 2.0, 1.5, 1.2], [{"val_loss": 2.5}, {"val_loss": 2.0}])
        >>> figure.axes[0].get_xlabel()
        'step'
    """
    figure = Figure(figsize=(8, 5), layout="compressed")
    axes = figure.subplots()
    width = max(1, len(losses) // 100)
    smooth = np.convolve(losses, np.full(width, 1 / width), "valid")
    axes.plot(range(1, len(losses) + 1), losses, "C0", linewidth=1, alpha=1 if width == 1 else 0.3)
    axes.plot(range(width, len(losses) + 1), smooth, "C0", label="training")
    validated = [epoch["val_loss"] for epoch in history if "val_loss" in epoch]
    rewarded = min(losses, default=0) < 0
    if validated and not rewarded:  # otherwise the two are not of one kind
        steps = [len(losses) * (k + 1) / len(validated) for k in range(len(validated))]
        axes.plot(steps, validated, "C1o-", label="validation")
        axes.legend()
    label = "-CIDEr-D of a drawn sentence" if rewarded else "cross entropy of a caption"
    axes.set(xlabel="step", ylabel=f"loss: {label}", title="Training loss history")
    axes.set_ylim(bottom=None if rewarded else 0)
    axes.grid(alpha=0.3)
    return figure


WIDTH = 8  # inches, of a captioned photograph's longer side
LARGEST_SHOWN = 1000  # pixels: the longer side of a photograph in a figure
SENTENCE, SMALL = 16, 12  # points
LINE = 1.4 / 72  # inches from line to line, for each point of the letters


def caption_figure(image: np.ndarray, sentences: Sequence[str], log_p: Sequence[float]) -> Figure:
    """A photograph with its sentence below; several sentences with their log-probabilities.

    Args:
        image: uint8 (H, W, 3).
        sentences: the best first.
        log_p: their log-probabilities.

    Example:
        >>> figure = caption_figure(np.zeros((40, 60, 3), np.uint8), ["a dog"], [-2.0])
        >>> [text.get_text() for text in figure.texts]
        ['', 'a dog']
    """
    photograph = Image.fromarray(image)
    photograph.thumbnail((LARGEST_SHOWN, LARGEST_SHOWN))
    inches = WIDTH / max(photograph.size)  # of a pixel
    high, wide = photograph.height * inches, photograph.width * inches
    lines = [("", line, SENTENCE) for line in textwrap.wrap(sentences[0] or "(no word)", 62)]
    if len(sentences) > 1:
        for sentence, value in zip(sentences, log_p, strict=True):
            labels = itertools.chain([f"log p {value:.1f}"], itertools.repeat(""))
            wrapped = textwrap.wrap(sentence or "(no word)", 70)
            lines += [(label, line, SMALL) for label, line in zip(labels, wrapped, strict=False)]
    below = sum(size for _, _, size in lines) * LINE + 0.3
    figure = Figure(figsize=(WIDTH, high + below))
    left, bottom = (1 - wide / WIDTH) / 2, below / (high + below)
    axes = figure.add_axes((left, bottom, wide / WIDTH, 1 - bottom))
    axes.imshow(photograph, aspect="auto")
    axes.set_axis_off()
    top = below - 0.15
    for label, line, size in lines:
        x, align = (0.5, "center") if size == SENTENCE else (0.17, "left")
        y = top / (high + below)
        figure.text(0.15, y, label, ha="right", va="top", fontsize=size)
        figure.text(x, y, line, ha=align, va="top", fontsize=size, parse_math=False)
        top -= size * LINE
    return figure


PANELS = 6  # in a row
PANEL, TITLES = 2.9, 0.6  # inches: a panel's width, the two lines above it
PANEL_PIXELS = 320  # the longer side of a photograph in a panel


def attention_figure(image: np.ndarray, words: Sequence[str], weights: np.ndarray) -> Figure:
    """The photograph, and for each word over it where the captioner looked when it chose the word.

    Args:
        image: uint8 (H, W, 3), the part of the photograph that the captioner saw.
        words: T of them.
        weights: (T, height, width), as `tfcap.Captioner.caption` returns them.

    Example:
        >>> figure = attention_figure(np.zeros((40, 60, 3), np.uint8), ["dog"], np.ones((1, 9, 9)))
        >>> figure.axes[1].get_title()
        'dog'
    """
    image = _in_panel(image)
    figure, axes = _panels(image, "where it looked for each word", len(words), lines=1)
    for word, cells, axis in zip(words, weights, axes[1:], strict=False):
        axis.imshow(overlay(image, _resized(cells - cells.min(), image.shape[:2])))
        axis.set_title(word, fontsize=TITLE, parse_math=False)
    return figure


def explanation_figure(
    image: np.ndarray, words: Sequence[str], maps: np.ndarray, corners: np.ndarray, falls: Falls
) -> Figure:
    """The photograph, and for each word its map over it, with the region that was hidden framed.

    The title of each map has the word's probability, and what remains of it without the region.

    Args:
        image: uint8 (H, W, 3), the part of the photograph that the captioner saw.
        words: T of them.
        maps: (T, size, size), as `tfcap.explain.word_maps` returns them.
        corners: int (T, 2), the regions' tops and lefts in a map, as `tfcap.explain.regions` returns
            them.
        falls: as `tfcap.explain.falls_when_hidden` returns them.

    Example:
        >>> image, maps = np.zeros((224, 224, 3), np.uint8), np.ones((1, 224, 224))
        >>> falls = Falls(*np.log([[0.8], [2.0], [1.0], [1.0]]))
        >>> figure = explanation_figure(image, ["dog"], maps, np.array([[80, 80]]), falls)
        >>> figure.axes[1].get_title()
        'dog\\n80% → 40%'
    """
    image = _in_panel(image)
    legend = "each word's probability \N{RIGHTWARDS ARROW} with the framed part hidden"
    figure, axes = _panels(image, legend, len(words), lines=2)
    scale_y, scale_x = image.shape[0] / maps.shape[1], image.shape[1] / maps.shape[2]
    before, after = np.exp(falls.log_p), np.exp(falls.log_p - falls.own)
    for t, (word, axis) in enumerate(zip(words, axes[1:], strict=False)):
        axis.imshow(overlay(image, _resized(maps[t], image.shape[:2])))
        top, left = corners[t] * (scale_y, scale_x)
        size = REGION * scale_x, REGION * scale_y
        axis.add_patch(Rectangle((left, top), *size, fill=False, edgecolor="white", linewidth=1.5))
        title = f"{word}\n{before[t]:.0%} \N{RIGHTWARDS ARROW} {after[t]:.0%}"
        axis.set_title(title, fontsize=TITLE, parse_math=False)
    return figure


def _in_panel(image: np.ndarray) -> np.ndarray:
    photograph = Image.fromarray(image)
    photograph.thumbnail((PANEL_PIXELS, PANEL_PIXELS))
    return np.asarray(photograph)


def _resized(cells: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """A map (h, w), smoothly enlarged to (H, W)."""
    height, width = size
    picture = Image.fromarray(cells.astype(np.float32))
    enlarged = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(enlarged), cells.min(), cells.max())


def _panels(image: np.ndarray, legend: str, count: int, lines: int) -> tuple[Figure, np.ndarray]:
    """A grid of panels with room for `lines` above each; the first shows the photograph."""
    columns = min(PANELS, max(3, 1 + count))
    rows = math.ceil((1 + count) / columns)
    high, titles = PANEL * image.shape[0] / image.shape[1], TITLES * lines / 2
    width, height = PANEL * columns, (high + titles) * rows + TITLES
    figure = Figure(figsize=(width, height))
    top = 1 - (titles + TITLES) / height
    figure.subplots_adjust(0, 0, 1, top, wspace=0.03, hspace=titles / high)
    figure.text(0.5, 1 - TITLES / 2 / height, legend, ha="center", va="center", fontsize=TITLE)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(image)
    axes[0].set_title("what it sees", fontsize=TITLE)
    return figure, axes


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
