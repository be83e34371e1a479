"""Saliency maps, and the command that draws where a network looks.

Simonyan, Vedaldi, Zisserman (2014), "Deep inside convolutional networks: visualising image
classification models and saliency maps", arXiv:1312.6034, section 3.

TensorFlow is imported inside the functions that compute, so that ``--help`` answers at once.
"""

import argparse
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import command
from .classes import short_name
from .network import Network

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from .backend import keras, tf
    from .faithfulness import Faithfulness

# The command's methods, and what each one is given.
METHODS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "smoothgrad": {"samples": 20, "noise": 0.15},
    "integrated-gradients": {"steps": 50},
    "grad-cam": {},
}


def compute_saliency_maps(X: Any, y: Any, model: "keras.Model", batch_size: int = 25) -> Any:
    """How strongly each pixel acts on the score of the image's class.

    M = max over channels of |d score_y / d X|, with the raw score, before any softmax.

    Args:
        X: floating point (N, H, W, C), the model's input.
        y: integers (N,), or one for all: the classes.
        model: any Keras model with one output of shape (N, K).
        batch_size: how many images are worked on at a time; it bounds the memory.

    Returns:
        The maps, (N, H, W), never negative, of X's dtype; a tensor if X is one, else an array.

    Raises:
        ValueError: shapes that do not fit, NaN in X, pixels that are not preprocessed (detected for
            SqueezeNet), or a class that does not exist.
        TypeError: y is not of integers.
    """
    from .backend import tf
    from .checks import check_images, check_labels
    from .gradients import class_count, compiled, in_chunks

    images = check_images(model, X)
    labels = check_labels(y, len(images), class_count(model, images))
    (maps,) = in_chunks(compiled(model, _build_maps), batch_size, images, labels)
    return tf.constant(maps) if tf.is_tensor(X) else maps


def _build_maps(get_model: "Callable[[], keras.Model]") -> "Callable[..., tuple[tf.Tensor]]":
    from .backend import tf
    from .gradients import score_of, scores_and_gradients

    @tf.function(reduce_retracing=True, autograph=False)
    def saliency(images: "tf.Tensor", labels: "tf.Tensor") -> "tuple[tf.Tensor]":
        _, gradients = scores_and_gradients(get_model(), images, score_of(labels))
        return (tf.reduce_max(tf.abs(gradients), axis=-1),)  # (N, H, W)

    return saliency


def main(argv: list[str] | None = None) -> int:
    """``python -m visualization.saliency``: returns 1 if photographs were skipped."""
    parser = command.Parser(
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
    return command.run(parser, argv, _show)


def _show(arguments: argparse.Namespace) -> int:
    network = Network(arguments)
    if network.names and arguments.label is not None:
        network.find_class(arguments.label)
    sources = command.image_sources(arguments.image)
    images = command.Images(sources, network.size, arguments.quiet)
    out = command.OutputFolder(arguments.out)
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
    out: command.OutputFolder,
    stem: str,
    image: "np.ndarray",
    source: dict[str, str],
    label: int | None,
    evaluation: "_Evaluation | None",
) -> None:
    """Writes one photograph's figure and record."""
    from . import plotting
    from .gradients import predict_scores, softmax
    from .images import InputScale, preprocess_image

    X = InputScale(network.preprocess or preprocess_image, network.bounds).to_input(image[None])
    probabilities = softmax(predict_scores(network.model, X))[0]
    seen = int(probabilities.argmax())
    label = seen if label is None else label
    methods = {name: _method(name, arguments.seed) for name in arguments.method}
    found = {name: method(X, label, network.model) for name, method in methods.items()}
    maps = {name: (m[0] if isinstance(m, tuple) else m)[0] for name, m in found.items()}
    gaps = {name: float(m.gap[0]) for name, m in found.items() if hasattr(m, "gap")}
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
    from .attribution import grad_cam, integrated_gradients, smoothed

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
        X: "np.ndarray",
        label: int,
        network: Network,
        maps: "dict[str, np.ndarray]",
        methods: dict[str, Callable[..., Any]],
    ) -> None:
        from .faithfulness import cascading_randomization, compare_with_random

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

    def results(self) -> "dict[str, Faithfulness]":
        from .faithfulness import Faithfulness

        return {
            name: Faithfulness(deletion / self.count, insertion / self.count)
            for name, (deletion, insertion) in self.curves.items()
        }

    def write(self, out: command.OutputFolder, network: Network) -> "tuple[Path, Path]":
        from . import plotting

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
                    "deletion": result.deletion_area,
                    "insertion": result.insertion_area,
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
            line = f"{name:24}{result.deletion_area:10.3f}{result.insertion_area:11.3f}"
            worse = name != "random" and not result.beats(results["random"])
            lines.append(line + ("  not better than random" if worse else ""))
        return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
