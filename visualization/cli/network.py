"""The network that a command looks at: a bundled one with any weights, or a user's model."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from visualization.cli.running import loading_tensorflow
from visualization.cli.user_model import load_user_model, parse_user_model
from visualization.files.hdf5 import open_hdf5
from visualization.files.kinds import HDF5, describe
from visualization.files.regular_file import read_file
from visualization.networks.imagenet import find_class
from visualization.networks.specification import (
    NETWORKS,
    NetworkSpecification,
    network_specification,
)
from visualization.weight_files.architectures import EFFICIENTNET_LITE2, SQUEEZENET
from visualization.weight_files.weight_file import MAX_BYTES

if TYPE_CHECKING:
    import numpy as np

    from visualization.backend import keras

__all__ = ["Network", "open_network", "shown"]

_ARCHITECTURES = {"squeezenet": SQUEEZENET, "efficientnet-lite2": EFFICIENTNET_LITE2}


def open_network(arguments: argparse.Namespace) -> Network:
    """The network that a command's arguments name; several that ``--network`` names as one.

    Raises:
        ValueError, OSError: as `Network`; or ``--network`` names one twice, or several come with
            weights for one.

    Example:
        >>> both = ["squeezenet", "efficientnet-lite2"]
        >>> network = open_network(argparse.Namespace(network=both, weights="imagenet", model=None))
        >>> network.size, len(network.members)
        ((260, 260), 2)
    """
    named = arguments.network
    if isinstance(named, list) and len(named) == 1:
        arguments = argparse.Namespace(**vars(arguments) | {"network": named[0]})
    return _Several(arguments) if isinstance(named, list) and len(named) > 1 else Network(arguments)


class Network:
    """A Keras model and what a command must know to use it.

    Creating one checks the arguments without TensorFlow, so that wrong ones fail at once; `load` then
    builds the model.

    Args:
        arguments: a command's, with ``network``, ``weights`` and ``model``, and perhaps
            ``convention``, as `Parser.add_network_arguments` adds.

    Attributes:
        members: the networks that it consists of: itself, or several that are looked at as one.
        model: the Keras model, once loaded.
        kind: what its outputs are, see `visualization.outputs`, once `probabilities` was asked.
        specification: what it needs beside its weights; a user's model has one once it is loaded.
        record: where it comes from, with the file's sha256, for the command's JSON.

    Raises:
        ValueError, OSError: the weights or the model's file are missing, damaged or something else.

    Example:
        >>> network = Network(argparse.Namespace(network=None, weights="imagenet", model=None))
        >>> network.size, network.find_class("stingray")
        ((224, 224), 6)
        >>> network.load()
        >>> network.model.name
        'squeezenet'
    """

    model: keras.Model
    specification: NetworkSpecification
    kind = "softmax"

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._convention = getattr(arguments, "convention", None)
        self.members: Sequence[Network] = [self]
        if arguments.model is None:
            _check_no_size(arguments)
            from visualization.weight_files.loading import read_weights

            bundled = arguments.network or NETWORKS[0]
            self._architecture = _ARCHITECTURES[bundled]
            self.specification = network_specification(bundled)
            try:
                with loading_tensorflow(quiet=True):  # which reads TensorFlow checkpoints
                    weights = read_weights(
                        arguments.weights, self._architecture, convention=self._convention
                    )
            except ValueError as error:
                if not _is_whole_model(arguments.weights):
                    raise
                raise ValueError(
                    f"{error} (for a model of your own, give --model FILE.py:FUNCTION)"
                ) from error
            self.record = {
                "network": bundled,
                "weights": arguments.weights,
                "sha256": weights.sha256,
                "input_convention": weights.convention,
            }
        else:
            if arguments.network is not None:
                raise ValueError(
                    f"--network {arguments.network} and --model {arguments.model} are two networks: "
                    "give one of them"
                )
            if self._convention is not None:
                raise ValueError(
                    f"--convention {self._convention} is for --weights, but --model has its own "
                    "preprocessing: leave --convention out"
                )
            path, _ = parse_user_model(arguments.model)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.record = {"model": arguments.model, "sha256": digest}

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of its images; None before a user's model is loaded."""
        return self.specification.size if hasattr(self, "specification") else None

    @property
    def names(self) -> Sequence[str]:
        """The class names; empty before a user's model is loaded."""
        return self.specification.names if hasattr(self, "specification") else ()

    def load(self) -> None:
        """Builds the model; a user's is tried on one blank image.

        Raises:
            ValueError: the user's file fails, or what its function returns cannot be used.
        """
        if self._arguments.model is None:
            import visualization

            build = getattr(visualization, self._architecture.builder)
            self.model = build(weights=None)
            visualization.load_weights(
                self.model, self._arguments.weights, convention=self._convention
            )
        else:
            size = getattr(self._arguments, "input_size", None)
            loaded = load_user_model(self._arguments.model, tuple(size) if size else None)
            self.model, self.specification = loaded

    def others(self) -> list[Network]:
        """The other bundled networks with their bundled weights, loaded; none for a user's model."""
        if self._arguments.model is not None:
            return []
        named = [member.record["network"] for member in self.members]
        others = [_bundled(name) for name in NETWORKS if name not in named]
        for other in others:
            other.load()
        return others

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """What the loaded model sees in photographs of any size: uint8 (N, H, W, 3) -> (N, K)."""
        from visualization.gradients import predict

        found = predict(self.model, self.specification.to_input(images))
        self.kind = found.kind
        return found.probabilities

    def number(self, probability: float) -> dict[str, float]:
        """One of `probabilities` for a record, by its right name: a regression gives values."""
        return {"value" if self.kind == "values" else "probability": float(probability)}

    def sees(self, probabilities: np.ndarray, target: int) -> bool:
        """Whether an image with these probabilities (K,) is taken for the target, as when fooling."""
        if self.kind == "sigmoid":
            return bool(probabilities[target] > 0.5)
        return int(probabilities.argmax()) == target

    def find_class(self, text: str) -> int:
        """The number of a class given by number or name; raises ValueError as `find_class` does."""
        return find_class(text, self.names)


class _Several(Network):
    """Bundled networks that are looked at as one, `visualization.build_ensemble` of them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        named = arguments.network
        if len(set(named)) < len(named):
            raise ValueError(f"--network {' '.join(named)}: name each network once")
        for option in ("model", "weights", "convention"):
            given = getattr(arguments, option, None)
            if given not in (None, "imagenet"):
                raise ValueError(
                    f"--{option} {given} is for one network, but --network names {len(named)}: "
                    f"name one, or leave --{option} out"
                )
        _check_no_size(arguments)
        self._arguments = arguments
        self.members = [_bundled(name) for name in named]

    @property
    def size(self) -> tuple[int, int]:
        return max(member.specification.size for member in self.members)

    @property
    def names(self) -> Sequence[str]:
        return self.members[0].names

    def load(self) -> None:
        from visualization.ensemble import build_ensemble

        for member in self.members:
            member.load()
        self.model, self.specification = build_ensemble(
            [(member.model, member.specification) for member in self.members]
        )


def shown(record: Mapping[str, Any], form: str) -> str:
    """The number of `Network.number` in a record, as text.

    Example:
        >>> shown({"probability": 0.055}, ".1%"), shown({"value": 34.25}, ".1%")
        ('5.5%', '34.25')
    """
    return f"{record['value']:.4g}" if "value" in record else f"{record['probability']:{form}}"


def _check_no_size(arguments: argparse.Namespace) -> None:
    if size := getattr(arguments, "input_size", None):
        raise ValueError(
            f"--input-size {size[0]} {size[1]} is for a --model that takes any size, but the bundled "
            "networks have sizes of their own: leave it out"
        )


def _is_whole_model(path: str) -> bool:
    """Whether a file is what Keras's `model.save` writes, ``.keras`` or ``.h5``."""
    try:
        content = read_file(path, "weight file", max_bytes=MAX_BYTES)
        if not content.startswith(HDF5):
            return "a whole Keras model" in (describe(content) or "")
        with open_hdf5(content, path) as file:
            return "model_weights" in file
    except (ValueError, OSError):
        return False


def _bundled(name: str) -> Network:
    return Network(argparse.Namespace(network=name, weights="imagenet", model=None))
