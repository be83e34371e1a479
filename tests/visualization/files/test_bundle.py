import hashlib
import shutil
import subprocess
from pathlib import Path

import h5py
import pytest

from visualization import SqueezeNet, class_names
from visualization.files.bundle import BUNDLE, CLASSES, IMAGENET, manifest
from visualization.networks import imagenet

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A copy of the bundle that a test may damage."""
    for name in ("manifest.json", IMAGENET, CLASSES):
        shutil.copy(BUNDLE / name, tmp_path)
    monkeypatch.setattr("visualization.files.bundle.BUNDLE", tmp_path)
    monkeypatch.setattr("visualization.weight_files.locate.BUNDLE", tmp_path)
    return tmp_path


def test_a_bundle_with_one_changed_byte_is_refused_before_it_is_parsed(bundle, monkeypatch):
    content = bytearray((bundle / IMAGENET).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / IMAGENET).write_bytes(content)
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(ValueError, match=r"damaged: its sha256 is .*git checkout"):
        SqueezeNet()


def test_class_names_that_were_changed_are_refused(bundle, monkeypatch):
    path = bundle / CLASSES
    monkeypatch.setattr(imagenet, "_bundled_names", imagenet._bundled_names.__wrapped__)
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
    path = bundle / IMAGENET
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="size is 5044719 instead of 5044720"):
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
    for name, entry in manifest().items():
        content = (BUNDLE / name).read_bytes()
        assert entry["size"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["source"]
        assert entry["licence"]
    notices = (BUNDLE / "NOTICES").read_text()
    assert "BSD LICENSE" in notices
    assert "Copyright (c) 2020, ML Illustrated" in notices
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in notices
    assert "Copyright (c) 2019 Primoz Godec" in notices
