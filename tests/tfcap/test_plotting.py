"""Figures of captions and of training."""

import numpy as np

from tfcap.explain import Falls
from tfcap.plotting import caption_figure, dataset_figure, explanation_figure, loss_figure
from visualization.plotting import png


def test_a_figure_says_where_an_image_cannot_be_shown(tmp_path):
    figure = dataset_figure(
        ["http://example.com/a.jpg", str(tmp_path / "gone.jpg")],
        [["a $1 and $2"], ["b"] * 5],
        "title",
    )
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "a URL: not fetched" in texts
    assert "the image\ncannot be read" in texts
    assert "\u2022 a $1 and $2" in texts
    assert any(text.endswith("(and 2 more)") for text in texts)


def test_figures_hold_long_sentences_and_any_characters(grace_hopper):
    words = ["$x", "_{", "electroencephalographically"] * 10
    drawn = caption_figure(grace_hopper, [" ".join(words)] * 2, [-3.0, -4.0])
    assert png(drawn)
    tall = caption_figure(grace_hopper[:, :20], [""], [-1.0])
    assert png(tall)
    falls = Falls(*np.zeros((4, 30)))
    maps, corners = np.zeros((30, 224, 224)), np.zeros((30, 2), int)
    drawn = explanation_figure(grace_hopper, words, maps, corners, falls)
    assert len(drawn.axes) >= 31
    assert png(drawn, dpi=30)


def test_the_losses_of_steps_and_of_validations_share_one_axis():
    losses = np.linspace(5, 1, 400)
    history = [{"val_loss": 4.0}, {"loss": 3.0, "val_loss": 2.0}]
    (axes,) = loss_figure(losses, history).axes
    steps, smooth, validation = axes.lines
    np.testing.assert_array_equal(steps.get_ydata(), losses)
    np.testing.assert_allclose(smooth.get_ydata()[0], losses[:4].mean())
    assert smooth.get_xdata()[[0, -1]].tolist() == [4, 400]
    assert list(validation.get_xdata()) == [200, 400]
    assert list(validation.get_ydata()) == [4, 2]


def test_one_step_without_a_validation_set_is_drawn():
    (axes,) = loss_figure([2.0], [{"loss": 2.0}]).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[2.0], [2.0]]
