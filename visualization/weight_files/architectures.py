"""The names of the bundled networks' weights, in this package and in every form that people have.

Each form has one explicit table from the names in a file to the paths of our variables.
"""

import re
from collections.abc import Iterable, Mapping

from visualization.files.bundle import EFFICIENTNET_LITE2 as LITE2_FILE
from visualization.files.bundle import IMAGENET
from visualization.weight_files.names import Architecture, Naming

__all__ = ["ARCHITECTURES", "CAFFE", "EFFICIENTNET_LITE2", "SQUEEZENET", "TF2", "TORCH"]

# ------------------------------------------------------------ SqueezeNet 1.1

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


# Version 1.0 has the same fire modules behind a larger first convolution.
_SQUEEZENET_1_0 = _weights(_kernels() | {"conv1": (7, 7, 3, 96), "fire2/squeeze": (1, 1, 96, 16)})


def _operations(layers: Iterable[tuple[int, str]], paths: Iterable[str]) -> Naming:
    """What TensorFlow calls the variables of a Keras 3 model, whose layers it numbers."""
    numbers = {layer: number for number, layer in layers}
    names = {}
    for path in paths:
        layer, *part, variable = path.split("/")
        leaf = "_kernel" if variable == "kernel" and part != ["depthwise"] else variable
        name = "/".join(["_operations", str(numbers[layer]), *part, leaf])
        names[f"{name}/.ATTRIBUTES/VARIABLE_VALUE"] = path
    return Naming("TF2 object graph of a Keras 3 model", names)


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
CAFFE = Naming("Caffe's layer names", _rename(_LAYERS, _CAFFE_PARTS), caffe=True)
CAFFE_UNDERSCORE = Naming(
    "Caffe's layer names, joined by _",
    {
        re.sub(r"^(fire\d)/", r"\1_", name): path
        for name, path in _rename(_LAYERS, _CAFFE_PARTS).items()
    },
    caffe=True,
)
# 0 is the input; a pooling layer follows conv1, fire3 and fire5.
_IN_ORDER = ("conv1", "", "fire2", "fire3", "", "fire4", "fire5", "", *_LAYERS[5:])
OPERATIONS = _operations(enumerate(_IN_ORDER, 1), _weights(_kernels()))
SQUEEZENET = Architecture(
    title="SqueezeNet 1.1",
    builder="SqueezeNet",
    bundled=IMAGENET,
    shapes=_weights(_kernels()),
    top=("conv10/kernel", "conv10/bias"),
    namings=(OURS, KERAS3, OPERATIONS, TF1, TF2, TORCH, CAFFE, CAFFE_UNDERSCORE),
    conventions=("course", "caffe"),
    older={
        "is of SqueezeNet 1.0, whose first convolution is 7x7 with 96 channels, but this network is "
        "version 1.1 (3x3, 64): use a checkpoint of SqueezeNet 1.1": _SQUEEZENET_1_0
    },
)

# ------------------------------------------------------------ EfficientNet-Lite2

# Kernel of the depthwise convolution, expansion, channels of the output, blocks.
_STAGES = (
    *((3, 1, 16, 1), (3, 6, 24, 3), (5, 6, 48, 3), (3, 6, 88, 4)),
    *((5, 6, 120, 4), (5, 6, 208, 5), (3, 6, 352, 1)),
)


def _lite2_weights() -> dict[str, tuple[int, ...]]:
    """Path of a Keras variable -> its shape; kernels are HWIO, of depthwise convolutions HWI1."""
    kernels: dict[str, tuple[int, ...]] = {"stem": (3, 3, 3, 32)}
    blocks = [stage for stage in _STAGES for _ in range(stage[-1])]
    inputs = 32
    for number, (size, expansion, outputs, _) in enumerate(blocks, start=1):
        inside = expansion * inputs
        if expansion > 1:
            kernels[f"block{number}/expand"] = (1, 1, inputs, inside)
        kernels[f"block{number}/depthwise"] = (size, size, inside, 1)
        kernels[f"block{number}/project"] = (1, 1, inside, outputs)
        inputs = outputs
    kernels |= {"head": (1, 1, inputs, 1280), "classifier": (1280, 1000)}
    shapes = {}
    for layer, shape in kernels.items():
        shapes[f"{layer}/kernel"] = shape
        shapes[f"{layer}/bias"] = shape[2:3] if layer.endswith("depthwise") else shape[-1:]
    return shapes


def _keras3_name(path: str) -> str:
    """block2/expand/kernel -> layers/inverted_residual_1/expand/vars/0."""
    layer, *part, variable = path.split("/")
    classes = {
        "stem": "conv2d",
        "head": "conv2d_1",
        "classifier": "dense",
        "block1": "inverted_residual",
    }
    group = classes.get(layer) or f"inverted_residual_{int(layer.removeprefix('block')) - 1}"
    return "/".join(["layers", group, *part, "vars", "0" if variable == "kernel" else "1"])


_LITE2 = _lite2_weights()
_LITE2_IN_ORDER = [*dict.fromkeys(path.split("/")[0] for path in _LITE2)]  # stem, block1 ... head
_LITE2_IN_ORDER[-1:] = ["", "", "classifier"]  # behind a pooling layer and dropout
EFFICIENTNET_LITE2 = Architecture(
    title="EfficientNet-Lite2",
    builder="EfficientNetLite2",
    bundled=LITE2_FILE,
    shapes=_LITE2,
    top=("classifier/kernel", "classifier/bias"),
    namings=(
        Naming("names by layer", {path: path for path in _LITE2}),
        Naming("Keras 3 .weights.h5", {_keras3_name(path): path for path in _LITE2}),
        _operations(enumerate(_LITE2_IN_ORDER, 1), _LITE2),
    ),
    conventions=("efficientnet-lite",),
    dtypes=("float32", "float16"),
)
ARCHITECTURES = (SQUEEZENET, EFFICIENTNET_LITE2)
