"""Who was champion when: an append-only record beside the models, because MLflow forgets where an alias was.

Every entry is a tag of the registered model under a key that is never used twice, so the record lives, moves
and is backed up with the registry itself. Each entry holds the digest of the one before: who edits, removes
or adds one in the middle breaks the chain, and `broken_links` says where. What is done to the last entry
shows beside the copy in the artifact store, see `ledger_copy`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import socket
import uuid
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from itertools import pairwise
from typing import ClassVar, Literal

from mlflow import MlflowClient
from pydantic import ConfigDict, TypeAdapter

PREFIX = "ledger/"
LONGEST = 5000
"""Characters that MLflow's tables hold of a tag of a model, where a database counts them."""

Action = Literal["promote", "rollback", "observe", "withdraw"]


@dataclass(frozen=True)
class LedgerEntry:
    """One move of the champion."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    at: str
    """UTC, ISO 8601 with microseconds: sorts as text."""
    action: Action
    """`observe`: the alias was found where the ledger has it not: moved by hand, or a promotion broke off.
    `withdraw`: the new champion failed its smoke test, and the old one, if any, took its place again."""
    version: str
    """The champion from then on; empty: none."""
    previous: str | None
    """The champion until then."""
    reasons: tuple[str, ...] = ()
    actor: str = ""
    """User and machine."""
    onnx_sha256: str = ""
    """Of the version's file."""
    mean_ap: float | None = None
    """Of the version, as it was on record then."""
    follows: str | None = None
    """Digest of the entry before; empty for the first one, None in entries from before there was a chain."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that the entry says."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()


_ENTRY = TypeAdapter(LedgerEntry)


def broken_links(entries: Sequence[LedgerEntry]) -> list[str]:
    """A sentence for each place where the chain is broken; empty if it is whole.

    Args:
        entries: the ledger, oldest first. Entries from before there was a chain may stand at its beginning.
    """
    if not entries:
        return []
    problems = []
    if entries[0].follows:
        problems.append(f"what came before the entry of {entries[0].at} is gone")
    for earlier, entry in pairwise(entries):
        if entry.follows is None and earlier.follows is None:
            continue
        if entry.follows != earlier.digest:
            problems.append(
                f"the entry of {entry.at} does not follow that of {earlier.at}: one of them was edited, or "
                "one between them removed or added"
            )
    return problems


def read_ledger(tags: Mapping[str, str]) -> tuple[list[LedgerEntry], list[str]]:
    """The entries among the tags of a registered model, oldest first, and a sentence for each unreadable one.

    What somebody spoiled is set aside: a champion must be movable all the same, and above all back.
    """
    entries, problems = [], []
    for key in sorted(tags):
        if not key.startswith(PREFIX):
            continue
        try:
            entries.append(parse_entry(tags[key]))
        except ValueError:
            problems.append(f"the entry under the tag {key} cannot be read: somebody changed it")
    return entries, problems


def write(client: MlflowClient, name: str, entry: LedgerEntry) -> None:
    """Add an entry; the caller sees to it that nobody else does so at the same time.

    Args:
        client: where.
        name: the registered model.
        entry: as `next_entry` made it.
    """
    # A key of its own, whatever the clocks of two machines say.
    key = f"{PREFIX}{entry.at.replace('+00:00', 'Z')}-{uuid.uuid4().hex[:6]}"
    client.set_registered_model_tag(name, key, to_json(entry))


def next_entry(
    action: Action,
    *,
    version: str,
    previous: str | None,
    reasons: Iterable[str] = (),
    onnx_sha256: str = "",
    mean_ap: float | None = None,
    after: Sequence[LedgerEntry] = (),
) -> LedgerEntry:
    """The entry that comes next, now; reasons that no database would take whole are cut.

    Args:
        action: what happens.
        version: the champion from now on; empty: none.
        previous: the champion until now.
        reasons: why.
        onnx_sha256: of the version's file.
        mean_ap: of the version.
        after: the ledger until now.
    """
    last = after[-1] if after else None
    entry = LedgerEntry(
        at=_later_than(last),
        action=action,
        version=version,
        previous=previous,
        reasons=tuple(reasons),
        actor=actor(),
        onnx_sha256=onnx_sha256,
        mean_ap=mean_ap,
        follows=last.digest if last else "",
    )
    text = "; ".join(entry.reasons)
    while text and len(to_json(entry)) > LONGEST:
        text = text[: len(text) * 9 // 10]
        entry = replace(entry, reasons=(f"{text}…",))
    return entry


def actor() -> str:
    """Who acts: user and machine.

    Anybody can set the environment's name of the user: it counts only where the system has none, as it may
    be in a container.
    """
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = os.environ.get("LOGNAME") or os.environ.get("USER") or "unknown"
    return f"{user}@{socket.gethostname()}"


def champions(entries: Iterable[LedgerEntry]) -> list[str]:
    """The champions that a rollback can go through, the present one last.

    A promotion goes on top. A rollback takes off what is above the version it went back to, and so does an
    earlier champion that was found in place: a rollback that broke off, or one by hand. What was withdrawn
    does not work and is taken off wherever it is.
    """
    stack: list[str] = []
    for entry in entries:
        if entry.action == "withdraw":
            stack = [version for version in stack if version != entry.previous]
        if not entry.version:
            continue
        if entry.action != "promote" and entry.version in stack:
            while stack[-1] != entry.version:
                stack.pop()
        elif not stack or stack[-1] != entry.version:
            stack.append(entry.version)
    return stack


def rolled_back(entries: Iterable[LedgerEntry]) -> dict[str, LedgerEntry]:
    """The rollback of each champion that nobody promoted again, by the SHA-256 of its file.

    A version that was registered from outside has no such digest, and stands under its number. What was
    withdrawn is not here: it is tried out before it becomes the champion, and fails again.
    """
    digests: dict[str, str] = {}
    found: dict[str, LedgerEntry] = {}
    for entry in entries:
        digests[entry.version] = entry.onnx_sha256 or entry.version
        if entry.action == "rollback" and entry.previous:
            found[digests.get(entry.previous, entry.previous)] = entry
        found.pop(digests[entry.version], None)
    return found


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


def _later_than(last: LedgerEntry | None) -> str:
    """Now; but never before the last entry, which a machine with a fast clock may have written."""
    now = datetime.now(UTC)
    if last is not None:
        now = max(now, datetime.fromisoformat(last.at) + timedelta(microseconds=1))
    return now.isoformat(timespec="microseconds")


def to_json(entry: LedgerEntry) -> str:
    """The entry as it is kept: plain ASCII, which every database takes."""
    return json.dumps(asdict(entry), sort_keys=True)


def parse_entry(text: str) -> LedgerEntry:
    """An entry from the JSON that it is kept as.

    Raises:
        ValueError: it is none: a field is missing, unknown or of another kind.
    """
    entry = _ENTRY.validate_json(text)
    at = datetime.fromisoformat(entry.at)
    if at.tzinfo is None or at.year >= MAXYEAR:  # neither could be followed by another entry
        raise ValueError(f"{entry.at} is no time in UTC")
    return entry
