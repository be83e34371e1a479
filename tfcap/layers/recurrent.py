"""The plain recurrent network and the LSTM: each a cell for one step and a layer for a sequence."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np

from tfcap import ops
from tfcap.layers.first_values import scaled
from tfcap.shape_checks import positive_integer
from visualization.backend import keras, tf

__all__ = [
    "LSTM",
    "RNN",
    "LSTMCell",
    "RNNCell",
    "assume_our_gate_order",
    "mask_of_steps",
    "swap_o_and_g",
]

Tensor = Any
register = keras.saving.register_keras_serializable("tfcap")

NOT_KEPT = ("recurrent_dropout", "implementation")  # Keras's arguments that change nothing here
PROPERTIES = ("initializer", "regularizer", "constraint")  # of each weight, as in Keras
GATE_ORDER = "gates_i_f_o_g"  # what a file of an LSTM's weights has beside them
_assumed: contextvars.ContextVar[bool] = contextvars.ContextVar("_assumed", default=False)


@register
class RNNCell(keras.Layer):
    """One step of Elman's recurrent network (1990), for ``keras.layers.RNN(RNNCell(units))``.

    Args:
        units: H, the numbers in the hidden state.
        activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
        kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint,
        recurrent_constraint, bias_constraint: as in Keras, except that the only activation is tanh,
            and that matrices for which no initializer is given start as the course's,
            N(0, 1) / sqrt(fan in).
        dropout, recurrent_dropout: 0, as cells drop nothing.

    Call arguments:
        inputs: (N, D).
        states: the hidden state, (N, H), alone or as the one item of a list.

    Returns:
        next_h (N, H) and the new state: next_h, in a list if `states` came in one.

    Example:
        >>> keras.layers.RNN(RNNCell(4))(tf.ones((2, 5, 3))).shape.as_list()
        [2, 4]
    """

    gates = 1
    # those whose gradients are written by hand
    activations: ClassVar[dict[str, str]] = {"activation": "tanh"}
    options: tuple[str, ...] = (
        "use_bias",
        *(f"{weight}_{what}" for what in PROPERTIES for weight in ("kernel", "recurrent", "bias")),
    )

    def __init__(
        self,
        units: int,
        *,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        recurrent_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        for name, only in self.activations.items():
            given = kwargs.pop(name, only)
            if keras.activations.get(given) is not keras.activations.get(only):
                raise ValueError(
                    f"{name} must be {only!r}, whose gradient is written by hand, received "
                    f"{given!r}: use Keras's own layer for another"
                )
        for name, share in {"dropout": dropout, "recurrent_dropout": recurrent_dropout}.items():
            if share:
                raise ValueError(
                    f"{type(self).__name__} drops nothing, received {name}={share}: give dropout to "
                    "the layer, which drops inputs, or use Keras's own"
                )
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.state_size: Any = self.units
        self.output_size = self.units
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer or "zeros")
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        D, H, width = input_shape[-1], self.units, self.gates * self.units
        self.Wx = self.add_weight(
            (D, width),
            self.kernel_initializer or scaled(D),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="Wx",
        )
        self.Wh = self.add_weight(
            (H, width),
            self.recurrent_initializer or scaled(H),
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
            name="Wh",
        )
        self.b = None
        if self.use_bias:
            self.b = self.add_weight(
                (width,),
                self.first_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="b",
            )

    def first_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """What the bias starts as, (H,) or for an LSTM (4H,)."""
        return self.bias_initializer(shape, dtype)

    def in_compute_dtype(self) -> list[Tensor]:
        """Wx, Wh, b: Keras casts them only where it calls a layer by its own dtype policy."""
        b = keras.ops.zeros(self.gates * self.units) if self.b is None else self.b
        return [keras.ops.cast(weight, self.compute_dtype) for weight in (self.Wx, self.Wh, b)]

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, Any]:
        listed = isinstance(states, list | tuple)
        inputs, *states = self.cast_all(inputs, *(states if listed else [states]))
        h = ops.rnn_step(inputs, *states, *self.in_compute_dtype())
        return h, [h] if listed else h

    def cast_all(self, *values: Tensor) -> list[Tensor]:
        """The values in the compute dtype; Keras itself leaves integers and booleans as they are."""
        return [keras.ops.cast(value, self.compute_dtype) for value in values]

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        return [keras.ops.zeros((batch_size, self.units), dtype=self.compute_dtype)]

    def to_keras_weights(self) -> list[np.ndarray]:
        """The weights as ``keras.layers.SimpleRNN(units).set_weights`` takes them."""
        return [np.array(weight) for weight in self.get_weights()]

    def from_keras_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights that ``keras.layers.SimpleRNN(units).get_weights()`` returned."""
        self.set_weights(weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, **self.get_options()}

    def get_options(self) -> dict[str, Any]:
        """Keras's arguments that are done, as a configuration holds them."""
        return {
            name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.options
        }


@register
class LSTMCell(RNNCell):
    """One step of an LSTM with a forget gate, for ``keras.layers.RNN(LSTMCell(units))``.

    Hochreiter and Schmidhuber (1997), Gers, Schmidhuber and Cummins (2000).

    Args:
        units: H, the numbers in the hidden state and in the cell state.
        unit_forget_bias: whether the forget gate's bias starts at 1; Keras's default is True.
        recurrent_activation: the gates', sigmoid.
        implementation: how Keras computes a step, which has no meaning here.
        activation, use_bias, ...: as in `RNNCell`.

    Call arguments:
        inputs: (N, D).
        states: hidden state and cell state, both (N, H).

    Returns:
        next_h (N, H) and the new states, [next_h, next_c].

    Example:
        >>> keras.layers.RNN(LSTMCell(4))(tf.ones((2, 5, 3))).shape.as_list()
        [2, 4]
    """

    gates = 4
    activations: ClassVar = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    options = (*RNNCell.options, "unit_forget_bias")

    def __init__(
        self,
        units: int,
        *,
        unit_forget_bias: bool = False,
        implementation: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        self.state_size = [self.units, self.units]
        self.unit_forget_bias = unit_forget_bias

    def first_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        if not self.unit_forget_bias:
            return super().first_bias(shape, dtype)
        i, f, o_and_g = (self.bias_initializer((k * self.units,), dtype) for k in (1, 1, 2))
        return keras.ops.concatenate([i, keras.ops.ones_like(f), o_and_g])

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list]:
        h, c = ops.lstm_step(*self.cast_all(inputs, *states), *self.in_compute_dtype())
        return h, [h, c]

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        return 2 * super().get_initial_state(batch_size)

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets Wx (D, 4H), Wh (H, 4H) and b (4H,), whose gates are in our order, i, f, o, g.

        Those of a Keras layer, in the order i, f, g, o, are for `from_keras_weights`.
        """
        super().set_weights(weights)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store[GATE_ORDER] = np.zeros(0, np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Called by Keras on loading: Keras's LSTM has the same shapes, with other gates in them.

        Raises:
            ValueError: the file does not say that its gates are in our order.
        """
        names = set(store.keys())
        if names and GATE_ORDER not in names and not _assumed.get():
            raise ValueError(
                f"the file holds an LSTM's weights without {GATE_ORDER!r}, the order of its gates: "
                "if they are of keras.layers.LSTM, load them into that layer and give its "
                "get_weights() to from_keras_weights; if this package wrote the file before it "
                "stored the order, load it inside 'with tfcap.layers.assume_our_gate_order():'"
            )
        super().load_own_variables({name: store[name] for name in names - {GATE_ORDER}})

    def to_keras_weights(self) -> list[np.ndarray]:
        """The weights as ``keras.layers.LSTM(units).set_weights`` takes them."""
        return [swap_o_and_g(weight) for weight in self.get_weights()]

    def from_keras_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights that ``keras.layers.LSTM(units).get_weights()`` returned."""
        self.set_weights([swap_o_and_g(weight) for weight in weights])


def mask_of_steps(mask: Tensor | None) -> Tensor | None:
    """A mask (N, T) as it is, and (N, T, 1), which Keras takes too, as (N, T).

    Example:
        >>> mask_of_steps(tf.ones((2, 5, 1), tf.bool)).shape.as_list()
        [2, 5]
    """
    if mask is not None and len(mask.shape) == 3 and mask.shape[2] == 1:
        return mask[:, :, 0]
    return mask


@contextlib.contextmanager
def assume_our_gate_order() -> Iterator[None]:
    """Loads files of an `LSTM` that this package wrote before files said the order of their gates.

    Example:
        >>> layer = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])
        >>> layer.save_weights("no_order.weights.h5")
        >>> ours = keras.Sequential([keras.Input((5, 3)), LSTM(4)])
        >>> with assume_our_gate_order():  # an older file of ours looks like Keras's
        ...     ours.load_weights("no_order.weights.h5")
    """
    token = _assumed.set(True)
    try:
        yield
    finally:
        _assumed.reset(token)


def swap_o_and_g(weight: np.ndarray) -> np.ndarray:
    """Gates i, f, o, g on the last axis to Keras's i, f, g, o, and back: (..., 4H) -> (..., 4H).

    Example:
        >>> swap_o_and_g(["i", "f", "o", "g"]).tolist()
        ['i', 'f', 'g', 'o']
    """
    i, f, third, fourth = np.split(np.asarray(weight), 4, axis=-1)
    return np.concatenate([i, f, fourth, third], axis=-1)


@register
class RNN(keras.layers.RNN):
    """Elman's recurrent network (1990) over a sequence; takes the place of ``keras.layers.SimpleRNN``.

    It takes SimpleRNN's arguments and configuration. Those that are not given are the course's and not
    Keras's: matrices start as N(0, 1) / sqrt(fan in), not glorot_uniform and orthogonal.

    Args:
        units: H, the numbers in the hidden state.
        dropout: the fraction of the inputs' numbers that training drops, the same at every step.
        seed: for dropout.
        return_sequences, return_state, go_backwards, stateful: as in ``keras.layers.RNN``.
        activation, use_bias, kernel_initializer, ...: as in `RNNCell`.

    Call arguments:
        sequences: (N, T, D), also of integers or booleans.
        initial_state: the hidden state before the first step, (N, H); zeros unless given.
        mask: (N, T) or (N, T, 1), False where a step is skipped and the state stays as it was.
        training: whether to drop inputs.

    Returns:
        The last h (N, H), with `return_sequences` every h (N, T, H); with `return_state` also the
        final hidden state.

    Raises:
        ValueError: shapes do not fit, or T is 0.

    Example:
        >>> RNN(4, return_sequences=True)(tf.ones((2, 5, 3))).shape.as_list()
        [2, 5, 4]
    """

    cell_class: type[RNNCell] = RNNCell
    state_names: tuple[str, ...] = ("a hidden state",)

    def __init__(
        self, units: int, *, dropout: float = 0.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, received {dropout}")
        same: dict[str, Any] = {k: kwargs[k] for k in ("dtype", "trainable") if k in kwargs}
        names = (*self.cell_class.options, *self.cell_class.activations, *NOT_KEPT)
        same |= {key: kwargs.pop(key) for key in names if key in kwargs}
        super().__init__(self.cell_class(units, name="cell", **same), **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.units = self.cell.units
        self.dropout = dropout
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> Any:
        if sequences.shape[1] == 0:
            raise ValueError(
                f"{self.name} needs at least one step, received inputs of shape "
                f"{tuple(sequences.shape)}"
            )
        if initial_state is not None:
            received, expected = len(keras.tree.flatten(initial_state)), self.state_names
            if received != len(expected):
                raise ValueError(
                    f"{self.name} starts from {' and '.join(expected)}, received {received} "
                    f"initial state{'s' * (received != 1)}: give {len(expected)}"
                )
        sequences = keras.ops.cast(sequences, self.compute_dtype)
        return super().call(sequences, initial_state, mask_of_steps(mask), training)

    def inner_loop(
        self, sequences: Tensor, initial_state: list[Tensor], mask: Tensor, training: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        if training and self.dropout:
            sequences = keras.random.dropout(
                sequences,
                self.dropout,
                noise_shape=(None, 1, None),
                seed=self.seed_generator,
            )
        h, *states = self.run(sequences, initial_state, mask)
        if mask is not None and self.zero_output_for_mask:
            shown = mask[:, ::-1] if self.go_backwards else mask
            h = h * tf.cast(shown, h.dtype)[:, :, tf.newaxis]
        return h[:, -1], h, states

    def run(self, x: Tensor, initial_state: list[Tensor], mask: Tensor) -> tuple[Tensor, ...]:
        """The op: every h (N, T, H), then the final states."""
        (h0,) = initial_state
        weights = self.cell.in_compute_dtype()
        return ops.rnn(x, h0, *weights, mask=mask, reverse=self.go_backwards)

    def to_keras_weights(self) -> list[np.ndarray]:
        """Kernel, recurrent kernel and bias, as ``set_weights`` of Keras's layer takes them."""
        return self.cell.to_keras_weights()

    def from_keras_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights that ``get_weights`` of Keras's layer returned; the layer must be built."""
        self.cell.from_keras_weights(weights)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        own = {"units": self.units, "dropout": self.dropout, "seed": self.seed}
        return {**config, **own, **self.cell.get_options()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


@register
class LSTM(RNN):
    """An LSTM with a forget gate over a sequence; takes the place of ``keras.layers.LSTM``.

    Hochreiter and Schmidhuber (1997), Gers, Schmidhuber and Cummins (2000). Arguments and results
    are those of `RNN`; the states are two, hidden and cell state, each (N, H). It takes Keras's
    arguments and configuration; unit_forget_bias is False unless given, in Keras True.

    Example:
        >>> h, h_last, c_last = LSTM(4, return_state=True)(tf.ones((2, 5, 3)))
        >>> c_last.shape.as_list()
        [2, 4]
    """

    cell_class = LSTMCell
    state_names = ("a hidden state", "a cell state")

    def __init__(self, units: int, *, use_cudnn: Any = "auto", **kwargs: Any) -> None:
        super().__init__(
            units, **kwargs
        )  # use_cudnn: how Keras computes, which has no meaning here

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets Wx (D, 4H), Wh (H, 4H) and b (4H,), whose gates are in our order, i, f, o, g.

        Those of a Keras layer, in the order i, f, g, o, are for `from_keras_weights`.
        """
        super().set_weights(weights)

    def run(self, x: Tensor, initial_state: list[Tensor], mask: Tensor) -> tuple[Tensor, ...]:
        h0, c0 = initial_state
        weights = self.cell.in_compute_dtype()
        return ops.lstm(x, h0, *weights, c0=c0, mask=mask, reverse=self.go_backwards)
