"""What is compiled for a model: made once, kept as long as the model lives, or until `forget`."""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from visualization.backend import keras
from visualization.input_checks import check_counts

__all__ = ["BATCH_SIZE", "GetModel", "compiled", "forget", "in_batches", "traced_alone"]

BATCH_SIZE = 25  # images at a time, unless a caller says otherwise

GetModel = Callable[[], keras.Model]


def compiled(
    model: keras.Model, build: Callable[..., Callable[..., Any]], *settings: Any
) -> Callable[..., Any]:
    """Returns the `tf.function` that `build(get_model, *settings)` makes, made once for each model.

    `get_model()` returns the model while it is alive: the compiled function must not hold it, so that a
    model which its user deletes is freed together with everything compiled for it. Weights that
    change later are seen; layers or activations that are exchanged later are not, see `forget`. It
    runs as a graph also while `tf.config.run_functions_eagerly(True)` is set, as people do to debug.

    Example:
        >>> from visualization.backend import tf
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> build = lambda get_model: tf.function(lambda x: get_model()(x))
        >>> compiled(model, build) is compiled(model, build)
        True
    """
    with _tracing:
        functions = _compiled.setdefault(model, {})
        key = (build, *settings)
        if key not in functions:
            functions[key] = _as_graph(build(weakref.ref(model), *settings))
        return functions[key]


def forget(model: keras.Model) -> None:
    """Drops what was compiled for a model, so that the next call sees it as it is now.

    Needed after a layer, an activation or the like was exchanged in a model that this package has seen,
    or `enable_lora` was called. Weights that change are seen without.

    Example:
        >>> from visualization import predict_scores
        >>> layers = [keras.layers.Flatten(), keras.layers.Activation("linear")]
        >>> model = keras.Sequential([keras.Input((1, 1, 2)), *layers])
        >>> X = np.float32([[[[-1, 2]]]])
        >>> predict_scores(model, X).tolist()
        [[-1.0, 2.0]]
        >>> model.layers[-1].activation = keras.activations.relu
        >>> forget(model)
        >>> predict_scores(model, X).tolist()
        [[0.0, 2.0]]
    """
    with _tracing:
        _compiled.pop(model, None)


def in_batches(
    function: Callable[..., Any], batch_size: int, *arrays: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Calls `function` on `batch_size` rows of the arrays at a time and joins what it returns.

    The memory that is needed thus does not grow with the number of rows.

    Example:
        >>> from visualization.backend import tf
        >>> in_batches(lambda x: (tf.constant(2 * x),), 2, np.arange(3))[0].tolist()
        [0, 2, 4]
    """
    check_counts(batch_size=batch_size)
    batches = []
    for start in range(0, len(arrays[0]), batch_size):
        results = function(*(array[start : start + batch_size] for array in arrays))
        batches.append([tensor.numpy() for tensor in results])
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


@contextlib.contextmanager
def traced_alone() -> Iterator[None]:
    """Lets one thread at a time call models into a graph: what a trace changes, another would see.

    Example:
        >>> with traced_alone():
        ...     pass
    """
    with _tracing:
        yield


def _as_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    if not hasattr(function, "get_concrete_function"):
        return function
    # which TensorFlow also does not warn of, as it does of a function that is traced often
    return lambda *arguments: function.get_concrete_function(*arguments)(*arguments)


_tracing = threading.RLock()
_compiled: weakref.WeakKeyDictionary[keras.Model, dict[Any, Any]] = weakref.WeakKeyDictionary()
