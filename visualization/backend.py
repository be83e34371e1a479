"""The one place that imports TensorFlow and Keras, after a look at which backend Keras would take.

Importing TensorFlow imports Keras, and Keras reads its backend once, when it is first imported:
whoever imports either from here gets one clear sentence instead of a failure deep inside.
"""

import json
import os
import platform
import sys
from pathlib import Path


def check_backend() -> None:
    """Raises ImportError if Keras runs, or is set to run, on another backend than TensorFlow."""
    loaded = sys.modules.get("keras")
    if loaded is not None and hasattr(loaded, "backend"):
        backend, where, remedy = (
            loaded.backend.backend(),
            "already imported",
            "start Python anew and ",
        )
    else:
        backend, where = _configured_backend()
        remedy = ""
    if backend != "tensorflow":
        raise ImportError(
            f"Keras is set to the backend {backend!r} ({where}), but this package needs 'tensorflow': "
            f"{remedy}set the environment variable KERAS_BACKEND=tensorflow"
        )


def _configured_backend() -> tuple[str, str]:
    """The backend that Keras will take when it is imported, and where that is said."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"], "environment variable KERAS_BACKEND"
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    path = Path(home) / "keras.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        return settings.get("backend", "tensorflow"), str(path)
    except (OSError, ValueError, AttributeError):
        return "tensorflow", "Keras's default"


check_backend()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides notes about CPU features, keeps errors
# oneDNN's convolutions and pooling, which TensorFlow takes by itself only on processors with AVX-512: a
# third less time for a batch of saliency maps on one without.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

__all__ = ["keras", "tf"]
