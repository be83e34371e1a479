"""The one way into weight files: complete and verified, or not loaded at all; and the command for them.

`load_weights` takes every form of SqueezeNet checkpoint that people have: `weight_files` and
`weight_formats` open them, `weight_names` says what belongs where, and `diagnosis` what a file is that
is none of them.
"""

import argparse
import dataclasses
import hashlib
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from . import command
from .bundle import BUNDLE, IMAGENET, manifest, read_bundled
from .weight_names import SQUEEZENET, TOP, match, shown, some

if TYPE_CHECKING:
    import numpy as np

    from .backend import keras
    from .weight_formats import WeightFile

CONVENTIONS = ("course", "caffe")
CAFFE_MEAN = (104.006, 116.669, 122.679)  # BGR, 0..255


def load_weights(
    model: "keras.Model", source: str | os.PathLike[str], convention: str | None = None
) -> None:
    """Sets every weight of a SqueezeNet, or changes nothing.

    Args:
        model: a model made by `visualization.SqueezeNet`, with or without top.
        source: "imagenet" for the bundled weights, or a checkpoint of SqueezeNet 1.1, told by content:

            - TensorFlow, with TF1's names or TF2's object graph: the prefix, the ``.index``, a
              ``.data-...`` file, the folder that holds it, or a ``checkpoint`` state file;
            - HDF5: Keras 3's ``.weights.h5``, or what Keras 1 and 2 wrote under Caffe's layer names;
            - ``.npz`` or (with the package `safetensors`) ``.safetensors``, under this package's names,
              Caffe's, the course's, or torchvision's with kernels in PyTorch's order.
        convention: the input that the weights were trained for: "course" (RGB, divided by 255, minus
            mean, divided by std) or "caffe" (BGR, 0..255, minus a mean), which is folded into the first
            convolution, so that the model takes the course's. By default what the file says, and
            "course" if it says nothing.

    Raises:
        OSError: the source is missing or cannot be read.
        ValueError: it is damaged, is no checkpoint or another network's; or weights are missing, left
            over, of another shape, not float32 or not finite: the message lists them.
        ImportError: it is a ``.safetensors`` file and the package is not installed.
    """
    shapes = {variable.path: tuple(variable.shape) for variable in model.weights}
    without_top = {path: shape for path, shape in SQUEEZENET.items() if path not in TOP}
    if shapes not in (SQUEEZENET, without_top):
        wrong = [
            path for path in {**shapes, **SQUEEZENET} if shapes.get(path) != SQUEEZENET.get(path)
        ]
        raise ValueError(
            f"model {model.name!r} is not a SqueezeNet of this package, as {wrong[0]!r} shows: "
            "make one with visualization.SqueezeNet(weights=None)"
        )
    arrays, _ = _read(source, convention, shapes)
    for variable in model.weights:
        variable.assign(arrays[variable.path])


def read_weights(
    source: str | os.PathLike[str], convention: str | None = None
) -> "tuple[dict[str, np.ndarray], str]":
    """The arrays that `load_weights` would set, and the sha256 of the file.

    TensorFlow is imported only to read a TensorFlow checkpoint.

    Args:
        source, convention: as for `load_weights`.

    Returns:
        variable path -> float32 array, for every weight of SqueezeNet 1.1, kernels HWIO; 64
        hexadecimal digits, of a TensorFlow checkpoint over its index and data files in order.

    Raises:
        as `load_weights`.
    """
    arrays, file = _read(source, convention, SQUEEZENET)
    return arrays, file.sha256


def fold_caffe(arrays: "Mapping[str, np.ndarray]") -> "dict[str, np.ndarray]":
    """Weights for Caffe's input (BGR, 0..255, minus a mean) as weights for the course's input.

    Caffe computes K * (255 (std z + mean) - caffe_mean) + b with z our input, so the kernel takes the
    factor 255 std and the bias the rest. This is exact at every position because conv1 has no padding.

    Args:
        arrays: variable path -> float32 array, with ``conv1/kernel`` and ``conv1/bias``.

    Returns:
        the same with these two replaced, float32.
    """
    import numpy as np

    from .images import SQUEEZENET_MEAN, SQUEEZENET_STD

    rgb = arrays["conv1/kernel"][:, :, ::-1].astype(np.float64)  # (3, 3, 3, 64)
    shift = 255 * SQUEEZENET_MEAN.astype(np.float64) - np.array(CAFFE_MEAN)[::-1]  # (3,)
    bias = arrays["conv1/bias"] + np.einsum("hwio,i->o", rgb, shift)
    kernel = rgb * (255 * SQUEEZENET_STD.astype(np.float64))[:, None]
    return {
        **arrays,
        "conv1/kernel": kernel.astype(np.float32),
        "conv1/bias": bias.astype(np.float32),
    }


def tensors_sha256(arrays: "Mapping[str, np.ndarray]") -> str:
    """One sha256 for the values, the same whatever form of file they came from."""
    digest = hashlib.sha256()
    for path, array in sorted(arrays.items()):
        digest.update(f"{path} {array.shape}\n".encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()


def _read(
    source: str | os.PathLike[str], convention: str | None, wanted: Iterable[str]
) -> "tuple[dict[str, np.ndarray], WeightFile]":
    """Every wanted weight in our convention, after the whole file was found to fit."""
    import numpy as np

    if convention not in (None, *CONVENTIONS):
        raise ValueError(f"convention is {convention!r}, expected one of {', '.join(CONVENTIONS)}")
    file = _open(source)
    found = match(file.tensors, wanted)
    if not found.fits:
        raise ValueError(f"weights: {file.name} {found.explain()}")
    if file.defect:
        whole = f"all {len(found.names)} tensors that the index names fit SqueezeNet 1.1"
        raise type(file.defect)(f"weights: {file.name}: {file.defect} ({whole})")
    convention = _convention(file, convention)
    arrays = {}
    for path in wanted:
        array = file.tensors[found.names[path]].read()
        if found.naming.oihw and array.ndim == 4:
            array = np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        arrays[path] = array
    _check_values({found.names[path]: array for path, array in arrays.items()}, file.name)
    recorded = file.metadata.get("tensors_sha256")
    if recorded is not None and len(arrays) == len(SQUEEZENET):
        values = tensors_sha256(arrays)
        if values != recorded:
            raise ValueError(
                f"weights: {file.name} holds other values than when it was written (their sha256 is "
                f"{values}, not {shown(recorded)}): get it again, or convert its source anew"
            )
    return (fold_caffe(arrays) if convention == "caffe" else arrays), file


def _check_values(arrays: "Mapping[str, np.ndarray]", name: str) -> None:
    """Refuses what no trained network holds."""
    import numpy as np

    broken = [key for key, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise ValueError(
            f"weights: {name} holds NaN or infinity in {some(broken)}, which every score would catch: "
            "get a checkpoint from before its training diverged"
        )
    blank = [key for key, array in arrays.items() if array.ndim == 4 and not array.any()]
    if blank:
        raise ValueError(
            f"weights: {name} holds nothing but zeros in {some(blank)}, as a file does whose download "
            "or copy stopped half-way: get it again"
        )


def _convention(file: "WeightFile", asked: str | None) -> str:
    """The input that the weights are for: what the file says, else what the caller says."""
    said = file.metadata.get("input_convention")
    if said is not None and said not in CONVENTIONS:
        raise ValueError(
            f"weights: {file.name} says that its weights are for the input convention {said[:40]!r}, "
            f"and only {' and '.join(CONVENTIONS)} are known: get weights for one of these"
        )
    if said and asked and said != asked:
        raise ValueError(
            f"weights: {file.name} says that its weights are for the input convention {said!r}, but "
            f"{asked!r} was asked for: leave the convention out"
        )
    return said or asked or "course"


def _open(source: str | os.PathLike[str]) -> "WeightFile":
    from . import weight_files, weight_formats

    if source != "imagenet":
        return weight_files.open_weights(source)
    content, path = read_bundled(IMAGENET), BUNDLE / IMAGENET
    file = weight_formats.open_content(content, f"the bundled {IMAGENET}", [path])
    entry = manifest()[IMAGENET]
    said = {"provenance": entry["source"], "licence": entry["licence"]}
    return dataclasses.replace(file, metadata=said | {"input_convention": "course"})


def main(argv: list[str] | None = None) -> int:
    """``python -m visualization.checkpoints``: inspect, convert and verify weight files.

    Returns 0 if done, 1 if the source does not fit (inspect) or is not what it should be (verify).
    """
    parser = command.Parser(
        prog="python -m visualization.checkpoints",
        description="Looks into checkpoints of SqueezeNet 1.1, converts them, and verifies them.",
        epilog="example: python -m visualization.checkpoints convert squeezenet.ckpt new.weights.h5",
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="inspect|convert|verify")
    inspect = jobs.add_parser(
        "inspect",
        help="tell what a file is",
        epilog="example: python -m visualization.checkpoints inspect squeezenet.ckpt.index",
    )
    convert = jobs.add_parser(
        "convert",
        help="write it in another form",
        epilog="example: python -m visualization.checkpoints convert squeezenet.ckpt new.npz",
    )
    verify = jobs.add_parser(
        "verify",
        help="check hashes, and what the network sees",
        epilog="example: python -m visualization.checkpoints verify imagenet",
    )
    for job in (inspect, convert, verify):
        job.add_argument(
            "source",
            metavar="SOURCE",
            help="a weight file, a TensorFlow prefix, a folder, or 'imagenet' for the bundled weights",
        )
    convert.add_argument(
        "destination",
        type=Path,
        metavar="DESTINATION",
        help="a new file; its ending says the form: .weights.h5, .npz, .safetensors, or .ckpt for a "
        "TensorFlow checkpoint",
    )
    for job in (convert, verify):
        job.add_argument(
            "--convention",
            choices=CONVENTIONS,
            help="the input that the weights are for: the course's RGB/mean/std, or Caffe's BGR, "
            "which is folded in (default: what the file says, else course)",
        )
    work = {"inspect": _inspect, "convert": _convert, "verify": _verify}
    return command.run(parser, argv, lambda arguments: work[arguments.job](arguments))


def _inspect(arguments: argparse.Namespace) -> int:
    file = _open(arguments.source)
    found = match(file.tensors)
    size = sum(math.prod(tensor.shape) for tensor in file.tensors.values())
    print(f"source      {file.name}")
    print(f"format      {file.form}, {found.naming.form if found.names else 'unknown names'}")
    for path in file.paths:
        print(f"file        {path} ({path.stat().st_size:,} bytes)")
    print(f"sha256      {file.sha256}")
    print(f"fits        {'SqueezeNet 1.1' if found.fits else 'no: it ' + found.explain()}")
    if file.defect:
        print(f"incomplete  {file.defect}")
    for key, value in sorted(file.metadata.items()):
        print(f"says        {shown(key)}: {shown(value, 1000)}")
    print(f"tensors     {len(file.tensors)}, {size:,} values")
    if file.ignored:
        print(
            f"left aside  {len(file.ignored)}, without weights: {shown(file.ignored[0])} and the like"
        )
    places = {name: f"  -> {path}" for path, name in found.names.items()}
    for name in [*places, *found.left_over]:
        tensor = file.tensors[name]
        print(f"  {shown(name)}  {tensor.dtype} {tensor.shape}{places.get(name, '')}")
    return 0 if found.fits and not file.defect else 1


def _convert(arguments: argparse.Namespace) -> int:
    from . import weight_writers

    destination = arguments.destination
    weight_writers.check_destination(destination)
    arrays, file = _read(arguments.source, arguments.convention, SQUEEZENET)
    convention = _convention(file, arguments.convention)
    metadata = _provenance(file, convention) | {"tensors_sha256": tensors_sha256(arrays)}
    with command.loading_tensorflow(quiet=False):
        from .squeezenet import SqueezeNet

        model = SqueezeNet(weights=None)
    for variable in model.weights:
        variable.assign(arrays[variable.path])
    scores = _scores(model)
    differences = []

    def check(written: Path) -> None:
        back, _ = read_weights(written)
        for variable in model.weights:
            variable.assign(back[variable.path])
        differences.append(float(abs(_scores(model) - scores).max()))
        if not differences[0] <= 1e-5:
            raise ValueError(
                f"{destination} was not written: read back, its scores differ by {differences[0]:.2g} "
                "from those of the source, more than the 1e-5 that is allowed"
            )

    written = weight_writers.write(destination, model, metadata, check)
    folded = ", folded into the course's input" if convention == "caffe" else ""
    print(f"read     {file.name} ({file.form}, sha256 {file.sha256}{folded})")
    for path in written:
        print(f"written  {path} ({path.stat().st_size:,} bytes)")
    print(f"checked  read back, the scores differ by {differences[0]:.2g} (allowed: 1e-5)")
    return 0


def _provenance(file: "WeightFile", convention: str) -> dict[str, str]:
    """What a converted file says of itself: where it comes from and which input it is for."""
    said = {key: value for key, value in file.metadata.items() if key in ("provenance", "licence")}
    name = file.paths[0].name
    folded = "; folded from Caffe's BGR input" if convention == "caffe" else ""
    origin = f"{name}, {file.form}, sha256 {file.sha256}{folded}"
    if "provenance" in said:
        origin = f"{said['provenance']}; then {origin}"
    return said | {
        "architecture": "SqueezeNet 1.1",
        "input_convention": "course",
        "provenance": origin,
    }


def _verify(arguments: argparse.Namespace) -> int:
    """Hashes against what is recorded, and the photograph against what is known of SqueezeNet."""
    arrays, file = _read(arguments.source, arguments.convention, SQUEEZENET)
    print(f"source    {file.name} ({file.form})")
    listed = " (as in the manifest)" if arguments.source == "imagenet" else ""
    print(f"sha256    {file.sha256}{listed}")
    values = tensors_sha256(arrays)
    remarks = ["as recorded in the file"] if "tensors_sha256" in file.metadata else []
    if values == tensors_sha256(read_weights("imagenet")[0]):
        remarks.append("equal to the bundled weights'")
    print(f"values    {values} ({', '.join(remarks) or 'no hash of them is recorded in the file'})")

    with command.loading_tensorflow(quiet=False):
        from .squeezenet import SqueezeNet

        model = SqueezeNet(weights=None)
    for variable in model.weights:
        variable.assign(arrays[variable.path])
    seen, expected = _seen(_scores(model))
    print(f"sees      {seen}")
    if not expected:
        print("expected  bow tie (457) at 73 % to 75 %, then suit (834)")
    return 0 if expected else 1


def _seen(scores: "np.ndarray") -> tuple[str, bool]:
    """The two classes with the highest scores in words, and whether they are the right ones."""
    from .classes import class_names, short_name
    from .gradients import softmax

    probabilities = softmax(scores[0])
    first, second = probabilities.argsort()[:-3:-1]
    names = class_names()
    text = ", then ".join(
        f"{short_name(names[i])} ({i}) at {probabilities[i]:.1%}" for i in (first, second)
    )
    return text, (first, second) == (457, 834) and 0.73 <= probabilities[first] <= 0.75


def _scores(model: "keras.Model") -> "np.ndarray":
    """The scores of the photograph that ships with matplotlib, (1, 1000)."""
    from .gradients import predict_scores
    from .images import load_image, preprocess_image

    image = load_image(command.image_sources([])[0], 224)  # uint8 (224, 224, 3)
    return predict_scores(model, preprocess_image(image[None]))


if __name__ == "__main__":
    sys.exit(main())
