"""Mean and standard deviation of ImageNet's colour channels, as CS231n's preprocessing uses them.

In a file of their own, because the reader of weight files needs them without TensorFlow.
"""

import numpy as np

__all__ = ["SQUEEZENET_MEAN", "SQUEEZENET_STD"]

SQUEEZENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
SQUEEZENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)
