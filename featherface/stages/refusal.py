"""Why a stage refused its input, told by whoever started it: a person reads it once."""

from __future__ import annotations

import os
from pathlib import Path

from featherface.errors import FeatherFaceError, ModelError
from featherface.files import write_atomically

REFUSAL_VARIABLE = "FEATHERFACE_REFUSAL_FILE"
"""Names the file in which whoever starts a stage looks for its refusal, to raise it once more and tell it."""


def hand_on(refusal: FeatherFaceError) -> bool:
    """Leave a refusal to whoever started this process; False: nobody asked for it, or it cannot be written.

    Any process of a training may be the first to refuse, and `torchrun` then ends the others.
    """
    asked_for = os.environ.get(REFUSAL_VARIABLE)
    if asked_for is None:
        return False
    try:
        write_atomically(Path(asked_for), str(refusal).encode())
    except ModelError:  # the disk is full, say
        return False
    return True
