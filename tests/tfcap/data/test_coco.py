"""The course's layout: loaded, sampled, decoded."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tfcap import caption_folders
from tests.tfcap.caption_folders import IMAGES, WORDS, T
from tfcap.data.batches import caption_dataset
from tfcap.data.coco import decode_captions, load_coco_data, sample_coco_minibatch
from tfcap.data.vocabulary import END, NULL, START


@pytest.mark.parametrize("layout", ["course", "built"])
def test_a_folder_gives_the_course_s_dict(tmp_path, layout):
    write = getattr(caption_folders, f"write_{layout}")
    arrays = write(tmp_path)
    data = load_coco_data(tmp_path)
    assert set(data) == {*arrays, "idx_to_word", "word_to_idx", "encoder"}
    for key, array in arrays.items():
        np.testing.assert_array_equal(np.asarray(data[key]), array)
        assert data[key].shape == array.shape
    assert data["idx_to_word"] == WORDS
    assert data["word_to_idx"]["<END>"] == END
    assert data["encoder"] == {"course": "vgg16_fc7_pca", "built": "squeezenet"}[layout]


def test_a_test_split_and_a_grid_of_features_may_be_there(tmp_path):
    arrays = caption_folders.write_built(tmp_path, counts={"train": 9, "val": 3, "test": 4})
    (tmp_path / "photos_train_squeezenet_grid.h5").touch()
    data = load_coco_data(str(tmp_path))
    np.testing.assert_array_equal(np.asarray(data["test_captions"]), arrays["test_captions"])


def test_a_folder_called_as_the_course_s_may_hold_built_features(tmp_path):
    caption_folders.write_built(tmp_path, name="coco2014")
    assert load_coco_data(tmp_path)["encoder"] == "squeezenet"


def test_the_wide_features_come_on_request(tmp_path):
    caption_folders.write_course(tmp_path, pca=False)
    assert load_coco_data(tmp_path, pca_features=False)["encoder"] == "vgg16_fc7"


def test_urls_are_strings_that_an_array_indexes(loaded, course):
    urls, array = loaded["train_urls"], course[1]["train_urls"]
    assert urls.shape == (IMAGES,)
    assert type(urls[0]) is str
    np.testing.assert_array_equal(urls[[3, 0, 3]], array[[3, 0, 3]])


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_relative_paths_lead_from_the_folder_of_their_list(tmp_path, ending):
    caption_folders.write_built(tmp_path)
    here = str(tmp_path / "elsewhere" / "b é.jpg")
    lines = ["images/a.jpg", here, *["http://images.example/c.jpg"] * (IMAGES - 2)]
    text = (ending or "\n").join(lines) + ending
    (tmp_path / "photos_train_images.txt").write_text(text, encoding="utf-8", newline="")
    urls = load_coco_data(tmp_path)["train_urls"]
    assert urls.tolist() == [str(tmp_path / "images" / "a.jpg"), *lines[1:]]


def test_sentences_that_are_kept_are_found(tmp_path):
    caption_folders.write_built(tmp_path)
    (tmp_path / "photos_val_captions.json").touch()
    data = load_coco_data(tmp_path)
    assert data["val_annotations"] == str(tmp_path / "photos_val_captions.json")
    assert "train_annotations" not in data
    assert all(len(value) > 0 for value in data.values())  # the course's cell prints each length


def test_max_train_draws_without_replacement_by_its_seed(course):
    folder, arrays = course
    data = load_coco_data(folder, max_train=150, seed=1)
    captions, images = data["train_captions"], data["train_image_idxs"]
    assert (captions.shape, images.shape) == ((150, T), (150,))
    everything = pairs(arrays["train_captions"], arrays["train_image_idxs"])
    assert len(pairs(captions, images) & everything) == 150
    again, other = (load_coco_data(folder, 150, seed=seed)["train_captions"] for seed in (1, 2))
    np.testing.assert_array_equal(captions, again)
    assert not np.array_equal(captions, other)
    assert len(data["val_captions"]) == 20
    assert len(data["train_features"]) == IMAGES


def pairs(captions, images):
    return {(*row, image) for row, image in zip(captions.tolist(), images.tolist(), strict=True)}


def test_max_train_beyond_what_is_there_takes_all(course):
    assert load_coco_data(course[0], max_train=201)["train_captions"].shape == (200, T)
    with pytest.raises(ValueError, match="max_train is 0, expected 1 or more"):
        load_coco_data(course[0], max_train=0)


def test_the_course_s_own_vocabulary_loads(data, tmp_path):
    caption_folders.write_course(tmp_path)
    (tmp_path / "coco2014_vocab.json").write_bytes((data / "coco2014_vocab.json").read_bytes())
    loaded = load_coco_data(tmp_path)
    assert len(loaded["idx_to_word"]) == 1004
    assert decode_captions(np.array([START, 4, END, NULL]), loaded["idx_to_word"]) == "a"


# ---- minibatches and sentences


def test_a_minibatch_pairs_captions_with_their_images(course, loaded):
    arrays = course[1]
    captions, features, urls = sample_coco_minibatch(loaded, 150, seed=0)
    keys = {row.tobytes(): i for i, row in enumerate(arrays["train_captions"])}
    rows = [keys[row.tobytes()] for row in captions]
    assert len(set(rows)) == 150
    images = arrays["train_image_idxs"][rows]
    np.testing.assert_array_equal(features, arrays["train_features"][images])
    np.testing.assert_array_equal(urls, arrays["train_urls"][images])


def test_minibatches_follow_their_seed_or_numpy_s(loaded):
    def drawn(**options):
        return sample_coco_minibatch(loaded, 5, "val", **options)[0].tolist()

    assert drawn(seed=3) == drawn(seed=3) != drawn(seed=4)
    np.random.seed(0)
    first = drawn()
    assert drawn() != first
    np.random.seed(0)
    assert drawn() == first


def test_more_than_there_are_come_with_repeats(loaded):
    assert sample_coco_minibatch(loaded, 50, "val", seed=0)[0].shape == (50, T)


def test_a_split_that_is_not_there_is_named(loaded):
    with pytest.raises(ValueError, match="have no split 'dev', only train, val"):
        sample_coco_minibatch(loaded, 5, "dev")
    with pytest.raises(ValueError, match="have no split 'dev', only train, val"):
        caption_dataset(loaded, "dev")
    with pytest.raises(ValueError, match="batch_size is 0, expected 1 or more"):
        sample_coco_minibatch(loaded, 0)


def test_sentences_stop_before_end_and_leave_out_null_and_a_leading_start():
    words = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"]
    assert decode_captions([1, 4, 5, 2, 0, 0], words) == "a dog"
    assert decode_captions(np.array([[4, 0, 3, 5], [2, 4, 4, 4], [1, 4, 1, 5]]), words) == [
        "a <UNK> dog",
        "",
        "a <START> dog",
    ]
    assert decode_captions([0, 3, 5], {0: "<NULL>", 3: "a", 5: "dog"}) == "a dog"
    assert decode_captions(np.zeros((0, 4), int), words) == []
    assert decode_captions(np.zeros((2, 0), int), words) == ["", ""]


@pytest.mark.parametrize(
    ("captions", "error", "said"),
    [
        ([4, 6], ValueError, "hold the id 6, which is not in the vocabulary of 6 words"),
        ([[4, -1]], ValueError, "hold the id -1"),
        ([4.0], TypeError, "are float64, expected integers"),
        (4, ValueError, r"shape \(\), expected \(T,\) or \(N, T\)"),
    ],
)
def test_what_is_no_caption_is_not_decoded(captions, error, said):
    with pytest.raises(error, match=said):
        decode_captions(captions, ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"])


def test_loading_needs_no_tensorflow():
    code = "import sys, tfcap.data.coco, tfcap.data.sources; print('tensorflow' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout == "False\n"


FIRST_WAVE = Path(__file__).resolve().parents[2] / "first_wave" / "data"


def test_a_set_that_the_first_version_built_loads():
    data = load_coco_data(FIRST_WAVE)
    assert [len(data[f"{split}_captions"]) for split in ("train", "val")] == [12, 4]
    sentences = decode_captions(data["train_captions"][:2], data["idx_to_word"])
    assert sentences == ["a blue square", "a blue circle"]
    assert data["train_urls"][0] == str(FIRST_WAVE / "train_0.jpg")
    assert data["train_features"][:].shape == (12, 8)


def test_words_by_ids_may_have_the_string_keys_of_json():
    words = json.loads(json.dumps(dict(enumerate(WORDS))))
    assert decode_captions([1, 4, 5, 2], words) == decode_captions([1, 4, 5, 2], WORDS)
    with pytest.raises(ValueError, match="the id 99"):
        decode_captions([99], words)
