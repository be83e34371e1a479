"""The captioner: an image's features become the first hidden state, and a recurrent network then
predicts one word after another."""

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np

from tfcap import decoding, pretrained
from tfcap.data.vocabulary import check_vocabulary
from tfcap.generation import GenerationMixin
from tfcap.layers import LSTM, RNN, AttentionLSTM, TemporalAffine, WordEmbedding
from tfcap.ops import temporal_softmax_loss
from tfcap.shape_checks import positive_integer
from visualization.backend import keras, tf
from visualization.files.printable import printable

__all__ = ["CaptioningRNN"]

Tensor = Any

CELLS = {"rnn": RNN, "lstm": LSTM, "attention": AttentionLSTM}


@keras.saving.register_keras_serializable("tfcap")
class CaptioningRNN(GenerationMixin, keras.Model):
    """CS231n's captioner; the LSTM is that of O. Vinyals et al. (2015), Show and tell, except that
    the image sets the first hidden state.

        h0 = features @ W_proj + b_proj, c0 = 0
        h_t = cell(h_{t-1}, W_embed[word_t]), logits_t = h_t @ W_vocab + b_vocab

    With attention the features are those of an image's L cells, and each word is preceded by a look at
    them (K. Xu et al. 2015, Show, attend and tell; A. Vaswani et al. 2017, Attention is all you need):

        [h0 c0] = tanh(mean of the cells @ W_proj + b_proj)
        keys = cells @ W_keys, values = cells @ W_values + b_values
        h_t, context_t = attention_lstm_step(h_{t-1}, W_embed[word_t], keys, values)
        logits_t = tanh([h_t context_t W_embed[word_t]] @ W_out + b_out) @ W_vocab + b_vocab

    Training: ``model.compile(optimizer)``, then ``model.fit(features, captions)``, or ``fit`` on a
    `tfcap.caption_dataset`. Weights start as the course's do; all biases start at zero.

    Args:
        word_to_idx: the vocabulary, V words and their ids; ``<NULL>`` is padding.
        input_dim: D, the numbers in an image's features.
        wordvec_dim: W, the numbers in a word's vector.
        hidden_dim: H, the numbers in the hidden state.
        cell_type: "rnn", "lstm" or "attention".
        dropout: the fraction of word vectors and hidden states that training drops.
        label_smoothing: the probability that training takes from the right word and spreads over all
            V (C. Szegedy et al. 2016, Rethinking the Inception architecture, section 7).
        feature_mean, feature_std: features are first shifted and scaled by these, numbers or (D,).
        encoder: what the features are of, such as "squeezenet".
        heads: how many places of an image attention looks at at a time; they divide H.
        feature_dropout: the fraction of the numbers of the features that training drops.

    Attributes:
        decoding: the commands' defaults for decoding, which `save_pretrained` keeps.
        ids: the special tokens of the vocabulary, `decoding.SpecialTokens`.
        idx_to_word: the words by their ids.
        parameters: the weights by the course's names.

    Call arguments:
        inputs: features, (N, D) or with attention (N, L, D), and the words so far, int (N, T).

    Returns:
        The logits of the next words, (N, T, V).

    Raises:
        ValueError: an argument does not fit; the message names it.

    Example:
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "cat": 4}
        >>> model = CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6)
        >>> features, captions = np.ones((2, 8)), np.array([[1, 4, 2], [1, 4, 2]])
        >>> loss, gradients = model.loss_and_gradients(features, captions)
        >>> gradients["W_vocab"].shape.as_list()
        [6, 5]
        >>> model.sample(features, max_length=4).shape
        (2, 4)
    """

    def __init__(
        self,
        word_to_idx: Mapping[str, int],
        input_dim: int = 512,
        wordvec_dim: int = 256,
        hidden_dim: int = 512,
        cell_type: str = "lstm",
        *,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        feature_mean: Any = 0.0,
        feature_std: Any = 1.0,
        encoder: str | None = None,
        heads: int = 8,
        feature_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if cell_type not in CELLS:
            raise ValueError(
                f'cell_type must be "rnn", "lstm" or "attention", received {cell_type!r}'
            )
        shares = {"dropout": dropout, "label_smoothing": label_smoothing}
        for name, value in (shares | {"feature_dropout": feature_dropout}).items():
            if not isinstance(value, Real) or not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, received {value!r}")
        check_vocabulary(word_to_idx)
        if "<NULL>" not in word_to_idx:
            raise ValueError('word_to_idx has no "<NULL>", the padding token')
        self.word_to_idx = {word: int(idx) for word, idx in word_to_idx.items()}
        self.input_dim = positive_integer("input_dim", input_dim)
        self.wordvec_dim = positive_integer("wordvec_dim", wordvec_dim)
        self.hidden_dim = positive_integer("hidden_dim", hidden_dim)
        self.cell_type, self.label_smoothing = cell_type, float(label_smoothing)
        self.looks = cell_type == "attention"
        self.heads = positive_integer("heads", heads)
        if self.looks and self.hidden_dim % self.heads:
            raise ValueError(
                f"heads must divide hidden_dim, received {heads} heads and {hidden_dim} numbers"
            )
        self.encoder = encoder
        self.decoding = dict(decoding.DEFAULTS)
        self.feature_mean = self._per_feature("feature_mean", feature_mean)
        self.feature_std = self._per_feature("feature_std", feature_std)
        if not (self.feature_std > 0).all():
            raise ValueError("feature_std must be above 0 everywhere")

        words, dtype = len(self.word_to_idx), self.dtype_policy
        states = 2 * self.hidden_dim if self.looks else self.hidden_dim
        more: dict[str, Any] = {"heads": heads, "return_attention": True} if self.looks else {}
        self.project = TemporalAffine(states, dtype=dtype, name="project")
        self.embed = WordEmbedding(words, self.wordvec_dim, dtype=dtype, name="embed")
        self.recurrent = CELLS[cell_type](
            self.hidden_dim, return_sequences=True, dtype=dtype, name="recurrent", **more
        )
        self.vocab = TemporalAffine(words, dtype=dtype, name="vocab")
        self.drop = keras.layers.Dropout(float(dropout), dtype=dtype, name="drop")
        self.drop_features = keras.layers.Dropout(
            float(feature_dropout), dtype=dtype.variable_dtype, name="drop_features"
        )
        self.project.build((None, input_dim))
        self.embed.build((None, None))
        self.recurrent.build((None, None, wordvec_dim))
        self.vocab.build((None, None, hidden_dim))
        if self.looks:
            # softmax would not notice a bias of the keys, which adds the same to all scores
            self.keys = TemporalAffine(self.hidden_dim, use_bias=False, dtype=dtype, name="keys")
            self.values = TemporalAffine(self.hidden_dim, dtype=dtype, name="values")
            self.out = TemporalAffine(self.hidden_dim, dtype=dtype, name="out")
            self.keys.build((None, None, input_dim))
            self.values.build((None, None, input_dim))
            self.out.build((None, None, 2 * hidden_dim + wordvec_dim))
        self.built = True
        self.supports_jit = False  # how many words a batch has is not known before it runs
        self._mean_loss = keras.metrics.Mean("loss")

    @property
    def parameters(self) -> dict[str, keras.Variable]:
        """The weights under the course's names."""
        cell = self.recurrent.cell
        named = {
            "W_proj": self.project.w,  # (D, H), with attention (D, 2H)
            "b_proj": self.project.b,  # (H,) or (2H,)
            "W_embed": self.embed.W,  # (V, W)
            "Wx": cell.Wx,  # (W, H) or (W, 4H)
            "Wh": cell.Wh,  # (H, H) or (H, 4H)
            "b": cell.b,  # (H,) or (4H,)
            "W_vocab": self.vocab.w,  # (H, V)
            "b_vocab": self.vocab.b,  # (V,)
        }
        if self.looks:
            named |= {
                "W_keys": self.keys.w,  # (D, H)
                "W_values": self.values.w,  # (D, H)
                "b_values": self.values.b,  # (H,)
                "Wz": cell.Wz,  # (H, 4H)
                "Wq": cell.Wq,  # (H, H)
                "W_out": self.out.w,  # (2H + W, H)
                "b_out": self.out.b,  # (H,)
            }
        return named

    # ---- training

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
        """``keras.Model.compile`` with an optimizer; the loss is the captioner's own.

        Raises:
            ValueError: a loss or metrics are given.
        """
        own = ("loss_weights", "metrics", "weighted_metrics")
        if any(value is not None for value in (loss, *map(kwargs.get, own))):
            raise ValueError(
                "a captioner has its own loss and no other metrics: pass compile an optimizer only"
            )
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Called by Keras on loading; its own does nothing where `compile` is overridden."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """``keras.Model.fit`` on features and captions, or on a dataset of batches of them."""
        if y is not None:
            x, y = self._check_arrays(x, y)
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple | list) and len(validation) == 2:
            kwargs["validation_data"] = self._check_arrays(*validation)
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """``keras.Model.evaluate``, for what `fit` takes: the mean loss."""
        if y is not None:
            x, y = self._check_arrays(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def call(self, inputs: tuple[Tensor, Tensor], training: bool = False) -> Tensor:
        return self._logits(self._run(*inputs, training), training)

    def loss_and_gradients(
        self, features: Tensor, captions: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The course's loss and its gradients by the names of `parameters`, without dropout.

        The cross entropy of each word but the first, given those before it, is summed over time,
        leaving out ``<NULL>``, and divided by N.

        features (N, D) or (N, L, D), captions int (N, T)
        -> loss (), gradients of the parameters' shapes

        Raises:
            ValueError, TypeError: features or captions do not fit the captioner.
        """
        if tf.executing_eagerly():
            self._check_arrays(features, captions)
        with tf.GradientTape() as tape:
            loss = self.summed_loss(features, captions)
            loss /= tf.cast(tf.shape(captions)[0], loss.dtype)
        values = {name: variable.value for name, variable in self.parameters.items()}
        return loss, tape.gradient(loss, values)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        features, captions, image_of_row = _unpack(data)
        loss, share = self.optimize(features, captions, image_of_row)
        self._mean_loss.update_state(loss / share, sample_weight=self._count(captions))
        return {"loss": self._mean_loss.result()}

    def optimize(
        self, features: Tensor, captions: Tensor, image_of_row: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step of the optimizer on a batch, alone or as one of several replicas.

        Replicas, each with rows of its own, do together what one does with all rows. Returns what
        these rows give to the batch's loss, (), and their share of its captions.
        """
        count = self._count(captions)
        whole = tf.distribute.get_replica_context().all_reduce("SUM", count)
        loss = self.descend(
            lambda: self.summed_loss(features, captions, True, image_of_row) / whole
        )
        return loss, count / whole

    def descend(self, loss_function: Callable[[], Tensor]) -> Tensor:
        """One step of the optimizer down the gradient of a loss, (), which is returned."""
        replicas = tf.distribute.get_replica_context()
        variables = self.trainable_variables
        with tf.GradientTape() as tape:
            loss = loss_function()
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        if replicas.num_replicas_in_sync > 1:
            gradients = self._of_all_replicas(gradients, replicas)
        self.optimizer.apply(gradients, variables)
        return loss

    def test_step(self, data: Any) -> dict[str, Tensor]:
        features, captions, image_of_row = _unpack(data)
        count = self._count(captions)
        loss = self.summed_loss(features, captions, image_of_row=image_of_row) / count
        self._mean_loss.update_state(loss, sample_weight=count)
        return {"loss": self._mean_loss.result()}

    def _count(self, captions: Tensor) -> Tensor:
        """How many rows are captions: those of nothing but <NULL> fill a batch."""
        some = tf.reduce_any(captions[:, 1:] != self.ids.null, axis=1)
        return tf.reduce_sum(tf.cast(some, self.variable_dtype))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self._mean_loss]

    def summed_loss(
        self,
        features: Tensor,
        captions: Tensor,
        training: bool = False,
        image_of_row: Tensor | None = None,
    ) -> Tensor:
        """The sum over all words; logits are computed only for those that are not ``<NULL>``.

        Where several captions share an image, image_of_row int (N,) names the image of each. The steps
        after a caption's last word are then left out, which saves time where rows come sorted by
        falling length.
        """
        logits, words, _ = self._logits_of_words(features, captions, training, image_of_row)
        each = tf.ones_like(words, tf.bool)
        mean = temporal_softmax_loss(logits[:, tf.newaxis], words, each)
        loss = mean * tf.cast(tf.shape(words)[0], logits.dtype)
        if training and self.label_smoothing:
            right = tf.gather(logits, words, batch_dims=1)  # (P, 1)
            # -log p of a uniform target, less that of the right word
            more = tf.reduce_sum(right - tf.reduce_mean(logits, axis=1, keepdims=True))
            loss += self.label_smoothing * more
        return loss

    def weighted_loss(
        self, features: Tensor, captions: Tensor, weights: Tensor, image_of_row: Tensor
    ) -> Tensor:
        """The sum over all words of -log p, each times the weight of its row, for drawn sentences.

        p is that with which `sample` draws: the tokens that it never selects have none.

        features (I, D) or (I, L, D), captions int (N, T), weights (N,), image_of_row int (N,)
        -> loss ()
        """
        logits, words, rows = self._logits_of_words(features, captions, True, image_of_row)
        logits = decoding.without(logits, self.ids.banned)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(words[:, 0], logits)  # (P,)
        return tf.reduce_sum(tf.gather(weights, rows) * losses)

    def _logits_of_words(
        self,
        features: Tensor,
        captions: Tensor,
        training: bool,
        image_of_row: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The logits (P, V) before each of the P words that are not <NULL>, the words' ids (P, 1) and
        their rows (P,)."""
        captions = tf.convert_to_tensor(captions)
        _check_captions(captions)
        spoken = captions[:, 1:] != self.ids.null  # (N, T - 1)
        mask = None
        if image_of_row is not None:
            mask = tf.cumsum(tf.cast(spoken, tf.int32), axis=1, reverse=True) > 0
        states = self._run(features, captions[:, :-1], training, image_of_row, mask)
        places = tf.where(spoken)  # (P, 2)
        words = tf.gather_nd(captions[:, 1:], places)[:, tf.newaxis]  # (P, 1)
        logits = self._logits([tf.gather_nd(state, places) for state in states], training)
        return tf.cast(logits, self.variable_dtype), words, places[:, 0]

    def _of_all_replicas(self, gradients: list[Tensor], replicas: Any) -> list[Tensor]:
        """The whole batch's gradients, clipped as such, for an optimizer that adds replicas up."""
        gradients = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        # The optimizer of scaled losses wraps the one that clips.
        optimizer: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        scaled = self.optimizer.scale_loss
        if optimizer.clipnorm:
            norm = scaled(optimizer.clipnorm)
            gradients = [tf.clip_by_norm(gradient, norm) for gradient in gradients]
        elif optimizer.global_clipnorm:
            gradients, _ = tf.clip_by_global_norm(gradients, scaled(optimizer.global_clipnorm))
        elif optimizer.clipvalue:
            most = scaled(optimizer.clipvalue)
            gradients = [tf.clip_by_value(gradient, -most, most) for gradient in gradients]
        return [gradient / replicas.num_replicas_in_sync for gradient in gradients]

    def _run(
        self,
        features: Tensor,
        words: Tensor,
        training: bool = False,
        image_of_row: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> list[Tensor]:
        """What `_logits` makes the logits after each of the words (N, T) of: (N, T, width) each."""
        x = self.drop(self.embed(words), training=training)  # (N, T, W)
        states, image = self._begin(features, training)
        if image_of_row is not None:
            states = [tf.gather(state, image_of_row) for state in states]  # (N, H)
        if not self.looks:
            return [self.recurrent(x, initial_state=states, mask=mask, training=training)]
        h, context, _ = self.recurrent(
            x,
            *image,
            image_of_row=image_of_row,
            initial_state=states,
            mask=mask,
            training=training,
        )
        return [h, context, x]

    def _logits(self, states: list[Tensor], training: bool = False) -> Tensor:
        """h, and with attention also context and x, (..., width) each -> (..., V)."""
        h = states[0]
        if self.looks:
            h = tf.tanh(self.out(tf.concat(states, axis=-1)))  # (..., H)
        return self.vocab(self.drop(h, training=training))

    def _begin(self, features: Tensor, training: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """The states before the first word, (N, H) each; with attention keys, values (N, L, H)."""
        features = tf.cast(features, self.variable_dtype)
        self._check_features(features)
        features = (features - self.feature_mean) / self.feature_std  # (N, D) or (N, L, D)
        features = self.drop_features(features, training=training)
        if self.looks:
            states = tf.tanh(self.project(tf.reduce_mean(features, axis=1)))  # (N, 2H)
            return tf.split(states, 2, axis=1), [self.keys(features), self.values(features)]
        h0 = self.project(features)  # (N, H)
        return [h0] if self.cell_type == "rnn" else [h0, tf.zeros_like(h0)], []

    def _check_arrays(self, *given: Any) -> tuple[Any, Any]:
        """Checks whole features and captions, for clearer errors than the graph's; lists, which Keras
        does not take, come back as arrays."""
        features, captions = given
        features, captions = _rectangular("features", features), _rectangular("captions", captions)
        self._check_features(features)
        _check_captions(captions)
        if len(features) != len(captions):
            raise ValueError(
                f"received features of {len(features)} images and {len(captions)} captions, expected "
                "a row of features for each caption"
            )
        last = len(self.word_to_idx) - 1
        if captions.size and not 0 <= captions.min() <= captions.max() <= last:
            raise ValueError(
                f"captions hold ids from {captions.min()} to {captions.max()}, expected 0 to {last}: "
                "they belong to another vocabulary"
            )
        return (
            features if isinstance(given[0], list | tuple) else given[0],
            captions if isinstance(given[1], list | tuple) else given[1],
        )

    def takes(self, shape: Sequence[int | None]) -> bool:
        """Whether this captioner takes features of that shape, (N, D) or with attention (N, L, D).

        Example:
            >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
            >>> CaptioningRNN(words, 8, 4, 6, "attention", heads=2).takes((5, 9, 8))
            True
        """
        axes = 3 if self.looks else 2
        return len(shape) == axes and shape[-1] == self.input_dim and 0 not in shape[1:]

    def _check_features(self, features: Any) -> None:
        shape = tuple(features.shape)
        if not self.takes(shape):
            raise ValueError(
                f"features have shape {shape}, but this captioner takes "
                f"(N, {'L, ' * self.looks}{self.input_dim})"
                + (f" of {self.encoder}" if self.encoder else "")
            )
        if isinstance(features, np.ndarray) and not np.isfinite(features).all():
            raise ValueError("features hold NaN or infinity: compute them again")

    # ---- files

    def save_pretrained(self, folder: str | os.PathLike[str], *, half: bool = False) -> None:
        """Writes the captioner into a folder, in place of an older one.

        Args:
            folder: where to; made if missing.
            half: store the weights in half precision, in half the room.

        Raises:
            OSError: the folder cannot be written; an older captioner there is unchanged.
            ValueError: it could not be loaded again, as when weights are NaN.

        Example:
            >>> import tempfile
            >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
            >>> model = CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save_pretrained(folder)
            ...     again = CaptioningRNN.from_pretrained(folder)
            >>> again.hidden_dim
            6
        """
        architecture = {**self.get_config(), "dtype": self.dtype_policy.name}
        arrays = {name: np.asarray(variable) for name, variable in self.parameters.items()}
        pretrained.save(folder, architecture, self.decoding, arrays, half=half)

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """``keras.Model.export``: a SavedModel of `call`, features and words so far to logits.

        `export_sentences` writes one that makes whole sentences.

        Raises:
            ValueError: another format is asked for.
        """
        if format != "tf_saved_model":
            raise ValueError(
                f"a captioner is exported as 'tf_saved_model', received format={format!r}: convert the "
                "SavedModel with that format's own converter"
            )
        if input_signature is None:
            words = tf.TensorSpec([None, None], tf.int32, "words")
            input_signature = [(self._features_spec(), words)]
        super().export(filepath, format, verbose, input_signature, **kwargs)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """The captioner that `save_pretrained` or ``python -m tfcap.train`` wrote into a folder.

        Raises:
            OSError: files are missing or cannot be read.
            ValueError: they are damaged or do not belong together.
        """
        saved = pretrained.load(folder)
        try:
            model = cls(**saved.architecture)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{saved.config}: {printable(str(error), 300)}") from error
        for name, variable in model.parameters.items():
            variable.assign(saved.arrays[name])
        model.decoding.update(saved.decoding)
        return model

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "word_to_idx": dict(self.word_to_idx),
            "input_dim": self.input_dim,
            "wordvec_dim": self.wordvec_dim,
            "hidden_dim": self.hidden_dim,
            "cell_type": self.cell_type,
            "dropout": self.drop.rate,
            "label_smoothing": self.label_smoothing,
            "feature_mean": self.feature_mean.tolist(),
            "feature_std": self.feature_std.tolist(),
            "encoder": self.encoder,
            "feature_dropout": self.drop_features.rate,
            **({"heads": self.heads} if self.looks else {}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The captioner of a configuration.

        Raises:
            ValueError: it makes none; Keras would print the whole vocabulary for a TypeError.
        """
        try:
            return cls(**config)
        except TypeError as error:
            raise ValueError(
                f"the configuration is not a captioner's: {printable(str(error), 300)}"
            ) from error

    def _per_feature(self, name: str, value: Any) -> np.ndarray:
        """A number for all features, (), or one for each, (D,)."""
        value = np.asarray(value, self.variable_dtype)
        if value.shape not in ((), (self.input_dim,)) or not np.isfinite(value).all():
            raise ValueError(
                f"{name} has shape {value.shape}, expected a number or ({self.input_dim},), all finite"
            )
        return value


def _unpack(data: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Features, captions, and the image of each row where several share one."""
    features, captions, weights = keras.utils.unpack_x_y_sample_weight(data)
    if captions is None:
        raise ValueError("captions are missing: give fit and evaluate features and captions")
    if weights is not None:
        raise ValueError("sample weights and class weights are not supported: omit them")
    if isinstance(features, tuple | list):
        features, image_of_row = features
        return features, captions, image_of_row
    return features, captions, None


def _rectangular(name: str, value: Any) -> np.ndarray:
    """The value as an array, which rows of different lengths are not."""
    try:
        return np.asarray(value)
    except ValueError as error:
        remedy = "fill up the shorter ones with the id of <NULL>"
        raise ValueError(
            f"{name} are rows of different lengths, expected all of one: "
            + (remedy if name == "captions" else "give each image as many numbers")
        ) from error


def _check_captions(captions: Any) -> None:
    if len(captions.shape) != 2 or captions.shape[1] in (0, 1):
        raise ValueError(
            f"captions have shape {tuple(captions.shape)}, expected (N, T) with T at least 2"
        )
    if np.dtype(getattr(captions.dtype, "name", captions.dtype)).kind not in "iu":
        raise TypeError(f"captions must be integer ids, received {captions.dtype}: cast them")
