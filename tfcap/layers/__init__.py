"""Keras layers that hold the weights of `tfcap.functional` and call its ops.

Weights start as CS231n's do: matrices N(0, 1) / sqrt(fan in), word vectors N(0, 1) / 100, biases
zero, the forget gate's too. Gates lie in the course's order i, f, o, g; Keras keeps i, f, g, o, and
``to_keras_weights`` and ``from_keras_weights`` convert between the two. Files say which it is.
"""

from .attention import AttentionLSTM, AttentionLSTMCell
from .recurrent import LSTM, RNN, LSTMCell, RNNCell, assume_our_gate_order, swap_o_and_g
from .words import TemporalAffine, TemporalSoftmaxLoss, WordEmbedding

__all__ = [
    "LSTM",
    "RNN",
    "AttentionLSTM",
    "AttentionLSTMCell",
    "LSTMCell",
    "RNNCell",
    "TemporalAffine",
    "TemporalSoftmaxLoss",
    "WordEmbedding",
    "assume_our_gate_order",
    "swap_o_and_g",
]
