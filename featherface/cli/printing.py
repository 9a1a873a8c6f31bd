"""Names of files as text: they may hold line ends, terminal commands and bytes that are no characters."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def printable(text: str) -> str:
    """The text with everything escaped that is no visible character or space."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def escape_what_cannot_be_written() -> None:
    """Let standard output take every name: what its encoding lacks is escaped instead of an error."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
