"""Finds fonts that have the letters of a figure's texts, of whichever script."""

import contextlib
import warnings
from collections.abc import Iterator

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ["drawing_every_letter", "fonts_with"]


@contextlib.contextmanager
def drawing_every_letter(figure: Figure) -> Iterator[None]:
    """While the block draws the figure, texts take letters that their font lacks from another one.

    A letter that no installed font has is a box, without a warning.

    Example:
        >>> figure = Figure()
        >>> with drawing_every_letter(figure):
        ...     figure.canvas.draw()
    """
    for text in figure.findobj(Text):
        if more := fonts_with(text.get_text(), text.get_fontproperties()):
            text.set_fontfamily([*text.get_fontfamily(), *more])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support")
        yield


def fonts_with(text: str, font: font_manager.FontProperties | None = None) -> list[str]:
    """The families, as few as needed, of installed fonts that have the letters that `font` lacks.

    Example:
        >>> fonts_with("a dog")
        []
    """
    missing = {ord(letter) for letter in text if not letter.isascii()}
    if missing:
        missing -= _letters(font_manager.findfont(font or font_manager.FontProperties()))
    families = []
    for entry in font_manager.fontManager.ttflist if missing else []:
        # the last resort draws boxes with a letter's number in them
        usable = (entry.style, entry.weight) == ("normal", 400) and "Last Resort" not in entry.name
        found = missing & _letters(entry.fname) if usable else set()
        if found:
            families.append(entry.name)
            missing -= found
        if not missing:
            break
    return families


def _letters(path: str) -> set[int]:
    """The code points of a font; none if it cannot be read."""
    try:
        return set(font_manager.get_font(path).get_charmap())
    except Exception:  # FreeType raises several kinds
        return set()
