import errno
import os
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from tfcap.data import feature_files
from tfcap.data.feature_files import FeatureFiles
from tfcap.data.features import encoder_named, image_features, read_images


def read(path):
    with h5py.File(path) as file:
        return file["features"][:]


SQUEEZENET = encoder_named("squeezenet")


def fill(path, paths, **options):
    files = FeatureFiles(path, paths, options.pop("encoder", SQUEEZENET), **options)
    files.fill()
    files.move_into_place()
    return files, list(files.places().values())


def test_a_file_holds_a_row_for_each_image_in_order(tmp_path, paths):
    path, views = tmp_path / "f.h5", tmp_path / "f_views.h5"
    files, written = fill(path, paths[:40], views=2, seed=3)
    assert written == [path, views]
    assert not files.skipped
    pixels = np.stack(list(read_images(paths[:40], SQUEEZENET, views=2, seed=3)))
    np.testing.assert_allclose(read(path), image_features(pixels[:, 0]), rtol=1e-4, atol=1e-5)
    assert read(views).shape == (40, 2, 512)
    for view in (1, 2):
        expected = image_features(pixels[:, view])
        np.testing.assert_allclose(read(views)[:, view - 1], expected, rtol=1e-4, atol=1e-5)
    assert {one.name for one in tmp_path.iterdir()} == {"f.h5", "f_views.h5", "f.progress.json"}


def test_cells_take_half_precision(tmp_path, paths):
    cells = encoder_named("squeezenet_cells")
    fill(tmp_path / "f.h5", paths[:3], encoder=cells)
    with h5py.File(tmp_path / "f.h5") as file:
        assert (file["features"].shape, file["features"].dtype) == ((3, 169, 512), np.float16)
        assert file.attrs["encoder"] == "squeezenet_cells"


def test_what_cannot_be_read_has_no_row_and_is_told(tmp_path, paths):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no more")
    missing = str(tmp_path / "missing.jpg")
    sources = [missing, *paths[:3], str(broken), *paths[3:5]]
    files, _ = fill(tmp_path / "f.h5", sources, views=1)
    assert list(files.skipped) == [missing, str(broken)]
    fill(tmp_path / "whole.h5", paths[:5], views=1)
    assert len(read(tmp_path / "f.h5")) == 5
    np.testing.assert_allclose(read(tmp_path / "f.h5"), read(tmp_path / "whole.h5"), atol=1e-5)
    views = read(tmp_path / "f_views.h5")
    assert len(views) == 5


def test_images_of_which_none_can_be_read_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none of the 1 images can be read \(.*none\.jpg"):
        fill(tmp_path / "f.h5", [str(tmp_path / "none.jpg")])


@pytest.fixture
def counted(monkeypatch):
    """How many images were read."""
    counts = []

    def read_and_count(sources, encoder, *, first=0, **options):
        counts.append(len(sources) - first)
        return read_images(sources, encoder, first=first, **options)

    monkeypatch.setattr(feature_files, "read_images", read_and_count)
    return counts


def interrupt_after(monkeypatch, batches):
    monkeypatch.setattr(feature_files, "_BETWEEN_COMMITS", 1)
    commit = FeatureFiles._commit
    left = [batches]

    def commit_some(self, done, rows):
        commit(self, done, rows)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(FeatureFiles, "_commit", commit_some)


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_an_interrupted_run_goes_on_where_it_was(tmp_path, paths, counted, monkeypatch, batches):
    sources = [str(tmp_path / "none.jpg"), *paths]
    fill(tmp_path / "whole.h5", sources)
    with monkeypatch.context() as patched:
        interrupt_after(patched, batches)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / "f.h5", sources)
    files, _ = fill(tmp_path / "f.h5", sources)
    assert counted[-1] == max(0, len(sources) - 32 * batches)
    assert list(files.skipped) == sources[:1]
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_finished_features_are_not_computed_again_unless_an_image_changes(tmp_path, paths, counted):
    mine = [str(shutil.copy(one, tmp_path)) for one in paths[:3]]
    fill(tmp_path / "f.h5", mine)
    fill(tmp_path / "f.h5", mine)
    assert counted == [3]
    before = read(tmp_path / "f.h5")
    shutil.copyfile(paths[5], mine[1])
    fill(tmp_path / "f.h5", mine)
    assert counted == [3, 3]
    changed = (read(tmp_path / "f.h5") != before).any(axis=1)
    assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize("damage", ["", "not json", "{}", '{"digest": 1}', "[]"])
def test_a_damaged_note_of_progress_means_to_start_anew(tmp_path, paths, counted, damage):
    fill(tmp_path / "f.h5", paths[:3])
    before = (tmp_path / "f.h5").read_bytes()
    (tmp_path / "f.progress.json").write_text(damage)
    fill(tmp_path / "f.h5", paths[:3])
    assert counted == [3, 3]
    assert (tmp_path / "f.h5").read_bytes() == before


def test_a_truncated_file_is_made_anew(tmp_path, paths, counted):
    fill(tmp_path / "f.h5", paths[:3])
    before = (tmp_path / "f.h5").read_bytes()
    (tmp_path / "f.h5").write_bytes(before[:3000])
    fill(tmp_path / "f.h5", paths[:3])
    assert counted == [3, 3]
    assert (tmp_path / "f.h5").read_bytes() == before


def test_too_little_room_is_told_before_anything_is_computed(tmp_path, paths, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"take 0\.5 MB, but only 0\.0 MB are free"):
        fill(tmp_path / "f.h5", paths)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_the_old_file_and_the_work_done(
    tmp_path, paths, counted, monkeypatch
):
    monkeypatch.setattr(feature_files, "_BETWEEN_COMMITS", 1)
    (tmp_path / "f.h5").write_bytes(b"old")
    syncs = []

    def full_at_the_second(descriptor):
        syncs.append(descriptor)
        if len(syncs) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    with pytest.raises(OSError, match=r"f\.h5\.partial: cannot be written: No space left"):
        fill(tmp_path / "f.h5", paths)
    assert (tmp_path / "f.h5").read_bytes() == b"old"
    fill(tmp_path / "f.h5", paths)
    assert counted == [80, 48]
    assert len(read(tmp_path / "f.h5")) == 80


def test_views_are_made_when_they_are_asked_for_later_and_never_stay_when_they_are_not(
    tmp_path, paths, counted, monkeypatch
):
    path, views = tmp_path / "f.h5", tmp_path / "f_views.h5"
    with monkeypatch.context() as patched:
        interrupt_after(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            fill(path, paths[:40])
    fill(path, paths[:40], views=1)
    fill(path, paths[:40], views=1)
    assert counted == [40, 40]
    assert len(read(views)) == 40
    fill(path, paths[:40])
    assert not views.exists()


def test_writing_rows_changes_nothing_else_in_the_file(tmp_path):
    """So that a run that is killed between two writes leaves a valid file."""
    file = feature_files._FeatureFile(tmp_path / "f.h5", (512,), SQUEEZENET)
    file.create(100)
    before = file.partial.read_bytes()
    rows = np.random.default_rng(0).random((64, 512), np.float32)
    with file:
        file.write(10, rows)
        file.sync()
        synced = file.partial.read_bytes()
    assert file.partial.read_bytes() == synced
    place = synced.index(rows.tobytes())
    assert len(synced) == len(before) == place - 10 * 2048 + 100 * 2048
    assert synced[: place - 10 * 2048] == before[: place - 10 * 2048]
