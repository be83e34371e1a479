"""``import tfcap`` is enough for Keras to load our layers, in whatever order the two are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfcap.layers
from tfcap import CaptioningRNN
from tfcap.registration import _CLASSES
from visualization.backend import keras

ROOT = Path(__file__).resolve().parent.parent.parent
LOAD = """
model = keras.models.load_model("captioner.keras")
layers = keras.models.load_model("layers.keras")
print(type(model).__name__, [type(layer).__name__ for layer in layers.layers])
"""
TFCAP_FIRST = """
import os, sys, tfcap
assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
assert not {"tensorflow", "keras"} & set(sys.modules)
import keras
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
    CaptioningRNN(words, 3, 4, 5).save(folder / "captioner.keras")
    layers = [tfcap.layers.LSTM(3, return_sequences=True), tfcap.layers.RNN(2)]
    keras.Sequential([keras.Input((4, 3)), *layers]).save(folder / "layers.keras")
    return folder


@pytest.mark.parametrize("imports", [TFCAP_FIRST, "import keras, tfcap"], ids=["first", "second"])
def test_importing_tfcap_is_enough_to_load_a_model(imports, files):
    environment = {key: value for key, value in os.environ.items() if "ONEDNN" not in key}
    done = subprocess.run(
        [sys.executable, "-c", imports + LOAD],
        cwd=files,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "CaptioningRNN ['LSTM', 'RNN']", done.stderr


def test_every_class_is_in_the_table_under_its_own_name():
    registered = keras.saving.get_custom_objects()
    ours = {name for name in registered if name.startswith("tfcap>")}
    assert ours == {f"tfcap>{name}" for name in _CLASSES}
    for name, module in _CLASSES.items():
        assert getattr(sys.modules[module], name) is registered[f"tfcap>{name}"]


def test_what_is_wrong_with_a_configuration_is_said_without_its_vocabulary():
    words = {"<NULL>": 0, "<START>": 1, **{f"word{k}": k for k in range(2, 1000)}}
    written = keras.saving.serialize_keras_object(CaptioningRNN(words, 3, 4, 5))
    for wrong in ({"word_to_idx": dict.fromkeys(words, "a")}, {"input_dim": "three"}, {"more": 1}):
        changed = {**written, "config": {**written["config"], **wrong}}
        with pytest.raises(ValueError, match=r"word|input_dim|more") as raised:
            keras.saving.deserialize_keras_object(changed)
        assert len(str(raised.value)) < 300
