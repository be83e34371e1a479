"""The arguments of `caption` and `evaluate` that say how sentences are made."""

import argparse
from typing import Any

from tfcap.pretrained import MAX_DECODING
from visualization.cli.arguments import number

__all__ = ["add_decoding_arguments", "given_decoding"]


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--beam``, ``--length-penalty``, ``--no-repeat``, ``--temperature`` and ``--top-p``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_decoding_arguments(parser)
        >>> parser.parse_args(["--beam", "5"]).beam
        5
    """
    add = parser.add_argument
    add(
        "--beam",
        type=number(int, 1, MAX_DECODING),
        metavar="B",
        help="how many beginnings the search follows (default: the captioner's; 1: greedy)",
    )
    add(
        "--length-penalty",
        type=number(float, 0, MAX_DECODING),
        metavar="P",
        help="how much longer sentences are favoured, 0 to about 1 (default: the captioner's)",
    )
    add(
        "--repeat",
        action=argparse.BooleanOptionalAction,
        help="whether three words in a row may occur twice in a sentence (default: the captioner's)",
    )
    add(
        "--temperature",
        type=number(float, 0.01, 100),
        metavar="T",
        help="draw each word, in place of the search: below 1 likelier ones, above 1 rarer ones",
    )
    add(
        "--top-p",
        type=number(float, 0, 1, excluding=(0,)),
        metavar="P",
        help="draw among the fewest words whose probabilities reach P, by default at temperature 1",
    )


def given_decoding(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, as `CaptioningRNN.decoding_with` takes it.

    Raises:
        ValueError: words are to be drawn and searched for.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_decoding_arguments(parser)
        >>> given_decoding(parser.parse_args(["--top-p", "0.9", "--no-repeat"]))
        {'block_trigrams': True, 'temperature': 1.0, 'top_p': 0.9}
    """
    search = {"beam_size": arguments.beam, "length_penalty": arguments.length_penalty}
    drawing = {"temperature": arguments.temperature, "top_p": arguments.top_p}
    drawn = any(value is not None for value in drawing.values())
    if drawn and any(value is not None for value in search.values()):
        raise ValueError(
            "--temperature and --top-p draw words, --beam and --length-penalty search for the "
            "likeliest: give those of one kind"
        )
    if drawn and arguments.temperature is None:
        drawing["temperature"] = 1.0
    block = None if arguments.repeat is None else not arguments.repeat
    given = {**search, "block_trigrams": block, **drawing}
    return {name: value for name, value in given.items() if value is not None}
