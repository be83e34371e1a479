"""What README.md, CONTRIBUTING.md and docs/ say of files and commands is so."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "weights" / "captioner_flickr8k" / "README.md"]
COMMAND = (
    r"python -m ((?:tfcap|visualization|benchmarks|notebooks|weights)\S*?)((?: [^`|\n]*)?)[`|\n]"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        if not re.match(r"[a-z]+:", link):
            assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


def commands():
    """(module, subcommand or "", options) of every `python -m` of ours on the pages."""
    found = set()
    for page in PAGES:
        for module, rest in re.findall(COMMAND, page.read_text()):
            words = rest.split()
            sub = words[0] if words and words[0] in ("build", "inspect") else ""
            found.add((module, sub, tuple(word for word in words if word.startswith("--"))))
    return sorted(found)


@functools.cache
def help_of(module, sub):
    call = [sys.executable, "-m", module, *filter(None, [sub]), "--help"]
    return subprocess.run(call, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("module", "sub", "options"), commands())
def test_every_command_takes_the_options_it_is_shown_with(module, sub, options):
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file() or (
        ROOT / module / "__main__.py"
    ).is_file()
    if options or sub:
        assert set(options) <= set(re.findall(r"--[a-z-]+", help_of(module, sub)))
