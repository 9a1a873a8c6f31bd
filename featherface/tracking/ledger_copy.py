"""A second copy of the ledger, as files in the artifact store: what is done to the first one shows beside it.

One small file an entry, among the artifacts of a run of its own, wherever MLflow keeps artifacts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.entities import RunStatus

from featherface.tracking.connection import experiment_id
from featherface.tracking.ledger import LedgerEntry, parse_entry

FOLDER = "ledger"
_TAG = "featherface.ledger"
_RUN_NAME = "registry ledger"


def copy_missing(client: MlflowClient, name: str, entries: Sequence[LedgerEntry]) -> None:
    """Write the entries that are not in the copy yet: the last ones, also those of a process that died.

    Args:
        client: where.
        name: the registered model.
        entries: its ledger.
    """
    run_id = _run_of(client, name) or _new_run(client, name)
    there = {Path(file.path).name for file in client.list_artifacts(run_id, FOLDER)}
    for entry in entries:
        file = _file_name(entry)
        if file not in there:
            client.log_text(run_id, json.dumps(asdict(entry), sort_keys=True), f"{FOLDER}/{file}")


def compare_copy(client: MlflowClient, name: str, entries: Sequence[LedgerEntry]) -> list[str]:
    """A sentence for each entry of the copy that the ledger has not, or has otherwise; empty if they agree.

    Args:
        client: where.
        name: the registered model.
        entries: its ledger, as the registry has it.
    """
    run_id = _run_of(client, name)
    if run_id is None or not client.list_artifacts(run_id, FOLDER):
        # Entries from before there was a chain had no copy either.
        is_expected = any(entry.follows is not None for entry in entries)
        return ["the copy of the ledger in the artifact store is gone"] if is_expected else []
    known = {entry.at: entry for entry in entries}
    problems = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = artifacts.download_artifacts(run_id=run_id, artifact_path=FOLDER, dst_path=scratch)
        for file in sorted(Path(folder).glob("*.json")):
            try:
                copied = parse_entry(file.read_text(encoding="utf-8"))
            except ValueError:
                problems.append(f"the copy {file.name} in the artifact store cannot be read")
                continue
            entry = known.get(copied.at)
            if entry is None:
                problems.append(f"the entry of {copied.at} is in the artifact store alone: it was removed")
            elif entry.digest != copied.digest:
                problems.append(f"the entry of {copied.at} differs from its copy: one of them was edited")
    return problems


def _file_name(entry: LedgerEntry) -> str:
    return f"{entry.at.replace(':', '').replace('+0000', 'Z')}.json"


def _run_of(client: MlflowClient, name: str) -> str | None:
    found = client.search_runs(
        [experiment_id(client)], f"tags.`{_TAG}` = '{name}'", max_results=1, order_by=["start_time ASC"]
    )
    return str(found[0].info.run_id) if found else None


def _new_run(client: MlflowClient, name: str) -> str:
    run = client.create_run(experiment_id(client), tags={_TAG: name}, run_name=_RUN_NAME)
    client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FINISHED))
    return str(run.info.run_id)
