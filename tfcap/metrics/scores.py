"""Scores of captions as COCO computes them: BLEU, ROUGE-L and CIDEr, without Java.

Predictions are a dict {id: sentence}, references a dict {id: [sentence, ...]}. The scores are those of
pycocoevalcap's scorers (an optional package) on the words that `ptb_tokenize` finds.

Sources: BLEU: Papineni et al. 2002; ROUGE-L: Lin 2004; CIDEr: Vedantam, Zitnick and Parikh 2015
(their CIDEr-D, as usual on COCO); the evaluation: Chen et al. 2015, "Microsoft COCO Captions: Data
Collection and Evaluation Server".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfcap.metrics.tokenizer import ptb_tokenize

__all__ = ["METRICS", "check_installed", "score_captions"]

METRICS = ("BLEU", "ROUGE-L", "CIDEr")


def score_captions(
    predictions: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    metrics: Iterable[str] = METRICS,
) -> dict[str, float]:
    """Scores the sentences of a whole set of images, on the words that `ptb_tokenize` finds.

    An image without a prediction counts as one with an empty prediction, which scores 0 in every
    metric. A single image scores 0 in CIDEr, which weights a word by how few of the images have it.
    References without a word are ignored.

    Args:
        predictions: a sentence for each image.
        references: one or more sentences for each image.
        metrics: of "BLEU" (BLEU-1 to BLEU-4), "ROUGE-L" and "CIDEr".

    Returns:
        The scores by name: BLEU and ROUGE-L are between 0 and 1, CIDEr between 0 and 10.

    Raises:
        ValueError: there is no image; a prediction is for an image without references; an image has no
            reference with a word in it; there is no such metric.
        TypeError: a prediction is not a string, or the references of an image not a list of strings.
        ImportError: pycocoevalcap is not installed.

    Example:
        >>> references = {1: ["a man rides a horse"], 2: ["two dogs play"]}
        >>> score_captions({1: "a man on a horse", 2: "two dogs play"}, references, ["ROUGE-L"])
        {'ROUGE-L': 0.9}
    """
    metrics = list(metrics)
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise ValueError(f"there is no metric {unknown[0]!r}: choose from {', '.join(METRICS)}")
    truths, candidates = _words(predictions, references)
    scorers = _scorers()
    scores: dict[str, float] = {}
    for metric in metrics:
        if metric == "BLEU":
            bleu, _ = scorers[metric].compute_score(truths, candidates, verbose=0)
            scores |= {f"BLEU-{n}": float(score) for n, score in enumerate(bleu, start=1)}
        else:
            scores[metric] = float(scorers[metric].compute_score(truths, candidates)[0])
    return scores


def check_installed() -> None:
    """Raises ImportError, before any long work, if `score_captions` lacks pycocoevalcap.

    Example:
        >>> check_installed()
    """
    _scorers()


def _scorers() -> dict[str, Any]:
    try:
        from pycocoevalcap.bleu.bleu import Bleu  # noqa: PLC0415
        from pycocoevalcap.cider.cider import Cider  # noqa: PLC0415
        from pycocoevalcap.rouge.rouge import Rouge  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "scoring captions needs pycocoevalcap (100 MB): pip install pycocoevalcap==1.2"
        ) from error
    return {"BLEU": Bleu(4), "ROUGE-L": Rouge(), "CIDEr": Cider()}


def _words(
    predictions: Mapping[Any, str], references: Mapping[Any, Sequence[str]]
) -> tuple[dict[Any, list[str]], dict[Any, list[str]]]:
    """References and predictions as pycocoevalcap takes them: {id: [words joined by blanks, ...]}."""
    if not references:
        raise ValueError("there are no references to score against")
    for image, sentence in predictions.items():
        if image not in references:
            raise ValueError(f"image {image!r} has a prediction, but no references")
        if not isinstance(sentence, str):
            raise TypeError(
                f"the prediction for image {image!r} is {sentence!r}, expected a string"
            )
    truths: dict[Any, list[str]] = {}
    for image, sentences in references.items():
        if isinstance(sentences, str) or not all(isinstance(one, str) for one in sentences):
            raise TypeError(
                f"the references of image {image!r} are {sentences!r}, expected a list of strings"
            )
        truths[image] = [words for words in map(_joined, sentences) if words]
        if not truths[image]:
            raise ValueError(f"image {image!r} has no reference with a word in it: omit the image")
    return truths, {image: [_joined(predictions.get(image, ""))] for image in references}


def _joined(sentence: str) -> str:
    return " ".join(ptb_tokenize(sentence))
