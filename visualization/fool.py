"""``python -m visualization.fool``: changes photographs until a network sees another class in them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser, number
from visualization.cli.network import Network, open_network, shown
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
    parser.add_argument(
        "--survives",
        choices=("png", "jpeg", "resize"),
        default="png",
        help="what the picture still fools after: being saved as png, or as jpeg (it is a .jpg then), "
        "or resized to half its sides and back (default: %(default)s)",
    )
    parser.add_argument(
        "--quality",
        type=number(int, 75, 95),
        default=85,
        metavar="Q",
        help="of --survives jpeg, 75 to 95 (default: %(default)s)",
    )
    parser.add_network_arguments(several=True)
    parser.add_common_arguments()
    return run(parser, argv, _fool)


def _fool(arguments: argparse.Namespace) -> int:
    network = open_network(arguments)
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
            f"{_subject(network)} take {', '.join(failed)} for {network.names[target]}: "
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
    from visualization.images.jpeg import encode_jpeg
    from visualization.images.reading import load_image
    from visualization.images.round_trips import after_round_trip

    way, quality = arguments.survives, arguments.quality
    result = make_fooling_images(
        image[None],
        target,
        network.model,
        learning_rate=arguments.learning_rate,
        max_iterations=arguments.max_iter,
        minimal=arguments.minimal,
        survives=("png", "resize") if way == "resize" else (way,),
        quality=quality,
        preprocess=network.specification.preprocess,
        bounds=network.specification.bounds,
    )
    if way == "jpeg":
        picture = out.write(f"{name}.jpg", encode_jpeg(result.images[0], quality))
    else:
        picture = out.write_image(f"{name}.png", result.images[0])
    looks = {"before": image, "after": (saved := load_image(picture))}
    if way == "resize":
        looks["after_resizing"] = after_round_trip(saved[None], "resize")[0]
    seen = [_seen_by(member, looks, target) for member in network.members]
    elsewhere = [_seen_by(other, looks, target) for other in others]
    success = all(one[when]["is_target"] for one in seen for when in looks if when != "before")
    drawn = plotting.fooling_figure(image, saved, _title(seen, "before"), _title(seen, "after"))
    figure = out.write(f"{name}-figure.png", plotting.png(drawn))
    steps, l2, linf = int(result.iterations[0]), float(result.l2[0]), int(result.linf[0])
    record = out.write_json(
        f"{name}.json",
        {
            "command": "visualization.fool",
            "learning_rate": arguments.learning_rate,
            "max_iter": arguments.max_iter,
            "minimal": arguments.minimal,
            "survives": way,
            **({"quality": quality} if way == "jpeg" else {}),
            "seed": arguments.seed,
            "image": source,
            **(seen[0] if len(seen) == 1 else {"networks": seen}),
            "target": {"class": target, "name": network.names[target]},
            "success": success,
            "already": bool(result.already[0]),
            "iterations": steps,
            "l2": l2,
            "linf": linf,
            "others": elsewhere,
            "target_scores": result.trace[0, : steps + 1].tolist(),
            "fooling_image": picture.name,
            "figure": figure.name,
        },
    )
    if not arguments.quiet:
        print(f"image    {source['source']}")
        for one in seen:
            who = f"{one['network']['network']}: " if len(seen) > 1 else ""
            print(f"before   {who}{_sentence(one['before'])}")
            print(f"after    {who}{_sentence(one['after'])}")
            if way == "resize":
                print(f"resized  {who}{_sentence(one['after_resizing'])}")
        for other in elsewhere:
            print(f"other    {other['network']['network']}: {_sentence(other['after'])}")
        print(
            f"steps    {steps}"
            + (" (it was already taken for the target)" * bool(result.already[0]))
        )
        print(
            f"change   L2 {l2:.1f}, largest pixel change {linf} (levels of 0 to 255)"
            + ", before JPEG" * (way == "jpeg")
        )
        print(f"written  {picture}\n         {figure}\n         {record}", flush=True)
    return success


def _seen_by(network: Network, looks: dict[str, np.ndarray], target: int) -> dict[str, Any]:
    """What a network sees in the photograph, and in the picture that was saved."""
    seen = {
        when: _seen(network, network.probabilities(pixels[None])[0], target)
        for when, pixels in looks.items()
    }
    return {"network": network.record, **seen}


def _seen(network: Network, probabilities: np.ndarray, target: int) -> dict[str, Any]:
    """What the network sees in one image, for the record."""
    index = int(probabilities.argmax())
    return {
        "class": index,
        "name": network.names[index],
        **network.number(probabilities[index]),
        **{f"target_{what}": one for what, one in network.number(probabilities[target]).items()},
        "is_target": network.sees(probabilities, target),
    }


def _subject(network: Network) -> str:
    return "the network does not" if len(network.members) == 1 else "the networks do not all"


def _title(seen: list[dict[str, Any]], when: str) -> str:
    """What each network sees "before" or "after", a line for each."""
    found = [one[when] for one in seen]
    return "\n".join(f"{short_name(one['name'])} {shown(one, '.0%')}" for one in found)


def _sentence(seen: dict[str, Any]) -> str:
    target = {
        what.removeprefix("target_"): one
        for what, one in seen.items()
        if what.startswith("target_")
    }
    return (
        f"{short_name(seen['name'])} ({seen['class']}) at {shown(seen, '.1%')}, "
        f"the target at {shown(target, '.2%')}"
    )


if __name__ == "__main__":
    sys.exit(main())
