"""Texts of every script are drawn with a font that has their letters, where one is installed."""

import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from tfcap.plotting import caption_figure
from visualization.fonts import fonts_with
from visualization.plotting import png


def charmap(family):
    return set(font_manager.get_font(font_manager.findfont(family)).get_charmap())


def test_a_letter_that_the_font_lacks_comes_from_one_that_has_it():
    only = charmap("STIXGeneral") - charmap("DejaVu Sans")
    letter = next(chr(code) for code in sorted(only) if chr(code).isprintable())
    found = fonts_with(f"a {letter}")
    assert len(found) == 1
    assert ord(letter) in charmap(found[0])
    figure = Figure()
    text = figure.text(0, 0, letter, parse_math=False)
    png(figure)
    assert text.get_fontfamily()[-1] == found[0]


def test_no_font_is_looked_for_where_the_own_one_has_the_letters(monkeypatch):
    monkeypatch.setattr(font_manager.fontManager, "ttflist", None)
    assert fonts_with("ein schöner Hund") == []


@pytest.mark.parametrize("sentence", ["एक कुत्ता", "一只 狗", "كلب", "\U0010fffd"])
def test_no_warning_is_given_of_letters_that_no_font_has(sentence):
    figure = caption_figure(np.zeros((40, 60, 3), np.uint8), [sentence], [-1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png(figure)
