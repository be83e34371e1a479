"""Files of captions in COCO's formats: results to score, and the references of a data set."""

import json
import operator
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfcap.data.coco import check_split, decode_captions
from visualization.files.atomic import make_folder, write_file
from visualization.files.json_file import read_json

__all__ = ["read_coco_results", "references_by_image", "write_coco_results"]


def read_coco_results(path: str | Path) -> dict[int | str, str]:
    """The sentences of a COCO result file, by image id.

    Such a file is a list: ``[{"image_id": 391895, "caption": "a man on a horse"}, ...]``.

    Raises:
        ValueError: it is not such a file; the message says where.
        OSError: it cannot be read.

    Example:
        >>> write_coco_results("results.json", {391895: "a man on a horse"})
        >>> read_coco_results("results.json")
        {391895: 'a man on a horse'}
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        annotations = isinstance(entries, dict) and "annotations" in entries
        held = "COCO annotations" if annotations else f"a JSON {type(entries).__name__}"
        raise ValueError(
            f'{path}: holds {held}, expected COCO results: a list of {{"image_id", "caption"}}'
        )
    predictions: dict[int | str, str] = {}
    for number, entry in enumerate(entries):
        result = _result(entry)
        if result is None:
            shown = json.dumps(entry)
            raise ValueError(
                f"{path}: entry {number} is {shown[:80]}{'...' * (len(shown) > 80)}, expected "
                '{"image_id": an integer or a string, "caption": a string}'
            )
        image, caption = result
        if image in predictions:
            raise ValueError(
                f"{path}: image_id {image!r} has two captions, one in entry {number}: remove one"
            )
        predictions[image] = caption
    return predictions


def write_coco_results(path: str | Path, predictions: Mapping[Any, str]) -> None:
    """Writes sentences as a COCO result file, atomically; its folder is made if missing.

    Args:
        path: the file.
        predictions: sentences by image id, an integer or a string.

    Raises:
        TypeError: an id or a sentence is of another type.
        OSError: it cannot be written.

    Example:
        >>> write_coco_results("results.json", {7: "a dog"})
        >>> json.loads(Path("results.json").read_text())
        [{'image_id': 7, 'caption': 'a dog'}]
    """
    entries = []
    for image, caption in predictions.items():
        if not isinstance(caption, str) or isinstance(image, bool):
            raise TypeError(f"image {image!r} has {caption!r}, expected an id and a string")
        number = image if isinstance(image, str) else operator.index(image)
        entries.append(json.dumps({"image_id": number, "caption": caption}))
    path = Path(path)
    text = "[\n" + ",\n".join(entries) + "\n]\n"
    write_file(make_folder(path.parent) / path.name, text.encode())


def references_by_image(data: Mapping[str, Any], split: str) -> dict[int, list[str]]:
    """The sentences of each image of a split that has any, by the image's row in the features.

    They are the sentences as they were written, from the annotations ``NAME_SPLIT_captions.json`` that
    `tfcap.datasets` keeps beside the captions. Where there are none, as in the course's folder, they
    are the decoded captions, in which rare words are ``<UNK>`` and long sentences are cut.

    Args:
        data: what `load_coco_data` returns.
        split: "train", "val" or "test".

    Raises:
        ValueError: there is no such split, or the annotations are damaged or of other images.
        OSError: they cannot be read.

    Example:
        >>> data = {"val_captions": [[1, 4, 2]], "val_image_idxs": [3]}
        >>> data["idx_to_word"] = ["<NULL>", "<START>", "<END>", "<UNK>", "dog"]
        >>> references_by_image(data, "val")
        {3: ['dog']}
    """
    check_split(data, split)
    annotations = data.get(f"{split}_annotations")
    pairs: Iterable[tuple[int, str]]
    if annotations is None:
        images = np.asarray(data[f"{split}_image_idxs"]).tolist()
        sentences = decode_captions(np.asarray(data[f"{split}_captions"]), data["idx_to_word"])
        pairs = zip(images, sentences, strict=True)
    else:
        pairs = _annotations(Path(annotations), len(data[f"{split}_features"]))
    references: dict[int, list[str]] = {}
    for image, sentence in pairs:
        references.setdefault(image, []).append(sentence)
    return references


def _annotations(path: Path, images: int) -> Iterator[tuple[int, str]]:
    """Image and sentence of each of COCO's annotations."""
    content = read_json(path)
    entries = content.get("annotations") if isinstance(content, dict) else None
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        image, caption = _result(entry) or (None, "")
        if not isinstance(image, int) or not 0 <= image < images:
            raise ValueError(
                f"{path}: annotation {number} is not the caption of an image from 0 to {images - 1}: "
                "build the folder again"
            )
        yield image, caption


def _result(entry: Any) -> tuple[int | str, str] | None:
    """The id and the caption of an entry of a COCO result file, if it is one."""
    if not isinstance(entry, dict):
        return None
    image, caption = entry.get("image_id"), entry.get("caption")
    if not isinstance(image, int | str) or isinstance(image, bool) or not isinstance(caption, str):
        return None
    return image, caption
