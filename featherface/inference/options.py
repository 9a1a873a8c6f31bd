"""Numbers that callers hand in, checked in one place."""

from __future__ import annotations

import math
import sys
from numbers import Integral

import numpy as np

from featherface.errors import OptionError


def whole_number(
    name: str, value: object, minimum: int, *, maximum: int | None = None, alternative: str | None = None
) -> int:
    """A whole number as Python's own; numpy's are taken as well, True and False are none.

    Args:
        name: of the option, for the message.
        value: what was handed in.
        minimum: the least that is allowed.
        maximum: the most; None: any.
        alternative: what else is allowed, for the message.

    Raises:
        OptionError: it is no whole number, or outside its range.
    """
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if number is None or number < minimum or (maximum is not None and number > maximum):
        limits = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        or_else = f", or {alternative}" if alternative else ""
        raise OptionError(f"{name} must be a whole number {limits}{or_else}, got {value!r}")
    return number


def real_number(name: str, value: object, low: float, high: float = sys.float_info.max) -> float:
    """A number of a range, both ends included; without an upper one any that is finite. True is none.

    Raises:
        OptionError: it is no number, NaN, or outside the range.
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if isinstance(value, np.integer | np.floating):
        number = float(value)  # numpy would bring the limits to its own type, in which they may be infinite
    if not low <= number <= high:  # as of NaN
        limits = f"of at least {low:g}" if high == sys.float_info.max else f"from {low:g} to {high:g}"
        raise OptionError(f"{name} must be a number {limits}, got {value!r}")
    return float(number)
