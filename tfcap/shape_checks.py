"""Input checks for `tfcap.functional`: shapes, dtypes, NumPy to tensors and back.

A function declares what it takes, ``@checks_shapes(x="N T D", Wx="D 4H", mask="bool N T")``, and its
body then deals with tensors that fit.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

from visualization.backend import keras, tf

__all__ = ["check", "checks_shapes", "in_range", "positive_integer"]

Tensor = Any
Sizes = dict[str, int | None]  # N, T, D, ...; None for a size that only the running graph knows


def checks_shapes(**declared: str) -> Callable[[Callable], Callable]:
    """Declares arrays: ``x="N T D"`` of floats, ids ``y="int N T"``, a mask ``mask="bool N T"``,
    weights ``mask="real N T"``, which may be integers or booleans.

    A letter means one size throughout a call; ``4H`` is four times H, and ``...D`` any number of
    axes with D numbers in all. Arguments that are not declared, or are None, pass as they are.

    The function gets tensors. If the caller gave no tensor, results are NumPy arrays: new ones,
    writable, of the inputs' dtype. A cache knows the function and the dtype that it is of: what is no
    tensor is cast to it, as gradients that NumPy makes are float64. Raises as `check` does, and for the
    cache of another function.

    Example:
        >>> @checks_shapes(x="N D", w="D")
        ... def product(x, w):
        ...     return tf.linalg.matvec(x, w)
        >>> product(np.ones((2, 3)), np.ones(3))
        array([3., 3.])
    """
    expected = {name: _Array.parse(text) for name, text in declared.items()}

    def decorate(function: Callable) -> Callable:
        parameters = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            call = parameters.bind(*args, **kwargs)
            given = [call.arguments[name] for name in expected if name in call.arguments]
            cache = call.arguments.get("cache")
            if "cache" in call.arguments:
                _check_cache(checked, call.arguments, cache)
            sizes = check(checked, call.arguments, getattr(cache, "sizes", None))
            results = function(*call.args, **call.kwargs)
            results = list(results) if isinstance(results, tuple) else [results]
            if isinstance(results[-1], tuple):
                of_floats = (n for n in expected if n in call.arguments and not expected[n].kind)
                dtype = call.arguments[next(of_floats)].dtype
                results[-1] = _Cache.of(results[-1], sizes, checked.__name__, dtype)
            if tf.executing_eagerly() and not any(map(_is_tensor, given)):
                results = [value.numpy() if tf.is_tensor(value) else value for value in results]
            return tuple(results) if len(results) > 1 else results[0]

        vars(checked)["expected"] = expected
        return checked

    return decorate


def check(function: Callable, arguments: dict[str, Any], sizes: Sizes | None = None) -> Sizes:
    """Turns the declared arguments into tensors, in place, and returns the sizes they agree on.

    Sizes that are not known before the graph runs are left to TensorFlow's operations.

    Args:
        function: what `checks_shapes` returned.
        arguments: by their names.
        sizes: those known already, from the cache of a forward function.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: shapes do not fit, or T is 0.

    Example:
        >>> from tfcap.functional import affine_forward
        >>> arguments = {"x": np.ones((2, 3)), "w": np.ones((3, 5)), "b": np.ones(5)}
        >>> check(affine_forward, arguments)
        {'N': 2, 'D': 3, 'M': 5}
    """
    expected: dict[str, _Array] = vars(function)["expected"]
    expected = {name: array for name, array in expected.items() if arguments.get(name) is not None}
    for name, array in expected.items():
        arguments[name] = _tensor(arguments[name], f"in {name} of {function.__name__}", array.kind)
    floats = {name: arguments[name].dtype.name for name in expected if expected[name].kind == ""}
    if len(set(floats.values())) > 1:
        received = ", ".join(f"{name} {dtype}" for name, dtype in floats.items())
        raise TypeError(
            f"{function.__name__} expects arrays of one floating dtype, received {received}: "
            "cast them to the same"
        )

    def misfit(what: str) -> ValueError:
        wanted = ", ".join(f"{name} ({', '.join(a.axes)})" for name, a in expected.items())
        received = ", ".join(f"{name} {tuple(arguments[name].shape)}" for name in expected)
        return ValueError(f"{function.__name__}: {what}; expected {wanted}, received {received}")

    known = dict(sizes or {})
    source = dict.fromkeys(known, "the forward function")  # of each letter's size
    for name, array in expected.items():
        for letter, size in array.sizes(name, arguments[name].shape.as_list(), misfit):
            if known.get(letter) is None:
                known[letter], source[letter] = size, name
            elif size not in (None, known[letter]):
                raise misfit(
                    f"{letter} is {known[letter]} by {source[letter]} and {size} by {name}"
                )
    if known.get("T") == 0:
        raise misfit("T is 0, give at least one step")
    if unknown := [
        letter for letter, size in known.items() if size is None and letter not in "NTIL"
    ]:
        raise misfit(f"{unknown[0]} is unknown, set it with tf.ensure_shape")
    for name, array in expected.items():
        if not arguments[name].shape.is_fully_defined() and "..." not in array.axes[-1]:
            arguments[name] = tf.ensure_shape(arguments[name], array.shape(known))
    return known


def in_range(ids: Tensor, size: int, what: str) -> Tensor:
    """The ids, once it is sure that all are in 0 ... size - 1.

    Args:
        ids: integers of any shape.
        size: the words in the vocabulary.
        what: the beginning of the error, such as "word_embedding_forward: x holds".

    Raises:
        ValueError: an id is out of range; in a graph it is tf.errors.InvalidArgumentError, and
            ``jit_compile`` drops the check.

    Example:
        >>> in_range(tf.constant([0, 2]), 3, "x holds").numpy().tolist()
        [0, 2]
    """
    expected = f"expected 0 to {size - 1}: check the ids against the vocabulary"
    if not tf.is_symbolic_tensor(ids):
        values = ids.numpy()
        if values.size and (values.min() < 0 or values.max() >= size):
            raise ValueError(f"{what} ids from {values.min()} to {values.max()}, {expected}")
        return ids
    fits = tf.reduce_all((ids >= 0) & (ids < tf.cast(size, ids.dtype)))
    check = tf.debugging.Assert(fits, [f"{what} an id out of range, {expected}"])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(ids)


def positive_integer(name: str, value: int) -> int:
    """The value as an int.

    Raises:
        ValueError: it is not an integer of at least 1; the message calls it `name`.

    Example:
        >>> positive_integer("units", np.int64(5))
        5
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer, received {value!r}")
    return int(value)


class _Cache(tuple):
    """What a forward function keeps for its backward function, and what it was made by and for."""

    sizes: Sizes
    function: str
    dtype: Any

    @classmethod
    def of(cls, kept: tuple, sizes: Sizes, function: str, dtype: Any) -> Self:
        cache = cls(kept)
        cache.sizes, cache.function, cache.dtype = sizes, function, dtype
        return cache


def _check_cache(backward: Callable, arguments: dict[str, Any], cache: Any) -> None:
    """Checks that the cache is of the forward function, and casts what is no tensor to its dtype."""
    name = backward.__name__
    forward = name.replace("_backward", "_forward")
    if not isinstance(cache, tuple | list):
        raise TypeError(
            f"{name} expects the cache that {forward} returned last, received a "
            f"{type(cache).__name__}"
        )
    function = getattr(cache, "function", None)  # a cache that passed through a graph has none
    if function is None:
        return
    # rnn_forward is rnn_sequence_forward, whose cache is the same
    if function.replace("_sequence", "") != forward.replace("_sequence", ""):
        raise ValueError(f"{name} expects the cache of {forward}, received that of {function}")
    dtype = cache.dtype  # type: ignore[union-attr]  # as it has a function
    for dout in vars(backward)["expected"]:
        value = arguments.get(dout)
        if value is None:
            continue
        if not _is_tensor(value):
            if np.asarray(value).dtype.kind == "f":
                arguments[dout] = tf.cast(np.array(value), dtype)
        elif value.dtype != dtype:
            received = tf.as_dtype(value.dtype).name
            raise TypeError(
                f"{name} expects {dout} of the dtype that {function} got, {dtype.name}, received "
                f"{received}: cast it"
            )


class _Array(NamedTuple):
    """A declaration: kind "int", "bool", "real" or "" for floats; axes such as "N", "4H", "...D"."""

    kind: str
    axes: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        match = re.fullmatch(r"(?:(int|bool|real) )?((?:(?:\d*|\.\.\.)[A-Z] ?)+)", text)
        if match is None:
            raise ValueError(f"{text!r} declares no array: write axes as N, 4H or ...D")
        return cls(match[1] or "", tuple(match[2].split()))

    def factors(self) -> list[tuple[int, str]]:
        """``"4H"`` is (4, "H"), ``"...D"`` is (1, "D")."""
        return [(int(axis[:-1].strip(".") or 1), axis[-1]) for axis in self.axes]

    def sizes(self, name: str, shape: list[int | None], misfit: Callable) -> list[tuple]:
        """The letters with the sizes that an array of this shape gives them, None if unknown."""
        if self.axes[-1].startswith("..."):
            place = len(self.axes) - 1
            rest = shape[place:]
            shape = [*shape[:place], None if None in rest else math.prod(rest)]  # type: ignore
        if len(shape) != len(self.axes):
            raise misfit(f"{name} must have {len(self.axes)} axes, not {len(shape)}")
        found = []
        for axis, ((factor, letter), size) in enumerate(zip(self.factors(), shape, strict=True)):
            if size is not None and size % factor:
                raise misfit(f"axis {axis} of {name} is not a multiple of {factor}")
            found.append((letter, None if size is None else size // factor))
        return found

    def shape(self, known: Sizes) -> list[int | None]:
        """What is known of the array's shape from all arrays together."""
        sizes = [(factor, known[letter]) for factor, letter in self.factors()]
        return [None if size is None else factor * size for factor, size in sizes]


def _tensor(value: Any, where: str, kind: str) -> Tensor:
    """The value as a tensor of the kind that was declared; NumPy is copied, never shared."""
    if not _is_tensor(value):
        value = np.array(value)
        if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
            raise TypeError(f"expected numbers {where}, received dtype {value.dtype}")
    tensor = tf.convert_to_tensor(value)
    dtype = tensor.dtype
    if tensor.shape.rank is None:
        raise ValueError(
            f"the number of axes {where} is unknown: set the shape with tf.ensure_shape"
        )
    if kind in ("bool", "real"):
        if dtype.is_complex:
            mask = "boolean mask" if kind == "bool" else "mask of booleans or weights"
            raise TypeError(f"expected a {mask} {where}, received {dtype.name}")
        return tf.cast(tensor, tf.bool) if kind == "bool" else tensor
    if kind == "int":
        if not dtype.is_integer:
            raise TypeError(f"expected integer ids {where}, received {dtype.name}: cast them")
        # the widths that TensorFlow looks words up by
        return tensor if dtype in (tf.int32, tf.int64) else tf.cast(tensor, tf.int64)
    if not dtype.is_floating:
        raise TypeError(
            f"expected floating-point numbers {where}, received {dtype.name}: cast them"
        )
    return tensor


def _is_tensor(value: Any) -> bool:
    return tf.is_tensor(value) or isinstance(value, tf.Variable | keras.Variable)
