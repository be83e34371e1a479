import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from visualization import blur_image, jitter
from visualization.backend import tf

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def test_jitter_shifts_cyclically_along_width_and_height():
    X = np.arange(2 * 3 * 4 * 1).reshape(2, 3, 4, 1)
    moved = jitter(X, 1, 2)
    for row in range(3):
        for column in range(4):
            expected = X[:, row, column]
            np.testing.assert_array_equal(moved[:, (row + 2) % 3, (column + 1) % 4], expected)
    np.testing.assert_array_equal(jitter(moved, -1, -2), X)
    np.testing.assert_array_equal(jitter(tf.constant(X), 1, 2), moved)
    assert tf.is_tensor(jitter(tf.constant(X), 1, 2))


@pytest.mark.parametrize("sigma", [0.5, 1, 2.3])
@pytest.mark.parametrize("shape", [(2, 9, 12, 3), (1, 2, 3, 1), (1, 1, 40, 2)])
def test_blurring_is_scipys_gaussian_filter(sigma, shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    X = np.random.default_rng(0).normal(size=shape)
    expected = ndimage.gaussian_filter1d(X, sigma, axis=1)
    expected = ndimage.gaussian_filter1d(expected, sigma, axis=2)
    blurred = blur_image(X, sigma)
    assert blurred.dtype == np.float64
    np.testing.assert_allclose(blurred, expected, atol=1e-12)


def test_blurring_by_hand():
    X = np.zeros((1, 1, 5, 1))
    X[0, 0, 1] = 1  # the border reflects: ... 1 0 | 0 1 0 0 0
    weights = np.exp(-0.5 * (np.arange(-2, 3) / 0.5) ** 2)
    weights /= weights.sum()
    expected = [weights[1] + weights[0], weights[2], weights[3], weights[4], 0]
    blurred = blur_image(X, 0.5)
    np.testing.assert_allclose(blurred[0, 0, :, 0], expected, atol=1e-12)
    assert tf.is_tensor(blur_image(tf.constant(X), 0.5))


def test_blurring_widely_takes_the_memory_of_a_few_copies():
    """Not of one for each of the Gaussian's weights, of which there are 81."""
    program = """
import resource
import numpy as np
from visualization import blur_image
X = np.ones((1, 1000, 1000, 3), np.float32)  # 12 MB
blur_image(X[:, :50, :50], 10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
blur_image(X, 10)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)  # MB
"""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200


@pytest.mark.parametrize(
    ("X", "sigma", "sentence"),
    [
        (np.zeros((3, 3)), 1, r"shape \(3, 3\)"),
        (np.zeros((1, 3, 3, 1)), 0, "sigma is 0"),
        (np.full((1, 3, 3, 1), 9, np.uint8), 1, "X is uint8, expected floating point"),
    ],
)
def test_blurring_refuses_other_shapes_integers_and_no_width(X, sigma, sentence):
    with pytest.raises(ValueError, match=sentence):
        blur_image(X, sigma)
