"""The layer checks of the course's two captioning notebooks, as they run there."""

import numpy as np
import pytest

from tfcap.functional import (
    affine_backward,
    affine_forward,
    lstm_backward,
    lstm_forward,
    lstm_step_backward,
    lstm_step_forward,
    rnn_backward,
    rnn_forward,
    rnn_step_backward,
    rnn_step_forward,
    temporal_affine_backward,
    temporal_affine_forward,
    temporal_softmax_loss,
    word_embedding_backward,
    word_embedding_forward,
)
from tfcap.gradient_check import eval_numerical_gradient, rel_error
from tfcap.gradient_check import eval_numerical_gradient_array as numeric

AGREES_TO = 1e-7


def test_the_check_of_affine():
    rng = np.random.RandomState(231)
    x, w, b = rng.randn(10, 2, 3), rng.randn(6, 5), rng.randn(5)
    dout = rng.randn(10, 5)
    _, cache = affine_forward(x, w, b)
    gradients = affine_backward(dout, cache)
    for argument, gradient in zip((x, w, b), gradients, strict=True):
        expected = numeric(lambda _: affine_forward(x, w, b)[0], argument, dout)
        assert rel_error(expected, gradient) < AGREES_TO


def test_the_check_of_rnn_step_backward():
    rng = np.random.RandomState(231)
    n, d, h = 4, 5, 6
    x, prev_h = rng.randn(n, d), rng.randn(n, h)
    Wx, Wh, b = rng.randn(d, h), rng.randn(h, h), rng.randn(h)
    out, cache = rnn_step_forward(x, prev_h, Wx, Wh, b)
    dnext_h = rng.randn(*out.shape)
    gradients = rnn_step_backward(dnext_h, cache)
    arguments = x, prev_h, Wx, Wh, b
    for argument, gradient in zip(arguments, gradients, strict=True):
        expected = numeric(lambda _: rnn_step_forward(x, prev_h, Wx, Wh, b)[0], argument, dnext_h)
        assert rel_error(expected, gradient) < AGREES_TO


def test_the_check_of_rnn_backward():
    rng = np.random.RandomState(231)
    n, d, t, h = 2, 3, 4, 5
    x, h0 = rng.randn(n, t, d), rng.randn(n, h)
    Wx, Wh, b = rng.randn(d, h), rng.randn(h, h), rng.randn(h)
    out, cache = rnn_forward(x, h0, Wx, Wh, b)
    dout = rng.randn(*out.shape)
    gradients = rnn_backward(dout, cache)
    for argument, gradient in zip((x, h0, Wx, Wh, b), gradients, strict=True):
        expected = numeric(lambda _: rnn_forward(x, h0, Wx, Wh, b)[0], argument, dout)
        assert rel_error(expected, gradient) < AGREES_TO


def test_the_check_of_word_embedding_backward():
    rng = np.random.RandomState(231)
    n, t, v, d = 50, 3, 5, 6
    x, W = rng.randint(v, size=(n, t)), rng.randn(v, d)
    out, cache = word_embedding_forward(x, W)
    dout = rng.randn(*out.shape)
    dW = word_embedding_backward(dout, cache)
    dW_num = numeric(lambda W: word_embedding_forward(x, W)[0], W, dout)
    assert rel_error(dW_num, dW) < AGREES_TO


def test_the_check_of_temporal_affine():
    rng = np.random.RandomState(231)
    n, t, d, m = 2, 3, 4, 5
    x, w, b = rng.randn(n, t, d), rng.randn(d, m), rng.randn(m)
    out, cache = temporal_affine_forward(x, w, b)
    dout = rng.randn(*out.shape)
    gradients = temporal_affine_backward(dout, cache)
    for argument, gradient in zip((x, w, b), gradients, strict=True):
        expected = numeric(lambda _: temporal_affine_forward(x, w, b)[0], argument, dout)
        assert rel_error(expected, gradient) < AGREES_TO


def test_the_check_of_temporal_softmax_loss():
    rng = np.random.RandomState(231)

    def loss(n, t, v, p):
        x = 0.001 * rng.randn(n, t, v)
        y = rng.randint(v, size=(n, t))
        mask = rng.rand(n, t) <= p
        return temporal_softmax_loss(x, y, mask)[0]

    assert abs(loss(100, 1, 10, 1.0) - 2.3) < 0.05
    assert abs(loss(100, 10, 10, 1.0) - 23) < 0.5
    assert 2.0 < loss(5000, 10, 10, 0.1) < 2.6

    n, t, v = 7, 8, 9
    x, y = rng.randn(n, t, v), rng.randint(v, size=(n, t))
    mask = rng.rand(n, t) > 0.5
    _, dx = temporal_softmax_loss(x, y, mask, verbose=False)
    dx_num = numeric(lambda x: temporal_softmax_loss(x, y, mask)[0], x, 1.0)
    assert rel_error(dx_num, dx) < AGREES_TO


def test_the_check_of_lstm_step_backward():
    rng = np.random.RandomState(231)
    n, d, h = 4, 5, 6
    x, prev_h, prev_c = rng.randn(n, d), rng.randn(n, h), rng.randn(n, h)
    Wx, Wh, b = 0.3 * rng.randn(d, 4 * h), 0.3 * rng.randn(h, 4 * h), rng.randn(4 * h)
    next_h, next_c, cache = lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b)
    dnext_h, dnext_c = rng.randn(*next_h.shape), rng.randn(*next_c.shape)
    gradients = lstm_step_backward(dnext_h, dnext_c, cache)
    arguments = x, prev_h, prev_c, Wx, Wh, b
    for argument, gradient in zip(arguments, gradients, strict=True):
        by_h = numeric(lambda _: lstm_step_forward(*arguments)[0], argument, dnext_h)
        by_c = numeric(lambda _: lstm_step_forward(*arguments)[1], argument, dnext_c)
        assert rel_error(by_h + by_c, gradient) < AGREES_TO


@pytest.mark.slow
def test_the_check_of_lstm_backward():
    rng = np.random.RandomState(231)
    n, d, t, h = 2, 3, 10, 6
    x, h0 = rng.randn(n, t, d), rng.randn(n, h)
    Wx, Wh, b = 0.3 * rng.randn(d, 4 * h), 0.3 * rng.randn(h, 4 * h), rng.randn(4 * h)
    out, cache = lstm_forward(x, h0, Wx, Wh, b)
    dout = rng.randn(*out.shape)
    gradients = lstm_backward(dout, cache)
    for argument, gradient in zip((x, h0, Wx, Wh, b), gradients, strict=True):
        expected = numeric(lambda _: lstm_forward(x, h0, Wx, Wh, b)[0], argument, dout)
        assert rel_error(expected, gradient) < AGREES_TO


def test_the_checker_knows_the_slope_of_a_number_and_of_an_array(capsys):
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    expected = eval_numerical_gradient(lambda x: float(np.sum(x**3)), x, verbose=True)
    assert rel_error(expected, 3 * x**2) < 1e-8
    assert "(1, 0)" in capsys.readouterr().out
    df = np.array([[2.0, 0.0], [-1.0, 1.0]])
    assert rel_error(numeric(lambda x: x**3, x, df), 3 * x**2 * df) < 1e-8
    assert rel_error(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        rel_error(np.zeros(2), np.zeros(3))
