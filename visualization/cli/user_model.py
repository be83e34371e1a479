"""``--model FILE.py:FUNCTION``: runs a user's file, and checks the model that its function returns."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualization.networks.specification import NetworkSpecification

if TYPE_CHECKING:
    from visualization.backend import keras

__all__ = ["load_user_model", "parse_user_model"]


def parse_user_model(argument: str) -> tuple[Path, str]:
    """Splits ``FILE.py:FUNCTION`` into the file, which must exist, and the function's name.

    Raises:
        ValueError, FileNotFoundError: the argument has another form, or the file is missing.

    Example:
        >>> _ = Path("mine.py").write_text("def build(): ...")
        >>> path, function = parse_user_model("mine.py:build")
        >>> function
        'build'
    """
    path, _, function = argument.rpartition(":")
    if not path or not function.isidentifier():
        raise ValueError(
            f"--model {argument}: expected FILE.py:FUNCTION, a function that builds your model, loads "
            "its weights and returns (model, preprocess, bounds, class names)"
        )
    if not Path(path).is_file():
        raise FileNotFoundError(f"--model {argument}: there is no file {path}")
    return Path(path), function


def load_user_model(
    argument: str, size: tuple[int, int] | None = None
) -> tuple[keras.Model, NetworkSpecification]:
    """Runs the file and calls the function, which returns (model, preprocess, bounds, class names).

    Args:
        argument: ``FILE.py:FUNCTION``.
        size: (height, width) of the images for a model that takes any; 224 by 224 unless given.

    Returns:
        The model, with one output (N, K), and what it needs beside its weights.

    Raises:
        ValueError: the file fails, or what the function returns cannot be used; the message names
            the line of the user's file.

    Example:
        >>> _ = Path("small.py").write_text('''
        ... import keras
        ... def build():
        ...     layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
        ...     return keras.Sequential(layers), lambda pixels: pixels / 255, (0, 255), ["cat", "dog"]
        ... ''')
        >>> _, specification = load_user_model("small.py:build")
        >>> specification.size
        (8, 8)
    """
    path, function = parse_user_model(argument)
    try:
        return _checked_model(_call(path, function), path, size)
    except ValueError as error:
        raise ValueError(f"--model {argument}: {error}") from error


def _call(path: Path, function: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{path.stem} of --model", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # where dataclasses look for it
    sys.path.insert(0, str(path.absolute().parent))  # as Python does for a program that it runs
    try:
        spec.loader.exec_module(module)
        found = getattr(module, function, None)
        if callable(found):
            return found()
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        raise ValueError(_describe(error, path)) from error
    raise ValueError(f"{path} defines no function {function}()")


def _checked_model(
    returned: Any, path: Path, asked: tuple[int, int] | None
) -> tuple[keras.Model, NetworkSpecification]:
    import numpy as np

    from visualization.backend import keras
    from visualization.gradients import predict_scores
    from visualization.images.pixel_scaling import PixelScaling

    if not (
        isinstance(returned, tuple) and len(returned) == 4 and isinstance(returned[0], keras.Model)
    ):
        raise ValueError(
            f"the function returned {type(returned).__name__}, "
            "expected a tuple (keras.Model, preprocess, bounds, class names)"
        )
    model, preprocess, bounds, names = returned
    shape = getattr(model, "input_shape", None)
    size = asked or (224, 224)
    if isinstance(shape, tuple):
        if len(shape) != 4 or shape[3] != 3:
            raise ValueError(f"the model takes {shape}, expected RGB images, (None, H, W, 3)")
        size = shape[1] or size[0], shape[2] or size[1]
        if asked and size != asked:
            raise ValueError(
                f"the model takes {shape[1:3]}, not --input-size {asked[0]} {asked[1]}"
            )
    if not callable(preprocess):
        raise ValueError(
            f"preprocess is {preprocess!r}, expected a function of pixels: "
            "for none, return 'lambda pixels: pixels'"
        )

    def try_out(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # the user's code can raise anything
            raise ValueError(
                f"{what} fails on a blank image {arguments[-1].shape}: {_describe(error, path)}"
            ) from error

    blank = np.zeros((1, *size, 3), np.float32)
    try_out("preprocess", preprocess, blank)
    black = PixelScaling(preprocess, bounds).to_input(blank)
    count = try_out("the model", predict_scores, model, black).shape[1]
    listed = isinstance(names, Iterable) and not isinstance(names, str | bytes | Mapping)
    checked = list(names) if listed else []
    if len(checked) != count or not all(isinstance(name, str) for name in checked):
        raise ValueError(
            f"the class names are {_abbreviated(names)}, expected a list of {count} strings, one for "
            "each score of the model"
        )
    return model, NetworkSpecification(size, preprocess, bounds, checked)


def _describe(error: BaseException, path: Path) -> str:
    """The error, and the last line of the user's file on the way to it."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).absolute() == path.absolute()
    ]
    where = f"{path}, line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"


def _abbreviated(value: Any) -> str:
    text = repr(value)
    length = f" ({len(value)} of them)" if hasattr(value, "__len__") else ""
    return text if len(text) <= 60 else f"{text[:60]}...{length}"
