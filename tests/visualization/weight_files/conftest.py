"""What the tests of weight files share: a TensorFlow checkpoint, a model to load into."""

import shutil

import pytest

from tests import forms
from visualization import SqueezeNet


@pytest.fixture(scope="session")
def whole(arrays, tmp_path_factory):
    """A TF2 checkpoint, which no test changes."""
    return forms.write_tf2(tmp_path_factory.mktemp("whole") / "squeezenet.ckpt", arrays)


@pytest.fixture
def prefix(whole, tmp_path):
    """A copy of it, which a test may break."""
    for path in whole.parent.glob("squeezenet.ckpt.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "squeezenet.ckpt"


@pytest.fixture(scope="session")
def model():
    return SqueezeNet(weights=None)
