"""What lets Keras find our layers in a file after ``import tfcap``, which loads none of them.

Keras looks up the classes of a file in its table of custom objects. A stand-in for each of ours is put
there once Keras is imported, before or after this package; it imports the class when a file names it.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from types import ModuleType
from typing import Any

__all__ = ["register_with_keras"]

_CLASSES = {
    "AttentionLSTM": "tfcap.layers.attention",
    "AttentionLSTMCell": "tfcap.layers.attention",
    "CaptioningRNN": "tfcap.model",
    "LSTM": "tfcap.layers.recurrent",
    "LSTMCell": "tfcap.layers.recurrent",
    "RNN": "tfcap.layers.recurrent",
    "RNNCell": "tfcap.layers.recurrent",
    "TemporalAffine": "tfcap.layers.words",
    "TemporalSoftmaxLoss": "tfcap.layers.words",
    "WordEmbedding": "tfcap.layers.words",
}


def register_with_keras() -> None:
    """Makes the classes known to Keras, now or as soon as it is imported, which this does not do.

    Example:
        >>> register_with_keras()
        >>> from visualization.backend import keras
        >>> keras.saving.get_registered_object("tfcap>LSTM").__name__
        'LSTM'
    """
    loaded = sys.modules.get("keras")
    if loaded is not None and hasattr(loaded, "saving"):
        _register(loaded)
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _register(keras: ModuleType) -> None:
    objects = keras.saving.get_custom_objects()
    for name, module in _CLASSES.items():
        objects.setdefault(f"tfcap>{name}", _StandIn(name, module))


class _StandIn:
    """In the table for a class until the class is imported, which then takes the place itself."""

    def __init__(self, name: str, module: str) -> None:
        self.__name__, self.__module__ = name, module

    def from_config(self, config: dict[str, Any]) -> Any:
        return getattr(importlib.import_module(self.__module__), self.__name__).from_config(config)


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Calls `_register` when ``keras`` has been executed; found by Python as it always is."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register(module)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
