"""``python -m visualization.checkpoints``: inspects, converts and verifies weight files."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from visualization.cli.arguments import Parser
from visualization.cli.photographs import image_sources
from visualization.cli.running import loading_tensorflow, run
from visualization.files.printable import printable
from visualization.weight_files.loading import (
    CONVENTIONS,
    input_convention,
    open_source,
    read_checked,
    read_weights,
    tensors_sha256,
)
from visualization.weight_files.names import SQUEEZENET, match

if TYPE_CHECKING:
    import numpy as np

    from visualization.backend import keras
    from visualization.weight_files.formats import WeightFile


def main(argv: list[str] | None = None) -> int:
    """``python -m visualization.checkpoints``: inspect, convert and verify weight files.

    Returns 0 if done, 1 if the source does not fit (inspect) or is not what it should be (verify).
    """
    parser = Parser(
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
    return run(parser, argv, lambda arguments: work[arguments.job](arguments))


def _inspect(arguments: argparse.Namespace) -> int:
    file = open_source(arguments.source)
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
        print(f"says        {printable(key)}: {printable(value, 1000)}")
    print(f"tensors     {len(file.tensors)}, {size:,} values")
    if file.ignored:
        print(
            f"left aside  {len(file.ignored)}, without weights: {printable(file.ignored[0])} and the like"
        )
    places = {name: f"  -> {path}" for path, name in found.names.items()}
    for name in [*places, *found.unexpected]:
        tensor = file.tensors[name]
        print(f"  {printable(name)}  {tensor.dtype} {tensor.shape}{places.get(name, '')}")
    return 0 if found.fits and not file.defect else 1


def _convert(arguments: argparse.Namespace) -> int:
    from visualization.weight_files import writers as weight_writers

    destination = arguments.destination
    weight_writers.check_destination(destination)
    arrays, file = read_checked(arguments.source, arguments.convention, SQUEEZENET)
    convention = input_convention(file, arguments.convention)
    metadata = _provenance(file, convention) | {"tensors_sha256": tensors_sha256(arrays)}
    with loading_tensorflow(quiet=False):
        from visualization.networks.squeezenet import SqueezeNet

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


def _provenance(file: WeightFile, convention: str) -> dict[str, str]:
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
    arrays, file = read_checked(arguments.source, arguments.convention, SQUEEZENET)
    print(f"source    {file.name} ({file.form})")
    listed = " (as in the manifest)" if arguments.source == "imagenet" else ""
    print(f"sha256    {file.sha256}{listed}")
    values = tensors_sha256(arrays)
    remarks = ["as recorded in the file"] if "tensors_sha256" in file.metadata else []
    if values == tensors_sha256(read_weights("imagenet")[0]):
        remarks.append("equal to the bundled weights'")
    print(f"values    {values} ({', '.join(remarks) or 'no hash of them is recorded in the file'})")

    with loading_tensorflow(quiet=False):
        from visualization.networks.squeezenet import SqueezeNet

        model = SqueezeNet(weights=None)
    for variable in model.weights:
        variable.assign(arrays[variable.path])
    seen, expected = _seen(_scores(model))
    print(f"sees      {seen}")
    if not expected:
        print("expected  bow tie (457) at 73 % to 75 %, then suit (834)")
    return 0 if expected else 1


def _seen(scores: np.ndarray) -> tuple[str, bool]:
    """The two classes with the highest scores in words, and whether they are the right ones."""
    from visualization.gradients import softmax
    from visualization.networks.imagenet import class_names, short_name

    probabilities = softmax(scores[0])
    first, second = probabilities.argsort()[:-3:-1]
    names = class_names()
    text = ", then ".join(
        f"{short_name(names[i])} ({i}) at {probabilities[i]:.1%}" for i in (first, second)
    )
    return text, (first, second) == (457, 834) and 0.73 <= probabilities[first] <= 0.75


def _scores(model: keras.Model) -> np.ndarray:
    """The scores of the photograph that ships with matplotlib, (1, 1000)."""
    from visualization.gradients import predict_scores
    from visualization.images.preprocessing import preprocess_image
    from visualization.images.reading import load_image

    image = load_image(image_sources([])[0], 224)  # uint8 (224, 224, 3)
    return predict_scores(model, preprocess_image(image[None]))


if __name__ == "__main__":
    sys.exit(main())
