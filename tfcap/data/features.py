"""The features of images: a vector, or a grid of vectors, computed by the bundled SqueezeNet."""

import collections
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from visualization import SQUEEZENET_MEAN, SQUEEZENET_STD, SqueezeNet, load_image
from visualization.backend import keras, tf

__all__ = [
    "BATCH_SIZE",
    "ENCODER",
    "GRID_SHAPE",
    "POOLED_SHAPE",
    "SIZE",
    "compiled_encoder",
    "encoder",
    "image_features",
    "read_images",
]

ENCODER = "squeezenet"
SIZE = 224
POOLED_SHAPE = (512,)
GRID_SHAPE = (13, 13, 512)
BATCH_SIZE = 32


def encoder(weights: str | os.PathLike[str] = "imagenet") -> keras.Model:
    """SqueezeNet 1.1 without its classifier, averaged over the positions.

    Args:
        weights: as for `visualization.SqueezeNet`; the bundled ones by default.

    Returns:
        A model from RGB float32 (N, 224, 224, 3), preprocessed by `visualization.preprocess_image`, to
        float32 (N, 512), never negative. Its layer ``fire9`` has the grid, (N, 13, 13, 512).

    Example:
        >>> encoder().output_shape
        (None, 512)
    """
    network = SqueezeNet(weights=weights)
    pooling = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", name="features", dtype="float32"
    )
    grid = network.get_layer("fire9").output  # (N, 13, 13, 512)
    return keras.Model(network.input, pooling(grid), name=ENCODER)


def image_features(images: Any, *, grid: bool = False, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """The bundled encoder's features of images in memory.

    Args:
        images: uint8 RGB (N, 224, 224, 3), as from `visualization.load_image(source, 224)`.
        grid: the vector of each position instead of their average.
        batch_size: images in a forward pass.

    Returns:
        float32 (N, 512), or with `grid` float16 (N, 13, 13, 512).

    Raises:
        ValueError: the images have another shape or type.

    Example:
        >>> image_features(np.zeros((1, 224, 224, 3), np.uint8)).shape
        (1, 512)
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(
            f"the images are {images.dtype} {images.shape}, expected uint8 (N, {SIZE}, {SIZE}, 3): "
            f"read them with load_image(source, {SIZE})"
        )
    forward = compiled_encoder()
    found = [np.empty((0, *(GRID_SHAPE if grid else POOLED_SHAPE)), "f2" if grid else "f4")]
    for start in range(0, len(images), batch_size):
        found.append(forward(images[start : start + batch_size])[int(grid)].numpy())
    return np.concatenate(found)


@cache
def compiled_encoder() -> Callable[[Any], tuple[tf.Tensor, tf.Tensor]]:
    """The encoder as one compiled call, made once a process.

    Returns:
        A function of uint8 (N, 224, 224, 3) that returns float32 (N, 512) and float16 (N, 13, 13, 512).

    Example:
        >>> pooled, grid = compiled_encoder()(np.zeros((1, 224, 224, 3), np.uint8))
        >>> tuple(grid.shape)
        (1, 13, 13, 512)
    """
    model = encoder()
    both = keras.Model(model.input, [model.output, model.get_layer("fire9").output])

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)])
    def forward(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = (tf.cast(pixels, tf.float32) / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD
        pooled, grid = both(images, training=False)
        return pooled, tf.cast(grid, tf.float16)

    return forward


def read_images(sources: Sequence[str]) -> Generator[np.ndarray | Exception, None, None]:
    """The images of many files, in order, decoded ahead in threads.

    Yields:
        For each source uint8 (224, 224, 3), or the exception that `visualization.load_image` raised.

    Example:
        >>> [type(image).__name__ for image in read_images(["missing.jpg"])]
        ['FileNotFoundError']
    """

    def read(source: str) -> np.ndarray | Exception:
        try:
            return load_image(source, SIZE)
        except (ValueError, OSError) as error:
            return error

    ahead: collections.deque[Future[np.ndarray | Exception]] = collections.deque()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for source in sources:
            ahead.append(pool.submit(read, source))
            if len(ahead) > 4 * BATCH_SIZE:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
