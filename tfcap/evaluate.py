"""``python -m tfcap.evaluate``: scores a captioner, and shows whether it looks at the images at all."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcap.decoding_arguments import add_decoding_arguments, given_decoding
from tfcap.pretrained import MAX_DECODING
from visualization.cli.arguments import Parser, number
from visualization.cli.output import OutputFolder
from visualization.cli.running import loading_tensorflow, progress, run
from visualization.files.bundle import BUNDLE, CAPTIONER

if TYPE_CHECKING:
    from tfcap.model import CaptioningRNN

_ROWS = 512  # images, or training captions, at a time
_SHARES = ("lost by shuffling", "distinct sentences", "found in training")


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns 0."""
    parser = Parser(
        prog="python -m tfcap.evaluate",
        description="Scores a captioner's sentences against those of people, next to sentences looked "
        "up in the training set, and shows whether it looks at the images at all. Writes the sentences "
        "as COCO results, SPLIT_predictions.json (an image's id is its row among the split's images), "
        "and the scores, SPLIT_evaluation.json.",
        epilog="example: python -m tfcap.evaluate --data flickr8k --model captioner --beam 3",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="what python -m tfcap.datasets wrote, or the course's coco_captioning",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a captioner that python -m tfcap.train or save_pretrained wrote (default: the bundled "
        "one)",
    )
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument(
        "--max-length",
        type=number(int, 1, MAX_DECODING),
        metavar="WORDS",
        help="the longest sentence (default: the captioner's own)",
    )
    add_decoding_arguments(parser)
    parser.add_argument(
        "--limit", type=number(int, 1), metavar="N", help="only N images, drawn by the seed"
    )
    parser.add_common_arguments()
    return run(parser, argv, _evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from tfcap.data.coco import load_coco_data
    from tfcap.metrics.baselines import nearest_neighbour_captions
    from tfcap.metrics.results import references_by_image, write_coco_results
    from tfcap.metrics.scores import check_installed

    check_installed()
    given = given_decoding(arguments)
    if arguments.max_length is not None:
        given["max_length"] = arguments.max_length
    arguments.model = arguments.model or BUNDLE / CAPTIONER
    out = OutputFolder(arguments.out)
    split, seed, quiet = arguments.split, arguments.seed, arguments.quiet
    data = load_coco_data(arguments.data)
    references = _references(data, arguments)
    with loading_tensorflow(quiet):
        from tfcap.model import CaptioningRNN
    model = CaptioningRNN.from_pretrained(arguments.model)
    _check_fit(model, data, arguments)
    features = _Rows(data[f"{split}_features"], list(references))
    results = {}
    if split != "train" and "train_captions" in data:
        with progress("looking up sentences of the training set ...", quiet):
            known = references_by_image(data, "train")
            mine, theirs = features, data["train_features"]
            if model.looks:
                mine = _mean_cells(data[f"{split}_features"])[features.rows]
                theirs = _mean_cells(theirs)
            looked_up = nearest_neighbour_captions(mine, theirs, known)
            found = dict(zip(references, looked_up, strict=True))
            sentences = chain.from_iterable(known.values())
            results["looked up"] = _judge(found, references, sentences, seed)
    decoding = model.decoding_with(**given)
    start = time.monotonic()
    captions = _captions(model, features, decoding, seed, quiet)
    seconds = time.monotonic() - start
    predictions = dict(zip(references, captions, strict=True))
    with progress("scoring ...", quiet):
        learned = _training_captions(data) if "train_captions" in data else None
        own = _judge(predictions, references, learned, seed)
    results = {"captioner": own} | results
    record = _record(arguments, data, decoding, references, results, seconds)
    written = out.path / f"{split}_predictions.json"
    write_coco_results(written, predictions)
    recorded = out.write_json(f"{split}_evaluation.json", record)
    if not quiet:
        print(f"{_heading(record)}\n{_table(record)}\nwritten  {written}\n         {recorded}")
    return 0


def _references(data: Mapping[str, Any], arguments: argparse.Namespace) -> dict[int, list[str]]:
    """The references of the images to evaluate, by row, in rising order."""
    from tfcap.metrics.results import references_by_image

    references = references_by_image(data, arguments.split)
    images = np.array(sorted(references))
    if arguments.limit and arguments.limit < len(images):
        rng = np.random.default_rng(arguments.seed)
        images = np.sort(rng.choice(images, arguments.limit, replace=False))
    return {image: references[image] for image in images.tolist()}


def _check_fit(
    model: CaptioningRNN, data: Mapping[str, Any], arguments: argparse.Namespace
) -> None:
    """Captioner and data may have different vocabularies, but must have the same kind of features."""
    shape = data[f"{arguments.split}_features"].shape
    if not model.takes(shape) or (model.encoder or data["encoder"]) != data["encoder"]:
        raise ValueError(
            f"--model {arguments.model} takes {model.input_dim} features of "
            f"{model.encoder or 'an unnamed encoder'}{' in cells' * model.looks}, but --data "
            f"{arguments.data} holds {shape[-1]} of {data['encoder']}: name a captioner that was "
            "trained on those"
        )


def _mean_cells(features: Any) -> np.ndarray:
    """The mean over the cells of each image, (N, D)."""
    from tfcap.data.lazy_array import blocks

    return np.concatenate([block.mean(axis=1) for block in blocks(features)])


class _Rows:
    """Some rows of features that stay in their file."""

    def __init__(self, features: Any, rows: list[int]) -> None:
        self.features, self.rows = features, np.array(rows)
        self.shape = (len(rows), *features.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice) -> np.ndarray:
        return self.features[self.rows[index]]


def _captions(
    model: CaptioningRNN, features: _Rows, decoding: dict[str, Any], seed: int, quiet: bool
) -> list[str]:
    """The captioner's sentence for each image."""
    from tfcap.data.coco import decode_captions

    sentences: list[str] = []
    start = time.monotonic()
    with progress("captioning ...", quiet) as show:
        while len(sentences) < len(features):
            some = features[len(sentences) : len(sentences) + _ROWS]
            if "temperature" in decoding:
                drawn = {**decoding, "seed": seed + len(sentences)}
                ids = model.sample(some, never_empty=True, **drawn)  # (n, max_length)
            else:
                ids = model.beam_search(some, never_empty=True, **decoding)[0][:, 0]
            sentences += decode_captions(ids, model.idx_to_word)
            left = (time.monotonic() - start) * (len(features) / len(sentences) - 1)
            show(f"sentences: {len(sentences):,} of {len(features):,}, {left:.0f} s left")
    return sentences


def _training_captions(data: Mapping[str, Any]) -> Iterator[str]:
    """The training captions in the words that the captioner learned."""
    from tfcap.data.coco import decode_captions

    captions = data["train_captions"]
    for start in range(0, len(captions), _ROWS):
        yield from decode_captions(captions[start : start + _ROWS], data["idx_to_word"])


def _judge(
    predictions: Mapping[int, str],
    references: Mapping[int, list[str]],
    training: Iterable[str] | None,
    seed: int,
) -> dict[str, Any]:
    """The scores of sentences, and the figures that show whether they are about the images."""

    from tfcap.metrics.baselines import copied_share, distinct_share, shuffled_cider
    from tfcap.metrics.scores import score_captions

    scores: dict[str, Any] = {**score_captions(predictions, references)}
    if len(references) > 1:
        shuffled = shuffled_cider(predictions, references, seed)
        scores["CIDEr, images shuffled"] = shuffled
        scores["lost by shuffling"] = 1 - shuffled / scores["CIDEr"] if scores["CIDEr"] else 0.0
    scores["distinct sentences"] = distinct_share(predictions)
    if training is not None:
        scores["found in training"] = copied_share(predictions, training)
    return scores | {"words": _lengths(predictions.values())}


def _lengths(sentences: Iterable[str]) -> dict[str, float]:
    from tfcap.metrics.tokenizer import ptb_tokenize

    lengths = [len(ptb_tokenize(sentence)) for sentence in sentences]
    return {"mean": sum(lengths) / len(lengths), "fewest": min(lengths), "most": max(lengths)}


def _record(
    arguments: argparse.Namespace,
    data: Mapping[str, Any],
    decoding: dict[str, Any],
    references: Mapping[int, list[str]],
    results: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    from tfcap.pretrained import read_config

    written = data.get(f"{arguments.split}_annotations")
    return {
        "command": "tfcap.evaluate",
        "data": str(arguments.data),
        "encoder": data["encoder"],
        "model": {
            "folder": str(arguments.model),
            "sha256": read_config(arguments.model)["weights"]["sha256"],
        },
        "decoding": decoding,
        "split": arguments.split,
        "images": len(references),
        "references": sum(map(len, references.values())),
        "references_from": str(written) if written else "the captions' ids",
        "words_of_references": _lengths(chain.from_iterable(references.values())),
        "results": results,
        "seed": arguments.seed,
        "seconds_of_decoding": seconds,
    }


def _heading(record: dict[str, Any]) -> str:
    decoding = record["decoding"]
    how = f"beam {decoding.get('beam_size')}"
    if "temperature" in decoding:
        how = f"drawn at temperature {decoding['temperature']:g}"
    elif decoding["beam_size"] == 1:
        how = "greedy"
    heading = (
        f"{record['data']}, {record['split']}: {record['images']:,} images, "
        f"{record['references']:,} references, {how}"
    )
    if record["references_from"] == "the captions' ids":
        heading += "\nreferences are captions decoded from ids: rare words are <UNK>, long ones cut"
    return heading


def _table(record: dict[str, Any]) -> str:
    """The results side by side: scores times 100, as is usual, and shares in percent."""
    columns = record["results"]
    lines = [f"{'':24}" + "".join(f"{name:>18}" for name in columns)]
    for row in columns["captioner"]:
        cells = [_cell(row, column[row]) for column in columns.values()]
        lines.append(f"{row:24}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(
        [*lines, f"{'words of references':24}{_cell('', record['words_of_references']):>18}"]
    )


def _cell(row: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.1f} ({value['fewest']} to {value['most']})"
    return f"{value:.0%}" if row in _SHARES else f"{100 * value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
