"""Captions and features of images in CS231n's layout: read lazily, decoded, streamed with tf.data.

A folder holds, as in the course, ``coco2014_captions.h5``, ``coco2014_vocab.json`` and for each split
``train2014_vgg16_fc7_pca.h5`` and ``train2014_urls.txt``; or, built by ``python -m tfcap.datasets``,
``NAME_captions.h5``, ``NAME_vocab.json``, ``NAME_SPLIT_squeezenet.h5`` and ``NAME_SPLIT_images.txt``.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcap.data.folder_kinds import no_captions
from tfcap.data.lazy_array import LazyArray, StoredPaths, blocks, hdf5_names
from tfcap.data.vocabulary import END, NULL, SPECIAL, START, check_vocabulary
from visualization.backend import tf
from visualization.files.printable import printable

SPLITS = ("train", "val", "test")
_PARTS = ("captions", "image_idxs", "features", "urls")
_COURSE = "coco2014"
_MAX_VOCABULARY = 2**26  # bytes
_MAX_LENGTH = 1000  # tokens
_WINDOW = 64  # batches; shuffled captions are sorted by length within so many
_LENGTHS = 5  # to which batches are padded; each costs a compilation


def load_coco_data(
    base_dir: str | os.PathLike[str],
    max_train: int | None = None,
    pca_features: bool = True,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Opens a folder in the course's layout; nothing but the vocabulary is held in memory.

    Args:
        base_dir: the course's ``coco_captioning`` folder, or one that ``python -m tfcap.datasets``
            built.
        max_train: at most so many training captions, drawn without replacement.
        pca_features: of the course's features, those that PCA made 512 wide; otherwise those of fc7,
            4096 wide. A built folder has one kind.
        seed: of the drawing.

    Returns:
        For each split that is there, train, val, test: ``SPLIT_captions`` int32 (M, T), ``<START> words
        <END> <NULL>...``; ``SPLIT_image_idxs`` int32 (M,), each caption's image; ``SPLIT_features``
        float32 (images, D); ``SPLIT_urls`` (images,) of str, paths or URLs. They stay in their files
        and take any index of the first axis: integers in any order with repeats, slices, masks. Then
        ``idx_to_word``, a list, ``word_to_idx``, a dict, and ``encoder``, what the features are
        ("vgg16_fc7_pca", "vgg16_fc7", "squeezenet").

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: it is another kind of folder, or a file is damaged or does not fit the others.
    """
    if max_train is not None and max_train < 1:
        raise ValueError(f"max_train is {max_train}, expected 1 or more, or None for all")
    folder = Path(base_dir)
    captions = _captions_file(folder)
    name = captions.name.removesuffix(_CAPTIONS)
    vocabulary = folder / f"{name}_vocab.json"
    words, word_to_idx = _read_vocabulary(vocabulary)
    inside = hdf5_names(captions)
    splits = [split for split in SPLITS if f"{split}_captions" in inside]
    if not splits:
        raise ValueError(
            f"{captions} holds no train_captions, val_captions or test_captions: it is another kind of "
            "file"
        )
    data: dict[str, Any] = {}
    encoders = {}
    for split in splits:
        features, lines, encoders[split] = _files_of(folder, name, split, pca_features)
        data[f"{split}_captions"] = LazyArray(captions, f"{split}_captions", 2)
        data[f"{split}_image_idxs"] = LazyArray(captions, f"{split}_image_idxs", 1)
        data[f"{split}_features"] = LazyArray(features, "features", 2)
        data[f"{split}_urls"] = StoredPaths(lines)
        _check_captions(data[f"{split}_captions"], len(words), vocabulary)
        _check_images(*(data[f"{split}_{key}"] for key in _PARTS))
    if len(set(encoders.values())) > 1:
        raise ValueError(
            f"{folder} holds features of several encoders, "
            f"{', '.join(f'{split}: {printable(encoder)}' for split, encoder in encoders.items())}: build "
            "the splits alike"
        )
    if max_train is not None and "train" in splits and max_train < len(data["train_captions"]):
        count = len(data["train_captions"])
        kept = np.random.default_rng(seed).choice(count, max_train, replace=False)
        for key in ("train_captions", "train_image_idxs"):
            data[key] = data[key][kept]
    return data | {
        "idx_to_word": words,
        "word_to_idx": word_to_idx,
        "encoder": encoders[splits[0]],
    }


def check_split(data: Mapping[str, Any], split: str) -> None:
    """Raises ValueError if there is no such split in what `load_coco_data` gave."""
    if f"{split}_captions" not in data:
        there = [key.removesuffix("_captions") for key in data if key.endswith("_captions")]
        raise ValueError(f"the data hold no split {split!r}, only {', '.join(there) or 'none'}")


def sample_coco_minibatch(
    data: Mapping[str, Any], batch_size: int = 100, split: str = "train", *, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws captions with their images' features and URLs, from what `load_coco_data` gave.

    No caption is drawn twice, unless there are fewer than asked for. Without `seed`, NumPy's global
    random state decides, as in the course.

    Returns:
        captions int32 (batch_size, T), features float32 (batch_size, D), urls (batch_size,) of str.
    """
    captions, image_idxs, features = _split(data, split)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected 1 or more")
    count = len(captions)
    rng = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
    rows = rng.choice(count, batch_size, replace=batch_size > count)
    images = image_idxs[rows]
    return captions[rows], features[images], data[f"{split}_urls"][images]


def decode_captions(
    captions: Any, idx_to_word: Sequence[str] | Mapping[int, str]
) -> str | list[str]:
    """The words of captions, joined by spaces.

    Stops before <END>, leaves out <NULL> and a leading <START>.

    Args:
        captions: integers (T,) or (N, T).
        idx_to_word: the words by their ids, a list or a dict.

    Returns:
        One string for (T,), a list of N for (N, T).

    Raises:
        TypeError: the captions are not integers.
        ValueError: they have another shape, or an id has no word.
    """
    captions = np.asarray(captions)
    if captions.ndim not in (1, 2):
        raise ValueError(f"the captions have shape {captions.shape}, expected (T,) or (N, T)")
    if captions.size and not np.issubdtype(captions.dtype, np.integer):
        raise TypeError(f"the captions are {captions.dtype}, expected integers")
    known = idx_to_word if isinstance(idx_to_word, Mapping) else range(len(idx_to_word))
    for index in np.unique(captions).tolist():
        if index not in known:
            raise ValueError(
                f"the captions hold the id {index}, which none of the vocabulary's {len(known):,} "
                "words has"
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


# ---- streaming


def caption_dataset(
    data: Mapping[str, Any],
    split: str = "train",
    batch_size: int = 128,
    *,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    on_error: Callable[[Exception], None] = lambda error: None,
) -> tf.data.Dataset:
    """One epoch of batches, features float32 (n, D) and captions int32 (n, L), read as they are needed.

    Every caption comes once. Those of a batch are of similar length, and L is the longest of them
    rounded up to one of at most five lengths. The same arguments give the same batches in any
    process.

    Args:
        data: what `load_coco_data` gave.
        batch_size: of all workers together.
        shuffle: anew for each `seed` and `epoch`; otherwise captions come in the order of the file.
        start: leaves out so many batches without reading them, to go on where one had stopped.
        shard: (k, n) gives worker k of n its part of every batch; n workers get just what one would.
            A batch with fewer captions than workers is left out.
        on_error: called with the exception that reading a batch raises; of it, TensorFlow's own error
            then keeps only the message.

    Raises:
        ValueError: there is no such split, or a number is out of range.
    """
    captions, image_idxs, features = _split(data, split)
    image_idxs = np.asarray(image_idxs)
    worker, workers = shard
    if not 0 <= worker < workers:
        raise ValueError(f"shard is {shard}, expected (k, n) with 0 <= k < n")
    if batch_size < workers:
        raise ValueError(
            f"batch_size is {batch_size}, expected at least one for each worker, {workers}"
        )
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed is {seed} and epoch {epoch}, expected 0 or more")
    rows, starts, columns = _plan(
        _lengths(captions), batch_size, (seed, epoch) if shuffle else None
    )
    whole = np.minimum(starts + batch_size, len(rows)) - starts >= workers
    starts, columns = starts[whole], columns[whole]
    if not 0 <= start <= len(starts):
        raise ValueError(f"start is {start}, expected 0 to {len(starts)}, the number of batches")

    def read(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = starts[batch]
        mine = rows[first : first + batch_size][worker::workers]
        try:
            tokens = captions[mine][:, : columns[batch]]
            found = features[image_idxs[mine]]
        except Exception as error:
            on_error(error)
            raise
        return found.astype(np.float32, copy=False), tokens.astype(np.int32, copy=False)

    def load(batch: Any) -> tuple[Any, Any]:
        found, tokens = tf.numpy_function(read, [batch], (tf.float32, tf.int32), stateful=False)
        return tf.ensure_shape(found, (None, features.shape[1])), tf.ensure_shape(
            tokens, (None, None)
        )

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.range(start, len(starts)).map(load, num_parallel_calls=2)
    return dataset.prefetch(4).with_options(options)


def _plan(
    lengths: np.ndarray, batch_size: int, seeds: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of the captions (M,), where in it each batch starts, and each batch's width L."""
    count = len(lengths)
    starts = np.arange(0, count, batch_size)
    if seeds is None:
        rows = np.arange(count, dtype=np.int32)
    else:
        rng = np.random.default_rng(seeds)
        rows = rng.permutation(np.arange(count, dtype=np.int32))
        for first in range(0, count, _WINDOW * batch_size):
            window = rows[first : first + _WINDOW * batch_size]
            window[:] = window[np.argsort(lengths[window], kind="stable")]
    allowed = np.unique(
        np.quantile(lengths, np.arange(1, _LENGTHS + 1) / _LENGTHS, method="higher")
    )
    columns = allowed[np.searchsorted(allowed, np.maximum.reduceat(lengths[rows], starts))]
    if seeds is not None:
        shuffled = rng.permutation(len(starts))
        starts, columns = starts[shuffled], columns[shuffled]
    return rows, starts, columns


def _lengths(captions: Any) -> np.ndarray:
    """How many tokens each caption has up to the last that is not <NULL>, int32 (M,)."""
    width = captions.shape[1]
    return np.concatenate(
        [
            (width - np.argmax(np.asarray(block)[:, ::-1] != NULL, axis=1)).astype(np.int32)
            for block in blocks(captions)
        ]
    )


def _split(data: Mapping[str, Any], split: str) -> tuple[Any, Any, Any]:
    """A split's captions, image numbers and features."""
    check_split(data, split)
    captions, image_idxs, features = (
        data[f"{split}_{key}"] for key in ("captions", "image_idxs", "features")
    )
    return captions, image_idxs, features


# ---- files

_CAPTIONS = "_captions.h5"


def _captions_file(folder: Path) -> Path:
    """The one NAME_captions.h5 in a folder."""
    found = sorted(folder.glob(f"*{_CAPTIONS}")) if folder.is_dir() else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise no_captions(folder)
    names = " and ".join(printable(path.name.removesuffix(_CAPTIONS)) for path in found[:5])
    raise ValueError(
        f"{folder} holds {len(found)} data sets, {names}: move each into a folder of its own"
    )


def _files_of(folder: Path, name: str, split: str, pca_features: bool) -> tuple[Path, Path, str]:
    """A split's features, its list of images, and what the features are."""
    prefix = f"{name}_{split}_"
    built = [path for path in sorted(folder.iterdir()) if path.name.startswith(prefix)]
    built = [path for path in built if path.suffix == ".h5" and not path.stem.endswith("_grid")]
    lines = folder / f"{prefix}images.txt"
    if name == _COURSE and not built:
        encoder = "vgg16_fc7_pca" if pca_features else "vgg16_fc7"
        features = folder / f"{split}2014_{encoder}.h5"
        lines = folder / f"{split}2014_urls.txt"
        other = features.with_name(
            f"{split}2014_{'vgg16_fc7' if pca_features else 'vgg16_fc7_pca'}.h5"
        )
        if not features.is_file() and other.is_file():
            raise FileNotFoundError(
                f"{features} is missing, but {other.name} is there: copy it too, or take the other "
                f"with pca_features={not pca_features}"
            )
    elif len(built) > 1:
        raise ValueError(
            f"{folder} holds several features of {split}, "
            f"{' and '.join(printable(path.name) for path in built[:5])}: keep one"
        )
    elif built:
        features = built[0]
        encoder = features.stem.removeprefix(prefix)
    else:
        raise FileNotFoundError(
            f"{folder} holds captions of {name} for {split}, but no features {prefix}*.h5: build it "
            "again"
        )
    for path in (features, lines):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing, which belongs to {name}{_CAPTIONS}: copy it to that folder"
            )
    return features, lines, encoder


def _read_vocabulary(path: Path) -> tuple[list[str], dict[str, int]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, which holds the words: copy it to that folder")
    if path.stat().st_size > _MAX_VOCABULARY:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, more than any vocabulary: it is refused"
        )
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is broken json at line {error.lineno}, column {error.colno} ({error.msg}): get it "
            "again"
        ) from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is no json of a vocabulary: get it again") from None
    try:
        word_to_idx, words = content["word_to_idx"], content["idx_to_word"]
        found = check_vocabulary(word_to_idx)
    except (KeyError, TypeError, IndexError):
        raise ValueError(
            f"{path} does not hold idx_to_word, a list of words, and word_to_idx, their ids: it is "
            "another kind of file"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {printable(str(error), 300)}") from None
    if words != found or tuple(words[: len(SPECIAL)]) != SPECIAL:
        raise ValueError(
            f"{path}: idx_to_word is not the words of word_to_idx in the order of their ids, beginning "
            f"with {', '.join(SPECIAL)}: get it again"
        )
    return words, word_to_idx


def _check_captions(captions: LazyArray, size: int, vocabulary: Path) -> None:
    """Looks at every caption, a few megabytes at a time."""
    if not len(captions) or not 3 <= captions.shape[1] <= _MAX_LENGTH:
        raise ValueError(
            f"{captions.path}: {captions.name} has shape {captions.shape}, expected (M, T) with M > 0 "
            f"and T from 3 to {_MAX_LENGTH:,}"
        )
    first = 0
    for block in blocks(captions):
        if block.min() < 0 or block.max() >= size:
            row = int(np.argmax(((block < 0) | (block >= size)).any(axis=1)))
            bad = next(index for index in block[row].tolist() if not 0 <= index < size)
            raise ValueError(
                f"{captions.path}: row {first + row} of {captions.name} holds the id {bad}, but "
                f"{vocabulary.name} has {size:,} words: the two files do not belong together"
            )
        wrong = (block[:, 0] != START) | (block[:, 1:].max(axis=1) <= END)
        if wrong.any():
            row = int(np.argmax(wrong))
            told = "has no words" if block[row, 0] == START else "does not begin with <START>"
            raise ValueError(
                f"{captions.path}: row {first + row} of {captions.name} {told}, expected <START> words "
                "<END> <NULL>...: make the file again"
            )
        first += len(block)


def _check_images(
    captions: LazyArray, image_idxs: LazyArray, features: LazyArray, urls: StoredPaths
) -> None:
    """Looks at whether every caption has an image, and every image features and a line."""
    if len(image_idxs) != len(captions):
        raise ValueError(
            f"{captions.path}: {captions.name} has {len(captions):,} rows, but {image_idxs.name} "
            f"{len(image_idxs):,}: make the file again"
        )
    if len(urls) != len(features):
        raise ValueError(
            f"{urls.path} has {len(urls):,} lines, but {features.path.name} the features of "
            f"{len(features):,} images: the two files do not belong together"
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
