import re

import pytest

from visualization import class_names, find_class


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
