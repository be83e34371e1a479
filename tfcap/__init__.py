"""Image captioning with recurrent networks whose gradients are written by hand.

The mathematics is in `tfcap.functional`, the same as differentiable ops in `tfcap.ops`, and as Keras
layers in `tfcap.layers`. These, and the public names that ``__init__.pyi`` lists, are loaded when they
are first used, so that ``import tfcap`` and the commands' ``--help`` need no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
