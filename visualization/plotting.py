"""Figures of what this package computes. They are returned, never shown: write one with `png`."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from visualization.faithfulness import Faithfulness
from visualization.fonts import drawing_every_letter

__all__ = [
    "TITLE",
    "attribution_figure",
    "class_figure",
    "colored_map",
    "faithfulness_figure",
    "fooling_figure",
    "gif",
    "magnified_difference",
    "overlay",
    "png",
    "robustness_figure",
]

TITLE = 15  # points, readable on a slide


def fooling_figure(
    original: np.ndarray, fooling: np.ndarray, title_before: str, title_after: str
) -> Figure:
    """Original, fooling image, their difference, and the difference magnified, side by side.

    Args:
        original: uint8 (H, W, 3).
        fooling: uint8 (H, W, 3).
        title_before: what the network sees in the original.
        title_after: what it sees in the fooling image.

    Example:
        >>> grey = np.full((8, 8, 3), 100, np.uint8)
        >>> len(fooling_figure(grey, grey + 2, "bow tie 74%", "stingray 47%").axes)
        4
    """
    change = fooling.astype(np.int64) - original
    magnified, factor = magnified_difference(original, fooling)
    panels = {
        f"original\n{title_before}": original,
        f"fooling image\n{title_after}": fooling,
        f"difference\nat most {np.abs(change).max()} of 255": _around_grey(change),
        f"difference x {factor}\ngrey: no change": magnified,
    }
    figure = Figure(figsize=(14, 4.25), layout="compressed")
    for axes, (title, image) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        axes.imshow(image)
        axes.set_title(title, fontsize=TITLE)
        axes.set_axis_off()
    return figure


def magnified_difference(original: np.ndarray, fooling: np.ndarray) -> tuple[np.ndarray, int]:
    """The difference of two images, made as large as a picture can show it, and how many times.

    Args:
        original, fooling: uint8 (H, W, 3).

    Returns:
        uint8 (H, W, 3), grey where they are alike; and the whole number it was multiplied by.

    Example:
        >>> grey = np.full((1, 1, 3), 100, np.uint8)
        >>> picture, factor = magnified_difference(grey, grey + 2)
        >>> picture.tolist(), factor
        ([[[254, 254, 254]]], 63)
    """
    change = fooling.astype(np.int64) - original
    visible = np.quantile(np.abs(change), 0.999)  # a few values may be cut off
    visible = visible or np.abs(change).max()
    factor = max(1, int(127 / visible)) if visible else 1
    return _around_grey(factor * change), factor


# Both colour maps keep their order for every kind of colour vision and in grey.
_POSITIVE = "inferno"  # from nothing to much
_SIGNED = "PuOr_r"  # against the class: purple; for it: orange


def overlay(image: np.ndarray, attribution: np.ndarray) -> np.ndarray:
    """A map in colour over its photograph in grey: the stronger the map, the less of the photograph.

    Args:
        image: uint8 (H, W, 3).
        attribution: (H, W); if it has negative values, colours show the sign.

    Returns:
        uint8 (H, W, 3). The map's 99.5th percentile, by absolute value, has the full colour.

    Example:
        >>> overlay(np.full((1, 2, 3), 100, np.uint8), np.array([[0.0, 1.0]])).tolist()
        [[[60, 60, 60], [252, 255, 164]]]
    """
    strength = _strength(attribution)
    weight = np.sqrt(np.abs(strength))[..., None]  # (H, W, 1)
    grey = 0.6 * image.mean(axis=-1, keepdims=True)
    return ((1 - weight) * grey + weight * 255 * _colours(strength)).round().astype(np.uint8)


_LEVELS = 64  # few colours make small files; fewer show as bands


def colored_map(attribution: np.ndarray) -> np.ndarray:
    """A map in the colours of `overlay`, alone: to be laid over a photograph, clear where it is 0.

    Args:
        attribution: (H, W); if it has negative values, colours show the sign.

    Returns:
        uint8 RGBA (H, W, 4).

    Example:
        >>> colored_map(np.array([[0.0, 1.0]])).tolist()
        [[[0, 0, 4, 0], [252, 255, 164, 255]]]
    """
    strength = _strength(attribution)
    weight = np.round(np.sqrt(np.abs(strength)) * _LEVELS) / _LEVELS
    colours = _colours(np.sign(strength) * weight**2)
    return (255 * np.dstack([colours, weight])).round().astype(np.uint8)


def _strength(attribution: np.ndarray) -> np.ndarray:
    """A map with values of -1 to 1, or 0 to 1."""
    largest = np.quantile(np.abs(attribution), 0.995) or np.abs(attribution).max() or 1
    return np.clip(attribution / largest, -1, 1)


def _colours(strength: np.ndarray) -> np.ndarray:
    """(H, W) -> RGB of 0 to 1, (H, W, 3)."""
    signed = strength.min() < 0
    colours = colormaps[_SIGNED if signed else _POSITIVE]
    return colours((strength + 1) / 2 if signed else strength)[..., :3]


def attribution_figure(image: np.ndarray, maps: Mapping[str, np.ndarray], title: str) -> Figure:
    """The photograph, and beside it each method's map over it.

    Args:
        image: uint8 (H, W, 3).
        maps: the method's name -> its map, (H, W).
        title: what the network sees, for the photograph.

    Example:
        >>> image = np.zeros((8, 8, 3), np.uint8)
        >>> len(attribution_figure(image, {"saliency": np.ones((8, 8))}, "cat 90%").axes)
        2
    """
    figure = Figure(figsize=(3.6 * (1 + len(maps)), 4.3), layout="compressed")
    axes = figure.subplots(1, 1 + len(maps))
    axes[0].imshow(image)
    axes[0].set_title(title, fontsize=TITLE)
    for axis, (name, attribution) in zip(axes[1:], maps.items(), strict=True):
        axis.imshow(overlay(image, attribution))
        axis.set_title(name, fontsize=TITLE)
    for axis in axes:
        axis.set_axis_off()
    return figure


def faithfulness_figure(
    results: Mapping[str, Faithfulness], correlations: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Deletion and insertion curves with their areas, and how maps change as weights become noise.

    A method that does not beat the random map in both areas is named in the title.

    Args:
        results: what `compare_with_random` returns.
        correlations: the method's name -> what `cascading_randomization` returns.

    Example:
        >>> curves = Faithfulness(np.array([1, 0.5, 0]), np.array([0, 0.5, 1]))
        >>> results = {"saliency": curves, "random": curves}
        >>> len(faithfulness_figure(results, {"saliency": {"head": 0.3, "conv1": 0.0}}).axes)
        3
    """
    figure = Figure(figsize=(16, 5.4), layout="constrained")
    deletion, insertion, cascade = figure.subplots(1, 3)
    for number, (name, result) in enumerate(results.items()):
        style = (
            {"color": "black", "linestyle": "--"} if name == "random" else {"color": f"C{number}"}
        )
        share = np.linspace(0, 1, len(result.deletion))
        deletion.plot(share, result.deletion, label=f"{name} {result.deletion_auc:.3f}", **style)
        insertion.plot(share, result.insertion, label=f"{name} {result.insertion_auc:.3f}", **style)
    deletion.set(
        title="deletion (smaller is better)",
        xlabel="fraction of pixels blurred",
        ylabel="probability of the class",
    )
    insertion.set(title="insertion (larger is better)", xlabel="fraction of pixels restored")
    for axis in (deletion, insertion):
        axis.legend(title="area", loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)

    for number, (name, values) in enumerate(correlations.items()):
        cascade.plot(list(values.values()), marker="o", label=name, color=f"C{number}")
    if correlations:
        layers = list(next(iter(correlations.values())))
        ticks = range(0, len(layers), max(1, len(layers) // 12))
        cascade.set_xticks(ticks, [layers[i] for i in ticks], rotation=60, ha="right", fontsize=8)
        cascade.legend(ncols=2)
    cascade.axhline(0, color="black", linewidth=0.8)
    cascade.set(
        title="weights replaced by noise, last layer first",
        ylabel="rank correlation of maps",
        ylim=(-0.5, 1.3),
    )
    for axis in (deletion, insertion, cascade):
        axis.title.set_fontsize(TITLE)
    worse = [
        name for name in results if name != "random" and not results[name].beats(results["random"])
    ]
    verdict = f"not better than a random map: {', '.join(worse)}"
    figure.suptitle(verdict if worse else "all beat a random map", fontsize=TITLE)
    return figure


def class_figure(images: np.ndarray, titles: Sequence[str]) -> Figure:
    """Class visualisations side by side.

    Args:
        images: uint8 (N, H, W, 3).
        titles: N of them.

    Example:
        >>> len(class_figure(np.zeros((2, 8, 8, 3), np.uint8), ["cat 90%", "dog 80%"]).axes)
        2
    """
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(4 * columns, 4.5 * rows), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, title in zip(axes, images, titles, strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=TITLE)
    return figure


def robustness_figure(distances: Mapping[str, np.ndarray], norm: str) -> Figure:
    """Accuracy against the size of a change, a line for each network.

    Args:
        distances: the network's name -> (N,), as `fooling_distances` returns them.
        norm: "l2" or "linf".

    Example:
        >>> figure = robustness_figure({"mine": np.array([0.0, 12.5, 80.0])}, "l2")
        >>> figure.axes[0].get_xlabel()
        'epsilon: L2 length of the change, in levels of 0 to 255'
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    farthest = max(
        (found[np.isfinite(found)].max(initial=1) for found in distances.values()), default=1
    )
    for name, found in distances.items():
        steps = np.append(np.sort(found[found < np.inf]), 1.05 * farthest)
        steps = np.insert(steps, 0, 0)
        accuracy = np.mean(found > steps[:, None], axis=1)
        axes.step(steps, accuracy, where="post", label=name, linewidth=2)
    size = "L2 length" if norm == "l2" else "largest value"
    axes.set(
        xlabel=f"epsilon: {size} of the change, in levels of 0 to 255",
        ylabel="accuracy",
        xlim=(0, 1.05 * farthest),
        ylim=(0, 1.03),
    )
    axes.set_title("how far the nearest error is", fontsize=TITLE)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def gif(frames: Sequence[np.ndarray], milliseconds: int = 150) -> bytes:
    """The content of an animated GIF that repeats; the last frame stays for two seconds.

    Args:
        frames: uint8 (H, W, 3) each.
        milliseconds: how long a frame stays.

    Example:
        >>> gif([np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)])[:6]
        b'GIF89a'
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    durations = [milliseconds] * (len(pictures) - 1) + [2000]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0
    )
    return buffer.getvalue()


def png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as the content of a PNG file, the same bytes for the same figure.

    Example:
        >>> png(Figure())[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    with drawing_every_letter(figure):
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _around_grey(change: np.ndarray) -> np.ndarray:
    return np.clip(128 + change, 0, 255).astype(np.uint8)
