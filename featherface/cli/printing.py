"""Text for terminals: names of files, which may hold anything, and lines beside progress bars."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TextIO


def printable(text: str) -> str:
    """The text with everything escaped that is no visible character or space."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def escape_what_cannot_be_written() -> None:
    """Let standard output take every name: what its encoding lacks is escaped instead of an error."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def fill_closed_streams() -> None:
    """Open on nothing what the caller closed of the three standard streams, as `2>&-` does.

    Else the next file that is opened gets its descriptor, and what libraries and children write to standard
    error gets into that file; progress bars fail without one. `sys.stdin` and `sys.stdout` go on saying that
    there is none.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


@contextmanager
def above_bars(stream: TextIO | None) -> Iterator[None]:
    """Inside, bars of tqdm make room for what is written to a terminal; they are drawn again below it."""
    tqdm = sys.modules.get("tqdm")  # whoever has not imported it shows no bar
    if tqdm is None or stream is None or not stream.isatty():
        yield
        return
    with tqdm.tqdm.external_write_mode(file=stream):
        yield


def drop_what_cannot_be_written() -> bool:
    """Let go of output that a full disk does not take; says whether there was some.

    At its end Python would try again, and complain.
    """
    if sys.stdout is None:  # it was closed before we began
        return False
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
