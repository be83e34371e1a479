import io

import numpy as np
import pytest
from PIL import Image

from visualization import Faithfulness, plotting


def test_the_strongest_part_of_a_map_has_colour_and_the_rest_is_the_grey_photograph():
    image = np.full((8, 8, 3), [200, 100, 60], np.uint8)
    attribution = np.zeros((8, 8))
    attribution[2, 3] = 5
    laid = plotting.overlay(image, attribution)
    assert laid.dtype == np.uint8
    np.testing.assert_array_equal(laid[0, 0], [72, 72, 72])
    assert len(set(laid[2, 3])) > 1


def test_signs_have_different_colours():
    image = np.zeros((4, 4, 3), np.uint8)
    attribution = np.zeros((4, 4))
    attribution[0, 0], attribution[1, 1] = 1, -1
    laid = plotting.overlay(image, attribution).astype(int)
    assert laid[0, 0, 0] > laid[0, 0, 2]  # for: orange
    assert laid[1, 1, 2] > laid[1, 1, 0]  # against: purple


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_flat_and_extreme_maps_can_be_drawn(value):
    laid = plotting.overlay(np.zeros((4, 4, 3), np.uint8), np.full((4, 4), value))
    assert laid.shape == (4, 4, 3)


def test_the_difference_panel_is_grey_where_nothing_changed():
    image = np.full((32, 32, 3), 50, np.uint8)
    changed = image.copy()
    changed[:4, :4] += 9
    figure = plotting.fooling_figure(image, changed, "before", "after")
    panels = [axes.images[0].get_array() for axes in figure.axes]
    titles = [axes.get_title() for axes in figure.axes]
    np.testing.assert_array_equal(panels[0], image)
    np.testing.assert_array_equal(panels[1], changed)
    np.testing.assert_array_equal(panels[2][:4, :4], 137)
    np.testing.assert_array_equal(panels[3][8:], 128)
    assert panels[3][:4, :4].min() > 240
    assert "at most 9 of 255" in titles[2]
    assert "difference x 14" in titles[3]


def test_equal_images_make_a_figure_too():
    image = np.zeros((8, 8, 3), np.uint8)
    content = plotting.png(plotting.fooling_figure(image, image, "a", "b"))
    assert Image.open(io.BytesIO(content)).size[0] > 1000
    assert content == plotting.png(plotting.fooling_figure(image, image, "a", "b"))


def test_the_title_names_the_methods_that_do_not_beat_a_random_map():
    def result(deletion, insertion):
        return Faithfulness(np.full(3, deletion), np.full(3, insertion))

    results = {"good": result(0.1, 0.9), "lie": result(0.9, 0.1), "half": result(0.1, 0.4)}
    results["random"] = result(0.5, 0.5)
    figure = plotting.faithfulness_figure(results, {"good": {"last": 0.5, "first": 0.1}})
    assert figure.get_suptitle() == "not better than a random map: lie, half"
    del results["lie"], results["half"]
    assert plotting.faithfulness_figure(results, {}).get_suptitle() == "all beat a random map"


def test_a_gif_holds_the_frames_and_repeats():
    frames = [np.full((6, 6, 3), level, np.uint8) for level in (0, 120, 250)]
    film = Image.open(io.BytesIO(plotting.gif(frames)))
    assert film.n_frames == 3
    assert film.info["loop"] == 0
    film.seek(2)
    assert film.convert("RGB").getpixel((0, 0))[0] == pytest.approx(250, abs=3)


def test_more_classes_than_a_row_holds_are_drawn_in_rows():
    images = np.zeros((6, 8, 8, 3), np.uint8)
    figure = plotting.class_figure(images, [str(n) for n in range(6)])
    assert [axes.get_title() for axes in figure.axes if axes.images] == list("012345")
