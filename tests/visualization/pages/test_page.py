import base64
import json
import re

import numpy as np
import pytest

from tests.visualization.pages.browser import CHROMIUM, Browser
from visualization.images.reading import decode_image
from visualization.pages.page import (
    Layer,
    Section,
    data_uri,
    index_page,
    report_page,
    table,
    text,
    viewer,
)
from visualization.plotting import colored_map

HOSTILE = """<script>alert("x")</script>' onerror='x' &amp; \u202egpj.exe \udcff"""
PHOTOGRAPH = np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8)
ELSEWHERE = re.compile(
    r"""(?:src|href|action)\s*=\s*["']?+(?!#|data:|\w+-report)|url\((?!data:)|@import"""
)


def layers(classes=("bow tie", "suit"), methods=("saliency", "grad-cam")):
    rising = np.linspace(0, 1, 1200).reshape(30, 40)
    return [
        Layer({"Class": one, "Map": method}, colored_map(rising), f"{method} of {one}", "as it is")
        for one in classes
        for method in methods
    ]


@pytest.fixture
def page(tmp_path):
    """A page with a viewer of two classes by two maps."""
    path = tmp_path / "a-report.html"
    parts = [Section("What it sees", viewer("maps", PHOTOGRAPH, layers()))]
    path.write_bytes(report_page("a.jpg", PHOTOGRAPH, parts, {"seed": "0"}))
    return path


def test_what_comes_from_files_and_models_is_never_markup():
    parts = [
        Section(HOSTILE, text(HOSTILE)),
        Section("maps", viewer("maps", PHOTOGRAPH, layers((HOSTILE,), (HOSTILE,)))),
        Section("table", table((HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)], HOSTILE)),
    ]
    entry = (HOSTILE, HOSTILE, HOSTILE, data_uri(PHOTOGRAPH))
    report = report_page(HOSTILE, PHOTOGRAPH, parts, {HOSTILE: HOSTILE}).decode()
    index = index_page(HOSTILE, [entry]).decode()
    for made, times in (report, 14), (index, 5):
        assert made.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#x27;") >= times
        assert made.count("<script") == 1
        assert "onerror='" not in made
        assert "\u202e" not in made


def test_a_page_refers_to_nothing_outside_it(page):
    assert not ELSEWHERE.search(page.read_text())
    assert "default-src 'none'" in page.read_text()
    assert ELSEWHERE.search('<img src="https://images.example/a.png">')


def test_a_picture_is_exact_where_that_is_asked_for_and_small_otherwise():
    encoded = data_uri(PHOTOGRAPH, exact=True)
    np.testing.assert_array_equal(decoded(encoded), PHOTOGRAPH)
    assert decoded(data_uri(PHOTOGRAPH, 20)).shape == (15, 20, 3)


def decoded(uri):
    return decode_image(base64.b64decode(uri.partition(",")[2]), "picture")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian and Ubuntu: apt install chromium)")
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


def shown(browser):
    """The names of the pictures that are to be seen."""
    return [name for role, name in browser.accessible() if role == "image" and " of " in name]


def test_in_a_browser_maps_are_chosen_by_keyboard_and_told_to_screen_readers(browser, page):
    browser.resize(1200, 900)
    browser.open(page)
    assert shown(browser) == ["saliency of bow tie"]
    told = browser.accessible()
    for role, name in [
        ("heading", "a.jpg"),
        ("navigation", "Contents"),
        ("image", "the photograph"),
        ("region", "What it sees"),
        ("group", "Class"),
        ("radio", "suit"),
        ("group", "Map"),
        ("radio", "grad-cam"),
        ("slider", "Opacity of the map"),
    ]:
        assert (role, name) in told
    assert ("rowheader", "seed") not in told
    browser.press("Tab", 3)  # past the two links of the contents, to the class
    browser.press("ArrowDown")
    assert shown(browser) == ["saliency of suit"]
    browser.press("Tab")
    browser.press("ArrowDown")
    assert shown(browser) == ["grad-cam of suit"]
    browser.press("Tab")
    browser.press("ArrowLeft", 8)
    opacity = "getComputedStyle(document.querySelector('figure:not([hidden]) .map')).opacity"
    assert browser.run(opacity) == "0.6"
    browser.press("Tab")
    browser.press(" ")
    assert ("rowheader", "seed") in browser.accessible()
    assert {address.partition(":")[0] for address in browser.requests} == {"file", "data"}


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_screen_whatever_the_names(browser, tmp_path, width):
    name, path = "w" * 255, tmp_path / "long.html"
    parts = [Section(name, viewer("maps", PHOTOGRAPH, layers((name, "suit"), (name, "saliency"))))]
    path.write_bytes(report_page(name, PHOTOGRAPH, parts, {"photograph": name}))
    browser.resize(width, 800)
    browser.open(path)
    browser.run("document.querySelector('details').open = true")
    wide, there = browser.run(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= there


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_dark_where_the_reader_wants_that(browser, page, dark):
    browser.resize(360, 800, dark)
    browser.open(page)
    colours = json.loads(
        browser.run(
            "JSON.stringify(['backgroundColor', 'color'].map(what => "
            "getComputedStyle(document.querySelector('section'))[what].match(/\\d+/g).map(Number)))"
        )
    )
    paper, ink = (np.array(colour[:3]) @ [0.2126, 0.7152, 0.0722] for colour in colours)
    assert (ink > paper) == dark
    assert abs(ink - paper) > 150


def test_without_javascript_every_map_is_there(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    assert len(shown(browser)) == 4
    assert "slider" not in [role for role, _ in browser.accessible()]
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
