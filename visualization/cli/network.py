"""The network that a command looks at: SqueezeNet with any weights, or a user's model."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from visualization.cli.running import loading_tensorflow
from visualization.cli.user_model import load_user_model, parse_user_model
from visualization.networks.imagenet import class_names, find_class

if TYPE_CHECKING:
    from visualization.backend import keras

__all__ = ["Network"]


class Network:
    """A Keras model and what a command must know to use it.

    Creating one checks the arguments without TensorFlow, so that wrong ones fail at once; `load` then
    builds the model.

    Args:
        arguments: a command's, with ``weights`` and ``model`` as `Parser.add_network_arguments` adds.

    Attributes:
        model: the Keras model, once loaded.
        preprocess, bounds: as `visualization.make_fooling_images` takes them.
        size: (height, width) of its images; None before a user's model is loaded.
        names: the class names; empty before a user's model is loaded.
        record: where it comes from, with the file's sha256, for the command's JSON.

    Raises:
        ValueError, OSError: the weights or the model's file are missing, damaged or something else.

    Example:
        >>> network = Network(argparse.Namespace(weights="imagenet", model=None))
        >>> network.size, network.find_class("stingray")
        ((224, 224), 6)
        >>> network.load()
        >>> network.model.name
        'squeezenet'
    """

    model: keras.Model
    preprocess: Callable[[Any], Any] | None
    bounds: tuple[float, float]
    size: tuple[int, int] | None
    names: Sequence[str]

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        if arguments.model is None:
            from visualization.weight_files.loading import read_weights

            # What SqueezeNet takes; PixelScaling's default preprocessing is SqueezeNet's.
            self.preprocess, self.bounds, self.size = None, (0, 255), (224, 224)
            self.names = class_names()
            with loading_tensorflow(quiet=True):  # which reads TensorFlow checkpoints
                digest = read_weights(arguments.weights).sha256
            self.record = {"weights": arguments.weights, "sha256": digest}
        else:
            self.size, self.names = None, ()
            path, _ = parse_user_model(arguments.model)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.record = {"model": arguments.model, "sha256": digest}

    def load(self) -> None:
        """Builds the model; a user's is tried on one blank image.

        Raises:
            ValueError: the user's file fails, or what its function returns cannot be used.
        """
        if self._arguments.model is None:
            from visualization.networks.squeezenet import SqueezeNet

            self.model = SqueezeNet(weights=self._arguments.weights)
        else:
            loaded = load_user_model(self._arguments.model)
            self.model, self.preprocess, self.bounds, self.size, self.names = loaded

    def find_class(self, text: str) -> int:
        """The number of a class given by number or name; raises ValueError as `find_class` does."""
        return find_class(text, self.names)
