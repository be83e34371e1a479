"""The plain recurrent network and the LSTM: each a cell for one step and a layer for a sequence."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from tfcap import ops
from tfcap.layers.first_values import scaled
from tfcap.shape_checks import positive_integer
from visualization.backend import keras, tf

__all__ = ["LSTM", "RNN", "LSTMCell", "RNNCell", "assume_our_gate_order", "swap_o_and_g"]

Tensor = Any
register = keras.saving.register_keras_serializable("tfcap")

GATE_ORDER = "gates_i_f_o_g"  # what a file of an LSTM's weights has beside them
_assumed: contextvars.ContextVar[bool] = contextvars.ContextVar("_assumed", default=False)


@register
class RNNCell(keras.Layer):
    """One step of Elman's recurrent network (1990), for ``keras.layers.RNN(RNNCell(units))``.

    Args:
        units: H, the numbers in the hidden state.

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

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.state_size: Any = self.units
        self.output_size = self.units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = self.gates * self.units
        self.Wx = self.add_weight((input_shape[-1], width), scaled(input_shape[-1]), name="Wx")
        self.Wh = self.add_weight((self.units, width), scaled(self.units), name="Wh")
        self.b = self.add_weight((width,), "zeros", name="b")

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, Any]:
        listed = isinstance(states, list | tuple)
        (h,) = states if listed else [states]
        h = ops.rnn_step(inputs, h, self.Wx, self.Wh, self.b)
        return h, [h] if listed else h

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        return [keras.ops.zeros((batch_size, self.units), dtype=self.compute_dtype)]

    def to_keras_weights(self) -> list[np.ndarray]:
        """The weights as ``keras.layers.SimpleRNN(units).set_weights`` takes them."""
        return [np.array(weight) for weight in self.get_weights()]

    def from_keras_weights(self, weights: list[np.ndarray]) -> None:
        """Sets the weights that ``keras.layers.SimpleRNN(units).get_weights()`` returned."""
        self.set_weights(weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@register
class LSTMCell(RNNCell):
    """One step of an LSTM with a forget gate, for ``keras.layers.RNN(LSTMCell(units))``.

    Hochreiter and Schmidhuber (1997), Gers, Schmidhuber and Cummins (2000).

    Args:
        units: H, the numbers in the hidden state and in the cell state.

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

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.state_size = [self.units, self.units]

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list]:
        h, c = states
        h, c = ops.lstm_step(inputs, h, c, self.Wx, self.Wh, self.b)
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
    """Elman's recurrent network (1990) over a sequence; a drop-in replacement for SimpleRNN.

    Args:
        units: H, the numbers in the hidden state.
        dropout: the fraction of the inputs' numbers that training drops, the same at every step.
        seed: for dropout.
        return_sequences, return_state, go_backwards, stateful: as in ``keras.layers.RNN``.

    Call arguments:
        sequences: (N, T, D).
        initial_state: the hidden state before the first step, (N, H); zeros unless given.
        mask: (N, T), False where a step is skipped and the state stays as it was.
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
        same = {key: kwargs[key] for key in ("dtype", "trainable") if key in kwargs}
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
        return super().call(sequences, initial_state, mask, training)

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
        weights = self.cell.Wx, self.cell.Wh, self.cell.b
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
        return {**config, "units": self.units, "dropout": self.dropout, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


@register
class LSTM(RNN):
    """An LSTM with a forget gate over a sequence; a drop-in replacement for ``keras.layers.LSTM``.

    Hochreiter and Schmidhuber (1997), Gers, Schmidhuber and Cummins (2000). Arguments and results
    are those of `RNN`; the states are two, hidden and cell state, each (N, H).

    Example:
        >>> h, h_last, c_last = LSTM(4, return_state=True)(tf.ones((2, 5, 3)))
        >>> c_last.shape.as_list()
        [2, 4]
    """

    cell_class = LSTMCell
    state_names = ("a hidden state", "a cell state")

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Sets Wx (D, 4H), Wh (H, 4H) and b (4H,), whose gates are in our order, i, f, o, g.

        Those of a Keras layer, in the order i, f, g, o, are for `from_keras_weights`.
        """
        super().set_weights(weights)

    def run(self, x: Tensor, initial_state: list[Tensor], mask: Tensor) -> tuple[Tensor, ...]:
        h0, c0 = initial_state
        weights = self.cell.Wx, self.cell.Wh, self.cell.b
        return ops.lstm(x, h0, *weights, c0=c0, mask=mask, reverse=self.go_backwards)
