"""Moving the champion: promote, roll back, withdraw; one process at a time, every move in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import NoReturn

from featherface.errors import FeatherFaceError, ModelError
from featherface.tracking.books import Books
from featherface.tracking.download import fetch_version
from featherface.tracking.smoke import smoke_test
from featherface.tracking.turns import turn
from featherface.tracking.version_store import VersionStore
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

logger = logging.getLogger(__name__)

ANY_CHAMPION = "any"
"""What a version was judged against does not matter: a person decides."""


class ChampionChangedError(ModelError):
    """The champion is another one than a version was judged against."""


def promote(
    store: VersionStore, version: str, reasons: Iterable[str] = (), *, judged_against: str | None
) -> None:
    """Move `champion` to a version; the champion until now becomes `previous_champion`.

    One process at a time does this. The version is loaded and run once before anything moves, and once more
    as the champion; if it fails then, the old one takes its place again. The calls are ordered so that a
    crash between any two leaves a champion, and repeating the promotion finishes it, smoke test included.

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
    with turn(store.client, store.name) as held:
        books = Books(store, held)
        if books.champion == target:
            _finish(books, target, reasons)
        else:
            _advance(books, target, reasons, judged_against)


def roll_back(store: VersionStore, reasons: Iterable[str] = ()) -> str:
    """Make the previous champion the champion again; the one before it becomes `previous_champion`.

    A previous champion that does not work any more is skipped, and the ledger says so.

    Args:
        store: where.
        reasons: why, for the ledger.

    Returns:
        The version that is champion now.

    Raises:
        ModelError: there is no previous champion, or none that works.
    """
    if store.snapshot() is None:
        raise ModelError(f"model '{store.name}' has no champion, so there is nothing to roll back")
    with turn(store.client, store.name) as held:
        return _roll_back(Books(store, held), tuple(reasons))


def _advance(books: Books, target: str, reasons: tuple[str, ...], judged_against: str | None) -> None:
    old = _reconcile(books)
    if judged_against not in (ANY_CHAMPION, old):
        raise ChampionChangedError(
            f"version {target} was judged against champion {judged_against or '(none)'}, but version "
            f"{old or '(none)'} is the champion now; judge it again"
        )
    _refuse_broken(books.store, target, old)
    entry = books.draft("promote", target, previous=old, reasons=reasons)
    books.store.tag_decision(target, PENDING, reasons)
    before = dict(books.aliases)
    if old is not None:
        books.point(PREVIOUS_CHAMPION, old)
    books.point(CHAMPION, target)
    books.write(entry)
    _confirm(books, target, reasons, before)


def _finish(books: Books, target: str, reasons: tuple[str, ...]) -> None:
    """The version is the champion; but its promotion may have broken off, or was done by hand."""
    known = books.champion_on_record
    if known == target and books.store.describe(target).status == PROMOTED:
        return
    last = books.entries[-1] if books.entries else None
    is_on_record = last is not None and last.action == "promote" and last.version == target
    if not is_on_record or not books.is_copied:
        books.write(books.draft("promote", target, previous=known, reasons=reasons))
    earlier = [*reversed(books.champions_before(target))][:2]
    _confirm(books, target, reasons, dict(zip((CHAMPION, PREVIOUS_CHAMPION), earlier, strict=False)))


def _confirm(books: Books, target: str, reasons: tuple[str, ...], before: Mapping[str, str]) -> None:
    """Run the new champion once, and say on it that it is promoted.

    Raises:
        ModelError: it failed, and the aliases are as they were before it.
    """
    try:
        _try_out(books.store, target)
    except FeatherFaceError as error:
        _withdraw(books, target, before, error)
    if books.aliases.get(CHALLENGER) == target:
        books.point(CHALLENGER, None)
    books.store.tag_decision(target, PROMOTED, reasons)


def _withdraw(books: Books, target: str, before: Mapping[str, str], error: FeatherFaceError) -> NoReturn:
    old = before.get(CHAMPION)
    reason = f"failed its smoke test: {error}"
    entry = books.draft("withdraw", old or "", previous=target, reasons=(reason,))
    for alias in (PREVIOUS_CHAMPION, CHAMPION):
        books.point(alias, before.get(alias))
    books.write(entry)
    # What could not be fetched may be fine; what does not work is remembered.
    status = PENDING if isinstance(error, UnavailableError) else WITHDRAWN
    books.store.tag_decision(target, status, (reason,))
    raise ModelError(
        f"version {target} of '{books.store.name}' {reason}; "
        f"{f'version {old} is the champion again' if old else 'there is no champion, as before'}"
    ) from error


def _roll_back(books: Books, reasons: tuple[str, ...]) -> str:
    store = books.store
    current = _reconcile(books)
    if current is None:
        raise ModelError(f"model '{store.name}' has no champion, so there is nothing to roll back")
    target, skipped = _find_way_back(books, current)
    entry = books.draft("rollback", target, previous=current, reasons=(*reasons, *skipped))
    # First: whatever comes in between now, the gate does not promote it again.
    store.tag_decision(current, ROLLED_BACK, reasons)
    books.point(CHAMPION, target)
    books.write(entry)
    below = books.champions_before(target)
    books.point(PREVIOUS_CHAMPION, below[-1] if below else None)
    return target


def _find_way_back(books: Books, current: str) -> tuple[str, list[str]]:
    """The latest champion before the current one that works, and a sentence for each that does not."""
    marked = books.aliases.get(PREVIOUS_CHAMPION)
    earlier = books.champions_before(current)[::-1]
    candidates = dict.fromkeys(each for each in (marked, *earlier) if each not in (None, current))
    skipped: list[str] = []
    for version in candidates:
        try:
            _try_out(books.store, version)
        except FeatherFaceError as error:
            skipped.append(f"version {version} was skipped, it does not work: {error}")
            logger.warning("%s", skipped[-1])
        else:
            return version, skipped
    if skipped:
        raise ModelError(
            f"version {current} of '{books.store.name}' stays the champion: {'; '.join(skipped)}"
        )
    raise ModelError(
        f"version {current} of '{books.store.name}' has no champion before it; "
        "`featherface registry list` shows what `featherface registry promote VERSION` can take"
    )


def _reconcile(books: Books) -> str | None:
    """The champion; written down where the ledger does not know that it is."""
    current, known = books.champion, books.champion_on_record
    if current is not None and current != known:
        books.write(books.draft("observe", current, previous=known))
    return current


def _refuse_broken(store: VersionStore, target: str, old: str | None) -> None:
    """Run a version once before anything moves.

    Raises:
        UnavailableError: it cannot be fetched now.
        ModelError: it does not work.
    """
    try:
        _try_out(store, target)
    except UnavailableError:
        raise
    except FeatherFaceError as error:
        reason = f"failed its smoke test: {error}"
        store.tag_decision(target, WITHDRAWN, (reason,))
        raise ModelError(
            f"version {target} of '{store.name}' {reason}; "
            f"{f'version {old} stays the champion' if old else 'there is no champion, as before'}"
        ) from error


def _try_out(store: VersionStore, version: str) -> None:
    """Fetch a version as users do and run it; one from outside has nothing that we could run.

    Raises:
        UnavailableError: it cannot be fetched.
        FeatherFaceError: it is not the registered file, or does not work.
    """
    found = store.find(version)
    if ONNX_SHA256 in found.tags:
        smoke_test(fetch_version(store.client, found, what=f"version {version} of '{store.name}'"))
