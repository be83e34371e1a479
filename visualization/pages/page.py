"""HTML pages that can be sent: one file, in which all pictures are, and which fetches nothing.

They are read without JavaScript too: it only adds the choice between pictures that lie over each other.
"""

import base64
import hashlib
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from visualization.files.printable import escaped

__all__ = ["Layer", "Section", "data_uri", "index_page", "report_page", "table", "text", "viewer"]

_TEMPLATES = Path(__file__).parent / "templates"
LARGEST = 640  # pixels: the longer side of a photograph in a page


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading, plain text.
        body: HTML. What comes from files, models and people must have gone through `text`.

    Example:
        >>> Section("What a dog <sees>", f"<p>{text('cats & dogs')}</p>").body
        '<p>cats &amp; dogs</p>'
    """

    title: str
    body: str


def report_page(
    title: str, photograph: np.ndarray, sections: Sequence[Section], facts: Mapping[str, str]
) -> bytes:
    """A page about one photograph.

    Args:
        title: plain text.
        photograph: uint8 (H, W, 3), of any size; its copy in the page has at most 640 pixels a side,
            and nothing of its file, neither EXIF nor where it was taken.
        sections: what was found, in their order.
        facts: settings, hashes and versions: name -> value, plain text.

    Returns:
        The content of an HTML file.

    Example:
        >>> black = np.zeros((2, 3, 3), np.uint8)
        >>> page = report_page("a.jpg", black, [Section("Seen", "<p>cat")], {"seed": "0"}).decode()
        >>> "<title>a.jpg</title>" in page, "http:" in page
        (True, False)
    """
    height, width = photograph.shape[:2]
    source = data_uri(photograph, LARGEST)
    lead = f'<img src="{source}" alt="the photograph"><p>{width:,} by {height:,} pixels</p>'
    details = f"<details><summary>Show them</summary>{table(None, facts.items())}</details>"
    return _page(title, lead, [*sections, Section("Settings and hashes", details)])


def index_page(title: str, entries: Sequence[tuple[str, str, str, str]]) -> bytes:
    """A page that leads to the pages of several photographs.

    Args:
        title: plain text.
        entries: for each photograph the file name of its page, its name, what is seen in it, and a
            small picture, as `data_uri` makes it.

    Example:
        >>> entry = ("a-report.html", "a.jpg", "cat 90%", data_uri(np.zeros((2, 3, 3), np.uint8), 96))
        >>> b'<a href="a-report.html">' in index_page("Two photographs", [entry, entry])
        True
    """
    links = [
        f'<li><a href="{text(page)}"><img src="{picture}" alt=""><span>{text(name)}</span></a> '
        f"<span>{text(seen)}</span></li>"
        for page, name, seen, picture in entries
    ]
    return _page(
        title, "", [Section("The photographs", f'<ul class="index">{"".join(links)}</ul>')]
    )


@dataclass(frozen=True)
class Layer:
    """A picture that lies over a photograph, one of several to choose from.

    Attributes:
        choices: what is chosen, such as {"class": "cat", "map": "saliency"}; all layers of a viewer
            have the same keys.
        pixels: uint8 RGBA (H, W, 4), as `visualization.plotting.colored_map` makes it.
        describes: what it shows, plain text, for those who do not see it.
        caption: HTML.

    Example:
        >>> Layer({"map": "saliency"}, np.zeros((2, 3, 4), np.uint8), "where it looks", "").choices
        {'map': 'saliency'}
    """

    choices: Mapping[str, str]
    pixels: np.ndarray
    describes: str
    caption: str


def viewer(name: str, photograph: np.ndarray, layers: Sequence[Layer]) -> str:
    """HTML to choose between pictures that lie over a photograph, with a slider for their opacity.

    Without JavaScript all of them stand side by side.

    Args:
        name: of the viewer, unique in a page: letters, digits and hyphens.
        photograph: uint8 (H, W, 3).
        layers: the pictures; the first is shown first.

    Example:
        >>> black = np.zeros((2, 3, 4), np.uint8)
        >>> layers = [Layer({"word": word}, black, word, "") for word in ("a", "dog")]
        >>> viewer("words", black[..., :3], layers).count('type="radio"')
        2
    """
    options = {
        key: list(dict.fromkeys(layer.choices[key] for layer in layers))
        for key in layers[0].choices
    }
    fieldsets = "".join(
        f"<fieldset{' hidden' * (len(options[key]) == 1)}><legend>{text(key)}</legend>"
        + "".join(
            f'<label><input type="radio" name="{name}-{n}" value="{i}"{" checked" * (i == 0)}> '
            f"{text(option)}</label>"
            for i, option in enumerate(options[key])
        )
        + "</fieldset>"
        for n, key in enumerate(options)
    )
    figures = "".join(
        _template("layer.html").substitute(
            choice=" ".join(str(options[key].index(layer.choices[key])) for key in options),
            heading=text(", ".join(layer.choices.values())),
            describes=text(layer.describes),
            source=data_uri(layer.pixels),
            caption=layer.caption,
        )
        for layer in layers
    )
    height, width = photograph.shape[:2]
    return _template("viewer.html").substitute(
        name=name,
        photograph=data_uri(photograph, LARGEST),
        ratio=f"{width} / {height}",
        fieldsets=fieldsets,
        figures=figures,
    )


def table(head: Sequence[str] | None, rows: object, caption: str = "") -> str:
    """HTML of a table, all of it escaped; the first cell of each row is its heading.

    Args:
        head: the columns' headings.
        rows: an iterable of the rows, each of cells.
        caption: what the table shows.

    Example:
        >>> table(None, [("a < b", 3)])
        '<table><tr><th scope="row">a &lt; b</th><td>3</td></tr></table>'
    """
    top = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head or ())
    body = "".join(
        f'<tr><th scope="row">{text(first)}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows  # type: ignore[attr-defined]
    )
    said = f"<caption>{text(caption)}</caption>" if caption else ""
    return f"<table>{said}{f'<tr>{top}</tr>' if top else ''}{body}</table>"


def data_uri(pixels: np.ndarray, longest: int | None = None, *, exact: bool = False) -> str:
    """A picture as a ``data:`` address: WebP, lossless if it has an alpha channel.

    Args:
        pixels: uint8 (H, W, 3) or (H, W, 4).
        longest: reduce it to this many pixels on its longer side.
        exact: keep every pixel as it is, in a PNG, which all programs read.

    Example:
        >>> data_uri(np.zeros((2, 3, 3), np.uint8))[:23]
        'data:image/webp;base64,'
    """
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    if longest:
        picture.thumbnail((longest, longest))
    kind = "png" if exact else "webp"
    lossless = {} if exact else {"lossless": picture.mode == "RGBA", "quality": 85}
    picture.save(buffer, kind, **lossless)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def text(value: object) -> str:
    """A value as HTML: nothing in it is markup, and nothing turns the direction of writing.

    Example:
        >>> text("<b>&\\u202e")
        '&lt;b&gt;&amp;\\\\u202e'
    """
    return html.escape(escaped(str(value)))


def _page(title: str, lead: str, sections: Sequence[Section]) -> bytes:
    numbered = list(enumerate(sections, 1))
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _template("page.html").substitute(
        title=text(title),
        lead=lead,
        script_hash=f"sha256-{digest}",
        style=_read("page.css"),
        script=script,
        contents="".join(
            f'<li><a href="#part-{n}">{text(section.title)}</a></li>' for n, section in numbered
        ),
        sections="".join(
            f'<section aria-labelledby="part-{n}"><h2 id="part-{n}">{text(section.title)}</h2>'
            f"{section.body}</section>"
            for n, section in numbered
        ),
    )
    return page.encode()


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _template(name: str) -> Template:
    return Template(_read(name))
