"""The rules of the layout that the linters do not check."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("visualization", "tfcap")
COMMANDS = {
    "visualization": {
        "saliency",
        "fool",
        "robustness",
        "class_viz",
        "stylize",
        "report",
        "checkpoints",
    },
    "tfcap": {"datasets", "train", "evaluate", "caption"},
}
MODULES = [
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.stem not in ("__init__", "__main__")
]


def is_command(path):
    return path.parent.name in COMMANDS and path.stem in COMMANDS[path.parent.name]


def defined(path):
    """The names that a module defines at its top, without those it imports."""
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@pytest.mark.parametrize("path", list(filter(is_command, MODULES)), ids=str)
def test_a_command_module_offers_its_main_and_nothing_else(path):
    assert [name for name in defined(path) if not name.startswith("_")] == ["main"]


@pytest.mark.parametrize("path", [path for path in MODULES if not is_command(path)], ids=str)
def test_a_library_module_lists_its_public_names(path):
    names = set(defined(path))
    assert "__all__" in names
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    assert all(hasattr(module, name) for name in module.__all__)
    assert not [name for name in module.__all__ if name.startswith("_")]


@pytest.mark.parametrize("path", [path for path in MODULES if not is_command(path)], ids=str)
def test_public_functions_and_classes_have_an_example(path):
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    public = [getattr(module, name) for name in module.__all__]
    without = [
        one.__name__
        for one in public
        if (inspect.isfunction(one) or inspect.isclass(one))
        and not (inspect.isclass(one) and issubclass(one, Exception))
        and ">>>" not in (one.__doc__ or "")
    ]
    assert without == []


@pytest.mark.parametrize("package", PACKAGES)
def test_python_m_package_lists_every_command(package):
    main = importlib.import_module(f"{package}.__main__")
    assert set(main.COMMANDS) == COMMANDS[package]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(package)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing
