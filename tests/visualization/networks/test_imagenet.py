import re
import zipfile

import numpy as np
import pytest

from visualization import class_names, find_class, load_imagenet_val


def test_there_are_a_thousand_names_and_no_two_are_equal():
    names = class_names()
    assert len(set(names)) == 1000
    assert names[0] == "tench, Tinca tinca"
    assert names[6] == "stingray"
    assert names[999] == "toilet tissue, toilet paper, bathroom tissue"


def test_changing_the_returned_list_changes_nothing_for_others():
    class_names().clear()
    assert len(class_names()) == 1000


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("6", 6),
        ("stingray", 6),
        (" StingRay ", 6),
        ("Tinca tinca", 0),
        ("crane (bird)", 134),
        ("cougar, puma, catamount, mountain lion, painter, panther, Felis concolor", 286),
    ],
)
def test_a_class_is_found_by_number_whole_name_and_synonym(text, index):
    assert find_class(text) == index


def test_no_name_of_the_list_leads_to_another_class():
    for index, name in enumerate(class_names()):
        for synonym in [name, *name.split(",")]:
            try:
                answer = str(find_class(synonym))
            except ValueError as error:
                answer = str(error)
            assert re.search(rf"(^| ){index}($| \()", answer)


def test_an_ambiguous_name_is_answered_with_both_numbers():
    with pytest.raises(ValueError, match=r"134 \(crane \(bird\)\) or 517 \(crane \(machine\)\)"):
        find_class("crane")


@pytest.mark.parametrize("text", ["1000", "-1", "99999999999999999999"])
def test_a_number_out_of_range_is_answered_with_the_range(text):
    with pytest.raises(ValueError, match=f"no class {text}.*0 to 999"):
        find_class(text)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'stingray' \(6\)"):
        find_class("stingrey")
    with pytest.raises(ValueError, match=r"'tabby cat' \(281\)"):
        find_class("cat")


@pytest.mark.parametrize("text", ["", "   ", "x" * 10_000, "\0"])
def test_nonsense_is_no_class(text):
    with pytest.raises(ValueError, match="there is no class"):
        find_class(text)


def test_a_users_own_names_can_be_searched():
    assert find_class("dog", ["cat", "dog"]) == 1
    with pytest.raises(ValueError, match="0 to 1"):
        find_class("2", ["cat", "dog"])


def test_the_validation_images_load_with_names_and_without_unpickling(imagenet):
    X, y, names = load_imagenet_val(5)
    assert X.shape == (5, 224, 224, 3)
    assert X.dtype == np.uint8
    assert y.shape == (5,)
    assert names[y[0]] == "hay"


def test_missing_validation_images_are_answered_with_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TFCAP_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="TFCAP_DATA"):
        load_imagenet_val()


def test_a_file_with_pickled_images_is_refused(tmp_path):
    path = tmp_path / "imagenet_val_25.npz"
    np.savez(path, X=np.array([{}], dtype=object), y=np.zeros(1))
    with pytest.raises(ValueError, match=r"is not the course's imagenet_val_25\.npz"):
        load_imagenet_val(path=path)


@pytest.mark.parametrize("num", [-1, 0])
def test_a_number_of_validation_images_that_is_not_positive_is_refused(num):
    with pytest.raises(ValueError, match=f"num is {num}, expected a positive number"):
        load_imagenet_val(num)


def test_a_header_that_is_no_python_is_refused(tmp_path):
    path = tmp_path / "imagenet_val_25.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\0\x02\0(\n")  # tokenize.TokenError in NumPy
    with pytest.raises(ValueError, match=r"is not the course's imagenet_val_25\.npz"):
        load_imagenet_val(path=path)


def test_a_damaged_compressed_file_is_refused(tmp_path):
    path = tmp_path / "imagenet_val_25.npz"
    pixels = np.random.default_rng(0).integers(0, 9, (2, 9, 9, 3), dtype=np.uint8)
    np.savez_compressed(path, X=pixels, y=np.arange(2))
    content = bytearray(path.read_bytes())
    for start in (60, 150):
        damaged = content[:start] + bytes(20 * [255]) + content[start + 20 :]
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is not the course's imagenet_val_25\.npz"):
            load_imagenet_val(path=path)
