"""What Prefect prints where a person runs a flow: nothing that the command line is about to say itself."""

from __future__ import annotations

import logging
import sys

from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import PrefectConsoleHandler

from featherface.errors import EndedEarlyError, FeatherFaceError

_TOLD_BY_US = (FeatherFaceError, EndedEarlyError, KeyboardInterrupt, TerminationSignal)
_SUMMARY = "Finished in state"
"""How Prefect begins what it says of a task once more, when all has been said."""


class TerseConsoleHandler(PrefectConsoleHandler):
    """Prefect's handler without refusals, Ctrl-C and stages that ended early.

    Servers get all of it as before: their handlers are others.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print a record, which is made while its exception is handled."""
        is_prefect = record.name.partition(".")[0] == "prefect"  # others come here, too
        is_told = isinstance(sys.exception(), _TOLD_BY_US) or str(record.msg).startswith(_SUMMARY)
        return not (is_prefect and is_told) and bool(super().filter(record))
