"""The arguments that several commands take."""

import argparse
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

from visualization.cli.methods import BY_DEFAULT, METHODS
from visualization.files.printable import escaped
from visualization.networks import NETWORKS

__all__ = ["Parser", "check_name", "number"]


class Parser(argparse.ArgumentParser):
    """An argument parser that can add the arguments that several commands take.

    Example:
        >>> parser = Parser(prog="draw")
        >>> parser.add_common_arguments()
        >>> parser.parse_args(["--seed", "3", "--out", "drawings"]).seed
        3
    """

    def error(self, message: str) -> NoReturn:
        super().error(escaped(message))

    def add_network_arguments(
        self, several: bool = False, makes: str = "one picture that serves them all"
    ) -> None:
        """Adds ``--network``, ``--weights``, ``--convention``, ``--model`` and ``--input-size``.

        Args:
            several: ``--network`` takes several names.
            makes: what several are for.
        """
        self.add_argument(
            "--network",
            choices=NETWORKS,
            nargs="+" if several else None,
            help=f"the bundled network to look at (default: {NETWORKS[0]})"
            + f"; or several, for {makes}" * several,
        )
        network = self.add_mutually_exclusive_group()
        network.add_argument(
            "--weights",
            default="imagenet",
            metavar="FILE",
            help="a checkpoint of that network in any form (default: the bundled ImageNet weights)",
        )
        network.add_argument(
            "--model",
            metavar="FILE.py:FUNCTION",
            help="your own Keras model: a function that returns (model, preprocess, bounds, names); "
            "the file is run",
        )
        self.add_argument(
            "--input-size",
            type=number(int, 1),
            nargs=2,
            metavar=("HEIGHT", "WIDTH"),
            help="of the images, for a --model that takes any size (default: 224 224)",
        )
        self.add_convention_argument()

    def add_convention_argument(self) -> None:
        """Adds ``--convention``, the input that the weights of a file are for."""
        self.add_argument(
            "--convention",
            metavar="course|caffe",
            help="the input that SqueezeNet's weights in the file are for: the course's RGB/mean/std, "
            "or Caffe's BGR, which is folded in (default: as the file says, or its first kernels show)",
        )

    def add_method_argument(self) -> None:
        """Adds ``--method``, the maps to draw."""
        self.add_argument(
            "--method",
            nargs="+",
            choices=tuple(METHODS),
            default=list(BY_DEFAULT),
            help=f"some of {' '.join(METHODS)} (default: {' '.join(BY_DEFAULT)})",
        )

    def add_gif_argument(self) -> None:
        """Adds ``--gif``, for a run to check with `check_name`."""
        self.add_argument(
            "--gif", metavar="NAME", help="also write the run into --out, as a GIF of this name"
        )

    def add_common_arguments(self) -> None:
        """Adds ``--seed``, ``--out`` and ``--quiet``."""
        self.add_argument(
            "--seed", type=number(int, 0, 2**32 - 1), default=0, help="default: %(default)s"
        )
        self.add_argument(
            "--out",
            type=Path,
            default=Path("out"),
            metavar="FOLDER",
            help="where the results go; made if missing (default: ./%(default)s)",
        )
        self.add_argument("--quiet", action="store_true", help="print errors only")


def check_name(option: str, name: str | None) -> None:
    """Raises ValueError for the name of a file in ``--out`` that names a folder too.

    Example:
        >>> check_name("--gif", "run.gif")
    """
    if name and Path(name).name != name:
        raise ValueError(f"{option} {name}: give a name only, the folder is what --out says")


_LARGEST = {int: 2**31 - 1, float: 3e38}


def number(
    kind: type, low: float, high: float = math.inf, *, excluding: Collection[float] = ()
) -> Callable[[str], Any]:
    """Makes an argparse type: a finite number from `low` to `high`.

    Args:
        kind: `int` or `float`.
        low, high: the range, both ends included; at most what int32 or float32 can hold unless given.
        excluding: numbers that are not allowed; (0,) with `low` 0 takes only what is above 0.

    Example:
        >>> number(int, 1, 9)("7")
        7
        >>> number(float, 0, 1, excluding=(0, 1))("1")
        Traceback (most recent call last):
        argparse.ArgumentTypeError: '1' is not a number above 0 and below 1
    """
    what = "a whole number" if kind is int else "a number"
    where = f"above {low:,}" if low in excluding else f"from {low:,}"
    if high < math.inf:
        where += f" and below {high:,}" if high in excluding else f" to {high:,}"
    elif low not in excluding:
        where = f"of at least {low:,}"

    most = high if high < math.inf else _LARGEST[kind]

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if most < value < math.inf and high == math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is more than {most:,}")
        if not (low <= value <= high and value < math.inf) or value in excluding:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} {where}")
        return value

    return convert
