"""Two logical processors, so that a distribution strategy has two replicas; what tests share."""

import numpy as np
import pytest
from PIL import Image

from tfcap import ops
from tfcap.model import CaptioningRNN
from visualization.backend import keras, tf


def pytest_configure() -> None:
    (processor,) = tf.config.list_physical_devices("CPU")[:1]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    """The paths of 80 images, 250x230 pixels, no two alike."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(1)
    names = [str(folder / f"{i:03}.png") for i in range(80)]
    for name in names:
        tones = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(tones).resize((250, 230), Image.Resampling.NEAREST).save(name)
    return names


@pytest.fixture
def way(request, monkeypatch):
    """The dtype and the tolerance for an op as it is, or compiled as those of large layers are."""
    if request.param == "plain":
        return "float64", 1e-12
    monkeypatch.setattr(ops, "COMPILED_FROM", 1)
    return "float32", 1e-5


WORDS = [
    "<NULL>",
    "<START>",
    "<END>",
    "<UNK>",
    "a",
    "dog",
    "runs",
    "on",
    "grass",
    "$5",
    "red",
    "cat",
]


@pytest.fixture(scope="session")
def captioner():
    """Of photographs; untrained, with weights so large that its words depend on what it sees."""
    words = WORDS
    keras.utils.set_random_seed(3)
    model = CaptioningRNN(
        {word: idx for idx, word in enumerate(words)}, 512, 8, 16, encoder="squeezenet"
    )
    for name, factor in (("W_proj", 0.5), ("W_vocab", 8)):
        variable = model.parameters[name]
        variable.assign(variable * factor)
    model.parameters["b_vocab"].assign(-4 * np.eye(len(words))[2])  # of <END>
    model.decoding["max_length"] = 7
    return model


@pytest.fixture(scope="session")
def looking():
    """With attention; untrained, looking here and there."""
    keras.utils.set_random_seed(3)
    model = CaptioningRNN(
        {word: idx for idx, word in enumerate(WORDS)},
        352,
        8,
        16,
        "attention",
        heads=2,
        encoder="efficientnet_lite2_cells",
    )
    for name, factor in (("W_keys", 3), ("Wq", 3), ("W_vocab", 8)):
        variable = model.parameters[name]
        variable.assign(variable * factor)
    model.parameters["b_vocab"].assign(-4 * np.eye(len(WORDS))[2])  # of <END>
    model.decoding["max_length"] = 7
    return model
