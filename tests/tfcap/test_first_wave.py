"""What the first version wrote still loads and gives the numbers that it gave then."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tfcap.layers import LSTM, RNN, assume_our_gate_order
from tfcap.model import CaptioningRNN
from visualization.backend import keras

WRITTEN = Path(__file__).parent.parent / "first_wave"
EXPECTED = np.load(WRITTEN / "expected.npz")
WORDS = ("<NULL>", "<START>", "<END>", "<UNK>", "a", "red", "circle")


def loss(captioner):
    features = np.linspace(-1, 1, 12).reshape(2, 6).astype("float32")
    return float(captioner.loss_and_gradients(features, [[1, 4, 5, 2], [1, 4, 6, 2]])[0])


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_captioner_s_folder(cell):
    folder = WRITTEN / f"captioner_{cell}"
    captioner = CaptioningRNN.from_pretrained(folder)
    assert (captioner.cell_type, captioner.encoder) == (cell, "squeezenet")
    assert captioner.feature_mean == 0.5
    assert tuple(captioner.idx_to_word) == WORDS
    with h5py.File(folder / "model.weights.h5") as file:
        assert set(file) == set(captioner.parameters)
        for name, variable in captioner.parameters.items():
            np.testing.assert_array_equal(file[name], variable)


def test_a_captioner_s_keras_file():
    with assume_our_gate_order():
        captioner = keras.saving.load_model(WRITTEN / "captioner.keras")
    assert loss(captioner) == pytest.approx(EXPECTED["loss"], rel=1e-6)
    assert int(captioner.optimizer.iterations) == 1


def test_a_captioner_s_weights():
    vocabulary = {word: idx for idx, word in enumerate(WORDS)}
    captioner = CaptioningRNN(vocabulary, 6, 4, 5, "lstm", feature_mean=0.5)
    captioner.compile("adam")
    with assume_our_gate_order():
        captioner.load_weights(WRITTEN / "captioner.weights.h5")
    assert loss(captioner) == pytest.approx(EXPECTED["loss"], rel=1e-6)


@pytest.mark.parametrize("name", ["layers.keras", "layers.weights.h5"])
def test_a_model_of_recurrent_layers(name):
    with assume_our_gate_order():
        if name.endswith(".keras"):
            model = keras.saving.load_model(WRITTEN / name)
        else:
            model = keras.Sequential([keras.Input((4, 3)), LSTM(5, return_sequences=True), RNN(4)])
            model.load_weights(WRITTEN / name)
    outputs = model(np.linspace(-1, 1, 24).reshape(2, 4, 3).astype("float32"))
    np.testing.assert_allclose(outputs, EXPECTED["layers"], rtol=1e-5)
