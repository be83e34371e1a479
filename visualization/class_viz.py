"""``python -m visualization.class_viz``: draws what a network takes for a class."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser, check_name, number
from visualization.cli.network import Network, open_network, shown
from visualization.cli.output import OutputFolder, file_stem, unused
from visualization.cli.running import progress, run, start_tensorflow
from visualization.networks.imagenet import short_name

if TYPE_CHECKING:
    import numpy as np


# The command's methods, and what each one uses where the arguments say nothing.
_SETTINGS: dict[str, dict[str, Any]] = {
    "fourier": {"num_iterations": 128},  # and the rate of `_learning_rate`
    "course": {"num_iterations": 100, "learning_rate": 25.0},
    "course-normalized": {"num_iterations": 100, "learning_rate": 25.0, "normalize": True},
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 1 if a saved picture is not seen as its class."""
    parser = Parser(
        prog="python -m visualization.class_viz",
        description="Draws what a network takes for a class, starting from noise.",
        epilog="example: python -m visualization.class_viz --target tarantula --gif run.gif",
    )
    parser.add_argument(
        "--target",
        nargs="+",
        required=True,
        metavar="CLASS",
        help="the classes to draw, each a number or a name",
    )
    parser.add_argument(
        "--method",
        choices=tuple(_SETTINGS),
        default="fourier",
        help="in frequency space, CS231n's loop, or that with normalised steps (default: %(default)s)",
    )
    parser.add_argument(
        "--iterations",
        type=number(int, 1),
        metavar="N",
        help="default: 128; the course's: 100",
    )
    parser.add_argument(
        "--learning-rate",
        type=number(float, 0, excluding=(0,)),
        metavar="RATE",
        help="default: 0.05, of EfficientNet-Lite2 or both 0.1; the course's: 25",
    )
    parser.add_argument(
        "--jitter",
        type=number(int, 1),
        metavar="PIXELS",
        help="each step shifts the picture by less than this; 1 for never (default: 16 of 224 pixels)",
    )
    parser.add_gif_argument()
    parser.add_network_arguments(several=True)
    parser.add_common_arguments()
    return run(parser, argv, _draw)


def _draw(arguments: argparse.Namespace) -> int:
    check_name("--gif", arguments.gif)
    network = open_network(arguments)
    if network.names:
        for text in arguments.target:
            network.find_class(text)
    out = OutputFolder(arguments.out)
    start_tensorflow(arguments.seed, arguments.quiet)
    network.load()
    others = network.others()
    import numpy as np

    from visualization import plotting

    targets = [network.find_class(text) for text in arguments.target]
    settings = _SETTINGS[arguments.method] | {"seed": arguments.seed}
    if arguments.iterations:
        settings["num_iterations"] = arguments.iterations
    if arguments.learning_rate:
        settings["learning_rate"] = arguments.learning_rate
    if arguments.jitter:
        settings["max_jitter"] = arguments.jitter
    settings.setdefault("learning_rate", _learning_rate(network))
    runs, classes = [], []
    taken: set[str] = set()
    for target in targets:
        stem = file_stem(short_name(network.names[target]))
        if stem.casefold() in taken:
            stem = f"{stem}-{target}"
        stem = unused(stem, taken)
        frames, entry = _draw_one(arguments, network, others, out, target, settings, stem)
        runs.append(frames)
        classes.append(entry)

    names = [short_name(network.names[target]) for target in targets]
    titles = [
        f"{name} {_shares(_seen_by(entry), '.0%')}"
        for name, entry in zip(names, classes, strict=True)
    ]
    drawn = plotting.class_figure(np.stack([frames[-1] for frames in runs]), titles)
    stem = file_stem(*names[:4])
    written = [out.write(f"{stem}-figure.png", plotting.png(drawn))]
    record = {"command": "visualization.class_viz", "method": arguments.method, **settings}
    if len(network.members) == 1:
        record["network"] = network.record
    record |= {"classes": classes, "figure": written[0].name}
    if arguments.gif:
        together = [np.concatenate(frames, axis=1) for frames in zip(*runs, strict=True)]
        written.append(out.write(arguments.gif, plotting.gif(together)))
        record["gif"] = arguments.gif
    written.append(out.write_json(f"{stem}.json", record))
    if not arguments.quiet:
        print("written  " + "\n         ".join(map(str, written)))
    failed = [(one, entry) for entry in classes for one in _seen_by(entry) if not one["is_target"]]
    for one, entry in failed:
        who = one["network"]["network"] if "networks" in entry else "the network"
        print(
            f"{who} sees {one['seen_as']['name']} in {entry['picture']}: "
            "try more --iterations, another --seed or another --method",
            file=sys.stderr,
        )
    return int(bool(failed))


def _learning_rate(network: Network) -> float:
    """Of the method fourier, chosen by eye: EfficientNet-Lite2 needs longer steps."""
    slow = len(network.members) > 1 or network.record.get("network") == "efficientnet-lite2"
    return 0.1 if slow else 0.05


def _draw_one(
    arguments: argparse.Namespace,
    network: Network,
    others: list[Network],
    out: OutputFolder,
    target: int,
    settings: dict[str, Any],
    stem: str,
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Draws one class, writes its picture and looks at what was written.

    Returns the frames of the run, uint8 (H, W, 3) each, and the record.
    """
    from visualization.class_visualization import create_class_visualization
    from visualization.images.reading import load_image
    from visualization.painting import paint_class

    draw = paint_class if arguments.method == "fourier" else create_class_visualization
    scaling = network.specification.scaling()
    name, steps = network.names[target], settings["num_iterations"]
    frames = []
    with progress(f"drawing {short_name(name)} ...", arguments.quiet) as show:

        def on_frame(done: int, X: np.ndarray) -> None:
            show(f"drawing {short_name(name)}: {done} of {steps} iterations")
            frames.append(scaling.to_pixels(X)[0])

        draw(
            target,
            network.model,
            show_every=max(1, steps // 25),
            preprocess=network.specification.preprocess,
            bounds=network.specification.bounds,
            image_shape=(*network.specification.size, 3),
            on_frame=on_frame,
            **settings,
        )
    picture = out.write_image(f"{stem}.png", frames[-1])
    saved = load_image(picture)
    seen = [_seen(member, saved, target) for member in network.members]
    elsewhere = [{"network": other.record} | _seen(other, saved, target) for other in others]
    entry: dict[str, Any] = {"target": {"class": target, "name": name}}
    if len(seen) == 1:
        entry |= seen[0]
    else:
        asked = zip(network.members, seen, strict=True)
        entry["networks"] = [{"network": member.record} | one for member, one in asked]
    if not arguments.quiet:
        share = _shares(seen, ".1%")
        for one in elsewhere:
            share += f" ({shown(one, '.1%')} by {one['network']['network']})"
        print(f"{picture}: {short_name(name)} ({target}) at {share}", flush=True)
    return frames, entry | {"others": elsewhere, "picture": picture.name}


def _seen_by(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """What each network that was asked sees, from a class's record."""
    return entry.get("networks", [entry])


def _shares(seen: list[dict[str, Any]], form: str) -> str:
    """The probability of the target to each network."""
    return " and ".join(shown(one, form) for one in seen)


def _seen(network: Network, picture: np.ndarray, target: int) -> dict[str, Any]:
    """What a network sees in a saved picture, and the probability of the target."""
    probabilities = network.probabilities(picture[None])[0]
    seen = int(probabilities.argmax())
    return {
        "seen_as": {"class": seen, "name": network.names[seen]},
        **network.number(probabilities[target]),
        "is_target": network.sees(probabilities, target),
    }


if __name__ == "__main__":
    sys.exit(main())
