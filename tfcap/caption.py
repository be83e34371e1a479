"""``python -m tfcap.caption``: sentences for photographs, and the parts of them that words stand for.

TensorFlow is imported inside the functions that compute, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualization.cli.arguments import Parser, number
from visualization.cli.output import OutputFolder
from visualization.cli.photographs import Images, image_sources
from visualization.cli.running import loading_tensorflow, run

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from tfcap.explain import Falls
    from tfcap.model import CaptioningRNN

WIDEST_BEAM = LONGEST_SENTENCE = 1000
LARGEST_SHOWN = 1000  # pixels: the longer side of a photograph in a figure
PANELS = 6  # of words, in a row
PANEL, TITLES = 2.9, 0.6  # inches: a panel's side, the lines above it
FIGURE = 8  # inches, of the photograph's longer side
SENTENCE, SMALL = 16, 12  # points
LINE = 1.4 / 72  # inches from line to line, for each point of the letters

# Words that stand for nothing that could be pointed at; all others are content words.
FUNCTION_WORDS = """a an the this that these those some one two its his her their it he she they them
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
        type=number(int, 1, WIDEST_BEAM),
        default=1,
        metavar="N",
        help="how many sentences for each (default: %(default)s)",
    )
    add(
        "--beam",
        type=number(int, 1, WIDEST_BEAM),
        metavar="B",
        help="how many beginnings the search follows (default: the captioner's, at least N)",
    )
    add(
        "--explain",
        action="store_true",
        help="also draw the part of the photograph that each word responds to, and test it: hide it, "
        "and see how much less likely the word becomes",
    )
    parser.add_common_arguments()
    return run(parser, argv, _caption)


def _caption(arguments: argparse.Namespace) -> int:
    if arguments.model is None:
        raise ValueError(
            "--model names no captioner: train one with python -m tfcap.train --data FOLDER "
            "--out captioner, then give --model captioner"
        )
    images = Images(image_sources(arguments.image), None, arguments.quiet)
    out = OutputFolder(arguments.out)
    with loading_tensorflow(arguments.quiet):
        from tfcap.metrics import scores as metrics
    job = _Job(arguments, out)
    for stem, pixels, source in images:
        job.caption(stem, pixels, source)
    status = images.status()
    results = out.path / "captions.json"
    metrics.write_coco_results(results, job.captions)
    if arguments.explain:
        job.sum_up()
    return status


class _Job:
    """Says and explains one photograph after another with the captioner of the command line."""

    def __init__(self, arguments: argparse.Namespace, out: OutputFolder) -> None:
        from tfcap.model import CaptioningRNN
        from tfcap.pretrained import weights_sha256

        self.arguments, self.out = arguments, out
        self.captioner = CaptioningRNN.from_pretrained(arguments.model)
        _check_encoder(self.captioner, arguments.model)
        self.model = {
            "folder": str(arguments.model),
            "sha256": weights_sha256(arguments.model),
            "encoder": self.captioner.encoder,
        }
        default = self.captioner.decoding
        beam = arguments.beam or max(int(default["beam_size"]), arguments.n_best)
        self.decoding = {**default, "beam_size": beam, "n_best": arguments.n_best}
        self.captions: dict[str, str] = {}  # source -> its best sentence
        self.tested: list[
            tuple[list[str], Falls]
        ] = []  # the words of a photograph, and how they fell

    def caption(self, stem: str, pixels: np.ndarray, source: dict[str, str]) -> None:
        """Writes one photograph's figures and record."""
        from tfcap.data.coco import decode_captions
        from tfcap.data.features import image_features
        from visualization.plotting import png

        seen = _as_seen(pixels)
        ids, log_p = self.captioner.beam_search(image_features(seen[None]), **self.decoding)
        possible = [k for k, value in enumerate(log_p[0]) if math.isfinite(value)]
        sentences = decode_captions(ids[0][possible], self.captioner.idx_to_word)
        found = [
            {"sentence": sentence, "log_probability": float(log_p[0, k])}
            for k, sentence in zip(possible, sentences, strict=True)
        ]
        self.captions[source["source"]] = sentences[0]
        drawn = caption_figure(pixels, sentences, log_p[0][possible])
        figure = self.out.write(f"{stem}-caption.png", png(drawn))
        record = {
            "command": "tfcap.caption",
            "image": source,
            "model": self.model,
            "decoding": self.decoding,
            "sentences": found,
            "seed": self.arguments.seed,
            "figure": figure.name,
        }
        if self.arguments.explain:
            record["explanation"] = self._explain(stem, seen, ids[0, 0])
        self.out.write_json(f"{stem}-caption.json", record)
        self._say(f"{figure}: {sentences[0]}")
        for sentence in found[1:]:
            self._say(f"    {sentence['sentence']}")

    def _explain(self, stem: str, seen: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
        """Draws what each word of a sentence responds to, and tests it."""
        from tfcap.explain import falls_when_hidden, regions, word_maps
        from visualization.plotting import png

        unsaid = {self.captioner.ids.null, self.captioner.ids.end}
        ids = ids[[int(idx) not in unsaid for idx in ids]]
        words = [self.captioner.idx_to_word[int(idx)] for idx in ids]
        if not words:
            return {"words": []}
        maps = word_maps(self.captioner, seen, ids)
        seed = self.arguments.seed + len(self.tested)
        falls = falls_when_hidden(self.captioner, seen, ids, maps, seed)
        self.tested.append((words, falls))
        corners = regions(maps)
        drawn = explanation_figure(seen, words, maps, corners, falls)
        figure = self.out.write(f"{stem}-explanation.png", png(drawn))
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

    def sum_up(self) -> None:
        """Writes and prints what the tests of all photographs come to."""
        from tfcap.explain import RANDOM_REGIONS, REGION, mean_falls

        results = {
            "words": mean_falls(self.tested),
            "content_words": mean_falls(self.tested, leave_out=FUNCTION_WORDS.split()),
        }
        record = {
            "command": "tfcap.caption --explain",
            "model": self.model,
            "photographs": len(self.tested),
            "region_pixels": REGION,
            "random_regions": RANDOM_REGIONS,
            "seed": self.arguments.seed,
            "falls_of_log_probability": results,
        }
        path = self.out.write_json("explanations.json", record)
        self._say(f"{'log p falls when hidden:':26}own region   other words'   random regions")
        for name, result in results.items():
            if result["words"]:
                others = "" if result["others"] is None else f"{result['others']:.3f}"
                self._say(
                    f"{result['words']:5} {name.replace('_', ' '):16}{result['own']:14.3f}"
                    f"{others:>15}{result['random']:17.3f}"
                )
        self._say(f"written  {path}")

    def _say(self, text: str) -> None:
        if not self.arguments.quiet:
            print(text, flush=True)


def _check_encoder(captioner: CaptioningRNN, folder: Path) -> None:
    from tfcap.data.features import ENCODER, POOLED_SHAPE

    if captioner.encoder != ENCODER or (captioner.input_dim,) != POOLED_SHAPE:
        raise ValueError(
            f"--model {folder}: photographs cannot be captioned with it, as it was trained on "
            f"{captioner.input_dim} features of {captioner.encoder or 'an unnamed encoder'} and "
            f"this program has only {ENCODER} with {POOLED_SHAPE[0]}: name a captioner trained on "
            "what python -m tfcap.datasets build wrote"
        )


def _as_seen(pixels: np.ndarray) -> np.ndarray:
    """The central square, uint8 (224, 224, 3), just as `visualization.load_image` gives it."""
    import numpy as np
    from PIL import Image, ImageOps

    from tfcap.data.features import SIZE

    square = ImageOps.fit(Image.fromarray(pixels), (SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.array(square)


def caption_figure(image: np.ndarray, sentences: Sequence[str], log_p: Sequence[float]) -> Figure:
    """A photograph with its sentence below, and where there are several, their log-probabilities.

    Args:
        image: uint8 (H, W, 3).
        sentences: the best first.
        log_p: their log-probabilities.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    photograph = Image.fromarray(image)
    photograph.thumbnail((LARGEST_SHOWN, LARGEST_SHOWN))
    inches = FIGURE / max(photograph.size)  # of a pixel
    high, wide = photograph.height * inches, photograph.width * inches
    lines = [("", line, SENTENCE) for line in textwrap.wrap(sentences[0] or "(no word)", 62)]
    if len(sentences) > 1:
        for sentence, value in zip(sentences, log_p, strict=True):
            labels = itertools.chain([f"log p {value:.1f}"], itertools.repeat(""))
            wrapped = textwrap.wrap(sentence or "(no word)", 70)
            lines += [(label, line, SMALL) for label, line in zip(labels, wrapped, strict=False)]
    below = sum(size for _, _, size in lines) * LINE + 0.3
    figure = Figure(figsize=(FIGURE, high + below))
    left, bottom = (1 - wide / FIGURE) / 2, below / (high + below)
    axes = figure.add_axes((left, bottom, wide / FIGURE, 1 - bottom))
    axes.imshow(photograph, aspect="auto")
    axes.set_axis_off()
    top = below - 0.15
    for label, line, size in lines:
        x, align = (0.5, "center") if size == SENTENCE else (0.17, "left")
        y = top / (high + below)
        figure.text(0.15, y, label, ha="right", va="top", fontsize=size)
        figure.text(x, y, line, ha=align, va="top", fontsize=size, parse_math=False)
        top -= size * LINE
    return figure


def explanation_figure(
    image: np.ndarray,
    words: Sequence[str],
    maps: np.ndarray,
    corners: np.ndarray,
    falls: Falls,
) -> Figure:
    """The photograph, and for each word its map over it, with the region that was hidden framed.

    Above each stands the word's probability, and what is left of it without the region.

    Args:
        image: uint8 (H, W, 3), what the captioner saw.
        words: T of them.
        maps: (T, H, W).
        corners: int (T, 2), the regions' tops and lefts.
        falls: how the words' log-probabilities fell.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from tfcap.explain import REGION
    from visualization.plotting import TITLE, overlay

    columns = min(PANELS, max(3, 1 + len(words)))
    rows = math.ceil((1 + len(words)) / columns)
    width, height = PANEL * columns, (PANEL + TITLES) * rows + TITLES
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(0, 0, 1, 1 - 2 * TITLES / height, wspace=0.03, hspace=TITLES / PANEL)
    legend = "each word's probability \N{RIGHTWARDS ARROW} with the framed part hidden"
    figure.text(0.5, 1 - TITLES / 2 / height, legend, ha="center", va="center", fontsize=TITLE)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(image)
    axes[0].set_title("what it sees", fontsize=TITLE)
    before, after = np.exp(falls.log_p), np.exp(falls.log_p - falls.own)
    for t, (word, axis) in enumerate(zip(words, axes[1:], strict=False)):
        axis.imshow(overlay(image, maps[t]))
        top, left = corners[t]
        axis.add_patch(
            Rectangle((left, top), REGION, REGION, fill=False, edgecolor="white", linewidth=1.5)
        )
        title = f"{word}\n{before[t]:.0%} \N{RIGHTWARDS ARROW} {after[t]:.0%}"
        axis.set_title(title, fontsize=TITLE, parse_math=False)
    return figure


if __name__ == "__main__":
    sys.exit(main())
