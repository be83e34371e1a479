"""Every form of SqueezeNet checkpoint that people have loads, and gives the bundle's scores."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import visualization
from visualization import SqueezeNet, checkpoints, load_weights, preprocess_image
from visualization.backend import keras, tf

from .. import forms

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def arrays():
    return checkpoints.read_weights("imagenet")[0]


@pytest.fixture(scope="module")
def model():
    return SqueezeNet(weights=None)


@pytest.fixture
def gives_the_bundles_scores(model, squeezenet, grace_hopper):
    """Loads a source into a network of zeros, and compares what it sees with what the bundle sees."""
    x = preprocess_image(grace_hopper)[None]
    for variable in model.weights:
        variable.assign(tf.zeros_like(variable))

    def check(source, **how):
        load_weights(model, source, **how)
        np.testing.assert_allclose(model(x), squeezenet(x), rtol=0, atol=1e-5)

    return check


@pytest.fixture(scope="module")
def tf2(arrays, tmp_path_factory):
    return forms.write_tf2(tmp_path_factory.mktemp("tf2") / "squeezenet.ckpt", arrays)


# ---- TensorFlow


def test_a_tf1_checkpoint_loads_by_name(arrays, tmp_path, gives_the_bundles_scores):
    forms.write_tf1(tmp_path / "squeezenet.ckpt", arrays)
    gives_the_bundles_scores(tmp_path / "squeezenet.ckpt")


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_a_tf2_checkpoint_loads_by_its_prefix_and_by_either_file(
    tf2, suffix, gives_the_bundles_scores
):
    gives_the_bundles_scores(f"{tf2}{suffix}")


def test_a_folder_with_one_checkpoint_loads(tf2, tmp_path, gives_the_bundles_scores):
    for path in tf2.parent.glob("squeezenet.ckpt.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "README.txt").write_text("weights of SqueezeNet")
    gives_the_bundles_scores(tmp_path)


def test_a_checkpoint_state_file_leads_to_its_newest_checkpoint(
    arrays, tmp_path, gives_the_bundles_scores
):
    forms.write_tf1(tmp_path / "old-1", {path: 0 * array for path, array in arrays.items()})
    forms.write_tf1(tmp_path / "new-2", arrays)
    assert b'/new-2"' in (tmp_path / "checkpoint").read_bytes()
    gives_the_bundles_scores(tmp_path / "checkpoint")


def test_a_state_file_that_names_another_computers_folder_leads_to_its_own(
    tf2, tmp_path, gives_the_bundles_scores
):
    folder = tmp_path / "größe"
    folder.mkdir()
    for path in tf2.parent.glob("squeezenet.ckpt.*"):
        shutil.copy(path, folder / path.name.replace("squeezenet", "grün"))
    tf.compat.v1.train.update_checkpoint_state(str(folder), "/home/someone/grün.ckpt")
    gives_the_bundles_scores(folder / "checkpoint")


def test_several_data_files_load(arrays, tmp_path, gives_the_bundles_scores):
    prefix = forms.write_tf1(tmp_path / "squeezenet.ckpt", arrays, devices=2, sharded=True)
    second = f"{prefix}.data-00001-of-00002"
    assert Path(second).is_file()
    gives_the_bundles_scores(prefix)
    gives_the_bundles_scores(second)


def test_tensors_that_are_stored_in_slices_load(arrays, tmp_path, gives_the_bundles_scores):
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=1_000_000)
    prefix = forms.write_tf2(
        tmp_path / "squeezenet.ckpt", arrays, experimental_sharding_callback=policy
    )
    assert len(list(tmp_path.glob("*.data-*"))) > 4
    gives_the_bundles_scores(prefix)


def test_optimiser_slots_and_counters_are_left_aside(arrays, tmp_path, gives_the_bundles_scores):
    slots = {
        f"{forms.tf1_name(path)}/{slot}": np.zeros_like(array)
        for path, array in arrays.items()
        for slot in ("Adam", "Adam_1")
    }
    counters = {"global_step": np.int64(7), "beta1_power": np.float32(0.5)}
    forms.write_tf1(tmp_path / "one.ckpt", arrays, extra=slots | counters)
    gives_the_bundles_scores(tmp_path / "one.ckpt")

    root = tf.train.Checkpoint(net=tf.train.Checkpoint())
    variables = {}
    for path, array in arrays.items():
        node = root
        *nodes, leaf = forms.tf2_name(path).split("/")
        for name in nodes:
            if not hasattr(node, name):
                setattr(node, name, tf.train.Checkpoint())
            node = getattr(node, name)
        variables[path] = tf.Variable(array)
        setattr(node, leaf, variables[path])
    optimizer = keras.optimizers.Adam(0.0)
    optimizer.build([keras.Variable(array) for array in arrays.values()])
    root.optimizer = optimizer
    root.step = tf.Variable(1)  # as in TensorFlow's guide to checkpoints
    prefix = root.save(str(tmp_path / "two.ckpt"))  # save() adds save_counter
    names = dict(tf.train.list_variables(prefix))
    assert any(name.startswith("optimizer/") for name in names)
    assert "save_counter/.ATTRIBUTES/VARIABLE_VALUE" in names
    gives_the_bundles_scores(prefix)


def test_every_tensor_of_the_courses_own_index_belongs_somewhere(data, capsys):
    index = data / "squeezenet_tf2.ckpt.index"
    if not index.is_file():
        pytest.skip(f"there is no {index}")
    assert checkpoints.main(["inspect", str(index)]) == 1  # its data file is not to be had
    out = capsys.readouterr().out
    assert "fits        SqueezeNet 1.1\n" in out
    assert "incomplete  the data file is missing" in out
    assert "tensors     52, 1,235,496 values" in out
    assert out.count(" -> ") == 52
    assert "left aside  32" in out  # 31 OBJECT_CONFIG_JSON and the object graph


# ---- HDF5


def test_a_keras_3_weight_file_of_a_model_loads(tmp_path, squeezenet, gives_the_bundles_scores):
    squeezenet.save_weights(tmp_path / "mine.weights.h5")
    gives_the_bundles_scores(tmp_path / "mine.weights.h5")


def test_the_form_is_told_by_content_and_not_by_name(
    tmp_path, squeezenet, gives_the_bundles_scores
):
    squeezenet.save_weights(tmp_path / "mine.weights.h5")
    gives_the_bundles_scores((tmp_path / "mine.weights.h5").rename(tmp_path / "weights.npz"))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("separator", ["/", "_"])
@pytest.mark.parametrize("top", ["", "model_weights"])
def test_hdf5_weights_of_keras_1_and_2_load_under_caffes_names(
    arrays, tmp_path, gives_the_bundles_scores, separator, version, top
):
    gives_the_bundles_scores(
        forms.write_keras2(tmp_path / "weights.h5", arrays, separator, top, version)
    )


# ---- arrays


@pytest.mark.parametrize(
    "rename", [str, forms.tf1_name, lambda p: forms.tf2_name(p) + forms.SUFFIX]
)
def test_npz_loads_by_layer_name(arrays, tmp_path, gives_the_bundles_scores, rename):
    np.savez_compressed(tmp_path / "a.npz", **{rename(path): a for path, a in arrays.items()})
    gives_the_bundles_scores(tmp_path / "a.npz")


@pytest.mark.parametrize("layout", ["HWIO", "OIHW"])
def test_safetensors_load_in_either_layout(arrays, tmp_path, gives_the_bundles_scores, layout):
    numpy = pytest.importorskip("safetensors.numpy")
    tensors = arrays if layout == "HWIO" else forms.torch_arrays(arrays)
    numpy.save_file(tensors, tmp_path / "squeezenet1_1.safetensors")
    gives_the_bundles_scores(tmp_path / "squeezenet1_1.safetensors")


def test_without_the_package_a_safetensors_file_gets_the_command_that_installs_it(
    tmp_path, monkeypatch
):
    content = b"\x02\0\0\0\0\0\0\0{}"
    (tmp_path / "a.safetensors").write_bytes(content)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        checkpoints.read_weights(tmp_path / "a.safetensors")


# ---- the model, and the rest of the interface


def test_squeezenet_takes_the_same_sources(tf2, squeezenet):
    model = SqueezeNet(weights=tf2)
    for ours, theirs in zip(model.weights, squeezenet.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_path_with_spaces_and_letters_of_any_alphabet_loads(
    tf2, tmp_path, gives_the_bundles_scores
):
    folder = tmp_path / "mes réseaux 网络 (1)"
    folder.mkdir()
    for path in tf2.parent.glob("squeezenet.ckpt.*"):
        shutil.copy(path, folder / path.name.replace("squeezenet", "sieć été"))
    gives_the_bundles_scores(folder / "sieć été.ckpt")
    gives_the_bundles_scores(folder)
    shutil.copy(checkpoints.BUNDLE / checkpoints.IMAGENET, folder / "sieć é.h5")
    gives_the_bundles_scores(folder / "sieć é.h5")


def test_a_path_that_tensorflow_takes_for_a_pattern_gets_a_sentence(tf2, tmp_path):
    folder = tmp_path / "copy[1]"
    shutil.copytree(tf2.parent, folder)
    with pytest.raises(ValueError, match=r"takes '\[' .* for a pattern: rename the file or folder"):
        checkpoints.read_weights(folder)


def test_a_network_without_top_loads_from_a_file_with_one_and_from_its_own(tmp_path, arrays):
    headless = SqueezeNet(weights="imagenet", include_top=False)
    headless.save_weights(tmp_path / "headless.weights.h5")
    again = SqueezeNet(weights=tmp_path / "headless.weights.h5", include_top=False)
    for variable in again.weights:
        np.testing.assert_array_equal(variable.numpy(), arrays[variable.path])
    with pytest.raises(ValueError, match=r"2 missing .*it has no top.*include_top=False"):
        SqueezeNet(weights=tmp_path / "headless.weights.h5")


def test_a_model_that_is_no_squeezenet_is_refused():
    other = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="conv1")])
    with pytest.raises(ValueError, match=r"not a SqueezeNet.*make one with"):
        load_weights(other, "imagenet")
    with pytest.raises(ValueError, match="not a SqueezeNet"):
        load_weights(keras.Sequential([keras.Input((8,))]), "imagenet")


def test_the_hash_of_a_tensorflow_checkpoint_covers_index_and_data(tf2, tmp_path):
    import hashlib

    files = [f"{tf2}.index", f"{tf2}.data-00000-of-00001"]
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
    assert checkpoints.read_weights(tf2)[1] == digest


def test_no_other_module_reads_weights():
    readers = "h5py.File(", "load_checkpoint", "CheckpointReader", ".load_weights("
    allowed = {"checkpoints.py", "weight_files.py", "weight_formats.py", "weight_writers.py"}
    for path in (ROOT / "visualization").glob("*.py"):
        if path.name not in allowed:
            text = path.read_text(encoding="utf-8").replace("checkpoints.load_weights(", "")
            assert not any(reader in text for reader in readers), path


def test_the_public_name_stands_beside_the_command(tmp_path):
    code = (
        "import runpy, sys; sys.argv = ['checkpoints', '--help']\n"
        "from visualization import load_weights\n"
        "print(load_weights.__module__)\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, cwd=ROOT)
    assert ran.stdout.decode().strip() == "visualization.checkpoints"
    assert visualization.load_weights is checkpoints.load_weights


def test_reading_a_weight_file_needs_no_tensorflow(tmp_path):
    code = (
        "import sys; from visualization.weight_files.loading import read_weights; read_weights('imagenet')\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# ---- input conventions


@pytest.fixture(scope="module")
def caffe(arrays):
    """The bundled weights as Caffe has them: the fold undone, in float64 until the end."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    rgb = arrays["conv1/kernel"] / (255 * std)[:, None]
    shift = 255 * mean - np.array([122.679, 116.669, 104.006])
    bias = arrays["conv1/bias"] - np.einsum("hwio,i->o", rgb, shift)
    first = {"conv1/kernel": np.float32(rgb[:, :, ::-1]), "conv1/bias": np.float32(bias)}
    return arrays | first


def test_caffes_weights_fold_on_request(caffe, tmp_path, gives_the_bundles_scores):
    path = forms.write_keras2(tmp_path / "caffe.h5", caffe)
    gives_the_bundles_scores(path, convention="caffe")


def test_folded_weights_see_in_rgb_what_caffes_saw_in_bgr(caffe, model, grace_hopper, tmp_path):
    np.savez(tmp_path / "caffe.npz", **caffe)
    load_weights(model, tmp_path / "caffe.npz", convention="caffe")
    folded = model(preprocess_image(grace_hopper)[None])
    load_weights(model, tmp_path / "caffe.npz")
    bgr = np.float32(grace_hopper[None, :, :, ::-1]) - np.float32(checkpoints.CAFFE_MEAN)
    np.testing.assert_allclose(folded, model(bgr), rtol=0, atol=1e-4)


def test_a_file_that_says_its_convention_is_loaded_by_what_it_says(
    caffe, tmp_path, gives_the_bundles_scores
):
    said = np.array('{"input_convention": "caffe"}')
    np.savez(tmp_path / "caffe.npz", **caffe, __metadata__=said)
    gives_the_bundles_scores(tmp_path / "caffe.npz")
    gives_the_bundles_scores(tmp_path / "caffe.npz", convention="caffe")
    with pytest.raises(ValueError, match=r"says .* 'caffe', but 'course' was asked for"):
        checkpoints.read_weights(tmp_path / "caffe.npz", convention="course")


def test_an_unknown_convention_is_refused(caffe, tmp_path):
    with pytest.raises(ValueError, match="'course', but 'caffe' was asked for"):
        checkpoints.read_weights("imagenet", convention="caffe")
    with pytest.raises(ValueError, match="convention is 'bgr', expected one of course, caffe"):
        checkpoints.read_weights("imagenet", convention="bgr")
    said = np.array('{"input_convention": "torch"}')
    np.savez(tmp_path / "a.npz", **caffe, __metadata__=said)
    with pytest.raises(ValueError, match=r"'torch', and only course and caffe are known"):
        checkpoints.read_weights(tmp_path / "a.npz")


def test_a_keras_2_file_with_a_second_set_of_names_is_refused(arrays, tmp_path):
    path = forms.write_keras2(tmp_path / "weights.h5", arrays)
    with h5py.File(path, "r+") as file:
        file["conv1/again/kernel:0"] = arrays["conv1/kernel"]
    with pytest.raises(ValueError, match=r"holds conv1/kernel twice"):
        checkpoints.read_weights(path)
