"""What photographs have of each frequency, as `paint_class` takes it from the bundle."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from visualization.files.bundle import SPECTRUM
from weights import spectrum


def test_the_spectrum_is_by_frequency_and_by_colour_and_noted_in_the_manifest(
    tmp_path, monkeypatch
):
    wave = 100 * np.cos(2 * np.pi * 5 * np.arange(224) / 224)  # of 5 cycles, red against blue
    picture = 128 + np.stack([wave, np.zeros(224), -wave], axis=1)  # (224, 3)
    folder = tmp_path / "Flicker8k_Dataset"
    folder.mkdir()
    Image.fromarray(np.uint8(np.round(picture))[None].repeat(224, 0)).save(folder / "wave.png")
    (tmp_path / "Flickr8k_text").mkdir()
    (tmp_path / "Flickr8k_text" / "Flickr_8k.trainImages.txt").write_text("wave.png\n")
    (tmp_path / "manifest.json").write_text('{"files": {"other": {}}}')
    monkeypatch.setattr(spectrum, "BUNDLE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["spectrum", str(tmp_path)])
    spectrum.main()

    found = np.load(tmp_path / SPECTRUM)
    x, y = np.meshgrid(np.arange(-112, 112), np.arange(-112, 112))
    around = np.count_nonzero(np.abs(np.hypot(x, y) - 5) < 0.5)
    expected = np.zeros((3, 159))
    expected[0, 0] = 3**0.5 * 128 / 255
    expected[1, 5] = 2**0.5 * 100 / 255 / 2 * (2 / around) ** 0.5
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert expected[1, 5] == pytest.approx(0.07, abs=0.01)
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert files[SPECTRUM]["size"] == (tmp_path / SPECTRUM).stat().st_size
    assert "other" in files
