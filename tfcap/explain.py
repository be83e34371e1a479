"""Which part of a photograph each word of a caption depends on, and a test of whether it does.

Sources: R. R. Selvaraju et al. (2017), "Grad-CAM", arXiv:1610.02391, which explains captions too;
V. Petsiuk, A. Das, K. Saenko (2018), "RISE", arXiv:1806.07421, for the test by deletion.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfcap.data.features import Encoder, encoder_named, image_features
from tfcap.model import CaptioningRNN
from visualization import blur_image
from visualization.backend import tf
from visualization.compilation import compiled

__all__ = [
    "RANDOM_REGIONS",
    "REGION",
    "Falls",
    "falls_when_hidden",
    "hide",
    "mean_falls",
    "regions",
    "word_log_probabilities",
    "word_maps",
]

Tensor = Any

REGION = 64  # pixels: the side of a region that is hidden
RANDOM_REGIONS = 20


def word_log_probabilities(captioner: CaptioningRNN, features: Any, tokens: Any) -> np.ndarray:
    """log p of each word of a caption, given the photograph and the words before it.

    Args:
        captioner: the captioner.
        features: floating point (N, D), of the photographs.
        tokens: ids, integers (N, T), without ``<START>``.

    Returns:
        float32 (N, T); 0 for ``<NULL>``.

    Raises:
        ValueError: the shapes do not fit, or an id has no word.

    Example:
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "dog": 4}
        >>> captioner = CaptioningRNN(words, input_dim=6, wordvec_dim=4, hidden_dim=8)
        >>> word_log_probabilities(captioner, np.ones((1, 6)), [[4, 2, 0]]) < 0
        array([[ True,  True, False]])
    """
    features, tokens = np.asarray(features), _check_tokens(captioner, tokens, axes=2)
    return compiled(captioner, _build_log_p)(features, tokens).numpy()


def word_maps(captioner: CaptioningRNN, image: Any, tokens: Any) -> np.ndarray:
    """Where in a photograph each word of a caption comes from.

    With attention, how much the captioner looked at each cell when it chose the word, the mean of its
    heads. Otherwise Grad-CAM of log p(word | the words before) on the encoder's last grid. The
    features are the grid's mean over its positions A_p, so the gradient is the same at all of them,
    and

        map_p = ReLU(d(log p)/d(features) . A_p)

    is, to the first order, how much of log p comes from position p.

    Args:
        captioner: one for the features of `tfcap.data.features.image_features`.
        image: what its encoder sees, uint8 (size, size, 3), as from `Encoder.fit`.
        tokens: ids, integers (T,), without ``<START>``.

    Returns:
        float32 (T, size, size), never negative.

    Raises:
        ValueError: the image or the ids have another shape or type, or an id has no word.

    Example:
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "dog": 4}
        >>> captioner = CaptioningRNN(words, input_dim=512, wordvec_dim=4, hidden_dim=8)
        >>> word_maps(captioner, np.zeros((224, 224, 3), np.uint8), [4, 2]).shape
        (2, 224, 224)
    """
    tokens, encoder = _check_tokens(captioner, tokens, axes=1), _encoder(captioner)
    pixels = np.asarray(image)[np.newaxis]
    if captioner.looks:
        features = image_features(pixels, encoder.name)
        maps = captioner.attention(features, tokens[np.newaxis])[0].mean(axis=1)  # (T, L)
        maps = maps.reshape(-1, *encoder.grid)
    else:
        grid = image_features(pixels, encoder.name, grid=True)[0].astype(np.float32)
        features = grid.mean(axis=(0, 1))  # (D,)
        gradients = compiled(captioner, _build_gradients)(features, tokens)  # (T, D)
        maps = np.maximum(np.moveaxis(grid @ np.transpose(gradients), -1, 0), 0)  # (T, h, w)
    return tf.image.resize(maps[..., np.newaxis], (encoder.size, encoder.size))[..., 0].numpy()


def regions(maps: Any, size: int = REGION) -> np.ndarray:
    """Where the square with the largest mean is in each map.

    Args:
        maps: (T, H, W).
        size: the square's side, pixels.

    Returns:
        Its top and left, int (T, 2).

    Example:
        >>> regions(np.eye(3)[np.newaxis, ::-1], size=1)
        array([[0, 2]])
    """
    sums = np.cumsum(np.cumsum(maps, axis=1, dtype=np.float64), axis=2)
    sums = np.pad(sums, ((0, 0), (1, 0), (1, 0)))
    inside = sums[:, size:, size:] - sums[:, :-size, size:]
    inside += sums[:, :-size, :-size] - sums[:, size:, :-size]  # (T, H - size + 1, W - size + 1)
    best = inside.reshape(len(inside), -1).argmax(axis=1)
    return np.stack(np.unravel_index(best, inside.shape[1:]), axis=1)


BLUR = 20.0  # standard deviation, in pixels, of what takes the place of a region


def hide(image: np.ndarray, corners: Any, size: int = REGION) -> np.ndarray:
    """Copies of a photograph, in each of which one square is blurred away.

    Args:
        image: uint8 (H, W, 3).
        corners: the squares' tops and lefts, int (R, 2).
        size: their side, pixels.

    Returns:
        uint8 (R, H, W, 3).

    Example:
        >>> image = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
        >>> (hide(image, [(4, 8)], size=2) != image).any(axis=-1).nonzero()[1:]
        (array([4, 4, 5, 5]), array([8, 9, 8, 9]))
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
        log_p: the words' log-probabilities for the whole photograph.
        own: the fall when the region is hidden on which the word depends most.
        others: the mean fall for the regions of the other words; NaN for a caption of one word.
        random: the mean fall for regions of the same size at random places.

    Example:
        >>> Falls(*np.zeros((4, 2))).own
        array([0., 0.])
    """

    log_p: np.ndarray
    own: np.ndarray
    others: np.ndarray
    random: np.ndarray


def falls_when_hidden(
    captioner: CaptioningRNN, image: np.ndarray, tokens: Any, maps: np.ndarray, seed: int = 0
) -> Falls:
    """Tests maps: a word must fall more when its own region is hidden than when others are.

    Args:
        captioner, image, tokens: as for `word_maps`.
        maps: (T, H, W), what it returned, or maps from elsewhere.
        seed: of the random regions.

    Raises:
        ValueError: as `word_maps`; or the maps do not belong to the image and the words.

    Example:
        >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "<UNK>": 3, "dog": 4}
        >>> captioner = CaptioningRNN(words, input_dim=512, wordvec_dim=4, hidden_dim=8)
        >>> image, maps = np.zeros((224, 224, 3), np.uint8), np.ones((1, 224, 224))
        >>> falls_when_hidden(captioner, image, [4], maps).own  # one black square is as the other
        array([0.], dtype=float32)
    """
    tokens, maps = _check_tokens(captioner, tokens, axes=1), np.asarray(maps)
    height, width = image.shape[:2]
    if maps.shape != (len(tokens), height, width):
        raise ValueError(
            f"the maps have shape {maps.shape}, expected {(len(tokens), height, width)}: one of the "
            "image's size for each word"
        )
    most = (height - REGION + 1, width - REGION + 1)
    anywhere = np.random.default_rng(seed).integers(most, size=(RANDOM_REGIONS, 2))
    hidden = hide(image, np.concatenate([regions(maps), anywhere]))
    pixels = np.concatenate([image[np.newaxis], hidden])
    features = image_features(pixels, _encoder(captioner).name)
    log_p = word_log_probabilities(captioner, features, np.tile(tokens, (len(features), 1)))
    falls, count = log_p[0] - log_p[1:], len(tokens)  # (T + R, T)
    own = falls[:count].diagonal()
    others = (falls[:count].sum(axis=0) - own) / (count - 1) if count > 1 else np.full(1, np.nan)
    return Falls(log_p[0], own, others, falls[count:].mean(axis=0))


def mean_falls(
    tested: Sequence[tuple[Sequence[str], Falls]], leave_out: Collection[str] = ()
) -> dict[str, Any]:
    """The results of several photographs together, each photograph counting the same.

    Args:
        tested: for each photograph its words and how they fell.
        leave_out: words that are not counted.

    Returns:
        "own", "others" (None if every caption has one word), "random": the mean falls; "gain":
        the mean of own - random, and "gain_error": its standard error over the photographs (None
        for one); "share_above_random": of words that fall more for their own region than for random
        ones; "photographs" and "words": how many were counted. If none was, only these two.

    Example:
        >>> falls = Falls(*np.array([[-1.0], [0.5], [np.nan], [0.2]]))
        >>> round(mean_falls([(["dog"], falls)])["gain"], 3)
        0.3
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


def _encoder(captioner: CaptioningRNN) -> Encoder:
    return encoder_named(captioner.encoder or "squeezenet")


def _check_tokens(captioner: CaptioningRNN, tokens: Any, axes: int) -> np.ndarray:
    tokens, known = np.asarray(tokens), len(captioner.word_to_idx)
    fits = tokens.ndim == axes and tokens.size and np.issubdtype(tokens.dtype, np.integer)
    if not fits or not 0 <= tokens.min() <= tokens.max() < known:
        raise ValueError(
            f"the tokens are {tokens.dtype} {tokens.shape}, expected ids from 0 to {known - 1} in "
            + ("(T,)" if axes == 1 else "(N, T)")
        )
    return tokens.astype(np.int32)


def _build_log_p(get_captioner: Callable[[], CaptioningRNN]) -> Callable[..., Tensor]:
    @tf.function(reduce_retracing=True)
    def log_p(features: Tensor, tokens: Tensor) -> Tensor:
        return _log_p(get_captioner(), features, tokens)

    return log_p


def _build_gradients(get_captioner: Callable[[], CaptioningRNN]) -> Callable[..., Tensor]:
    @tf.function(reduce_retracing=True)
    def gradients(features: Tensor, tokens: Tensor) -> Tensor:
        """d(log p of each word)/d(features): (D,), (T,) -> (T, D)."""
        count = tf.shape(tokens)[0]
        features = tf.repeat(features[tf.newaxis], count, axis=0)  # a row for each word
        tokens = tf.repeat(tokens[tf.newaxis], count, axis=0)  # (T, T)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            log_p = tf.linalg.diag_part(_log_p(get_captioner(), features, tokens))  # (T,)
        return tape.gradient(log_p, features)

    return gradients


def _log_p(captioner: CaptioningRNN, features: Tensor, tokens: Tensor) -> Tensor:
    start = tf.fill([tf.shape(tokens)[0], 1], captioner.ids.start)
    before = tf.concat([start, tokens[:, :-1]], axis=1)  # (N, T)
    logits = tf.cast(captioner((features, before)), tf.float32)  # (N, T, V)
    log_p = tf.gather(tf.nn.log_softmax(logits), tokens, batch_dims=2)  # (N, T)
    return tf.where(tokens == captioner.ids.null, 0.0, log_p)
