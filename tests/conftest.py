"""What several tests share: the bundled network, a photograph, and where the data sets lie."""

import functools
import os
from pathlib import Path

import matplotlib
import pytest

import visualization
from visualization import load_image
from visualization.cli.network import Network
from visualization.weight_files.loading import read_weights

if "TFCAP_DATA" not in os.environ:
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if beside.is_dir():
        os.environ["TFCAP_DATA"] = str(beside)


@pytest.fixture(scope="session")
def data():
    """The folder of the data sets, which this project does not ship."""
    folder = os.environ.get("TFCAP_DATA")
    if not folder:
        pytest.skip("TFCAP_DATA names no folder with the data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def imagenet(data):
    """CS231n's 25 validation images: X uint8 (25, 224, 224, 3), y (25,)."""
    from visualization import load_imagenet_val

    try:
        X, y, _ = load_imagenet_val()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return X, y


@pytest.fixture(scope="session")
def arrays():
    """The bundled weights: variable path -> float32 array."""
    return read_weights("imagenet").arrays


@functools.cache
def built(name):
    """A bundled network, one for all tests of a process."""
    return getattr(visualization, name)()


@pytest.fixture(scope="session")
def squeezenet():
    return built("SqueezeNet")


@pytest.fixture(scope="session")
def lite2():
    return built("EfficientNetLite2")


@pytest.fixture(autouse=True)
def networks_of_commands_are_shared(monkeypatch):
    """To build and trace one takes seconds; every command is also run in a process of its own."""
    load = Network.load

    def load_shared(network):
        if (network._arguments.model, network._arguments.weights) == (None, "imagenet"):
            network.model = built(network._architecture.builder)
        else:
            load(network)

    monkeypatch.setattr(Network, "load", load_shared)


@pytest.fixture(scope="session")
def grace_hopper():
    """uint8 (224, 224, 3); class 457, bow tie."""
    return load_image(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"), 224)
