"""Every form of SqueezeNet checkpoint that people have gives the bundled weights."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests import forms
from visualization import SqueezeNet, checkpoints, load_weights, preprocess_image
from visualization.backend import keras, tf
from visualization.files.bundle import BUNDLE, IMAGENET
from visualization.weight_files.architectures import EFFICIENTNET_LITE2, SQUEEZENET
from visualization.weight_files.caffe import CAFFE_MEAN
from visualization.weight_files.loading import read_weights

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.fixture
def gives_the_bundled_weights(arrays):
    def check(source, atol=0, **how):
        found = read_weights(source, **how).arrays
        assert found.keys() == arrays.keys()
        for path, array in arrays.items():
            np.testing.assert_allclose(found[path], array, rtol=0, atol=atol)

    return check


# ---- TensorFlow


def test_a_tf1_checkpoint_loads_by_name(arrays, tmp_path, gives_the_bundled_weights):
    forms.write_tf1(tmp_path / "squeezenet.ckpt", arrays)
    gives_the_bundled_weights(tmp_path / "squeezenet.ckpt")


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_a_tf2_checkpoint_loads_by_its_prefix_and_by_either_file(
    whole, suffix, gives_the_bundled_weights
):
    gives_the_bundled_weights(f"{whole}{suffix}")


def test_a_folder_with_one_checkpoint_loads(whole, tmp_path, gives_the_bundled_weights):
    for path in whole.parent.glob("squeezenet.ckpt.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "README.txt").write_text("weights of SqueezeNet")
    gives_the_bundled_weights(tmp_path)


def test_a_checkpoint_state_file_leads_to_its_newest_checkpoint(
    arrays, tmp_path, gives_the_bundled_weights
):
    forms.write_tf1(tmp_path / "old-1", {path: 0 * array for path, array in arrays.items()})
    forms.write_tf1(tmp_path / "new-2", arrays)
    assert b'/new-2"' in (tmp_path / "checkpoint").read_bytes()
    gives_the_bundled_weights(tmp_path / "checkpoint")


def test_a_state_file_that_names_another_computers_folder_leads_to_its_own(
    whole, tmp_path, gives_the_bundled_weights
):
    folder = tmp_path / "größe"
    folder.mkdir()
    for path in whole.parent.glob("squeezenet.ckpt.*"):
        shutil.copy(path, folder / path.name.replace("squeezenet", "grün"))
    tf.compat.v1.train.update_checkpoint_state(str(folder), "/home/someone/grün.ckpt")
    gives_the_bundled_weights(folder / "checkpoint")


def test_several_data_files_load(arrays, tmp_path, gives_the_bundled_weights):
    prefix = forms.write_tf1(tmp_path / "squeezenet.ckpt", arrays, devices=2, sharded=True)
    second = f"{prefix}.data-00001-of-00002"
    assert Path(second).is_file()
    gives_the_bundled_weights(prefix)
    gives_the_bundled_weights(second)


def test_tensors_that_are_stored_in_slices_load(arrays, tmp_path, gives_the_bundled_weights):
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=1_000_000)
    prefix = forms.write_tf2(
        tmp_path / "squeezenet.ckpt", arrays, experimental_sharding_callback=policy
    )
    assert len(list(tmp_path.glob("*.data-*"))) > 4
    gives_the_bundled_weights(prefix)


def test_optimizer_slots_and_counters_are_ignored(arrays, tmp_path, gives_the_bundled_weights):
    slots = {
        f"{forms.tf1_name(path)}/{slot}": np.zeros_like(array)
        for path, array in arrays.items()
        for slot in ("Adam", "Adam_1")
    }
    counters = {"global_step": np.int64(7), "beta1_power": np.float32(0.5)}
    forms.write_tf1(tmp_path / "one.ckpt", arrays, extra=slots | counters)
    gives_the_bundled_weights(tmp_path / "one.ckpt")

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
    gives_the_bundled_weights(prefix)


def test_every_tensor_of_the_courses_own_index_belongs_somewhere(data, capsys):
    index = data / "squeezenet_tf2.ckpt.index"
    if not index.is_file():
        pytest.skip(f"there is no {index}")
    assert checkpoints.main(["inspect", str(index)]) == 1  # its data file is not to be had
    out = capsys.readouterr().out
    assert "fits        SqueezeNet 1.1\n" in out
    assert "incomplete  data files are missing (1 of 1)" in out
    assert "tensors     52, 1,235,496 values" in out
    assert out.count(" -> ") == 52
    assert "ignored     32" in out  # 31 OBJECT_CONFIG_JSON and the object graph


# ---- HDF5


def test_a_keras_3_weight_file_of_a_model_loads(tmp_path, squeezenet, gives_the_bundled_weights):
    squeezenet.save_weights(tmp_path / "mine.weights.h5")
    gives_the_bundled_weights(tmp_path / "mine.weights.h5")


def test_the_form_is_told_by_content_and_not_by_name(
    tmp_path, squeezenet, gives_the_bundled_weights
):
    squeezenet.save_weights(tmp_path / "mine.weights.h5")
    gives_the_bundled_weights((tmp_path / "mine.weights.h5").rename(tmp_path / "weights.npz"))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("separator", ["/", "_"])
@pytest.mark.parametrize("top", ["", "model_weights"])
def test_hdf5_weights_of_keras_1_and_2_load_under_caffes_names(
    arrays, tmp_path, gives_the_bundled_weights, separator, version, top
):
    gives_the_bundled_weights(
        forms.write_keras2(tmp_path / "weights.h5", arrays, separator, top, version)
    )


# ---- arrays


@pytest.mark.parametrize(
    "rename", [str, forms.tf1_name, lambda p: forms.tf2_name(p) + forms.SUFFIX]
)
def test_npz_loads_by_layer_name(arrays, tmp_path, gives_the_bundled_weights, rename):
    np.savez_compressed(tmp_path / "a.npz", **{rename(path): a for path, a in arrays.items()})
    gives_the_bundled_weights(tmp_path / "a.npz")


@pytest.mark.parametrize("layout", ["HWIO", "OIHW"])
def test_safetensors_load_in_either_layout(arrays, tmp_path, gives_the_bundled_weights, layout):
    numpy = pytest.importorskip("safetensors.numpy")
    tensors = arrays if layout == "HWIO" else forms.torch_arrays(arrays)
    numpy.save_file(tensors, tmp_path / "squeezenet1_1.safetensors")
    gives_the_bundled_weights(tmp_path / "squeezenet1_1.safetensors")


def test_without_the_package_a_safetensors_file_gets_the_command_that_installs_it(
    tmp_path, monkeypatch
):
    content = b"\x02\0\0\0\0\0\0\0{}"
    (tmp_path / "a.safetensors").write_bytes(content)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        read_weights(tmp_path / "a.safetensors")


# ---- the model, and the rest of the interface


def test_a_loaded_network_sees_what_the_bundled_one_sees(whole, squeezenet, grace_hopper):
    model = SqueezeNet(weights=whole)
    x = preprocess_image(grace_hopper)[None]
    np.testing.assert_allclose(model(x), squeezenet(x), rtol=0, atol=1e-5)
    for ours, theirs in zip(model.weights, squeezenet.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_path_with_spaces_and_letters_of_any_alphabet_loads(
    whole, tmp_path, gives_the_bundled_weights
):
    folder = tmp_path / "mes réseaux 网络 (1)"
    folder.mkdir()
    for path in whole.parent.glob("squeezenet.ckpt.*"):
        shutil.copy(path, folder / path.name.replace("squeezenet", "sieć été"))
    gives_the_bundled_weights(folder / "sieć été.ckpt")
    gives_the_bundled_weights(folder)
    shutil.copy(BUNDLE / IMAGENET, folder / "sieć é.h5")
    gives_the_bundled_weights(folder / "sieć é.h5")


def test_a_path_that_tensorflow_takes_for_a_pattern_gets_a_sentence(whole, tmp_path):
    folder = tmp_path / "copy[1]"
    shutil.copytree(whole.parent, folder)
    with pytest.raises(ValueError, match=r"'\[' .* are a pattern: rename the file or folder"):
        read_weights(folder)


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


def test_the_hash_of_a_tensorflow_checkpoint_covers_index_and_data(whole, tmp_path):
    files = [f"{whole}.index", f"{whole}.data-00000-of-00001"]
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()
    assert read_weights(whole).sha256 == digest


def test_no_other_module_reads_weights():
    readers = "h5py.File(", "load_checkpoint", "CheckpointReader", "model.load_weights("
    for path in (ROOT / "visualization").rglob("*.py"):
        if path.parent.name != "weight_files" and path.name != "hdf5.py":
            text = path.read_text(encoding="utf-8")
            assert not any(reader in text for reader in readers), path


def test_reading_a_weight_file_needs_no_tensorflow(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    h5py.File(forms.write_keras2(tmp_path / "a.h5", arrays)).close()
    code = (
        "import sys\nfrom visualization.weight_files.loading import read_weights\n"
        "for source in sys.argv[1:]: read_weights(source)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    sources = ["imagenet", tmp_path / "a.npz", tmp_path / "a.h5"]
    subprocess.run([sys.executable, "-c", code, *sources], check=True, cwd=ROOT)


@pytest.mark.parametrize("network", ["squeezenet", "lite2"])
def test_what_keras_and_tensorflow_save_of_the_models_themselves_loads(network, request, tmp_path):
    model = request.getfixturevalue(network)
    architecture = {"squeezenet": SQUEEZENET, "lite2": EFFICIENTNET_LITE2}[network]
    held = tf.train.Checkpoint(model=model, step=tf.Variable(3))
    sources = [held.write(str(tmp_path / "held.ckpt"))]
    sources.append(tf.train.Checkpoint(model).write(str(tmp_path / "itself.ckpt")))
    model.save(tmp_path / "whole.h5")
    sources.append(tmp_path / "whole.h5")
    for source in sources:
        found = read_weights(source, architecture).arrays
        for variable in model.weights:
            np.testing.assert_array_equal(found[variable.path], variable)


def test_a_saved_models_variables_load_and_an_exported_models_are_named(squeezenet, tmp_path):
    tf.saved_model.save(squeezenet, str(tmp_path / "saved"))
    for place in "saved", "saved/variables", "saved/saved_model.pb":
        source = tmp_path / place
        found = read_weights(source).arrays
        for variable in squeezenet.weights:
            np.testing.assert_array_equal(found[variable.path], variable)
    arrays = {f"_all_variables/{n}": np.zeros(64, np.float32) for n in range(3)}
    exported = forms.write_tf2(tmp_path / "exported", arrays, rename=str)
    with pytest.raises(ValueError, match=r"is what model\.export wrote"):
        read_weights(exported)


def test_another_networks_keras_2_file_is_not_told_to_lose_its_suffix(arrays, tmp_path):
    with h5py.File(tmp_path / "vgg.h5", "w") as file:
        for layer in "block1_conv1", "block1_conv2":
            file[f"{layer}/{layer}/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
        file["conv1/kernel:0"] = np.zeros((7, 7, 3, 64), np.float32)
    with pytest.raises(ValueError, match=r"conv1/kernel is float32 \(7, 7, 3, 64\)") as raised:
        read_weights(tmp_path / "vgg.h5")
    assert "without ':0'" not in str(raised.value)
    np.savez(tmp_path / "a.npz", **{"conv1/kernel:0": arrays["conv1/kernel"]})
    with pytest.raises(ValueError, match="is of another network") as raised:
        read_weights(tmp_path / "a.npz")
    assert "without ':0'" not in str(raised.value)


def test_the_graph_beside_a_checkpoint_leads_to_it(prefix, gives_the_bundled_weights):
    graph = prefix.with_name(f"{prefix.name}.meta")
    graph.write_bytes(b"\x0a\x05graph")
    gives_the_bundled_weights(graph)


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_metadata_of_fifty_megabytes_is_not_read(arrays, tmp_path, ending):
    text = json.dumps({"input_convention": "caffe", "licence": "x" * 2_000_000})
    if ending == ".npz":
        np.savez_compressed(tmp_path / "a.npz", **arrays, __metadata__=np.array(text))
    else:
        with h5py.File(forms.write_keras2(tmp_path / "a.h5", arrays), "r+") as file:
            file.attrs["visualization"] = text  # of variable length, beside the attributes
    assert read_weights(tmp_path / f"a{ending}").file.metadata == {}


def test_a_compressed_index_is_sound_and_told_so(prefix):
    path = prefix.with_name(f"{prefix.name}.index")
    content = bytearray(path.read_bytes())
    root = content[-48:]  # two handles, offset and size as varints
    varints, value, shift = [], 0, 0
    for byte in root[:40]:
        value |= (byte & 127) << shift
        shift = shift + 7 if byte > 127 else 0
        if byte < 128:
            varints, value = [*varints, value], 0
    content[varints[2] + varints[3]] = 1  # Snappy
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"compressed .*: load the checkpoint with TensorFlow"):
        read_weights(prefix)


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


def test_caffes_weights_fold_on_request(caffe, tmp_path, gives_the_bundled_weights):
    path = forms.write_keras2(tmp_path / "caffe.h5", caffe)
    gives_the_bundled_weights(path, atol=1e-4, convention="caffe")


@pytest.mark.parametrize("kind", ["a.h5", "a_.h5", "a.npz"])
def test_under_caffes_names_the_first_kernels_tell_the_input(
    caffe, arrays, tmp_path, gives_the_bundled_weights, kind
):
    for weights, convention in (caffe, "caffe"), (arrays, "course"):
        path = tmp_path / f"{convention}-{kind}"
        if kind.endswith(".h5"):
            forms.write_keras2(path, weights, separator="_" if "_" in kind else "/")
        else:
            named = {f"{forms.caffe_layer(p)}/{p.split('/')[-1]}": a for p, a in weights.items()}
            np.savez(path, **named)
        assert read_weights(path).convention == convention
        gives_the_bundled_weights(path, atol=1e-4)


def test_small_kernels_under_names_that_are_not_caffes_are_the_courses(caffe, tmp_path):
    np.savez(tmp_path / "trained_anew.npz", **caffe)
    assert read_weights(tmp_path / "trained_anew.npz").convention == "course"


def test_the_convention_can_be_said(caffe, tmp_path, squeezenet, grace_hopper):
    path = forms.write_keras2(tmp_path / "caffe.h5", caffe)
    image = preprocess_image(grace_hopper)[None]
    for convention in (None, "caffe"):
        model = SqueezeNet(weights=path, convention=convention)
        np.testing.assert_allclose(model(image), squeezenet(image), rtol=0, atol=1e-3)
    wrong = SqueezeNet(weights=path, convention="course")
    kernel = caffe["conv1/kernel"]
    np.testing.assert_array_equal(wrong.get_layer("conv1").kernel, kernel)


def test_folded_weights_see_in_rgb_what_caffes_saw_in_bgr(caffe, model, grace_hopper, tmp_path):
    np.savez(tmp_path / "caffe.npz", **caffe)
    load_weights(model, tmp_path / "caffe.npz", convention="caffe")
    folded = model(preprocess_image(grace_hopper)[None])
    load_weights(model, tmp_path / "caffe.npz")
    bgr = np.float32(grace_hopper[None, :, :, ::-1]) - np.float32(CAFFE_MEAN)
    np.testing.assert_allclose(folded, model(bgr), rtol=0, atol=1e-4)


def test_a_file_that_says_its_convention_is_loaded_by_what_it_says(
    caffe, tmp_path, gives_the_bundled_weights
):
    metadata = np.array('{"input_convention": "caffe"}')
    np.savez(tmp_path / "caffe.npz", **caffe, __metadata__=metadata)
    gives_the_bundled_weights(tmp_path / "caffe.npz", atol=1e-4)
    gives_the_bundled_weights(tmp_path / "caffe.npz", atol=1e-4, convention="caffe")
    with pytest.raises(ValueError, match=r"says .* 'caffe', but 'course' was asked for"):
        read_weights(tmp_path / "caffe.npz", convention="course")


def test_an_unknown_convention_is_refused(caffe, tmp_path):
    with pytest.raises(ValueError, match="'course', but 'caffe' was asked for"):
        read_weights("imagenet", convention="caffe")
    with pytest.raises(ValueError, match="convention is 'bgr', expected one of course, caffe"):
        read_weights("imagenet", convention="bgr")
    metadata = np.array('{"input_convention": "torch"}')
    np.savez(tmp_path / "a.npz", **caffe, __metadata__=metadata)
    with pytest.raises(ValueError, match=r" torch, but only course and caffe are known"):
        read_weights(tmp_path / "a.npz")


def test_a_keras_2_file_with_a_second_set_of_names_is_refused(arrays, tmp_path):
    path = forms.write_keras2(tmp_path / "weights.h5", arrays)
    with h5py.File(path, "r+") as file:
        file["conv1/again/kernel:0"] = arrays["conv1/kernel"]
    with pytest.raises(ValueError, match=r"holds conv1/kernel twice"):
        read_weights(path)
