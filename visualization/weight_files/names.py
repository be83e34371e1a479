"""Compares the names in a weight file with those that a network's weights have.

A file fits if every weight is in it under a name of one `Naming`, with the right shape and dtype, and
nothing else is but an optimizer's state.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from visualization.files.printable import printable, some
from visualization.weight_files.weight_file import Tensor

__all__ = ["Architecture", "Match", "Naming", "match"]


@dataclass(frozen=True)
class Naming:
    """The names of one form.

    Attributes:
        form: what it is called.
        paths: name in the file -> path of our variable.
        oihw: whether kernels are stored in PyTorch's order: output, input, height, width.
        caffe: whether the names are Caffe's, so that the weights may be for Caffe's input.

    Example:
        >>> naming = Naming("torchvision's names", {"features.0.weight": "conv1/kernel"}, oihw=True)
        >>> naming.as_stored((3, 3, 1, 64))
        (64, 1, 3, 3)
    """

    form: str
    paths: Mapping[str, str]
    oihw: bool = False
    caffe: bool = False

    def as_stored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in a file of a weight that has `shape` as our variable."""
        if self.oihw and len(shape) == 4:
            height, width, inputs, outputs = shape
            return (outputs, inputs, height, width)
        return shape


@dataclass(frozen=True)
class Architecture:
    """A bundled network, as far as its weight files are concerned.

    Attributes:
        title: what messages call it.
        builder: the function of `visualization` that makes it.
        bundled: the name of its file in ``weights/``.
        shapes: path of a Keras variable -> its shape; kernels are HWIO.
        top: paths of the weights that the network has not without top.
        namings: the forms of its files.
        conventions: the inputs that its weights may be for; the first is what the network takes.
        dtypes: what its files may hold. Half precision is read where the bundled file has it too.
        older: a sentence about a network that uses the same names -> its shapes.

    Example:
        >>> naming = Naming("names by layer", {"dense/bias": "dense/bias"})
        >>> small = Architecture("Small", "Small", "small.h5", {"dense/bias": (2,)}, (), (naming,))
        >>> small.conventions
        ('course',)
    """

    title: str
    builder: str
    bundled: str
    shapes: Mapping[str, tuple[int, ...]]
    top: tuple[str, ...]
    namings: tuple[Naming, ...]
    conventions: tuple[str, ...] = ("course",)
    dtypes: tuple[str, ...] = ("float32",)
    older: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)

    @property
    def without_top(self) -> dict[str, tuple[int, ...]]:
        """The shapes without those of the top."""
        return {path: shape for path, shape in self.shapes.items() if path not in self.top}


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
    """How a file's tensors compare with a network's, under the naming that shares most names.

    Attributes:
        architecture: the network.
        naming: that naming.
        tensors: name in the file -> tensor, of those that hold weights.
        ignored: names of the others: optimizer state, counters.
        names: path of our variable -> name in the file.
        missing: names that the file should hold.
        unexpected: names in the file that the naming does not have.
        mismatched: names whose shape or dtype is not the expected one.

    Example:
        >>> from visualization.weight_files.architectures import SQUEEZENET
        >>> from visualization.weight_files.locate import open_weights
        >>> match(open_weights("imagenet").tensors, SQUEEZENET).fits
        True
    """

    architecture: Architecture
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
        title = self.architecture.title
        suffixed = [name for name in self.tensors if name.endswith(":0")]
        plain = {name.removesuffix(":0") for name in suffixed}
        if any(
            len(plain & naming.paths.keys()) > len(naming.paths) / 2
            for naming in self.architecture.namings
        ):
            return (
                f"has names such as {printable(suffixed[0])}, whose ':0' belongs to tensors of a "
                "TensorFlow graph, not to weights: save them again without ':0'"
            )
        if "_all_variables/0/.ATTRIBUTES/VARIABLE_VALUE" in self.tensors:
            return (
                "is what model.export wrote, where weights have numbers for names: save the model's "
                "weights with model.save_weights('NAME.weights.h5')"
            )
        if not self.names:
            return (
                f"is of another network: none of its tensors ({some(list(self.tensors))}) has a name "
                f"that a weight of {title} has in any known form: use a checkpoint of {title}"
            )
        for sentence, shapes in self.architecture.older.items():
            if not self.missing and self._has_shapes(shapes):
                return sentence
        if not (self.missing or self.unexpected) and self._has_shapes(self.architecture.shapes):
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
                f"float32 {self._expected_shape(name)}"
                for name in self.mismatched
            ]
            parts.append(f"{len(self.mismatched)} mismatched ({some(wrong, '; ')})")
        advice = f"use a checkpoint of the whole {title}, and of nothing else"
        if {self.naming.paths[name] for name in self.missing} == set(self.architecture.top):
            builder = self.architecture.builder
            advice = f"it has no top, so load it into {builder}(weights=None, include_top=False)"
        return f"does not fit {title} ({self.naming.form}): {'; '.join(parts)}: {advice}"

    def _expected_shape(self, name: str) -> tuple[int, ...]:
        return self.naming.as_stored(self.architecture.shapes[self.naming.paths[name]])

    def _has_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether the tensors that are in the file have these shapes, given by our paths."""
        return all(
            self.tensors[name].shape == self.naming.as_stored(shapes[path])
            for path, name in self.names.items()
        )


def match(
    tensors: Mapping[str, Tensor],
    architecture: Architecture,
    wanted: Collection[str] | None = None,
) -> Match:
    """Compares a file's tensors with the naming that shares most names with them.

    Args:
        tensors: name in the file -> tensor.
        architecture: the network that they should be the weights of.
        wanted: paths of the weights that must be there, by default all; the others may be.

    Example:
        >>> from visualization.weight_files.architectures import SQUEEZENET
        >>> found = match({}, SQUEEZENET, wanted=["conv1/bias"])
        >>> found.fits, found.missing
        (False, ['conv1/bias'])
    """
    wanted = architecture.shapes if wanted is None else wanted
    ignored = [name for name in tensors if _BOOKKEEPING.fullmatch(name)]
    tensors = {name: tensors[name] for name in tensors if not _BOOKKEEPING.fullmatch(name)}
    naming = max(architecture.namings, key=lambda naming: len(tensors.keys() & naming.paths.keys()))
    names = {path: name for name, path in naming.paths.items() if name in tensors}
    return Match(
        architecture=architecture,
        naming=naming,
        tensors=tensors,
        ignored=ignored,
        names=names,
        missing=[n for n, path in naming.paths.items() if path in wanted and n not in tensors],
        unexpected=[name for name in tensors if name not in naming.paths],
        mismatched=[
            name
            for path, name in names.items()
            if tensors[name].shape != naming.as_stored(architecture.shapes[path])
            or tensors[name].dtype not in architecture.dtypes
        ],
    )
