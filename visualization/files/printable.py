"""Makes text from outside safe to print: files and servers can send control characters."""

import re
from collections.abc import Sequence

__all__ = ["escaped", "on_one_line", "printable", "some"]


def printable(text: str, longest: int = 120) -> str:
    """Returns the text, cut to `longest` characters, quoted and escaped if any is unprintable.

    Example:
        >>> printable("conv1\\x1b[2J")
        "'conv1\\\\x1b[2J'"
    """
    text = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return text if text.isprintable() else ascii(text)


def on_one_line(text: object, longest: int = 4000) -> str:
    """Returns the text of an error on one line, with what would command a terminal escaped.

    Example:
        >>> on_one_line("photo\\x1b[2J.jpg: is\\n damaged")
        'photo\\\\x1b[2J.jpg: is damaged'
    """
    line = " ".join(str(text).split())
    line = line if len(line) <= longest else f"{line[: longest - 3]}..."
    return escaped(line)


# Control characters but newline and tab, those that turn the direction of writing, surrogates.
# Joiners and the like are left, which words of several scripts need.
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """Returns the text, of one or more lines, with what would command a terminal escaped.

    Example:
        >>> print(escaped("photo\\x1b[2J.jpg\\nwritten"))
        photo\\x1b[2J.jpg
        written
    """
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def some(names: Sequence[str], separator: str = ", ") -> str:
    """Lists the first few names, printable, and says how many more there are.

    Example:
        >>> some(["a", "b", "c", "d", "e", "f"])
        'a, b, c, d, and 2 others'
    """
    few = names if len(names) <= 5 else names[:4]
    more = f"{separator}and {len(names) - 4} others" if len(names) > 5 else ""
    return separator.join(map(printable, few)) + more
