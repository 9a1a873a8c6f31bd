"""What a file of weights says of the students that it is the mean of; the network is not built for it."""

from __future__ import annotations

import json
from pathlib import Path

from featherface.errors import ModelError
from featherface.names import WEIGHTS_KEY

MEAN_OF = "mean_of"
"""Among a file's texts for people: the digests of the students, in the order in which they were given."""


def read_mean_of(path: Path) -> tuple[str, ...]:
    """The digests of the students that these weights are the mean of; empty for any other file.

    Raises:
        ModelError: no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {}).get(WEIGHTS_KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: is no complete safetensors file ({error})") from error
    return tuple(about.get("extra", {}).get(MEAN_OF, "").split())
