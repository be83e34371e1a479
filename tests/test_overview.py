import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("visualization", "tfcap")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_its_commands_and_names_without_tensorflow(package):
    code = (
        f"import sys, {package}.__main__ as overview; overview.main([])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    commands = {
        path.stem
        for path in (ROOT / package).glob("*.py")
        if path.stem != "__main__" and '__name__ == "__main__"' in path.read_text()
    }
    blocks = [re.split(r"\n +", block) for block in said.split("\n\n")]
    listed = {lines[0]: lines[1:] for lines in blocks if lines[0].startswith("python -m ")}
    assert set(listed) == {f"python -m {package}.{command}" for command in commands}
    for command, lines in listed.items():
        assert lines[0][:1].isupper(), f"{command} has no description"
        assert lines[-1].startswith(f"example: {command} "), f"{command} has no example"

    for name in importlib.import_module(package).__all__:
        assert re.search(rf"\b{name}\b", said)
    for module in importlib.import_module(f"{package}.__main__").MODULES:
        assert re.search(rf"^{package}\.{module}\n +[A-Z]", said, re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(package)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing
