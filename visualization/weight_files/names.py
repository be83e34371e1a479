"""The names of SqueezeNet's weights, in this package and in every form of checkpoint that people have.

Each form has one explicit table from the names in a file to the paths of our variables. A file fits if
every weight is in it under such a name with the right shape and dtype, and nothing else is but an
optimizer's state.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from visualization.files.printable import printable, some
from visualization.weight_files.weight_file import Tensor

__all__ = [
    "CAFFE",
    "NAMINGS",
    "SQUEEZENET",
    "TF2",
    "TOP",
    "TORCH",
    "Match",
    "Naming",
    "match",
]

# Fire module -> channels of its input, its squeezing and each of its expanding convolutions.
_FIRES = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128)}
_FIRES |= {6: (256, 48, 192), 7: (384, 48, 192), 8: (384, 64, 256), 9: (512, 64, 256)}
_PARTS = ("squeeze", "expand1x1", "expand3x3")
_LAYERS = ("conv1", *(f"fire{n}" for n in _FIRES), "conv10")


def _kernels() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"conv1": (3, 3, 3, 64)}
    for n, (inputs, squeeze, expand) in _FIRES.items():
        shapes[f"fire{n}/squeeze"] = (1, 1, inputs, squeeze)
        shapes[f"fire{n}/expand1x1"] = (1, 1, squeeze, expand)
        shapes[f"fire{n}/expand3x3"] = (3, 3, squeeze, expand)
    return shapes | {"conv10": (1, 1, 512, 1000)}


def _weights(kernels: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Path of a Keras variable -> its shape; kernels are HWIO."""
    shapes = {}
    for layer, shape in kernels.items():
        shapes[f"{layer}/kernel"] = shape
        shapes[f"{layer}/bias"] = shape[-1:]
    return shapes


# Every weight of SqueezeNet 1.1 by the path of its Keras variable; kernels are HWIO.
SQUEEZENET = _weights(_kernels())
# Version 1.0 has the same fire modules behind a larger first convolution.
_SQUEEZENET_1_0 = _weights(_kernels() | {"conv1": (7, 7, 3, 96), "fire2/squeeze": (1, 1, 96, 16)})
TOP = ("conv10/kernel", "conv10/bias")


@dataclass(frozen=True)
class Naming:
    """The names of one form.

    Attributes:
        form: what it is called.
        paths: name in the file -> path of our variable.
        oihw: whether kernels are stored in PyTorch's order: output, input, height, width.

    Example:
        >>> TORCH.paths["features.0.weight"], TORCH.expected_shape("features.0.weight")
        ('conv1/kernel', (64, 3, 3, 3))
    """

    form: str
    paths: Mapping[str, str]
    oihw: bool = False

    def expected_shape(self, name: str) -> tuple[int, ...]:
        """The shape that this weight of SqueezeNet 1.1 has in a file."""
        return self.as_stored(SQUEEZENET[self.paths[name]])

    def as_stored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in a file of a weight that has `shape` as our variable."""
        if self.oihw and len(shape) == 4:
            height, width, inputs, outputs = shape
            return (outputs, inputs, height, width)
        return shape


def _rename(
    layers: Iterable[str],
    parts: Iterable[str] = _PARTS,
    variables: tuple[str, str] = ("kernel", "bias"),
    separator: str = "/",
    ending: str = "",
) -> dict[str, str]:
    """Name in a file -> path of our variable, for a form that uses these names and this separator."""
    table = {}
    for ours, theirs in zip(_LAYERS, layers, strict=True):
        inner = list(zip(_PARTS, parts, strict=True)) if ours.startswith("fire") else [("", "")]
        for part, their_part in inner:
            for variable, their_variable in zip(("kernel", "bias"), variables, strict=True):
                name = separator.join(filter(None, (theirs, their_part, their_variable)))
                table[name + ending] = "/".join(filter(None, (ours, part, variable)))
    return table


_TORCH_FIRES = (3, 4, 6, 7, 9, 10, 11, 12)  # positions in `features`; so in the course's TF1 names
_CAFFE_PARTS = ("squeeze1x1", "expand1x1", "expand3x3")
# Keras 3 names the groups of a .weights.h5 after the layers' classes, counted in order.
_KERAS3_FIRES = ("layers/fire", *(f"layers/fire_{n}" for n in range(1, 8)))

TF1 = Naming(
    "TF1 names",
    _rename(
        [
            "features/layer0",
            *(f"features/layer{n}/fire" for n in _TORCH_FIRES),
            "classifier/layer1",
        ],
        ("squeeze", "e11", "e33"),
        ("weights", "bias"),
    ),
)
TF2 = Naming(
    "TF2 object graph",
    _rename(
        [f"net/layer_with_weights-{n}" for n in range(10)],
        ending="/.ATTRIBUTES/VARIABLE_VALUE",
    ),
)
TORCH = Naming(
    "torchvision's names, OIHW",
    _rename(
        ["features.0", *(f"features.{n}" for n in _TORCH_FIRES), "classifier.1"],
        variables=("weight", "bias"),
        separator=".",
    ),
    oihw=True,
)
KERAS3 = Naming(
    "Keras 3 .weights.h5",
    _rename(["layers/conv2d", *_KERAS3_FIRES, "layers/conv2d_1"], variables=("vars/0", "vars/1")),
)
OURS = Naming("names by layer", _rename(_LAYERS))
CAFFE = Naming("Caffe's layer names", _rename(_LAYERS, _CAFFE_PARTS))
CAFFE_UNDERSCORE = Naming(
    "Caffe's layer names, joined by _",
    {
        re.sub(r"^(fire\d)/", r"\1_", name): path
        for name, path in _rename(_LAYERS, _CAFFE_PARTS).items()
    },
)
NAMINGS = (OURS, KERAS3, TF1, TF2, TORCH, CAFFE, CAFFE_UNDERSCORE)

# Optimizer state, counters, and what TensorFlow and Keras note about a checkpoint.
_BOOKKEEPING = re.compile(
    r"""_CHECKPOINTABLE_OBJECT_GRAPH
    | .*/\.ATTRIBUTES/OBJECT_CONFIG_JSON
    | (.*/)?(save_counter|step|global_step)/\.ATTRIBUTES/VARIABLE_VALUE
    | .*/\.OPTIMIZER_SLOT/.*                             # TF2's optimizers: one a variable
    | (optimizer|optimizer_weights)/.*                   # and their own; Keras's HDF5
    | global_step | beta[12]_power                       # TF1's
    | .*/(Adam|Adam_1|AdaMax|AdaMax_1|Adagrad|Adadelta|Adadelta_1|Ftrl|Ftrl_1
         |Momentum|RMSProp|RMSProp_1|RMSProp_2)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Match:
    """How a file's tensors compare with SqueezeNet 1.1, under the naming that shares most names.

    Attributes:
        naming: that naming.
        tensors: name in the file -> tensor, of those that hold weights.
        ignored: names of the others: optimizer state, counters.
        names: path of our variable -> name in the file.
        missing: names that the file should hold.
        unexpected: names in the file that the naming does not have.
        mismatched: names whose shape or dtype is not the expected one.

    Example:
        >>> from visualization.weight_files.locate import open_weights
        >>> match(open_weights("imagenet").tensors).fits
        True
    """

    naming: Naming
    tensors: Mapping[str, Tensor]
    ignored: list[str]
    names: Mapping[str, str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    @property
    def fits(self) -> bool:
        """Whether the file holds every wanted weight and nothing else that could be a weight."""
        return not (self.missing or self.unexpected or self.mismatched)

    def explain(self) -> str:
        """Why the file does not fit and what to do, to follow "NAME: "."""
        suffixed = [name for name in self.tensors if name.endswith(":0")]
        plain = {name.removesuffix(":0") for name in suffixed}
        if any(plain & naming.paths.keys() for naming in NAMINGS):
            return (
                f"has names such as {printable(suffixed[0])}, whose ':0' belongs to tensors of a "
                "TensorFlow graph, not to weights: save them again without ':0'"
            )
        if not self.names:
            return (
                f"is of another network: none of its tensors ({some(list(self.tensors))}) has a name "
                "that a weight of SqueezeNet 1.1 has in any known form: "
                "use a checkpoint of SqueezeNet 1.1"
            )
        if not self.missing and self._has_shapes(_SQUEEZENET_1_0):
            return (
                "is of SqueezeNet 1.0, whose first convolution is 7x7 with 96 channels, but this "
                "network is version 1.1 (3x3, 64): use a checkpoint of SqueezeNet 1.1"
            )
        if not (self.missing or self.unexpected) and self._has_shapes(SQUEEZENET):
            dtypes = sorted({self.tensors[name].dtype for name in self.mismatched})
            return (
                f"holds {' and '.join(dtypes)} in {some(self.mismatched)}, but the network is float32, "
                "and values are not rounded unless you ask: convert the arrays with "
                "array.astype('float32') and save them again"
            )
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({some(self.missing)})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected ({some(self.unexpected)})")
        if self.mismatched:
            wrong = [
                f"{name} is {self.tensors[name].dtype} {self.tensors[name].shape}, not "
                f"float32 {self.naming.expected_shape(name)}"
                for name in self.mismatched
            ]
            parts.append(f"{len(self.mismatched)} mismatched ({some(wrong, '; ')})")
        advice = "use a checkpoint of the whole SqueezeNet 1.1, and of nothing else"
        if {self.naming.paths[name] for name in self.missing} == set(TOP):
            advice = "it has no top, so load it into SqueezeNet(weights=None, include_top=False)"
        return f"does not fit SqueezeNet 1.1 ({self.naming.form}): {'; '.join(parts)}: {advice}"

    def _has_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether the tensors that are in the file have these shapes, given by our paths."""
        return all(
            self.tensors[name].shape == self.naming.as_stored(shapes[path])
            for path, name in self.names.items()
        )


def match(tensors: Mapping[str, Tensor], wanted: Collection[str] = SQUEEZENET) -> Match:
    """Compares a file's tensors with the naming that shares most names with them.

    Args:
        tensors: name in the file -> tensor.
        wanted: paths of the weights that must be there; the others of SqueezeNet may be.

    Example:
        >>> found = match({}, wanted=["conv1/bias"])
        >>> found.fits, found.missing
        (False, ['conv1/bias'])
    """
    ignored = [name for name in tensors if _BOOKKEEPING.fullmatch(name)]
    tensors = {name: tensors[name] for name in tensors if not _BOOKKEEPING.fullmatch(name)}
    naming = max(NAMINGS, key=lambda naming: len(tensors.keys() & naming.paths.keys()))
    names = {path: name for name, path in naming.paths.items() if name in tensors}
    return Match(
        naming=naming,
        tensors=tensors,
        ignored=ignored,
        names=names,
        missing=[n for n, path in naming.paths.items() if path in wanted and n not in tensors],
        unexpected=[name for name in tensors if name not in naming.paths],
        mismatched=[
            name
            for name in names.values()
            if (tensors[name].shape, tensors[name].dtype)
            != (naming.expected_shape(name), "float32")
        ],
    )
