"""Captions of photographs: an encoder and a captioner together, the bundled one or one's own."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfcap.data.coco import decode_captions
from tfcap.data.features import BATCH_SIZE, ENCODERS, image_features
from tfcap.explain import word_log_probabilities
from tfcap.model import CaptioningRNN
from visualization import load_image
from visualization.files.bundle import BUNDLE, CAPTIONER, manifest, read_bundled
from visualization.images.reading import images_in

__all__ = ["Captioner", "load_captioner"]

Image = str | os.PathLike[str] | bytes | np.ndarray


class Captioner:
    """Says in a sentence what a photograph shows.

    Args:
        model: a trained captioner; its encoder is one of `tfcap.data.features.ENCODERS`.

    Attributes:
        model: the captioner.
        encoder: what makes the features that it takes.

    Raises:
        ValueError: no encoder here makes the features that the captioner takes.

    Example:
        >>> import matplotlib.cbook
        >>> with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        ...     sentence = load_captioner().caption(file.read())
        >>> isinstance(sentence, str)
        True
    """

    def __init__(self, model: CaptioningRNN) -> None:
        encoder = ENCODERS.get(model.encoder or "")
        if encoder is None or not model.takes((None, *encoder.shape)):
            known = ", ".join(f"{one.width} of {name}" for name, one in ENCODERS.items())
            raise ValueError(
                f"the captioner cannot caption photographs: it was trained on {model.input_dim} "
                f"features of {model.encoder or 'an unnamed encoder'}, and this program computes only "
                f"{known}: name a captioner trained on what python -m tfcap.datasets build wrote"
            )
        self.model, self.encoder = model, encoder

    def caption(self, images: Any, *, beam_size: int | None = None, attention: bool = False) -> Any:
        """The likeliest sentence for each image.

        Args:
            images: a path, a URL, a file's content or an array, uint8 RGB (H, W, 3); a list of them, or
                an array (N, H, W, 3); or a folder, for all images in it by name.
            beam_size: how many beginnings the search follows; by default the captioner's own.
            attention: also return where each word was looked for.

        Returns:
            For one image its sentence, a str; for several a list. With `attention`, in place of each
            sentence (sentence, weights), weights float32 (T, height, width): for each of its T words
            how much each cell of the image was looked at, 1 in sum, the mean of the heads.

        Raises:
            ValueError, OSError: an image cannot be read; the captioner has no attention.
        """
        if isinstance(images, str | os.PathLike) and os.path.isdir(images):
            images = images_in(Path(images))
        elif isinstance(images, np.ndarray) and images.ndim == 4:
            images = list(images)
        several = isinstance(images, list | tuple)
        found = list(self._captions(iter(images if several else [images]), beam_size, attention))
        return found if several else found[0]

    def decoding(self, n_best: int = 1, **given: Any) -> dict[str, Any]:
        """What `sentences` does: the captioner's own `decoding`, and what is given in place of it.

        Its own beam is widened to `n_best`.

        Example:
            >>> load_captioner().decoding(n_best=5)["beam_size"]
            5
        """
        if "temperature" not in given:
            given = {"beam_size": max(int(self.model.decoding["beam_size"]), n_best)} | given
        return {**self.model.decoding_with(**given), "n_best": n_best}

    def sentences(
        self, features: np.ndarray, n_best: int = 1, **decoding: Any
    ) -> list[list[tuple[str, float, np.ndarray]]]:
        """For each image's features its best sentences, each with its log-probability and its ids.

        No sentence is empty. With a temperature they are drawn, and then sorted by log-probability.

        Args:
            features: as `tfcap.data.features.image_features` makes them.
            n_best: how many sentences at most.
            decoding: options of `CaptioningRNN.beam_search`, or with a temperature of `sample`, in
                place of the captioner's own.

        Example:
            >>> captioner = load_captioner()
            >>> black = np.zeros((1, 260, 260, 3), np.uint8)
            >>> features = image_features(black, captioner.encoder.name)
            >>> [(sentence, log_p, ids)] = captioner.sentences(features)[0]
            >>> log_p < 0
            True
        """
        options = {"never_empty": True, **self.decoding(n_best, **decoding)}
        find = self._draw if "temperature" in options else self.model.beam_search
        ids, log_p = find(features, **options)  # (N, n_best, T), (N, n_best)
        return [
            [
                (sentence, float(value), row)
                for sentence, value, row in zip(
                    decode_captions(rows, self.model.idx_to_word), values, rows, strict=True
                )
                if np.isfinite(value)
            ]
            for rows, values in zip(ids, log_p, strict=True)
        ]

    def _draw(
        self, features: np.ndarray, n_best: int, **options: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Drawn sentences, as `CaptioningRNN.beam_search` returns those that it finds."""
        rows = np.repeat(features, n_best, axis=0)
        ids = self.model.sample(rows, **options)
        log_p = word_log_probabilities(self.model, rows, ids).sum(axis=1).reshape(-1, n_best)
        order = np.argsort(-log_p, axis=1)  # (N, n_best)
        ids = ids.reshape(*order.shape, -1)
        return np.take_along_axis(ids, order[..., None], 1), np.take_along_axis(log_p, order, 1)

    def attention(self, features: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Where each word of each sentence was looked for, the mean of the heads.

        features (N, L, D), ids int (N, T) -> float32 (N, T, height, width), zeros for ``<NULL>``

        Raises:
            ValueError: the captioner has no attention.

        Example:
            >>> captioner = load_captioner()
            >>> captioner.attention(np.zeros((1, 81, 352), np.float32), np.array([[4, 5]])).shape
            (1, 2, 9, 9)
        """
        weights = self.model.attention(features, ids).mean(axis=2)  # (N, T, L)
        return weights.reshape(*ids.shape, *self.encoder.grid)

    def _captions(
        self, images: Iterator[Image], beam_size: int | None, attention: bool
    ) -> Iterator[Any]:
        decoding = {} if beam_size is None else {"beam_size": beam_size}
        while batch := list(itertools.islice(images, BATCH_SIZE)):
            seen = np.stack([self.encoder.fit(_pixels(image)) for image in batch])
            features = image_features(seen, self.encoder.name)
            best = [found[0] for found in self.sentences(features, **decoding)]
            said = [sentence for sentence, _, _ in best]
            if not attention:
                yield from said
                continue
            weights = self.attention(features, np.stack([ids for _, _, ids in best]))
            for sentence, shown in zip(said, weights, strict=True):
                yield sentence, shown[: len(sentence.split())]


def load_captioner(folder: str | os.PathLike[str] | None = None) -> Captioner:
    """The bundled captioner, or one that ``python -m tfcap.train`` wrote.

    Args:
        folder: of the captioner; by default ``weights/captioner_flickr8k``, which is verified.

    Raises:
        OSError: files are missing or cannot be read.
        ValueError: they are damaged or do not belong together.

    Example:
        >>> load_captioner().encoder.name
        'efficientnet_lite2_cells'
    """
    if folder is None:
        for name in manifest():
            if name.startswith(f"{CAPTIONER}/"):
                read_bundled(name)
    folder = Path(folder or BUNDLE / CAPTIONER)
    model = CaptioningRNN.from_pretrained(folder)
    try:
        return Captioner(model)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


def _pixels(image: Image) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if not isinstance(image, np.ndarray):
        return load_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"an image is {image.dtype} {image.shape}, expected uint8 RGB (H, W, 3), 0 to 255"
        )
    return image
