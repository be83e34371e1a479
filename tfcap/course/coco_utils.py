"""``cs231n.coco_utils``: COCO's captions and features."""

import os
from typing import Any

from tfcap.data import coco
from tfcap.data.coco import decode_captions, sample_coco_minibatch

__all__ = ["decode_captions", "load_coco_data", "sample_coco_minibatch"]


def load_coco_data(
    base_dir: str | os.PathLike[str] = "cs231n/datasets/coco_captioning",
    max_train: int | None = None,
    pca_features: bool = True,
) -> dict[str, Any]:
    """`tfcap.load_coco_data`, by default of the course's folder.

    Example:
        >>> from tfcap import make_shapes
        >>> _ = make_shapes("cs231n/datasets/coco_captioning", train=4, val=2)
        >>> load_coco_data()["train_features"].shape
        (4, 512)
    """
    return coco.load_coco_data(base_dir, max_train, pca_features)
