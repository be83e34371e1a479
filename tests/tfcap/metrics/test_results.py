import json
import re

import numpy as np
import pytest

from tfcap.metrics.results import read_coco_results, references_by_image, write_coco_results


def test_results_are_read_as_they_were_written(tmp_path):
    predictions = {391895: "a man\u2019s \u201chorse\u201d", 7: "", "dev/1.jpg": "\U0001f40e \\ \n"}
    file = tmp_path / "results.json"
    write_coco_results(file, predictions)
    assert read_coco_results(file) == predictions
    assert json.loads(file.read_text())[1] == {"image_id": 7, "caption": ""}
    write_coco_results(file, {np.int64(3): "a"})
    assert read_coco_results(file) == {3: "a"}
    file.write_text('[{"image_id": 3, "caption": "caf\u00e9"}]', encoding="utf-8-sig")
    assert read_coco_results(file) == {3: "caf\u00e9"}
    write_coco_results(file, {})
    assert read_coco_results(file) == {}


@pytest.mark.parametrize("wrong", [{1.5: "a"}, {True: "a"}, {1: None}, {None: "a"}])
def test_results_of_other_types_are_not_written(wrong, tmp_path):
    file = tmp_path / "results.json"
    write_coco_results(file, {1: "before"})
    with pytest.raises(TypeError):
        write_coco_results(file, {2: "good"} | wrong)
    assert read_coco_results(file) == {1: "before"}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"image_id": 1,\n "caption": "a",}]', "line 2, column 17"),
        ("", "line 1, column 1"),
        ('[{"image_id": 1, "caption": "a"}', "line 1, column 33"),
        ('{"annotations": [], "images": []}', "holds COCO annotations, expected COCO results"),
        ("3", "holds a JSON int"),
        ('["a man"]', 'entry 0 is "a man", expected'),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": 2}]', 'entry 1 is {"image_id": 2}'),
        ('[{"image_id": 1.5, "caption": "a"}]', "entry 0"),
        ('[{"image_id": true, "caption": "a"}]', "entry 0"),
        ('[{"image_id": 1, "caption": ["a"]}]', "entry 0"),
        (
            '[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]',
            "image_id 1 has two",
        ),
        ("[" * 100_000, "is not valid JSON"),
        ('[{"image_id": ' + "9" * 5000 + ', "caption": "a"}]', "is not valid JSON"),
    ],
)
def test_a_broken_result_file_is_described_in_one_sentence(text, says, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        read_coco_results(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_result_file_that_is_no_text_is_described(tmp_path):
    file = tmp_path / "results.json"
    file.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_coco_results(file)
    with pytest.raises(FileNotFoundError):
        read_coco_results(tmp_path / "missing.json")


def built(folder, annotations):
    data = {
        "val_captions": np.array([[1, 4, 2, 0], [1, 5, 3, 2], [1, 5, 4, 2]], np.int32),
        "val_image_idxs": np.array([2, 0, 2], np.int32),
        "val_features": np.zeros((4, 3), np.float32),
        "idx_to_word": ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog"],
    }
    if annotations is not None:
        file = folder / "x_val_captions.json"
        file.write_text(annotations, encoding="utf-8")
        data["val_annotations"] = str(file)
    return data


def test_references_are_the_captions_decoded_where_only_ids_are_kept(tmp_path):
    data = built(tmp_path, None)
    assert references_by_image(data, "val") == {2: ["a", "dog a"], 0: ["dog <UNK>"]}


def test_references_are_the_sentences_as_written_where_these_are_kept(tmp_path):
    sentences = [(2, "A."), (0, "A dog, caf\u00e9!"), (2, "a dog")]
    entries = [{"image_id": image, "caption": text} for image, text in sentences]
    data = built(tmp_path, json.dumps({"annotations": entries}, ensure_ascii=False))
    assert references_by_image(data, "val") == {2: ["A.", "a dog"], 0: ["A dog, caf\u00e9!"]}


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ("{", "line 1, column 2"),
        ("[]", "annotation 0 is not the caption of an image from 0 to 3"),
        ('{"annotations": 3}', "annotation 0 is not"),
        ('{"annotations": [{"image_id": 4, "caption": "a"}]}', "annotation 0 is not"),
        ('{"annotations": [{"image_id": "2", "caption": "a"}]}', "annotation 0 is not"),
        ('{"annotations": [{"image_id": 2, "caption": 5}]}', "annotation 0 is not"),
    ],
)
def test_damaged_annotations_are_named(annotations, says, tmp_path):
    with pytest.raises(ValueError, match=rf"x_val_captions\.json: .*{says}"):
        references_by_image(built(tmp_path, annotations), "val")


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match="no split 'test', only val"):
        references_by_image(built(tmp_path, None), "test")
