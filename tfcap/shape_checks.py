"""The edge of ``functional.py``: what enters is checked, and NumPy becomes tensors and comes back.

A function states what it takes, ``@checks_shapes(x="N T D", Wx="D 4H", mask="bool N T")``, and its text
then deals with tensors that fit.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from visualization.backend import keras, tf

Sizes = dict[str, int | None]  # N, T, D, ... as far as they are known before running


class Cache(tuple):
    """What a forward function keeps for its backward function, with the sizes it was made for."""

    sizes: Sizes

    @classmethod
    def of(cls, kept: tuple, sizes: Sizes) -> Self:
        cache = cls(kept)
        cache.sizes = sizes
        return cache


def checks_shapes(**expected: str) -> Callable[[Callable], Callable]:
    """Declares arrays: ``x="N T D"`` of floats, ids ``y="int N T"``, a mask ``mask="bool N T"``.

    A letter means one size throughout a call; ``4H`` is four times H, and ``...D`` any number of
    axes with D numbers in all. Arguments that are not named, or are None, pass as they are.

    The function gets tensors. If the caller gave no tensor, results are NumPy arrays: new ones,
    writable, of the inputs' dtype. A cache is left as it is. Raises as `check` does.
    """

    def decorate(function: Callable) -> Callable:
        parameters = inspect.signature(function)

        @functools.wraps(function)
        def edge(*args: Any, **kwargs: Any) -> Any:
            call = parameters.bind(*args, **kwargs)
            given = [call.arguments[name] for name in expected if name in call.arguments]
            cache = call.arguments.get("cache")
            sizes = check(edge, call.arguments, cache.sizes if isinstance(cache, Cache) else {})
            results = function(*call.args, **call.kwargs)
            results = list(results) if isinstance(results, tuple) else [results]
            if isinstance(results[-1], tuple):
                results[-1] = Cache.of(results[-1], sizes)
            if tf.executing_eagerly() and not any(map(_is_tensor, given)):
                results = [value.numpy() if tf.is_tensor(value) else value for value in results]
            return tuple(results) if len(results) > 1 else results[0]

        edge.__dict__["expected"] = expected
        return edge

    return decorate


def check(function: Callable, arguments: dict[str, Any], sizes: Sizes | None = None) -> Sizes:
    """Turns the declared arguments into tensors, in place, and returns the sizes they agree on.

    `sizes` are those known already. Raises TypeError for a wrong dtype and ValueError for shapes
    that do not fit, before anything is computed; sizes that are only known when the graph runs are
    asserted there (``tf.errors.InvalidArgumentError``; ``jit_compile`` drops such assertions).
    """
    expected: dict[str, str] = vars(function)["expected"]
    expected = {name: axes for name, axes in expected.items() if arguments.get(name) is not None}
    for name, axes in expected.items():
        arguments[name] = _tensor(arguments[name], name, axes, function.__name__)
    floats = {
        name: arguments[name].dtype.name
        for name, axes in expected.items()
        if not axes.startswith(("int", "bool"))
    }
    if len(set(floats.values())) > 1:
        received = ", ".join(f"{name} {dtype}" for name, dtype in floats.items())
        raise TypeError(
            f"{function.__name__} expects arrays of one floating dtype, received {received}: "
            "cast them to the same"
        )
    problem = f"{function.__name__}: {{}}; expected " + ", ".join(
        f"{name} ({', '.join(_axes(axes))})" for name, axes in expected.items()
    )
    problem += ", received " + ", ".join(
        f"{name} {tuple(arguments[name].shape)}" for name in expected
    )
    found: dict[str, list[tuple[str, Any]]] = {}  # size by size, who has it and how much it is
    for letter, size in (sizes or {}).items():
        found[letter] = [("the forward function", size)] if size is not None else []
    for name, axes in expected.items():
        for letter, size in _sizes(name, _axes(axes), arguments[name], problem):
            found.setdefault(letter, []).append((name, size))
    known = {letter: _agreed(letter, claims, problem) for letter, claims in found.items()}
    for letter, size in known.items():
        if size is None and letter not in "NT":
            raise ValueError(
                problem.format(f"{letter} is not known, tell it to the graph by tf.ensure_shape")
            )
    demands = _assertions(found, problem)
    if demands:
        with tf.control_dependencies(demands):
            for name, axes in expected.items():
                arguments[name] = tf.ensure_shape(arguments[name], _shape(axes, known))
    return known


def _shape(axes: str, known: Sizes) -> list[int | None] | None:
    """What is known of an array's shape from all arrays together."""
    if "..." in axes:
        return None
    sizes = [(factor, known[letter]) for factor, letter in map(_factor, _axes(axes))]
    return [None if size is None else factor * size for factor, size in sizes]


def _sizes(name: str, axes: list[str], value: Any, problem: str) -> list[tuple[str, Any]]:
    """What one array says about the sizes: an int each, or a tensor if that is not known yet."""
    shape: list[int | None] = value.shape.as_list()
    if axes[-1].startswith("..."):
        rest = shape[len(axes) - 1 :]
        known = [size for size in rest if size is not None]
        shape = [*shape[: len(axes) - 1], math.prod(known) if len(known) == len(rest) else -1]
    if len(shape) != len(axes):
        raise ValueError(problem.format(f"{name} must have {len(axes)} axes, not {len(shape)}"))
    sizes: list[tuple[str, Any]] = []
    for axis, (letters, size) in enumerate(zip(axes, shape, strict=True)):
        factor, letter = _factor(letters)
        if size is None:
            sizes.append((letter, tf.shape(value)[axis] // factor))
        elif size % factor:
            raise ValueError(problem.format(f"axis {axis} of {name} is no multiple of {factor}"))
        elif size >= 0:
            sizes.append((letter, size // factor))
    return sizes


def _agreed(letter: str, claims: list[tuple[str, Any]], problem: str) -> int | None:
    """The one size that all arrays give to a letter, None if that is not known yet."""
    static = [(name, size) for name, size in claims if isinstance(size, int)]
    if not static:
        return None
    name, size = static[0]
    for other, different in static:
        if different != size:
            raise ValueError(
                problem.format(f"{letter} is {size} by {name} and {different} by {other}")
            )
    if letter == "T" and size == 0:
        raise ValueError(problem.format("T is 0, give at least one step"))
    return size


def _assertions(found: dict[str, list[tuple[str, Any]]], problem: str) -> list[tf.Operation]:
    """For the sizes that are not known yet, the same demands as operations of the graph."""
    demands = []
    for letter, claims in found.items():
        for name, size in claims:
            if isinstance(size, int):
                continue
            if letter == "T":
                message = problem.format("T is 0, give at least one step")
                demands.append(tf.debugging.assert_positive(size, message))
            first, reference = next((claim for claim in claims if claim[1] is not size), (None, 0))
            if first is not None:
                message = problem.format(f"{letter} by {name} is not {letter} by {first}")
                demands.append(tf.debugging.assert_equal(size, reference, message))
    return [demand for demand in demands if demand is not None]


def _tensor(value: Any, name: str, axes: str, function: str) -> Any:
    """The value as a tensor of the kind that `axes` asks for; NumPy is copied, never shared."""
    if not _is_tensor(value):
        value = np.array(value)
        if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
            raise TypeError(f"{function} expects numbers in {name}, received dtype {value.dtype}")
    tensor = tf.convert_to_tensor(value)
    if tensor.shape.rank is None:
        raise ValueError(
            f"{function} must know how many axes {name} has, received a tensor of unknown rank: "
            "tell its shape to the graph by tf.ensure_shape"
        )
    dtype = tensor.dtype
    if axes.startswith("bool"):
        if dtype.is_complex:
            raise TypeError(f"{function} expects a boolean mask in {name}, received {dtype.name}")
        return tf.cast(tensor, tf.bool)
    if axes.startswith("int"):
        if not dtype.is_integer:
            raise TypeError(
                f"{function} expects integer ids in {name}, received {dtype.name}: cast them"
            )
        if dtype not in (tf.int32, tf.int64):  # the widths that TensorFlow looks words up by
            tensor = tf.cast(tensor, tf.int64)
    elif not dtype.is_floating:
        raise TypeError(
            f"{function} expects floating point numbers in {name}, received {dtype.name}: cast them"
        )
    return tensor


def _is_tensor(value: Any) -> bool:
    return tf.is_tensor(value) or isinstance(value, tf.Variable | keras.Variable)


def _axes(declared: str) -> list[str]:
    return [axis for axis in declared.split() if axis not in ("int", "bool")]


def _factor(letters: str) -> tuple[int, str]:
    """``"4H"`` is (4, "H"), ``"...D"`` is (1, "D")."""
    match = re.fullmatch(r"(\d*)(?:\.\.\.)?([A-Z])", letters)
    if match is None:
        raise ValueError(f"{letters!r} is no axis: write a capital letter, 4H or ...D")
    return int(match[1] or 1), match[2]
