"""Shifts, blurs and resampling of images, through which gradients pass."""

from typing import Any

import numpy as np
from PIL import Image

from visualization.backend import tf

__all__ = ["blur_image", "jitter", "resample", "resizing"]


def jitter(X: Any, ox: int, oy: int) -> Any:
    """Shifts images cyclically: what leaves on one side comes back on the other.

    Args:
        X: (N, H, W, C), a tensor or an array.
        ox: pixels to the right, along the width, axis 2.
        oy: pixels down, along the height, axis 1.

    Returns:
        The same shape, dtype and kind as X.

    Example:
        >>> jitter(np.arange(6).reshape(1, 2, 3, 1), 1, 0)[0, :, :, 0].tolist()
        [[2, 0, 1], [5, 3, 4]]
    """
    if tf.is_tensor(X):
        return tf.roll(X, shift=[oy, ox], axis=[1, 2])
    return np.roll(X, shift=(oy, ox), axis=(1, 2))


def resample(X: tf.Tensor, rows: Any, columns: Any) -> tf.Tensor:
    """Images of another size, or parts of them enlarged, by a matrix for each axis; differentiable.

    Args:
        X: floating point (N, H, W, C).
        rows: (H', H), how much each new row has of each old one.
        columns: (W', W), likewise.

    Returns:
        (N, H', W', C), of X's dtype.

    Example:
        >>> resample(tf.ones((1, 2, 3, 1)), np.full((4, 2), 0.5), np.eye(3)).shape.as_list()
        [1, 4, 3, 1]
    """
    X = tf.einsum("hi,niwc->nhwc", tf.cast(rows, X.dtype), X)
    return tf.einsum("wj,nhjc->nhwc", tf.cast(columns, X.dtype), X)


def resizing(old: int, new: int, method: int = Image.Resampling.BILINEAR) -> np.ndarray:
    """The matrix, float32 (new, old), with which Pillow resizes a column of pixels, for `resample`.

    Example:
        >>> (resizing(4, 2) * 7).round().tolist()
        [[3.0, 3.0, 1.0, 0.0], [0.0, 1.0, 3.0, 3.0]]
    """
    unit = Image.fromarray(np.eye(old, dtype=np.float32))
    return np.asarray(unit.resize((old, new), method))


def blur_image(X: Any, sigma: float = 1) -> Any:
    """Blurs images with a Gaussian along the height and the width.

    Borders are reflected and the Gaussian is cut off at 4 sigma, as in SciPy's ``gaussian_filter1d``.

    Args:
        X: floating point (N, H, W, C), a tensor or an array.
        sigma: the Gaussian's standard deviation, in pixels, above 0.

    Returns:
        The same shape, dtype and kind as X.

    Raises:
        ValueError: sigma is not positive, or X does not have four axes or is not floating point.

    Example:
        >>> point = np.zeros((1, 3, 3, 1))
        >>> point[0, 1, 1, 0] = 1
        >>> blur_image(point, sigma=0.5)[0, :, :, 0].round(2).tolist()
        [[0.01, 0.08, 0.01], [0.08, 0.62, 0.08], [0.01, 0.08, 0.01]]
    """
    blurred = tf.convert_to_tensor(X)
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}, expected a positive number of pixels")
    if blurred.shape.rank != 4:
        raise ValueError(f"X has shape {tuple(blurred.shape)}, expected (N, H, W, C)")
    if not blurred.dtype.is_floating:
        raise ValueError(f"X is {blurred.dtype.name}, expected floating point: convert it first")
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        length = tf.shape(blurred)[axis]
        positions = tf.range(-radius, length + radius) % (2 * length)
        mirrored = tf.minimum(positions, 2 * length - 1 - positions)
        padded = tf.gather(blurred, mirrored, axis=axis)
        blurred = tf.zeros_like(blurred)
        for i, weight in enumerate(weights.tolist()):  # one copy in memory, not 2r + 1
            part = padded[:, i : i + length] if axis == 1 else padded[:, :, i : i + length]
            blurred += weight * part
    return blurred if tf.is_tensor(X) else blurred.numpy()
