"""Mean and standard deviation of ImageNet's channels, as CS231n's preprocessing uses them.

In a file of its own, as the reader of weight files needs the numbers without TensorFlow.
"""

import numpy as np

SQUEEZENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)

SQUEEZENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)
