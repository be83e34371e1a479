"""The features of images: a vector for each, or one for each of its cells, by a bundled network."""

import collections
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from visualization import EfficientNetLite2, SqueezeNet, load_image
from visualization.backend import keras, tf
from visualization.files.bundle import EFFICIENTNET_LITE2, IMAGENET
from visualization.networks.specification import network_specification

__all__ = [
    "BATCH_SIZE",
    "ENCODERS",
    "Encoder",
    "encoder_model",
    "encoder_named",
    "image_features",
    "random_views",
    "read_images",
]

BATCH_SIZE = 32  # images in a forward pass
VIEW_AREA = (0.5, 1.0)  # of the image, what a random view shows of it
VIEW_ASPECT = (3 / 4, 4 / 3)  # of a random view's width to its height


@dataclass(frozen=True)
class Encoder:
    """A bundled network, and where its features are taken.

    Attributes:
        name: "squeezenet", "efficientnet_lite2", or one of them with "_cells".
        network: the bundled network, as the commands' ``--network`` names it.
        weights: its file in the bundle.
        layer: the layer whose outputs are the cells' features, or whose mean is the image's.
        size: the height and width of its images.
        grid: (height, width) of the layer's output.
        width: D, the numbers in a feature vector.
        cells: whether each cell has a vector, or the image has one, their mean.
        whole: whether the network sees the whole image, squeezed to a square, or its central square.

    Example:
        >>> encoder_named("efficientnet_lite2_cells").shape
        (81, 352)
    """

    name: str
    network: str
    weights: str
    layer: str
    size: int
    grid: tuple[int, int]
    width: int
    cells: bool
    whole: bool

    def fit(self, image: np.ndarray) -> np.ndarray:
        """What the network sees of an image (H, W, 3): uint8 (size, size, 3)."""
        picture, size = Image.fromarray(image), (self.size, self.size)
        if self.whole:
            return np.array(picture.resize(size, Image.Resampling.BICUBIC))
        return np.array(ImageOps.fit(picture, size, Image.Resampling.BICUBIC))

    def field(self, image: np.ndarray) -> np.ndarray:
        """The part of an image (H, W, 3) that the network sees, in its own resolution."""
        if self.whole:
            return image
        side = min(image.shape[:2])
        return np.array(ImageOps.fit(Image.fromarray(image), (side, side)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image's features: (D,), or (L, D)."""
        return (self.grid[0] * self.grid[1], self.width) if self.cells else (self.width,)

    @property
    def dtype(self) -> np.dtype:
        """Cells take half the disk."""
        return np.dtype(np.float16 if self.cells else np.float32)


_SQUEEZENET: dict[str, Any] = {
    "network": "squeezenet",
    "weights": IMAGENET,
    "layer": "fire9",
    "size": 224,
    "grid": (13, 13),
    "width": 512,
    "whole": False,
}
_LITE2: dict[str, Any] = {
    "network": "efficientnet-lite2",
    "weights": EFFICIENTNET_LITE2,
    "size": 260,
    "grid": (9, 9),
    "whole": True,
}
ENCODERS: dict[str, Encoder] = {
    encoder.name: encoder
    for encoder in (
        Encoder("squeezenet", **_SQUEEZENET, cells=False),
        Encoder("squeezenet_cells", **_SQUEEZENET, cells=True),
        Encoder("efficientnet_lite2", **_LITE2, layer="head", width=1280, cells=False),
        Encoder("efficientnet_lite2_cells", **_LITE2, layer="block21", width=352, cells=True),
    )
}


def encoder_named(name: str | None) -> Encoder:
    """The encoder of that name; raises ValueError if there is none.

    Example:
        >>> encoder_named("squeezenet").shape
        (512,)
    """
    if name not in ENCODERS:
        raise ValueError(
            f"features of {name or 'an unnamed encoder'} cannot be computed here, only those of "
            f"{', '.join(ENCODERS)}: build the data with python -m tfcap.datasets build"
        )
    return ENCODERS[name]


def encoder_model(
    name: str = "squeezenet", weights: str | os.PathLike[str] = "imagenet"
) -> keras.Model:
    """The network up to its features.

    Args:
        name: of the encoder.
        weights: as for `visualization.SqueezeNet`; the bundled ones by default.

    Returns:
        A model from preprocessed RGB float32 (N, size, size, 3) to float32 (N, D), or (N, L, D) for
        cells, row by row.

    Raises:
        ValueError: there is no such encoder.

    Example:
        >>> encoder_model().output_shape
        (None, 512)
    """
    encoder = encoder_named(name)
    build = {"squeezenet": SqueezeNet, "efficientnet-lite2": EfficientNetLite2}[encoder.network]
    network = build(weights=weights)
    grid = network.get_layer(encoder.layer).output  # (N, height, width, D)
    last = (
        keras.layers.Reshape(encoder.shape, name="features", dtype="float32")
        if encoder.cells
        else keras.layers.GlobalAveragePooling2D(
            data_format="channels_last", name="features", dtype="float32"
        )
    )
    return keras.Model(network.input, last(grid), name=encoder.name)


def image_features(
    images: Any,
    encoder: str = "squeezenet",
    *,
    grid: bool = False,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """The features of images in memory.

    Args:
        images: uint8 RGB (N, size, size, 3), as `Encoder.fit` makes them: 224 pixels for SqueezeNet,
            260 for EfficientNet-Lite2.
        encoder: the name of an `Encoder`.
        grid: the vectors of the grid, of which an image's features are the mean.
        batch_size: images in a forward pass.

    Returns:
        float32 (N, D), for cells float16 (N, L, D), or with `grid` float16 (N, height, width, D).

    Raises:
        ValueError: the images have another shape or type, or there is no such encoder.

    Example:
        >>> image_features(np.zeros((1, 224, 224, 3), np.uint8)).shape
        (1, 512)
    """
    one, images = encoder_named(encoder), np.asarray(images)
    size = one.size
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise ValueError(
            f"the images are {images.dtype} {images.shape}, expected uint8 (N, {size}, {size}, 3): "
            f"make them with encoder_named({encoder!r}).fit(image)"
        )
    forward = compiled_encoder(encoder, grid)
    shape, dtype = ((*one.grid, one.width), np.float16) if grid else (one.shape, one.dtype)
    found = [np.empty((0, *shape), dtype)]
    for start in range(0, len(images), batch_size):
        found.append(forward(images[start : start + batch_size]).numpy())
    return np.concatenate(found)


@cache
def compiled_encoder(name: str, grid: bool = False) -> Callable[[Any], tf.Tensor]:
    """An encoder as one compiled call, made once a process.

    Returns:
        A function of uint8 (N, size, size, 3), which returns what `image_features` does.

    Example:
        >>> tuple(compiled_encoder("squeezenet", grid=True)(np.zeros((1, 224, 224, 3), "u1")).shape)
        (1, 13, 13, 512)
    """
    encoder, model = encoder_named(name), encoder_model(name)
    preprocess = network_specification(encoder.network).preprocess
    if grid:
        model = keras.Model(model.input, model.get_layer(encoder.layer).output)
    dtype = tf.float16 if grid else encoder.dtype

    @tf.function(input_signature=[tf.TensorSpec((None, encoder.size, encoder.size, 3), tf.uint8)])
    def forward(pixels: tf.Tensor) -> tf.Tensor:
        return tf.cast(model(preprocess(tf.cast(pixels, tf.float32)), training=False), dtype)

    return forward


def random_views(image: np.ndarray, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Random crops of an image, every other one mirrored on average.

    As for ImageNet (C. Szegedy et al. 2015, Going deeper with convolutions, section 6), but with at
    least half of the image: its caption must remain true.

    Args:
        image: uint8 RGB (H, W, 3).
        count: K, the number of views.
        size: their height and width.
        rng: draws area, aspect ratio, place and mirroring.

    Returns:
        uint8 (K, size, size, 3).

    Example:
        >>> random_views(np.zeros((30, 40, 3), np.uint8), 2, 8, np.random.default_rng(0)).shape
        (2, 8, 8, 3)
    """
    height, width = image.shape[:2]
    picture, views = Image.fromarray(image), np.empty((count, size, size, 3), np.uint8)
    for view in views:
        area = height * width * rng.uniform(*VIEW_AREA)
        aspect = np.exp(rng.uniform(*np.log(VIEW_ASPECT)))
        w, h = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        box = left, top, left + w, top + h
        shown = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))
        view[:] = shown[:, ::-1] if rng.random() < 0.5 else shown
    return views


def read_images(
    sources: Sequence[str], encoder: Encoder, *, first: int = 0, views: int = 0, seed: int = 0
) -> Generator[np.ndarray | Exception, None, None]:
    """The images of many files, in order, decoded ahead in threads.

    Args:
        sources: paths or URLs.
        encoder: for which they are.
        first: the first source that is read.
        views: how many `random_views` follow each image; they depend on the seed and its place.
        seed: of the views.

    Yields:
        For each source uint8 (1 + views, size, size, 3), or the exception that
        `visualization.load_image` raised.

    Example:
        >>> read = read_images(["missing.jpg"], encoder_named("squeezenet"))
        >>> [type(image).__name__ for image in read]
        ['FileNotFoundError']
    """

    def read(place: int) -> np.ndarray | Exception:
        try:
            image = load_image(sources[place])
        except (ValueError, OSError) as error:
            return error
        rng = np.random.default_rng([seed, place])
        others = random_views(image, views, encoder.size, rng)
        return np.concatenate([encoder.fit(image)[np.newaxis], others])

    ahead: collections.deque[Future[np.ndarray | Exception]] = collections.deque()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for place in range(first, len(sources)):
            ahead.append(pool.submit(read, place))
            if len(ahead) > 4 * BATCH_SIZE:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
