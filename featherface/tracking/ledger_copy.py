"""A second copy of the ledger, as files in the artifact store: what is done to the first one shows beside it.

One small file an entry, among the artifacts of a run of its own, wherever MLflow keeps artifacts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.entities import RunStatus

from featherface.tracking.connection import experiment_id
from featherface.tracking.ledger import LedgerEntry, parse_entry, to_json

FOLDER = "ledger"
_TAG = "featherface.ledger"
_RUN_NAME = "registry ledger"


def copy(client: MlflowClient, name: str, entries: Iterable[LedgerEntry]) -> None:
    """Write entries into the copy.

    Args:
        client: where.
        name: the registered model.
        entries: of its ledger; none that has a copy.
    """
    run_id = _run_of(client, name) or _new_run(client, name)
    for entry in entries:
        client.log_text(run_id, to_json(entry), f"{FOLDER}/{_file_name(entry)}")


def uncopied(client: MlflowClient, name: str, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """What the next move has to copy beside its own entry: mostly nothing.

    The last entry, if its process died between ledger and copy; all of them, if there is no copy at all. An
    older entry without one was put in by somebody: it stays without, so that it goes on to show.

    Args:
        client: where.
        name: the registered model.
        entries: its ledger.
    """
    run_id = _run_of(client, name)
    there = {Path(file.path).name for file in client.list_artifacts(run_id, FOLDER)} if run_id else set()
    candidates = entries[-1:] if there else entries
    return [entry for entry in candidates if _file_name(entry) not in there]


def compare_copy(client: MlflowClient, name: str, entries: Sequence[LedgerEntry]) -> list[str]:
    """A sentence for each entry that ledger and copy do not have alike; empty if they agree.

    Args:
        client: where.
        name: the registered model.
        entries: its ledger, as the registry has it.
    """
    files = _read_all(client, name)
    # Entries from before there was a chain had no copy either.
    if not files and sum(entry.follows is not None for entry in entries) > 1:
        return ["the copy of the ledger in the artifact store is gone"]
    problems: list[str] = []
    for entry in entries:
        text = files.pop(_file_name(entry), None)
        if text is not None:
            problems += _compare(entry, text)
        elif entry is entries[-1] and entry.follows is not None:
            problems.append(
                f"the entry of {entry.at}, the last one, is not copied yet: its process died, which the next "
                "move mends, or somebody added it"
            )
        elif entry.follows is not None:
            problems.append(f"the entry of {entry.at} has no copy: somebody added it, or removed the copy")
    problems += [f"the entry in {file} is in the artifact store alone: it was removed" for file in files]
    return problems


def _read_all(client: MlflowClient, name: str) -> dict[str, str]:
    """Names of the copy's files, oldest entry first, to what they say."""
    run_id = _run_of(client, name)
    if run_id is None or not client.list_artifacts(run_id, FOLDER):
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = artifacts.download_artifacts(run_id=run_id, artifact_path=FOLDER, dst_path=scratch)
        return {
            file.name: file.read_text(encoding="utf-8", errors="replace")
            for file in sorted(Path(folder).glob("*.json"))
        }


def _compare(entry: LedgerEntry, text: str) -> Iterator[str]:
    try:
        copied = parse_entry(text)
    except ValueError:
        yield f"the copy {_file_name(entry)} in the artifact store cannot be read: somebody changed it"
        return
    if copied.digest != entry.digest:
        yield f"the entry of {entry.at} differs from its copy: one of them was edited"


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
