"""How a layer's time grows with N, T and H, beside Keras's, PyTorch's and the products alone."""

from collections.abc import Iterator

from .recurrent import FLOOR, in_torch, ours, products, theirs, torch
from .timing import INSTALL, Case

NAME = "growth of an LSTM"
START = {"N": 64, "T": 16, "D": 256, "H": 256}
GROWTH = {"N": (8, 32, 128), "T": (8, 32, 128), "H": (128, 256, 512)}


def cases() -> Iterator[Case]:
    """Every size once; nothing is promised of one."""
    for letter, values in GROWTH.items():
        for value in values:
            sizes = tuple({**START, letter: value}.values())
            contenders = {
                "tfcap": ours("LSTM", sizes),
                "keras": theirs("LSTM", sizes),
                FLOOR: products("LSTM", sizes),
            }
            if torch is not None:
                contenders["torch"] = in_torch("LSTM", sizes)
            missing = {} if torch is not None else {"torch": INSTALL}
            yield Case(name(letter, value), contenders, rounds=3, missing=missing)


def name(letter: str, value: int) -> str:
    """What the case with this size is called."""
    return f"{NAME}, {letter} = {value}"
