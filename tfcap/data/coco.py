"""Captions and image features in CS231n's HDF5 layout: opened lazily, sampled, decoded.

A folder holds, as in the course, ``coco2014_captions.h5``, ``coco2014_vocab.json`` and for each split
``train2014_vgg16_fc7_pca.h5`` and ``train2014_urls.txt``. One that ``python -m tfcap.datasets`` built
holds ``NAME_captions.h5``, ``NAME_vocab.json``, ``NAME_SPLIT_squeezenet.h5``, ``NAME_SPLIT_images.txt``
and the sentences as they were written, ``NAME_SPLIT_captions.json``.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcap.data.folders import describe_folder
from tfcap.data.lazy_array import LazyArray, blocks
from tfcap.data.vocabulary import END, NULL, SPECIAL, START, check_vocabulary
from visualization.files.hdf5 import open_hdf5
from visualization.files.json_file import read_json
from visualization.files.printable import printable, some
from visualization.files.system_errors import reading

__all__ = ["SPLITS", "check_split", "decode_captions", "load_coco_data", "sample_coco_minibatch"]

SPLITS = ("train", "val", "test")


def load_coco_data(
    base_dir: str | os.PathLike[str],
    max_train: int | None = None,
    pca_features: bool = True,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Opens a folder in the course's layout; captions and features stay in their files.

    Args:
        base_dir: the course's ``coco_captioning`` folder, or one that ``python -m tfcap.datasets``
            built.
        max_train: at most so many training captions, drawn without replacement.
        pca_features: of the course's features, those that PCA made 512 wide; otherwise those of fc7,
            4096 wide. A built folder has one kind.
        seed: of the draw.

    Returns:
        For each split that the folder has (train, val, test):

        - ``SPLIT_captions`` int32 (M, T): ``<START> words <END> <NULL>...``;
        - ``SPLIT_image_idxs`` int32 (M,): each caption's image;
        - ``SPLIT_features`` float32 (images, D), or of cells (images, L, D);
        - ``SPLIT_views``, where they were built: features of random crops, (images, K, D) or
          (images, K, L, D);
        - ``SPLIT_urls`` (images,): an array of str, paths or URLs;
        - ``SPLIT_annotations``: the path of ``NAME_SPLIT_captions.json``, if there is one.

        All but the last two are read when they are indexed (`LazyArray`). Then ``idx_to_word``, a list,
        ``word_to_idx``, a dict, and ``encoder``, the name of what made the features
        ("vgg16_fc7_pca", "vgg16_fc7", "squeezenet").

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: it is another kind of folder, or a file is damaged or does not match the others.

    Example:
        >>> from tfcap import make_shapes
        >>> _ = make_shapes("shapes", train=4, val=2)
        >>> data = load_coco_data("shapes")
        >>> data["train_features"][[3, 0]].shape, data["encoder"]
        ((2, 512), 'squeezenet')
    """
    if max_train is not None and max_train < 1:
        raise ValueError(f"max_train is {max_train}, expected 1 or more, or None for all")
    folder = Path(base_dir)
    captions_file = _captions_file(folder)
    name = captions_file.name.removesuffix(_CAPTIONS)
    vocabulary = folder / f"{name}_vocab.json"
    words, word_to_idx = _read_vocabulary(vocabulary)
    with open_hdf5(captions_file) as file:
        splits = [one for one in SPLITS if file.get(f"{one}_captions", getlink=True) is not None]
    if not splits:
        raise ValueError(
            f"{captions_file}: has no train_captions, val_captions or test_captions: name a file of "
            "captions"
        )
    data: dict[str, Any] = {}
    encoders = {}
    for split in splits:
        features_file, lines_file, encoders[split] = _files_of(folder, name, split, pca_features)
        captions = LazyArray(captions_file, f"{split}_captions", 2)
        image_idxs = LazyArray(captions_file, f"{split}_image_idxs", 1)
        features = LazyArray(features_file, "features", (2, 3))
        urls = _read_lines(lines_file)
        if len(urls) != len(features):
            raise ValueError(
                f"{lines_file}: has {len(urls):,} lines, but {features_file.name} the features of "
                f"{len(features):,} images: the two files do not belong together"
            )
        _check_captions(captions, len(words), vocabulary)
        _check_images(captions, image_idxs, features)
        data |= {f"{split}_captions": captions, f"{split}_image_idxs": image_idxs}
        data |= {f"{split}_features": features, f"{split}_urls": urls}
        views = features_file.with_name(f"{features_file.stem}_views.h5")
        if views.is_file():
            data[f"{split}_views"] = _views(views, features)
        annotations = folder / f"{name}_{split}_captions.json"
        if annotations.is_file():
            data[f"{split}_annotations"] = str(annotations)
    if len(set(encoders.values())) > 1:
        named = ", ".join(f"{split}: {printable(encoder)}" for split, encoder in encoders.items())
        raise ValueError(
            f"{folder}: holds features of several encoders, {named}: build all splits with one"
        )
    if max_train is not None and "train" in splits and max_train < len(data["train_captions"]):
        count = len(data["train_captions"])
        kept = np.random.default_rng(seed).choice(count, max_train, replace=False)
        for key in ("train_captions", "train_image_idxs"):
            data[key] = data[key][kept]
    data |= {"idx_to_word": words, "word_to_idx": word_to_idx}
    return data | {"encoder": encoders[splits[0]]}


def check_split(data: Mapping[str, Any], split: str) -> None:
    """Raises ValueError if what `load_coco_data` returned has no such split.

    Example:
        >>> check_split({"train_captions": []}, "val")
        Traceback (most recent call last):
        ValueError: the data have no split 'val', only train
    """
    if f"{split}_captions" not in data:
        there = [key.removesuffix("_captions") for key in data if key.endswith("_captions")]
        raise ValueError(f"the data have no split {split!r}, only {', '.join(there) or 'none'}")


def sample_coco_minibatch(
    data: Mapping[str, Any], batch_size: int = 100, split: str = "train", *, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws captions with their images' features and URLs, from what `load_coco_data` returned.

    No caption is drawn twice, unless there are fewer than `batch_size`. Without `seed`, NumPy's global
    random state decides, as in the course.

    Returns:
        captions int32 (batch_size, T), features float32 (batch_size, D) or (batch_size, L, D), urls
        (batch_size,) of str.

    Raises:
        ValueError: there is no such split, or `batch_size` is below 1.

    Example:
        >>> data = {"val_captions": np.array([[1, 4, 2]]), "val_image_idxs": np.array([0])}
        >>> data |= {"val_features": np.zeros((1, 512)), "val_urls": np.array(["a.jpg"])}
        >>> captions, features, urls = sample_coco_minibatch(data, 1, "val")
        >>> captions, features.shape, urls.tolist()
        (array([[1, 4, 2]]), (1, 512), ['a.jpg'])
    """
    check_split(data, split)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected 1 or more")
    captions, features = data[f"{split}_captions"], data[f"{split}_features"]
    count = len(captions)
    rng = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
    rows = rng.choice(count, batch_size, replace=batch_size > count)
    images = data[f"{split}_image_idxs"][rows]
    return captions[rows], features[images], data[f"{split}_urls"][images]


def decode_captions(
    captions: Any, idx_to_word: Sequence[str] | Mapping[Any, str]
) -> str | list[str]:
    """The words of captions, joined by spaces.

    Stops before <END>; omits <NULL> and a leading <START>.

    Args:
        captions: integers (T,) or (N, T).
        idx_to_word: the words by their ids, a list or a dict, also with the string keys of JSON.

    Returns:
        One string for (T,), a list of N for (N, T).

    Raises:
        TypeError: the captions are not integers.
        ValueError: they have another shape, or an id is not in the vocabulary.

    Example:
        >>> words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"]
        >>> decode_captions([[1, 4, 5, 2, 0], [1, 5, 3, 2, 0]], words)
        ['a dog', 'dog <UNK>']
    """
    captions = np.asarray(captions)
    if captions.ndim not in (1, 2):
        raise ValueError(f"the captions have shape {captions.shape}, expected (T,) or (N, T)")
    if captions.size and not np.issubdtype(captions.dtype, np.integer):
        raise TypeError(f"the captions are {captions.dtype}, expected integers")
    if isinstance(idx_to_word, Mapping):
        # JSON has only strings for keys
        idx_to_word = {
            int(key) if isinstance(key, str) and key.isdecimal() else key: word
            for key, word in idx_to_word.items()
        }
    known = idx_to_word if isinstance(idx_to_word, Mapping) else range(len(idx_to_word))
    for index in np.unique(captions).tolist():
        if index not in known:
            raise ValueError(
                f"the captions hold the id {index}, which is not in the vocabulary of {len(known):,} "
                "words"
            )
    if captions.ndim == 1:
        return _decode(captions, idx_to_word)
    return [_decode(caption, idx_to_word) for caption in captions]


def _decode(caption: np.ndarray, idx_to_word: Sequence[str] | Mapping[int, str]) -> str:
    words = [idx_to_word[index] for index in caption.tolist()]
    if SPECIAL[END] in words:
        words = words[: words.index(SPECIAL[END])]
    if words[:1] == [SPECIAL[START]]:
        words = words[1:]
    return " ".join(word for word in words if word != SPECIAL[NULL])


# ---- the files of a folder

_CAPTIONS = "_captions.h5"
_COURSE = "coco2014"


def _captions_file(folder: Path) -> Path:
    """The one NAME_captions.h5 in a folder."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such folder: check the path")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file: name the folder that holds NAME{_CAPTIONS}")
    found = sorted(folder.glob(f"*{_CAPTIONS}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"{folder}: holds no NAME{_CAPTIONS}: it {describe_folder(folder)}")
    names = some([path.name.removesuffix(_CAPTIONS) for path in found])
    raise ValueError(
        f"{folder}: holds {len(found)} data sets, {names}: move each into a folder of its own"
    )


def _files_of(folder: Path, name: str, split: str, pca_features: bool) -> tuple[Path, Path, str]:
    """A split's features, its list of images, and the features' encoder."""
    prefix = f"{name}_{split}_"
    built = [path for path in sorted(folder.iterdir()) if path.name.startswith(prefix)]
    built = [
        path
        for path in built
        if path.suffix == ".h5" and not path.stem.endswith(("_grid", "_views"))
    ]
    if len(built) > 1:
        raise ValueError(
            f"{folder}: holds several files of features of {split}, "
            f"{some([path.name for path in built])}: keep one"
        )
    if built:
        features, lines = built[0], folder / f"{prefix}images.txt"
        encoder = features.stem.removeprefix(prefix)
    elif name == _COURSE:
        pca, fc7 = "vgg16_fc7_pca", "vgg16_fc7"
        encoder, other = (pca, fc7) if pca_features else (fc7, pca)
        features, lines = folder / f"{split}2014_{encoder}.h5", folder / f"{split}2014_urls.txt"
        if not features.is_file() and (folder / f"{split}2014_{other}.h5").is_file():
            raise FileNotFoundError(
                f"{features}: is missing, but {split}2014_{other}.h5 is there: copy it too, or use the "
                f"other with pca_features={not pca_features}"
            )
    else:
        raise FileNotFoundError(
            f"{folder}: holds captions of {name} for {split}, but no features {prefix}*.h5: build it "
            "again"
        )
    for path in (features, lines):
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: is missing, and {name}{_CAPTIONS} needs it: copy it to that folder"
            )
    return features, lines, encoder


_MAX_VOCABULARY = 2**26  # bytes


def _read_vocabulary(path: Path) -> tuple[list[str], dict[str, int]]:
    content = read_json(path, max_bytes=_MAX_VOCABULARY)
    try:
        word_to_idx, words = content["word_to_idx"], content["idx_to_word"]
        found = check_vocabulary(word_to_idx)
    except (KeyError, TypeError, IndexError):
        raise ValueError(
            f"{path}: does not hold idx_to_word, a list of words, and word_to_idx, their ids: name a "
            "vocabulary"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {printable(str(error), 300)}") from None
    if words != found or tuple(words[: len(SPECIAL)]) != SPECIAL:
        raise ValueError(
            f"{path}: idx_to_word is not the words of word_to_idx in the order of their ids, beginning "
            f"with {', '.join(SPECIAL)}: download or build it again"
        )
    return words, word_to_idx


_LONGEST_LINE = 2**16  # bytes


def _read_lines(path: Path) -> np.ndarray:
    """The paths and URLs in a text file, one a line; relative paths lead from the file's folder."""
    found = []
    with reading(path):
        if not path.is_file():
            raise OSError(f"{path}: is not a regular file: name a list of images")
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                if len(line) == _LONGEST_LINE or not line.strip():
                    raise ValueError(
                        f"{path}: line {number} is empty or too long, expected a path or URL: download "
                        "or build it again"
                    )
                text = line.strip().decode(errors="replace")
                found.append(text if "://" in text else str(path.parent / text))
    return np.array(found, dtype=object)


# ---- whether the files match

_MAX_LENGTH = 1000  # tokens


def _check_captions(captions: LazyArray, size: int, vocabulary: Path) -> None:
    """Looks at every caption, a megabyte at a time."""
    if not len(captions) or not 3 <= captions.shape[1] <= _MAX_LENGTH:
        raise ValueError(
            f"{captions.path}: {captions.name} has shape {captions.shape}, expected (M, T) with M > 0 "
            f"and T from 3 to {_MAX_LENGTH:,}"
        )
    first = 0
    for block in blocks(captions):
        wrong = ((block < 0) | (block >= size)).any(axis=1)
        wrong |= (block[:, 0] != START) | (block[:, 1:].max(axis=1) <= END)
        if wrong.any():
            row = int(np.argmax(wrong))
            fault = _fault(block[row], size, vocabulary.name)
            raise ValueError(f"{captions.path}: row {first + row} of {captions.name} {fault}")
        first += len(block)


def _fault(caption: np.ndarray, size: int, vocabulary: str) -> str:
    for index in caption.tolist():
        if not 0 <= index < size:
            return (
                f"holds the id {index}, but {vocabulary} has {size:,} words: the two files do not "
                "belong together"
            )
    what = "has no words" if caption[0] == START else "does not begin with <START>"
    return f"{what}, expected <START> words <END> <NULL>...: download or build the file again"


def _views(path: Path, features: LazyArray) -> LazyArray:
    """The features of random crops of the images that `features` are of."""
    views = LazyArray(path, "features", features.ndim + 1)
    if (views.shape[0], *views.shape[2:]) != features.shape:
        raise ValueError(
            f"{path}: has features {views.shape} of views, but {features.path.name} those of images, "
            f"{features.shape}: the two files do not belong together"
        )
    return views


def _check_images(captions: LazyArray, image_idxs: LazyArray, features: LazyArray) -> None:
    """Whether every caption has an image with features."""
    if len(image_idxs) != len(captions):
        raise ValueError(
            f"{captions.path}: {captions.name} has {len(captions):,} rows, but {image_idxs.name} "
            f"{len(image_idxs):,}: download or build the file again"
        )
    first = 0
    for block in blocks(image_idxs):
        wrong = (block < 0) | (block >= len(features))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{image_idxs.path}: row {first + row} of {image_idxs.name} is image {block[row]}, but "
                f"{features.path.name} has {len(features):,}: the two files do not belong together"
            )
        first += len(block)
