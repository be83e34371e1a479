"""JPEG: the bytes that Pillow writes, and the same loss as a function through which gradients pass.

ITU-T T.81 (1992) with the tables of its Annex K, as libjpeg uses it by default, colours at half the
resolution. Shin and Song (2017), "JPEG-resistant adversarial images", differentiate it likewise.
"""

import io

import numpy as np
from PIL import Image

from visualization.backend import tf
from visualization.images.transforms import resample

__all__ = ["encode_jpeg", "jpeg", "rounded"]


def encode_jpeg(pixels: np.ndarray, quality: int = 85) -> bytes:
    """The content of a JPEG file, as Pillow writes it: uint8 (H, W, 3) -> bytes.

    Example:
        >>> encode_jpeg(np.zeros((8, 8, 3), np.uint8))[:2]
        b'\\xff\\xd8'
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def jpeg(pixels: tf.Tensor, quality: int = 85) -> tf.Tensor:
    """What is read back of images that were saved as JPEG; gradients pass as if nothing was rounded.

    Args:
        pixels: floating point (N, H, W, 3), RGB of 0 to 255.
        quality: 1 to 100, on libjpeg's scale.

    Returns:
        The same shape and dtype: whole numbers of 0 to 255. They differ from Pillow's by a few levels
        where a coefficient lies between two steps of its table.

    Example:
        >>> red = tf.fill((1, 8, 8, 1), 254.0) * (1.0, 0.0, 0.0)
        >>> jpeg(red, quality=75)[0, 0, 0].numpy().tolist()
        [254.0, 0.0, 0.0]
    """
    H, W = pixels.shape[1:3]
    rows, columns = (np.minimum(np.arange(side + -side % 16), side - 1) for side in (H, W))
    whole = tf.gather(tf.gather(pixels, rows, axis=1), columns, axis=2)  # blocks of 16 by 16
    planes = rounded(whole @ tf.constant(_YCC.T, whole.dtype))  # 128 less than in the file
    luminance, colour = planes[..., :1] - 128, planes[..., 1:]
    # libjpeg rounds halves and quarters up or down by turns
    colour = tf.nn.avg_pool2d(colour, 2, 2, "VALID")
    colour = rounded(colour + _alternating(colour, -1 / 8, 1 / 8))

    luminance = _through_blocks(luminance, _LUMINANCE, quality)[:, :H, :W]
    blue, red = (_through_blocks(one, _CHROMINANCE, quality) for one in tf.split(colour, 2, axis=3))
    colour = tf.concat([blue, red], axis=3)[:, : (H + 1) // 2, : (W + 1) // 2]
    colour = resample(colour, _doubling(H), _doubling(W))
    colour = rounded(colour + _alternating(colour, 1 / 32, -1 / 32))
    planes = tf.concat([luminance + 128, colour], axis=3)
    read = rounded(planes @ tf.constant(np.linalg.inv(_YCC).T, planes.dtype))
    return tf.clip_by_value(read, 0, 255)


def rounded(x: tf.Tensor) -> tf.Tensor:
    """Rounds, and lets gradients through as they come: a straight-through estimator.

    Bengio, Léonard, Courville (2013), "Estimating or propagating gradients through stochastic neurons",
    arXiv:1308.3432.

    Example:
        >>> rounded(tf.constant([0.4, 0.6])).numpy().tolist()
        [0.0, 1.0]
    """
    return x + tf.stop_gradient(tf.round(x) - x)


def _through_blocks(plane: tf.Tensor, base: np.ndarray, quality: int) -> tf.Tensor:
    """A plane (N, H, W, 1) of -128 to 127, each block's cosine coefficients rounded to table steps."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = tf.constant(np.clip((base.ravel() * scale + 50) // 100, 1, 255), plane.dtype)
    cosines = tf.constant(_COSINES, plane.dtype)
    blocks = tf.nn.space_to_depth(plane, 8)  # (N, H/8, W/8, 64)
    coefficients = rounded(tf.matmul(blocks, cosines, transpose_b=True) / table) * table
    plane = tf.nn.depth_to_space(coefficients @ cosines, 8)
    return tf.clip_by_value(rounded(plane), -128, 127)


def _alternating(plane: tf.Tensor, even: float, odd: float) -> tf.Tensor:
    """Two numbers by turns, for the columns of a plane (N, H, W, C): (W, 1)."""
    return tf.constant(np.where(np.arange(plane.shape[2]) % 2, odd, even)[:, None], plane.dtype)


def _doubling(size: int) -> np.ndarray:
    """The matrix (size, half of it) that libjpeg enlarges with: three quarters of the nearer pixel."""
    places = np.arange(size)
    nearer = places // 2
    other = np.clip(nearer + 2 * (places % 2) - 1, 0, (size + 1) // 2 - 1)
    unit = np.eye((size + 1) // 2)
    return 0.75 * unit[nearer] + 0.25 * unit[other]


# RGB to luminance and two differences of colour: JFIF 1.02, after ITU-R BT.601
_YCC = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.168735892, -0.331264108, 0.5],
        [0.5, -0.418687589, -0.081312411],
    ]
)


def _cosines() -> np.ndarray:
    """The cosine transform of a block of 8 by 8, flattened: (64 frequencies, 64 pixels)."""
    frequency, place = np.mgrid[:8, :8]
    one = np.sqrt(np.where(frequency == 0, 1, 2) / 8) * np.cos(
        np.pi * frequency * (2 * place + 1) / 16
    )
    return np.kron(one, one)


_COSINES = _cosines()

_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMINANCE = np.full((8, 8), 99)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
