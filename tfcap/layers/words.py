"""Words in, scores of words out, and their loss."""

from typing import Any

from tfcap import ops
from tfcap.layers.first_values import scaled
from tfcap.shape_checks import positive_integer
from visualization.backend import keras, tf

__all__ = ["TemporalAffine", "TemporalSoftmaxLoss", "WordEmbedding"]

Tensor = Any
register = keras.saving.register_keras_serializable("tfcap")


@register
class WordEmbedding(keras.Layer):
    """Each word id's own vector: ids (N, T) -> (N, T, output_dim).

    Args:
        input_dim: V, the words in the vocabulary.
        output_dim: the numbers in a word's vector.
        mask_zero: whether id 0 tells the layers above to skip the step. The course's captioner
            steps through it and masks only the loss.

    Ids that come as floats or booleans become integers, as in Keras.

    Raises:
        ValueError: an id is outside the vocabulary (tf.errors.InvalidArgumentError in a graph;
            ``jit_compile`` drops that check).

    Example:
        >>> WordEmbedding(10, 3)(keras.ops.array([[1, 2]])).shape.as_list()
        [1, 2, 3]
    """

    def __init__(
        self, input_dim: int, output_dim: int, *, mask_zero: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = positive_integer("input_dim", input_dim)
        self.output_dim = positive_integer("output_dim", output_dim)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.autocast = False  # half precision has no id above 2,048

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        normal = keras.initializers.RandomNormal(stddev=0.01)
        self.W = self.add_weight((self.input_dim, self.output_dim), normal, name="W_embed")

    def call(self, inputs: Tensor) -> Tensor:
        if not keras.backend.is_int_dtype(inputs.dtype):
            inputs = keras.ops.cast(inputs, "int32")
        return ops.word_embedding(inputs, keras.ops.cast(self.W, self.compute_dtype))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, self.output_dim)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return keras.ops.not_equal(inputs, 0) if self.mask_zero else None

    def get_config(self) -> dict[str, Any]:
        sizes = {"input_dim": self.input_dim, "output_dim": self.output_dim}
        return {**super().get_config(), **sizes, "mask_zero": self.mask_zero}


@register
class TemporalAffine(keras.Layer):
    """The same affine map at every step, (N, T, D) -> (N, T, units), and so for any number of axes.

    Args:
        units: M, the numbers in an output.
        use_bias: whether b is added.

    Example:
        >>> TemporalAffine(7)(keras.ops.ones((2, 5, 3))).shape.as_list()
        [2, 5, 7]
    """

    def __init__(self, units: int, *, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.use_bias = use_bias
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        self.w = self.add_weight((width, self.units), scaled(width), name="w")
        self.b = self.add_weight((self.units,), "zeros", name="b") if self.use_bias else None

    def call(self, inputs: Tensor) -> Tensor:
        b = keras.ops.zeros(self.units) if self.b is None else self.b
        x, w, b = (keras.ops.cast(value, self.compute_dtype) for value in (inputs, self.w, b))
        if len(x.shape) == 3:
            return ops.temporal_affine(x, w, b)
        out = ops.affine(tf.reshape(x, [-1, w.shape[0]]), w, b)  # (..., D) in rows
        sizes = tf.concat([tf.shape(x)[:-1], [self.units]], axis=0)
        return tf.ensure_shape(tf.reshape(out, sizes), self.compute_output_shape(x.shape))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "use_bias": self.use_bias}


@register
class TemporalSoftmaxLoss(keras.losses.Loss):
    """Cross entropy of logits y_pred (N, T, V) for ids y_true (N, T), where those are not `null`.

    Summed over time and divided by N only, as in the course; computed in the loss's dtype, by
    default float32. Raises ValueError for sample weights.

    Args:
        null: the id that marks padding.

    Example:
        >>> loss = TemporalSoftmaxLoss()(keras.ops.array([[1, 0]]), keras.ops.zeros((1, 2, 2)))
        >>> round(loss.numpy().item(), 4)  # log 2, of one word
        0.6931
    """

    def __init__(self, null: int = 0, name: str = "temporal_softmax_loss", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.null = null

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        if sample_weight is not None:
            raise ValueError(
                f"{self.name} takes no sample weights: it leaves out targets equal to {self.null}"
            )
        return self.call(y_true, y_pred)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_true = keras.ops.convert_to_tensor(y_true)
        y_pred = keras.ops.cast(y_pred, self.dtype)
        return ops.temporal_softmax_loss(y_pred, y_true, y_true != self.null)

    def get_config(self) -> dict[str, Any]:
        return {"null": self.null, "name": self.name, "dtype": self.dtype}
