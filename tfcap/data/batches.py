"""One epoch of training batches with tf.data: captions of similar length together, read as needed."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfcap.data.coco import check_split
from tfcap.data.lazy_array import blocks
from tfcap.data.vocabulary import NULL
from visualization.backend import tf

__all__ = ["caption_dataset"]

_WINDOW = 64  # batches; shuffled captions are sorted by length within so many
_LENGTHS = 5  # to which batches are padded; each costs a compilation


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
    """One epoch of batches (features, captions), read from disk as they are needed.

    Every caption comes once. Captions of a batch have similar lengths and are cut to L tokens, the
    longest of them rounded up to one of at most five lengths. The same arguments give the same batches
    in any process.

    Args:
        data: what `load_coco_data` returns.
        split: "train", "val" or "test".
        batch_size: captions in a batch, those of all workers together.
        shuffle: draw a new order for each `seed` and `epoch`; otherwise the order is the file's.
        seed, epoch: 0 or more; they determine the order.
        start: the first batch; earlier ones are skipped without being read, to resume an epoch.
        shard: (k, n) gives worker k of n its part of every batch: together, n workers see what one
            would. A batch with fewer captions than workers is omitted.
        on_error: called with the exception that reading a batch raises; TensorFlow's own error keeps
            only its message.

    Returns:
        A dataset of features float32 (n, D) and captions int32 (n, L).

    Raises:
        ValueError: there is no such split, or a number is out of range.

    Example:
        >>> captions = np.array([[1, 4, 5, 2], [1, 4, 2, 0], [1, 5, 2, 0]], np.int32)
        >>> data = {"train_captions": captions, "train_image_idxs": np.array([0, 1, 1])}
        >>> data["train_features"] = np.zeros((2, 8), np.float32)
        >>> [tuple(c.shape) for _, c in caption_dataset(data, batch_size=2, shuffle=False)]
        [(2, 4), (1, 3)]
    """
    check_split(data, split)
    captions, features = data[f"{split}_captions"], data[f"{split}_features"]
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
    rows, starts, lengths = _plan(
        _lengths(captions), batch_size, (seed, epoch) if shuffle else None
    )
    whole = np.minimum(starts + batch_size, len(rows)) - starts >= workers
    starts, lengths = starts[whole], lengths[whole]
    if not 0 <= start <= len(starts):
        raise ValueError(f"start is {start}, expected 0 to {len(starts)}, the number of batches")

    def read(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = starts[batch]
        mine = rows[first : first + batch_size][worker::workers]
        try:
            tokens = captions[mine][:, : lengths[batch]]  # (n, L)
            found = features[image_idxs[mine]]  # (n, D)
        except Exception as error:
            on_error(error)
            raise
        return found.astype(np.float32, copy=False), tokens.astype(np.int32, copy=False)

    def load(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found, tokens = tf.numpy_function(read, [batch], (tf.float32, tf.int32), stateful=False)
        found = tf.ensure_shape(found, (None, features.shape[1]))
        return found, tf.ensure_shape(tokens, (None, None))

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.range(start, len(starts)).map(load, num_parallel_calls=2)
    return dataset.prefetch(4).with_options(options)


def _plan(
    lengths: np.ndarray, batch_size: int, seeds: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of the captions (M,), where in it each batch starts, and each batch's length L."""
    count = len(lengths)
    starts = np.arange(0, count, batch_size)
    rows = np.arange(count, dtype=np.int32)
    if seeds is not None:
        rng = np.random.default_rng(seeds)
        rows = rng.permutation(rows)
        for first in range(0, count, _WINDOW * batch_size):
            window = rows[first : first + _WINDOW * batch_size]
            window[:] = window[np.argsort(lengths[window], kind="stable")]
    allowed = np.unique(
        np.quantile(lengths, np.arange(1, _LENGTHS + 1) / _LENGTHS, method="higher")
    )
    padded = allowed[np.searchsorted(allowed, np.maximum.reduceat(lengths[rows], starts))]
    if seeds is not None:
        shuffled = rng.permutation(len(starts))
        starts, padded = starts[shuffled], padded[shuffled]
    return rows, starts, padded


def _lengths(captions: Any) -> np.ndarray:
    """How many tokens each caption has up to the last that is not <NULL>, (M,)."""
    found = [np.argmax(block[:, ::-1] != NULL, axis=1) for block in blocks(captions)]
    return captions.shape[1] - np.concatenate(found)
