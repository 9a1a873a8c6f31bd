"""Who was champion when: an append-only record beside the models, because MLflow forgets where an alias was.

Every entry is a tag of the registered model under a key that is never used twice, so the record lives, moves
and is backed up with the registry itself.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mlflow import MlflowClient

PREFIX = "ledger/"

Action = Literal["promote", "rollback", "observe"]


@dataclass(frozen=True)
class LedgerEntry:
    """One move of the champion."""

    at: str
    """UTC, ISO 8601 with microseconds: sorts as text."""
    action: Action
    """`observe`: the alias was found where the ledger has it not: moved by hand, or a promotion broke off."""
    version: str
    """The champion from then on."""
    previous: str | None
    """The champion until then."""
    reasons: tuple[str, ...] = ()


def read_ledger(tags: Mapping[str, str]) -> list[LedgerEntry]:
    """All entries among the tags of a registered model, oldest first."""
    return [_parse(tags[key]) for key in sorted(tags) if key.startswith(PREFIX)]


def append(
    client: MlflowClient,
    name: str,
    action: Action,
    *,
    version: str,
    previous: str | None,
    reasons: Iterable[str] = (),
) -> LedgerEntry:
    """Add an entry, now."""
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    entry = LedgerEntry(at, action, version, previous, tuple(reasons))
    # Two processes may append in the same microsecond.
    key = f"{PREFIX}{at.replace('+00:00', 'Z')}-{uuid.uuid4().hex[:6]}"
    client.set_registered_model_tag(name, key, json.dumps(asdict(entry)))
    return entry


def champions(entries: Iterable[LedgerEntry]) -> list[str]:
    """The champions that a rollback can go through, the present one last.

    A promotion goes on top. A rollback takes off what is above the version it went back to, and so does an
    earlier champion that was found in place: a rollback that broke off, or one by hand.
    """
    stack: list[str] = []
    for entry in entries:
        if entry.action != "promote" and entry.version in stack:
            while stack[-1] != entry.version:
                stack.pop()
        elif not stack or stack[-1] != entry.version:
            stack.append(entry.version)
    return stack


def champions_before(entries: Iterable[LedgerEntry], version: str, existing: Container[str]) -> list[str]:
    """The champions before a version that are still there, the latest last.

    Args:
        entries: the ledger.
        version: the champion to look below.
        existing: the versions that were not deleted.
    """
    stack = champions(entries)
    if version not in stack:
        return []
    below = stack[: len(stack) - 1 - stack[::-1].index(version)]
    return [each for each in below if each in existing and each != version]


def _parse(text: str) -> LedgerEntry:
    fields = json.loads(text)
    return LedgerEntry(**{**fields, "reasons": tuple(fields["reasons"])})
