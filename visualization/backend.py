"""The one place that imports TensorFlow and Keras, after checking which backend Keras would use.

Keras reads its backend once, when it is first imported, and importing TensorFlow imports Keras. If
another backend is set, importing either from here raises one clear sentence, not an error deep inside.

Example:
    >>> from visualization.backend import keras, tf
    >>> keras.backend.backend()
    'tensorflow'
"""

import contextlib
import gc
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
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


_NOTE = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl")


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Keeps notes of TensorFlow's libraries off the terminal, such as that there is no GPU.

    They come before any setting can stop them. Whoever sets TF_CPP_MIN_LOG_LEVEL to 0 or 1 sees them.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") < "2":
        yield
        return
    with tempfile.TemporaryFile() as held_back:
        try:
            terminal = os.dup(2)
        except OSError:  # a process without a standard error
            yield
            return
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held_back.seek(0)
            for line in held_back:
                if not _NOTE.match(line):
                    os.write(2, line)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Keeps Python from looking for garbage meanwhile: what an import makes stays, nearly all of it.

    Looking through it, over and over as it grows, takes a fifth of the time of the import.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


_check_backend()
with _without_notes(), _without_collections():
    import keras
    import tensorflow as tf

__all__ = ["keras", "tf"]
