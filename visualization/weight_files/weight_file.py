"""An opened weight file: its tensors by name, each read only when its value is needed."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from visualization.files.json_file import parse_json
from visualization.files.system_errors import reading

__all__ = ["MAX_BYTES", "METADATA", "Tensor", "WeightFile", "parse_metadata"]

MAX_BYTES = 64 * 2**20  # a file of SqueezeNet's weights has 5 million bytes
METADATA = "__metadata__"  # the entry of an .npz, and of a .safetensors' header


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file.

    Attributes:
        shape, dtype: what the file says, before the value is read.
        read: returns the value; raises ValueError if it is damaged.

    Example:
        >>> Tensor((2,), "float32", lambda: np.zeros(2, np.float32)).read()
        array([0., 0.], dtype=float32)
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class WeightFile:
    """A weight file whose names, shapes and dtypes are known.

    Attributes:
        name: what errors call it.
        form: the kind of file.
        paths: the files it consists of.
        tensors: name in the file -> tensor.
        metadata: what the file says about itself, for example its ``input_convention``.
        defect: why its values cannot be read although its names can, or None.
        content: the whole file, if it is a single one.

    Example:
        >>> file = WeightFile("none.npz", "NumPy .npz", [], {}, content=b"")
        >>> file.sha256
        'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """

    name: str
    form: str
    paths: list[Path]
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    defect: OSError | ValueError | None = None
    content: bytes | None = None

    @functools.cached_property
    def sha256(self) -> str:
        """Of the file; of a TensorFlow checkpoint's index and data files, one after the other."""
        digest = hashlib.sha256(self.content or b"")
        for path in self.paths if self.content is None else []:
            with reading(path):
                digest.update(path.read_bytes())
        return digest.hexdigest()


def parse_metadata(content: str | bytes) -> dict[str, str]:
    """What this package wrote beside the weights, as JSON; anything else is taken as no metadata.

    Example:
        >>> parse_metadata('{"licence": "MIT", "year": 2016}'), parse_metadata("[")
        ({'licence': 'MIT'}, {})
    """
    try:
        found = parse_json(content, "the metadata")
    except ValueError:
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in entries if isinstance(value, str)}
