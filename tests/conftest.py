"""What holds for every test."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

# Started in the background of a script, this process ignores Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_torch_threads() -> Iterator[None]:
    """Torch has one number of threads for the whole process: a test leaves it as it found it.

    With more of them than cores are free, every small operation waits for a thread: all tests after one that
    asked for two took three times as long.
    """
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    yield
    if torch is not None:
        torch.set_num_threads(before)
