"""A version of the registered model: names of its aliases and tags, and what readers get to see of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from featherface.errors import ModelError
from featherface.tracking.connection import STORE_ERRORS, first_line

MODEL_NAME = "featherface"
FILE_MEAN_AP = "file.mean_ap"
JUDGED_BY = "judged_by"
"""Digest of thresholds, image size and rules by which a version's AP was measured."""
MEASURED_BY_RUN = "measured.run_id"
"""The run whose numbers count, where a later one came to the file of a version and measured it anew."""
CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS_CHAMPION = "previous_champion"

STATUS = "promotion.status"
REASONS = "promotion.reasons"
ONNX_SHA256 = "onnx.sha256"

PENDING = "pending"
PROMOTED = "promoted"
REJECTED = "rejected"
ROLLED_BACK = "rolled_back"
WITHDRAWN = "withdrawn"
DECLINED = "declined"
_VERDICTS = {ROLLED_BACK: "was rolled back", WITHDRAWN: "was withdrawn", DECLINED: "was declined"}
"""Statuses that only a person takes away."""


class UnavailableError(ModelError):
    """What was asked for cannot be had: the store is away, or has it not."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of the model, as the registry knows it."""

    version: str
    aliases: tuple[str, ...]
    run_id: str | None
    """The run that made it, or the last one that measured it anew."""
    created_ms: int
    """Milliseconds since 1970, UTC."""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def status(self) -> str:
        """`pending`, `promoted`, `rejected`, `rolled_back`, `withdrawn` (does not work) or `declined`."""
        return self.tags.get(STATUS, PENDING)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Of the decision that gave it its status; empty where none is on record."""
        try:
            reasons = json.loads(self.tags.get(REASONS, "[]"))
        except ValueError:
            return ()
        return tuple(map(str, reasons)) if isinstance(reasons, list) else ()

    @property
    def verdict(self) -> str:
        """What was decided and only a person takes back, as "was rolled back (why)"; empty if nothing was."""
        words = _VERDICTS.get(self.status, "")
        return f"{words} ({'; '.join(self.reasons)})" if words and self.reasons else words


def describe_version(client: MlflowClient, found: ModelVersion, aliases: Iterable[str]) -> RegisteredVersion:
    """What MLflow knows of a version, with the numbers of the logged model behind it.

    Args:
        client: where.
        found: the version.
        aliases: those that point to it; a search does not fill in `found.aliases`.
    """
    scheme, _, model_id = str(found.source).partition(":/")
    try:
        # A version that was registered from outside has no logged model, and so no numbers.
        points = (client.get_logged_model(model_id).metrics or []) if scheme == "models" else []
    except MlflowException:
        points = []  # the logged model was deleted
    run_id = found.tags.get(MEASURED_BY_RUN) or found.run_id or None
    return RegisteredVersion(
        version=str(found.version),
        aliases=tuple(sorted(aliases)),
        run_id=run_id,
        created_ms=int(found.creation_timestamp),
        tags=dict(found.tags),
        # Of one run only: what it did not measure is no number of before.
        metrics={point.key: float(point.value) for point in points if run_id in (None, point.run_id)},
    )


@contextmanager
def readable_errors(what: str) -> Iterator[None]:
    """Turn the store's errors into one line that says what was asked for.

    Raises:
        UnavailableError: whatever the store raised within.
    """
    try:
        yield
    except STORE_ERRORS as error:
        raise UnavailableError(
            f"{what}: cannot be had ({first_line(error)}); `featherface registry list` shows what there is"
        ) from error
