import re

import numpy as np
import pytest

from tfcap.data import shapes
from tfcap.metrics.baselines import shuffled_cider
from tfcap.metrics.scores import score_captions


def scenes(count, show=False, seed=0):
    held_out = shapes.held_out_pairs(seed)
    return [shapes.random_scene(np.random.default_rng(i), held_out, show) for i in range(count)]


def test_every_colour_and_shape_is_held_out_once():
    colours, kinds = zip(*shapes.held_out_pairs(3), strict=True)
    assert sorted(colours) == sorted(shapes.COLOURS)
    assert sorted(kinds) == sorted(shapes.SHAPES)


@pytest.mark.parametrize("show", [False, True])
def test_a_scene_shows_a_held_out_pair_only_if_asked(show):
    held_out = shapes.held_out_pairs(0)
    for scene in scenes(200, show):
        assert show == any((one.colour, one.shape) in held_out for one in scene.shapes)


def test_captions_say_what_is_in_the_scene_and_how_it_lies():
    for number, scene in enumerate(scenes(300)):
        captions = scene.captions(np.random.default_rng(number), 5)
        assert len(set(captions)) == 5
        for caption in captions:
            for one in scene.shapes:
                assert one.colour in caption
                assert one.shape in caption
        if scene.relation:
            first, second = scene.shapes
            (x1, y1), (x2, y2) = first.centre, second.centre
            if scene.relation == "above":
                assert y1 + first.diameter / 2 < y2 - second.diameter / 2
            elif scene.relation == "left":
                assert x1 + first.diameter / 2 < x2 - second.diameter / 2
            else:
                assert first.centre == second.centre
                assert first.diameter < second.diameter / 2


SENTENCES = {
    "above": r"^(there is )?an? FIRST above an? SECOND$|^the FIRST2 is above the SECOND2$"
    r"|^(there is )?an? SECOND below an? FIRST$|^the SECOND2 is below the FIRST2$"
    r"|^a SECOND with a FIRST above it$|^a FIRST with a SECOND below it$",
    "left": r"^a FIRST to the left of a SECOND$|^there is a FIRST left of a SECOND$"
    r"|^a SECOND to the right of a FIRST$|^there is a SECOND right of a FIRST$"
    r"|^a SECOND with a FIRST on its left$|^a FIRST with a SECOND on its right$"
    r"|^the FIRST2 is to the left of the SECOND2$|^the SECOND2 is to the right of the FIRST2$",
    "inside": r"^(there is )?a FIRST inside a SECOND$|^the FIRST2 is inside the SECOND2$"
    r"|^(there is )?a SECOND around a FIRST$|^the SECOND2 is around the FIRST2$"
    r"|^a SECOND with a FIRST inside it$|^a FIRST with a SECOND around it$",
}


def test_a_relation_is_never_told_the_wrong_way_round():
    for number, scene in enumerate(scenes(300)):
        if scene.relation:
            first, second = scene.shapes
            pattern = SENTENCES[scene.relation]
            for name, one in (("FIRST", first), ("SECOND", second)):
                pattern = pattern.replace(f"{name}2", f"{one.colour} {one.shape}")
                pattern = pattern.replace(name, str(one))
            for caption in scene.captions(np.random.default_rng(number), 8):
                assert re.search(pattern, caption), caption


def test_thousands_of_captions_are_distinct():
    rng = np.random.default_rng(0)
    assert len({caption for scene in scenes(1000) for caption in scene.captions(rng, 5)}) > 3000


def test_the_same_seed_draws_the_same_picture_and_another_seed_another():
    scene = scenes(1)[0]
    first, again, other = (
        np.asarray(shapes.draw(scene, np.random.default_rng(seed))) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("show", [False, True])
def test_true_captions_of_other_pictures_score_less_than_half(show):
    pytest.importorskip("pycocoevalcap")
    told, references = {}, {}
    for number, scene in enumerate(scenes(200, show)):
        told[number], *references[number] = scene.captions(np.random.default_rng(number), 6)
    whole = score_captions(told, references, ["CIDEr"])["CIDEr"]
    assert shuffled_cider(told, references) < 0.5 * whole


@pytest.mark.parametrize("shape", shapes.SHAPES)
@pytest.mark.parametrize("size", shapes.SIZES)
def test_a_shape_has_its_colour_and_its_size(shape, size):
    diameter = {"small": 50, "large": 120}[size]
    scene = shapes.Scene((shapes.Shape(size, "red", shape, diameter, (112, 112)),))
    pixels = np.asarray(shapes.draw(scene, np.random.default_rng(0))).astype(int)
    red = pixels[..., 0] - pixels[..., 1:].max(axis=-1) > 80
    assert pixels.shape == (224, 224, 3)
    assert 0.2 < red.sum() / diameter**2 <= 1
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    for extent in (rows, columns):
        assert 0.7 * diameter < np.ptp(extent) <= diameter
        assert abs(extent.mean() - 112) < 0.15 * diameter


def test_no_shape_leaves_the_picture():
    for scene in scenes(300):
        for one in scene.shapes:
            for centre in one.centre:
                assert one.diameter / 2 <= centre <= shapes.SIZE - one.diameter / 2
