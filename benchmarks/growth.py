"""How a layer's time grows with N, T and H: ``python -m benchmarks.growth FILE.png``."""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from .recurrent import FLOOR, in_torch, ours, products, theirs, torch
from .timing import Case, measure

START = {"N": 64, "T": 16, "D": 256, "H": 256}
GROWTH = {"N": (8, 32, 128), "T": (8, 32, 128), "H": (128, 256, 512)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", epilog="example: python -m benchmarks.growth lstm.png"
    )
    parser.add_argument("file", type=Path, help="where the picture goes")
    file = parser.parse_args().file
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for panel, (letter, values) in zip(panels, GROWTH.items(), strict=True):
        times: dict[str, list[float]] = {}
        for value in values:
            n, t, d, h = {**START, letter: value}.values()
            for row in measure(one(n, t, d, h)):
                times.setdefault(row.contender, []).append(row.median)
        for contender, milliseconds in times.items():
            panel.loglog(values, milliseconds, marker="o", label=contender)
        others = ", ".join(f"{key} {size}" for key, size in START.items() if key != letter)
        panel.set(xlabel=f"{letter} ({others})", xticks=values)
        panel.set_xticklabels([str(value) for value in values])
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(frameon=False)
    figure.suptitle("LSTM, forward and all gradients")
    figure.savefig(file)


def one(*sizes: int) -> Case:
    contenders = {
        "tfcap": ours("LSTM", sizes),
        "keras": theirs("LSTM", sizes),
        FLOOR: products("LSTM", sizes),
    }
    if torch is not None:
        contenders["torch"] = in_torch("LSTM", sizes)
    return Case(f"LSTM {sizes}", contenders, rounds=5)


if __name__ == "__main__":
    main()
