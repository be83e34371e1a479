"""What a network sees in a photograph, gathered for a page: guesses, tested maps, a fooling image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from visualization.backend import keras
from visualization.budgets import smallest_fooling_images
from visualization.faithfulness import Faithfulness, compare_with_random
from visualization.fooling import FoolingResult
from visualization.gradients import predict
from visualization.networks.imagenet import short_name
from visualization.networks.specification import NetworkSpecification
from visualization.pages.page import Layer, Section, data_uri, text, viewer
from visualization.plotting import colored_map, magnified_difference

__all__ = ["FOOLING", "View", "view_photograph", "view_section"]

FIRST = 5  # classes that are listed
FOOLING: dict[str, Any] = {"norm": "l2", "steps": 10}
_LARGEST_MAP = 260  # pixels a side


@dataclass(frozen=True)
class View:
    """What a network sees in one photograph.

    Attributes:
        image: uint8 (H, W, 3), the photograph as the network receives it.
        classes: the first five, the likeliest first.
        names: of all classes.
        probabilities: (K,), see `visualization.predict_probabilities`.
        kind: what the outputs are, see `visualization.outputs`.
        maps: class -> method -> its map, (H, W).
        faithfulness: class -> method -> how faithful that map is; and that of a "random" one.
        fooling: the nearest image found that is taken for another class; None if none was looked for.

    Example:
        >>> black = np.zeros((2, 3, 3), np.uint8)
        >>> View(black, [1], ["cat", "dog"], np.array([0.2, 0.8]), "softmax").shown(1)
        'dog 80.0%'
    """

    image: np.ndarray
    classes: list[int]
    names: Any
    probabilities: np.ndarray
    kind: str
    maps: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    faithfulness: dict[int, dict[str, Faithfulness]] = field(default_factory=dict)
    fooling: FoolingResult | None = None

    def shown(self, label: int, probabilities: np.ndarray | None = None) -> str:
        """A class's name and its probability, or value."""
        given = self.probabilities if probabilities is None else probabilities
        return f"{self.name(label)} {self.number(given[label])}"

    def name(self, label: int) -> str:
        """A class's short name, with its number if another of the first five has that name."""
        short = short_name(self.names[label])
        alike = [one for one in self.classes if short_name(self.names[one]) == short]
        return short if alike in ([], [label]) else f"{short} ({label})"

    def number(self, value: float) -> str:
        """A probability, or a value where the network gives no probabilities, as text."""
        return f"{value:.4g}" if self.kind == "values" else f"{value:.1%}"

    def record(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        what = "value" if self.kind == "values" else "probability"
        seen = [
            {"class": one, "name": self.names[one], what: float(self.probabilities[one])}
            for one in self.classes
        ]
        areas = {
            str(label): {
                name: {"deletion": one.deletion_auc, "insertion": one.insertion_auc}
                for name, one in results.items()
            }
            for label, results in self.faithfulness.items()
        }
        record = {"first_five": seen, "faithfulness": areas}
        if self.fooling is None:
            return record
        found, after = self.fooling, int(self.fooling.predicted_after[0])
        nearest = {
            "success": bool(found.success[0]),
            "iterations": int(found.iterations[0]),
            "l2": float(found.l2[0]),
            "linf": int(found.linf[0]),
            "class": after,
            "name": self.names[after],
        }
        return record | {"nearest_fooling_image": nearest}


def view_photograph(
    photograph: np.ndarray,
    model: keras.Model,
    specification: NetworkSpecification,
    methods: Mapping[str, Callable[..., Any]],
    *,
    classes: int = 1,
    seed: int = 0,
    say: Callable[[str], object] = lambda doing: None,
) -> View:
    """Looks at a photograph: guesses, maps and how faithful they are, and how near a fooling image is.

    Args:
        photograph: uint8 (H, W, 3), of any size.
        model: any Keras model with one output of shape (N, K).
        specification: what it needs beside its weights.
        methods: a method's name -> a function of (X, y, model) that returns maps (N, H, W).
        classes: for how many of the first five classes maps are made; with 0 there is no fooling
            image either, only the guesses.
        seed: of the random map that the others are compared with.
        say: is told what is being done.

    Raises:
        ValueError: the model or the specification do not fit together; classes are not 0 to 5.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
        >>> names = ["red", "green", "blue"]
        >>> own = NetworkSpecification((8, 8), lambda pixels: pixels / 255, (0, 255), names)
        >>> reddish = np.full((20, 20, 3), (90, 50, 50), np.uint8)
        >>> view = view_photograph(reddish, model, own, {"brightness": lambda X, y, model: X[..., 0]})
        >>> view.shown(view.classes[0]), list(view.faithfulness[0])
        ('red 36.9%', ['brightness', 'random'])
    """
    if not 0 <= classes <= FIRST:
        raise ValueError(f"classes is {classes}, expected a number from 0 to {FIRST}")
    X = specification.to_input(photograph[None])
    found = predict(model, X)
    first = found.probabilities[0].argsort()[::-1][:FIRST].tolist()
    image = specification.scaling().to_pixels(X)
    view = View(image[0], first, specification.names, found.probabilities[0], found.kind)
    if not classes:
        return view
    for label in first[:classes]:
        drawn = {}
        for name, method in methods.items():
            say(f"{name} of {view.name(label)}")
            maps = method(X, label, model)
            drawn[name] = np.asarray(maps[0] if isinstance(maps, tuple) else maps)
        say(f"testing the maps of {view.name(label)}")
        view.faithfulness[label] = compare_with_random(X, label, model, drawn, seed=seed)
        view.maps[label] = {name: maps[0] for name, maps in drawn.items()}
    if found.kind == "values":
        return view
    say("looking for the nearest fooling image")
    fooling = smallest_fooling_images(
        image,
        None,
        model,
        preprocess=specification.preprocess,
        bounds=specification.bounds,
        **FOOLING,
    )
    return View(**vars(view) | {"fooling": fooling})


def view_section(name: str, view: View, *, number: int = 1) -> Section:
    """What a page says of a network.

    Args:
        name: the network's.
        view: what it sees.
        number: tells this network from the others in the page.

    Example:
        >>> view = View(np.zeros((2, 3, 3), np.uint8), [1], "ab", np.array([0.2, 0.8]), "softmax")
        >>> view_section("Mine", view).title
        'What Mine sees'
    """
    parts = [_guesses(view)]
    if view.maps:
        layers = [_layer(view, label, method) for label in view.maps for method in view.maps[label]]
        parts += [
            "<h3>Where it looks</h3>",
            _HOW_TESTED,
            viewer(f"maps-{number}", view.image, layers),
        ]
    if view.fooling:
        parts += ["<h3>How far the nearest fooling image is</h3>", _fooled(view, view.fooling)]
    return Section(f"What {name} sees", "".join(parts))


_HOW_TESTED = """<p>The brighter a place in a map, the more the network's answer depends on it. Whether
that is so was tested: the places that a map marks are blurred, the most important first (deletion), or
brought back into a blurred photograph (insertion). Under a good map the class's probability falls soon,
and rises soon.</p>"""
_BAR = '<td class="share" aria-hidden="true"><div style="width: {:.1%}"></div></td>'


def _guesses(view: View) -> str:
    rows = []
    for label in view.classes:
        value = view.probabilities[label]
        bar = "" if view.kind == "values" else _BAR.format(value)
        name = text(view.name(label))
        rows.append(f'<tr><th scope="row">{name}</th><td>{view.number(value)}</td>{bar}</tr>')
    return f"<table><caption>Its first {len(rows)} guesses</caption>{''.join(rows)}</table>"


def _layer(view: View, label: int, method: str) -> Layer:
    results = view.faithfulness[label]
    result, random = results[method], results["random"]
    verdict = "Better than a random map" if result.beats(random) else "Not better than a random map"
    said = (
        f"{verdict}: deletion {result.deletion_auc:.3f} (random {random.deletion_auc:.3f}; smaller is "
        f"better), insertion {result.insertion_auc:.3f} (random {random.insertion_auc:.3f}; larger is "
        "better)."
    )
    if view.maps[label][method].min() < 0:
        said += " Orange speaks for the class, purple against it."
    name = view.name(label)
    return Layer(
        {"Class": view.shown(label), "Map": method},
        colored_map(_reduced(view.maps[label][method])),
        f"{method} over the photograph: where the network looks for {name}",
        text(said),
    )


def _reduced(attribution: np.ndarray) -> np.ndarray:
    """A map with as many pixels as a page can have of it and still be small."""
    picture = Image.fromarray(attribution.astype(np.float32))
    picture.thumbnail((_LARGEST_MAP, _LARGEST_MAP), Image.Resampling.BOX)
    return np.asarray(picture)


def _fooled(view: View, found: FoolingResult) -> str:
    before, after = int(found.predicted_before[0]), int(found.predicted_after[0])
    fooling = found.images[0]
    if found.already[0]:
        return "<p>It is not sure of any class, so that there is none to lead it away from.</p>"
    if not found.success[0]:
        return "<p>None was found.</p>"
    magnified, factor = magnified_difference(view.image, fooling)
    mean = found.l2[0] / fooling.size**0.5
    distance = (
        f"The nearest that was found is {found.l2[0]:.1f} levels away (L2, of 0 to 255): "
        f"{mean:.2f} a value in the root mean square, {found.linf[0]} at most. "
        "Saved from this page, the picture still fools."
    )
    names = view.shown(before), view.shown(after, found.probabilities_after[0])
    pictures = {
        ("The photograph", names[0]): data_uri(view.image),
        ("Changed", names[1]): data_uri(fooling, exact=True),
        ("The difference", f"{factor} times as large; grey is none"): data_uri(magnified),
    }
    figures = "".join(
        f'<figure><img src="{source}" alt="{what}">'
        f"<figcaption>{what}: {text(said)}</figcaption></figure>"
        for (what, said), source in pictures.items()
    )
    return f'<p>{distance}</p><div class="pictures">{figures}</div>'
