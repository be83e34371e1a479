"""Reads the values of a TensorFlow checkpoint with TensorFlow, which compares their checksums."""

from pathlib import Path

import numpy as np

from visualization.backend import tf
from visualization.files.printable import printable

__all__ = ["read_value"]


def read_value(prefix: Path, name: str) -> np.ndarray:
    """One tensor of a checkpoint whose index `read_index` has accepted.

    Args:
        prefix: the checkpoint's path without ``.index``.
        name: the tensor's.

    Raises:
        ValueError: the index, the tensor's data or one of its slices is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = tf.train.Checkpoint(bias=tf.Variable([1.0])).write(f"{folder}/a.ckpt")
        ...     read_value(Path(path), "bias/.ATTRIBUTES/VARIABLE_VALUE")
        array([1.], dtype=float32)
    """
    try:
        reader = tf.compat.v1.train.NewCheckpointReader(str(prefix))
    except tf.errors.NotFoundError:  # although its files exist: TensorFlow matches patterns
        raise ValueError(
            f"{prefix}: cannot be opened by TensorFlow, to which '[' and '\\' in a path are a pattern: "
            "rename the file or folder"
        ) from None
    except Exception as error:  # TensorFlow raises OpError and several of Python's
        raise ValueError(
            f"{prefix}.index: is damaged, as TensorFlow's checksum of it shows: download it again"
        ) from error
    try:
        return reader.get_tensor(name)
    except Exception as error:
        raise ValueError(
            f"{prefix}: is damaged at {printable(name)}: TensorFlow's checksum of the values does not "
            "match, or a part of them is missing: download the data file again"
        ) from error
