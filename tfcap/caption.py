"""``python -m tfcap.caption``: captions for photographs, and the parts that each word depends on."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcap.pretrained import MAX_DECODING
from visualization.cli.arguments import Parser, number
from visualization.cli.output import OutputFolder
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.running import loading_tensorflow, run

if TYPE_CHECKING:
    import numpy as np

    from tfcap.explain import Falls
    from tfcap.model import CaptioningRNN

# Words for nothing that could be pointed at; all others are content words.
_FUNCTION_WORDS = """a an the this that these those some one two its his her their it he they she them
him of in on at to into onto from by with without for over under up down through across along around
near behind beside between next front top out off as while who which is are be being has have and or
there"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 1 if photographs were skipped."""
    parser = Parser(
        prog="python -m tfcap.caption",
        description="Says in a sentence what a photograph shows.",
        epilog="example: python -m tfcap.caption dog.jpg --model captioner --n-best 3 --explain",
    )
    add = parser.add_argument
    add(
        "image",
        nargs="*",
        metavar="PATH|URL|FOLDER",
        help="the photographs (default: matplotlib's grace_hopper.jpg); the captioner sees the "
        "central square of each",
    )
    add("--model", type=Path, metavar="FOLDER", help="what python -m tfcap.train wrote")
    add(
        "--n-best",
        type=number(int, 1, MAX_DECODING),
        default=1,
        metavar="N",
        help="how many sentences for each (default: %(default)s)",
    )
    add(
        "--beam",
        type=number(int, 1, MAX_DECODING),
        metavar="B",
        help="how many beginnings the search follows (default: the captioner's, at least N)",
    )
    add(
        "--explain",
        action="store_true",
        help="also draw the part of the photograph that each word depends on most, and test it: hide "
        "that part, and see how much less likely the word becomes",
    )
    parser.add_common_arguments()
    return run(parser, argv, _caption)


def _caption(arguments: argparse.Namespace) -> int:
    if arguments.model is None:
        raise ValueError(
            "--model names no captioner: train one with python -m tfcap.train --data FOLDER "
            "--out captioner, then give --model captioner"
        )
    images = Photographs(image_sources(arguments.image), None, arguments.quiet)
    out = OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from tfcap.data.coco import decode_captions
        from tfcap.data.features import image_features
        from tfcap.metrics.results import write_coco_results
        from tfcap.model import CaptioningRNN
        from tfcap.plotting import caption_figure
        from tfcap.pretrained import weights_sha256
        from visualization.plotting import png

    captioner = CaptioningRNN.from_pretrained(arguments.model)
    _check_encoder(captioner, arguments.model)
    model = {
        "folder": str(arguments.model),
        "sha256": weights_sha256(arguments.model),
        "encoder": captioner.encoder,
    }
    beam = arguments.beam or max(int(captioner.decoding["beam_size"]), arguments.n_best)
    decoding = {**captioner.decoding, "beam_size": beam, "n_best": arguments.n_best}
    captions: dict[str, str] = {}  # source -> its best sentence
    tested: list[tuple[list[str], Falls]] = []  # the words of each photograph, and how they fell
    for stem, pixels, source in images:
        seen = _as_seen(pixels)
        ids, log_p = (
            rows[0] for rows in captioner.beam_search(image_features(seen[None]), **decoding)
        )
        possible = [k for k, value in enumerate(log_p) if math.isfinite(value)]
        ids, log_p = ids[possible], log_p[possible]
        sentences = decode_captions(ids, captioner.idx_to_word)
        captions[source["source"]] = sentences[0]
        figure = out.write(f"{stem}-caption.png", png(caption_figure(pixels, sentences, log_p)))
        record = {
            "command": "tfcap.caption",
            "image": source,
            "model": model,
            "decoding": decoding,
            "sentences": [
                {"sentence": sentence, "log_probability": float(value)}
                for sentence, value in zip(sentences, log_p, strict=True)
            ],
            "seed": arguments.seed,
            "figure": figure.name,
        }
        if arguments.explain:
            seed = arguments.seed + len(tested)
            record["explanation"] = _explain(captioner, seen, ids[0], stem, out, seed, tested)
        out.write_json(f"{stem}-caption.json", record)
        if not arguments.quiet:
            print("\n    ".join([f"{figure}: {sentences[0]}", *sentences[1:]]), flush=True)
    status = images.status()
    write_coco_results(out.path / "captions.json", captions)
    if arguments.explain:
        _sum_up(tested, model, arguments, out)
    return status


def _check_encoder(captioner: CaptioningRNN, folder: Path) -> None:
    from tfcap.data.features import ENCODER, POOLED_SHAPE

    if captioner.encoder != ENCODER or (captioner.input_dim,) != POOLED_SHAPE:
        raise ValueError(
            f"--model {folder} cannot caption photographs: it was trained on {captioner.input_dim} "
            f"features of {captioner.encoder or 'an unnamed encoder'}, and this program computes only "
            f"the {POOLED_SHAPE[0]} of {ENCODER}: name a captioner trained on what "
            "python -m tfcap.datasets build wrote"
        )


def _as_seen(pixels: np.ndarray) -> np.ndarray:
    """The central square, uint8 (224, 224, 3), just as `visualization.load_image` gives it."""
    import numpy as np
    from PIL import Image, ImageOps

    from tfcap.data.features import SIZE

    square = ImageOps.fit(Image.fromarray(pixels), (SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.array(square)


def _explain(
    captioner: CaptioningRNN,
    seen: np.ndarray,
    ids: np.ndarray,
    stem: str,
    out: OutputFolder,
    seed: int,
    tested: list[tuple[list[str], Falls]],
) -> dict[str, Any]:
    """Draws what each word of a sentence depends on, and tests it; adds the test to `tested`."""
    from tfcap.explain import falls_when_hidden, regions, word_maps
    from tfcap.plotting import explanation_figure
    from visualization.plotting import png

    ids = ids[(ids != captioner.ids.null) & (ids != captioner.ids.end)]
    words = [captioner.idx_to_word[idx] for idx in ids.tolist()]
    if not words:
        return {"words": []}
    maps = word_maps(captioner, seen, ids)
    falls = falls_when_hidden(captioner, seen, ids, maps, seed)
    tested.append((words, falls))
    corners = regions(maps)
    drawn = explanation_figure(seen, words, maps, corners, falls)
    figure = out.write(f"{stem}-explanation.png", png(drawn))
    found = [
        {
            "word": word,
            "log_probability": float(falls.log_p[t]),
            "region": {"top": int(corners[t, 0]), "left": int(corners[t, 1])},
            "fall_when_hidden": float(falls.own[t]),
            "fall_when_random_regions_are_hidden": float(falls.random[t]),
        }
        for t, word in enumerate(words)
    ]
    return {"figure": figure.name, "words": found}


def _sum_up(
    tested: list[tuple[list[str], Falls]],
    model: dict[str, Any],
    arguments: argparse.Namespace,
    out: OutputFolder,
) -> None:
    """Writes and prints the results of the tests of all photographs."""
    from tfcap.explain import RANDOM_REGIONS, REGION, mean_falls

    results = {
        "words": mean_falls(tested),
        "content_words": mean_falls(tested, leave_out=_FUNCTION_WORDS.split()),
    }
    record = {
        "command": "tfcap.caption --explain",
        "model": model,
        "photographs": len(tested),
        "region_pixels": REGION,
        "random_regions": RANDOM_REGIONS,
        "seed": arguments.seed,
        "falls_of_log_probability": results,
    }
    path = out.write_json("explanations.json", record)
    lines = [f"{'log p falls when hidden:':26}own region   other words'   random regions"]
    for name, result in results.items():
        if result["words"]:
            others = "" if result["others"] is None else f"{result['others']:.3f}"
            lines.append(
                f"{result['words']:5} {name.replace('_', ' '):16}{result['own']:14.3f}"
                f"{others:>15}{result['random']:17.3f}"
            )
    if not arguments.quiet:
        print("\n".join([*lines, f"written  {path}"]))


if __name__ == "__main__":
    sys.exit(main())
