"""``python -m tfcap``: lists the commands."""

import sys

from visualization.cli.commands import list_commands

COMMANDS = {
    "datasets": "Builds, draws and inspects photographs with captions to train on.",
    "train": "Trains a captioner on a folder of captions and features.",
    "evaluate": "Scores a captioner's sentences against those of people.",
    "caption": "Says in a sentence what a photograph shows.",
}

if __name__ == "__main__":
    sys.exit(list_commands("tfcap", COMMANDS))
