"""A trained captioner, or the average of several, becomes the bundled one."""

import json
import sys

import numpy as np
import pytest

from tfcap.model import CaptioningRNN
from tfcap.pretrained import load
from weights import captioner

WORDS = {word: k for k, word in enumerate(("<NULL>", "<START>", "<END>", "<UNK>", "dog", "cat"))}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text('{"files": {"other": {}}}')
    monkeypatch.setattr(captioner, "BUNDLE", tmp_path / "bundle")
    return tmp_path / "bundle"


def put(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["captioner", *map(str, arguments)])
    captioner.main()


def saved(folder, words=WORDS):
    model = CaptioningRNN(words, 5, 4, 8, "attention", heads=2)
    model.save_pretrained(folder)
    return model


def test_several_are_averaged_in_half_precision_and_noted(tmp_path, bundle, monkeypatch):
    models = [saved(tmp_path / str(k)) for k in range(3)]
    put(monkeypatch, *(tmp_path / str(k) for k in range(3)), "--beam", 5)
    found = load(bundle / "captioner_flickr8k")
    assert found.decoding["beam_size"] == 5
    for name, array in found.arrays.items():
        expected = sum(np.asarray(model.parameters[name]) for model in models) / 3
        np.testing.assert_array_equal(array, expected.astype(np.float16))
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    size = (bundle / "captioner_flickr8k" / "model.weights.h5").stat().st_size
    assert files["captioner_flickr8k/model.weights.h5"]["size"] == size
    assert "other" in files


def test_captioners_with_other_words_are_not_averaged(tmp_path, bundle, monkeypatch, capsys):
    saved(tmp_path / "a")
    saved(tmp_path / "b", WORDS | {"bird": 6})
    with pytest.raises(SystemExit):
        put(monkeypatch, tmp_path / "a", tmp_path / "b")
    assert "differ in more than their weights" in capsys.readouterr().err
    assert not (bundle / "captioner_flickr8k").exists()
