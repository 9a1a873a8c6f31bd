"""Moving the champion: promote, roll back, withdraw; one process at a time, every move in the ledger."""

from __future__ import annotations

from collections.abc import Iterable

from featherface.errors import ModelError
from featherface.tracking import ledger
from featherface.tracking.download import fetch_version
from featherface.tracking.ledger_copy import copy_missing
from featherface.tracking.smoke import smoke_test
from featherface.tracking.turns import turn
from featherface.tracking.version_store import Snapshot, VersionStore
from featherface.tracking.versions import (
    CHALLENGER,
    CHAMPION,
    ONNX_SHA256,
    PENDING,
    PREVIOUS_CHAMPION,
    PROMOTED,
    ROLLED_BACK,
    WITHDRAWN,
    UnavailableError,
)

ANY_CHAMPION = "any"
"""What a version was judged against does not matter: a person decides."""


class ChampionChangedError(ModelError):
    """The champion is another one than a version was judged against."""


def promote(
    store: VersionStore, version: str, reasons: Iterable[str] = (), *, judged_against: str | None
) -> None:
    """Move `champion` to a version; the champion until now becomes `previous_champion`.

    One process at a time does this. The new champion is loaded and run once; if it fails, the old one
    takes its place again. The calls are ordered so that a crash between any two leaves a champion, and
    repeating the promotion finishes it.

    Args:
        store: where.
        version: what becomes the champion.
        reasons: why, for the ledger.
        judged_against: the champion that it was compared with, None if there was none: if another one
            came in between, nothing is moved. `ANY_CHAMPION`: that is not asked.

    Raises:
        ChampionChangedError: the champion is not the one that the version was judged against.
        ModelError: there is no such version, it failed its smoke test, or others are moving the aliases.
    """
    reasons = tuple(reasons)
    target = str(store.find(version).version)
    with turn(store.client, store.name):
        snapshot = store.snapshot() or Snapshot({}, [])
        old = _reconcile(store, snapshot)
        if judged_against not in (ANY_CHAMPION, old) and old != target:
            raise ChampionChangedError(
                f"version {target} was judged against champion {judged_against or '(none)'}, but version "
                f"{old or '(none)'} is the champion now; judge it again"
            )
        if old != target:
            if old is not None:
                store.client.set_registered_model_alias(store.name, PREVIOUS_CHAMPION, old)
            store.client.set_registered_model_alias(store.name, CHAMPION, target)
            _note(store, snapshot, "promote", target, previous=old, reasons=reasons)
            _withdraw_if_broken(store, target, snapshot)
        if snapshot.aliases.get(CHALLENGER) == target:
            store.client.delete_registered_model_alias(store.name, CHALLENGER)
        store.tag_decision(target, PROMOTED, reasons)
        copy_missing(store.client, store.name, snapshot.entries)


def roll_back(store: VersionStore, reasons: Iterable[str] = ()) -> str:
    """Make the previous champion the champion again; the one before it becomes `previous_champion`.

    Args:
        store: where.
        reasons: why, for the ledger.

    Returns:
        The version that is champion now.

    Raises:
        ModelError: there is no previous champion.
    """
    if store.snapshot() is None:
        raise ModelError(f"model '{store.name}' has no champion, so there is nothing to roll back")
    with turn(store.client, store.name):
        return _roll_back(store, tuple(reasons))


def _roll_back(store: VersionStore, reasons: tuple[str, ...]) -> str:
    snapshot = store.snapshot() or Snapshot({}, [])
    current = _reconcile(store, snapshot)
    if current is None:
        raise ModelError(f"model '{store.name}' has no champion, so there is nothing to roll back")
    existing = {str(each.version) for each in store.search()}
    earlier = ledger.champions_before(snapshot.entries, current, existing)
    marked = snapshot.aliases.get(PREVIOUS_CHAMPION)
    if marked is not None and marked != current:
        target = marked
    elif earlier:
        target = earlier[-1]
    else:
        raise ModelError(
            f"version {current} of '{store.name}' has no champion before it; "
            "`featherface registry list` shows what `featherface registry promote VERSION` can take"
        )
    # First: whatever comes in between now, the gate does not promote it again.
    store.tag_decision(current, ROLLED_BACK, reasons)
    store.client.set_registered_model_alias(store.name, CHAMPION, target)
    _note(store, snapshot, "rollback", target, previous=current, reasons=reasons)
    below = ledger.champions_before(snapshot.entries, target, existing)
    if below:
        store.client.set_registered_model_alias(store.name, PREVIOUS_CHAMPION, below[-1])
    elif marked is not None:
        store.client.delete_registered_model_alias(store.name, PREVIOUS_CHAMPION)
    copy_missing(store.client, store.name, snapshot.entries)
    return target


def _reconcile(store: VersionStore, snapshot: Snapshot) -> str | None:
    """The champion; written down where the ledger does not know that it is."""
    current = snapshot.aliases.get(CHAMPION)
    stack = ledger.champions(snapshot.entries)
    known = stack[-1] if stack else None
    if current is not None and current != known:
        _note(store, snapshot, "observe", current, previous=known)
    return current


def _note(
    store: VersionStore,
    snapshot: Snapshot,
    action: ledger.Action,
    version: str,
    *,
    previous: str | None,
    reasons: tuple[str, ...] = (),
) -> None:
    described = store.describe(version)
    entry = ledger.append(
        store.client,
        store.name,
        action,
        version=version,
        previous=previous,
        reasons=reasons,
        onnx_sha256=described.tags.get(ONNX_SHA256, ""),
        mean_ap=described.metrics.get("val/ap_mean"),
        after=snapshot.entries,
    )
    snapshot.entries.append(entry)


def _withdraw_if_broken(store: VersionStore, target: str, snapshot: Snapshot) -> None:
    """Run the new champion once; snapshot holds the aliases from before it.

    Raises:
        ModelError: it failed, and the aliases are as they were.
    """
    found = store.find(target)
    if ONNX_SHA256 not in found.tags:  # registered from outside: there is nothing that we could run
        return
    try:
        smoke_test(fetch_version(store.client, found, what=f"version {target} of '{store.name}'"))
    except ModelError as error:
        old = snapshot.aliases.get(CHAMPION)
        for alias in (PREVIOUS_CHAMPION, CHAMPION):
            before = snapshot.aliases.get(alias)
            if before is not None:
                store.client.set_registered_model_alias(store.name, alias, before)
            else:
                store.client.delete_registered_model_alias(store.name, alias)
        reason = f"failed its smoke test: {error}"
        if old is not None:
            _note(store, snapshot, "withdraw", old, previous=target, reasons=(reason,))
        # What could not be fetched may be fine; what does not work is remembered.
        status = PENDING if isinstance(error, UnavailableError) else WITHDRAWN
        store.tag_decision(target, status, (reason,))
        copy_missing(store.client, store.name, snapshot.entries)
        raise ModelError(
            f"version {target} of '{store.name}' {reason}; "
            f"{f'version {old} is the champion again' if old else 'there is no champion, as before'}"
        ) from error
