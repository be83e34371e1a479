"""The small readers and writers of visualization.files, by what they promise."""

import errno
import json
import os
import shutil

import h5py
import numpy as np
import pytest

from visualization.files.atomic import make_folder, write_file
from visualization.files.hdf5 import RefusedError, open_hdf5, safe_dataset
from visualization.files.json_file import parse_json, read_json
from visualization.files.printable import printable, some
from visualization.files.regular_file import read_file
from visualization.files.system_errors import reading, writing


def test_a_file_is_written_whole_with_the_usual_permissions(tmp_path):
    path = write_file(tmp_path / "a.txt", b"old")
    assert write_file(path, b"new").read_bytes() == b"new"
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert {other.name for other in tmp_path.iterdir()} == {"a.txt", "usual"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(error, tmp_path, monkeypatch):
    path = write_file(tmp_path / "a.txt", b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        write_file(path, b"new")
    assert [other.read_bytes() for other in tmp_path.iterdir()] == [b"old"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file.in: cannot be written: .*: name another folder"):
        make_folder(tmp_path / "file" / "in")


def test_errors_of_the_system_become_sentences_and_others_pass():
    with (
        pytest.raises(PermissionError, match=r"a\.h5: cannot be read: .*: ask its owner"),
        reading("a.h5"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")
    with (
        pytest.raises(FileNotFoundError, match=r"a\.h5: there is no such HDF5 file"),
        reading("a.h5", "HDF5 file"),
    ):
        raise FileNotFoundError(errno.ENOENT, "No such file")
    with (
        pytest.raises(OSError, match=r"^a\.h5: cannot be written: No space left on device$"),
        writing("a.h5"),
    ):  # as h5py says it
        raise OSError("Can't write data (file write failed: time = ..., errno = 28)")
    for surrounding in (reading, writing):
        with pytest.raises(OSError, match=r"^a sentence already$"), surrounding("a.h5"):
            raise OSError("a sentence already")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "large"])
def test_only_a_regular_file_of_bounded_size_is_read(kind, tmp_path):
    path = tmp_path / "a.json"
    error, sentence = {
        "missing": (FileNotFoundError, "there is no such JSON file"),
        "folder": (IsADirectoryError, "is a folder: name the JSON file itself"),
        "pipe": (OSError, "is not a regular file"),
        "large": (ValueError, "has 11 bytes, at most 10 are read"),
    }[kind]
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no pipes with names")
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b"[" + 9 * b" " + b"]")
    with pytest.raises(error, match=rf"a\.json: {sentence}"):
        read_json(path, max_bytes=10)
    with pytest.raises(error, match="a\\.json: "):
        read_file(path, max_bytes=10)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"\xff", "is not UTF-8 text"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"9" * 10_000, "is not valid JSON"),
        (b"", "is not valid JSON"),
    ],
)
def test_json_errors_say_where(content, sentence):
    with pytest.raises(ValueError, match=f"^a: .*{sentence}"):
        parse_json(content, "a")


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"é": 1}), encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"é": 1}


@pytest.fixture
def hdf5(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(100.0), chunks=(10,), compression="gzip")
    return path


def test_hdf5_is_read_from_a_path_and_from_content(hdf5):
    for source in (hdf5, hdf5.read_bytes()):
        with open_hdf5(source) if source is hdf5 else open_hdf5(source, "a.h5") as file:
            np.testing.assert_array_equal(safe_dataset(file, "x", "a.h5"), np.arange(100))


def test_what_is_not_hdf5_or_is_damaged_is_refused_by_name(hdf5, tmp_path):
    for content, sentence in [
        (b"hello", "is not an HDF5 file"),
        (b"", "is empty"),
        (b"<!doctype html>", "is a web page"),
        (hdf5.read_bytes()[:-100], "is truncated or damaged|truncated or damaged"),
    ]:
        hdf5.write_bytes(content)
        for source in (hdf5, content):
            with (
                pytest.raises(ValueError, match=rf"a\.h5: .*({sentence})"),
                open_hdf5(source, "a.h5"),
            ):
                pass
    with (
        pytest.raises(FileNotFoundError, match="there is no such HDF5 file"),
        open_hdf5(tmp_path / "b.h5"),
    ):
        pass
    with pytest.raises(IsADirectoryError, match="is a folder"), open_hdf5(tmp_path):
        pass


def test_links_and_huge_chunks_in_hdf5_are_refused(hdf5):
    other = hdf5.with_name("other.h5")
    shutil.copy(hdf5, other)
    with h5py.File(hdf5, "a") as file:
        file["soft"] = h5py.SoftLink("/x")
        file["external"] = h5py.ExternalLink(str(other), "x")
        layout = h5py.VirtualLayout((100,), float)
        layout[:] = h5py.VirtualSource(str(other), "x", (100,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (8,), float, external=[(str(other), 0, 64)])
        file.create_group("group")
    for key in ("soft", "external", "virtual", "raw", "group", "missing"):
        with pytest.raises(RefusedError, match=rf"^a: .*{key}.*refused"), open_hdf5(hdf5) as file:
            safe_dataset(file, key, "a")
    with pytest.raises(RefusedError, match="chunks of 80 bytes"), open_hdf5(hdf5) as file:
        safe_dataset(file, "x", "a", max_chunk=79)


def test_text_from_outside_is_cut_and_escaped():
    assert printable("conv1/kernel") == "conv1/kernel"
    assert printable("a\x1b[2J") == "'a\\x1b[2J'"
    assert printable("x" * 200) == "x" * 117 + "..."
    assert some(["a", "b"]) == "a, b"
    assert some([str(n) for n in range(9)], "; ") == "0; 1; 2; 3; and 5 others"
