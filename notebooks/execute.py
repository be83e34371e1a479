"""Makes the notebooks from their sources: ``python -m notebooks.execute [NAME ...] [--check]``.

A source is a percent-script, ``NAME.py``: ``# %%`` begins a cell of code, ``# %% [markdown]`` one of
text. ``NAME.ipynb`` is the same, executed in its folder, without $TFCAP_DATA, so that it holds no
photograph of a data set's. What would differ from one run to the next (times, paths, the kernel's
version, what libraries say on the standard error) is not kept.

``--check`` executes the notebooks anew and compares what they print with what is committed: words and
whole numbers must be the same, other numbers within one per cent, and pictures must be where pictures
were. A cell whose output depends on the machine is marked ``# %% tags=["varies"]`` and must only run.
"""

import argparse
import difflib
import hashlib
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from visualization.cli.arguments import Parser
from visualization.cli.output import OutputFolder
from visualization.cli.running import run

FOLDER = Path(__file__).resolve().parent
VARIES = "varies"
TIMEOUT = 900  # seconds that one cell may take
LONGEST = 180  # seconds that a notebook is to take on two cores
TOLERANCE, ZERO = 0.01, 1e-5  # relative; what is smaller than the second counts as zero
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # colours
CHATTER = re.compile(r"^(WARNING: All log messages before absl|[IW]\d{4} ).*\n", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

Notebook = Any  # nbformat's NotebookNode


def main(argv: list[str] | None = None) -> int:
    """Returns 1 if a notebook failed, or with --check does not print what it did."""
    parser = Parser(
        prog="python -m notebooks.execute",
        description="Executes the notebooks' sources and writes the notebooks.",
        epilog="example: python -m notebooks.execute 1_rnn_captioning",
    )
    parser.add_argument("name", nargs="*", help="a notebook, without ending (default: all)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; compare with the notebooks that are there",
    )
    return run(parser, argv, _build)


def _build(arguments: argparse.Namespace) -> int:
    failed = 0
    for source in [FOLDER / f"{Path(name).stem}.py" for name in arguments.name] or sources(FOLDER):
        start = time.monotonic()
        wrong = check(source) if arguments.check else build(source)
        failed += bool(wrong)
        outcome = (
            "\n" + "\n".join(wrong) if wrong else "as committed" if arguments.check else "built"
        )
        seconds = time.monotonic() - start
        late = f", more than the {LONGEST} that are promised" if seconds > LONGEST else ""
        print(f"{source.stem}: {outcome} ({seconds:.0f} s{late})", flush=True)
    return int(failed > 0)


def sources(folder: Path) -> list[Path]:
    """The percent-scripts in a folder, in the order in which one learns from them."""
    return sorted(folder.glob("[0-9]*.py"))


def build(source: Path) -> list[str]:
    """Executes a source and writes the notebook beside it, whole or not at all.

    Returns:
        what is wrong, if anything is; then nothing was written.
    """
    import nbformat

    notebook = read_source(source)
    wrong = execute(notebook, source.parent) or unfit(notebook)
    if not wrong:
        content = nbformat.writes(notebook).encode() + b"\n"
        OutputFolder(source.parent).write(f"{source.stem}.ipynb", content)
    return wrong


def check(source: Path) -> list[str]:
    """Executes a source and compares it with the notebook beside it; returns what is wrong."""
    import nbformat

    wrong = differences(source)
    if wrong:
        return wrong
    committed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    notebook = read_source(source)
    wrong = execute(notebook, source.parent) or unfit(notebook)
    if wrong:
        return wrong
    for was, now in zip(committed.cells, notebook.cells, strict=True):
        if now.cell_type == "code" and VARIES not in now.metadata.get("tags", []):
            wrong += compare(was, now)
    return wrong


def read_source(source: Path) -> Notebook:
    """The notebook that a percent-script means, without outputs.

    A cell's id is made from what stands in it, so that it stays when another cell changes.

    Raises:
        OSError: there is no such file.
    """
    import jupytext

    if not source.is_file():
        names = ", ".join(path.stem for path in sources(source.parent))
        raise FileNotFoundError(f"{source} does not exist; there are: {names or 'none'}")
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    return notebook


def differences(source: Path) -> list[str]:
    """Where a committed notebook is not its source, or was not executed; takes no time."""
    import nbformat

    path = source.with_suffix(".ipynb")
    remedy = f"run 'python -m notebooks.execute {source.stem}'"
    if not path.is_file():
        return [f"{path.name} is missing: {remedy}"]
    committed, notebook = nbformat.read(path, as_version=4), read_source(source)
    here, there = ([_content(cell) for cell in book.cells] for book in (committed, notebook))
    for number, (was, now) in enumerate(zip(here, there, strict=False), 1):
        if was != now:
            return [f"cell {number} of {path.name} is not that of {source.name}: {remedy}"]
    if len(here) != len(there):
        return [f"{path.name} has {len(here)} cells, {source.name} {len(there)}: {remedy}"]
    if any(cell.cell_type == "code" and not cell.execution_count for cell in committed.cells):
        return [f"{path.name} was not executed: {remedy}"]
    return []


def _content(cell: Notebook) -> tuple[str, str, str, list[str]]:
    return cell.cell_type, cell.id, cell.source, cell.metadata.get("tags", [])


def execute(notebook: Notebook, folder: Path) -> list[str]:
    """Fills in the outputs, from a kernel of its own started in `folder`; returns why it failed."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    with tempfile.TemporaryDirectory() as profile:
        try:
            client.execute(env=environment(profile), stderr=subprocess.DEVNULL)  # has it twice
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            return [ANSI.sub("", str(error)).strip()]
    notebook.metadata = METADATA
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.get("name") == "stderr":
                    print(CHATTER.sub("", output.text), end="", file=sys.stderr)
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            cell.metadata.pop("execution", None)
    return []


def environment(profile: str) -> dict[str, str]:
    """What a stranger with a bare clone would have: no data sets, no settings of one's own."""
    own = {"TFCAP_DATA", "MPLBACKEND", "PYTHONPATH", "PYTHONSTARTUP"}
    kept = {key: value for key, value in os.environ.items() if key not in own}
    return kept | {"IPYTHONDIR": profile, "TF_CPP_MIN_LOG_LEVEL": "3"}


def unfit(notebook: Notebook) -> list[str]:
    """Outputs that would differ on another machine: paths of this one, addresses in memory."""
    places = [f"{place}{os.sep}" for place in (FOLDER.parent, Path.home(), tempfile.gettempdir())]
    wrong = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            text = printed(output)
            found = [place for place in places if place in text] + ADDRESS.findall(text)
            if found:
                wrong.append(f"cell {number} prints {found[0]!r}, which is different elsewhere")
    return wrong


def printed(output: Notebook) -> str:
    """The text of an output."""
    return output.text if "text" in output else output.get("data", {}).get("text/plain", "")


def compare(was: Notebook, now: Notebook) -> list[str]:
    """What a cell shows now and did not before, as lines of a diff."""
    before, after = (
        [(output.output_type, sorted(output.get("data", []))) for output in cell.outputs]
        for cell in (was, now)
    )
    title = f"a cell changed its output: {now.source.splitlines()[0]}"
    if before != after:
        return [title, f"- {before}", f"+ {after}"]
    for old, new in zip(was.outputs, now.outputs, strict=True):
        if not same_text(printed(old), printed(new)):
            lines = printed(old).splitlines(), printed(new).splitlines()
            return [title, *list(difflib.unified_diff(*lines, n=0, lineterm=""))[2:]]
    return []


def same_text(was: str, now: str) -> bool:
    """Whether two texts have the same words and whole numbers, and other numbers nearly the same."""
    words = [" ".join(text.split()) for text in (NUMBER.sub(" # ", was), NUMBER.sub(" # ", now))]
    numbers = zip(NUMBER.findall(was), NUMBER.findall(now), strict=False)
    return words[0] == words[1] and all(same_number(*pair) for pair in numbers)


def same_number(was: str, now: str) -> bool:
    """Whole numbers must be equal, others within 1 %; what is below 1e-5 counts as zero."""
    if was.lstrip("+-").isdigit() and now.lstrip("+-").isdigit():
        return int(was) == int(now)
    return math.isclose(float(was), float(now), rel_tol=TOLERANCE, abs_tol=ZERO)


if __name__ == "__main__":
    sys.exit(main())
