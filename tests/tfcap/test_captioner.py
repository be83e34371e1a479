"""A photograph in, a sentence out: the bundled captioner, and one's own."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tfcap.captioner import Captioner, load_captioner
from tfcap.data.features import image_features
from tfcap.data.sources import read_source
from tfcap.metrics.baselines import copied_share, distinct_share, shuffled_cider
from tfcap.metrics.scores import score_captions
from tfcap.model import CaptioningRNN
from visualization.files import bundle


@pytest.fixture(scope="module")
def bundled():
    return load_captioner()


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory):
    """matplotlib's photograph, as a file."""
    import matplotlib

    path = f"{matplotlib.get_data_path()}/sample_data/grace_hopper.jpg"
    return shutil.copy(path, tmp_path_factory.mktemp("photographs") / "hopper.jpg")


def test_the_bundled_captioner_says_what_is_in_a_photograph(bundled, astronaut):
    sentence = bundled.caption(astronaut)
    assert {"man", "woman", "person"} & set(sentence.split())
    assert "<UNK>" not in sentence
    assert 4 <= len(sentence.split()) <= 20


def test_a_path_an_array_bytes_and_a_list_get_the_same_sentence(bundled, astronaut):
    expected = bundled.caption(astronaut)
    pixels = np.asarray(Image.open(astronaut).convert("RGB"))
    assert bundled.caption(pixels) == expected
    assert bundled.caption(astronaut.read_bytes()) == expected
    assert bundled.caption([astronaut, pixels[:, ::-1]])[0] == expected
    assert bundled.caption(np.stack([pixels, pixels])) == [expected, expected]


def test_a_folder_is_captioned_by_name(bundled, astronaut, tmp_path):
    Image.new("RGB", (50, 40), "green").save(tmp_path / "b.png")
    shutil.copy(astronaut, tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    found = bundled.caption(tmp_path)
    assert found == [bundled.caption(tmp_path / "a.jpg"), bundled.caption(tmp_path / "b.png")]


def test_attention_comes_back_for_each_word(bundled, astronaut):
    sentence, weights = bundled.caption(astronaut, attention=True)
    assert sentence == bundled.caption(astronaut)
    assert weights.shape == (len(sentence.split()), 9, 9)
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1, atol=1e-4)
    assert weights.max() > 3 / 81


def test_its_photographs_are_seen_whole(bundled):
    """It was trained on whole photographs, squeezed to squares."""
    wide = np.zeros((60, 180, 3), np.uint8)
    wide[:, :60] = 255
    seen = bundled.encoder.fit(wide)
    features = image_features(seen[None], bundled.encoder.name)
    assert seen[:, :80].min() == 255
    assert bundled.caption(wide) == bundled.sentences(features)[0][0][0]


def test_n_best_sentences_come_with_their_ids(looking):
    captioner = Captioner(looking)
    features = np.random.default_rng(0).normal(size=(2, 81, 352)).astype(np.float32)
    for found in captioner.sentences(features, n_best=4):
        values = [value for _, value, _ in found]
        assert len(found) == 4
        assert values == sorted(values, reverse=True)
        for sentence, _, ids in found:
            assert [
                looking.idx_to_word[idx] for idx in ids if idx not in (0, 2)
            ] == sentence.split()


def test_its_files_are_in_the_manifest_and_a_damaged_one_is_refused(tmp_path, monkeypatch):
    shutil.copytree(bundle.BUNDLE, tmp_path / "weights")
    monkeypatch.setattr(bundle, "BUNDLE", tmp_path / "weights")
    files = [name for name in bundle.manifest() if name.startswith(bundle.CAPTIONER)]
    assert {name.split("/")[1] for name in files} == {"config.json", "model.weights.h5"}
    config = tmp_path / "weights" / bundle.CAPTIONER / "config.json"
    changed = json.loads(config.read_text())
    changed["decoding"]["beam_size"] = 2
    config.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load_captioner()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4), np.uint8), r"an image is uint8 \(4, 4\), expected uint8 RGB \(H, W, 3\)"),
        (np.zeros((4, 4, 3)), r"an image is float64 \(4, 4, 3\), expected uint8"),
        (b"no image", "the image"),
    ],
)
def test_what_is_no_image_is_refused(bundled, image, said):
    with pytest.raises(ValueError, match=said):
        bundled.caption(image)


def test_a_captioner_of_other_features_is_refused(captioner, tmp_path):
    other = CaptioningRNN(captioner.word_to_idx, 512, 8, 16, encoder="vgg16_fc7_pca")
    with pytest.raises(ValueError, match="trained on 512 features of vgg16_fc7_pca"):
        Captioner(other)
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}: the captioner cannot caption photographs"):
        load_captioner(tmp_path)


def test_one_without_attention_captions_and_says_that_it_has_none(captioner, astronaut):
    own = Captioner(captioner)
    assert isinstance(own.caption(astronaut), str)
    with pytest.raises(ValueError, match="has no attention"):
        own.caption(astronaut, attention=True)


@pytest.mark.slow
def test_it_is_no_parrot_on_photographs_that_it_has_not_seen(bundled, data):
    """Flickr8k's dev photographs; the figures for all of them are in its README."""
    pytest.importorskip("pycocoevalcap")
    source = read_source(data / "flickr8k", None, val_share=0.1, seed=0)
    photographs = source.splits["val"][::8]
    references = {k: photograph.captions for k, photograph in enumerate(photographs)}
    said = dict(enumerate(bundled.caption([photograph.path for photograph in photographs])))
    training = (text for one in source.splits["train"] for text in one.captions)
    scores = score_captions(said, references, ["BLEU", "CIDEr"])
    assert scores["CIDEr"] > 0.5
    assert scores["BLEU-4"] > 0.2
    assert distinct_share(said) > 0.45
    assert copied_share(said, training) < 0.5
    assert shuffled_cider(said, references, seed=0) < 0.4 * scores["CIDEr"]
