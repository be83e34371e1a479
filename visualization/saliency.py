"""``python -m visualization.saliency``: draws where a network looks when it decides for a class."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser
from visualization.cli.methods import (
    METHODS,
    OF_A_LAYER,
    WITHOUT_GRADIENT,
    attribution_method,
)
from visualization.cli.network import Network, shown
from visualization.cli.output import OutputFolder
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.running import progress, run, start_tensorflow
from visualization.networks.imagenet import short_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from visualization.faithfulness import Faithfulness


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 1 if photographs were skipped."""
    parser = Parser(
        prog="python -m visualization.saliency",
        description="Draws where a network looks when it decides for a class.",
        epilog="example: python -m visualization.saliency cat.jpg --method grad-cam --class tabby",
    )
    parser.add_argument(
        "image",
        nargs="*",
        metavar="PATH|URL|FOLDER",
        help="the photographs (default: matplotlib's grace_hopper.jpg)",
    )
    parser.add_method_argument()
    parser.add_argument(
        "--class", dest="label", metavar="CLASS", help="a number or a name (default: what it sees)"
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help=f"the layer that {', '.join(OF_A_LAYER)} look at (default: the last convolution with "
        "several cells)",
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="also test the maps: deletion, insertion, and weights replaced by noise (the last not for "
        f"{', '.join(WITHOUT_GRADIENT)}, as it would take hours)",
    )
    parser.add_network_arguments()
    parser.add_common_arguments()
    return run(parser, argv, _show)


def _show(arguments: argparse.Namespace) -> int:
    if arguments.layer and not set(OF_A_LAYER) & set(arguments.method):
        raise ValueError(
            f"--layer {arguments.layer} is for --method {', '.join(OF_A_LAYER)}, none of which is "
            "asked for"
        )
    network = Network(arguments)
    if network.names and arguments.label is not None:
        network.find_class(arguments.label)
    photographs = Photographs(image_sources(arguments.image), network.size, arguments.quiet)
    out = OutputFolder(arguments.out)
    start_tensorflow(arguments.seed, arguments.quiet)
    network.load()
    photographs.size = network.size
    label = None if arguments.label is None else network.find_class(arguments.label)
    evaluation = _Evaluation(network, arguments.seed) if arguments.evaluate else None
    for stem, image, source in photographs:
        _show_one(arguments, network, out, stem, image, source, label, evaluation)
    status = photographs.status()
    if evaluation:
        figure, record = evaluation.write(out)
        if not arguments.quiet:
            print(f"{evaluation.table()}\nwritten  {figure}\n         {record}")
    return status


def _show_one(
    arguments: argparse.Namespace,
    network: Network,
    out: OutputFolder,
    stem: str,
    image: np.ndarray,
    source: dict[str, str],
    label: int | None,
    evaluation: _Evaluation | None,
) -> None:
    """Writes one photograph's figure and record."""
    from visualization.plotting import attribution_figure, png

    X = network.specification.to_input(image[None])
    probabilities = network.probabilities(image[None])[0]
    seen = int(probabilities.argmax())
    label = seen if label is None else label
    settings = {name: METHODS[name].copy() for name in arguments.method}
    if arguments.layer:
        for name in set(OF_A_LAYER) & set(settings):
            settings[name]["layer"] = arguments.layer
    with progress(f"looking at {stem} ...", arguments.quiet) as show:
        methods = {
            name: attribution_method(name, arguments.seed, settings[name], show)
            for name in settings
        }
        results = {name: method(X, label, network.model) for name, method in methods.items()}
    maps = {name: (r[0] if isinstance(r, tuple) else r)[0] for name, r in results.items()}
    if "rise" in maps:  # all of it is positive, and only its differences say something
        maps["rise"] = maps["rise"] - maps["rise"].min()
    deltas = {name: r.convergence_delta for name, r in results.items() if hasattr(r, "maps")}

    name = short_name(network.names[label])
    of_class, of_seen = (network.number(probabilities[one]) for one in (label, seen))
    title = f"{name} {shown(of_class, '.0%')}"
    if label != seen:
        title += f"\n(seen: {short_name(network.names[seen])} {shown(of_seen, '.0%')})"
    figure = out.write(f"{stem}-saliency.png", png(attribution_figure(image, maps, title)))
    out.write_json(
        f"{stem}-saliency.json",
        {
            "command": "visualization.saliency",
            "image": source,
            "network": network.record,
            "class": {"class": label, "name": network.names[label]},
            **of_class,
            "seen_as": {"class": seen, "name": network.names[seen]},
            "methods": list(methods),
            "settings": {name: given for name, given in settings.items() if given},
            "convergence_delta": {name: float(delta[0]) for name, delta in deltas.items()},
            "seed": arguments.seed,
            "figure": figure.name,
        },
    )
    if not arguments.quiet:
        print(f"{figure}: {name} ({label}) at {shown(of_class, '.1%')}", flush=True)
    if evaluation:
        evaluation.add(X, label, maps, methods)


class _Evaluation:
    """How faithful the maps of many photographs are, gathered one photograph at a time."""

    RANDOMIZED_IMAGES = 2  # the randomisation check makes a map for each layer, so few must do

    def __init__(self, network: Network, seed: int) -> None:
        self.network, self.seed, self.count = network, seed, 0
        self.sums: dict[str, tuple[Any, Any]] = {}  # of the deletion and insertion curves
        self.correlations: dict[str, list[dict[str, float]]] = {}  # one a photograph

    def add(
        self,
        X: np.ndarray,
        label: int,
        maps: dict[str, np.ndarray],
        methods: dict[str, Callable[..., Any]],
    ) -> None:
        from visualization.faithfulness import cascading_randomization, compare_with_random

        model = self.network.model
        batched = {name: one[None] for name, one in maps.items()}
        compared = compare_with_random(X, label, model, batched, seed=self.seed + self.count)
        for name, result in compared.items():
            deletion, insertion = self.sums.get(name, (0, 0))
            self.sums[name] = deletion + result.deletion, insertion + result.insertion
        self.count += 1
        if self.count <= self.RANDOMIZED_IMAGES:
            for name, method in methods.items():
                if name in WITHOUT_GRADIENT:  # thousands of passes for each map
                    continue
                found = cascading_randomization(X, label, model, method, seed=self.seed)
                self.correlations.setdefault(name, []).append(found)

    def results(self) -> dict[str, Faithfulness]:
        from visualization.faithfulness import Faithfulness

        return {
            name: Faithfulness(deletion / self.count, insertion / self.count)
            for name, (deletion, insertion) in self.sums.items()
        }

    def write(self, out: OutputFolder) -> tuple[Path, Path]:
        """Writes the figure and the record of all photographs."""
        from visualization.plotting import faithfulness_figure, png

        results = self.results()
        correlations = {
            name: {layer: sum(one[layer] for one in found) / len(found) for layer in found[0]}
            for name, found in self.correlations.items()
        }
        figure = out.write("evaluation.png", png(faithfulness_figure(results, correlations)))
        record = {
            "command": "visualization.saliency --evaluate",
            "images": self.count,
            "network": self.network.record,
            "seed": self.seed,
            "auc": {
                name: {
                    "deletion": result.deletion_auc,
                    "insertion": result.insertion_auc,
                    "beats_random": result.beats(results["random"]),
                }
                for name, result in results.items()
            },
            "rank_correlations": correlations,
            "figure": figure.name,
        }
        return figure, out.write_json("evaluation.json", record)

    def table(self) -> str:
        results = self.results()
        lines = [f"{'area under the curve':24}{'deletion':>10}{'insertion':>11}"]
        for name, result in results.items():
            line = f"{name:24}{result.deletion_auc:10.3f}{result.insertion_auc:11.3f}"
            worse = name != "random" and not result.beats(results["random"])
            lines.append(line + ("  not better than random" if worse else ""))
        return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
