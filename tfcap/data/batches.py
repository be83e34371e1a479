"""One epoch of training batches with tf.data: whole images with all their captions, read as needed."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfcap.data.coco import check_split
from tfcap.data.lazy_array import blocks
from tfcap.data.vocabulary import NULL
from visualization.backend import tf

__all__ = ["caption_dataset"]

_LENGTHS = 5  # to which batches are padded; each costs a compilation
_ROWS = 8  # a batch's rows are padded to a multiple of so many, for the same reason


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
    """One epoch of batches ((features, image_of_row), captions), read from disk as they are needed.

    A batch holds images with all their captions, up to `batch_size` of them; an image with more comes
    in several batches. Every caption comes once. The rows are sorted by falling length, and padded:
    to one of at most five lengths L, and to N rows, which all batches have, with rows of ``<NULL>``.
    The same arguments give the same batches in any process.

    Args:
        data: what `load_coco_data` returns.
        split: "train", "val" or "test".
        batch_size: captions in a batch, those of all workers together.
        shuffle: draw a new order for each `seed` and `epoch`, and where there are views of an image,
            one of them or the image itself; otherwise the order is the file's.
        seed, epoch: 0 or more; they determine the order.
        start: the first batch; earlier ones are skipped without being read, to resume an epoch.
        shard: (k, n) gives worker k of n its part of every batch: together, n workers see what one
            would. A batch with fewer captions than workers is omitted.
        on_error: called with the exception that reading a batch raises; TensorFlow's own error keeps
            only its message.

    Returns:
        A dataset of features float32 (I, D) or (I, cells, D), image_of_row int32 (N,), the image of
        each row, and captions int32 (N, L).

    Raises:
        ValueError: there is no such split, or a number is out of range.

    Example:
        >>> captions = np.array([[1, 4, 2, 0], [1, 4, 5, 2], [1, 5, 2, 0]], np.int32)
        >>> data = {"train_captions": captions, "train_image_idxs": np.array([0, 1, 1])}
        >>> data["train_features"] = np.zeros((2, 8), np.float32)
        >>> for (features, image_of_row), captions in caption_dataset(data, shuffle=False):
        ...     print(features.shape, image_of_row[:3].numpy(), captions[0].numpy(), len(captions))
        (2, 8) [1 0 1] [1 4 5 2] 8
    """
    check_split(data, split)
    captions, features = data[f"{split}_captions"], data[f"{split}_features"]
    views = data.get(f"{split}_views") if shuffle else None
    image_idxs = np.asarray(data[f"{split}_image_idxs"])
    worker, workers = shard
    if not 0 <= worker < workers:
        raise ValueError(f"shard is {shard}, expected (k, n) with 0 <= k < n")
    if batch_size < workers:
        raise ValueError(
            f"batch_size is {batch_size}, expected at least one for each worker, {workers}"
        )
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed is {seed} and epoch {epoch}, expected 0 or more")
    rng = np.random.default_rng((seed, epoch)) if shuffle else None
    plan = _plan(image_idxs, _lengths(captions), batch_size, workers, rng)
    if not 0 <= start <= len(plan.starts):
        raise ValueError(
            f"start is {start}, expected 0 to {len(plan.starts)}, the number of batches"
        )
    drawn = np.zeros(len(features), int)  # 0: the image itself
    if rng is not None and views is not None:
        drawn = rng.integers(0, 1 + views.shape[1], len(features))

    def read(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, end, length = plan.starts[batch], plan.ends[batch], plan.lengths[batch]
        rows = plan.rows[first:end][worker::workers]
        tokens = np.full((plan.height, length), NULL, np.int32)  # (N, L)
        image_of_row = np.zeros(plan.height, np.int32)  # (N,)
        images, image_of_row[: len(rows)] = np.unique(image_idxs[rows], return_inverse=True)
        try:
            tokens[: len(rows)] = captions[rows][:, :length]
            found = features[images]  # (I, ...)
            if views is not None:
                other = np.flatnonzero(drawn[images])
                found[other] = views[images[other]][np.arange(len(other)), drawn[images[other]] - 1]
        except Exception as error:
            on_error(error)
            raise
        return found.astype(np.float32, copy=False), image_of_row, tokens

    def load(batch: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        dtypes = tf.float32, tf.int32, tf.int32
        found, image_of_row, tokens = tf.numpy_function(read, [batch], dtypes, stateful=False)
        found = tf.ensure_shape(found, (None, *features.shape[1:]))
        image_of_row = tf.ensure_shape(image_of_row, (plan.height,))
        return (found, image_of_row), tf.ensure_shape(tokens, (plan.height, None))

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.range(start, len(plan.starts)).map(load, num_parallel_calls=2)
    return dataset.prefetch(4).with_options(options)


class _Plan(NamedTuple):
    rows: np.ndarray  # (M,) the captions, in the order in which they come
    starts: np.ndarray  # (batches,) where in it each batch begins
    ends: np.ndarray  # (batches,) and ends
    lengths: np.ndarray  # (batches,) to which its captions are cut
    height: int  # N, the rows of a worker's part of a batch


def _plan(
    image_idxs: np.ndarray,
    lengths: np.ndarray,
    batch_size: int,
    workers: int,
    rng: np.random.Generator | None,
) -> _Plan:
    images, image_of_row, counts = np.unique(image_idxs, return_inverse=True, return_counts=True)
    order = np.arange(len(images)) if rng is None else rng.permutation(len(images))
    places = np.empty_like(order)  # of each image in the order
    places[order] = np.arange(len(order))
    rows = np.argsort(places[image_of_row], kind="stable").astype(np.int32)
    starts, begun = [0], 0  # the batch's first row, and how many it has
    for count in counts[order].tolist():
        if begun and begun + count > batch_size:
            starts.append(starts[-1] + begun)
            begun = 0
        begun += count
        while begun > batch_size:
            starts.append(starts[-1] + batch_size)
            begun -= batch_size
    first, end = np.array(starts), np.array([*starts[1:], len(rows)])
    longest = np.array([lengths[rows[a:b]].max() for a, b in zip(first, end, strict=True)], int)
    shares = np.arange(1, _LENGTHS + 1) / _LENGTHS
    allowed = np.unique(np.quantile(longest, shares, method="higher"))
    padded = allowed[np.searchsorted(allowed, longest)]
    for a, b in zip(first, end, strict=True):
        rows[a:b] = rows[a:b][np.argsort(-lengths[rows[a:b]], kind="stable")]
    most = -(-int((end - first).max()) // workers)
    height = -(-most // _ROWS) * _ROWS
    enough = end - first >= workers
    return _Plan(rows, first[enough], end[enough], padded[enough], height)


def _lengths(captions: Any) -> np.ndarray:
    """How many tokens each caption has up to the last that is not <NULL>, (M,)."""
    found = [np.argmax(block[:, ::-1] != NULL, axis=1) for block in blocks(captions)]
    return captions.shape[1] - np.concatenate(found)
