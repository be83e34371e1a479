"""``python -m visualization.fool``: changes photographs until a network sees another class in them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser, number
from visualization.cli.network import Network
from visualization.cli.output import OutputFolder, file_stem
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.running import run, start_tensorflow
from visualization.networks.imagenet import short_name

if TYPE_CHECKING:
    import numpy as np


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 0 if the saved pictures fool, 1 if one does not."""
    parser = Parser(
        prog="python -m visualization.fool",
        description="Changes a photograph a little, until the network takes it for another class.",
        epilog="example: python -m visualization.fool --target stingray --image cat.jpg",
    )
    parser.add_argument(
        "--target", required=True, metavar="CLASS", help="the class to reach, a number or a name"
    )
    parser.add_argument(
        "--image",
        nargs="+",
        default=[],
        metavar="PATH|URL|FOLDER",
        help="the photographs (default: matplotlib's grace_hopper.jpg)",
    )
    parser.add_argument(
        "--learning-rate",
        type=number(float, 0, excluding=(0,)),
        default=1.0,
        metavar="L2",
        help="length of a step, in the units of the network's input (default: %(default)s)",
    )
    parser.add_argument(
        "--max-iter",
        type=number(int, 1),
        default=100,
        metavar="N",
        help="give up after this many steps (default: %(default)s)",
    )
    parser.add_argument(
        "--minimal", action="store_true", help="then look for the smallest change that still fools"
    )
    parser.add_network_arguments()
    parser.add_common_arguments()
    return run(parser, argv, _fool)


def _fool(arguments: argparse.Namespace) -> int:
    network = Network(arguments)
    if network.names:
        network.find_class(arguments.target)
    photographs = Photographs(image_sources(arguments.image), network.size, arguments.quiet)
    out = OutputFolder(arguments.out)
    start_tensorflow(arguments.seed, arguments.quiet)
    network.load()
    photographs.size = network.size
    others = network.others()

    target = network.find_class(arguments.target)
    failed = []
    for stem, image, source in photographs:
        name = f"{stem}-{file_stem(short_name(network.names[target]))}"
        if not _fool_one(arguments, network, others, out, name, image, source, target):
            failed.append(source["source"])
    if failed:
        print(
            f"the network does not take {', '.join(failed)} for {network.names[target]}: "
            "try more steps with --max-iter, or longer ones with --learning-rate",
            file=sys.stderr,
        )
    return max(photographs.status(), int(bool(failed)))


def _fool_one(
    arguments: argparse.Namespace,
    network: Network,
    others: list[Network],
    out: OutputFolder,
    name: str,
    image: np.ndarray,
    source: dict[str, str],
    target: int,
) -> bool:
    """Changes one photograph and writes the results; returns whether the saved picture fools."""
    from visualization import plotting
    from visualization.fooling import make_fooling_images
    from visualization.images.reading import load_image

    result = make_fooling_images(
        image[None],
        target,
        network.model,
        learning_rate=arguments.learning_rate,
        max_iterations=arguments.max_iter,
        minimal=arguments.minimal,
        preprocess=network.specification.preprocess,
        bounds=network.specification.bounds,
    )
    before = _seen(result.probabilities_before[0], target, network.names)
    after = _seen(result.probabilities_after[0], target, network.names)
    drawn = plotting.fooling_figure(image, result.images[0], _title(before), _title(after))
    picture = out.write_image(f"{name}.png", result.images[0])
    figure = out.write(f"{name}-figure.png", plotting.png(drawn))
    saved = load_image(picture)
    read_back = bool((saved == result.images[0]).all())
    success = bool(result.success[0]) and read_back
    elsewhere = [_seen_by(other, image, saved, target) for other in others]
    steps, l2, linf = int(result.iterations[0]), float(result.l2[0]), int(result.linf[0])
    record = out.write_json(
        f"{name}.json",
        {
            "command": "visualization.fool",
            "learning_rate": arguments.learning_rate,
            "max_iter": arguments.max_iter,
            "minimal": arguments.minimal,
            "seed": arguments.seed,
            "image": source,
            "network": network.record,
            "target": {"class": target, "name": network.names[target]},
            "success": success,
            "already": bool(result.already[0]),
            "iterations": steps,
            "l2": l2,
            "linf": linf,
            "before": before,
            "after": after,
            "others": elsewhere,
            "target_scores": result.trace[0, : steps + 1].tolist(),
            "fooling_image": picture.name,
            "figure": figure.name,
        },
    )
    if not arguments.quiet:
        print(f"image    {source['source']}")
        print(f"before   {_sentence(before)}")
        print(f"after    {_sentence(after)}")
        for other in elsewhere:
            print(f"other    {other['network']['network']}: {_sentence(other['after'])}")
        print(
            f"steps    {steps}"
            + (" (it was already taken for the target)" * bool(result.already[0]))
        )
        print(f"change   L2 {l2:.1f}, largest pixel change {linf} (levels of 0 to 255)")
        print(f"written  {picture}\n         {figure}\n         {record}", flush=True)
    return success


def _seen_by(other: Network, image: np.ndarray, fooling: np.ndarray, target: int) -> dict[str, Any]:
    """What a network that was not asked sees in the photograph and in the fooling image."""
    before, after = (other.probabilities(one[None])[0] for one in (image, fooling))
    return {
        "network": other.record,
        "before": _seen(before, target, other.names),
        "after": _seen(after, target, other.names),
    }


def _seen(probabilities: np.ndarray, target: int, names: Sequence[str]) -> dict[str, Any]:
    """What the network sees in one image, for the record."""
    index = int(probabilities.argmax())
    return {
        "class": index,
        "name": names[index],
        "probability": float(probabilities[index]),
        "target_probability": float(probabilities[target]),
    }


def _title(seen: dict[str, Any]) -> str:
    return f"{short_name(seen['name'])} {seen['probability']:.0%}"


def _sentence(seen: dict[str, Any]) -> str:
    return (
        f"{short_name(seen['name'])} ({seen['class']}) at {seen['probability']:.1%}, "
        f"the target at {seen['target_probability']:.2%}"
    )


if __name__ == "__main__":
    sys.exit(main())
