"""The picture of a run: every ratio as a bar, its promise as a mark; and how times grow with size."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, NullLocator

from . import growth
from .timing import NOISY, Row

WIDTH, LINE, PANELS = 10, 0.2, 4  # inches: the picture's width, a bar's height, the panels' height
KEPT, MISSED, UNPROMISED = "#2e7d5b", "#c0392b", "#8fa3b3"


def draw(rows: Sequence[Row], about: str) -> Figure:
    """Ratios above, growth below, where there are any; `about` says on which machine."""
    compared = [row for row in rows if not row.case.startswith(growth.NAME)]
    growing = [row for row in rows if row.case.startswith(growth.NAME)]
    heights = []
    if compared:
        heights.append(LINE * len(compared) + 1.2)
    if growing:
        heights.append(PANELS)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.3), layout="constrained")
    parts = list(figure.subfigures(len(heights), squeeze=False, height_ratios=heights)[:, 0])
    if compared:
        draw_ratios(parts.pop(0).subplots(), compared)
    if growing:
        draw_growth(parts.pop(0), growing)
    figure.supxlabel(about, fontsize=7, color="dimgray")
    return figure


def draw_ratios(axes: Axes, rows: Sequence[Row]) -> None:
    """A heading for each case, and under it a bar from 1, this project, for each peer."""
    labels = []
    headings = list(dict.fromkeys(row.case for row in rows))
    for case in headings:
        labels.append(case)
        first, *peers = [row for row in rows if row.case == case]
        for row in peers if first.at_most is None else [first, *peers]:
            y, promised = len(labels), row.at_least or row.at_most
            colour = MISSED if row.missed else UNPROMISED if promised is None else KEPT
            axes.barh(y, row.ratio - 1, left=1, color=colour, alpha=0.4 if row.noisy else 1)
            if promised is not None:
                axes.plot([promised, promised], [y - 0.4, y + 0.4], color="black", linewidth=2)
            end = max(row.ratio, 1, promised or 1)
            axes.text(end * 1.05, y, f"{row.ratio:.2f}", fontsize=7, va="center")
            labels.append(row.contender)
    promises = [promised for row in rows if (promised := row.at_least or row.at_most)]
    ends = [1.0, *(row.ratio for row in rows), *promises]
    axes.set(xscale="log", xlim=(min(ends) / 1.2, max(ends) * 1.4), ylim=(len(labels) - 0.4, -0.6))
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    for tick in axes.yaxis.get_major_ticks():
        if tick.label1.get_text() in headings:
            tick.label1.set_fontweight("bold")
            tick.tick1line.set_visible(False)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    _plain(axes.xaxis)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(
        "times as long, or as much memory, as this project takes\n"
        f"(mark: promised; green: kept; red: missed; grey: no promise; pale: spread above {NOISY:.0%})",
        fontsize=8,
    )


def draw_growth(part: SubFigure, rows: Sequence[Row]) -> None:
    """A panel for each size that grows, a line for each contender."""
    panels = part.subplots(1, len(growth.GROWTH), sharey=True)
    for axes, (letter, values) in zip(panels, growth.GROWTH.items(), strict=True):
        for contender in dict.fromkeys(row.contender for row in rows):
            cases = [growth.name(letter, value) for value in values]
            times = [row.median for row in rows if row.case in cases and row.contender == contender]
            axes.loglog(values, times, marker="o", label=contender)
        others = ", ".join(f"{key} {size}" for key, size in growth.START.items() if key != letter)
        axes.set_xlabel(f"{letter} ({others})")
        axes.set_xticks(values, [str(value) for value in values])
        axes.xaxis.set_minor_locator(NullLocator())
        _plain(axes.yaxis)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(frameon=False)
    part.suptitle("LSTM, forward and all gradients")


def _plain(axis: Axis) -> None:
    """A logarithmic axis with numbers as one writes them."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
