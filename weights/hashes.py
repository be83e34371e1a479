"""The size and the sha256 of bundled files, as the manifest notes them."""

import hashlib
import json
from pathlib import Path
from typing import Any


def add_hashes(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Adds "size" and "sha256" to what is said of each file of the folder."""
    for name, entry in files.items():
        content = (folder / name).read_bytes()
        entry["size"] = len(content)
        entry["sha256"] = hashlib.sha256(content).hexdigest()


def add_to_manifest(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Writes what is said of some of the folder's files into its manifest, with size and sha256."""
    add_hashes(folder, files)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] |= files
    path.write_text(json.dumps(manifest, indent=1) + "\n")
