"""What ``python -m PACKAGE`` prints: the package's commands, one line each."""

import sys
from collections.abc import Mapping

from visualization.cli.arguments import Parser

__all__ = ["list_commands"]


def list_commands(package: str, commands: Mapping[str, str], argv: list[str] | None = None) -> int:
    """Prints the commands of a package, given by their names and what each one does.

    Returns the exit status.
    """
    Parser(prog=f"python -m {package}", description="Lists the commands.").parse_args(argv)
    width = max(map(len, commands))
    for name, what in commands.items():
        print(f"python -m {package}.{name:{width}}  {what}")
    print("\nEach has --help, with an example.")
    sys.stdout.flush()
    return 0
