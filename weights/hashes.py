"""The size and the sha256 of bundled files, as the manifest notes them."""

import hashlib
from pathlib import Path
from typing import Any


def add_hashes(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Adds "size" and "sha256" to what is said of each file of the folder."""
    for name, entry in files.items():
        content = (folder / name).read_bytes()
        entry["size"] = len(content)
        entry["sha256"] = hashlib.sha256(content).hexdigest()
