"""The course's layout: read lazily, sampled, decoded, streamed in batches."""

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from tfcap.data.coco import caption_dataset, decode_captions, load_coco_data, sample_coco_minibatch
from tfcap.data.lazy_array import LazyArray, StoredPaths
from tfcap.data.vocabulary import END, NULL, START

from . import caption_folders
from .caption_folders import IMAGES, WIDTH, WORDS, T

STORAGE = {
    "contiguous": {},
    "chunked": {"chunks": (4, 3)},
    "compressed": {"chunks": (7, WIDTH), "compression": "gzip", "shuffle": True},
    "float64": {"dtype": "f8"},
    "float16": {"dtype": "f2"},
    "big-endian": {"dtype": ">f4"},
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    return folder, caption_folders.write_course(folder)


@pytest.fixture(scope="module")
def loaded(course):
    return load_coco_data(course[0])


@pytest.fixture(params=STORAGE)
def rows(request, tmp_path):
    """Stored rows and the array they should equal, for each way that HDF5 has to store them."""
    array = np.random.default_rng(0).standard_normal((23, WIDTH)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", data=array, **STORAGE[request.param])
        array = file["features"][:].astype(np.float32)
    return LazyArray(tmp_path / "a.h5", "features", 2), array


# ---- arrays that stay in their files


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int32(5),
        slice(None),
        slice(20, 3, -4),
        slice(5, 5),
        ...,
        [3],
        [],
        [22, 0, 0, -1, 7, 22],
        (np.arange(23) % 3 == 0),
        np.array([[4, 2], [2, -23]]),
        np.array([1, 2, 3], np.uint8),
    ],
    ids=str,
)
def test_stored_rows_are_indexed_as_an_array(rows, index):
    stored, array = rows
    found = stored[index]
    assert found.dtype == np.float32
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, array[index])


def test_stored_rows_look_like_an_array(rows):
    stored, array = rows
    assert (stored.shape, stored.dtype, stored.ndim, len(stored)) == ((23, WIDTH), "float32", 2, 23)
    np.testing.assert_array_equal(np.asarray(stored), array)
    assert np.asarray(stored, np.float64).dtype == np.float64


def test_any_rows_in_any_order_equal_the_array_s(tmp_path):
    hypothesis = pytest.importorskip("hypothesis")
    array = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = array
        file.create_dataset("packed", data=array, chunks=(8, 2), compression="gzip")
    plain, packed = (LazyArray(tmp_path / "a.h5", name, 2) for name in ("plain", "packed"))
    integers = hypothesis.strategies.lists(hypothesis.strategies.integers(-50, 49))
    slices = hypothesis.strategies.slices(50)

    @hypothesis.given(hypothesis.strategies.one_of(integers, slices))
    def run(index):
        expected = array[np.array(index, int)] if isinstance(index, list) else array[index]
        np.testing.assert_array_equal(plain[index], expected)
        np.testing.assert_array_equal(packed[index], expected)

    run()


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (23, "row 23 is not among the 23 rows"),
        ([0, -24], "row -24 is not among the 23 rows"),
        (1.0, "the index is float64, expected integers, a slice or a mask"),
        ([True], r"the mask has shape \(1,\), but there are 23 rows"),
        ((0, 1), r"take the rows first, as in x\[rows\]\[:, columns\]"),
        (None, "None is no index over the rows"),
    ],
)
def test_an_index_that_means_no_rows_is_refused(rows, index, said):
    with pytest.raises(IndexError, match=said):
        rows[0][index]


def test_one_axis_of_rows_gives_numbers(loaded, course):
    stored, array = loaded["train_image_idxs"], course[1]["train_image_idxs"]
    assert stored[7] == array[7]
    assert np.ndim(stored[7]) == 0
    np.testing.assert_array_equal(stored[[7, 3]], array[[7, 3]])


@pytest.mark.parametrize("dtype", ["u1", "i8", ">i4"])
def test_integers_of_any_width_become_int32(tmp_path, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["ids"] = np.arange(10).astype(dtype)
    found = LazyArray(tmp_path / "a.h5", "ids", 1)[:]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.arange(10))


def test_stored_rows_hold_no_open_file_and_are_read_in_other_processes(rows):
    stored, array = rows
    opened = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    copy = pickle.loads(pickle.dumps(stored))  # our own bytes: how a process gets its arguments
    np.testing.assert_array_equal(copy[[3, 1]], array[[3, 1]])
    assert len(pickle.dumps(stored)) < 1000
    if opened is not None:
        assert len(os.listdir("/proc/self/fd")) == opened


def test_threads_read_the_same_rows(rows):
    stored, array = rows
    picks = [np.random.default_rng(seed).integers(0, 23, 40) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for pick, found in zip(picks, pool.map(stored.__getitem__, picks), strict=True):
            np.testing.assert_array_equal(found, array[pick])


def test_paths_are_indexed_as_an_array(tmp_path):
    lines = [f"http://images.example/{number} é.jpg" for number in range(1000)]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    stored, array = StoredPaths(tmp_path / "a.txt"), np.array(lines)
    assert (len(stored), stored.shape) == (1000, (1000,))
    assert stored[-1] == lines[-1]
    assert type(stored[0]) is str
    for index in (
        [999, 0, 255, 256, 257, 0],
        slice(None),
        slice(990, 2, -7),
        array == lines[5],
        [],
    ):
        np.testing.assert_array_equal(stored[index], array[index])
    np.testing.assert_array_equal(np.asarray(stored), array)
    with pytest.raises(IndexError, match="row 1000 is not among the 1,000 rows"):
        stored[1000]


def test_relative_paths_lead_from_the_folder_of_their_list(tmp_path):
    here = str(tmp_path / "elsewhere" / "b.jpg")
    (tmp_path / "a.txt").write_text(f"images/a.jpg\n{here}\nhttp://images.example/c.jpg\n")
    stored = StoredPaths(tmp_path / "a.txt")
    assert stored[:].tolist() == [
        str(tmp_path / "images" / "a.jpg"),
        here,
        "http://images.example/c.jpg",
    ]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("count", [1, 255, 256, 257, 512, 513])
def test_lines_are_counted_with_and_without_a_last_break(tmp_path, monkeypatch, count, ending):
    monkeypatch.setattr("tfcap.data.lazy_array._BLOCK", 64)
    lines = [f"a://{'x' * (number % 50)}{number}" for number in range(count)]
    text = (ending or "\n").join(lines) + ending
    (tmp_path / "a.txt").write_text(text, newline="")
    stored = StoredPaths(tmp_path / "a.txt")
    assert len(stored) == count
    assert stored[:].tolist() == lines


# ---- loading


@pytest.mark.parametrize("layout", ["course", "built"])
def test_a_folder_gives_the_course_s_dict(tmp_path, layout):
    write = getattr(caption_folders, f"write_{layout}")
    arrays = write(tmp_path)
    data = load_coco_data(tmp_path)
    assert set(data) == {*arrays, "idx_to_word", "word_to_idx", "encoder"}
    for key, array in arrays.items():
        np.testing.assert_array_equal(np.asarray(data[key]), array)
        assert data[key].shape == array.shape
    assert data["idx_to_word"] == WORDS
    assert data["word_to_idx"]["<END>"] == END
    assert data["encoder"] == {"course": "vgg16_fc7_pca", "built": "squeezenet"}[layout]


def test_a_test_split_and_a_grid_of_features_may_be_there(tmp_path):
    arrays = caption_folders.write_built(tmp_path, counts={"train": 9, "val": 3, "test": 4})
    (tmp_path / "photos_train_squeezenet_grid.h5").touch()
    data = load_coco_data(str(tmp_path))
    np.testing.assert_array_equal(np.asarray(data["test_captions"]), arrays["test_captions"])


def test_a_folder_called_as_the_course_s_may_hold_built_features(tmp_path):
    caption_folders.write_built(tmp_path, name="coco2014")
    assert load_coco_data(tmp_path)["encoder"] == "squeezenet"


def test_the_wide_features_come_on_request(tmp_path):
    caption_folders.write_course(tmp_path, pca=False)
    assert load_coco_data(tmp_path, pca_features=False)["encoder"] == "vgg16_fc7"


def test_max_train_draws_without_replacement_by_its_seed(course):
    folder, arrays = course
    data = load_coco_data(folder, max_train=150, seed=1)
    captions, images = data["train_captions"], data["train_image_idxs"]
    assert (captions.shape, images.shape) == ((150, T), (150,))
    everything = pairs(arrays["train_captions"], arrays["train_image_idxs"])
    assert len(pairs(captions, images) & everything) == 150
    again, other = (load_coco_data(folder, 150, seed=seed)["train_captions"] for seed in (1, 2))
    np.testing.assert_array_equal(captions, again)
    assert not np.array_equal(captions, other)
    assert len(data["val_captions"]) == 20
    assert len(data["train_features"]) == IMAGES


def pairs(captions, images):
    return {(*row, image) for row, image in zip(captions.tolist(), images.tolist(), strict=True)}


def test_max_train_beyond_what_is_there_takes_all(course):
    assert load_coco_data(course[0], max_train=201)["train_captions"].shape == (200, T)
    with pytest.raises(ValueError, match="max_train is 0, expected 1 or more"):
        load_coco_data(course[0], max_train=0)


def test_the_course_s_own_vocabulary_loads(data, tmp_path):
    caption_folders.write_course(tmp_path)
    (tmp_path / "coco2014_vocab.json").write_bytes((data / "coco2014_vocab.json").read_bytes())
    loaded = load_coco_data(tmp_path)
    assert len(loaded["idx_to_word"]) == 1004
    assert decode_captions(np.array([START, 4, END, NULL]), loaded["idx_to_word"]) == "a"


SPARSE = """
import sys
from benchmarks.memory import growth
from tfcap.data.coco import load_coco_data, sample_coco_minibatch

def work():
    data = load_coco_data(sys.argv[1], pca_features=False)
    for seed in range(50):
        assert sample_coco_minibatch(data, 128, seed=seed)[1].shape == (128, 4096)

print(growth(work))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read in /proc")
def test_memory_does_not_hold_the_wide_features(tmp_path):
    caption_folders.write_course(tmp_path, pca=False)
    for part in ("train", "val"):
        path = tmp_path / f"{part}2014_vgg16_fc7.h5"
        write_sparse(path, (82_783, 4096))
        (tmp_path / f"{part}2014_urls.txt").write_text("http://images.example\n" * 82_783)
        assert path.stat().st_size > 1.3e9
    with h5py.File(tmp_path / "coco2014_captions.h5", "r+") as file:
        file["train_image_idxs"][:] = np.random.default_rng(0).integers(0, 82_783, 200)
    command = [sys.executable, "-c", SPARSE, str(tmp_path)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert float(out) < 64  # MB; the file has 1,356


def write_sparse(path, shape):
    """Features that have a place in the file but were never written: the disk holds none of them."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, layout)


# ---- minibatches and sentences


def test_a_minibatch_pairs_captions_with_their_images(course, loaded):
    arrays = course[1]
    captions, features, urls = sample_coco_minibatch(loaded, 150, seed=0)
    keys = {row.tobytes(): i for i, row in enumerate(arrays["train_captions"])}
    rows = [keys[row.tobytes()] for row in captions]
    assert len(set(rows)) == 150
    images = arrays["train_image_idxs"][rows]
    np.testing.assert_array_equal(features, arrays["train_features"][images])
    np.testing.assert_array_equal(urls, arrays["train_urls"][images])


def test_minibatches_follow_their_seed_or_numpy_s(loaded):
    def drawn(**options):
        return sample_coco_minibatch(loaded, 5, "val", **options)[0].tolist()

    assert drawn(seed=3) == drawn(seed=3) != drawn(seed=4)
    np.random.seed(0)
    first = drawn()
    assert drawn() != first
    np.random.seed(0)
    assert drawn() == first


def test_more_than_there_are_come_with_repeats(loaded):
    assert sample_coco_minibatch(loaded, 50, "val", seed=0)[0].shape == (50, T)


def test_a_split_that_is_not_there_is_named(loaded):
    with pytest.raises(ValueError, match="hold no split 'dev', only train, val"):
        sample_coco_minibatch(loaded, 5, "dev")
    with pytest.raises(ValueError, match="hold no split 'dev', only train, val"):
        caption_dataset(loaded, "dev")
    with pytest.raises(ValueError, match="batch_size is 0, expected 1 or more"):
        sample_coco_minibatch(loaded, 0)


def test_sentences_stop_before_end_and_leave_out_null_and_a_leading_start():
    words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"]
    assert decode_captions([1, 4, 5, 2, 0, 0], words) == "a dog"
    assert decode_captions(np.array([[4, 0, 3, 5], [2, 4, 4, 4], [1, 4, 1, 5]]), words) == [
        "a <UNK> dog",
        "",
        "a <START> dog",
    ]
    assert decode_captions([0, 3, 5], {0: "<NULL>", 3: "a", 5: "dog"}) == "a dog"
    assert decode_captions(np.zeros((0, 4), int), words) == []
    assert decode_captions(np.zeros((2, 0), int), words) == ["", ""]


@pytest.mark.parametrize(
    ("captions", "error", "said"),
    [
        ([4, 6], ValueError, "hold the id 6, which none of the vocabulary's 6 words has"),
        ([[4, -1]], ValueError, "hold the id -1"),
        ([4.0], TypeError, "are float64, expected integers"),
        (4, ValueError, r"shape \(\), expected \(T,\) or \(N, T\)"),
    ],
)
def test_what_is_no_caption_is_not_decoded(captions, error, said):
    with pytest.raises(error, match=said):
        decode_captions(captions, ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"])


# ---- streaming


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
from tfcap.data.coco import caption_dataset, load_coco_data
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

    @hypothesis.settings(max_examples=25, deadline=None)
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


def test_loading_needs_no_tensorflow():
    code = "import sys, tfcap.coco, tfcap.vocabulary; print('tensorflow' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout == "False\n"
