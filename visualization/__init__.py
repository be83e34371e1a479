"""Pictures of what a network sees: saliency maps, fooling images, class visualisation.

The public names are listed in ``__init__.pyi``. Each is loaded when it is first used, so that
``import visualization`` and the commands' ``--help`` need no TensorFlow.
"""

import os as _os
import platform as _platform

import lazy_loader

# oneDNN's convolutions and pooling, which TensorFlow uses by default only on processors with AVX-512,
# take a third off a batch of saliency maps on a processor without. TensorFlow reads the variable when
# it is imported, hence here, where `import visualization` or `import tfcap` comes by first.
if _platform.machine() in ("x86_64", "AMD64"):
    _os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
