"""``cs231n.classifiers.rnn``: the captioner with its weights as NumPy arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import tfcap.model
from visualization.backend import tf

__all__ = ["CaptioningRNN"]


class CaptioningRNN:
    """`tfcap.CaptioningRNN` with the course's interface.

    Args:
        word_to_idx, input_dim, wordvec_dim, hidden_dim, cell_type: as of `tfcap.CaptioningRNN`.
        dtype: of the weights.

    Attributes:
        params: the weights by name, NumPy arrays to change or to replace.
        network: the Keras model, which `load_params` gives these weights.

    Raises:
        ValueError: an argument does not fit.

    Example:
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
        >>> model = CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6)
        >>> for name, value in model.params.items():
        ...     model.params[name] = np.zeros_like(value)  # all words are as likely
        >>> loss, grads = model.loss(np.ones((2, 8)), np.array([[1, 3, 2], [1, 3, 2]]))
        >>> round(loss, 3), grads["W_vocab"].shape
        (2.773, (6, 4))
        >>> model.sample(np.ones((2, 8)), max_length=5).shape
        (2, 5)
    """

    def __init__(
        self,
        word_to_idx: Mapping[str, int],
        input_dim: int = 512,
        wordvec_dim: int = 128,
        hidden_dim: int = 128,
        cell_type: str = "rnn",
        dtype: Any = np.float32,
    ) -> None:
        self.network = tfcap.model.CaptioningRNN(
            word_to_idx, input_dim, wordvec_dim, hidden_dim, cell_type, dtype=np.dtype(dtype).name
        )
        self.params: dict[str, np.ndarray] = {}
        self.read_params()
        self._draw_params()
        self._loss = tf.function(self._load_and_differentiate, autograph=False)

    def loss(self, features: Any, captions: Any) -> tuple[float, dict[str, np.ndarray]]:
        """The loss and its gradients, named as in `params`: features (N, D), captions int (N, T)."""
        self.network._check_arrays(features, captions)
        loss, gradients = self._loss(self.params, np.asarray(features), np.asarray(captions))
        return float(loss), {name: gradient.numpy() for name, gradient in gradients.items()}

    def sample(self, features: Any, max_length: int = 30) -> np.ndarray:
        """The likeliest word at every step, any of the vocabulary: (N, D) -> int32 (N, max_length)."""
        self.load_params(self.params)
        return self.network.sample(features, max_length, plain=True)

    def load_params(self, params: Mapping[str, Any]) -> None:
        """Gives `network` these weights."""
        for name, variable in self.network.parameters.items():
            variable.assign(params[name])

    def read_params(self) -> None:
        """Sets `params` to the weights of `network`."""
        for name, variable in self.network.parameters.items():
            self.params[name] = variable.numpy().copy()

    def _draw_params(self) -> None:
        """Draws the first weights as the course does, so that ``np.random.seed`` decides them."""
        for name in ("W_embed", "W_proj", "Wx", "Wh", "W_vocab"):
            shape, dtype = self.params[name].shape, self.params[name].dtype
            scale = 100 if name == "W_embed" else np.sqrt(shape[0])
            self.params[name] = (np.random.randn(*shape) / scale).astype(dtype)

    def _load_and_differentiate(self, params: Any, features: Any, captions: Any) -> Any:
        self.load_params(params)
        return self.network.loss_and_gradients(features, captions)
