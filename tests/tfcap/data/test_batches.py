"""Batches of captions: each once an epoch, of similar length, resumed and sharded."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.tfcap import caption_folders
from tests.tfcap.caption_folders import WIDTH, T
from tfcap.data.batches import caption_dataset


def batches(data, *arguments, **options):
    return [
        (features.numpy(), captions.numpy())
        for features, captions in caption_dataset(data, *arguments, **options)
    ]


def examples(batches):
    """What the captions of batches are, whatever their padding, each with its features."""
    return [
        (*np.trim_zeros(caption, "b").tolist(), features[0])
        for batch in batches
        for features, caption in zip(*batch, strict=True)
    ]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_array_equal(a, b)


def expected(arrays, split="train"):
    features = arrays[f"{split}_features"][arrays[f"{split}_image_idxs"]]
    return examples([(features, arrays[f"{split}_captions"])])


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_caption_comes_once_an_epoch_with_its_features(course, loaded, shuffle):
    found = batches(loaded, batch_size=32, shuffle=shuffle)
    assert all(f.dtype == np.float32 and c.dtype == np.int32 for f, c in found)
    assert sorted(examples(found)) == sorted(expected(course[1]))
    assert sorted(len(captions) for _, captions in found) == [8, 32, 32, 32, 32, 32, 32]
    assert (examples(found) == expected(course[1])) is not shuffle


def test_the_number_of_batches_and_their_form_are_known(loaded):
    dataset = caption_dataset(loaded, batch_size=32, start=2)
    assert len(dataset) == 5
    features, captions = dataset.element_spec
    assert (features.shape.as_list(), features.dtype.name) == ([None, WIDTH], "float32")
    assert (captions.shape.as_list(), captions.dtype.name) == ([None, None], "int32")


def test_epochs_and_seeds_have_orders_of_their_own(loaded):
    first = examples(batches(loaded, batch_size=32, seed=1, epoch=0))
    assert examples(batches(loaded, batch_size=32, seed=1, epoch=0)) == first
    assert examples(batches(loaded, batch_size=32, seed=1, epoch=1)) != first
    assert examples(batches(loaded, batch_size=32, seed=0, epoch=1)) != first


OTHER_PROCESS = """
import sys
from tfcap.data.batches import caption_dataset
from tfcap.data.coco import load_coco_data
dataset = caption_dataset(load_coco_data(sys.argv[1]), batch_size=32, seed=5, epoch=2, start=1)
print([captions.numpy().tolist() for _, captions in dataset])
"""


def test_another_process_goes_on_with_the_same_batches(course, loaded):
    command = [sys.executable, "-c", OTHER_PROCESS, str(course[0])]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ours = batches(loaded, batch_size=32, seed=5, epoch=2)
    assert json.loads(out) == [captions.tolist() for _, captions in ours[1:]]


def test_lengths_are_few_and_no_caption_is_cut():
    arrays = in_memory(5000)
    found = batches(arrays, batch_size=64)
    widths = {captions.shape[1] for _, captions in found}
    assert len(widths) <= 5
    assert max(widths) <= T
    assert sorted(examples(found)) == sorted(expected(arrays))


def test_little_of_a_batch_is_padding():
    arrays = in_memory(20_000)
    found = [captions for _, captions in batches(arrays, batch_size=128)]
    padding = 1 - sum(np.count_nonzero(c) for c in found) / sum(c.size for c in found)
    assert padding < 0.12
    assert 1 - np.count_nonzero(arrays["train_captions"]) / arrays["train_captions"].size > 0.4


def in_memory(count):
    return {f"train_{key}": value for key, value in caption_folders.split(count).items()}


def test_a_resumed_epoch_is_the_tail_and_shards_are_the_whole():
    hypothesis = pytest.importorskip("hypothesis")
    integers, booleans = hypothesis.strategies.integers, hypothesis.strategies.booleans
    everything = in_memory(60)

    @hypothesis.settings(max_examples=12, deadline=None)
    @hypothesis.given(
        count=integers(1, 60),
        batch_size=integers(1, 20),
        workers=integers(1, 4),
        start=integers(0, 5),
        epoch=integers(0, 3),
        shuffle=booleans(),
    )
    def run(count, batch_size, workers, start, epoch, shuffle):
        batch_size = max(batch_size, workers)
        data = everything | {
            key: everything[key][:count] for key in ("train_captions", "train_image_idxs")
        }
        options = {"batch_size": batch_size, "shuffle": shuffle, "epoch": epoch}
        whole = batches(data, **options)
        shards = [batches(data, **options, shard=(k, workers)) for k in range(workers)]
        kept = [batch for batch in whole if len(batch[0]) >= workers]
        assert {len(shard) for shard in shards} == {len(kept)}
        for position, (features, captions) in enumerate(kept):
            parts = [shard[position] for shard in shards]
            assert {part[1].shape[1] for part in parts} == {captions.shape[1]}
            assert all(len(part[0]) for part in parts)
            assert sorted(examples(parts)) == sorted(examples([(features, captions)]))
        start = min(start, len(whole))
        assert_equal(batches(data, **options, start=start), whole[start:])
        start = min(start, len(kept))
        resumed = batches(data, **options, start=start, shard=(0, workers))
        assert_equal(resumed, shards[0][start:])

    run()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shard": (2, 2)}, r"shard is \(2, 2\), expected \(k, n\) with 0 <= k < n"),
        ({"shard": (0, 0)}, r"shard is \(0, 0\)"),
        ({"batch_size": 0}, "batch_size is 0, expected at least one for each worker, 1"),
        ({"batch_size": 2, "shard": (0, 3)}, "batch_size is 2, expected at least .* worker, 3"),
        ({"start": 3}, "start is 3, expected 0 to 2, the number of batches"),
        ({"start": -1}, "start is -1"),
        ({"seed": -1}, "seed is -1 and epoch 0, expected 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(loaded, options, said):
    with pytest.raises(ValueError, match=said):
        caption_dataset(loaded, **({"batch_size": 128} | options))
