"""``python -m visualization.stylize``: paints a photograph in the manner of a painting."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
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
    "texture": {"content_weight": 0.0, "tv_weight": 0.3, "learning_rate": 0.1, "init_random": True},
}

# How much the painting counts: the first of them with which the networks still know the photograph.
_STRENGTHS = (1.0, 0.5, 0.25)
_BROAD = 10.0  # times as much it counts at half the size, where the broad strokes are painted

_LEAST = 32  # pixels of the shorter side of what is painted, and of a painting

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
        metavar="WEIGHT",
        help="how much the painting counts beside the photograph (default: 1, then less, until what "
        "each network sees first is among the five classes that it sees first in the photograph)",
    )
    parser.add_argument(
        "--size",
        type=number(int, _LEAST, 2048),
        default=512,
        metavar="PIXELS",
        help="the shorter side of the result (default: %(default)s)",
    )
    parser.add_argument(
        "--style-size",
        type=number(int, _LEAST, 2048),
        metavar="PIXELS",
        help="the shorter side of the painting; a smaller one has finer strokes (default: --size)",
    )
    parser.add_argument(
        "--iterations",
        type=number(int, 1),
        default=200,
        metavar="N",
        help="the first half of them at half the size, unless with --invert (default: %(default)s)",
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
    """What `style_transfer` is given, but for images, style weights and what the network needs."""
    from visualization.style import feature_layers

    def layer(text: str) -> str | int:
        return int(text) if text.isdigit() else text

    names = feature_layers(network.model)
    content, style = arguments.content_layer, arguments.style_layers
    if not names and (content is None or style is None):
        raise ValueError("the model has no feature maps before its last two layers")
    chosen = [names[len(names) * share // 12] for share in (0, 3, 6, 8)]
    job = "invert" if arguments.invert else "texture" if arguments.texture else "paint"
    return {
        "image_size": arguments.size,
        "style_size": arguments.style_size or arguments.size,
        "content_layer": layer(content) if content else chosen[1],
        "style_layers": [] if arguments.invert else list(map(layer, style)) if style else chosen,
        "num_iterations": arguments.iterations,
        "clip": False,
        "relative_weights": True,
        "keep_colors": arguments.keep_colors,
        "seed": arguments.seed,
        **_JOBS[job],
    }


def _weighed(settings: dict[str, Any], strength: float) -> dict[str, Any]:
    """The settings with the weights of a strength, as the record has them."""
    layers, smoothing = settings["style_layers"], settings["tv_weight"]
    if layers and settings["content_weight"]:
        # strokes bring noise, without which there is nothing to smooth but the photograph
        smoothing *= min(strength, 1.0)
    weights = [strength / len(layers) for _ in layers]
    return settings | {"style_weights": weights, "tv_weight": smoothing}


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
    from visualization.plotting import gif

    before = [_sees(seer, photo[0]) for seer in seers]
    strengths = (arguments.strength,) if arguments.strength else _STRENGTHS
    if arguments.invert or arguments.texture:  # the one has no strength, the other no objects
        strengths = strengths[:1]
    with progress(f"painting {stem} ...", arguments.quiet) as show:
        for strength in strengths:
            frames: list[np.ndarray] = []

            def on_frame(done: int, picture: np.ndarray, frames: Any = frames) -> None:
                show(f"painting {stem}: {done} of {settings['num_iterations']} iterations")
                if arguments.gif:
                    frames.append(picture)

            weighed = _weighed(settings, strength)
            picture = _paint(seers[0], weighed, photo[0], painting[0], on_frame)
            after = [_sees(seer, picture) for seer in seers]
            if all(
                now["class"] in then["first_five"] for then, now in zip(before, after, strict=True)
            ):
                break
    named = Path(painting[1].get("source", "strokes").partition("?")[0]).stem
    what = (["inverted"] if arguments.invert else []) + (["texture"] if arguments.texture else [])
    name = file_stem(stem, *what, *([] if arguments.invert else [named]))
    written = [out.write_image(f"{name}.png", picture)]
    if arguments.gif:
        written.append(out.write(arguments.gif, gif([_resized(one, picture) for one in frames])))
    seen = [
        {"network": seer.record, "before": then, "after": now}
        for seer, then, now in zip(seers, before, after, strict=True)
    ]
    record = {
        "command": "visualization.stylize",
        "image": photo[1],
        **({} if arguments.invert else {"painting": painting[1], "strength": strength}),
        **weighed,
        **seen[0],
        "others": seen[1:],
        "picture": written[0].name,
        **({"gif": arguments.gif} if arguments.gif else {}),
    }
    written.append(out.write_json(f"{name}.json", record))
    if not arguments.quiet:
        print(f"image    {photo[1]['source']}")
        if strength != strengths[0]:
            print(
                f"strength {strength:g}, as with more a network saw something else in the picture"
            )
        for one in seen:
            who = one["network"].get("network", "the model")
            then, now = (
                f"{short_name(one[when]['name'])} {shown(one[when], '.1%')}"
                for when in ("before", "after")
            )
            print(f"seen     {who}: {then} before, {now} after")
        print("written  " + "\n         ".join(map(str, written)), flush=True)


def _paint(
    network: Network,
    settings: dict[str, Any],
    photo: np.ndarray,
    painting: np.ndarray,
    on_frame: Callable[[int, np.ndarray], object],
) -> np.ndarray:
    """The picture, uint8: the broad strokes painted at half the size, the fine ones over them."""
    from visualization.style import style_transfer

    specification = network.specification
    scaling = specification.scaling()
    size, iterations = settings["image_size"], settings["num_iterations"]
    at_half = iterations // 2 if settings["style_layers"] and size >= 2 * _LEAST else 0

    def inside(X: np.ndarray) -> np.ndarray:
        return scaling.to_pixels(X)[0, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]

    def painted(part: int, before: int, count: int, times: float, start: Any) -> np.ndarray:
        side = size // part
        changed = {
            "image_size": side + 2 * _MARGIN,
            "style_size": max(_LEAST, settings["style_size"] // part),
            "style_weights": [times * weight for weight in settings["style_weights"]],
            "num_iterations": count,
        }
        X = style_transfer(
            _with_margin(photo, side),
            painting,
            init_image=None if start is None else _with_margin(start, side),
            model=network.model,
            preprocess=specification.preprocess,
            bounds=specification.bounds,
            show_every=max(1, iterations // 25),
            on_frame=lambda done, X: on_frame(before + done, inside(X)),
            **settings | changed,
        )
        return inside(X)

    start = painted(2, 0, at_half, _BROAD, None) if at_half else None
    return painted(1, at_half, iterations - at_half, 1.0, start)


def _with_margin(photo: np.ndarray, size: int) -> np.ndarray:
    """The photograph, mirrored at its edges by as much as becomes `_MARGIN` when it has that size."""
    import numpy as np

    width = round(_MARGIN * min(photo.shape[:2]) / size)
    return np.pad(photo, ((width, width), (width, width), (0, 0)), mode="symmetric")


def _resized(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    import numpy as np
    from PIL import Image

    height, width = like.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _sees(network: Network, image: np.ndarray) -> dict[str, Any]:
    """What a network sees in a picture."""
    probabilities = network.probabilities(image[None])[0]
    best = [int(label) for label in probabilities.argsort()[::-1][:5]]
    return {
        "class": best[0],
        "name": network.names[best[0]],
        **network.number(probabilities[best[0]]),
        "first_five": best,
    }


if __name__ == "__main__":
    sys.exit(main())
