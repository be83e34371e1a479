"""Puts a trained captioner into the bundle: ``python -m weights.captioner FOLDER``.

The captioner is trained, not built: ``captioner_flickr8k/README.md`` says with which commands.
"""

import argparse
from typing import Any

from tfcap.decoding import DEFAULTS
from tfcap.model import CaptioningRNN
from tfcap.pretrained import CONFIG, WEIGHTS
from visualization.files.bundle import BUNDLE, CAPTIONER
from weights.hashes import add_to_manifest

MAX_BYTES = 16 * 2**20


def main() -> None:
    """Writes the captioner in half precision, and its files' sha256 into the manifest."""
    parser = argparse.ArgumentParser(prog="python -m weights.captioner", description=__doc__)
    parser.add_argument("captioner", metavar="FOLDER", help="what python -m tfcap.train wrote")
    parser.add_argument("--beam", type=int, default=3, help="what the search follows by default")
    penalty = DEFAULTS["length_penalty"]
    parser.add_argument(
        "--length-penalty", type=float, default=penalty, help="how much it favours longer sentences"
    )
    arguments = parser.parse_args()
    model = CaptioningRNN.from_pretrained(arguments.captioner)
    chosen = {"beam_size": arguments.beam, "length_penalty": arguments.length_penalty}
    model.decoding = DEFAULTS | chosen
    folder = BUNDLE / CAPTIONER
    model.save_pretrained(folder, half=True)
    size = (folder / WEIGHTS).stat().st_size
    if size > MAX_BYTES:
        parser.error(f"{folder / WEIGHTS} has {size:,} bytes, more than {MAX_BYTES:,}")
    add_to_manifest(BUNDLE, entries())


def entries() -> dict[str, dict[str, Any]]:
    """What the manifest says of the captioner's files, but for their hashes."""
    kinds = {CONFIG: "architecture and vocabulary", WEIGHTS: "weights, float16,"}
    return {
        f"{CAPTIONER}/{name}": {
            "what": f"{what} of an LSTM with attention that captions photographs",
            "source": f"trained here on Flickr8k: see {CAPTIONER}/README.md",
            "licence": "MIT; Flickr8k is for research and teaching",
        }
        for name, what in kinds.items()
    }


if __name__ == "__main__":
    main()
