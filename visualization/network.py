"""The network that a command looks at: the bundled SqueezeNet, its other weights, or a user's model."""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .classes import class_names, find_class

if TYPE_CHECKING:
    from .backend import keras


class Network:
    """A Keras model with all that a command must know about it.

    Made from a command's arguments before TensorFlow is imported, so that wrong ones are told at once;
    `load` imports it. ``--model FILE.py:FUNCTION`` runs the file and calls the function, which returns
    ``(model, preprocess, bounds, names)``: a Keras model with output (N, K); a function from pixels
    (N, H, W, 3) to its input, that scales, shifts or reorders the channels; the pixel values that it
    expects for black and white, for example (0, 255); and K class names.

    Attributes:
        model: the Keras model.
        preprocess, bounds: as `visualization.make_fooling_images` takes them.
        names: the class names.
        size: (height, width) of its images; None before a model of unknown size is loaded.
        record: where it comes from, with the file's sha256.

    Raises:
        ValueError, OSError: the weights or the model's file are missing, damaged or of another kind.
    """

    model: "keras.Model"

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.preprocess: Any = None
        self.bounds: tuple[float, float] = (0, 255)
        self.names: Sequence[str] = class_names()
        self.size: tuple[int, int] | None = (224, 224)
        self._arguments = arguments
        if arguments.model is None:
            from .checkpoints import read_weights

            digest = read_weights(arguments.weights)[1]
            self.record = {"weights": arguments.weights, "sha256": digest}
        else:
            import hashlib

            path, self._function = _python_file(arguments.model)
            self._path, self.size, self.names = path, None, ()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.record = {"model": arguments.model, "sha256": digest}

    def load(self) -> None:
        """Imports TensorFlow and makes the model."""
        from .backend import keras

        keras.utils.set_random_seed(self._arguments.seed)
        if self._arguments.model is None:
            from .squeezenet import SqueezeNet

            self.model = SqueezeNet(weights=self._arguments.weights)
            return
        made = _call(self._path, self._function)
        if not (isinstance(made, tuple) and len(made) == 4 and isinstance(made[0], keras.Model)):
            raise TypeError(
                f"--model {self._arguments.model}: the function returned {type(made).__name__}, "
                "expected a tuple (keras.Model, preprocess, bounds, class names)"
            )
        self.model, self.preprocess, self.bounds, self.names = made
        shape: Any = getattr(self.model, "input_shape", None)
        if isinstance(shape, tuple) and (len(shape) != 4 or shape[3] != 3):
            raise ValueError(
                f"--model {self._arguments.model}: the model takes {shape}, "
                "expected RGB images, (None, H, W, 3)"
            )
        fixed = isinstance(shape, tuple) and None not in shape[1:3]
        self.size = shape[1:3] if fixed else (224, 224)

    def find_class(self, text: str) -> int:
        """The number of a class given by number or name; raises ValueError as `find_class` does."""
        return find_class(text, self.names)


def _python_file(argument: str) -> tuple[Path, str]:
    path, _, function = argument.rpartition(":")
    if not path or not function.isidentifier():
        raise ValueError(f"--model {argument}: expected FILE.py:FUNCTION")
    if not Path(path).is_file():
        raise FileNotFoundError(f"--model {argument}: there is no file {path}")
    return Path(path), function


def _call(path: Path, function: str) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--model {path}: is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, function, None)):
            raise ValueError(f"it defines no function {function}()")
        return getattr(module, function)()
    except Exception as error:  # the user's own code may raise anything
        raise ValueError(f"--model {path}:{function}: {type(error).__name__}: {error}") from error
