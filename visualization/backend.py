"""The one place that imports TensorFlow and Keras, after checking which backend Keras would use.

Keras reads its backend once, when it is first imported, and importing TensorFlow imports Keras. If
another backend is set, importing either from here raises one clear sentence, not an error deep inside.

Example:
    >>> from visualization.backend import keras, tf
    >>> keras.backend.backend()
    'tensorflow'
"""

import json
import os
import sys
from pathlib import Path


def _check_backend() -> None:
    """Raises ImportError if Keras runs, or is set to run, on another backend than TensorFlow."""
    loaded = sys.modules.get("keras")
    if loaded is not None and hasattr(loaded, "backend"):
        backend, where = loaded.backend.backend(), "already imported"
    else:
        backend, where = _configured_backend()
    if backend != "tensorflow":
        raise ImportError(
            f"Keras is set to the backend {backend!r} ({where}), but this package needs 'tensorflow': "
            "set the environment variable KERAS_BACKEND=tensorflow and restart Python"
        )


def _configured_backend() -> tuple[str, str]:
    """The backend that Keras will use when it is imported, and where it is configured."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"], "environment variable KERAS_BACKEND"
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
        return configuration.get("backend", "tensorflow"), str(path)
    except (OSError, ValueError, AttributeError):
        return "tensorflow", "Keras's default"


_check_backend()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides notes about CPU features, keeps errors

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

__all__ = ["keras", "tf"]
