"""The mathematics of image captioning: every forward function with its backward function below it.

Notation, used throughout:

    N  sequences in a batch        x       inputs                 Wx  weights of the inputs
    T  steps of time               h, c    hidden and cell state  Wh  weights of the hidden state
    D  numbers in an input         a       activations            b   biases
    H  numbers in a hidden state   dv      d(loss)/dv: the gradient of any v, of v's shape
    V  words in the vocabulary     .       elementwise product
    M  numbers in an output        @       matrix product
    I  images                      keys    what is asked for in the cells of an image
    L  cells of an image           values  what is seen there

A forward function returns its results and a cache; the backward function takes the gradients of
the results and that cache, and returns the gradients of the arguments, in their order. The four
gates of an LSTM lie side by side in the order i, f, o, g: Wx is (D, 4H), Wh (H, 4H), b (4H,).

Arrays are NumPy or tensors of one floating dtype, which the results keep. NumPy arrays in give new,
writable NumPy arrays out. Every function raises ValueError (shapes that do not fit, ids out of range,
T = 0) or TypeError (dtypes) with what was received and expected. N may be 0.

Sources: R. J. Elman, Finding structure in time, Cognitive Science 14 (1990), for the recurrent
network; P. J. Werbos, Backpropagation through time, Proceedings of the IEEE 78 (1990), for its
gradients; S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9 (1997),
and F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation 12 (2000),
which added the forget gate. Stanford's CS231n, assignment 3, gave the functions their names.
"""

from .affine import (
    affine_backward,
    affine_forward,
    sigmoid,
    temporal_affine_backward,
    temporal_affine_forward,
)
from .attention import attention_backward, attention_forward
from .attention_lstm import (
    attention_lstm_sequence_backward,
    attention_lstm_sequence_forward,
    attention_lstm_step_backward,
    attention_lstm_step_forward,
)
from .lstm import (
    lstm_backward,
    lstm_forward,
    lstm_sequence_backward,
    lstm_sequence_forward,
    lstm_step_backward,
    lstm_step_forward,
)
from .rnn import (
    rnn_backward,
    rnn_forward,
    rnn_sequence_backward,
    rnn_sequence_forward,
    rnn_step_backward,
    rnn_step_forward,
)
from .words import temporal_softmax_loss, word_embedding_backward, word_embedding_forward

__all__ = [
    "affine_backward",
    "affine_forward",
    "lstm_backward",
    "lstm_forward",
    "lstm_step_backward",
    "lstm_step_forward",
    "rnn_backward",
    "rnn_forward",
    "rnn_step_backward",
    "rnn_step_forward",
    "sigmoid",
    "temporal_affine_backward",
    "temporal_affine_forward",
    "temporal_softmax_loss",
    "word_embedding_backward",
    "word_embedding_forward",
]
