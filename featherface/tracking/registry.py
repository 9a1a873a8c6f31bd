"""The model registry: one model, numbered versions, and the aliases that say which of them is in use.

`champion` is the model that detects, `previous_champion` the one to go back to, `challenger` the newest
one to be judged. This module only acts; whether a challenger is good enough is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from featherface.errors import ModelError
from featherface.inference.weights import sha256_of
from featherface.tracking import ledger
from featherface.tracking.download import fetch_extra, fetch_version
from featherface.tracking.ledger_copy import compare_copy, copy_missing
from featherface.tracking.packaging import log_model
from featherface.tracking.smoke import smoke_test
from featherface.tracking.turns import turn
from featherface.tracking.versions import (
    CHALLENGER,
    CHAMPION,
    MODEL_NAME,
    ONNX_SHA256,
    PREVIOUS_CHAMPION,
    REASONS,
    STATUS,
    RegisteredVersion,
    describe_version,
    readable_errors,
)

ANY_CHAMPION = "any"
"""What a version was judged against does not matter: a person decides."""


class ChampionChangedError(ModelError):
    """The champion is another one than a version was judged against."""


class _Snapshot(NamedTuple):
    aliases: dict[str, str]
    entries: list[ledger.LedgerEntry]


class ModelRegistry:
    """The versions of one registered model, in the store that `configure` made MLflow's own.

    No other store can be named: MLflow finds a version's model through its default, whatever the client says.

    Args:
        name: the registered model.
    """

    def __init__(self, name: str = MODEL_NAME) -> None:
        self._client = MlflowClient()
        self.name = name

    def register_student(
        self,
        run_id: str,
        onnx_path: Path,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        extras: Mapping[str, Path] | None = None,
    ) -> str:
        """Make an exported student the newest version and the challenger.

        Args:
            run_id: the run that made it.
            onnx_path: the exported file.
            metrics: its numbers, kept with the model rather than only with the run.
            tags: where it came from, as of `provenance_tags`.
            extras: other files to keep with it, by the name they get, for `fetch_extra`.

        Returns:
            The number of the version.

        Raises:
            ModelError: there is no such file or no such run.
        """
        if not onnx_path.is_file():
            raise ModelError(f"{onnx_path}: does not exist; `featherface run export` writes it")
        with readable_errors(f"run {run_id}"):
            self._client.get_run(run_id)
        model_id = log_model(
            self._client, run_id, onnx_path, name=self.name, metrics=metrics, tags=tags, extras=extras
        )
        if self._snapshot() is None:
            self._client.create_registered_model(self.name)
        created = self._client.create_model_version(
            self.name,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={**tags, ONNX_SHA256: sha256_of(onnx_path), STATUS: "pending"},
        )
        version = str(created.version)
        self._client.set_registered_model_alias(self.name, CHALLENGER, version)
        return version

    def fetch_extra(self, version: str, name: str) -> Path | None:
        """A file that was kept with a version, on this machine; None if it has none of that name.

        Raises:
            ModelError: there is no such version.
        """
        return fetch_extra(self._client, self._find(version), name)

    def record_rejection(self, version: str, reasons: Iterable[str]) -> None:
        """Write down that a version was judged and not promoted; it stays the challenger until the next one.

        Raises:
            ModelError: there is no such version.
        """
        self._tag_decision(self._find(version).version, "rejected", reasons)

    def promote(
        self, version: str, reasons: Iterable[str] = (), *, judged_against: str | None = ANY_CHAMPION
    ) -> None:
        """Move `champion` to a version; the champion until now becomes `previous_champion`.

        One process at a time does this. The new champion is loaded and run once; if it fails, the old one
        takes its place again. The calls are ordered so that a crash between any two leaves a champion, and
        repeating the promotion finishes it.

        Args:
            version: what becomes the champion.
            reasons: why, for the ledger.
            judged_against: the champion that it was compared with, None if there was none: if another one
                came in between, nothing is moved. Without it that is not asked.

        Raises:
            ChampionChangedError: the champion is not the one that the version was judged against.
            ModelError: there is no such version, it failed its smoke test, or others are moving the aliases.
        """
        reasons = tuple(reasons)
        target = str(self._find(version).version)
        with turn(self._client, self.name):
            snapshot = self._snapshot() or _Snapshot({}, [])
            old = self._reconcile(snapshot)
            if judged_against not in (ANY_CHAMPION, old) and old != target:
                raise ChampionChangedError(
                    f"version {target} was judged against champion {judged_against or '(none)'}, but version "
                    f"{old or '(none)'} is the champion now; judge it again"
                )
            if old != target:
                if old is not None:
                    self._client.set_registered_model_alias(self.name, PREVIOUS_CHAMPION, old)
                self._client.set_registered_model_alias(self.name, CHAMPION, target)
                self._note(snapshot, "promote", target, previous=old, reasons=reasons)
                self._withdraw_if_broken(target, snapshot)
            if snapshot.aliases.get(CHALLENGER) == target:
                self._client.delete_registered_model_alias(self.name, CHALLENGER)
            self._tag_decision(target, "promoted", reasons)
            copy_missing(self._client, self.name, snapshot.entries)

    def rollback(self, reasons: Iterable[str] = ()) -> str:
        """Make the previous champion the champion again; the one before it becomes `previous_champion`.

        Returns:
            The version that is champion now.

        Raises:
            ModelError: there is no previous champion.
        """
        if self._snapshot() is None:
            raise ModelError(f"model '{self.name}' has no champion, so there is nothing to roll back")
        with turn(self._client, self.name):
            return self._roll_back(tuple(reasons))

    def _roll_back(self, reasons: tuple[str, ...]) -> str:
        snapshot = self._snapshot() or _Snapshot({}, [])
        current = self._reconcile(snapshot)
        if current is None:
            raise ModelError(f"model '{self.name}' has no champion, so there is nothing to roll back")
        existing = {str(each.version) for each in self._search()}
        earlier = ledger.champions_before(snapshot.entries, current, existing)
        marked = snapshot.aliases.get(PREVIOUS_CHAMPION)
        if marked is not None and marked != current:
            target = marked
        elif earlier:
            target = earlier[-1]
        else:
            raise ModelError(
                f"version {current} of '{self.name}' has no champion before it; "
                "`featherface registry list` shows what `featherface registry promote VERSION` can take"
            )
        self._client.set_registered_model_alias(self.name, CHAMPION, target)
        self._note(snapshot, "rollback", target, previous=current, reasons=reasons)
        below = ledger.champions_before(snapshot.entries, target, existing)
        if below:
            self._client.set_registered_model_alias(self.name, PREVIOUS_CHAMPION, below[-1])
        elif marked is not None:
            self._client.delete_registered_model_alias(self.name, PREVIOUS_CHAMPION)
        self._tag_decision(current, "rolled_back", reasons)
        copy_missing(self._client, self.name, snapshot.entries)
        return target

    def get(self, version: str) -> RegisteredVersion:
        """One version.

        Raises:
            ModelError: there is no such version.
        """
        found = self._find(version)
        return describe_version(self._client, found, found.aliases)

    def find_version_of(self, onnx_path: Path) -> str | None:
        """The newest version that is this very file, byte for byte; None: it was never registered."""
        found = self._search(f" and tags.`{ONNX_SHA256}` = '{sha256_of(onnx_path)}'")
        return str(found[0].version) if found else None

    def list_versions(self) -> list[RegisteredVersion]:
        """All versions, newest first; empty where nothing was ever registered."""
        snapshot = self._snapshot()
        if snapshot is None:
            return []
        aliases: dict[str, list[str]] = {}
        for alias, version in snapshot.aliases.items():
            aliases.setdefault(version, []).append(alias)
        found = self._search()
        return [describe_version(self._client, each, aliases.get(str(each.version), [])) for each in found]

    def current_champion(self) -> RegisteredVersion | None:
        """The version in use; None while there is none."""
        snapshot = self._snapshot()
        version = snapshot.aliases.get(CHAMPION) if snapshot else None
        return None if version is None else self.get(version)

    def history(self) -> list[ledger.LedgerEntry]:
        """Every move of the champion, oldest first."""
        snapshot = self._snapshot()
        return snapshot.entries if snapshot else []

    def check_history(self) -> list[str]:
        """A sentence for each entry of the ledger that was edited, removed or added; empty if it is whole."""
        entries = self.history()
        return [*ledger.broken_links(entries), *compare_copy(self._client, self.name, entries)]

    def delete_version(self, version: str) -> None:
        """Delete a version that no alias points to.

        Raises:
            ModelError: there is no such version, or it has an alias: MLflow would silently drop that as well.
        """
        aliases = self._find(version).aliases
        if aliases:
            raise ModelError(
                f"version {version} of '{self.name}' is {', '.join(aliases)}, it stays; move the alias first"
            )
        self._client.delete_model_version(self.name, str(version))

    def _find(self, version: str) -> ModelVersion:
        if not str(version).isdigit():
            raise ModelError(
                f"'{version}' is no version number of '{self.name}'; see `featherface registry list`"
            )
        with readable_errors(f"version {version} of model '{self.name}'"):
            return self._client.get_model_version(self.name, str(version))

    def _search(self, condition: str = "") -> list[ModelVersion]:
        """The versions that meet a condition, newest first; their aliases are not filled in."""
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{self.name}'{condition}", page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return sorted(found, key=lambda each: int(each.version), reverse=True)

    def _snapshot(self) -> _Snapshot | None:
        """Aliases and ledger in one call; None where nothing was ever registered."""
        try:
            model = self._client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        aliases = {alias: str(version) for alias, version in model.aliases.items()}
        return _Snapshot(aliases, ledger.read_ledger(model.tags))

    def _reconcile(self, snapshot: _Snapshot) -> str | None:
        """The champion; written down where the ledger does not know that it is."""
        current = snapshot.aliases.get(CHAMPION)
        stack = ledger.champions(snapshot.entries)
        known = stack[-1] if stack else None
        if current is not None and current != known:
            self._note(snapshot, "observe", current, previous=known)
        return current

    def _note(
        self,
        snapshot: _Snapshot,
        action: ledger.Action,
        version: str,
        *,
        previous: str | None,
        reasons: tuple[str, ...] = (),
    ) -> None:
        described = self.get(version)
        entry = ledger.append(
            self._client,
            self.name,
            action,
            version=version,
            previous=previous,
            reasons=reasons,
            onnx_sha256=described.tags.get(ONNX_SHA256, ""),
            mean_ap=described.metrics.get("val/ap_mean"),
            after=snapshot.entries,
        )
        snapshot.entries.append(entry)

    def _withdraw_if_broken(self, target: str, snapshot: _Snapshot) -> None:
        """Run the new champion once; snapshot holds the aliases from before it.

        Raises:
            ModelError: it failed, and the aliases are as they were.
        """
        found = self._find(target)
        if ONNX_SHA256 not in found.tags:  # registered from outside: there is nothing that we could run
            return
        try:
            smoke_test(fetch_version(self._client, found, what=f"version {target} of '{self.name}'"))
        except ModelError as error:
            old = snapshot.aliases.get(CHAMPION)
            for alias in (PREVIOUS_CHAMPION, CHAMPION):
                before = snapshot.aliases.get(alias)
                if before is not None:
                    self._client.set_registered_model_alias(self.name, alias, before)
                else:
                    self._client.delete_registered_model_alias(self.name, alias)
            reason = f"failed its smoke test: {error}"
            if old is not None:
                self._note(snapshot, "withdraw", old, previous=target, reasons=(reason,))
            self._tag_decision(target, "rejected", (reason,))
            copy_missing(self._client, self.name, snapshot.entries)
            raise ModelError(
                f"version {target} of '{self.name}' {reason}; "
                f"{f'version {old} is the champion again' if old else 'there is no champion, as before'}"
            ) from error

    def _tag_decision(self, version: str, status: str, reasons: Iterable[str]) -> None:
        for key, value in ((STATUS, status), (REASONS, json.dumps(list(reasons)))):
            self._client.set_model_version_tag(self.name, version, key, value)
