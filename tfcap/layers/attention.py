"""The LSTM that looks at an image before each step: a cell for one step and a layer for a sequence."""

from typing import Any

from tfcap import ops
from tfcap.layers.first_values import scaled
from tfcap.layers.recurrent import mask_of_steps
from tfcap.shape_checks import positive_integer
from visualization.backend import keras, tf

__all__ = ["AttentionLSTM", "AttentionLSTMCell"]

Tensor = Any
register = keras.saving.register_keras_serializable("tfcap")


@register
class AttentionLSTMCell(keras.Layer):
    """One step of `AttentionLSTM`, also for ``keras.layers.RNN(AttentionLSTMCell(units, heads))``.

    The image is two states that never change, so that Keras hands them on from step to step.

    Args:
        units: H, the numbers in the hidden state and in the cell state.
        heads: how many places of an image are looked at at a time; they divide H.

    Call arguments:
        inputs: (N, D).
        states: hidden state and cell state, (N, H), keys and values, (I, L, H) as
            `functional.attention_forward` takes them; for ``keras.layers.RNN`` (N, L, H).

    Returns:
        next_h (N, H) and the new states, [next_h, next_c, keys, values].

    Raises:
        ValueError: heads do not divide H.

    Example:
        >>> image, state = tf.ones((2, 9, 4)), tf.zeros((2, 4))
        >>> layer = keras.layers.RNN(AttentionLSTMCell(4, heads=2))
        >>> layer(tf.ones((2, 5, 3)), initial_state=[state, state, image, image]).shape.as_list()
        [2, 4]
    """

    def __init__(self, units: int, heads: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.heads = positive_integer("heads", heads)
        if self.units % self.heads:
            raise ValueError(f"heads must divide units, received {heads} heads and {units} units")
        self.state_size = 4 * [self.units]
        self.output_size = self.units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        H = self.units
        self.Wx = self.add_weight((input_shape[-1], 4 * H), scaled(input_shape[-1]), name="Wx")
        self.Wh = self.add_weight((H, 4 * H), scaled(H), name="Wh")
        self.b = self.add_weight((4 * H,), "zeros", name="b")
        self.Wz = self.add_weight((H, 4 * H), scaled(H), name="Wz")
        self.Wq = self.add_weight((H, H), scaled(H), name="Wq")

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list]:
        h, c, _, _ = self.look(inputs, states)
        return h, [h, c, *states[2:]]

    def look(self, inputs: Tensor, states: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """next_h and next_c (N, H), the context that was seen (N, H), and the weights (N, heads, L)."""
        x, h, c, keys, values = (
            keras.ops.cast(value, self.compute_dtype) for value in (inputs, *states)
        )
        Wx, Wh, Wz, Wq, b = self.in_compute_dtype()
        return ops.attention_lstm_step(x, h, c, keys, values, Wx, Wh, Wz, Wq, b, self.heads)

    def in_compute_dtype(self) -> list[Tensor]:
        """Wx, Wh, Wz, Wq, b: Keras casts them only where it calls a layer by its own dtype policy."""
        weights = self.Wx, self.Wh, self.Wz, self.Wq, self.b
        return [keras.ops.cast(weight, self.compute_dtype) for weight in weights]

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        """Zeros, and an image of one cell without anything in it."""
        state = keras.ops.zeros((batch_size, self.units), dtype=self.compute_dtype)
        image = keras.ops.zeros((batch_size, 1, self.units), dtype=self.compute_dtype)
        return [state, state, image, image]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "heads": self.heads}


@register
class AttentionLSTM(keras.Layer):
    """An LSTM over a sequence that looks at the cells of an image before each step.

    K. Xu et al. (2015), Show, attend and tell, with the attention of A. Vaswani et al. (2017); the
    equations are those of `functional.attention_lstm_step_forward`.

    Args:
        units: H, the numbers in the hidden state and in the cell state.
        heads: how many places of an image are looked at at a time; they divide H.
        dropout: the fraction of the inputs' numbers that training drops, the same at every step.
        seed: for dropout.
        return_sequences: whether to return every h and context, or the last.
        return_state: whether to return the final states too.
        return_attention: whether to return the contexts and the weights of attention too.

    Call arguments:
        sequences: (N, T, D), also of integers or booleans.
        keys, values: (I, L, H), those of I images.
        image_of_row: int (N,), the image of each row; without it the rows of an image lie together,
            equally many.
        initial_state: hidden and cell state before the first step, (N, H) each; zeros unless given.
        mask: (N, T) or (N, T, 1), False where a step is skipped and the state stays as it was.
        training: whether to drop inputs.

    Returns:
        h (N, H), with `return_sequences` (N, T, H); with `return_attention` then the context, shaped
        like h, and the weights (N, T, heads, L), which pass no gradient on; with `return_state` then
        the final hidden and cell state.

    Raises:
        ValueError: shapes do not fit, or T is 0.

    Example:
        >>> layer = AttentionLSTM(4, heads=2, return_sequences=True, return_attention=True)
        >>> h, context, weights = layer(tf.ones((6, 5, 3)), *2 * [tf.ones((2, 9, 4))])
        >>> context.shape.as_list(), weights.shape.as_list()
        ([6, 5, 4], [6, 5, 2, 9])
    """

    def __init__(
        self,
        units: int,
        heads: int = 8,
        *,
        dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        return_attention: bool = False,
        **kwargs: Any,
    ) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, received {dropout}")
        super().__init__(**kwargs)
        same = {key: kwargs[key] for key in ("dtype", "trainable") if key in kwargs}
        self.cell = AttentionLSTMCell(units, heads, name="cell", **same)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True
        self.units, self.heads = self.cell.units, self.cell.heads
        self.dropout, self.seed = dropout, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.return_attention = return_attention

    def build(self, sequences_shape: tuple[int | None, ...], *others: Any, **named: Any) -> None:
        self.cell.build((sequences_shape[0], sequences_shape[2]))
        self.cell.built = True

    def call(
        self,
        sequences: Tensor,
        keys: Tensor,
        values: Tensor,
        image_of_row: Tensor | None = None,
        initial_state: Any = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> Any:
        if initial_state is None:
            initial_state = self.cell.get_initial_state(tf.shape(sequences)[0])[:2]
        received = len(keras.tree.flatten(initial_state))
        if received != 2:
            raise ValueError(
                f"{self.name} starts from a hidden state and a cell state, received {received} "
                f"initial state{'s' * (received != 1)}: give 2"
            )
        sequences = keras.ops.cast(sequences, self.compute_dtype)
        if training and self.dropout:
            sequences = keras.random.dropout(
                sequences, self.dropout, noise_shape=(None, 1, None), seed=self.seed_generator
            )
        Wx, Wh, Wz, Wq, b = self.cell.in_compute_dtype()
        h0, c0, keys, values = (
            keras.ops.convert_to_tensor(value, self.compute_dtype)
            for value in (*initial_state, keys, values)
        )
        h, context, h_last, c_last, shown = ops.attention_lstm(
            sequences,
            h0,
            c0,
            keys,
            values,
            Wx,
            Wh,
            Wz,
            Wq,
            b,
            self.heads,
            image_of_row=image_of_row,
            mask=mask_of_steps(mask),
        )
        if not self.return_sequences:
            h, context = h[:, -1], context[:, -1]
        results = [h]
        results += [context, shown] if self.return_attention else []
        results += [h_last, c_last] if self.return_state else []
        return tuple(results) if len(results) > 1 else h

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        mask = keras.tree.flatten(mask)[0] if self.return_sequences else None
        if not (self.return_attention or self.return_state):
            return mask
        others = 2 * self.return_attention + 2 * self.return_state
        return (mask, *others * [None])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "heads": self.heads,
            "dropout": self.dropout,
            "seed": self.seed,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "return_attention": self.return_attention,
        }
