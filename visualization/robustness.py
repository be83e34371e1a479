"""``python -m visualization.robustness``: draws accuracy against the size of a change."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser, number
from visualization.cli.network import Network
from visualization.cli.output import OutputFolder
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.running import progress, run, start_tensorflow

if TYPE_CHECKING:
    import numpy as np

_BATCH = 25  # photographs at a time, as the library takes them
_EPSILONS = {"l2": (10, 20, 40, 80, 160, 320), "linf": (1, 2, 4, 8)}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 1 if photographs were skipped."""
    parser = Parser(
        prog="python -m visualization.robustness",
        description="Draws how a network's accuracy falls as its images are changed more and more.",
        epilog="example: python -m visualization.robustness photographs --norm linf",
    )
    parser.add_argument(
        "folder",
        nargs="+",
        metavar="FOLDER",
        help="the photographs: a folder of them, or one with a folder for each class, named for it; "
        "without classes, what the network sees in a photograph counts as right",
    )
    parser.add_argument(
        "--norm",
        choices=tuple(_EPSILONS),
        default="l2",
        help="what of a change is bounded: its length, or its largest value (default: %(default)s)",
    )
    parser.add_argument(
        "--epsilon",
        type=number(float, 0),
        nargs="+",
        metavar="LEVELS",
        help="the rows of the table, in levels of 0 to 255 (default: 10 to 320, or 1 to 8 for linf)",
    )
    parser.add_argument(
        "--steps",
        type=number(int, 1),
        default=40,
        metavar="N",
        help="of the ascent within each budget that is tried (default: %(default)s)",
    )
    parser.add_network_arguments()
    parser.add_common_arguments()
    return run(parser, argv, _measure)


def _measure(arguments: argparse.Namespace) -> int:
    network = Network(arguments)
    classes = dict(_sources(arguments.folder))
    if network.names:
        for known in sorted(set(filter(None, classes.values()))):
            network.find_class(known)
    photographs = Photographs(list(classes), network.size, arguments.quiet)
    out = OutputFolder(arguments.out)
    start_tensorflow(arguments.seed, arguments.quiet)
    network.load()
    photographs.size = network.size

    records: list[dict[str, Any]] = []
    waiting: list[np.ndarray] = []
    for _, image, source in photographs:
        name = classes[source["source"]]
        label = None if name is None else network.find_class(name)
        records.append({**source, "class": label})
        waiting.append(image)
        if len(waiting) == _BATCH:
            _find_distances(arguments, network, waiting, records)
            waiting = []
    status = photographs.status()
    if waiting:
        with progress(f"the last {len(waiting)} of {len(classes)} images", arguments.quiet):
            _find_distances(arguments, network, waiting, records)
    _write(arguments, network, out, records)
    return status


def _sources(given: list[str]) -> Iterator[tuple[str, str | None]]:
    """Each photograph, and the name of its class if it lies in a folder of a class."""
    for folder in given:
        inside = sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []
        classes = [path for path in inside if path.is_dir()]
        for path in classes:
            yield from ((source, path.name) for source in image_sources([str(path)]))
        if not classes:
            yield from ((source, None) for source in image_sources([folder]))


def _find_distances(
    arguments: argparse.Namespace,
    network: Network,
    images: list[np.ndarray],
    records: list[dict[str, Any]],
) -> None:
    """Adds to the last records what the network sees, and how far the nearest error is."""
    import numpy as np

    from visualization.budgets import fooling_distances

    pixels = np.stack(images)
    seen = network.probabilities(pixels).argmax(axis=1)
    records = records[-len(images) :]
    labels = [
        one["class"] if one["class"] is not None else int(sees)
        for one, sees in zip(records, seen, strict=True)
    ]
    distances = fooling_distances(
        pixels,
        labels,
        network.model,
        norm=arguments.norm,
        steps=arguments.steps,
        preprocess=network.specification.preprocess,
        bounds=network.specification.bounds,
    )
    for record, sees, distance in zip(records, seen, distances, strict=True):
        record["seen_as"] = {"class": int(sees), "name": network.names[sees]}
        record["distance"] = float(distance) if np.isfinite(distance) else None


def _write(
    arguments: argparse.Namespace,
    network: Network,
    out: OutputFolder,
    records: list[dict[str, Any]],
) -> None:
    import numpy as np

    from visualization.budgets import robust_accuracy
    from visualization.plotting import png, robustness_figure

    norm = arguments.norm
    epsilons = sorted({0, *(arguments.epsilon or _EPSILONS[norm])})
    distances = [np.inf if one["distance"] is None else one["distance"] for one in records]
    accuracy = robust_accuracy(np.array(distances), epsilons)
    name = network.record.get("network") or network.record["model"]
    figure = out.write(
        f"robustness-{norm}.png", png(robustness_figure({name: np.array(distances)}, norm))
    )
    table = [{"epsilon": e, "accuracy": float(a)} for e, a in zip(epsilons, accuracy, strict=True)]
    record = out.write_json(
        f"robustness-{norm}.json",
        {
            "command": "visualization.robustness",
            "network": network.record,
            "norm": norm,
            "steps": arguments.steps,
            "seed": arguments.seed,
            "accuracy": table,
            "images": records,
            "figure": figure.name,
        },
    )
    if not arguments.quiet:
        print(f"{'epsilon':>8} {'accuracy':>9}   of {len(records)} photographs, {norm}")
        for row in table:
            print(f"{row['epsilon']:8g} {row['accuracy']:9.1%}")
        print(f"written  {figure}\n         {record}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
