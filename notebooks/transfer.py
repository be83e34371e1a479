"""Do fooling images fool another network? ``python -m notebooks.transfer`` counts, for notebook 3.

Each of the course's 25 validation images ($TFCAP_DATA names their folder) is changed until a network
takes it for a stingray, for each bundled network and for both at once; then both look at the pictures.
The counts are written to ``transfer.json``, two minutes on two cores.
"""

import argparse
import sys
from pathlib import Path

from visualization.cli.arguments import Parser
from visualization.cli.network import open_network
from visualization.cli.output import OutputFolder
from visualization.cli.running import run, start_tensorflow
from visualization.networks import NETWORKS

TARGET = 6  # stingray


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m notebooks.transfer",
        description="Counts how many fooling images fool a network that was not asked.",
        epilog="example: TFCAP_DATA=data python -m notebooks.transfer",
    )
    parser.add_common_arguments()
    parser.set_defaults(out=Path(__file__).resolve().parent)
    return run(parser, argv, _count)


def _count(arguments: argparse.Namespace) -> int:
    start_tensorflow(arguments.seed, arguments.quiet)
    import numpy as np
    from PIL import Image

    from visualization import load_imagenet_val, make_fooling_images

    photographs, *_ = load_imagenet_val()
    lookers = [_open([name]) for name in NETWORKS]
    rows = []
    for asked in ([NETWORKS[0]], [NETWORKS[1]], [*NETWORKS]):
        network = _open(asked)
        needs = network.specification
        height, width = needs.size
        pictures = np.stack(
            [Image.fromarray(one).resize((width, height), Image.BICUBIC) for one in photographs]
        )
        result = make_fooling_images(
            pictures, TARGET, network.model, preprocess=needs.preprocess, bounds=needs.bounds
        )
        row = {"asked": asked, "median_l2": round(float(np.median(result.l2)), 1)}
        for name, looker in zip(NETWORKS, lookers, strict=True):
            before, after = (
                looker.probabilities(images).argmax(axis=1) for images in (pictures, result.images)
            )
            row[name] = {
                "stingray": int(np.sum(after == TARGET)),
                "another_class_than_before": int(np.sum(after != before)),
            }
        rows.append(row)
        if not arguments.quiet:
            print(row, flush=True)
    record = {"images": len(photographs), "target": TARGET, "rows": rows}
    OutputFolder(arguments.out).write_json("transfer.json", record)
    return 0


def _open(names: list[str]):  # type: ignore[no-untyped-def]
    network = open_network(argparse.Namespace(network=names, weights="imagenet", model=None))
    network.load()
    return network


if __name__ == "__main__":
    sys.exit(main())
