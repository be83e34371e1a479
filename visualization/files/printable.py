"""Makes text from outside safe to print: files and servers can send control characters."""

from collections.abc import Sequence

__all__ = ["printable", "some"]


def printable(text: str, longest: int = 120) -> str:
    """Returns the text, cut to `longest` characters, quoted and escaped if any is unprintable.

    Example:
        >>> printable("conv1\\x1b[2J")
        "'conv1\\\\x1b[2J'"
    """
    text = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return text if text.isprintable() else ascii(text)


def some(names: Sequence[str], separator: str = ", ") -> str:
    """Lists the first few names, printable, and says how many more there are.

    Example:
        >>> some(["a", "b", "c", "d", "e", "f"])
        'a, b, c, d, and 2 others'
    """
    few = names if len(names) <= 5 else names[:4]
    more = f"{separator}and {len(names) - 4} others" if len(names) > 5 else ""
    return separator.join(map(printable, few)) + more
