"""What Prefect prints where a person runs a flow: nothing that the command line is about to say itself."""

from __future__ import annotations

import logging
import sys

from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import PrefectConsoleHandler

from featherface.errors import EndedEarlyError, FeatherFaceError

_TOLD_BY_US = (FeatherFaceError, KeyboardInterrupt, TerminationSignal)


class TerseConsoleHandler(PrefectConsoleHandler):
    """Prefect's handler without refusals and Ctrl-C, and without the traceback of a stage that ended early.

    Servers get all of it as before: their handlers are others.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print a record, which is made while its exception is handled."""
        error = sys.exception()
        if isinstance(error, _TOLD_BY_US):
            return False
        if isinstance(error, EndedEarlyError):
            record.exc_info = record.exc_text = None
        return bool(super().filter(record))
