"""The model registry: one model, numbered versions, and the aliases that say which of them is in use.

`champion` is the model that detects, `previous_champion` the one to go back to, `challenger` the newest
one to be judged. This module only acts; whether a challenger is good enough is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mlflow import MlflowClient

from featherface.errors import ModelError
from featherface.files import sha256_of
from featherface.tracking import ledger, moves
from featherface.tracking.connection import DATABASE, configure, tracking_uri
from featherface.tracking.download import fetch_extra
from featherface.tracking.ledger_copy import compare_copy
from featherface.tracking.measurements import is_judged_anew
from featherface.tracking.moves import ANY_CHAMPION
from featherface.tracking.packaging import log_measurement, log_model
from featherface.tracking.version_store import VersionStore, verdict_of, with_verdict
from featherface.tracking.versions import (
    CHALLENGER,
    CHAMPION,
    DECLINED,
    FILE_MEAN_AP,
    JUDGED_BY,
    MEASURED_BY_RUN,
    MODEL_NAME,
    ONNX_SHA256,
    PENDING,
    REJECTED,
    STATUS,
    RegisteredVersion,
    describe_version,
    readable_errors,
)

_SQLITE_HEADER = b"SQLite format 3\0"


def open_registry(root: Path) -> ModelRegistry:
    """The registry of a workspace that has one; makes none, unlike `configure`.

    Args:
        root: the workspace whose registry is meant, unless `MLFLOW_TRACKING_URI` is set.

    Raises:
        ModelError: the workspace has no database, or its file is none.
        FeatherFaceError: the store does not answer or cannot be used, or the workspace is not where it was.
    """
    database = root.resolve() / DATABASE
    if tracking_uri(root) == f"sqlite:///{database}":
        _refuse_what_is_no_database(database)
    configure(root.resolve())
    return ModelRegistry()


def _refuse_what_is_no_database(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE_HEADER))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"no registry at {path}; `featherface pipeline` makes one, --root names the workspace that has it"
        ) from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if start not in (_SQLITE_HEADER, b""):
        raise ModelError(f"{path}: is no SQLite database; bring it back from a backup")


class ModelRegistry:
    """The versions of one registered model, in the store that `configure` made MLflow's own.

    No other store can be named: MLflow finds a version's model through its default, whatever the client says.

    Args:
        name: the registered model.
    """

    def __init__(self, name: str = MODEL_NAME) -> None:
        self._client = MlflowClient()
        self._store = VersionStore(self._client, name)
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

        A file that was rolled back, and whose version was deleted in MLflow, is registered as rolled back.

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
        snapshot = self._store.snapshot()
        if snapshot is None:
            self._client.create_registered_model(self.name)
        digest = sha256_of(onnx_path)
        verdict = verdict_of(digest, snapshot.entries if snapshot else ())
        created = self._client.create_model_version(
            self.name,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={**tags, ONNX_SHA256: digest, STATUS: PENDING, **verdict},
        )
        version = str(created.version)
        self._client.set_registered_model_alias(self.name, CHALLENGER, version)
        return version

    def record_measurement(
        self,
        version: str,
        run_id: str,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        extras: Mapping[str, Path],
    ) -> None:
        """Let the numbers of a later run count, which came to the file of a version and measured it anew.

        The first ones stay in MLflow, as do status and ledger. Meanwhile the version has no rules by which it
        was judged, so it compares with nothing: cut off, `is_measured_anew` stays true.

        Args:
            version: the version that is this file.
            run_id: the run that measured.
            metrics: its numbers.
            tags: where they came from, as of `provenance_tags`.
            extras: as of `register_student`.

        Raises:
            ModelError: there is no such version.
        """
        known = self.get(version)
        model_id = str(self._store.find(version).source).removeprefix("models:/")
        log_measurement(self._client, run_id, model_id, metrics=metrics, extras=extras)
        if FILE_MEAN_AP in known.tags and is_judged_anew(known, metrics, tags):
            self._client.delete_model_version_tag(self.name, known.version, FILE_MEAN_AP)
        if JUDGED_BY in known.tags:
            self._client.delete_model_version_tag(self.name, known.version, JUDGED_BY)
        new_tags = {**tags, MEASURED_BY_RUN: run_id}
        for key, value in sorted(new_tags.items(), key=lambda tag: tag[0] == JUDGED_BY):
            self._client.set_model_version_tag(self.name, known.version, key, value)

    def fetch_extra(self, version: str, name: str) -> Path | None:
        """A file that was kept with a version, on this machine; None if it has none of that name.

        Raises:
            ModelError: there is no such version.
            UnavailableError: the store does not answer.
        """
        found = self._store.find(version)
        with readable_errors(f"{name} of version {version} of '{self.name}'"):
            return fetch_extra(self._client, found, name)

    def record_rejection(self, version: str, reasons: Iterable[str]) -> None:
        """Write down that a version was judged and not promoted; it stays the challenger until the next one.

        Raises:
            ModelError: there is no such version.
        """
        self._store.tag_decision(self._store.find(version).version, REJECTED, reasons)

    def record_decline(self, version: str, reason: str) -> None:
        """Write down that a person does not want a version as champion; one that is it already stays it.

        Raises:
            ModelError: there is no such version.
        """
        found = self._store.find(version)
        if CHAMPION not in found.aliases:
            self._store.tag_decision(found.version, DECLINED, (reason,))

    def record_file_score(self, version: str, mean_ap: float) -> None:
        """Write down what mean AP the registered file itself reached.

        Raises:
            ModelError: there is no such version.
        """
        found = self._store.find(version)
        self._client.set_model_version_tag(self.name, found.version, FILE_MEAN_AP, repr(mean_ap))

    def promote(
        self, version: str, reasons: Iterable[str] = (), *, judged_against: str | None = ANY_CHAMPION
    ) -> None:
        """Move `champion` to a version; see `moves.promote`."""
        moves.promote(self._store, version, reasons, judged_against=judged_against)

    def rollback(self, reasons: Iterable[str] = ()) -> str:
        """Make the previous champion the champion again; see `moves.roll_back`."""
        return moves.roll_back(self._store, reasons)

    def get(self, version: str) -> RegisteredVersion:
        """One version.

        Raises:
            ModelError: there is no such version.
        """
        return self._store.describe(version)

    def find_version_of(self, onnx_path: Path) -> str | None:
        """The newest version that is this very file, byte for byte; None: it was never registered."""
        found = self._store.search(f" and tags.`{ONNX_SHA256}` = '{sha256_of(onnx_path)}'")
        return str(found[0].version) if found else None

    def list_versions(self) -> list[RegisteredVersion]:
        """All versions, newest first; empty where nothing was ever registered."""
        snapshot = self._store.snapshot()
        if snapshot is None:
            return []
        aliases: dict[str, list[str]] = {}
        for alias, version in snapshot.aliases.items():
            aliases.setdefault(version, []).append(alias)
        found = self._store.search()
        described = [
            describe_version(self._client, each, aliases.get(str(each.version), [])) for each in found
        ]
        return [with_verdict(each, snapshot.entries) for each in described]

    def current_champion(self) -> RegisteredVersion | None:
        """The version in use; None while there is none."""
        snapshot = self._store.snapshot()
        version = snapshot.aliases.get(CHAMPION) if snapshot else None
        return None if version is None else self.get(version)

    def history(self) -> list[ledger.LedgerEntry]:
        """Every move of the champion that can be read, oldest first."""
        snapshot = self._store.snapshot()
        return snapshot.entries if snapshot else []

    def check_history(self) -> list[str]:
        """A sentence for each entry of the ledger that was edited, removed or added; empty if it is whole."""
        snapshot = self._store.snapshot()
        if snapshot is None:
            return []
        return [
            *snapshot.problems,
            *ledger.broken_links(snapshot.entries),
            *compare_copy(self._client, self.name, snapshot.entries),
        ]

    def delete_version(self, version: str) -> None:
        """Delete a version that no alias points to and no person has decided against.

        Raises:
            ModelError: there is no such version; or it has an alias, which MLflow would drop as well; or it
                was rolled back, withdrawn or declined, of which it is the only record.
        """
        found = self._store.describe(version)
        called = f"version {version} of '{self.name}'"
        if found.aliases:
            raise ModelError(f"{called} is {', '.join(found.aliases)}: it stays until another one is")
        if found.verdict:
            raise ModelError(
                f"{called} {found.verdict}: it stays, or the next run would register the same file anew and "
                "forget that; leave it, deleting would free no space either"
            )
        self._client.delete_model_version(self.name, str(version))
