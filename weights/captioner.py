"""Puts a trained captioner into the bundle: ``python -m weights.captioner FOLDER``.

The captioner is trained, not built: ``captioner_flickr8k/README.md`` says with which commands.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from tfcap.model import CaptioningRNN
from tfcap.pretrained import CONFIG, WEIGHTS
from visualization.files.bundle import BUNDLE, CAPTIONER

MAX_BYTES = 16 * 2**20


def main() -> None:
    """Writes the captioner in half precision, and its files' sha256 into the manifest."""
    parser = argparse.ArgumentParser(prog="python -m weights.captioner", description=__doc__)
    parser.add_argument("captioner", metavar="FOLDER", help="what python -m tfcap.train wrote")
    parser.add_argument("--beam", type=int, default=3, help="what the search follows by default")
    arguments = parser.parse_args()
    model = CaptioningRNN.from_pretrained(arguments.captioner)
    model.decoding["beam_size"] = arguments.beam
    folder = BUNDLE / CAPTIONER
    model.save_pretrained(folder, half=True)
    size = (folder / WEIGHTS).stat().st_size
    if size > MAX_BYTES:
        parser.error(f"{folder / WEIGHTS} has {size:,} bytes, more than {MAX_BYTES:,}")
    path = BUNDLE / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] |= entries(folder)
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
