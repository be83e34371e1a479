"""Sentences for images: what `tfcap.CaptioningRNN` does once it is trained.

The loops are in `tfcap.decoding`; here they get the captioner's steps, and images in parts.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcap import decoding
from tfcap.data.vocabulary import check_vocabulary
from tfcap.decoding import SpecialTokens
from tfcap.shape_checks import positive_integer
from visualization.backend import keras, tf

__all__ = ["GenerationMixin"]

Tensor = Any

ROWS_AT_ONCE = 512  # sentences decoded at once, which bounds the memory


class GenerationMixin:
    """What a captioner does with features beside training; it has the layers that are used here.

    Example:
        >>> from tfcap import CaptioningRNN
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
        >>> model = CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6)
        >>> isinstance(model, GenerationMixin)
        True
    """

    word_to_idx: dict[str, int]
    decoding: dict[str, Any]
    input_dim: int
    looks: bool
    cell_type: str
    compute_dtype: str
    embed: Any
    recurrent: Any
    _begin: Any
    _logits: Any
    _check_features: Any

    @functools.cached_property
    def ids(self) -> SpecialTokens:
        others = map(self.word_to_idx.get, ("<START>", "<END>", "<UNK>"))
        return SpecialTokens(self.word_to_idx["<NULL>"], *others)

    @functools.cached_property
    def idx_to_word(self) -> list[str]:
        return check_vocabulary(self.word_to_idx)

    def decoding_with(self, **given: Any) -> dict[str, Any]:
        """`decoding` with what is given in place of it: options of `beam_search`, or with a temperature
        of `sample`.

        Example:
            >>> from tfcap import CaptioningRNN
            >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
            >>> model = CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6)
            >>> model.decoding_with(temperature=0.8)
            {'max_length': 30, 'block_trigrams': True, 'temperature': 0.8}
        """
        searches = "temperature" not in given
        kept = self.decoding if searches else ("max_length", "block_trigrams")
        return {name: self.decoding[name] for name in kept} | given

    def sample(
        self,
        features: Any,
        max_length: int = 30,
        *,
        plain: bool = False,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        block_trigrams: bool = False,
        never_empty: bool = False,
    ) -> np.ndarray:
        """One sentence for each image, by default the likeliest word at every step.

        Args:
            features: (N, D), with attention (N, L, D).
            max_length: the most words, ``<END>`` included.
            plain: the course's bare arg max, which may select ``<NULL>``, ``<START>`` and ``<UNK>``
                and continues after ``<END>``.
            temperature, top_k, top_p: above 0, words are drawn as `decoding.sampler` describes.
            seed: of the draws.
            block_trigrams: no three words in a row occur twice in a sentence.
            never_empty: every sentence has a word at least.

        Returns:
            ids, int32 (N, max_length), ``<NULL>`` after ``<END>``; `decode_captions` makes words of
            them.

        Raises:
            ValueError: an argument does not fit.
        """
        max_length = positive_integer("max_length", max_length)
        if not 0 <= temperature < float("inf"):
            raise ValueError(
                f"temperature must be a finite number of at least 0, received {temperature}"
            )
        if temperature == 0 and (top_k is not None or top_p is not None):
            raise ValueError("top_k and top_p need a temperature above 0, such as temperature=1.0")
        if top_k is not None:
            top_k = positive_integer("top_k", top_k)
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, received {top_p}")
        options: dict[str, Any] = {"plain": plain, "block_trigrams": block_trigrams}
        options["never_empty"] = never_empty
        if temperature:
            options["temperature"] = tf.constant(temperature, tf.float32)
            options["top_k"] = None if top_k is None else tf.constant(top_k)
            options["top_p"] = None if top_p is None else tf.constant(top_p, tf.float32)
        found = []
        for chunk, part in enumerate(self._chunks(features)):
            if temperature:
                options["seed"] = tf.constant([seed, chunk << 32], tf.int64)
            found.append(self._decode(part, tf.constant(max_length), **options).numpy())
        return np.concatenate(found)

    def beam_search(
        self,
        features: Any,
        beam_size: int = 3,
        n_best: int = 1,
        max_length: int = 30,
        *,
        length_penalty: float = 0.0,
        block_trigrams: bool = False,
        never_empty: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest sentences for each image that a beam of `beam_size` finds.

        Args:
            features: (N, D), with attention (N, L, D).
            beam_size: how many beginnings are extended at a time.
            n_best: how many sentences to return, at most `beam_size`.
            max_length: the most words, ``<END>`` included.
            length_penalty: above 0 favours longer sentences; see `decoding.beam_search`.
            block_trigrams: no three words in a row occur twice in a sentence.
            never_empty: every sentence has a word at least.

        Returns:
            ids, int32 (N, n_best, max_length), the best first, and their log-probabilities, float32
            (N, n_best).

        Raises:
            ValueError: an argument does not fit.

        Example:
            >>> from tfcap import CaptioningRNN
            >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
            >>> model = CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6)
            >>> ids, log_p = model.beam_search(np.ones((2, 8)), beam_size=3, n_best=2, max_length=4)
            >>> ids.shape, log_p.shape
            ((2, 2, 4), (2, 2))
        """
        max_length = positive_integer("max_length", max_length)
        beam_size = positive_integer("beam_size", beam_size)
        n_best = positive_integer("n_best", n_best)
        if n_best > beam_size:
            raise ValueError(
                f"n_best must be at most beam_size, received {n_best} with a beam of {beam_size}"
            )
        if not np.isfinite(length_penalty):
            raise ValueError(f"length_penalty must be finite, received {length_penalty}")
        results = [
            self._beams(
                part,
                tf.constant(max_length),
                beam_size,
                n_best,
                tf.constant(length_penalty, tf.float32),
                block_trigrams=block_trigrams,
                never_empty=never_empty,
            )
            for part in self._chunks(features, beam_size)
        ]
        words, log_p = zip(*results, strict=True)
        return np.concatenate(words), np.concatenate(log_p)

    def export_sentences(
        self,
        folder: str | os.PathLike[str],
        *,
        beam_size: int = 1,
        max_length: int = 30,
        length_penalty: float = 0.0,
        block_trigrams: bool = False,
    ) -> None:
        """Writes a SavedModel that makes sentences of features, for TensorFlow without this package.

        What ``tf.saved_model.load(folder)`` returns has a function ``serve`` of features, float32
        (N, D), with attention (N, L, D), which returns "sentences", N strings, and "ids", int32
        (N, max_length). For logits, see `export`.

        Args:
            folder: where to.
            beam_size: 1 takes the likeliest word each time, as `sample` does; more is `beam_search`.
            max_length, length_penalty, block_trigrams: as in `beam_search`.

        Raises:
            OSError: the folder cannot be written.
            ValueError: an argument does not fit.

        Example:
            >>> from tfcap import CaptioningRNN
            >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
            >>> model = CaptioningRNN(words, input_dim=8, wordvec_dim=4, hidden_dim=6)
            >>> model.export_sentences("exported", max_length=4)
            >>> loaded = tf.saved_model.load("exported")  # keep it: it holds the weights
            >>> served = loaded.serve(tf.ones((2, 8)))
            >>> served["sentences"].shape.as_list(), served["ids"].shape.as_list()
            ([2], [2, 4])
        """
        max_length = positive_integer("max_length", max_length)
        beam_size = positive_integer("beam_size", beam_size)
        if not np.isfinite(length_penalty):
            raise ValueError(f"length_penalty must be finite, received {length_penalty}")
        if self.ids.start is None:
            raise ValueError('the vocabulary has no "<START>", with which every sentence begins')

        def serve(features: Tensor) -> dict[str, Tensor]:
            states, image = self._begin(features)
            step, longest = functools.partial(self._step, image), tf.constant(max_length)
            options: dict[str, Any] = {"block_trigrams": block_trigrams}
            if beam_size == 1:
                ids = decoding.decode(step, states, self.ids, longest, **options)
            else:
                options["length_penalty"] = tf.constant(length_penalty, tf.float32)
                found, _ = decoding.beam_search(
                    step, states, self.ids, longest, beam_size, **options
                )
                ids = found[:, 0]
            ids = tf.ensure_shape(ids, (None, max_length))
            words = tf.gather(tf.constant(self.idx_to_word), ids)  # (N, T)
            silent = [self.ids.null, *([] if self.ids.end is None else [self.ids.end])]
            spoken = tf.reduce_all(ids[..., tf.newaxis] != silent, axis=2)
            joined = tf.strings.reduce_join(tf.where(spoken, words + " ", ""), axis=1)
            return {"sentences": tf.strings.strip(joined), "ids": ids}

        archive = keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint("serve", serve, [self._features_spec()])
        archive.write_out(os.fspath(folder), verbose=False)

    def _features_spec(self) -> tf.TensorSpec:
        cells = [None] if self.looks else []
        return tf.TensorSpec([None, *cells, self.input_dim], tf.float32, "features")

    def _chunks(self, features: Any, beams: int = 1) -> Iterator[np.ndarray]:
        """The features in parts, which bounds the memory whatever their number."""
        if self.ids.start is None:
            raise ValueError('the vocabulary has no "<START>", with which every sentence begins')
        if len(np.shape(features)) != (3 if self.looks else 2):
            self._check_features(np.asarray(features))
        images = max(ROWS_AT_ONCE // beams, 1)
        for start in range(0, max(len(features), 1), images):
            part = np.asarray(features[start : start + images])
            self._check_features(part)
            yield part

    def attention(self, features: Any, words: Any) -> np.ndarray:
        """Where each word of each sentence was looked for.

        Args:
            features: (N, L, D).
            words: int (N, T), sentences without ``<START>``, as `sample` returns them.

        Returns:
            The weights of the cells, float32 (N, T, heads, L), 1 in sum; zeros for ``<NULL>``.

        Raises:
            ValueError: an argument does not fit, or the captioner has no attention.

        Example:
            >>> from tfcap import CaptioningRNN
            >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
            >>> model = CaptioningRNN(words, 8, 4, 6, "attention", heads=2)
            >>> model.attention(np.ones((1, 9, 8)), np.array([[3, 2, 0]])).shape
            (1, 3, 2, 9)
        """
        if not self.looks:
            raise ValueError(
                f'a captioner of cell_type "{self.cell_type}" has no attention: train one of '
                '"attention"'
            )
        words = np.asarray(words)
        if words.ndim != 2 or words.shape[1] == 0 or len(words) != len(features):
            raise ValueError(
                f"received words of shape {words.shape} for {len(features)} images, expected a "
                "sentence (N, T) for each"
            )
        found = []
        for k, part in enumerate(self._chunks(features)):
            those = words[k * ROWS_AT_ONCE : (k + 1) * ROWS_AT_ONCE]
            before = np.insert(those[:, :-1], 0, self.ids.start or 0, axis=1)  # (N, T)
            states, image = self._begin(part)
            _, _, shown = self.recurrent(self.embed(before), *image, initial_state=states)
            spoken = (those != self.ids.null)[:, :, np.newaxis, np.newaxis]
            found.append(tf.cast(shown, tf.float32).numpy() * spoken)
        return np.concatenate(found)

    def _step(
        self, image: list[Tensor], tokens: Tensor, states: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        x = tf.cast(tf.gather(self.embed.W, tokens), self.compute_dtype)  # (M, W)
        if self.looks:
            h, c, context, _ = self.recurrent.cell.look(x, [*states, *image])
            return tf.cast(self._logits([h, context, x]), tf.float32), [h, c]  # (M, V)
        h, states = self.recurrent.cell(x, states)
        return tf.cast(self._logits([h]), tf.float32), states  # (M, V)

    @functools.cached_property
    def _decode(self) -> Any:
        def run(
            features: Tensor,
            max_length: Tensor,
            temperature: Tensor | None = None,
            top_k: Tensor | None = None,
            top_p: Tensor | None = None,
            seed: Tensor | None = None,
            count: int = 1,
            **options: Any,
        ) -> Tensor:
            """`count` sentences for each image, one below the other."""
            select_token: decoding.SelectToken = decoding.greedy
            if temperature is not None:
                select_token = decoding.sampler(temperature, top_k, top_p, seed)
            states, image = self._begin(features)
            states = [tf.repeat(state, count, axis=0) for state in states]
            step = functools.partial(self._step, image)
            return decoding.decode(step, states, self.ids, max_length, select_token, **options)

        return tf.function(run, reduce_retracing=True, autograph=False)

    @functools.cached_property
    def _beams(self) -> Any:
        def run(features: Tensor, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
            states, image = self._begin(features)
            step = functools.partial(self._step, image)
            return decoding.beam_search(step, states, self.ids, *arguments, **options)

        return tf.function(run, reduce_retracing=True, autograph=False)
