"""Versions, aliases and ledger of one registered model, as the store has them: looked up, not judged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from featherface.errors import ModelError
from featherface.tracking import ledger
from featherface.tracking.versions import (
    ONNX_SHA256,
    REASONS,
    ROLLED_BACK,
    STATUS,
    RegisteredVersion,
    describe_version,
    readable_errors,
)

_LONGEST_REASONS = 50_000
"""Characters of JSON; MLflow takes twice as many, MySQL fewer than 65,536."""


class Snapshot(NamedTuple):
    """Of one moment."""

    aliases: dict[str, str]
    """Alias to version."""
    entries: list[ledger.LedgerEntry]
    """The ledger, oldest entry first."""
    problems: Sequence[str] = ()
    """What of the ledger cannot be read."""


class VersionStore:
    """One registered model in a store.

    Args:
        client: of the store.
        name: the registered model; it need not exist yet.
    """

    def __init__(self, client: MlflowClient, name: str) -> None:
        self.client = client
        self.name = name

    def find(self, version: str) -> ModelVersion:
        """A version as MLflow has it.

        Raises:
            ModelError: there is none.
        """
        if not str(version).isdigit():
            raise ModelError(
                f"'{version}' is no version number of '{self.name}'; see `featherface registry list`"
            )
        with readable_errors(f"version {version} of model '{self.name}'"):
            return self.client.get_model_version(self.name, str(version))

    def describe(self, version: str) -> RegisteredVersion:
        """A version with its numbers.

        Raises:
            ModelError: there is none.
        """
        found = self.find(version)
        described = describe_version(self.client, found, found.aliases)
        if STATUS in described.tags:
            return described
        snapshot = self.snapshot()
        return described if snapshot is None else with_verdict(described, snapshot.entries)

    def search(self, condition: str = "") -> list[ModelVersion]:
        """The versions that meet a condition, newest first; their aliases are not filled in."""
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self.client.search_model_versions(f"name = '{self.name}'{condition}", page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return sorted(found, key=lambda each: int(each.version), reverse=True)

    def snapshot(self) -> Snapshot | None:
        """Aliases and ledger in one call; None where nothing was ever registered."""
        try:
            model = self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        aliases = {alias: str(version) for alias, version in model.aliases.items()}
        return Snapshot(aliases, *ledger.read_ledger(model.tags))

    def tag_decision(self, version: str, status: str, reasons: Iterable[str]) -> None:
        """Write on a version why and what was decided; the status comes last and says that both are there.

        Raises:
            ModelError: the reasons are longer than can be kept.
        """
        text = json.dumps(list(reasons))
        if len(text) > _LONGEST_REASONS:
            raise ModelError(
                f"version {version} of '{self.name}': the reasons have {len(text):,} characters, at most "
                f"{_LONGEST_REASONS:,} can be kept; say it more shortly"
            )
        for key, value in ((REASONS, text), (STATUS, status)):
            self.client.set_model_version_tag(self.name, version, key, value)


def with_verdict(version: RegisteredVersion, entries: Iterable[ledger.LedgerEntry]) -> RegisteredVersion:
    """The version with the rollback that the ledger has of it, where the tag that says so was removed."""
    if STATUS in version.tags:
        return version
    verdict = verdict_of(version.tags.get(ONNX_SHA256) or version.version, entries)
    return replace(version, tags={**version.tags, **verdict})


def verdict_of(digest: str, entries: Iterable[ledger.LedgerEntry]) -> dict[str, str]:
    """Tags of a version that the ledger knows as rolled back; empty for any other.

    Args:
        digest: SHA-256 of its file, or its number where it has none.
        entries: the ledger.
    """
    entry = ledger.rolled_back(entries).get(digest)
    return {} if entry is None else {STATUS: ROLLED_BACK, REASONS: json.dumps(entry.reasons)}
