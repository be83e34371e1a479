"""Every way in which people meet a broken checkpoint ends in one sentence, and changes nothing."""

import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests import forms
from visualization import SqueezeNet, checkpoints, load_weights
from visualization.backend import keras, tf
from visualization.files.bundle import BUNDLE, IMAGENET
from visualization.networks.squeezenet import Fire
from visualization.weight_files.loading import read_weights

HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 5045072\n"
TENSORFLOWS_WORDS = (
    *("sstable", "TensorSliceReader", "TensorBundle", "DataLoss", "No such file", "Unable to open"),
    *("Read less bytes", "cannot be `None`", "Traceback", "not supported", "h5py", "Errno"),
)


@pytest.fixture
def complaint(model):
    """What loading a source says, after it was found that it changed nothing."""

    def load(source):
        before = [variable.numpy() for variable in model.weights]
        with pytest.raises((OSError, ValueError)) as raised:
            load_weights(model, source)
        for variable, array in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), array)
        text = str(raised.value)
        assert "\n" not in text
        assert not [word for word in TENSORFLOWS_WORDS if word in text]
        assert text.count(": ") >= 2  # the source, what is wrong with it, what to do
        return text

    return load


def index(prefix):
    return Path(f"{prefix}.index")


def values(prefix):
    return Path(f"{prefix}.data-00000-of-00001")


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


# ---- how people meet a broken checkpoint today


def test_a_prefix_is_no_file_and_loads_all_the_same(prefix, model, arrays):
    assert not os.path.exists(prefix)  # at which a guard said: You need to download SqueezeNet!
    load_weights(model, prefix)
    np.testing.assert_array_equal(model.get_layer("conv1").kernel.numpy(), arrays["conv1/kernel"])


def test_an_index_without_its_data_file(prefix, complaint):
    values(prefix).unlink()
    for source in (prefix, index(prefix), prefix.parent):
        text = complaint(source)
        assert "data files are missing (1 of " in text
        assert "copy squeezenet.ckpt.data-00000-of-00001 to" in text
        assert "all 52 tensors that the index names fit SqueezeNet 1.1" in text


def test_the_courses_own_index_without_its_data_file(data, complaint):
    index = data / "squeezenet_tf2.ckpt.index"
    if not index.is_file():
        pytest.skip(f"there is no {index}")
    text = complaint(index)
    assert "data files are missing (1 of " in text
    assert "all 52 tensors that the index names fit" in text


def test_a_wrong_path(tmp_path, complaint):
    for path in (tmp_path / "squeezenet.ckpt", tmp_path / "nowhere" / "a.ckpt"):
        text = complaint(path)
        assert f"{path}: there is no such file, folder or checkpoint prefix: check the path" in text


@pytest.mark.parametrize("page", [HTML, b"\n  <html>", b"<?xml version='1.0'?><Error/>"])
def test_a_web_page_saved_as_index(prefix, complaint, page):
    index(prefix).write_bytes(page)
    assert "is a web page (HTML), not weights" in complaint(prefix)
    values(prefix).unlink()
    assert "is a web page (HTML), not weights" in complaint(index(prefix))


def test_the_zip_saved_as_the_checkpoint(tmp_path, prefix, complaint):
    saved = tmp_path / "download" / "squeezenet.ckpt"
    saved.parent.mkdir()
    with zipfile.ZipFile(saved, "w") as archive:
        archive.write(index(prefix), "squeezenet/squeezenet.ckpt.index")
        archive.write(values(prefix), "squeezenet/squeezenet.ckpt.data-00000-of-00001")
    text = complaint(saved)
    assert "is a zip archive, not weights: unzip it and name the file inside" in text


def test_a_flipped_byte_in_the_data_file_names_the_tensor(prefix, arrays, complaint):
    kernel = values(prefix).read_bytes().index(arrays["conv10/kernel"].tobytes())
    flip(values(prefix), kernel + 100_000)
    text = complaint(prefix)
    assert "is damaged at net/layer_with_weights-9/kernel/.ATTRIBUTES/VARIABLE_VALUE" in text
    assert "checksum" in text


def test_a_tensorflow_checkpoint_that_keras_3_refuses(prefix, model, arrays):
    with pytest.raises(ValueError, match="File format not supported"):
        model.load_weights(str(prefix))
    load_weights(model, prefix)
    np.testing.assert_array_equal(model.get_layer("conv10").bias.numpy(), arrays["conv10/bias"])


def test_layer_names_with_a_slash_which_keras_3_refuses(tmp_path, arrays, model):
    with pytest.raises(ValueError, match="cannot contain character"):
        keras.layers.Conv2D(16, 1, name="fire2/squeeze1x1")
    load_weights(model, forms.write_keras2(tmp_path / "a.h5", arrays))
    fire = model.get_layer("fire2")
    assert isinstance(fire, Fire)
    np.testing.assert_array_equal(fire.squeeze.kernel.numpy(), arrays["fire2/squeeze/kernel"])


def test_weights_that_tensorflows_restore_silently_leaves_unset(prefix, arrays):
    fresh = SqueezeNet(weights=None)
    before = fresh.get_layer("conv1").kernel.numpy()
    tf.train.Checkpoint(net=fresh).restore(str(prefix)).expect_partial()
    np.testing.assert_array_equal(fresh.get_layer("conv1").kernel.numpy(), before)  # silence
    load_weights(fresh, prefix)
    for variable in fresh.weights:
        np.testing.assert_array_equal(variable.numpy(), arrays[variable.path])


# ---- files that are cut off, damaged, or something else


def test_a_truncated_data_file(prefix, complaint):
    content = values(prefix).read_bytes()
    values(prefix).write_bytes(content[:2_000_000])
    text = complaint(prefix)
    assert f"is truncated: it has 2,000,000 bytes instead of {len(content):,}" in text
    assert "is the first tensor that is not whole" in text
    values(prefix).write_bytes(content[:-1])
    assert "is truncated" in complaint(prefix)


@pytest.mark.parametrize("length", [0, 3, 47, 1000, -1])
def test_a_truncated_index(prefix, complaint, length):
    index(prefix).write_bytes(index(prefix).read_bytes()[:length])
    text = complaint(prefix)
    assert ("is empty (0 bytes)" if length == 0 else "is truncated") in text


def test_a_flipped_byte_anywhere_in_the_index_is_found(prefix, whole, complaint):
    content = index(whole).read_bytes()
    for offset in range(0, len(content) - 48, 199):
        flipped = bytearray(content)
        flipped[offset] ^= 4
        index(prefix).write_bytes(flipped)
        text = complaint(prefix)
        assert "download it again" in text or "does not fit SqueezeNet 1.1" in text, offset


def test_a_copy_that_stopped_before_the_index(prefix, complaint):
    index(prefix).unlink()
    for source in (prefix, values(prefix), prefix.parent):
        text = complaint(source)
        assert "squeezenet.ckpt.index: is missing" in text
        assert "copy it too" in text


def test_a_copy_that_stopped_between_two_data_files(arrays, tmp_path, complaint):
    prefix = forms.write_tf1(tmp_path / "two.ckpt", arrays, devices=2, sharded=True)
    Path(f"{prefix}.data-00001-of-00002").unlink()
    text = complaint(prefix)
    assert "data files are missing (1 of " in text
    assert "copy two.ckpt.data-00001-of-00002" in text


@pytest.mark.parametrize("form", ["h5", "npz", "safetensors"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9999])
def test_a_half_written_copy_of_one_file(arrays, tmp_path, complaint, form, part):
    path = tmp_path / f"weights.{form}"
    if form == "h5":
        shutil.copy(BUNDLE / IMAGENET, path)
    elif form == "npz":
        np.savez(path, **arrays)
    else:
        pytest.importorskip("safetensors.numpy").save_file(arrays, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert ": download " in complaint(path)


@pytest.mark.parametrize("form", ["h5", "npz", "safetensors"])
@pytest.mark.parametrize("part", [0, 0.3])
def test_a_copy_whose_rest_was_reserved_but_never_written(arrays, tmp_path, complaint, form, part):
    path = tmp_path / f"weights.{form}"
    if form == "h5":
        forms.write_keras2(path, arrays)
    elif form == "npz":
        np.savez(path, **arrays)
    else:
        pytest.importorskip("safetensors.numpy").save_file(arrays, path)
    content = path.read_bytes()
    written = int(len(content) * part)
    path.write_bytes(content[:written] + bytes(len(content) - written))
    text = complaint(path)
    assert ": download " in text or "so download it again" in text
    assert written or "is nothing but zero bytes" in text


def test_a_data_file_whose_rest_was_never_written(prefix, complaint):
    content = values(prefix).read_bytes()
    values(prefix).write_bytes(content[:1_000_000] + bytes(len(content) - 1_000_000))
    assert "is damaged at net/layer_with_weights" in complaint(prefix)


def test_an_empty_file(tmp_path, complaint):
    (tmp_path / "squeezenet.npz").touch()
    assert "is empty (0 bytes)" in complaint(tmp_path / "squeezenet.npz")


def test_a_flipped_byte_in_an_npz(arrays, tmp_path, complaint):
    np.savez(tmp_path / "a.npz", **arrays)
    flip(tmp_path / "a.npz", 2_000_000)
    assert ".npy: download it again" in complaint(tmp_path / "a.npz")


def test_a_git_lfs_pointer(prefix, complaint):
    path = prefix.parent / "pointer.npz"
    path.write_bytes(LFS)
    assert "is a Git LFS pointer" in complaint(path)
    assert "git lfs pull" in complaint(path)
    values(prefix).write_bytes(LFS)
    text = complaint(prefix)
    assert f"the data file {values(prefix).name} is a Git LFS pointer" in text
    index(prefix).write_bytes(LFS)
    assert "squeezenet.ckpt.index: is a Git LFS pointer" in complaint(prefix)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar(tmp_path, prefix, complaint, mode):
    path = tmp_path / "squeezenet"
    with tarfile.open(path, mode) as archive:
        archive.add(index(prefix), "squeezenet/squeezenet.ckpt.index")
    assert "is an archive or compressed file" in complaint(path)
    assert "unpack it and name the file inside" in complaint(path)


def test_a_whole_keras_model(tmp_path, squeezenet, complaint):
    squeezenet.save(tmp_path / "a.keras")
    assert "unzip it and name the model.weights.h5 inside" in complaint(tmp_path / "a.keras")


def test_something_else_altogether(tmp_path, complaint):
    (tmp_path / "a.ckpt").write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    assert "is of no known format (it starts with 89 50 4e 47" in complaint(tmp_path / "a.ckpt")


# ---- whole files that do not fit


def test_a_v1_0_squeezenet(arrays, tmp_path, complaint):
    older = arrays | {
        "conv1/kernel": np.zeros((7, 7, 3, 96), np.float32),
        "conv1/bias": np.zeros(96, np.float32),
        "fire2/squeeze/kernel": np.zeros((1, 1, 96, 16), np.float32),
    }
    forms.write_tf1(tmp_path / "old.ckpt", older)
    text = complaint(tmp_path / "old.ckpt")
    assert "is of SqueezeNet 1.0" in text
    assert "use a checkpoint of SqueezeNet 1.1" in text


def test_another_architecture(tmp_path, complaint):
    vgg = {f"block{n}/conv1/kernel": np.zeros((3, 3, 8, 8), np.float32) for n in range(1, 6)}
    forms.write_tf1(tmp_path / "vgg.ckpt", vgg, rename=str)
    text = complaint(tmp_path / "vgg.ckpt")
    assert "is of another network: none of its tensors (block1/conv1/kernel" in text

    other = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "dense.weights.h5")
    assert "is of another network" in complaint(tmp_path / "dense.weights.h5")


def test_a_network_with_other_classes(arrays, tmp_path, complaint):
    ten = {"conv10/kernel": np.zeros((1, 1, 512, 10), "f4"), "conv10/bias": np.zeros(10, "f4")}
    forms.write_tf2(tmp_path / "ten.ckpt", arrays | ten)
    text = complaint(tmp_path / "ten.ckpt")
    assert "2 mismatched" in text
    assert "is float32 (1, 1, 512, 10), not float32 (1, 1, 512, 1000)" in text


def test_missing_unexpected_and_mismatched_weights_are_listed(arrays, tmp_path, complaint):
    changed = dict(arrays)
    del changed["fire5/squeeze/bias"]
    changed["fire9/expand3x3/bias"] = np.zeros(255, np.float32)
    np.savez(tmp_path / "a.npz", **changed, extra=np.zeros(3))
    text = complaint(tmp_path / "a.npz")
    assert "1 missing (fire5/squeeze/bias)" in text
    assert "1 unexpected (extra)" in text
    assert "1 mismatched (fire9/expand3x3/bias is float32 (255,), not float32 (256,))" in text


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_values_that_are_not_float32(arrays, tmp_path, complaint, dtype):
    other = {path: array.astype(dtype) for path, array in arrays.items()}
    np.savez(tmp_path / "a.npz", **other)
    forms.write_tf1(tmp_path / "a.ckpt", other)
    forms.write_keras2(tmp_path / "a.h5", other)
    sources = ["a.npz", "a.ckpt", "a.h5"]
    try:
        from safetensors.numpy import save_file

        save_file(other, tmp_path / "a.safetensors")
        sources.append("a.safetensors")
    except ImportError:
        pass
    for source in sources:
        text = complaint(tmp_path / source)
        assert f"holds {dtype} in " in text
        assert "astype('float32')" in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(arrays, tmp_path, complaint, value):
    kernel = arrays["fire5/expand3x3/kernel"].copy()
    kernel[1, 1, 3, 4] = value
    forms.write_tf1(tmp_path / "a.ckpt", arrays | {"fire5/expand3x3/kernel": kernel})
    text = complaint(tmp_path / "a.ckpt")
    assert "holds NaN or infinity in features/layer7/fire/e33/weights" in text


def test_names_that_end_in_0(arrays, tmp_path, complaint):
    np.savez(tmp_path / "a.npz", **{f"{forms.tf1_name(p)}:0": a for p, a in arrays.items()})
    text = complaint(tmp_path / "a.npz")
    assert "features/layer0/weights:0" in text
    assert "save them again without ':0'" in text


# ---- folders and permissions


def test_a_folder_with_two_checkpoints_names_both(arrays, prefix, complaint):
    forms.write_tf1(prefix.parent / "other.ckpt", arrays)
    text = complaint(prefix.parent)
    assert "holds 2 checkpoints (other.ckpt, squeezenet.ckpt): name one of them" in text
    np.savez(prefix.parent / "third", **arrays)
    assert "3 checkpoints (other.ckpt, squeezenet.ckpt, third.npz)" in complaint(prefix.parent)


def test_a_folder_without_any(tmp_path, complaint):
    assert "holds no checkpoint (it is empty)" in complaint(tmp_path)
    (tmp_path / "squeezenet.tgz").write_bytes(b"\x1f\x8b")
    assert "holds no checkpoint (only squeezenet.tgz)" in complaint(tmp_path)


def test_the_folder_in_which_one_is(tmp_path, complaint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "holds no checkpoint" in complaint(".")
    assert "holds no checkpoint" in complaint("")


def test_a_state_file_whose_checkpoint_is_not_there(tmp_path, complaint):
    tf.compat.v1.train.update_checkpoint_state(str(tmp_path), "/home/someone/model-7")
    text = complaint(tmp_path / "checkpoint")
    assert (
        "names the checkpoint /home/someone/model-7, but there is no model-7 in its folder" in text
    )


def test_an_index_under_another_name(prefix, complaint):
    index(prefix).rename(prefix.parent / "squeezenet_index")
    assert "give it back its name" in complaint(prefix.parent / "squeezenet_index")


def test_tensorflows_first_format(tmp_path, arrays, complaint):
    forms.write_tf1(tmp_path / "first.ckpt", arrays, write_version=1)
    assert "in the format before TensorFlow 0.12, save it again" in complaint(
        tmp_path / "first.ckpt"
    )


def test_no_permission_is_said_so(prefix, complaint, monkeypatch):
    real = Path.open

    def refuse(path, *arguments, **keywords):
        if path.name.startswith("squeezenet"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", refuse)
    text = complaint(prefix)
    assert "squeezenet.ckpt.index: cannot be read: Permission denied: ask its owner" in text


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users to change to on this system")
def test_a_file_that_the_system_really_refuses(prefix, complaint):
    folder = Path(tempfile.mkdtemp())
    path = shutil.copy(values(prefix), folder / "data")
    user = os.geteuid()
    try:
        folder.chmod(0o755)
        os.chmod(path, 0)
        if user == 0:  # root may read everything
            os.seteuid(65534)
        try:
            text = complaint(path)
        finally:
            os.seteuid(user)
        assert "cannot be read: Permission denied: ask its owner" in text
    finally:
        shutil.rmtree(folder)


# ---- the same in the command


def test_the_command_says_it_in_one_line_with_status_2(prefix, capsys):
    values(prefix).unlink()
    index(prefix).write_bytes(HTML)
    for job in (["inspect"], ["verify"], ["convert"]):
        rest = [str(prefix.parent / "new.npz")] if job == ["convert"] else []
        assert checkpoints.main([*job, str(prefix), *rest]) == 2
        out, err = capsys.readouterr()
        assert not out
        assert err.count("\n") == 1
        assert "is a web page (HTML), not weights" in err
    assert not (prefix.parent / "new.npz").exists()


def test_a_damaged_bundle_names_the_command_that_restores_it(tmp_path, monkeypatch):
    for name in ("manifest.json", IMAGENET):
        shutil.copy(BUNDLE / name, tmp_path)
    with h5py.File(tmp_path / IMAGENET, "r+") as file:
        file["layers/conv2d/vars/1"][0] += 1
    monkeypatch.setattr("visualization.files.bundle.BUNDLE", tmp_path)
    with pytest.raises(ValueError, match="git checkout"):
        read_weights("imagenet")
