"""Where the bundled files lie: `weights/` in a clone, `visualization/weights/` once installed."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
INSTALLED = (_HERE / "weights").is_dir()
BUNDLE = _HERE / "weights" if INSTALLED else _HERE.parent / "weights"


def how_to_restore(name: str) -> str:
    """What to do when the bundled file `name` is missing or damaged."""
    if INSTALLED:
        return "install tfcap anew, with 'pip install --force-reinstall --no-deps'"
    return f"restore it with 'git checkout weights/{name}'"
