"""Which part of a photograph each word of its sentence responds to, and whether that is true.

Sources: R. R. Selvaraju et al. (2017), "Grad-CAM", arXiv:1610.02391, which explains captions too;
V. Petsiuk, A. Das, K. Saenko (2018), "RISE", arXiv:1806.07421, for the test by deletion.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfcap.data.features import SIZE, image_features
from tfcap.model import CaptioningRNN
from visualization import blur_image
from visualization.backend import tf
from visualization.gradients import compiled

Tensor = Any

REGION = 64  # pixels: the side of a region that is hidden
BLUR = 20.0  # standard deviation, in pixels, of what takes the place of a region
RANDOM_REGIONS = 20


def word_log_probabilities(captioner: CaptioningRNN, features: Any, words: Any) -> np.ndarray:
    """log p of each word, given the photograph and the words before it.

    Args:
        captioner: what says the words.
        features: floating point (N, D), of the photographs.
        words: ids, integers (N, T), without ``<START>``.

    Returns:
        float32 (N, T); 0 for ``<NULL>``.

    Raises:
        ValueError: the shapes do not fit, or an id has no word.
    """
    features, words = np.asarray(features), _checked(captioner, words, axes=2)
    return compiled(captioner, _build_log_p)(features, words).numpy()


def _checked(captioner: CaptioningRNN, words: Any, axes: int) -> np.ndarray:
    words, known = np.asarray(words), len(captioner.word_to_idx)
    fits = words.ndim == axes and words.size and np.issubdtype(words.dtype, np.integer)
    if not fits or not 0 <= words.min() <= words.max() < known:
        raise ValueError(
            f"words are {words.dtype} {words.shape}, expected ids from 0 to {known - 1} in "
            + ("(T,)" if axes == 1 else "(N, T)")
        )
    return words.astype(np.int32)


def _build_log_p(get_captioner: Callable[[], CaptioningRNN]) -> Callable[..., Tensor]:
    @tf.function(reduce_retracing=True)
    def log_p(features: Tensor, words: Tensor) -> Tensor:
        return _log_p(get_captioner(), features, words)

    return log_p


def _log_p(captioner: CaptioningRNN, features: Tensor, words: Tensor) -> Tensor:
    start = tf.fill([tf.shape(words)[0], 1], captioner.ids.start)
    before = tf.concat([start, words[:, :-1]], axis=1)  # (N, T)
    scores = tf.cast(captioner((features, before)), tf.float32)  # (N, T, V)
    log_p = tf.gather(tf.nn.log_softmax(scores), words, batch_dims=2)  # (N, T)
    return tf.where(words == captioner.ids.null, 0.0, log_p)


def word_maps(captioner: CaptioningRNN, image: Any, words: Any) -> np.ndarray:
    """How much each position of a photograph speaks for each word of a sentence about it.

    This is Grad-CAM of log p(word | the words before) on SqueezeNet's last grid. The features are
    the grid's mean over its positions A_p, so the gradient is the same at all of them, and

        map_p = ReLU(d(log p)/d(features) . A_p)

    tells, to the first order, how much of log p comes from position p.

    Args:
        captioner: one for the features of `tfcap.data.features.image_features`.
        image: uint8 (224, 224, 3).
        words: ids, integers (T,), without ``<START>``.

    Returns:
        float32 (T, 224, 224), never negative.

    Raises:
        ValueError: the image or the words are of another shape or type, or an id has no word.
    """
    words = _checked(captioner, words, axes=1)
    grid = image_features(np.asarray(image)[np.newaxis], grid=True)[0].astype(np.float32)
    gradients = compiled(captioner, _build_gradients)(grid.mean(axis=(0, 1)), words)  # (T, 512)
    maps = np.maximum(np.moveaxis(grid @ np.transpose(gradients), -1, 0), 0)  # (T, 13, 13)
    return tf.image.resize(maps[..., np.newaxis], (SIZE, SIZE))[..., 0].numpy()


def _build_gradients(get_captioner: Callable[[], CaptioningRNN]) -> Callable[..., Tensor]:
    @tf.function(reduce_retracing=True)
    def gradients(features: Tensor, words: Tensor) -> Tensor:
        """d(log p of each word)/d(features): (D,), (T,) -> (T, D)."""
        count = tf.shape(words)[0]
        features = tf.repeat(features[tf.newaxis], count, axis=0)  # a row for each word
        words = tf.repeat(words[tf.newaxis], count, axis=0)  # (T, T)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            log_p = tf.linalg.diag_part(_log_p(get_captioner(), features, words))  # (T,)
        return tape.gradient(log_p, features)

    return gradients


def regions(maps: Any, size: int = REGION) -> np.ndarray:
    """The square of each map, (T, H, W), with the largest mean: its top and left, int (T, 2)."""
    sums = np.cumsum(np.cumsum(maps, axis=1, dtype=np.float64), axis=2)
    sums = np.pad(sums, ((0, 0), (1, 0), (1, 0)))
    inside = sums[:, size:, size:] - sums[:, :-size, size:]
    inside += sums[:, :-size, :-size] - sums[:, size:, :-size]  # (T, H - size + 1, W - size + 1)
    best = inside.reshape(len(inside), -1).argmax(axis=1)
    return np.stack(np.unravel_index(best, inside.shape[1:]), axis=1)


def hide(image: np.ndarray, corners: Any, size: int = REGION) -> np.ndarray:
    """Copies of a photograph, in each of which one square is blurred away.

    Args:
        image: uint8 (H, W, 3).
        corners: the squares' tops and lefts, int (R, 2).
        size: their side, pixels.

    Returns:
        uint8 (R, H, W, 3).
    """
    blurred = blur_image(image[np.newaxis].astype(np.float32), BLUR)[0].round().astype(np.uint8)
    hidden = np.repeat(image[np.newaxis], len(corners), axis=0)
    for copy, (top, left) in zip(hidden, corners, strict=True):
        square = slice(top, top + size), slice(left, left + size)
        copy[square] = blurred[square]
    return hidden


class Falls(NamedTuple):
    """By how much log p of each word falls when a region is hidden; all (T,), natural logarithms.

    Attributes:
        log_p: the words' log-probabilities on the whole photograph.
        own: the region to which the word responds most.
        others: the regions of the other words, the mean; NaN for a sentence of one word.
        random: regions of the same size anywhere, the mean.
    """

    log_p: np.ndarray
    own: np.ndarray
    others: np.ndarray
    random: np.ndarray


def falls_when_hidden(
    captioner: CaptioningRNN, image: np.ndarray, words: Any, maps: np.ndarray, seed: int = 0
) -> Falls:
    """Tests maps: a word must fall more when its region is hidden than when others are.

    Args:
        captioner, image, words: as for `word_maps`.
        maps: (T, H, W), what it returned, or maps from elsewhere.
        seed: of the random regions.

    Raises:
        ValueError: as `word_maps`; or the maps do not belong to the image and the words.
    """
    words, maps = _checked(captioner, words, axes=1), np.asarray(maps)
    if maps.shape != (len(words), *image.shape[:2]):
        raise ValueError(
            f"the maps have shape {maps.shape}, expected {(len(words), *image.shape[:2])}: one of "
            "the image's size for each word"
        )
    height, width = image.shape[:2]
    most = (height - REGION + 1, width - REGION + 1)
    anywhere = np.random.default_rng(seed).integers(most, size=(RANDOM_REGIONS, 2))
    hidden = hide(image, np.concatenate([regions(maps), anywhere]))
    features = image_features(np.concatenate([image[np.newaxis], hidden]))
    log_p = word_log_probabilities(captioner, features, np.tile(words, (len(features), 1)))
    falls, count = log_p[0] - log_p[1:], len(words)  # (T + R, T)
    own = falls[:count].diagonal()
    others = (falls[:count].sum(axis=0) - own) / (count - 1) if count > 1 else np.full(1, np.nan)
    return Falls(log_p[0], own, others, falls[count:].mean(axis=0))


def mean_falls(
    tested: Sequence[tuple[Sequence[str], Falls]], leave_out: Collection[str] = ()
) -> dict[str, Any]:
    """What the tests of several photographs come to, each photograph counting the same.

    Args:
        tested: for each photograph its words and how they fell.
        leave_out: words that are not counted.

    Returns:
        "own", "others" (None if every sentence has one word), "random": the mean falls; "gain":
        the mean of own - random, and "gain_error": its standard error over the photographs (None
        for one); "share_above_random": of words that fall more for their own region than for random
        ones; "photographs" and "words": how many were counted. Without any, only these two.
    """
    means, above = [], []
    for words, falls in tested:
        kept = [word not in leave_out for word in words]
        if any(kept):
            means.append([part[kept].mean() for part in (falls.own, falls.others, falls.random)])
            above += list(falls.own[kept] > falls.random[kept])
    counted = {"photographs": len(means), "words": len(above)}
    if not means:
        return counted
    own, others, random = np.array(means).T  # (photographs,)
    compared = others[np.isfinite(others)]
    gain = own - random
    return {
        "own": float(own.mean()),
        "others": float(compared.mean()) if len(compared) else None,
        "random": float(random.mean()),
        "gain": float(gain.mean()),
        "gain_error": float(gain.std(ddof=1) / len(gain) ** 0.5) if len(gain) > 1 else None,
        "share_above_random": float(np.mean(above)),
        **counted,
    }
