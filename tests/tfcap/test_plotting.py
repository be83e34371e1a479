"""Figures of captions."""

from tfcap.plotting import dataset_figure


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
