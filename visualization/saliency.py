"""``python -m visualization.saliency``: draws where a network looks when it decides for a class."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser
from visualization.cli.network import Network
from visualization.cli.output import OutputFolder
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.running import run, start_tensorflow
from visualization.networks.imagenet import short_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from visualization.faithfulness import Faithfulness

# The command's methods, and what each one is given.
METHODS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "smoothgrad": {"samples": 20, "noise": 0.15},
    "integrated-gradients": {"steps": 50},
    "grad-cam": {},
}


def main(argv: list[str] | None = None) -> int:
    """``python -m visualization.saliency``: returns 1 if photographs were skipped."""
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
    parser.add_argument(
        "--method",
        nargs="+",
        choices=tuple(METHODS),
        default=list(METHODS),
        help=f"default: all of them, {' '.join(METHODS)}",
    )
    parser.add_argument(
        "--class", dest="label", metavar="CLASS", help="a number or a name (default: what it sees)"
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="also test the maps: deletion, insertion, and weights turned to noise",
    )
    parser.add_network_arguments()
    parser.add_common_arguments()
    return run(parser, argv, _show)


def _show(arguments: argparse.Namespace) -> int:
    network = Network(arguments)
    if network.names and arguments.label is not None:
        network.find_class(arguments.label)
    sources = image_sources(arguments.image)
    images = Photographs(sources, network.size, arguments.quiet)
    out = OutputFolder(arguments.out)
    start_tensorflow(arguments.seed, arguments.quiet)
    network.load()
    images.size = network.size
    label = None if arguments.label is None else network.find_class(arguments.label)
    evaluation = _Evaluation(arguments.seed) if arguments.evaluate else None
    for stem, image, source in images:
        _show_one(arguments, network, out, stem, image, source, label, evaluation)
    status = images.status()
    if evaluation:
        figure, record = evaluation.write(out, network)
        if not arguments.quiet:
            print(f"{evaluation}\nwritten  {figure}\n         {record}")
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
    from visualization import plotting
    from visualization.gradients import predict_scores, softmax
    from visualization.images.pixel_scaling import PixelScaling

    X = PixelScaling(network.preprocess, network.bounds).to_input(image[None])
    probabilities = softmax(predict_scores(network.model, X))[0]
    seen = int(probabilities.argmax())
    label = seen if label is None else label
    methods = {name: _method(name, arguments.seed) for name in arguments.method}
    found = {name: method(X, label, network.model) for name, method in methods.items()}
    maps = {name: (m[0] if isinstance(m, tuple) else m)[0] for name, m in found.items()}
    gaps = {name: float(m.convergence_delta[0]) for name, m in found.items() if hasattr(m, "convergence_delta")}
    name = short_name(network.names[label])
    title = f"{name} {probabilities[label]:.0%}"
    if label != seen:
        title += f"\n(seen: {short_name(network.names[seen])} {probabilities[seen]:.0%})"
    drawn = plotting.attribution_figure(image, maps, title)
    figure = out.write(f"{stem}-saliency.png", plotting.png(drawn))
    out.write_json(
        f"{stem}-saliency.json",
        {
            "command": "visualization.saliency",
            "image": source,
            "network": network.record,
            "class": {"class": label, "name": network.names[label]},
            "probability": float(probabilities[label]),
            "seen_as": {"class": seen, "name": network.names[seen]},
            "methods": list(methods),
            "settings": {name: METHODS[name] for name in methods if METHODS[name]},
            "completeness_gap": gaps,
            "seed": arguments.seed,
            "figure": figure.name,
        },
    )
    if not arguments.quiet:
        print(f"{figure}: {name} ({label}) at {probabilities[label]:.1%}", flush=True)
    if evaluation:
        evaluation.add(X, label, network, maps, methods)


def _method(name: str, seed: int) -> Callable[..., Any]:
    from visualization.attribution import (
        compute_saliency_maps,
        grad_cam,
        integrated_gradients,
        smoothed,
    )

    methods: dict[str, Callable[..., Any]] = {
        "saliency": compute_saliency_maps,
        "smoothgrad": smoothed(compute_saliency_maps, seed=seed, **METHODS["smoothgrad"]),
        "integrated-gradients": functools.partial(
            integrated_gradients, **METHODS["integrated-gradients"]
        ),
        "grad-cam": grad_cam,
    }
    return methods[name]


class _Evaluation:
    """Gathers how faithful the maps of many photographs are, one photograph at a time."""

    SANITY_IMAGES = 2  # the randomisation check takes a map a layer, so few are looked at

    def __init__(self, seed: int) -> None:
        self.seed, self.count = seed, 0
        self.curves: dict[str, Any] = {}
        self.alike: dict[str, list[dict[str, float]]] = {}

    def add(
        self,
        X: np.ndarray,
        label: int,
        network: Network,
        maps: dict[str, np.ndarray],
        methods: dict[str, Callable[..., Any]],
    ) -> None:
        from visualization.faithfulness import cascading_randomization, compare_with_random

        single = {name: found[None] for name, found in maps.items()}
        seed = self.seed + self.count
        for name, result in compare_with_random(X, label, network.model, single, seed=seed).items():
            deletion, insertion = self.curves.get(name, (0, 0))
            self.curves[name] = deletion + result.deletion, insertion + result.insertion
        self.count += 1
        if self.count <= self.SANITY_IMAGES:
            for name, method in methods.items():
                alike = cascading_randomization(X, label, network.model, method, seed=self.seed)
                self.alike.setdefault(name, []).append(alike)

    def results(self) -> dict[str, Faithfulness]:
        from visualization.faithfulness import Faithfulness

        return {
            name: Faithfulness(deletion / self.count, insertion / self.count)
            for name, (deletion, insertion) in self.curves.items()
        }

    def write(self, out: OutputFolder, network: Network) -> tuple[Path, Path]:
        from visualization import plotting

        results = self.results()
        alike = {
            name: {layer: sum(one[layer] for one in found) / len(found) for layer in found[0]}
            for name, found in self.alike.items()
        }
        drawn = plotting.faithfulness_figure(results, alike)
        figure = out.write("evaluation.png", plotting.png(drawn))
        record = {
            "command": "visualization.saliency --evaluate",
            "images": self.count,
            "network": network.record,
            "seed": self.seed,
            "areas": {
                name: {
                    "deletion": result.deletion_auc,
                    "insertion": result.insertion_auc,
                    "beats_random": result.beats(results["random"]),
                }
                for name, result in results.items()
            },
            "rank_correlation_as_weights_turn_to_noise": alike,
            "figure": figure.name,
        }
        return figure, out.write_json("evaluation.json", record)

    def __str__(self) -> str:
        """The areas as a table."""
        results = self.results()
        lines = [f"{'area under the curve':24}{'deletion':>10}{'insertion':>11}"]
        for name, result in results.items():
            line = f"{name:24}{result.deletion_auc:10.3f}{result.insertion_auc:11.3f}"
            worse = name != "random" and not result.beats(results["random"])
            lines.append(line + ("  not better than random" if worse else ""))
        return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
