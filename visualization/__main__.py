"""``python -m visualization``: lists the commands."""

import sys

from visualization.cli.commands import list_commands

COMMANDS = {
    "saliency": "Draws where a network looks when it decides for a class.",
    "fool": "Changes a photograph a little, until the network takes it for another class.",
    "robustness": "Draws how a network's accuracy falls as its images are changed.",
    "class_viz": "Draws what a network takes for a class, starting from noise.",
    "stylize": "Paints a photograph in the manner of a painting.",
    "report": "Writes what networks see in a photograph as one page to send.",
    "checkpoints": "Inspects, converts and verifies checkpoints of SqueezeNet 1.1.",
}

if __name__ == "__main__":
    sys.exit(list_commands("visualization", COMMANDS))
