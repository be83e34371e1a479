"""Puts a trained captioner into the bundle: ``python -m weights.captioner FOLDER``.

The captioner is trained, not built: ``captioner_flickr8k/README.md`` says with which commands.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from tfcap.pretrained import CONFIG, WEIGHTS, load
from visualization.files.bundle import BUNDLE, CAPTIONER

MAX_BYTES = 16 * 2**20


def main() -> None:
    """Copies the folder's two files, and notes their sha256 in the manifest."""
    parser = argparse.ArgumentParser(prog="python -m weights.captioner", description=__doc__)
    parser.add_argument("captioner", type=Path, metavar="FOLDER", help="what tfcap.train wrote")
    source = parser.parse_args().captioner
    load(source)  # whole, and the files belong together
    target = BUNDLE / CAPTIONER
    for name in (CONFIG, WEIGHTS):
        if (source / name).stat().st_size > MAX_BYTES:
            parser.error(f"{source / name} has more than {MAX_BYTES:,} bytes: train it with --half")
        shutil.copyfile(source / name, target / name)
    path = BUNDLE / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] |= entries(target)
    path.write_text(json.dumps(manifest, indent=1) + "\n")


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """What the manifest says of a captioner's files."""
    found = {}
    for name, what in {CONFIG: "architecture and vocabulary", WEIGHTS: "weights, float16"}.items():
        content = (folder / name).read_bytes()
        found[f"{CAPTIONER}/{name}"] = {
            "what": f"{what} of an LSTM with attention that captions photographs",
            "source": f"trained here on Flickr8k: see {CAPTIONER}/README.md",
            "licence": "MIT; Flickr8k is for research and teaching",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    return found


if __name__ == "__main__":
    main()
