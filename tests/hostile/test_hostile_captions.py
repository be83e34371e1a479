"""Folders of captions that are broken, cut off, of another kind, or made to do harm."""

import json
import os
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest

from tests.tfcap import caption_folders
from tests.tfcap.caption_folders import WIDTH, T
from tfcap.data.coco import load_coco_data
from tfcap.data.lazy_array import LazyArray, blocks

MEMORY = 64 * 2**20  # bytes
CAPTIONS = "coco2014_captions.h5"
VOCABULARY = "coco2014_vocab.json"
FEATURES = "train2014_vgg16_fc7_pca.h5"
URLS = "train2014_urls.txt"


@pytest.fixture
def folder(tmp_path):
    caption_folders.write_course(tmp_path)
    return tmp_path


def said(folder, **options):
    """The one sentence that loading a folder ends in, after little memory."""
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, OSError)) as raised:
            load_coco_data(folder, **options)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    text = str(raised.value)
    assert text.isprintable()
    assert len(text) < 1000
    return text.removeprefix(f"{folder}").lstrip("/: ")


def change(path, name, make):
    """Puts another dataset in the place of one: an array, or what a function of the file makes."""
    with h5py.File(path, "r+") as file:
        old = file[name][()]
        del file[name]
        new = make(file, old) if callable(make) else make
        if new is not None:
            file[name] = new


# ---- folders of another kind


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    "names",
    [
        ["Flicker8k_Dataset/a.jpg", "Flickr8k_text/Flickr8k.token.txt"],
        ["Flickr8k.token.txt", "a.jpg"],
        ["results_20130124.token", "flickr30k-images/a.jpg"],
        ["annotations/captions_train2014.json", "train2014/a.jpg"],
        ["captions_val2017.json"],
        ["dataset_coco.json"],
        ["dataset.json", "imgs/a.jpg"],
        ["photos.csv", "a.jpg"],
    ],
)
def test_a_data_set_as_it_is_distributed(tmp_path, names):
    touch(tmp_path, *names)
    (found,) = [name for name in names if not name.endswith(".jpg")]
    assert said(tmp_path) == (
        f"holds no NAME_captions.h5: it has captions without features ({found}): build it with 'python "
        f"-m tfcap.datasets build {tmp_path} --out NEW_FOLDER'"
    )


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], "is empty"),
        (["a.txt", "b", "c", "d", "e", "f\n"], "holds a.txt, b, c, d, and 2 others"),
        (["a\nb"], r"holds 'a\nb'"),
        (["a.jpg"], "holds images without captions (a.jpg): add a captions.csv"),
        (["in/coco2014_captions.h5"], "holds a set that is built already, in/coco2014_captions.h5"),
        (["train2014_urls.txt"], "looks like a set without its captions (train2014_urls.txt)"),
        (["x_vocab.json"], "looks like a set without its captions (x_vocab.json)"),
        (
            ["x_train_squeezenet.progress.json", "x_train_squeezenet.h5.partial"],
            "looks like a set whose building was interrupted",
        ),
        (["config.json", "model.weights.h5"], "is a trained captioner"),
        (["data/train-00000.parquet"], "looks like a Hugging Face data set"),
    ],
)
def test_another_kind_of_folder(tmp_path, names, told):
    touch(tmp_path, *names)
    assert said(tmp_path).startswith(f"holds no NAME_captions.h5: it {told}")


def test_two_sets_in_one_folder(tmp_path):
    touch(tmp_path, "a_captions.h5", "b_captions.h5")
    assert said(tmp_path).startswith("holds 2 data sets, a, b: move each into a folder")


def test_a_path_that_is_no_folder(tmp_path, folder):
    assert said(tmp_path / "nowhere") == "there is no such folder: check the path"
    assert said(folder / CAPTIONS) == "is a file: name the folder that holds NAME_captions.h5"


# ---- files that are missing, or something else


@pytest.mark.parametrize("name", [VOCABULARY, FEATURES, URLS, "val2014_urls.txt"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    text = said(folder)
    assert text.startswith(f"{name}: ")
    assert "is missing" in text or "there is no such" in text


def test_the_other_width_of_features_is_there(folder):
    assert said(folder, pca_features=False) == (
        "train2014_vgg16_fc7.h5: is missing, but train2014_vgg16_fc7_pca.h5 is there: copy it too, or "
        "use the other with pca_features=True"
    )
    (folder / FEATURES).rename(folder / "train2014_vgg16_fc7.h5")
    assert said(folder).endswith("or use the other with pca_features=False")


def test_a_built_set_without_features_or_with_two(tmp_path):
    caption_folders.write_built(tmp_path)
    features = tmp_path / "photos_train_squeezenet.h5"
    features.with_name("photos_train_other.h5").write_bytes(features.read_bytes())
    both = "photos_train_other.h5, photos_train_squeezenet.h5"
    assert said(tmp_path) == f"holds several files of features of train, {both}: keep one"
    features.unlink()
    assert said(tmp_path).startswith("holds features of several encoders, train: other, val: sq")
    (tmp_path / "photos_train_other.h5").unlink()
    assert said(tmp_path).startswith(
        "holds captions of photos for train, but no features photos_tr"
    )


@pytest.mark.parametrize("name", [CAPTIONS, FEATURES])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><p>Sign in", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"PK\x03\x04zip", "is a zip archive"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file that is truncated or damaged (it has 8 bytes)"),
        (b"GIF89a;", "is not an HDF5 file (it starts with 47 49 46 38 39 61 3b)"),
    ],
)
def test_something_else_in_place_of_hdf5(folder, name, content, told):
    (folder / name).write_bytes(content)
    assert said(folder).startswith(f"{name}: {told}")


@pytest.mark.parametrize("name", [CAPTIONS, FEATURES])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.999])
def test_hdf5_that_is_cut_off(folder, name, share):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    assert said(folder).startswith(f"{name}: is an HDF5 file that is truncated or damaged (it has ")


def test_features_cut_off_after_they_were_opened(folder):
    data = load_coco_data(folder)
    size = os.path.getsize(folder / FEATURES)
    os.truncate(folder / FEATURES, size - 4)
    with pytest.raises(ValueError, match="is an HDF5 file that is truncated or damaged"):
        np.asarray(data["train_features"])
    (folder / FEATURES).unlink()
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        data["train_features"][0]


def test_packed_features_replaced_after_they_were_opened(tmp_path):
    caption_folders.write_course(tmp_path, chunks=(4, 3), compression="gzip")
    data = load_coco_data(tmp_path)
    caption_folders.write_course(tmp_path, chunks=(4, 3), dtype="f8")
    with pytest.raises(ValueError, match="has changed since it was opened: open it again"):
        data["train_features"][0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
@pytest.mark.parametrize("name", [CAPTIONS, FEATURES, VOCABULARY, URLS])
def test_a_pipe_in_place_of_a_file_does_not_hang(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert name in said(folder)


# ---- HDF5 of the wrong layout


@pytest.mark.parametrize(
    ("path", "name", "new"),
    [
        (CAPTIONS, "train_captions", np.ones(9, np.int32)),
        (CAPTIONS, "train_captions", np.ones((9, 9, 9), np.int32)),
        (CAPTIONS, "train_captions", np.zeros((9, 0), np.int32)),
        (CAPTIONS, "train_captions", np.full((200, T), b"word")),
        (CAPTIONS, "train_captions", np.ones((200, T), bool)),
        (CAPTIONS, "train_captions", np.zeros((200, T), [("a", "i4"), ("b", "i4")])),
        (CAPTIONS, "train_image_idxs", np.zeros((200, 1), np.int32)),
        (CAPTIONS, "train_image_idxs", np.int32(1)),
        (FEATURES, "features", np.zeros((30, 13, 13, 8), np.float16)),
        (FEATURES, "features", np.zeros((30, WIDTH), np.complex64)),
        (FEATURES, "features", lambda file, old: h5py.Empty("f4")),
        (FEATURES, "features", lambda file, old: file.create_group("features") and None),
    ],
)
def test_arrays_of_another_form(folder, path, name, new):
    change(folder / path, name, new)
    text = said(folder)
    assert text.startswith(f"{path}: ")
    assert name in text


def test_hdf5_without_the_arrays(folder):
    with h5py.File(folder / CAPTIONS, "w") as file:
        file["\x1bother"] = 1
    assert said(folder).startswith(f"{CAPTIONS}: has no train_captions, val_captions or test_cap")
    change(
        folder / FEATURES,
        "features",
        lambda file, old: file.create_dataset("feats", data=1) and None,
    )
    caption_folders.write_course(folder.parent / "other")
    (folder / CAPTIONS).write_bytes((folder.parent / "other" / CAPTIONS).read_bytes())
    assert said(folder).startswith(f"{FEATURES}: has no dataset features")


@pytest.mark.parametrize(
    ("name", "new", "told"),
    [
        ("train_captions", np.ones((0, T), np.int32), "train_captions has shape (0, 17), expected"),
        ("train_captions", np.ones((9, 2), np.int32), "train_captions has shape (9, 2), expected"),
        (
            "train_captions",
            np.ones((9, 1001), "u1"),
            "train_captions has shape (9, 1001), expected",
        ),
        (
            "train_image_idxs",
            np.zeros(7, "i4"),
            "train_captions has 200 rows, but train_image_idxs 7",
        ),
    ],
)
def test_arrays_that_do_not_fit(folder, name, new, told):
    change(folder / CAPTIONS, name, new)
    assert said(folder).startswith(f"{CAPTIONS}: {told}")


def at(row, column, value, dtype=None):
    def make(_file, old):
        new = old.astype(dtype or old.dtype)
        new[row, column] = value
        return new

    return make


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            at(150, 1, 40),
            "row 150 of train_captions holds the id 40, but coco2014_vocab.json has 40",
        ),
        (at(3, 16, -1), "row 3 of train_captions holds the id -1, but coco2014_vocab.json has 40"),
        (
            at(3, 0, 2**40, "i8"),
            "row 3 of train_captions is NaN, infinite or beyond 32",
        ),
        (at(3, 1, np.nan, "f4"), "row 3 of train_captions is NaN, infinite or"),
        (
            at(7, 0, 4),
            "row 7 of train_captions does not begin with <START>, expected <START> words",
        ),
        (at(8, slice(1, None), 0), "row 8 of train_captions has no words, expected <START> words"),
        (at(8, slice(1, None), [2] + [0] * 15), "row 8 of train_captions has no words"),
        (at(199, slice(None), 0), "row 199 of train_captions does not begin with <START>"),
    ],
)
def test_captions_that_are_none(folder, monkeypatch, make, told):
    monkeypatch.setattr("tfcap.data.lazy_array._BLOCK", 4096)
    change(folder / CAPTIONS, "train_captions", make)
    assert said(folder).startswith(f"{CAPTIONS}: {told}")


@pytest.mark.parametrize("image", [30, -1])
def test_captions_of_images_without_features(folder, image):
    change(folder / CAPTIONS, "train_image_idxs", at_row(9, image))
    assert said(folder) == (
        f"{CAPTIONS}: row 9 of train_image_idxs is image {image}, but {FEATURES} has 30: the two files "
        "do not belong together"
    )


def at_row(row, value):
    def make(_file, old):
        old[row] = value
        return old

    return make


@pytest.mark.parametrize("storage", [{}, {"chunks": (4, 3)}])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_features_that_are_no_numbers(tmp_path, storage, value):
    caption_folders.write_course(tmp_path, dtype="f8", **storage)
    with h5py.File(tmp_path / FEATURES, "r+") as file:
        file["features"][17, 2] = value
    data = load_coco_data(tmp_path)
    assert np.isfinite(data["train_features"][:17]).all()
    with pytest.raises(ValueError, match="row 17 of features is NaN, infinite or"):
        data["train_features"][[20, 17, 3]]


# ---- HDF5 that reaches out


def secret(folder):
    with h5py.File(folder / "secret.h5", "w") as file:
        file["secret"] = np.ones((30, WIDTH), np.float32)
    return str(folder / "secret.h5")


def test_an_external_link(folder):
    link = h5py.ExternalLink(secret(folder), "secret")
    change(folder / FEATURES, "features", lambda file, old: file.__setitem__("features", link))
    refused = f"{FEATURES}: has no dataset features, or only a link to it, which is refused"
    assert said(folder).startswith(refused)


def test_a_soft_link(folder):
    link = h5py.SoftLink("/elsewhere")
    change(folder / FEATURES, "features", lambda file, old: file.__setitem__("features", link))
    refused = f"{FEATURES}: has no dataset features, or only a link to it, which is refused"
    assert said(folder).startswith(refused)


def test_external_storage(folder):
    (folder / "raw").write_bytes(bytes(30 * WIDTH * 4))

    def make(file, old):
        outside = [(str(folder / "raw"), 0, 30 * WIDTH * 4)]
        file.create_dataset("features", (30, WIDTH), "f4", external=outside)

    change(folder / FEATURES, "features", make)
    refused = f"{FEATURES}: keeps features in another file, which is refused"
    assert said(folder).startswith(refused)


def test_a_virtual_dataset(folder):
    source = h5py.VirtualSource(secret(folder), "secret", (30, WIDTH))
    layout = h5py.VirtualLayout((30, WIDTH), "f4")
    layout[:] = source

    def make(file, old):
        file.create_virtual_dataset("features", layout)

    change(folder / FEATURES, "features", make)
    refused = f"{FEATURES}: keeps features in another file, which is refused"
    assert said(folder).startswith(refused)


# ---- sizes that lie


def claim(name, shape, **options):
    """A dataset that says it has many rows and stores none."""

    def make(file, old):
        file.create_dataset(name, shape, **options)

    return make


@pytest.mark.parametrize("fill", [0, 1, 5])
@pytest.mark.parametrize("storage", [{}, {"chunks": (1000, T)}])
def test_captions_that_claim_to_be_billions(folder, fill, storage):
    make = claim("train_captions", (2**40, T), dtype="i4", fillvalue=fill, **storage)
    change(folder / CAPTIONS, "train_captions", make)
    assert said(folder).startswith(f"{CAPTIONS}: row 0 of train_captions ")


def test_features_that_claim_to_be_billions(folder):
    change(
        folder / FEATURES,
        "features",
        claim("features", (2**40, WIDTH), dtype="f4", chunks=(1000, WIDTH)),
    )
    assert said(folder).startswith(
        f"{URLS}: has 30 lines, but {FEATURES} the features of 1,099,511"
    )


@pytest.mark.parametrize(
    ("shape", "chunks", "told"),
    [
        ((30, 2**34), (1, 2**10), "1 rows together in 68,719,476,736 bytes"),
        ((2**30, WIDTH), (2**27, WIDTH), "features in chunks of 3,221,225,472 bytes"),
        ((2**20, 2**18), (2**20, 1), "1,048,576 rows together in 1,099,511,627,776 bytes"),
    ],
)
def test_rows_that_unpack_to_gigabytes(folder, shape, chunks, told):
    make = claim("features", shape, dtype="f4", chunks=chunks, compression="gzip")
    change(folder / FEATURES, "features", make)
    text = said(folder)
    assert text.startswith(f"{FEATURES}: ")
    assert told in text


def test_a_large_array_in_a_small_file_is_read_in_pieces(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("ids", (2**18, 250), "i4", chunks=(2**13, 250), compression=1)
    rows = LazyArray(tmp_path / "a.h5", "ids", 2)
    tracemalloc.start()
    try:
        assert sum(len(block) for block in blocks(rows)) == 2**18
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


FUZZ = """
import random, shutil, sys
from pathlib import Path
import numpy as np
from tfcap.data.coco import load_coco_data

folder = Path(sys.argv[1])
whole = {path: path.read_bytes() for path in folder.glob("*.h5")}
survived = 0
for seed in range(300):
    chance = random.Random(seed)
    path = chance.choice(sorted(whole))
    content = bytearray(whole[path])
    for _ in range(chance.choice([1, 2, 8, 64])):
        place = chance.randrange(min(len(content), chance.choice([512, 4096, len(content)])))
        content[place] = chance.choice([0, 255, chance.randrange(256)])
    path.write_bytes(content)
    try:
        data = load_coco_data(folder)
        for key in ("captions", "image_idxs", "features"):
            np.asarray(data[f"train_{key}"]), np.asarray(data[f"val_{key}"])
        survived += 1
    except (ValueError, OSError) as error:
        assert str(folder) in str(error), error
    path.write_bytes(whole[path])
print(survived)
"""


@pytest.mark.parametrize("storage", [{}, {"chunks": (4, 3), "compression": "gzip"}], ids=str)
def test_bytes_changed_at_random_give_a_sentence_or_nothing(tmp_path, storage):
    caption_folders.write_course(tmp_path, **storage)
    command = [sys.executable, "-c", FUZZ, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 < int(done.stdout) < 300


# ---- the vocabulary and the list of images


def vocabulary(**changes):
    words = caption_folders.WORDS
    ids = {word: index for index, word in enumerate(words)}
    return json.dumps({"idx_to_word": words, "word_to_idx": ids} | changes)


WORDS = caption_folders.WORDS


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", ": is not valid JSON: line 1, column 1: Expecting value"),
        (
            '{"idx_to_word": [],\n  "word',
            ": is not valid JSON: line 2, column 3: Unterminated string",
        ),
        ("[" * 100_000, ": is not valid JSON"),
        ('{"a": ' + "9" * 10_000 + "}", ": is not valid JSON"),
        (b'{"\xff', ": is not UTF-8 text (byte 2)"),
        ("[]", ": does not hold idx_to_word, a list of words, and word_to_idx"),
        ("null", ": does not hold idx_to_word, a list of words, and word_to_idx"),
        ('{"idx_to_word": []}', ": does not hold idx_to_word, a list of words, and word_to_idx"),
        (
            vocabulary(word_to_idx=WORDS),
            ": does not hold idx_to_word, a list of words, and word_to_",
        ),
        (vocabulary(word_to_idx={"a": [1]}), ": does not hold idx_to_word, a list of words, and "),
        (
            vocabulary(word_to_idx={"a": float("nan")}),
            ": does not hold idx_to_word, a list of words",
        ),
        (vocabulary(word_to_idx={"a": 2**70}), ": the vocabulary has 1 words and gives 'a' the id"),
        (vocabulary(word_to_idx={"x" * 10**6: 7}), ": the vocabulary has 1 words and gives 'xxx"),
        (vocabulary(idx_to_word=WORDS[::-1]), ": idx_to_word is not the words of word_to_idx in"),
        (vocabulary(idx_to_word="words"), ": idx_to_word is not the words of word_to_idx in"),
        (
            vocabulary(idx_to_word=["a", "b"], word_to_idx={"a": 0, "b": 1}),
            ": idx_to_word is not the words of word_to_idx in the order of their ids, beginning with "
            "<NULL>, <START>, <END>, <UNK>: download or build it again",
        ),
    ],
)
def test_a_vocabulary_that_is_none(folder, content, told):
    (folder / VOCABULARY).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said(folder).startswith(VOCABULARY + told)


def test_a_vocabulary_of_gigabytes(folder):
    os.truncate(folder / VOCABULARY, 2**33)
    assert said(folder).startswith(f"{VOCABULARY}: has 8,589,934,592 bytes, at most 67,108,864")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"",
            f": has 0 lines, but {FEATURES} the features of 30 images: the two files do not belong",
        ),
        (b"a\n" * 29, f": has 29 lines, but {FEATURES} the features of 30 images"),
        (b"a\n" * 12 + b"\n" + b"a\n" * 17, ": line 13 is empty or too long"),
        (b"a\n" * 12 + b"a" * 70_000 + b"\n" + b"a\n" * 17, ": line 13 is empty or too long"),
        (b"a" * 2**24, ": line 1 is empty or too long"),
    ],
)
def test_a_list_of_images_that_is_none(folder, content, told):
    (folder / URLS).write_bytes(content)
    assert said(folder).startswith(URLS + told)


def test_lines_that_are_not_text_are_read_all_the_same(folder):
    (folder / URLS).write_bytes(b"\xff\xfe\x1b\n" * 30)
    assert "\ufffd" in load_coco_data(folder)["train_urls"][3]
