"""``python -m visualization``: lists the commands and the public names."""

import sys

from . import _MODULES, command

COMMANDS = ("saliency", "fool", "class_viz", "checkpoints")
MODULES = ("plotting",)


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser(
        prog="python -m visualization", description="Lists what this package has."
    )

    def show(_: object) -> int:
        print(command.overview("visualization", COMMANDS, _MODULES, MODULES))
        return 0

    return command.run(parser, argv, show)


if __name__ == "__main__":
    sys.exit(main())
