"""The network that a command looks at: the bundled SqueezeNet, its other weights, or a user's model."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualization.cli.running import loading_tensorflow
from visualization.networks.imagenet import class_names, find_class

if TYPE_CHECKING:
    from visualization.backend import keras


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

    model: keras.Model

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.preprocess: Any = None
        self.bounds: tuple[float, float] = (0, 255)
        self.names: Sequence[str] = class_names()
        self.size: tuple[int, int] | None = (224, 224)
        self._arguments = arguments
        if arguments.model is None:
            from visualization.weight_files.loading import read_weights

            with loading_tensorflow(quiet=True):  # it reads its own checkpoints
                digest = read_weights(arguments.weights).sha256
            self.record = {"weights": arguments.weights, "sha256": digest}
        else:
            import hashlib

            path, self._function = _python_file(arguments.model)
            self._path, self.size, self.names = path, None, ()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.record = {"model": arguments.model, "sha256": digest}

    def load(self) -> None:
        """Imports TensorFlow and makes the model; a user's is tried on one blank image.

        Raises:
            ValueError: the user's file fails, or what its function returns cannot be used.
        """
        with loading_tensorflow(self._arguments.quiet):
            from visualization.backend import keras, tf

            tf.zeros(())  # starts the devices, which have something to say too

        keras.utils.set_random_seed(self._arguments.seed)
        if self._arguments.model is None:
            from visualization.networks.squeezenet import SqueezeNet

            self.model = SqueezeNet(weights=self._arguments.weights)
            return
        try:
            self._take(_call(self._path, self._function))
        except ValueError as error:
            raise ValueError(f"--model {self._arguments.model}: {error}") from error

    def _take(self, made: Any) -> None:
        """Checks and takes over what the user's function returned."""
        import numpy as np

        from visualization.backend import keras
        from visualization.gradients import predict_scores
        from visualization.images.pixel_scaling import PixelScaling

        if not (isinstance(made, tuple) and len(made) == 4 and isinstance(made[0], keras.Model)):
            raise ValueError(
                f"the function returned {type(made).__name__}, "
                "expected a tuple (keras.Model, preprocess, bounds, class names)"
            )
        self.model, self.preprocess, self.bounds, names = made
        shape: Any = getattr(self.model, "input_shape", None)
        if isinstance(shape, tuple) and (len(shape) != 4 or shape[3] != 3):
            raise ValueError(f"the model takes {shape}, expected RGB images, (None, H, W, 3)")
        fixed = isinstance(shape, tuple) and None not in shape[1:3]
        self.size = shape[1:3] if fixed else (224, 224)
        if not callable(self.preprocess):
            raise ValueError(
                f"preprocess is {self.preprocess!r}, expected a function of pixels: "
                "for none, return 'lambda pixels: pixels'"
            )
        blank = np.zeros((1, *self.size, 3), np.float32)
        self._try("preprocess", self.preprocess, blank)
        black = PixelScaling(self.preprocess, self.bounds).to_input(blank)
        count = self._try("the model", predict_scores, self.model, black).shape[1]
        listed = isinstance(names, Iterable) and not isinstance(names, str | bytes | Mapping)
        self.names = list(names) if listed else ()
        if len(self.names) != count or not all(isinstance(name, str) for name in self.names):
            raise ValueError(
                f"the class names are {_short(names)}, expected a list of {count} strings, one for "
                "each score of the model"
            )

    def _try(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # the user's own code may raise anything
            told = _told(error, self._path)
            raise ValueError(
                f"{what} fails on a blank image {arguments[-1].shape}: {told}"
            ) from error

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
    spec = importlib.util.spec_from_file_location(f"{path.stem} of --model", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # where dataclasses look for it
    sys.path.insert(0, str(path.absolute().parent))  # as for any program that is run
    try:
        spec.loader.exec_module(module)
        found = getattr(module, function, None)
        if callable(found):
            return found()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise ValueError(_told(error, path)) from error
    raise ValueError(f"{path} defines no function {function}()")


def _told(error: BaseException, path: Path) -> str:
    """The error, and the last line of the user's file on the way to it."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).absolute() == path.absolute()
    ]
    where = f"{path}, line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"


def _short(value: Any) -> str:
    text = repr(value)
    length = f" ({len(value)} of them)" if hasattr(value, "__len__") else ""
    return text if len(text) <= 60 else f"{text[:60]}...{length}"
