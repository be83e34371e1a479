"""What a folder of captions and features holds, in numbers and as a figure."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfcap.data.coco import SPLITS, decode_captions
from tfcap.data.features import SIZE
from tfcap.data.vocabulary import UNK
from visualization import load_image
from visualization.plotting import TITLE

_COLUMNS = 4
_SHOWN_CAPTIONS = 3
_WRAP = 40  # characters in a line under a picture


def describe(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of each split of what `load_coco_data` gave.

    Returns:
        split -> images, captions, distinct_captions, images_without_caption, captions_per_image (mean),
        words_per_caption (mean and most), share_unknown (of all words), feature_width.
    """
    return {split: _describe(data, split) for split in SPLITS if f"{split}_captions" in data}


def _describe(data: Mapping[str, Any], split: str) -> dict[str, Any]:
    captions = np.asarray(data[f"{split}_captions"])
    images = len(data[f"{split}_features"])
    words = (captions >= UNK).sum(axis=1)
    described = len(np.unique(np.asarray(data[f"{split}_image_idxs"])))
    return {
        "images": images,
        "captions": len(captions),
        "distinct_captions": len({row.tobytes() for row in captions}),
        "images_without_caption": images - described,
        "captions_per_image": round(len(captions) / max(1, described), 2),
        "words_per_caption": {"mean": round(float(words.mean()), 2), "most": int(words.max())},
        "share_unknown": round(float((captions == UNK).sum() / max(1, words.sum())), 4),
        "feature_width": data[f"{split}_features"].shape[1],
    }


def as_text(data: Mapping[str, Any], splits: Mapping[str, Mapping[str, Any]]) -> str:
    """What `describe` found, as a table."""
    rows: dict[str, list[str]] = {
        "": list(splits),
        "images": [f"{one['images']:,}" for one in splits.values()],
        "images without caption": [f"{one['images_without_caption']:,}" for one in splits.values()],
        "captions": [f"{one['captions']:,}" for one in splits.values()],
        "captions, distinct": [f"{one['distinct_captions']:,}" for one in splits.values()],
        "captions per image": [f"{one['captions_per_image']:.2f}" for one in splits.values()],
        "words per caption": [f"{one['words_per_caption']['mean']:.1f}" for one in splits.values()],
        "words, at most": [f"{one['words_per_caption']['most']}" for one in splits.values()],
        "words that are <UNK>": [f"{one['share_unknown']:.1%}" for one in splits.values()],
        "feature width": [f"{one['feature_width']:,}" for one in splits.values()],
    }
    lines = [
        f"{name:24}" + "".join(f"{cell:>12}" for cell in cells) for name, cells in rows.items()
    ]
    words = data["idx_to_word"]
    return "\n".join(
        [
            *lines,
            f"{'encoder':24}{data['encoder']:>12}",
            f"{'vocabulary':24}{len(words):>12,}  {' '.join(words[4:16])} ...",
        ]
    )


def draw_examples(
    data: Mapping[str, Any], split: str, count: int, seed: int
) -> tuple[list[int], list[list[str]]]:
    """Some images of a split, by their rows, and the captions of each."""
    image_idxs = np.asarray(data[f"{split}_image_idxs"])
    images = np.unique(image_idxs)
    drawn = np.sort(np.random.default_rng(seed).permutation(images)[:count]).tolist()
    captions = data[f"{split}_captions"]
    words = data["idx_to_word"]
    rows = [np.flatnonzero(image_idxs == image) for image in drawn]
    return drawn, [[str(decode_captions(captions[row], words)) for row in many] for many in rows]


def caption_figure(sources: Sequence[str], captions: Sequence[Sequence[str]], title: str) -> Figure:
    """Images with their captions below them, as a model gets them: cut, and with <UNK>.

    Args:
        sources: paths; in the place of a URL, and of an image that cannot be read, stands why.
        captions: those of each image.
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
        picture.text(SIZE / 2, SIZE / 2, reason, ha="center", va="center", fontsize=12)
        shown = [_wrapped(text) for text in texts[:_SHOWN_CAPTIONS]]
        if len(texts) > _SHOWN_CAPTIONS:
            shown.append(f"(and {len(texts) - _SHOWN_CAPTIONS} more)")
        style = {"va": "top", "fontsize": 12, "parse_math": False}
        words.text(0, 1, "\n".join(shown), transform=words.transAxes, **style)
    return figure


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WRAP, initial_indent="\u2022 ", subsequent_indent="   ")


def _pixels(source: str) -> tuple[np.ndarray, str]:
    if "://" not in source:
        try:
            return load_image(source, SIZE), ""
        except (OSError, ValueError):
            reason = "the image\ncannot be read"
    else:
        reason = "a URL: not fetched"
    return np.full((SIZE, SIZE, 3), 225, np.uint8), reason
