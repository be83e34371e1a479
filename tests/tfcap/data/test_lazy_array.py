"""Arrays that stay in their files are indexed as arrays in memory."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from tests.tfcap import caption_folders
from tests.tfcap.caption_folders import WIDTH
from tfcap.data.lazy_array import LazyArray

STORAGE = {
    "contiguous": {},
    "chunked": {"chunks": (4, 3)},
    "compressed": {"chunks": (7, WIDTH), "compression": "gzip", "shuffle": True},
    "float64": {"dtype": "f8"},
    "float16": {"dtype": "f2"},
    "big-endian": {"dtype": ">f4"},
}


@pytest.fixture(params=STORAGE)
def rows(request, tmp_path):
    """Stored rows and the array they should equal, for each way that HDF5 has to store them."""
    array = np.random.default_rng(0).standard_normal((23, WIDTH)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", data=array, **STORAGE[request.param])
        array = file["features"][:].astype(np.float32)
    return LazyArray(tmp_path / "a.h5", "features", 2), array


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
        (23, "index 23 is out of bounds"),
        ([0, -24], "index -24 is out of bounds"),
        (1.0, "must be of integer|only integers, slices"),
        ([True], "boolean index did not match"),
        ((0, 1), r"index rows first, as in x\[rows\]\[:, columns\]"),
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
