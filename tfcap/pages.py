"""What a captioner says of a photograph, as a section of a page of `visualization.pages`."""

from collections.abc import Sequence

import numpy as np

from tfcap.captioner import Captioner
from tfcap.data.features import image_features
from tfcap.explain import word_log_probabilities, word_maps
from visualization.pages.page import Layer, Section, table, text, viewer
from visualization.plotting import colored_map

__all__ = ["caption_section"]


def caption_section(
    captioner: Captioner, photograph: np.ndarray, found: Sequence[tuple[str, float, np.ndarray]]
) -> Section:
    """The sentences, and for each word of the first where the captioner looked for it.

    Args:
        captioner: the captioner.
        photograph: uint8 (H, W, 3), of any size.
        found: what `Captioner.sentences` found for it, the best first.

    Example:
        >>> from tfcap import load_captioner
        >>> captioner, black = load_captioner(), np.zeros((40, 60, 3), np.uint8)
        >>> words = captioner.model.word_to_idx
        >>> found = [("a dog", -3.0, np.array([words["a"], words["dog"]]))]
        >>> section = caption_section(captioner, black, found)
        >>> section.title, "a dog" in section.body
        ('What the captioner says', True)
    """
    sentence, _, ids = found[0]
    parts = [f'<p class="sentence">{text(sentence)}</p>']
    if len(found) > 1:
        others = ((said, f"{log_p:.1f}") for said, log_p, _ in found[1:])
        parts.append(table(("Others that it considered", "log-probability"), others))
    layers = _layers(captioner, photograph, ids)
    if layers:
        field = captioner.encoder.field(photograph)
        parts += ["<h3>Where it looked for each word</h3>", viewer("words", field, layers)]
    return Section("What the captioner says", "".join(parts))


def _layers(captioner: Captioner, photograph: np.ndarray, ids: np.ndarray) -> list[Layer]:
    """One for each word."""
    model, encoder = captioner.model, captioner.encoder
    ids = ids[(ids != model.ids.null) & (ids != model.ids.end)]
    if not len(ids):
        return []
    seen = encoder.fit(photograph)
    maps = word_maps(model, seen, ids)
    if model.looks:  # at every place a little
        maps -= maps.min(axis=(1, 2), keepdims=True)
    features = image_features(seen[None], encoder.name)
    chances = np.exp(word_log_probabilities(model, features, ids[None])[0])
    words = [model.idx_to_word[idx] for idx in ids.tolist()]
    return [
        Layer(
            {"Word": f"{number}. {word}"},
            colored_map(maps[number - 1]),
            f"Where the captioner looked in the photograph for its word {number}, {word}",
            f"It gave this word {chances[number - 1]:.1%}, after the words before it.",
        )
        for number, word in enumerate(words, 1)
    ]
