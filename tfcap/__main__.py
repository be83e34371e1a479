"""``python -m tfcap``: lists the commands and the public names."""

import sys

from visualization import command

from . import _MODULES, _PARTS

COMMANDS = ("datasets", "train", "evaluate", "caption")
MODULES = ("gradient_check", "metrics", "inspection", "explain", "shapes")


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser(prog="python -m tfcap", description="Lists what this package has.")

    def show(_: object) -> int:
        print(command.overview("tfcap", COMMANDS, {"": _PARTS, **_MODULES}, MODULES))
        return 0

    return command.run(parser, argv, show)


if __name__ == "__main__":
    sys.exit(main())
