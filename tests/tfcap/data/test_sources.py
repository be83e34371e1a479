import contextlib
import csv
import io
import json
import shutil
import unicodedata
from itertools import chain

import pytest

from tfcap.data.sources import read_source

NAMES = [f"{letter}.png" for letter in "abcdef"]


@pytest.fixture
def folder(tmp_path, paths):
    """Six images in a folder inside a folder."""
    images = tmp_path / "set" / "images"
    images.mkdir(parents=True)
    for name, path in zip(NAMES, paths, strict=False):
        shutil.copy(path, images / name)
    return tmp_path / "set"


def token_file(folder, names=NAMES, name="Flickr8k.token.txt"):
    lines = [f"{one}#{k}\tcaption {k} of {one[0]} .\n" for one in names for k in range(2)]
    (folder / name).write_text("".join(lines))


def coco(folder, names, file):
    images = [{"id": 7 + i, "file_name": name} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "image_id": 7 + i, "caption": f"This is {name[0]}!"}
        for i, name in enumerate(names)
    ]
    content = {"info": {}, "images": images, "annotations": annotations}
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps(content))


def karpathy(folder, splits, **changes):
    images = [
        {
            "filename": name,
            "filepath": "images",
            "split": split,
            "sentences": [{"raw": f"One {name[0]}.", "tokens": ["one", name[0]]}],
        }
        | changes
        for name, split in zip(NAMES, splits, strict=True)
    ]
    (folder / "dataset_mine.json").write_text(json.dumps({"images": images, "dataset": "mine"}))


def table(folder, rows, name="captions.csv"):
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    (folder / name).write_text(text.getvalue(), encoding="utf-8")


def names_of(source):
    return {
        split: [one.path.rpartition("/")[2] for one in photographs]
        for split, photographs in source.splits.items()
    }


def test_flickr_is_read_with_its_splits(folder):
    token_file(folder)
    token_file(folder, name="Flickr8k.lemma.token.txt")
    (folder / "CrowdFlowerAnnotations.txt").write_text("a.png\tb.png#2\t1\t0\t3\n")
    (folder / "Flickr_8k.trainImages.txt").write_text("c.png\na.png\n")
    (folder / "Flickr_8k.devImages.txt").write_text("b.png\nd.png\n")
    (folder / "Flickr_8k.testImages.txt").write_text("e.png\n")
    source = read_source(folder)
    assert source.kind == "Flickr"
    assert names_of(source) == {
        "train": ["a.png", "c.png"],
        "val": ["b.png", "d.png"],
        "test": ["e.png"],
    }
    assert source.splits["test"][0].captions == ["caption 0 of e .", "caption 1 of e ."]
    assert source.files[0].name == "Flickr8k.token.txt"
    assert ("f.png", "is in none of the files that list the splits") in source.left_out


def test_flickr30k_as_token_file_and_as_table_is_the_same(folder, tmp_path):
    token_file(folder, name="results_20130124.token")
    source = read_source(folder)
    (folder / "results_20130124.token").unlink()
    lines = ["image_name| comment_number| comment\n"]
    lines += [f"{one}| {k}| caption {k} of {one[0]} .\n" for one in NAMES for k in range(2)]
    lines += ['a.png| 2| he said " hi\n', "b.png| 4   a line that lacks a separator\n"]
    (folder / "results.csv").write_text("".join(lines))
    other = read_source(folder)
    assert (source.kind, other.kind) == ("Flickr", "CSV")
    assert names_of(source) == names_of(other)
    captions = {one.path: one.captions for many in other.splits.values() for one in many}
    assert captions[str(folder / "images" / "a.png")][2] == 'he said " hi'
    assert ("results.csv line 15", "has 2 fields, expected 3") in other.left_out


def test_images_that_two_lists_name_are_not_trained_on(folder):
    token_file(folder)
    (folder / "train.txt").write_text("a\nb\nc\nd\n")
    (folder / "val.txt").write_text("c\ne\n")
    (folder / "test.txt").write_text("d\ne\n")
    source = read_source(folder)
    assert names_of(source) == {
        "train": ["a.png", "b.png"],
        "val": ["c.png"],
        "test": ["d.png", "e.png"],
    }
    assert ("c", "is left out of train: val has it too") in source.left_out


def test_coco_is_read_with_the_splits_of_its_files(folder):
    coco(folder, NAMES[:4], "annotations/captions_train2014.json")
    coco(folder, NAMES[4:], "annotations/captions_val2014.json")
    (folder / "annotations" / "instances_val2014.json").write_text('{"annotations": []}')
    source = read_source(folder)
    assert source.kind == "COCO"
    assert names_of(source) == {"train": NAMES[:4], "val": NAMES[4:]}
    assert source.splits["val"][0].captions == ["This is e!"]


def test_images_of_one_name_are_told_apart_by_the_folder_of_their_split(folder):
    for split in ("train2017", "val2017"):
        shutil.copytree(folder / "images", folder / split)
    shutil.rmtree(folder / "images")
    coco(folder, NAMES[:4], "annotations/captions_train2017.json")
    coco(folder, NAMES[4:], "annotations/captions_val2017.json")
    source = read_source(folder)
    assert all("train2017" in one.path for one in source.splits["train"])
    assert all("val2017" in one.path for one in source.splits["val"])


def test_karpathys_json_is_read_with_its_splits(folder):
    karpathy(folder, ["train", "restval", "val", "test", "test", "train"])
    source = read_source(folder)
    assert source.kind == "Karpathy"
    assert names_of(source) == {
        "train": ["a.png", "b.png", "f.png"],
        "val": ["c.png"],
        "test": ["d.png", "e.png"],
    }


def test_images_of_one_name_in_two_folders_of_karpathys_json_are_two_images(folder):
    (folder / "images").rename(folder / "a")
    shutil.copytree(folder / "a", folder / "b")
    images = [
        {
            "filename": name,
            "filepath": where,
            "split": split,
            "sentences": [{"raw": f"{where} {k}"}],
        }
        for where, split in (("a", "test"), ("b", "train"))
        for k, name in enumerate(NAMES[:3])
    ]
    (folder / "dataset.json").write_text(json.dumps({"images": images}))
    source = read_source(folder)
    found = {
        split: [(one.path.removeprefix(f"{folder}/"), *one.captions) for one in many]
        for split, many in source.splits.items()
    }
    assert found == {
        "train": [("b/a.png", "b 0"), ("b/b.png", "b 1"), ("b/c.png", "b 2")],
        "test": [("a/a.png", "a 0"), ("a/b.png", "a 1"), ("a/c.png", "a 2")],
    }
    shutil.rmtree(folder / "b")
    assert names_of(read_source(folder)) == {"test": NAMES[:3]}
    assert names_of(read_source(folder / "dataset.json", folder / "a")) == {"test": NAMES[:3]}


def test_an_image_that_karpathys_json_has_twice_is_tested_on_with_the_captions_of_both(folder):
    karpathy(folder, ["train"] * 4 + ["val"] * 2)
    content = json.loads((folder / "dataset_mine.json").read_text())
    again = dict(content["images"][1], split="test", sentences=[{"raw": "Another."}])
    content["images"] = [again, *content["images"], dict(again, filename="c.png", split="restval")]
    (folder / "dataset_mine.json").write_text(json.dumps(content))
    source = read_source(folder)
    assert names_of(source) == {
        "train": ["a.png", "c.png", "d.png"],
        "val": ["e.png", "f.png"],
        "test": ["b.png"],
    }
    assert source.splits["test"][0].captions == ["Another.", "One b."]
    assert source.splits["train"][1].captions == ["One c.", "Another."]
    told = [one for one in source.left_out if one[0].startswith("images/")]
    assert told == [("images/b.png", "is left out of train: test has it too")]


def test_the_folders_in_karpathys_json_need_not_be_there(folder):
    karpathy(folder, ["train"] * 4 + ["val"] * 2, filepath="val2014")
    assert names_of(read_source(folder)) == {"train": NAMES[:4], "val": NAMES[4:]}


def test_a_table_may_say_the_splits(folder):
    rows = [["split", "caption", "image"]]
    rows += [["train" if i < 4 else "val", f'a, "b" {name}', name] for i, name in enumerate(NAMES)]
    table(folder, rows)
    source = read_source(folder)
    assert names_of(source) == {"train": NAMES[:4], "val": NAMES[4:]}
    assert source.splits["train"][0].captions == ['a, "b" a.png']


@pytest.mark.parametrize("said", [["test"], ["val"], ["test", "train"]])
def test_splits_that_are_said_are_kept_even_if_one_is_missing(folder, said):
    rows = [[name, f"a {name}", said[i % len(said)]] for i, name in enumerate(NAMES)]
    table(folder, [["image", "caption", "split"], *rows])
    found = names_of(read_source(folder))
    assert {name: split for split, names in found.items() for name in names} == {
        name: split for name, _, split in rows
    }


def test_images_that_a_list_of_tests_names_are_only_tested_on(folder):
    token_file(folder)
    (folder / "test.txt").write_text("a\nb\n")
    source = read_source(folder)
    assert names_of(source) == {"test": ["a.png", "b.png"]}
    assert ("f.png", "is in none of the files that list the splits") in source.left_out


def test_images_of_which_nothing_says_the_split_beside_others_are_trained_on(folder):
    coco(folder, NAMES[:4], "captions_mine.json")
    coco(folder, NAMES[4:], "captions_val2014.json")
    assert names_of(read_source(folder)) == {"train": NAMES[:4], "val": NAMES[4:]}


def test_of_images_that_are_all_said_to_be_trained_on_a_share_is_drawn(folder):
    token_file(folder)
    (folder / "train.txt").write_text("a\nb\nc\nd\n")
    found = names_of(read_source(folder, val_share=0.25))
    assert {split: len(names) for split, names in found.items()} == {"train": 3, "val": 1}


def test_without_splits_a_share_is_drawn_by_image_and_seed(folder):
    table(
        folder, [["image", "caption"], *([name, f"{k} {name}"] for name in NAMES for k in (1, 2))]
    )
    drawn = {tuple(names_of(read_source(folder, val_share=0.5, seed=s))["val"]) for s in range(20)}
    assert len(drawn) > 3
    assert {len(val) for val in drawn} == {3}
    source = read_source(folder, val_share=0.5, seed=1)
    assert names_of(source) == names_of(read_source(folder, val_share=0.5, seed=1))
    assert sorted(chain(*names_of(source).values())) == NAMES
    assert all(len(one.captions) == 2 for many in source.splits.values() for one in many)


def test_a_file_may_be_named_with_the_images_elsewhere(folder, tmp_path):
    table(tmp_path, [["image", "caption"], *([name, "a word"] for name in NAMES)], "mine.csv")
    source = read_source(tmp_path / "mine.csv", folder / "images")
    assert sum(map(len, source.splits.values())) == 6


def test_what_does_not_fit_together_is_left_out_and_listed(folder):
    rows = [["image", "caption"], ["a.png", "a dog"], ["a.png", "a  dog "], ["b.png", " . "]]
    rows += [["b.png", "fine"], ["c.png", ""], ["gone.png", "lost"], ["../../a.png", "a trick"]]
    table(folder, [*rows, ["d.png", "good"]])
    source = read_source(folder, val_share=0.4)
    found = {one.path: one.captions for many in source.splits.values() for one in many}
    root = folder / "images"
    assert found.pop(str(root / "b.png")) == ["fine"]
    assert found.pop(str(root / "d.png")) == ["good"]
    assert found == {str(root / "a.png"): ["a dog"]}
    left_out = [f"{what}: {why}" for what, why in source.left_out]
    for expected in (
        "a.png: has the same caption twice: 'a dog'",
        "b.png: a caption has no words: '.'",
        "c.png: has no caption",
        f"gone.png: there is no such image in {folder}, so its captions are left out too: 1",
        f"{folder}: 3 images in it have no caption that is used",
    ):
        assert expected in left_out


def test_a_path_in_a_file_leads_nowhere_but_into_the_folder(folder, tmp_path, paths):
    shutil.copy(paths[0], tmp_path / "outside.png")
    for name in ("../outside.png", str(tmp_path / "outside.png"), "..\\outside.png", "other/c.png"):
        table(folder, [["image", "caption"], [name, "x"], ["a.png", "y"], ["b.png", "z"]])
        source = read_source(folder, val_share=0.5)
        assert sorted(chain(*names_of(source).values())) == ["a.png", "b.png"]
        assert any(what == name for what, _ in source.left_out)


def broken(folder, case):
    """Writes a broken set of captions; returns what the error must say."""
    good = [["image", "caption"], *([name, "a word"] for name in NAMES)]
    if case == "json":
        (folder / "captions_train.json").write_text('{"images": [],\n "annotations": [}')
        return r"captions_train\.json: is not valid JSON: line 2, column 18"
    if case == "nested json":
        (folder / "captions_train.json").write_text("[" * 100_000)
        return r"captions_train\.json: is not valid JSON"
    if case == "no annotations":
        (folder / "captions_train.json").write_text('{"images": []}')
        return "annotations is not a list of objects"
    if case == "caption is no text":
        content = {"images": [{"id": 1, "file_name": "a.png"}]}
        content["annotations"] = [{"image_id": 1, "caption": None}]
        (folder / "captions_train.json").write_text(json.dumps(content))
        return r"annotations\[0\] has caption None, expected str"
    if case == "another split":
        karpathy(folder, ["train"] * 5 + ["dev2"])
        return r"images\[5\] is in the split 'dev2', expected one of train"
    if case == "split is a list":
        karpathy(folder, ["train"] * 6, split=["train"])
        return r"images\[0\] has split \['train'\], expected str"
    if case == "no quotes":
        rows = "".join(f"{name},a word, and more\n" for name in NAMES)
        (folder / "captions.csv").write_text(f"image,caption\n{rows}")
        return r"line 2 has 3 fields, expected 2, like 6 of 6 lines: .*need quotes"
    if case == "open quote":
        (folder / "captions.csv").write_text('image,caption\na.png,fine\nb.png,"open\nc.png,fine\n')
        return r"captions\.csv: the row that begins in line 3 is broken \(unexpected end"
    if case == "quote inside quotes":
        rows = 'caption,n,image\n"two\nlines",1,a.png\n"it, ""is""",2,"b".png\n'
        (folder / "captions.csv").write_text(rows)
        return r"captions\.csv: the row that begins in line 4 is broken \(',' expected after"
    if case == "long field":
        rows = f'image,caption,n\n"a.png","{200_000 * "x"}",1\n'
        (folder / "captions.csv").write_text(rows)
        return r"captions\.csv: the row that begins in line 2 is broken \(field larger than"
    if case == "other columns":
        (folder / "captions.csv").write_text("id,label\n1,2\n")
        return "line 1 is 'id,label', expected the names of the columns"
    if case == "two splits":
        table(
            folder, [["image", "caption", "split"], ["a.png", "x", "val"], ["a.png", "y", "test"]]
        )
        return "line 3, field 3, puts an image into test that a line above puts into val"
    if case == "unknown split":
        table(folder, [["image", "caption", "split"], ["a.png", "x", ""]])
        return "line 2, field 3, is the split '', expected train, val or test"
    if case == "no UTF-8":
        (folder / "captions.csv").write_bytes(b"image,caption\na.png,caf\xe9\n")
        return r"captions\.csv: line 2, column 10, is not UTF-8 text"
    if case == "no UTF-8 after a byte order mark":
        text = "image,caption\na.png,\N{BLACK STAR}".encode("utf-8-sig") + b"\xe9\n"
        (folder / "captions.csv").write_bytes(text)
        return r"captions\.csv: line 2, column 8, is not UTF-8 text"
    if case == "no UTF-8 in the first line":
        (folder / "captions.csv").write_bytes(b"image,caption,\xe9\na.png,x\n")
        return r"captions\.csv: line 1, column 15, is not UTF-8 text"
    if case == "token file":
        (folder / "x.token").write_text("a.png#0\tfine\n" + "b.png fine\n" * 3)
        return r"x\.token: line 2 is not NAME\.jpg#NUMBER<TAB>CAPTION, like 3 of"
    if case == "no image named":
        table(folder, [["image", "caption"], ["x.png", "a"], ["y.png", "b"]])
        return r"none of the 2 images that are named can be used \(x\.png: there is no such image"
    if case == "one image":
        table(folder, good[:2])
        return "one photograph only"
    if case == "nothing":
        table(folder, good[:1])
        return "holds no caption"
    assert case == "several"
    table(folder, good)
    karpathy(folder, ["train"] * 6)
    return r"has several files of captions \(.*\): name one of them"


@pytest.mark.parametrize(
    "case",
    [
        "json",
        "nested json",
        "no annotations",
        "caption is no text",
        "another split",
        "split is a list",
        "no quotes",
        "open quote",
        "quote inside quotes",
        "long field",
        "other columns",
        "two splits",
        "unknown split",
        "no UTF-8",
        "no UTF-8 after a byte order mark",
        "no UTF-8 in the first line",
        "token file",
        "no image named",
        "one image",
        "nothing",
        "several",
    ],
)
def test_a_broken_set_gets_one_sentence(folder, case):
    expected = broken(folder, case)
    with pytest.raises(ValueError, match=expected):
        read_source(folder)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "is empty"),
        (["shapes_captions.h5", "shapes_vocab.json"], "is built already, shapes_captions.h5"),
        (["annotations/instances_train2014.json"], "looks like COCO's boxes"),
        (["data/train-00000.parquet"], "looks like a Hugging Face data set"),
        (["shard.tfrecord"], "holds archives"),
        (["Annotations/1.xml", "JPEGImages/1.jpg"], "holds images without captions"),
        (["1.jpg", "2.png"], r"holds images without captions \(1\.jpg\): add a captions\.csv"),
        (["Flickr8k_Dataset.zip"], "holds archives"),
        (["notes.txt"], r"holds notes\.txt: name another folder"),
    ],
)
def test_a_folder_of_another_kind_is_called_what_it_looks_like(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match=expected):
        read_source(tmp_path)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such folder or file"):
        read_source(tmp_path / "none")


def test_a_table_gives_back_any_captions_that_a_spreadsheet_can_write(folder):
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)

    @hypothesis.given(st.lists(texts, min_size=2, max_size=2))
    @hypothesis.settings(deadline=None, max_examples=60)
    def check(captions):
        captions = [f"word {text}" for text in captions]
        table(folder, [["image", "caption"], *zip(["a.png", "b.png"], captions, strict=True)])
        source = read_source(folder, val_share=0.5)
        found = {one.path[-5:]: one.captions for many in source.splits.values() for one in many}
        normal = [unicodedata.normalize("NFC", caption) for caption in captions]
        expected = [[" ".join(caption.split())] for caption in normal]
        assert [found["a.png"], found["b.png"]] == expected

    check()


@pytest.mark.parametrize("case", ["token", "json", "csv"])
def test_any_damage_to_a_file_is_told_or_listed(folder, case):
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    if case == "token":
        token_file(folder)
    elif case == "json":
        karpathy(folder, ["train"] * 3 + ["val"] * 3)
    else:
        table(folder, [["image", "caption", "split"], *([n, "a, word", "train"] for n in NAMES)])
    (path,) = (one for one in folder.iterdir() if one.is_file())
    whole = path.read_bytes()

    @hypothesis.given(st.integers(0, len(whole)), st.integers(0, 9), st.binary(max_size=4))
    @hypothesis.settings(deadline=None, max_examples=100)
    def check(place, length, instead):
        path.write_bytes(whole[:place] + instead + whole[place + length :])
        with contextlib.suppress(ValueError):
            assert sum(map(len, read_source(folder).splits.values())) >= 2

    check()


def test_flickr8k_is_found_in_the_data(data):
    source = read_source(data / "flickr8k")
    assert {split: len(many) for split, many in source.splits.items()} == {
        "train": 6000,
        "val": 1000,
    }
    assert len(source.left_out) == 9  # captions that an image has twice


# ---- names and files as people have them


@pytest.mark.parametrize(
    "named", [str.upper, lambda name: name[0], lambda name: f"{name[0].upper()}.JPG"]
)
def test_names_match_without_case_and_ending_and_it_is_said(folder, named):
    rows = [[named(name), f"one {name[0]}"] for name in NAMES]
    table(folder, [["image", "caption"], *rows])
    source = read_source(folder)
    assert sorted(p.path[-5:] for ps in source.splits.values() for p in ps) == NAMES
    ((_, said),) = source.left_out
    assert said == (
        f"6 names in it, such as {named('a.png')} for images/a.png, match without their case or ending "
        "only, and are used"
    )


def test_a_name_that_several_files_match_is_left_out(folder, paths):
    shutil.copy(paths[0], folder / "images" / "A.PNG")
    shutil.copy(paths[1], folder / "images" / "b.jpg")
    table(
        folder, [["image", "caption"], ["a.Png", "x"], ["b", "y"], ["a.png", "z"], ["c.png", "w"]]
    )
    source = read_source(folder)
    reasons = dict(source.left_out)
    assert reasons["a.Png"].startswith("there are several: images/")
    assert reasons["b"].startswith("there are several: images/")
    assert sum(map(len, source.splits.values())) == 2  # the exact names


def test_names_match_in_whichever_form_of_unicode(folder):
    for name, form in zip(NAMES, ("NFC", "NFD", "NFC", "NFD", "NFC", "NFD"), strict=True):
        spelled = unicodedata.normalize(form, f"é{name}")
        (folder / "images" / name).rename(folder / "images" / spelled)
    table(folder, [["image", "caption"], *([f"é{name}", "one"] for name in NAMES)])
    assert sum(map(len, read_source(folder).splits.values())) == 6


def test_coco_is_known_by_its_structure_whatever_its_name(folder):
    coco(folder, NAMES, "train.json")
    content = json.loads((folder / "train.json").read_text())
    content = {"info": {"about": "x" * 70_000}} | content
    (folder / "train.json").write_text(json.dumps(content))
    source = read_source(folder)
    assert source.kind == "COCO"
    assert sum(map(len, source.splits.values())) == 6


@pytest.mark.parametrize("form", ["neuraltalk2", "blip", "metadata.jsonl"])
def test_lists_of_images_and_captions_are_read(folder, form):
    if form == "neuraltalk2":
        records = [{"file_path": f"images/{n}", "captions": ["One.", "Two."]} for n in NAMES]
    elif form == "blip":
        records = [{"image": n, "caption": c, "image_id": 1} for n in NAMES for c in ("One", "Two")]
    else:
        records = [{"file_name": n, "text": ["One", "Two"], "split": "train"} for n in NAMES]
    if form.endswith(".jsonl"):
        lines = "\n".join(json.dumps(record) for record in records)
        (folder / "images" / form).write_text(f"{lines}\n")
    else:
        (folder / "list.json").write_text(json.dumps(records))
    source = read_source(folder)
    photographs = [p for ps in source.splits.values() for p in ps]
    assert [len(p.captions) for p in photographs] == [2] * 6


def test_metadata_of_several_folders_gives_their_splits(folder, paths):
    for split, path in ("train", paths[0]), ("validation", paths[1]), ("test", paths[2]):
        (folder / split).mkdir()
        shutil.copy(path, folder / split / "0.png")  # the same name in each
        record = {"file_name": "0.png", "text": f"One of {split}."}
        (folder / split / "metadata.jsonl").write_text(json.dumps(record))
    splits = read_source(folder).splits
    assert {split: [p.captions for p in photographs] for split, photographs in splits.items()} == {
        "train": [["One of train."]],
        "val": [["One of validation."]],
        "test": [["One of test."]],
    }


def test_a_broken_list_is_refused_with_its_place(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n{"file_name": 3')
    with pytest.raises(ValueError, match=r"metadata\.jsonl: line 2: is not valid JSON"):
        read_source(folder)
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n{"text": 3}')
    with pytest.raises(ValueError, match=r"metadata\.jsonl: entry 1 has no image and caption"):
        read_source(folder)


def test_captions_txt_without_a_header_gets_the_hint_of_csv(folder):
    (folder / "captions.txt").write_text("a.png,a dog, running\n")
    with pytest.raises(
        ValueError, match=r"line 1 is 'a\.png,a dog, running', expected the names of"
    ):
        read_source(folder)
    (folder / "captions.txt").write_text("image,caption\na.png,a dog, running\n")
    with pytest.raises(ValueError, match="captions with commas in them need quotes"):
        read_source(folder)
