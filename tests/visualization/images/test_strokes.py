import numpy as np
import pytest

from visualization.images.strokes import draw_strokes


def test_the_painting_is_the_same_for_a_seed_and_has_colours_and_strokes():
    painting = draw_strokes(96, seed=1)
    assert painting.shape == (96, 96, 3)
    assert painting.dtype == np.uint8
    assert np.array_equal(painting, draw_strokes(96, seed=1))
    assert not np.array_equal(painting, draw_strokes(96, seed=2))
    assert painting.std(axis=(0, 1)).min() > 15
    assert (painting[..., 2] > painting[..., 0].astype(int) + 30).mean() > 0.2  # blue
    assert (painting[..., 0] > painting[..., 2].astype(int) + 30).mean() > 0.02  # yellow


@pytest.mark.parametrize("size", [0, 15, 4097])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match=f"size is {size}, expected 16 to 4,096"):
        draw_strokes(size)
