"""The course's numerical gradients, beside derivatives that are known."""

import numpy as np
import pytest

from tfcap.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    rel_error,
)


def test_the_slope_of_a_number_and_of_an_array(capsys):
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    before = x.copy()
    gradient = eval_numerical_gradient(lambda x: float(np.sum(x**3)), x, verbose=True)
    assert rel_error(gradient, 3 * x**2) < 1e-8
    assert "(1, 0)" in capsys.readouterr().out
    df = np.array([[2.0, 0.0], [-1.0, 1.0]])
    gradient = eval_numerical_gradient_array(lambda x: x**3, x, df)
    assert rel_error(gradient, 3 * x**2 * df) < 1e-8
    np.testing.assert_array_equal(x, before)


def test_the_relative_error_is_the_largest_of_all_elements():
    assert rel_error(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        rel_error(np.zeros(2), np.zeros(3))
