"""What a request to the served model may set beside its images: options of the detector, for it alone."""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

from mlflow.types import ParamSchema, ParamSpec

from featherface.errors import OptionError
from featherface.inference.options import real_number, whole_number

PARAMS = "params"
"""Where they are in a request."""
# Far more than there are priors; MLflow's whole numbers end at 64 bits.
_MAX_FACES = 1_000_000


class ServedParams(NamedTuple):
    """Options of `FaceDetector`, by their names there and with its defaults."""

    score_threshold: float = 0.5
    max_faces: int = 750


_ALL = " and ".join(ServedParams._fields)


def params_schema() -> ParamSchema:
    """Names, types and defaults for the signature; MLflow hands on what is named here and nothing else."""
    defaults = ServedParams()
    return ParamSchema(
        [
            ParamSpec("score_threshold", "double", defaults.score_threshold),
            ParamSpec("max_faces", "long", defaults.max_faces),
        ]
    )


def read_params(given: Any) -> ServedParams:
    """The options of a request, checked.

    Args:
        given: a mapping; what it lacks has its default. None: nothing is set.

    Raises:
        OptionError: no mapping, an unknown name, or a value of another type or outside its range.
    """
    if given is None:
        return ServedParams()
    if not isinstance(given, dict):
        raise OptionError(f"{PARAMS} must be an object of {_ALL}, got {reprlib.repr(given)}")
    for name in given:
        if name not in ServedParams._fields:
            raise OptionError(f"{PARAMS} has no {reprlib.repr(name)}; it can have {_ALL}")
    params = ServedParams(**given)
    return ServedParams(
        real_number("score_threshold", params.score_threshold, 0, 1),
        whole_number("max_faces", params.max_faces, 1, maximum=_MAX_FACES),
    )
