"""``python -m visualization.checkpoints``: inspects, converts and verifies weight files."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from visualization.cli.arguments import Parser
from visualization.cli.running import loading_tensorflow, run

if TYPE_CHECKING:
    import numpy as np

    from visualization.backend import keras
    from visualization.weight_files.loading import Weights

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """``python -m visualization.checkpoints``: inspect, convert and verify weight files.

    Returns:
        0 if done, 1 if the source does not fit (inspect) or the network sees something else (verify),
        2 if the input is wrong.

    Example:
        >>> main(["inspect", "imagenet"])
        source      the bundled squeezenet_v1_1.weights.h5
        format      HDF5, Keras 3 .weights.h5
        ...
        0
    """
    parser = Parser(
        prog="python -m visualization.checkpoints",
        description="Looks into weight files; converts and verifies those of SqueezeNet 1.1.",
        epilog="example: python -m visualization.checkpoints convert squeezenet.ckpt new.weights.h5",
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="inspect|convert|verify")
    for name, work, text, example in (
        ("inspect", _inspect, "show what a file is and holds", "squeezenet.ckpt.index"),
        ("convert", _convert, "write the weights in another form", "squeezenet.ckpt new.npz"),
        ("verify", _verify, "check hashes, and what the network sees", "imagenet"),
    ):
        job = jobs.add_parser(name, help=text, epilog=f"example: {parser.prog} {name} {example}")
        job.set_defaults(work=work)
        job.add_argument(
            "source",
            metavar="SOURCE",
            help="a weight file, a TensorFlow prefix, a folder, or 'imagenet' for the bundled weights",
        )
        if name == "convert":
            job.add_argument(
                "destination",
                type=Path,
                metavar="DESTINATION",
                help="a new file; its ending decides the form: .weights.h5, .npz, .safetensors, or "
                ".ckpt for a TensorFlow checkpoint",
            )
        if name != "inspect":
            job.add_convention_argument()
    return run(parser, argv, lambda arguments: arguments.work(arguments))


def _inspect(arguments: argparse.Namespace) -> int:
    from visualization.files.printable import printable
    from visualization.weight_files.architectures import ARCHITECTURES
    from visualization.weight_files.loading import read_weights
    from visualization.weight_files.locate import open_weights
    from visualization.weight_files.names import match

    file = open_weights(arguments.source)
    compared = [match(file.tensors, architecture) for architecture in ARCHITECTURES]
    found = max(compared, key=lambda one: (one.fits, len(one.names)))
    size = sum(math.prod(tensor.shape) for tensor in found.tensors.values())
    print(f"source      {file.name}")
    print(f"format      {file.form}, {found.naming.form if found.names else 'unknown names'}")
    for path in file.paths:
        print(f"file        {path} ({path.stat().st_size:,} bytes)")
    print(f"sha256      {file.sha256}")
    read, told = None, f"no: it {found.explain()}"
    if found.fits and file.content is not None:  # to read a checkpoint's values takes TensorFlow
        try:
            read = read_weights(arguments.source, found.architecture)
        except ValueError as error:
            told = "no: " + str(error).removeprefix(f"{file.name}: ")
    fits = read is not None or (found.fits and file.content is None)
    print(f"fits        {found.architecture.title if fits else told}")
    if read:
        print(f"input       {read.convention}")
    elif fits:
        print("values      are not read here: 'verify' reads them")
    if file.defect:
        print(f"incomplete  {file.defect}")
    for key, value in sorted(file.metadata.items()):
        print(f"metadata    {printable(key)}: {printable(value, 1000)}")
    print(f"tensors     {len(found.tensors)}, {size:,} values")
    if found.ignored:
        first = printable(found.ignored[0])
        print(f"ignored     {len(found.ignored)} that are not weights, such as {first}")
    places = {name: f"  -> {path}" for path, name in found.names.items()}
    for name in [*places, *found.unexpected]:
        tensor = found.tensors[name]
        print(f"  {printable(name)}  {tensor.dtype} {tensor.shape}{places.get(name, '')}")
    return 0 if fits and not file.defect else 1


def _convert(arguments: argparse.Namespace) -> int:
    destination = arguments.destination
    weights, model = _load(arguments, destination)

    from visualization.weight_files import writers
    from visualization.weight_files.loading import read_weights, tensors_sha256

    file = weights.file
    metadata = _provenance(weights) | {"tensors_sha256": tensors_sha256(weights.arrays)}
    scores = _scores(model)
    differences = []

    def check(written: Path) -> None:
        _assign(model, read_weights(written).arrays)
        differences.append(float(abs(_scores(model) - scores).max()))
        if not differences[0] <= 1e-5:
            raise ValueError(
                f"{destination}: was not written: read back, its scores differ by "
                f"{differences[0]:.2g} from those of the source, more than the 1e-5 allowed"
            )

    written = writers.write(destination, model, metadata, check)
    folded = ", folded into the course's input" if weights.convention == "caffe" else ""
    print(f"read     {file.name} ({file.form}, sha256 {file.sha256}{folded})")
    for path in written:
        print(f"written  {path} ({path.stat().st_size:,} bytes)")
    print(f"checked  read back, the scores differ by {differences[0]:.2g} (allowed: 1e-5)")
    return 0


def _provenance(weights: Weights) -> dict[str, str]:
    """What a converted file records: where it comes from and which input it is for."""
    file = weights.file
    kept = {key: value for key, value in file.metadata.items() if key in ("provenance", "licence")}
    folded = "; folded from Caffe's BGR input" if weights.convention == "caffe" else ""
    origin = f"{file.paths[0].name}, {file.form}, sha256 {file.sha256}{folded}"
    if "provenance" in kept:
        origin = f"{kept['provenance']}; then {origin}"
    return kept | {
        "architecture": "SqueezeNet 1.1",
        "input_convention": "course",
        "provenance": origin,
    }


def _verify(arguments: argparse.Namespace) -> int:
    """Compares hashes with those recorded, and what the network sees with what SqueezeNet sees."""
    weights, model = _load(arguments)

    from visualization.weight_files.loading import read_weights, tensors_sha256

    file = weights.file
    print(f"source    {file.name} ({file.form})")
    listed = " (as in the manifest)" if arguments.source == "imagenet" else ""
    print(f"sha256    {file.sha256}{listed}")
    values = tensors_sha256(weights.arrays)
    remarks = ["as recorded in the file"] if "tensors_sha256" in file.metadata else []
    if values == tensors_sha256(read_weights("imagenet").arrays):
        remarks.append("equal to the bundled weights'")
    print(f"values    {values} ({', '.join(remarks) or 'the file records no hash of them'})")
    seen, expected = _seen(_scores(model))
    folded = " (BGR), folded into the course's (RGB)" if weights.convention == "caffe" else ""
    print(f"input     {weights.convention}{folded}")
    print(f"sees      {seen}")
    if not expected:
        print("expected  bow tie (457) at 73 % to 75 %, then suit (834)")
    return 0 if expected else 1


def _load(
    arguments: argparse.Namespace, destination: Path | None = None
) -> tuple[Weights, keras.Model]:
    """The weights of the source, and a SqueezeNet that has them."""
    with loading_tensorflow(quiet=False):
        from visualization.weight_files.loading import read_weights

        if destination:
            from visualization.weight_files.writers import check_destination

            check_destination(destination)
        weights = read_weights(arguments.source, convention=arguments.convention)

        from visualization.networks.squeezenet import SqueezeNet
    model = SqueezeNet(weights=None)
    _assign(model, weights.arrays)
    return weights, model


def _assign(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    for variable in model.weights:
        variable.assign(arrays[variable.path])


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
    from visualization.cli.photographs import image_sources
    from visualization.gradients import predict_scores
    from visualization.images.preprocessing import preprocess_image
    from visualization.images.reading import load_image

    image = load_image(image_sources([])[0], 224)  # uint8 (224, 224, 3)
    return predict_scores(model, preprocess_image(image[None]))


if __name__ == "__main__":
    sys.exit(main())
