"""What SqueezeNet's weights are called: by this package, and in every form of checkpoint people have.

Each form is one explicit table from the names in a file to the paths of our variables. A file fits if
the table uses every name in it once, sets every weight, and shapes and dtypes are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from visualization.files.printable import printable, some

_FIRES = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128)}
_FIRES |= {6: (256, 48, 192), 7: (384, 48, 192), 8: (384, 64, 256), 9: (512, 64, 256)}
_PARTS = ("squeeze", "expand1x1", "expand3x3")
LAYERS = ("conv1", *(f"fire{n}" for n in _FIRES), "conv10")


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
    """One form's names: name in the file -> path of our variable, and how its kernels lie."""

    form: str
    paths: Mapping[str, str]
    oihw: bool = False  # PyTorch's order: output, input, height, width

    def expected_shape(self, path: str) -> tuple[int, ...]:
        """The shape that a weight of SqueezeNet 1.1 has in this form."""
        return self._as_stored(SQUEEZENET[path])

    def _as_stored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.oihw and len(shape) == 4:
            height, width, inputs, outputs = shape
            return (outputs, inputs, height, width)
        return shape

    def is_version_1_0(self, tensors: Mapping[str, HasShape]) -> bool:
        """Whether every weight that is there has the shape of SqueezeNet 1.0."""
        return all(
            tuple(tensors[name].shape) == self._as_stored(_SQUEEZENET_1_0[path])
            for name, path in self.paths.items()
            if name in tensors
        )


def _rename(
    layers: Iterable[str],
    parts: Iterable[str] = _PARTS,
    variables: tuple[str, str] = ("kernel", "bias"),
    separator: str = "/",
    ending: str = "",
) -> dict[str, str]:
    """The table of a form that calls our layers, their parts and their variables by these names."""
    table = {}
    for ours, theirs in zip(LAYERS, layers, strict=True):
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
OURS = Naming("names by layer", _rename(LAYERS))
CAFFE = Naming("Caffe's layer names", _rename(LAYERS, _CAFFE_PARTS))
CAFFE_UNDERSCORE = Naming(
    "Caffe's layer names, joined by _",
    {
        re.sub(r"^(fire\d)/", r"\1_", name): path
        for name, path in _rename(LAYERS, _CAFFE_PARTS).items()
    },
)
NAMINGS = (OURS, KERAS3, TF1, TF2, TORCH, CAFFE, CAFFE_UNDERSCORE)

_NO_WEIGHT = re.compile(
    r"""_CHECKPOINTABLE_OBJECT_GRAPH
    | .*/\.ATTRIBUTES/OBJECT_CONFIG_JSON
    | (.*/)?(save_counter|step|global_step)/\.ATTRIBUTES/VARIABLE_VALUE
    | .*/\.OPTIMIZER_SLOT/.*                             # TF2's optimisers: one a variable
    | (optimizer|optimizer_weights)/.*                   # and their own; Keras's HDF5
    | global_step | beta[12]_power                       # TF1's
    | .*/(Adam|Adam_1|AdaMax|AdaMax_1|Adagrad|Adadelta|Adadelta_1|Ftrl|Ftrl_1
         |Momentum|RMSProp|RMSProp_1|RMSProp_2)""",
    re.VERBOSE,
)


def carries_no_weight(name: str) -> bool:
    """Whether a tensor is an optimiser's or a checkpoint's own, to be left aside knowingly."""
    return _NO_WEIGHT.fullmatch(name) is not None


class HasShape(Protocol):
    """What the table is compared with: a tensor that need not have been read yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...


@dataclass(frozen=True)
class Match:
    """How the tensors of a file meet SqueezeNet 1.1 under the naming that fits them best."""

    naming: Naming
    names: Mapping[str, str]  # path of our variable -> name in the file
    missing: list[str]  # names that the file ought to hold
    unexpected: list[str]  # names in the file that belong nowhere
    different: list[str]  # names whose shape or dtype is not the one expected
    tensors: Mapping[str, HasShape]

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.different)

    def explain(self) -> str:
        """Why the file does not fit, and what to do, after "weights: NAME ": one sentence."""
        plain = [name.removesuffix(":0") for name in self.tensors]
        if plain != list(self.tensors) and match(dict.fromkeys(plain, _ANY)).names:
            suffixed = next(name for name in self.tensors if name.endswith(":0"))
            return (
                f"calls its tensors {printable(suffixed)} and so on, and ':0' belongs to TensorFlow's "
                "graphs, not to the weights' names: save them again without ':0'"
            )
        if not self.names:
            return (
                f"is of another network: none of its tensors ({some(list(self.tensors))}) has a name "
                "that a weight of SqueezeNet 1.1 has in any known form: "
                "get a checkpoint of SqueezeNet 1.1"
            )
        if not self.missing and self.naming.is_version_1_0(self.tensors):
            return (
                "is of SqueezeNet 1.0, whose first convolution is 7x7 with 96 channels, but this "
                "network is version 1.1 (3x3, 64): get a checkpoint of SqueezeNet 1.1"
            )
        if self._only_dtype_differs():
            dtypes = sorted({self.tensors[name].dtype for name in self.different})
            return (
                f"holds {' and '.join(dtypes)} in {some(self.different)}, but the network is "
                "float32, and rounding is not done unasked: convert the arrays with "
                "array.astype('float32') and save them again"
            )
        return f"does not fit SqueezeNet 1.1 ({self.naming.form}): {self._differences()}"

    def _only_dtype_differs(self) -> bool:
        return not (self.missing or self.unexpected) and all(
            tuple(self.tensors[name].shape) == self.naming.expected_shape(self.naming.paths[name])
            for name in self.different
        )

    def _differences(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({some(self.missing)})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} left over ({some(self.unexpected)})")
        if self.different:
            wrong = [
                f"{name} is {self.tensors[name].dtype} {tuple(self.tensors[name].shape)}, not "
                f"float32 {self.naming.expected_shape(self.naming.paths[name])}"
                for name in self.different
            ]
            parts.append(f"{len(self.different)} different ({some(wrong, '; ')})")
        advice = "get a checkpoint of the whole SqueezeNet 1.1, and of nothing else"
        if {self.naming.paths[name] for name in self.missing} == set(TOP):
            advice = "it has no top, so load it into SqueezeNet(weights=None, include_top=False)"
        return f"{'; '.join(parts)}: {advice}"


@dataclass(frozen=True)
class _Unread:
    shape: tuple[int, ...] = ()
    dtype: str = ""


_ANY = _Unread()


def match(tensors: Mapping[str, HasShape], wanted: Iterable[str] = SQUEEZENET) -> Match:
    """Compares a file's tensors with the table whose names they share most.

    Args:
        tensors: name in the file -> shape and dtype.
        wanted: paths of the weights that must be there; the others of SqueezeNet may be.
    """
    naming = max(NAMINGS, key=lambda naming: len(tensors.keys() & naming.paths.keys()))
    wanted = set(wanted)
    return Match(
        naming=naming,
        names={path: name for name, path in naming.paths.items() if name in tensors},
        missing=[n for n, path in naming.paths.items() if path in wanted and n not in tensors],
        unexpected=[name for name in tensors if name not in naming.paths],
        different=[
            name
            for name, path in naming.paths.items()
            if name in tensors
            and (tuple(tensors[name].shape), tensors[name].dtype)
            != (naming.expected_shape(path), "float32")
        ],
        tensors=tensors,
    )
