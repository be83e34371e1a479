"""``python -m tfcap.caption``: captions for photographs, and the parts that each word depends on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcap.decoding_arguments import add_decoding_arguments, given_decoding
from tfcap.pretrained import MAX_DECODING
from visualization.cli.arguments import Parser, check_name, number
from visualization.cli.network import Network
from visualization.cli.output import OutputFolder
from visualization.cli.photographs import Photographs, image_sources
from visualization.cli.reports import Reports
from visualization.cli.running import loading_tensorflow, run

if TYPE_CHECKING:
    import numpy as np

    from tfcap.captioner import Captioner
    from tfcap.explain import Falls

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
        epilog="example: python -m tfcap.caption dog.jpg --n-best 3 --explain",
    )
    add = parser.add_argument
    add(
        "image",
        nargs="*",
        metavar="PATH|URL|FOLDER",
        help="the photographs (default: matplotlib's grace_hopper.jpg); captioners on SqueezeNet see "
        "the central square of each",
    )
    add(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="what python -m tfcap.train wrote (default: the bundled captioner, trained on Flickr8k)",
    )
    add(
        "--n-best",
        type=number(int, 1, MAX_DECODING),
        default=1,
        metavar="N",
        help="how many sentences for each (default: %(default)s)",
    )
    add_decoding_arguments(parser)
    add(
        "--explain",
        action="store_true",
        help="also draw the part of the photograph that each word depends on most, and test it: hide "
        "that part, and see how much less likely the word becomes",
    )
    add(
        "--report",
        metavar="NAME.html",
        help="also write one page to send, of this name, into --out: the sentence and where it looked "
        "for each word, and what python -m visualization.report writes of the network that it looks "
        "with; for several photographs it is their index",
    )
    parser.add_common_arguments()
    parser.set_defaults(command="tfcap.caption")
    return run(parser, argv, _caption)


def _caption(arguments: argparse.Namespace) -> int:
    given = given_decoding(arguments)
    check_name("--report", arguments.report)
    if arguments.report and not arguments.report.endswith(".html"):
        raise ValueError(f"--report {arguments.report}: it is a page; give it a name with .html")
    sources = image_sources(arguments.image)
    images = Photographs(sources, None, arguments.quiet)
    out = OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from tfcap.captioner import load_captioner
        from tfcap.data.features import image_features
        from tfcap.metrics.results import write_coco_results
        from tfcap.plotting import caption_figure
        from tfcap.pretrained import read_config
        from visualization.files.bundle import BUNDLE, CAPTIONER
        from visualization.plotting import png

    captioner = load_captioner(arguments.model)
    folder, encoder = arguments.model or BUNDLE / CAPTIONER, captioner.encoder
    model = {
        "folder": str(folder),
        "sha256": read_config(folder)["weights"]["sha256"],
        "encoder": encoder.name,
    }
    decoding = captioner.decoding(arguments.n_best, **given)
    reports = _reports(arguments, out, encoder.network, len(sources) > 1)
    captions: dict[str, str] = {}  # source -> its best sentence
    tested: list[tuple[list[str], Falls]] = []  # the words of each photograph, and how they fell
    for stem, pixels, source in images:
        seen = encoder.fit(pixels)
        features = image_features(seen[None], encoder.name)
        drawn = {"seed": arguments.seed + len(captions)} if "temperature" in decoding else {}
        [found] = captioner.sentences(features, **decoding, **drawn)
        sentences, log_p = [sentence for sentence, _, _ in found], [value for _, value, _ in found]
        captions[source["source"]] = sentences[0]
        figure = out.write(f"{stem}-caption.png", png(caption_figure(pixels, sentences, log_p)))
        record = {
            "command": "tfcap.caption",
            "image": source,
            "model": model,
            "decoding": decoding | drawn,
            "sentences": [
                {"sentence": sentence, "log_probability": value} for sentence, value, _ in found
            ],
            "seed": arguments.seed,
            "figure": figure.name,
        }
        if captioner.model.looks:
            words = sentences[0].split()
            [shown] = captioner.attention(features, found[0][2][None])  # (T, height, width)
            field = encoder.field(pixels)
            record["attention"] = _attention(field, words, shown[: len(words)], stem, out)
        if arguments.explain:
            seed = arguments.seed + len(tested)
            ids = found[0][2]
            record["explanation"] = _explain(captioner, pixels, ids, stem, out, seed, tested)
        out.write_json(f"{stem}-caption.json", record)
        if reports:
            from tfcap.pages import caption_section

            section = caption_section(captioner, pixels, found)
            reports.add(stem, pixels, source, [section], {"sentences": record["sentences"]})
        if not arguments.quiet:
            print("\n    ".join([f"{figure}: {sentences[0]}", *sentences[1:]]), flush=True)
    status = images.status()
    if reports:
        reports.write_index()
    write_coco_results(out.path / "captions.json", captions)
    if arguments.explain:
        _sum_up(tested, model, arguments, out)
    return status


def _reports(
    arguments: argparse.Namespace, out: OutputFolder, network: str, several: bool
) -> Reports | None:
    """What writes the pages, if ``--report`` asks for them."""
    if not arguments.report:
        return None
    looks_with = Network(argparse.Namespace(network=network, weights="imagenet", model=None))
    looks_with.load()
    return Reports(arguments, out, [(looks_with, 1)], page=arguments.report, several=several)


def _attention(
    field: np.ndarray, words: list[str], weights: np.ndarray, stem: str, out: OutputFolder
) -> dict[str, Any]:
    """Draws where each word of a sentence was looked for."""
    from tfcap.plotting import attention_figure
    from visualization.plotting import png

    figure = out.write(f"{stem}-attention.png", png(attention_figure(field, words, weights)))
    found = [
        {"word": word, "weights": cells.round(5).tolist()}
        for word, cells in zip(words, weights, strict=True)
    ]
    return {"figure": figure.name, "words": found}


def _explain(
    captioner: Captioner,
    pixels: np.ndarray,
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

    model, encoder = captioner.model, captioner.encoder
    ids = ids[(ids != model.ids.null) & (ids != model.ids.end)]
    words = [model.idx_to_word[idx] for idx in ids.tolist()]
    if not words:
        return {"words": []}
    seen = encoder.fit(pixels)
    maps = word_maps(model, seen, ids)
    falls = falls_when_hidden(model, seen, ids, maps, seed)
    tested.append((words, falls))
    corners = regions(maps)
    drawn = explanation_figure(encoder.field(pixels), words, maps, corners, falls)
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
