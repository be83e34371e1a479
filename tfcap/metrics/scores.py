r"""How good captions are: BLEU, ROUGE-L and CIDEr as COCO computes them, and what shows a parrot.

Predictions are a dict {id: sentence}, references a dict {id: [sentence, ...]}. The scores are those of
pycocoevalcap's scorers (an optional extra, without Java) on the words that `tokenize` finds.

Sources: BLEU: Papineni et al. 2002; ROUGE-L: Lin 2004; CIDEr: Vedantam, Zitnick and Parikh 2015
(their CIDEr-D, as everywhere on COCO); METEOR: Denkowski and Lavie 2014; the evaluation: Chen et al.
2015, "Microsoft COCO Captions: Data Collection and Evaluation Server".
"""

import json
import operator
import re
import shutil
import subprocess
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfcap.data.coco import check_split, decode_captions
from visualization.cli.output import OutputFolder

METRICS = ("BLEU", "ROUGE-L", "CIDEr")
METEOR_SECONDS = 600
CHUNK = 1024  # rows of features that are compared with as many others at a time

_WRITTEN_AS = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}  # curved quotes
    | {"\u2013": "--", "\u2014": "--", "\u2026": "...", "\u00ad": ""}  # dashes, dots, soft hyphen
    | {"½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "£": " # ", "€": " $ ", "¢": " cents "}
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_HALVES = ("can not", "gon na", "got ta", "wan na", "gim me", "lem me", "'t is", "'t was")
_SPLIT = {word.replace(" ", ""): word.split() for word in _HALVES}
_ABBREVIATION = (
    r"mr|mrs|ms|dr|prof|rev|hon|capt|col|gen|lt|maj|sgt|gov|sen|rep|pres|jr|sr|esq|bros|co|corp|inc"
    r"|ltd|st|ave|rd|blvd|mt|ft|bldg|dept|univ|etc|vs|est|ext|tel|al|cf|sq|ph\.d"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri"
)
_TOKEN = re.compile(
    rf"""
      <\w+>                                               # <unk>
    | 'n' | '(?:tis|twas|cause|til|em|n)(?!\w)            # rock 'n' roll, 'em
    | (?<!\w)'(?:[0-9]0s|[0-9][0-9])(?![:.,]?\w|['%])     # the '90s, of '68
    | '(?:s|m|d|re|ve|ll)(?!\w) | n't(?!\w)               # the ends of man's, I'm, don't
    | [a-z0-9]+(?:-[a-z]+){{0,2}}(?:/[a-z0-9]+(?:-[a-z]+){{0,2}}){{1,2}}  # and/or, 1/2
    | [a-z0-9][a-z0-9.,]*(?:-[a-z0-9]+)+                  # t-shirt, 3.5-inch
    | (?:{_ABBREVIATION}|[a-z](?:\.[a-z])+)\.(?![^\W\d])  # Mr., U.S., p.m.
    | [a-z]\.(?![^\W\d]|\s*$)                             # J. P. Morgan
    | no\.(?=\s*[0-9])                                    # No. 5
    | (?:[a-z]+-)*[dol]'[^\W\d_]{{2,}} | ma'am | y'(?=all)  # O'Brien, o'clock
    | (?-i:[A-Z]+(?:&[A-Z]+)+)                            # AT&T
    | [0-9]*(?:[.,:][0-9]+)+ | (?<![\w-])[-+][0-9]+       # 1,000, 3.5, 10:30, -5
    | (?:(?!n't)[^\W\d_])+(?:[.!?][^\W\d_]+)+             # end.The, as typed in haste
    | (?:(?!n't(?!\w))\w)+
    | [@#][a-z]\w* | [!?]{{2,}}                           # @home, ?!
    | [^\w\s'"`.?!,:;\u200b\U00010000-\U0010ffff-]        # &, %, $
    """,
    re.VERBOSE | re.IGNORECASE,
)


def tokenize(sentence: str) -> list[str]:
    """The words of a sentence as COCO's evaluation counts them, in lower case.

    COCO's evaluation runs Stanford's PTBTokenizer (CoreNLP 3.4.1, -preserveLines -lowerCase), then
    leaves out the tokens '' ' `` ` . ? ! , : - -- ... ; of what it gives. The rules of both:

    - Endings are words of their own: man 's, I 'm, they 're, do n't, ca n't; so are the halves of
      can not, gon na, got ta, wan na, gim me, lem me, 't is, 't was. Curved quotes count as straight.
    - Words joined by hyphens or slashes are one word (t-shirt, merry-go-round, and/or, 1/2); so are
      O'Brien, o'clock, 'em, the '90s, and AT&T in capitals. Any other apostrophe ends a word.
    - Numbers keep their inner points, commas and colons (3.5, 1,000, 10:30) and a sign in front.
    - A full stop belongs to an abbreviation (Mr., St., U.S., p.m.) and to a single letter before
      other words (J. P. Morgan); it joins two words that no space parts (end.The), as ! and ? do;
      else it is left out. (At the end of a line the PTB tokeniser judges a single letter by the
      line after it. Ours never has the stop there, as when A or The follows.)
    - ( ) [ ] { } become -lrb- -rrb- -lsb- -rsb- -lcb- -rcb- and stay, as COCO leaves these out in
      capitals only, which the tokeniser no longer writes.
    - $ % & # / + = * and their like are words; #tag and @name are one word each, and so are two or
      more of ! and ?. Characters beyond U+FFFF (emoji) are left out.

    Addresses of web and mail, smileys and telephone numbers, rare in captions, are not followed.
    """
    tokens = []
    for found in _TOKEN.findall(sentence.translate(_WRITTEN_AS)):
        token = found.lower()
        tokens += _SPLIT.get(token) or [_BRACKETS.get(token, token)]
    return tokens


def score_captions(
    predictions: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    metrics: Iterable[str] = METRICS,
) -> dict[str, float]:
    """Scores the sentences of a whole set of images, on the words that `tokenize` finds.

    An image without a prediction counts as one whose prediction is empty, and that scores 0 in every
    metric. A single image scores 0 in CIDEr, which weighs a word by how few of the images have it.
    References without a word are left out.

    Args:
        predictions: a sentence for each image.
        references: one or more sentences for each image.
        metrics: of "BLEU" (gives BLEU-1 to BLEU-4), "ROUGE-L", "CIDEr" and "METEOR", which runs
            Java for seconds to minutes.

    Returns:
        The scores by name: BLEU, ROUGE-L and METEOR lie between 0 and 1, CIDEr between 0 and 10.

    Raises:
        ValueError: there is no image; a prediction is for an image without references; an image has no
            reference with a word in it; there is no such metric.
        TypeError: a prediction is no string, or the references of an image are no list of strings.
        ImportError: pycocoevalcap is not installed.
        OSError: METEOR is wanted and Java is missing or fails.
    """
    metrics = list(metrics)
    unknown = [metric for metric in metrics if metric not in (*METRICS, "METEOR")]
    if unknown:
        raise ValueError(
            f"there is no metric {unknown[0]!r}: choose from {', '.join(METRICS)}, METEOR"
        )
    truths, candidates = _words(predictions, references)
    scorers = _scorers()
    scores = {}
    for metric in metrics:
        if metric == "METEOR":
            scores[metric] = _meteor(truths, candidates)
        elif metric == "BLEU":
            bleu, _ = scorers[metric].compute_score(truths, candidates, verbose=0)
            scores |= {f"BLEU-{n}": float(score) for n, score in enumerate(bleu, start=1)}
        else:
            scores[metric] = float(scorers[metric].compute_score(truths, candidates)[0])
    return scores


def check_installed(metrics: Iterable[str] = METRICS) -> None:
    """Finds out before long work whether `score_captions` can compute these metrics.

    Raises:
        ImportError: pycocoevalcap is not installed.
        FileNotFoundError: METEOR is wanted and Java is missing.
    """
    _scorers()
    if "METEOR" in metrics:
        _java()


def distinct_share(predictions: Mapping[Any, str]) -> float:
    """How many different sentences there are, as a share of the predictions: near 0 for a parrot.

    Raises:
        ValueError: there is no prediction.
    """
    spoken = _spoken(predictions)
    return len(spoken) / spoken.total()


def copied_share(predictions: Mapping[Any, str], training_captions: Iterable[str]) -> float:
    """The share of the predictions that stand word for word in the training set.

    Args:
        training_captions: sentences; may be a generator, none is kept.

    Raises:
        ValueError: there is no prediction.
    """
    spoken = _spoken(predictions)
    copied = {words for words in map(_joined, training_captions) if words in spoken}
    return sum(spoken[words] for words in copied) / spoken.total()


def shuffled_cider(
    predictions: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    seed: int = 0,
) -> float:
    """CIDEr when every image gets the sentence of another image: what remains needed no looking.

    The permutation is one cycle through all images, drawn by the seed, so that no image keeps its own.

    Raises:
        ValueError: there are fewer than two images; and as `score_captions`.
    """
    images = sorted(references, key=str)
    if len(images) < 2:
        raise ValueError(f"shuffling takes at least two images, received {len(images)}")
    order = np.random.default_rng(seed).permutation(len(images))
    others = np.roll(order, 1)
    given = {images[k]: predictions.get(images[j], "") for k, j in zip(order, others, strict=True)}
    unknown = {image: predictions[image] for image in predictions if image not in references}
    return score_captions(given | unknown, references, ["CIDEr"])["CIDEr"]


def nearest_neighbour_captions(
    features: Any,
    training_features: Any,
    training_captions: Mapping[int, Sequence[str]],
    neighbours: int = 60,
) -> list[str]:
    """What looking up says: for each image a caption of the training images that are most like it.

    It is, of all captions of these neighbours, the one that is most like all of them (Devlin et al.
    2015, "Exploring Nearest Neighbor Approaches for Image Captioning"). Images are alike by the cosine
    of their features, captions by that of their words and pairs of words, each weighed by the logarithm
    of how few training images have it. A captioner that does not beat this has learnt little more.

    Args:
        features: (N, D), an array or one that is read from a file as it is indexed.
        training_features: (M, D), likewise.
        training_captions: the sentences of the training images that have any, by their row.
        neighbours: how many training images are looked up, at most all of them.

    Raises:
        ValueError: the widths differ, there is no training caption, a row is not among the features, or
            `neighbours` is below 1.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}, expected 1 or more")
    if len(features.shape) != 2 or features.shape[1:] != training_features.shape[1:]:
        raise ValueError(
            f"the features have shape {tuple(features.shape)} and the training features "
            f"{tuple(training_features.shape)}, expected (N, D) and (M, D)"
        )
    captions = [
        (row, caption, words)
        for row in sorted(training_captions)
        for caption in training_captions[row]
        if (words := tokenize(caption))
    ]
    if not captions or captions[0][0] < 0 or captions[-1][0] >= len(training_features):
        raise ValueError(
            f"there are {len(captions)} training captions, expected some, all of the rows 0 to "
            f"{len(training_features) - 1} of the training features"
        )
    rows, first = np.unique([row for row, _, _ in captions], return_index=True)
    vectors = _caption_vectors([(row, words) for row, _, words in captions])
    # where the captions of each image lie in the vectors
    bounds = np.searchsorted(vectors.caption, [*first, len(captions)])
    found = []
    for start in range(0, len(features), CHUNK):
        some = features[start : start + CHUNK]
        for near in _most_alike(some, training_features, rows, neighbours):
            parts = [slice(bounds[image], bounds[image + 1]) for image in near]
            found.append(captions[vectors.most_central(parts)][1])
    return found


def read_coco_results(path: str | Path) -> dict[int | str, str]:
    """The sentences of a COCO result file, by image id.

    Such a file is a list: `[{"image_id": 391895, "caption": "a man on a horse"}, ...]`.

    Raises:
        ValueError: it is not such a file; the sentence says where.
        OSError: it cannot be read.
    """
    entries = _read_json(Path(path))
    if not isinstance(entries, list):
        like_annotations = isinstance(entries, dict) and "annotations" in entries
        held = "COCO annotations" if like_annotations else f"a JSON {type(entries).__name__}"
        raise ValueError(
            f'{path}: holds {held}, expected COCO results: a list of {{"image_id", "caption"}}'
        )
    predictions: dict[int | str, str] = {}
    for number, entry in enumerate(entries):
        result = _result(entry)
        if result is None:
            shown = json.dumps(entry)
            raise ValueError(
                f"{path}: entry {number} is {shown[:80]}{'...' * (len(shown) > 80)}, expected "
                '{"image_id": a whole number or a string, "caption": a string}'
            )
        image, caption = result
        if image in predictions:
            raise ValueError(f"{path}: image_id {image!r} has two captions, one in entry {number}")
        predictions[image] = caption
    return predictions


def write_coco_results(path: str | Path, predictions: Mapping[Any, str]) -> None:
    """Writes sentences as a COCO result file, whole or not at all.

    Args:
        predictions: the ids are whole numbers or strings.

    Raises:
        TypeError: an id or a sentence is of another type.
        OSError: it cannot be written.
    """
    entries = []
    for image, caption in predictions.items():
        if not isinstance(caption, str) or isinstance(image, bool):
            raise TypeError(f"image {image!r} has {caption!r}, expected an id and a string")
        number = image if isinstance(image, str) else operator.index(image)
        entries.append(json.dumps({"image_id": number, "caption": caption}))
    path = Path(path)
    text = "[\n" + ",\n".join(entries) + "\n]\n"
    OutputFolder(path.parent).write(path.name, text.encode())


def references_by_image(data: Mapping[str, Any], split: str) -> dict[int, list[str]]:
    """The sentences of each image of a split that has any, by its row in the features.

    They are the sentences as they were written, from the annotations ``NAME_SPLIT_captions.json`` that
    `tfcap.datasets` keeps beside the captions. Where there are none, as in the course's folder, they
    are the captions decoded, in which rare words are ``<UNK>`` and long sentences cut.

    Args:
        data: what `load_coco_data` gives.

    Raises:
        ValueError: there is no such split, or the annotations are damaged or of other images.
        OSError: they cannot be read.
    """
    check_split(data, split)
    file = annotations_file(data, split)
    pairs: Iterable[tuple[int, str]]
    if file is None:
        images = np.asarray(data[f"{split}_image_idxs"]).tolist()
        sentences = decode_captions(np.asarray(data[f"{split}_captions"]), data["idx_to_word"])
        pairs = zip(images, sentences, strict=True)
    else:
        pairs = _annotations(file, len(data[f"{split}_features"]))
    references: dict[int, list[str]] = {}
    for image, sentence in pairs:
        references.setdefault(image, []).append(sentence)
    return references


def annotations_file(data: Mapping[str, Any], split: str) -> Path | None:
    """The file of a split's sentences as they were written, if the folder keeps one."""
    lines = getattr(data[f"{split}_urls"], "path", None)
    if lines is None or not lines.name.endswith("_images.txt"):
        return None
    file = lines.with_name(lines.name.removesuffix("images.txt") + "captions.json")
    return file if file.is_file() else None


def _annotations(path: Path, images: int) -> Iterator[tuple[int, str]]:
    """Image and sentence of each of COCO's annotations."""
    content = _read_json(path)
    entries = content.get("annotations") if isinstance(content, dict) else None
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        image, caption = _result(entry) or (None, "")
        if not isinstance(image, int) or not 0 <= image < images:
            raise ValueError(
                f"{path}: annotation {number} is not the caption of an image from 0 to {images - 1}: "
                "build the folder again"
            )
        yield image, caption


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, absurd numbers, absurd depth
        raise ValueError(f"{path}: is not JSON: {error}") from error


def _joined(sentence: str) -> str:
    return " ".join(tokenize(sentence))


def _spoken(predictions: Mapping[Any, str]) -> Counter[str]:
    if not predictions:
        raise ValueError("there is no prediction to judge")
    return Counter(map(_joined, predictions.values()))


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
            raise ValueError(
                f"image {image!r} has no reference with a word in it: leave the image out"
            )
    return truths, {image: [_joined(predictions.get(image, ""))] for image in references}


def _scorers() -> dict[str, Any]:
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise ImportError(
            "scoring captions needs pycocoevalcap (100 MB): pip install pycocoevalcap==1.2"
        ) from error
    return {"BLEU": Bleu(4), "ROUGE-L": Rouge(), "CIDEr": Cider()}


def _meteor(truths: Mapping[Any, Sequence[str]], candidates: Mapping[Any, Sequence[str]]) -> float:
    """METEOR 1.5 by its own program, in one run that ends; pycocoevalcap's way leaves Java waiting."""
    from pycocoevalcap.meteor import meteor

    most = max(map(len, truths.values()))
    lines = []
    for sentences in truths.values():  # a repeated reference changes nothing
        lines += [*sentences, *[sentences[-1]] * (most - len(sentences))]
    with tempfile.TemporaryDirectory() as folder:
        said, true = Path(folder, "predictions"), Path(folder, "references")
        said.write_text("".join(f"{one}\n" for [one] in candidates.values()), encoding="utf-8")
        true.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
        command = [_java(), "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar"]
        command += [str(Path(meteor.__file__).with_name(meteor.METEOR_JAR)), str(said), str(true)]
        command += ["-l", "en", "-norm", "-r", str(most)]
        try:
            ran = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=METEOR_SECONDS,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"METEOR was stopped after {METEOR_SECONDS} seconds") from error
    found = re.search(r"^Final score:\s+(\S+)$", ran.stdout, re.MULTILINE)
    if ran.returncode or not found:
        last = (ran.stderr or ran.stdout).strip().splitlines()[-1:]
        raise OSError(f"METEOR's Java program failed (status {ran.returncode}): {''.join(last)}")
    return float(found[1])


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise FileNotFoundError(
            "METEOR needs Java, but no java is on the PATH: install it or do without"
        )
    return java


def _unit(features: Any) -> np.ndarray:
    features = np.asarray(features, dtype=np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(length, np.finfo(np.float32).tiny)


def _result(entry: Any) -> tuple[int | str, str] | None:
    """The id and the caption of an entry of a COCO result file, if it is one."""
    if not isinstance(entry, dict):
        return None
    image, caption = entry.get("image_id"), entry.get("caption")
    if not isinstance(image, int | str) or isinstance(image, bool) or not isinstance(caption, str):
        return None
    return image, caption


def _most_alike(
    features: np.ndarray, training_features: Any, rows: np.ndarray, count: int
) -> np.ndarray:
    """For each image the places in `rows` of the most similar training images: (n, count), rising."""
    mine = _unit(features)  # (n, D)
    likeness = np.empty((len(mine), 0), np.float32)
    place = np.empty((len(mine), 0), np.int64)
    for start in range(0, len(rows), CHUNK):
        theirs = _unit(training_features[rows[start : start + CHUNK]])  # (m, D)
        likeness = np.concatenate([likeness, mine @ theirs.T], axis=1)
        new = np.broadcast_to(np.arange(start, start + len(theirs)), (len(mine), len(theirs)))
        place = np.concatenate([place, new], axis=1)
        if likeness.shape[1] > count:
            best = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            likeness = np.take_along_axis(likeness, best, axis=1)
            place = np.take_along_axis(place, best, axis=1)
    return np.sort(place, axis=1)


class _Vectors(NamedTuple):
    """Sparse vectors of length 1, one a caption: entry e of caption[e] at gram[e] is weight[e]."""

    caption: np.ndarray  # rising
    gram: np.ndarray
    weight: np.ndarray

    def most_central(self, parts: Sequence[slice]) -> int:
        """The caption with the largest mean cosine to all captions of the parts."""
        caption, gram, weight = (np.concatenate([a[part] for part in parts]) for a in self)
        _, gram = np.unique(gram, return_inverse=True)
        captions, caption = np.unique(caption, return_inverse=True)
        total = np.bincount(gram, weight)
        return int(captions[np.bincount(caption, weight * total[gram]).argmax()])


def _caption_vectors(captions: Sequence[tuple[int, list[str]]]) -> _Vectors:
    """The vectors of captions, given by their image's row and their words."""
    numbers: dict[Any, int] = {}
    grams, counts = array("q"), array("q")
    for _, words in captions:
        once = dict.fromkeys([*words, *pairwise(words)])
        grams.extend(numbers.setdefault(gram, len(numbers)) for gram in once)
        counts.append(len(once))
    caption, gram = np.repeat(np.arange(len(captions)), counts), np.array(grams)
    rows, image = np.unique([row for row, _ in captions], return_inverse=True)
    seen = np.unique(gram * len(rows) + image[caption]) // len(rows)  # once an image that has it
    weight = np.log((1 + len(rows)) / np.bincount(seen))[gram]
    length = np.sqrt(np.bincount(caption, weight**2))
    return _Vectors(caption, gram, weight / length[caption])
