import json
import os

import pytest

pytest.importorskip("jupytext", reason="requirements-dev.txt is not installed")
pytest.importorskip("nbclient")

from notebooks import execute as notebooks

SOURCE = """# %% [markdown]
# # A title
#
# Some text.

# %%
import os, sys

print(f"in {os.path.basename(os.getcwd())}, data: {os.environ.get('TFCAP_DATA')}, loss {1 / 3}")
print("a warning", file=sys.stderr)

# %% tags=["varies"]
import time

print(time.time_ns())

# %%
import matplotlib.pyplot as plt

_ = plt.plot([1, 2])
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("TFCAP_DATA", "/data")
    folder = tmp_path / "lessons"
    folder.mkdir()
    path = folder / "1_small.py"
    path.write_text(SOURCE)
    return path


def test_the_committed_notebooks_are_their_sources_executed():
    sources = notebooks.sources(notebooks.FOLDER)
    assert [line for source in sources for line in notebooks.differences(source)] == []
    made = {path.stem for path in notebooks.FOLDER.glob("*.ipynb")}
    assert made == {source.stem for source in sources}
    assert [name[0] for name in sorted(made)] == ["1", "2", "3", "4", "5"]


@pytest.mark.slow
def test_a_source_becomes_the_same_notebook_every_time_and_a_check_sees_changes(source, capfd):
    path = source.with_suffix(".ipynb")
    assert notebooks.build(source) == []
    assert "a warning" in capfd.readouterr().err
    text = path.read_text()
    made = json.loads(text)
    markdown, code, varies, plot = made["cells"]
    assert "".join(markdown["source"]) == "# A title\n\nSome text."
    assert [output["text"] for output in code["outputs"]] == [
        [f"in lessons, data: None, loss {1 / 3}\n"]
    ]
    assert varies["metadata"] == {"tags": ["varies"]}
    assert list(plot["outputs"][0]["data"]) == ["image/png", "text/plain"]
    assert made["metadata"] == notebooks.METADATA
    assert len(os.listdir(source.parent)) == 2

    assert notebooks.build(source) == []
    again = json.loads(path.read_text())["cells"]
    assert [was == now for was, now in zip(made["cells"], again, strict=True)] == [1, 1, 0, 1]

    path.write_text(text.replace("loss 0.333", "loss 0.443").replace("image/png", "image/jpeg"))
    wrong = [line for line in notebooks.check(source) if not line.startswith("@@")]
    assert wrong[0] == "a cell changed its output: import os, sys"
    assert wrong[1].startswith("-in lessons, data: None, loss 0.443")
    assert wrong[2].startswith("+in lessons, data: None, loss 0.333")
    assert wrong[3] == "a cell changed its output: import matplotlib.pyplot as plt"
    assert not any("import time" in line for line in wrong)  # what varies, may


@pytest.mark.slow
def test_a_cell_that_fails_is_shown_and_no_notebook_written(source):
    source.write_text("# %%\n1 / 0\n")
    (wrong,) = notebooks.build(source)
    assert wrong.endswith("ZeroDivisionError: division by zero")
    assert not source.with_suffix(".ipynb").exists()


@pytest.mark.parametrize("text", [f"in {notebooks.FOLDER}", "<object at 0x7f32ae111550>"])
def test_an_output_that_shows_its_machine_is_refused(source, text):
    from nbformat.v4 import new_output

    notebook = notebooks.read_source(source)
    notebook.cells[1].outputs = [new_output("stream", text="loss 0.1")]
    assert notebooks.unfit(notebook) == []
    notebook.cells[2].outputs = [new_output("execute_result", {"text/plain": text})]
    (wrong,) = notebooks.unfit(notebook)
    assert wrong.startswith("cell 3 prints '")


def test_a_changed_source_a_missing_and_an_unexecuted_notebook_are_told(source):
    import nbformat

    assert notebooks.differences(source)[0].startswith("1_small.ipynb is missing: run")
    nbformat.write(notebooks.read_source(source), source.with_suffix(".ipynb"))
    assert notebooks.differences(source)[0].startswith("1_small.ipynb was not executed")
    source.write_text(SOURCE.replace("Some text", "Other text"))
    assert notebooks.differences(source) == [
        "cell 1 of 1_small.ipynb is not that of 1_small.py: run 'python -m notebooks.execute 1_small'"
    ]
    source.write_text(f"{SOURCE}\n# %%\na = 1\n")
    assert notebooks.differences(source)[0].startswith("1_small.ipynb has 4 cells, 1_small.py 5")


def test_an_identifier_stays_when_another_cell_changes_and_none_is_double(source):
    before = [cell.id for cell in notebooks.read_source(source).cells]
    source.write_text(SOURCE.replace("Some text", "Other text") + "\n# %%\na = 1\n\n# %%\na = 1\n")
    after = [cell.id for cell in notebooks.read_source(source).cells]
    assert after[1:4] == before[1:]
    assert len(set(after)) == 6


@pytest.mark.parametrize(
    ("was", "now", "same"),
    [
        ("loss 1.000 after 20 steps", "loss 1.009 after 20 steps", True),
        ("loss 1.000 after 20 steps", "loss 1.020 after 20 steps", False),
        ("loss 1.000 after 20 steps", "loss 1.000 after 21 steps", False),
        ("error 3.2e-10", "error -7.1e-9", True),
        ("error 3.2e-10", "error 3.2e-4", False),
        ("[ 0.001  1.  ]", "[-0.001  1.  ]", False),
        ("[ 0.000001  1.  ]", "[-0.000002  1. ]", True),
        ("a dog runs", "a dog  runs\n", True),
        ("a dog runs", "a cat runs", False),
        ("a dog", "a dog 1", False),
        ("nan", "1.0", False),
    ],
)
def test_words_and_whole_numbers_are_compared_exactly_other_numbers_nearly(was, now, same):
    assert notebooks.same_text(was, now) is same


def test_an_unknown_notebook_gets_a_sentence(capsys):
    assert notebooks.main(["nothing"]) == 2
    assert "nothing.py does not exist; there are: " in capsys.readouterr().err


def test_a_notebook_can_be_named_by_its_file(source, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "FOLDER", source.parent)
    monkeypatch.setattr(notebooks, "build", lambda path: [] if path == source else ["wrong"])
    assert notebooks.main([str(source)]) == notebooks.main(["1_small"]) == notebooks.main([]) == 0
    assert "1_small: built (0 s)" in capsys.readouterr().out
    monkeypatch.setattr(notebooks, "check", lambda path: ["this differs"])
    assert notebooks.main(["--check"]) == 1
