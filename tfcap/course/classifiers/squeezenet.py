"""``cs231n.classifiers.squeezenet``: SqueezeNet as the course's notebooks load it."""

import functools
import os

import visualization
from visualization.backend import keras

__all__ = ["SqueezeNet"]


class SqueezeNet(keras.Model):
    """`visualization.SqueezeNet`, with the course's attributes.

    Args:
        save_path: a checkpoint in any form; by default the bundled weights.

    Attributes:
        num_classes: 1000.
        net: its layers, without the input, as ``net.layers``.

    Raises:
        OSError, ValueError: the checkpoint cannot be read.

    Example:
        >>> model = SqueezeNet()
        >>> len(model.net.layers), model.num_classes
        (14, 1000)
    """

    def __init__(self, save_path: str | os.PathLike[str] = "imagenet") -> None:
        network = visualization.SqueezeNet(save_path)
        super().__init__(network.input, network.output, name=network.name)

    @property
    def num_classes(self) -> int:
        return self.output_shape[-1]

    @functools.cached_property
    def net(self) -> keras.Sequential:
        return keras.Sequential(self.layers)

    def load_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Reads a checkpoint in any form, as `visualization.load_weights` does."""
        visualization.load_weights(self, filepath)
