"""Image captioning with recurrent networks whose gradients are written by hand.

The mathematics is in `tfcap.functional`, the same as differentiable ops in `tfcap.ops`, and as Keras
layers in `tfcap.layers`. These, and the public names that ``__init__.pyi`` lists, are loaded when they
are first used, so that ``import tfcap`` and the commands' ``--help`` need no TensorFlow.
``import tfcap`` is also enough for Keras to load a file that holds these layers.
"""

import lazy_loader

import visualization as _visualization  # sets what TensorFlow reads when it is imported
from tfcap.registration import register_with_keras as _register_with_keras

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_register_with_keras()
