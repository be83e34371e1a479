"""Batches of captions: whole images, each caption once an epoch, resumed and sharded."""

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
        (features.numpy(), image_of_row.numpy(), captions.numpy())
        for (features, image_of_row), captions in caption_dataset(data, *arguments, **options)
    ]


def examples(batches):
    """What the captions of batches are, whatever their padding, each with its features."""
    return [
        (*np.trim_zeros(caption, "b").tolist(), features[image][0])
        for features, image_of_row, captions in batches
        for image, caption in zip(image_of_row, captions, strict=True)
        if caption.any()
    ]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_array_equal(a, b)


def expected(arrays, split="train"):
    parts = (arrays[f"{split}_{key}"] for key in ("features", "image_idxs", "captions"))
    return examples([tuple(parts)])


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_caption_comes_once_an_epoch_with_its_features(course, loaded, shuffle):
    found = batches(loaded, batch_size=32, shuffle=shuffle)
    assert all(f.dtype == np.float32 and c.dtype == np.int32 for f, _, c in found)
    assert sorted(examples(found)) == sorted(expected(course[1]))
    assert {len(captions) for _, _, captions in found} == {32}


def test_an_image_comes_with_all_its_captions_and_its_features_come_once(loaded):
    seen = []
    for features, image_of_row, captions in batches(loaded, batch_size=32):
        assert len(np.unique(features, axis=0)) == len(features)
        assert set(image_of_row.tolist()) == set(range(len(features)))
        assert 0 < captions.any(axis=1).sum() <= 32
        seen += features[:, 0].tolist()
    assert len(seen) == len(set(seen)) == len(np.unique(loaded["train_image_idxs"][:]))


def test_rows_are_sorted_by_falling_length(loaded):
    for _, _, captions in batches(loaded, batch_size=32):
        lengths = np.count_nonzero(captions, axis=1)
        assert (np.diff(lengths) <= 0).all()


def test_an_image_with_more_captions_than_a_batch_is_split():
    data = in_memory(40)
    data["train_image_idxs"] = np.zeros(40, np.int32)
    found = batches(data, batch_size=16)
    assert [int(c.any(axis=1).sum()) for _, _, c in found] == [16, 16, 8]
    assert sorted(examples(found)) == sorted(expected(data))


def test_each_epoch_draws_the_image_or_one_of_its_views():
    data = in_memory(60)
    plain = data["train_features"]
    data["train_views"] = np.stack([plain + 100, plain + 200], axis=1)

    def drawn(**options):
        return [x for features, *_ in batches(data, **options) for x in features[:, 0]]

    kinds = [round(x / 100) for epoch in range(4) for x in drawn(epoch=epoch)]
    assert min(kinds.count(kind) for kind in (0, 1, 2)) > len(kinds) / 5
    assert drawn(epoch=1) == drawn(epoch=1)
    assert max(drawn(shuffle=False)) < 50


def test_the_number_of_batches_and_their_form_are_known(loaded):
    dataset = caption_dataset(loaded, batch_size=30, start=2)
    assert len(dataset) == len(batches(loaded, batch_size=30)) - 2
    (features, image_of_row), captions = dataset.element_spec
    assert (features.shape.as_list(), features.dtype.name) == ([None, WIDTH], "float32")
    assert (image_of_row.shape.as_list(), image_of_row.dtype.name) == ([32], "int32")
    assert (captions.shape.as_list(), captions.dtype.name) == ([32, None], "int32")


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
    assert json.loads(out) == [captions.tolist() for _, _, captions in ours[1:]]


def test_lengths_are_few_and_no_caption_is_cut():
    arrays = in_memory(5000, images=1000)
    found = batches(arrays, batch_size=64)
    widths = {captions.shape[1] for *_, captions in found}
    assert len(widths) <= 5
    assert max(widths) <= T
    assert sorted(examples(found)) == sorted(expected(arrays))


def in_memory(count, **options):
    return {f"train_{key}": v for key, v in caption_folders.split(count, **options).items()}


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
        kept = [batch for batch in whole if batch[2].any(axis=1).sum() >= workers]
        assert {len(shard) for shard in shards} == {len(kept)}
        for position, batch in enumerate(kept):
            parts = [shard[position] for shard in shards]
            assert {part[2].shape[1] for part in parts} == {batch[2].shape[1]}
            assert all(part[2].any() for part in parts)
            assert sorted(examples(parts)) == sorted(examples([batch]))
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
        ({"start": 9}, "start is 9, expected 0 to 2, the number of batches"),
        ({"start": -1}, "start is -1"),
        ({"seed": -1}, "seed is -1 and epoch 0, expected 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(loaded, options, said):
    with pytest.raises(ValueError, match=said):
        caption_dataset(loaded, **({"batch_size": 128} | options))
