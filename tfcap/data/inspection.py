"""What a folder of captions and features holds, in numbers and as examples."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcap.data.coco import SPLITS, decode_captions
from tfcap.data.vocabulary import UNK

__all__ = ["as_text", "describe", "draw_examples"]


def describe(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of each split of what `load_coco_data` returned.

    Returns:
        split -> images, captions, distinct_captions, images_without_caption, captions_per_image (mean),
        words_per_caption (mean and most), share_unknown (of all words), feature_width.

    Example:
        >>> data = {"val_captions": np.array([[1, 4, 2], [1, 3, 2]]), "encoder": "squeezenet"}
        >>> data |= {"val_image_idxs": np.array([0, 0]), "val_features": np.zeros((1, 512))}
        >>> describe(data)["val"]["captions_per_image"]
        2.0
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
    """The numbers as a table.

    Args:
        data: what `load_coco_data` returned.
        splits: what `describe` returned.

    Example:
        >>> data = {"val_captions": np.array([[1, 4, 2], [1, 3, 2]]), "encoder": "squeezenet"}
        >>> data |= {"val_image_idxs": np.array([0, 0]), "val_features": np.zeros((1, 512))}
        >>> data["idx_to_word"] = ["<NULL>", "<START>", "<END>", "<UNK>", "dog"]
        >>> print(as_text(data, describe(data)))
                                         val
        images                             1
        images without caption             0
        captions                           2
        ...
    """
    formats = {
        "images": "{images:,}",
        "images without caption": "{images_without_caption:,}",
        "captions": "{captions:,}",
        "captions, distinct": "{distinct_captions:,}",
        "captions per image": "{captions_per_image:.2f}",
        "words per caption": "{words_per_caption[mean]:.1f}",
        "words, at most": "{words_per_caption[most]}",
        "words that are <UNK>": "{share_unknown:.1%}",
        "feature width": "{feature_width:,}",
    }
    lines = [f"{'':24}" + "".join(f"{split:>12}" for split in splits)]
    for name, cell in formats.items():
        cells = (cell.format(**numbers) for numbers in splits.values())
        lines.append(f"{name:24}" + "".join(f"{text:>12}" for text in cells))
    words = data["idx_to_word"]
    lines.append(f"{'encoder':24}{data['encoder']:>12}")
    lines.append(f"{'vocabulary':24}{len(words):>12,}  {' '.join(words[4:16])} ...")
    return "\n".join(lines)


def draw_examples(
    data: Mapping[str, Any], split: str, count: int, seed: int
) -> tuple[list[int], list[list[str]]]:
    """Draws images of a split that have captions.

    Returns:
        Their rows among the split's images, rising, and the captions of each.

    Example:
        >>> data = {"val_captions": np.array([[1, 4, 2], [1, 3, 2]]), "encoder": "squeezenet"}
        >>> data |= {"val_image_idxs": np.array([0, 0]), "val_features": np.zeros((1, 512))}
        >>> data["idx_to_word"] = ["<NULL>", "<START>", "<END>", "<UNK>", "dog"]
        >>> draw_examples(data, "val", 1, seed=0)
        ([0], [['dog', '<UNK>']])
    """
    image_idxs = np.asarray(data[f"{split}_image_idxs"])
    images = np.unique(image_idxs)
    drawn = np.sort(np.random.default_rng(seed).permutation(images)[:count]).tolist()
    captions, words = data[f"{split}_captions"], data["idx_to_word"]
    rows = [np.flatnonzero(image_idxs == image) for image in drawn]
    return drawn, [list(decode_captions(captions[some], words)) for some in rows]
