"""``python -m visualization.stylize``: paints a photograph in the manner of a painting."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser, check_name, number
from visualization.cli.network import Network, shown
from visualization.cli.output import OutputFolder, file_stem
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.running import progress, run, start_tensorflow
from visualization.images.reading import decode_image, read_source
from visualization.networks.imagenet import short_name

if TYPE_CHECKING:
    import numpy as np

# What each job weighs, relative to what is to match, and how far a step goes; chosen by eye.
_JOBS: dict[str, dict[str, Any]] = {
    "paint": {"content_weight": 1.0, "tv_weight": 0.3, "learning_rate": 0.15},
    "invert": {"content_weight": 1.0, "tv_weight": 1.0, "learning_rate": 0.1, "init_random": True},
    "texture": {"content_weight": 0.0, "tv_weight": 1.0, "learning_rate": 0.1, "init_random": True},
}

# Pixels on each side that are painted and then cut off, as the network hardly sees an edge.
_MARGIN = 16


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 1 if photographs were skipped."""
    parser = Parser(
        prog="python -m visualization.stylize",
        description="Paints a photograph in the manner of a painting.",
        epilog="example: python -m visualization.stylize photo.jpg painting.jpg --gif run.gif",
    )
    parser.add_argument(
        "photo",
        nargs="?",
        metavar="PATH|URL|FOLDER",
        help="the photograph, or a folder of them (default: matplotlib's grace_hopper.jpg)",
    )
    parser.add_argument(
        "painting",
        nargs="?",
        metavar="PAINTING",
        help="a path or URL (default: brush strokes that the command draws itself)",
    )
    job = parser.add_mutually_exclusive_group()
    job.add_argument(
        "--invert",
        action="store_true",
        help="start from noise and look for a picture with the photograph's features, without painting",
    )
    job.add_argument(
        "--texture",
        action="store_true",
        help="start from noise and paint the painting's strokes alone, in the photograph's size",
    )
    parser.add_argument(
        "--keep-colors", action="store_true", help="give the result the photograph's colours"
    )
    parser.add_argument(
        "--strength",
        type=number(float, 0, excluding=(0,)),
        default=3.0,
        metavar="WEIGHT",
        help="how much the painting counts beside the photograph (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=number(int, 32, 2048),
        default=512,
        metavar="PIXELS",
        help="the shorter side of the result (default: %(default)s)",
    )
    parser.add_argument(
        "--style-size",
        type=number(int, 32, 2048),
        metavar="PIXELS",
        help="the shorter side of the painting; a smaller one has finer strokes (default: --size)",
    )
    parser.add_argument(
        "--iterations",
        type=number(int, 1),
        default=200,
        metavar="N",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--content-layer",
        metavar="LAYER",
        help="the layer whose features are kept, a name or a number (default: a quarter of the way)",
    )
    parser.add_argument(
        "--style-layers",
        nargs="+",
        metavar="LAYER",
        help="the layers whose statistics are matched (default: four, from the first to two thirds)",
    )
    parser.add_gif_argument()
    parser.add_network_arguments()
    parser.add_common_arguments()
    return run(parser, argv, _stylize)


def _stylize(arguments: argparse.Namespace) -> int:
    check_name("--gif", arguments.gif)
    if arguments.invert and arguments.painting:
        raise ValueError(f"--invert uses no painting, but {arguments.painting} is given as one")
    sources = image_sources([arguments.photo] if arguments.photo else [])
    if arguments.gif and len(sources) > 1:
        raise ValueError(
            f"--gif is for one photograph, but there are {len(sources)} in {arguments.photo}"
        )
    network = Network(arguments)
    painting, painted_as = _painting(arguments)
    photographs = Photographs(sources, None, arguments.quiet)
    out = OutputFolder(arguments.out)
    start_tensorflow(arguments.seed, arguments.quiet)
    network.load()
    seers = [network, *network.others()]
    settings = _settings(arguments, network)
    for stem, image, source in photographs:
        _paint_one(arguments, settings, seers, out, stem, (image, source), (painting, painted_as))
    return photographs.status()


def _painting(arguments: argparse.Namespace) -> tuple[np.ndarray, dict[str, Any]]:
    """The painting, uint8 (H, W, 3), and its record."""
    if arguments.painting:
        content = read_source(arguments.painting)
        record = {
            "source": arguments.painting,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return decode_image(content, arguments.painting), record
    from visualization.images.strokes import draw_strokes

    size = arguments.style_size or arguments.size
    record = {"drawn_by": "visualization.images.strokes.draw_strokes", "size": size}
    return draw_strokes(size, arguments.seed), record | {"seed": arguments.seed}


def _settings(arguments: argparse.Namespace, network: Network) -> dict[str, Any]:
    """What `style_transfer` is given, but for the images and what the network needs."""
    from visualization.style import feature_layers

    def layer(text: str) -> str | int:
        return int(text) if text.isdigit() else text

    names = feature_layers(network.model)
    content, style = arguments.content_layer, arguments.style_layers
    if not names and (content is None or style is None):
        raise ValueError("the model has no feature maps before its last two layers")
    chosen = [names[len(names) * share // 12] for share in (0, 3, 6, 8)]
    style_layers = [] if arguments.invert else list(map(layer, style)) if style else chosen
    job = "invert" if arguments.invert else "texture" if arguments.texture else "paint"
    return {
        "image_size": arguments.size,
        "style_size": arguments.style_size or arguments.size,
        "content_layer": layer(content) if content else chosen[1],
        "style_layers": style_layers,
        "style_weights": [arguments.strength / len(style_layers) for _ in style_layers],
        "num_iterations": arguments.iterations,
        "clip": False,
        "relative_weights": True,
        "keep_colors": arguments.keep_colors,
        "seed": arguments.seed,
        **_JOBS[job],
    }


def _paint_one(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    seers: list[Network],
    out: OutputFolder,
    stem: str,
    photo: tuple[np.ndarray, dict[str, str]],
    painting: tuple[np.ndarray, dict[str, Any]],
) -> None:
    """Paints one photograph; writes the picture and the record of it."""
    from visualization.images.reading import load_image
    from visualization.plotting import gif
    from visualization.style import style_transfer

    network = seers[0]
    scaling, steps = network.specification.scaling(), settings["num_iterations"]
    frames: list[np.ndarray] = []

    def inside(X: np.ndarray) -> np.ndarray:
        return scaling.to_pixels(X)[0, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]

    with progress(f"painting {stem} ...", arguments.quiet) as show:

        def on_frame(done: int, X: np.ndarray) -> None:
            show(f"painting {stem}: {done} of {steps} iterations")
            if arguments.gif:
                frames.append(inside(X))

        X = style_transfer(
            _with_margin(photo[0], arguments.size),
            painting[0],
            model=network.model,
            preprocess=network.specification.preprocess,
            bounds=network.specification.bounds,
            show_every=max(1, steps // 25),
            on_frame=on_frame,
            **settings | {"image_size": arguments.size + 2 * _MARGIN},
        )
    named = Path(painting[1].get("source", "strokes").partition("?")[0]).stem
    what = (["inverted"] if arguments.invert else []) + (["texture"] if arguments.texture else [])
    name = file_stem(stem, *what, *([] if arguments.invert else [named]))
    picture = out.write_image(f"{name}.png", inside(X))
    saved = load_image(picture)
    seen = [_seen(seer, photo[0], saved) for seer in seers]
    written = [picture]
    if arguments.gif:
        written.append(out.write(arguments.gif, gif(frames)))
    record = {
        "command": "visualization.stylize",
        "image": photo[1],
        **({} if arguments.invert else {"painting": painting[1]}),
        **settings,
        **seen[0],
        "others": seen[1:],
        "picture": picture.name,
        **({"gif": arguments.gif} if arguments.gif else {}),
    }
    written.append(out.write_json(f"{name}.json", record))
    if not arguments.quiet:
        print(f"image    {photo[1]['source']}")
        for one in seen:
            who = one["network"].get("network", "the model")
            before, after = (
                f"{short_name(one[when]['name'])} {shown(one[when], '.1%')}"
                for when in ("before", "after")
            )
            print(f"seen     {who}: {before} before, {after} after")
        print("written  " + "\n         ".join(map(str, written)), flush=True)


def _with_margin(photo: np.ndarray, size: int) -> np.ndarray:
    """The photograph, mirrored at its edges by as much as becomes `_MARGIN` when it has that size."""
    import numpy as np

    width = round(_MARGIN * min(photo.shape[:2]) / size)
    return np.pad(photo, ((width, width), (width, width), (0, 0)), mode="symmetric")


def _seen(network: Network, photo: np.ndarray, saved: np.ndarray) -> dict[str, Any]:
    """What a network sees in the photograph and in the picture that was saved."""
    seen: dict[str, Any] = {"network": network.record}
    for when, image in {"before": photo, "after": saved}.items():
        probabilities = network.probabilities(image[None])[0]
        best = [int(label) for label in probabilities.argsort()[::-1][:5]]
        seen[when] = {
            "class": best[0],
            "name": network.names[best[0]],
            **network.number(probabilities[best[0]]),
            "first_five": best,
        }
    return seen


if __name__ == "__main__":
    sys.exit(main())
