"""A painting drawn by code, so that pictures can be painted in a style where no painting is at hand."""

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["draw_strokes"]

# From the darkest to the lightest: night blues, a green, ochre, yellows and a warm white.
_PALETTE = np.array(
    [
        (14, 22, 58),
        (24, 48, 112),
        (38, 84, 160),
        (72, 132, 190),
        (120, 170, 176),
        (196, 164, 84),
        (236, 186, 60),
        (250, 232, 170),
    ],
    np.float64,
)
_SUPERSAMPLING = 2


def draw_strokes(size: int = 512, seed: int = 0) -> np.ndarray:
    """Draws a square painting of brush strokes that flow around a few eddies.

    Args:
        size: its side, in pixels. The strokes are as large for every size, in parts of the picture.
        seed: of everything in it.

    Returns:
        uint8 RGB (size, size, 3).

    Raises:
        ValueError: size is not from 16 to 4096.

    Example:
        >>> draw_strokes(64).shape
        (64, 64, 3)
    """
    if not 16 <= size <= 4096:
        raise ValueError(f"size is {size}, expected 16 to 4,096 pixels")
    generator = np.random.default_rng(seed)
    eddies = generator.uniform(0, 1, (7, 2))
    turns = generator.choice([-1, 1], 7) * generator.uniform(0.6, 1.4, 7)
    glow = generator.uniform(0, 1, (3, 2))
    side = size * _SUPERSAMPLING
    image = Image.new("RGB", (side, side), tuple(_PALETTE[1].astype(int)))
    brush = ImageDraw.Draw(image)

    for width, count in ((0.030, 700), (0.020, 1800), (0.012, 3000)):  # broad strokes first
        places = generator.uniform(-0.05, 1.05, (count, 2))
        tones = _tone(places, eddies, glow) + generator.normal(0, 0.09, count)
        shades = np.clip(tones, 0, 1) * (len(_PALETTE) - 1)
        mixed = [np.interp(shades, range(len(_PALETTE)), column) for column in _PALETTE.T]
        colours = np.stack(mixed, axis=1) + generator.normal(0, 9, (count, 3))  # (count, 3)
        path = [places]
        for _ in range(8):  # along the flow
            path.append(path[-1] + 0.010 * _flow(path[-1], eddies, turns))
        strokes = np.stack(path, axis=1) * side  # (count, 9, 2)
        thickness = np.maximum(1, width * side * generator.uniform(0.5, 1, count)).astype(int)
        for stroke, colour, wide in zip(strokes, colours, thickness, strict=True):
            shade = tuple(int(value) for value in np.clip(colour, 0, 255))
            brush.line([tuple(point) for point in stroke], shade, int(wide), joint="curve")
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def _flow(places: np.ndarray, eddies: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """The direction of a stroke at each place, of length 1: (n, 2) -> (n, 2)."""
    away = places[:, None] - eddies  # (n, eddies, 2)
    distance = np.square(away).sum(axis=2, keepdims=True)
    around = np.stack([-away[..., 1], away[..., 0]], axis=2) / (distance + 0.01)
    flow = (turns[:, None] * around).sum(axis=1) + np.array([1.5, 0])
    return flow / (np.linalg.norm(flow, axis=1, keepdims=True) + 1e-9)


def _tone(places: np.ndarray, eddies: np.ndarray, glow: np.ndarray) -> np.ndarray:
    """How light each place is, 0..1: bright around the glowing eddies, with rings, dark elsewhere."""
    far = np.linalg.norm(places[:, None] - eddies, axis=2).min(axis=1)  # (n,)
    near = np.linalg.norm(places[:, None] - glow, axis=2).min(axis=1)
    return 0.30 + 0.14 * np.sin(40 * far) + 0.75 * np.exp(-np.square(near / 0.13))
