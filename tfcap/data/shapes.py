"""Draws pictures of coloured shapes, and captions of them: a data set that needs no download.

As in the synthetic worlds on which captioners are tested (Kuhnle and Copestake, 2017, "ShapeWorld",
arXiv:1704.04517), everything a caption says can be checked against the picture.
"""

import colorsys
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

__all__ = [
    "AROUND",
    "COLOURS",
    "RELATIONS",
    "SHAPES",
    "SIZE",
    "SIZES",
    "Scene",
    "Shape",
    "draw",
    "held_out_pairs",
    "random_scene",
]

SIZE = 224  # pixels
COLOURS = {
    "red": (205, 25, 30),
    "green": (30, 150, 45),
    "blue": (30, 70, 215),
    "yellow": (245, 220, 35),
    "pink": (255, 150, 195),
    "purple": (150, 45, 190),
    "white": (250, 250, 250),
    "black": (15, 15, 17),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
SIZES = ("small", "large")
AROUND = ("circle", "square")  # shapes with room for another inside
RELATIONS = ("above", "left", "inside")


@dataclass(frozen=True)
class Shape:
    """One shape of a picture.

    Attributes:
        size, colour, shape: of SIZES, COLOURS and SHAPES.
        diameter: of its bounding box, pixels.
        centre: (x, y), pixels from the picture's upper left corner.

    Example:
        >>> str(Shape("small", "red", "circle", 50, (112, 112)))
        'small red circle'
    """

    size: str
    colour: str
    shape: str
    diameter: int
    centre: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """What a picture shows.

    Attributes:
        shapes: one, or two.
        relation: of RELATIONS: where the first of two is, seen from the second.

    Example:
        >>> circle = Shape("small", "red", "circle", 50, (112, 112))
        >>> Scene((circle,)).captions(np.random.default_rng(0), 1)
        ['the circle is red and small']
    """

    shapes: tuple[Shape, ...]
    relation: str | None = None

    def captions(self, rng: np.random.Generator, count: int) -> list[str]:
        """At most six true sentences about the scene, no two from one template."""
        templates: tuple[str, ...]
        if self.relation is None:
            (one,) = self.shapes
            templates = _ONE
            words = {"size": one.size, "colour": one.colour, "shape": one.shape}
        else:
            a, b = self.shapes
            templates = _TWO[self.relation]
            words = {"a": str(a), "b": str(b)}
            words |= {"a2": f"{a.colour} {a.shape}", "b2": f"{b.colour} {b.shape}"}
        chosen = rng.permutation(len(templates))[:count]
        return [templates[i].format(**words) for i in chosen]


_ONE = (
    "a {size} {colour} {shape}",
    "there is a {size} {colour} {shape}",
    "a {shape} that is {size} and {colour}",
    "the {shape} is {colour} and {size}",
    "one {colour} {shape} that is {size}",
    "a picture of a {size} {colour} {shape}",
)
# {a} and {b} are as "small red circle" and "large blue square", {a2} and {b2} without the sizes.
_TWO = {
    "above": (
        "a {a} above a {b}",
        "a {b} below a {a}",
        "there is a {a} above a {b}",
        "there is a {b} below a {a}",
        "a {b} with a {a} above it",
        "a {a} with a {b} below it",
        "the {a2} is above the {b2}",
        "the {b2} is below the {a2}",
    ),
    "left": (
        "a {a} to the left of a {b}",
        "a {b} to the right of a {a}",
        "there is a {a} left of a {b}",
        "there is a {b} right of a {a}",
        "a {b} with a {a} on its left",
        "a {a} with a {b} on its right",
        "the {a2} is to the left of the {b2}",
        "the {b2} is to the right of the {a2}",
    ),
    "inside": (
        "a {a} inside a {b}",
        "a {b} around a {a}",
        "there is a {a} inside a {b}",
        "there is a {b} around a {a}",
        "a {b} with a {a} inside it",
        "a {a} with a {b} around it",
        "the {a2} is inside the {b2}",
        "the {b2} is around the {a2}",
    ),
}


def held_out_pairs(seed: int) -> frozenset[tuple[str, str]]:
    """Eight pairs (colour, shape) that no picture of the training split shows.

    Each colour and each shape is in one of them, so training shows all of them, in other pairs.

    Example:
        >>> len(held_out_pairs(seed=0))
        8
    """
    shapes = np.random.default_rng([seed, 0]).permutation(SHAPES)
    return frozenset(zip(COLOURS, map(str, shapes), strict=True))


def random_scene(
    rng: np.random.Generator, held_out: frozenset[tuple[str, str]], show: bool
) -> Scene:
    """Draws a scene without the pairs in `held_out`, or if `show` is true with at least one of them.

    Example:
        >>> scene = random_scene(np.random.default_rng(0), held_out_pairs(0), show=False)
        >>> 1 <= len(scene.shapes) <= 2
        True
    """
    while True:
        scene = _one_shape(rng) if rng.random() < 0.2 else _two_shapes(rng)
        shown = any((shape.colour, shape.shape) in held_out for shape in scene.shapes)
        if shown == show:
            return scene


_DIAMETERS = {"small": (42, 54), "large": (88, 100)}  # pixels, of shapes beside one another
_ALONE = {"small": (45, 65), "large": (105, 140)}


def _one_shape(rng: np.random.Generator) -> Scene:
    size = str(rng.choice(SIZES))
    diameter = int(rng.integers(*_ALONE[size]))
    x, y = rng.uniform(diameter / 2 + 4, SIZE - diameter / 2 - 4, size=2)
    return Scene((Shape(size, _choose(rng, COLOURS), _choose(rng, SHAPES), diameter, (x, y)),))


def _two_shapes(rng: np.random.Generator) -> Scene:
    """Two shapes of different colours and kinds, close to each other."""
    colours = rng.permutation(list(COLOURS))[:2]
    kinds = rng.permutation(SHAPES)[:2]
    relation = _choose(rng, RELATIONS)
    sizes = [_choose(rng, SIZES) for _ in range(2)]
    if relation == "inside":
        sizes = ["small", "large"]
        kinds[1] = _choose(rng, [kind for kind in AROUND if kind != kinds[0]])
        outer = int(rng.integers(130, 170))
        x, y = rng.uniform(outer / 2 + 4, SIZE - outer / 2 - 4, size=2)
        diameters, centres = [int(outer * rng.uniform(0.36, 0.42)), outer], [(x, y), (x, y)]
    else:
        diameters = [int(rng.integers(*_DIAMETERS[size])) for size in sizes]
        gap = rng.uniform(6, 14)
        start = rng.uniform(2, SIZE - 2 - sum(diameters) - gap)
        along = (start + diameters[0] / 2, start + diameters[0] + gap + diameters[1] / 2)
        margin = max(diameters) / 2 + 20
        across = rng.uniform(margin, SIZE - margin) + np.array([0, rng.uniform(-15, 15)])
        xs, ys = (across, along) if relation == "above" else (along, across)
        centres = list(zip(map(float, xs), map(float, ys), strict=True))
    both = zip(sizes, map(str, colours), map(str, kinds), diameters, centres, strict=True)
    return Scene(tuple(Shape(*properties) for properties in both), relation)


def _choose(rng: np.random.Generator, names: list[str] | tuple[str, ...] | dict) -> str:
    return str(rng.choice(list(names)))


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB picture, 224x224, on a greyish background of two tones and some noise.

    Example:
        >>> scene = Scene((Shape("small", "red", "circle", 50, (112, 112)),))
        >>> draw(scene, np.random.default_rng(0)).size
        (224, 224)
    """
    picture = _background(rng)
    for shape in reversed(scene.shapes):  # what is inside is drawn last
        colour = np.clip(np.array(COLOURS[shape.colour]) + rng.normal(0, 6, 3), 0, 255)
        x, y = (round(centre - shape.diameter / 2) for centre in shape.centre)
        picture.paste(tuple(colour.astype(int)), (x, y), _mask(shape.shape, shape.diameter))
    return picture


def _background(rng: np.random.Generator) -> Image.Image:
    brightness = rng.uniform(0.35, 0.7)
    tones = [
        colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.2), brightness + rng.uniform(-0.1, 0.1))
        for _ in range(2)
    ]
    first, second = 255 * np.array(tones)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.linspace(-0.35, 0.35, SIZE)
    share = 0.5 + np.cos(angle) * along[None, :] + np.sin(angle) * along[:, None]  # (224, 224)
    pixels = first + (second - first) * share[..., None]
    pixels += rng.normal(0, rng.uniform(0, 5), (SIZE, SIZE, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


_OVERSAMPLING = 4  # of the masks, for smooth edges


@cache
def _mask(shape: str, diameter: int) -> Image.Image:
    """Where a shape covers the pixels of its bounding box: 255 inside, less along the edge."""
    n = diameter * _OVERSAMPLING
    mask = Image.new("L", (n, n))
    pen = ImageDraw.Draw(mask)
    whole = (0, 0, n - 1, n - 1)
    if shape in ("circle", "ring", "moon"):
        pen.ellipse(whole, fill=255)
    if shape == "ring":
        pen.ellipse((0.25 * n, 0.25 * n, 0.75 * n, 0.75 * n), fill=0)
    elif shape == "moon":
        pen.ellipse((0.32 * n, -0.02 * n, 1.15 * n, 0.81 * n), fill=0)
    elif shape == "square":
        pen.rectangle((0.06 * n, 0.06 * n, 0.94 * n, 0.94 * n), fill=255)
    elif shape == "triangle":
        pen.polygon([(0.5 * n, 0.03 * n), (n, 0.93 * n), (0, 0.93 * n)], fill=255)
    elif shape == "cross":
        pen.rectangle((0.35 * n, 0, 0.65 * n, n), fill=255)
        pen.rectangle((0, 0.35 * n, n, 0.65 * n), fill=255)
    elif shape == "star":
        angle = np.pi * (np.arange(10) / 5 - 0.5)
        radius = n * np.where(np.arange(10) % 2, 0.22, 0.53)
        x, y = 0.5 * n + radius * np.cos(angle), 0.52 * n + radius * np.sin(angle)
        pen.polygon(list(zip(x, y, strict=True)), fill=255)
    elif shape == "heart":
        t = np.linspace(0, 2 * np.pi, 200)
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        pen.polygon(list(zip(n * (0.5 + x / 34), n * (0.46 - y / 34), strict=True)), fill=255)
    return mask.reduce(_OVERSAMPLING)
