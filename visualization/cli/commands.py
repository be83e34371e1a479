"""What ``python -m PACKAGE`` prints: the package's commands, one line each."""

from collections.abc import Mapping

from visualization.cli.arguments import Parser

__all__ = ["list_commands"]


def list_commands(package: str, commands: Mapping[str, str], argv: list[str] | None = None) -> int:
    """Prints a package's commands and returns the exit status.

    Args:
        package: the package's name.
        commands: a command's name -> what it does.
        argv: the arguments; by default those of the process.

    Example:
        >>> list_commands("zoo", {"feed": "Feeds an animal.", "open": "Opens a cage."}, [])
        python -m zoo.feed  Feeds an animal.
        python -m zoo.open  Opens a cage.
        <BLANKLINE>
        Each has --help, with an example.
        0
    """
    Parser(prog=f"python -m {package}", description="Lists the commands.").parse_args(argv)
    width = max(map(len, commands))
    for name, what in commands.items():
        print(f"python -m {package}.{name:{width}}  {what}")
    print("\nEach has --help, with an example.", flush=True)
    return 0
