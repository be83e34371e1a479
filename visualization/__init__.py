"""Pictures of what a network sees: saliency maps, fooling images, class visualisation.

The public names are listed in ``__init__.pyi``. Each is loaded when it is first used, so that
``import visualization`` and the commands' ``--help`` need no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
