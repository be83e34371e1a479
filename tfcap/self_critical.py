"""Training on CIDEr itself: a captioner draws sentences, and learns from how well each scores.

S. J. Rennie et al. (2017), Self-critical sequence training for image captioning, arXiv:1612.00563,
with the baseline of R. Luo (2020), A better variant of self-critical sequence training,
arXiv:2003.09971: the mean score of the image's other sentences.
"""

import functools
from typing import Any

import numpy as np

from tfcap.data.vocabulary import START
from tfcap.metrics.cider import CiderD
from tfcap.training import Batch, Trainer
from visualization.backend import tf

__all__ = ["SAMPLES", "SelfCriticalTrainer", "advantages"]

SAMPLES = 5  # sentences drawn for an image


class SelfCriticalTrainer(Trainer):
    """Goes on from a trained captioner, one step after another along

        gradient = -sum over an image's sentences w of (r(w) - b(w)) . gradient of log p(w)

    with r(w) the CIDEr-D of w against the image's captions and b(w) the mean r of the others. The loss
    that it reports is -r, the mean over the sentences (Rennie et al., equation 4).

    ``<END>`` counts as a word in r: otherwise training learns to break sentences off, as in "a dog
    with a".

    Raises:
        ValueError: there is no captioner to go on from, or there are several devices.

    Example:
        >>> import tempfile
        >>> from tfcap.model import CaptioningRNN
        >>> from tfcap.train_state import TrainConfig
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "dog": 4}
        >>> data = {"word_to_idx": words, "train_features": np.ones((2, 3), np.float32)}
        >>> data["train_captions"] = np.array([[1, 4, 2], [1, 4, 2]], np.int32)
        >>> data["train_image_idxs"] = np.array([0, 1])
        >>> captioner = CaptioningRNN(words, 3, 4, 4)
        >>> config = TrainConfig(epochs=1, self_critical=True)
        >>> trainer = SelfCriticalTrainer(config, data, tempfile.mkdtemp(), captioner=captioner)
        >>> [results["epoch"] for results in trainer.epochs()]
        [1]
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.captioner is None:
            raise ValueError("self-critical training goes on from a captioner: name one")
        if self.strategy.num_replicas_in_sync > 1:
            raise ValueError("self-critical training runs on one device: omit the strategy")
        captions = self.data["train_captions"][:][:, 1:]  # without <START>
        self._max_length = captions.shape[1]
        words = len(self.model.word_to_idx)
        self._cider = CiderD(captions, self.data["train_image_idxs"][:], words)

    def step_on(self, batches: tuple[Batch, ...]) -> tuple[float, float]:
        (((features, image_of_row), captions),) = batches
        seed = tf.constant([self.config.seed, self.state.step], tf.int64)
        sentences = self._draw(features, seed).numpy()  # (S I, T)
        whole = captions[:, 1:].numpy()
        spoken = whole.any(axis=1)
        images = np.repeat(np.arange(len(features), dtype=np.int32), SAMPLES)
        rewards = self._cider.score(sentences, images, whole[spoken], image_of_row[spoken])
        lengths = np.count_nonzero(sentences, axis=1)
        by_length = np.argsort(-lengths, kind="stable")
        sentences = sentences[by_length, : lengths.max()]
        sentences = np.insert(sentences, 0, START, axis=1)
        weights = advantages(rewards)[by_length].astype(np.float32)
        self._descend(features, sentences, weights, images[by_length])
        return -float(rewards.mean()), float(np.count_nonzero(sentences[:, 1:]))

    @functools.cached_property
    def _draw(self) -> Any:
        (features, _), _ = self.signature()
        max_length = tf.constant(self._max_length)

        def draw(features: Any, seed: Any) -> Any:
            options = {"temperature": tf.constant(1.0), "seed": seed, "count": SAMPLES}
            return self.model._decode.python_function(features, max_length, **options)

        signature = features, tf.TensorSpec((2,), tf.int64)
        return tf.function(draw, input_signature=signature, autograph=False)

    @functools.cached_property
    def _descend(self) -> Any:
        def descend(features: Any, sentences: Any, weights: Any, image_of_row: Any) -> None:
            rows = tf.cast(tf.shape(sentences)[0], weights.dtype)
            self.model.descend(
                lambda: self.model.weighted_loss(features, sentences, weights, image_of_row) / rows
            )

        return tf.function(descend, reduce_retracing=True, autograph=False)


def advantages(rewards: np.ndarray, samples: int = SAMPLES) -> np.ndarray:
    """Each sentence's reward less the mean of its image's other sentences.

    Args:
        rewards: (I * samples,), those of an image side by side.
        samples: at least 2.

    Example:
        >>> advantages(np.array([1.0, 3.0, 5.0]), samples=3)
        array([-3.,  0.,  3.])
    """
    by_image = rewards.reshape(-1, samples)
    others = (by_image.sum(axis=1, keepdims=True) - by_image) / (samples - 1)
    return (by_image - others).ravel()
