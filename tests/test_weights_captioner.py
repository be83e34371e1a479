"""A trained captioner becomes the bundled one."""

import json
import sys

import numpy as np

from tfcap.decoding import DEFAULTS
from tfcap.model import CaptioningRNN
from tfcap.pretrained import load
from weights import captioner


def test_it_is_written_in_half_precision_and_noted_in_the_manifest(tmp_path, monkeypatch):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text('{"files": {"other": {}}}')
    words = {word: k for k, word in enumerate(("<NULL>", "<START>", "<END>", "<UNK>", "dog"))}
    model = CaptioningRNN(words, 5, 4, 8, "attention", heads=2)
    model.decoding["length_penalty"] = 0.0  # as in folders of before there was a better default
    model.save_pretrained(tmp_path / "trained")
    monkeypatch.setattr(captioner, "BUNDLE", bundle)
    options = "--beam", "5", "--length-penalty", "1.5"
    monkeypatch.setattr(sys, "argv", ["captioner", str(tmp_path / "trained"), *options])
    captioner.main()
    found = load(bundle / "captioner_flickr8k")
    assert found.decoding == DEFAULTS | {"beam_size": 5, "length_penalty": 1.5}
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(array, np.asarray(model.parameters[name], np.float16))
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    size = (bundle / "captioner_flickr8k" / "model.weights.h5").stat().st_size
    assert files["captioner_flickr8k/model.weights.h5"]["size"] == size
    assert "other" in files
