"""``cs231n.rnn_layers``: the layers of recurrent networks, forward and backward."""

from tfcap import functional
from tfcap.functional import *  # noqa: F403

__all__ = functional.__all__
