"""`featherface claims`: every training that the ledger asks for, spread over workers, then the verdicts."""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from featherface.claims.answers import answer, costs, minutes_of, read_scores, read_validation_scores
from featherface.claims.ledger import Answer, Ledger, Network
from featherface.claims.report import PLOT_FILE, plot, to_markdown
from featherface.claims.statistics import Score
from featherface.claims.validation import (
    judge_on_validation,
    known_judgement,
    read_validation_score,
    validation_ground_truth,
)
from featherface.config import EvaluateConfig
from featherface.errors import FeatherFaceError
from featherface.evaluation.ground_truth import WiderGroundTruth
from featherface.files import write_atomically
from featherface.inference.loading import shipped_weights
from featherface.tracking.connection import configure, tracking_uri
from featherface.tracking.provenance import DATA_MD5, git_sha, provenance_tags
from featherface.tracking.runs import start_pipeline_run, start_stage_run
from featherface.trials.cell import RESULT, WEIGHTS, known_metrics, run_cell
from featherface.trials.plan import Cell
from featherface.turn import workspace_turn
from pipelines.claims_request import read_request
from pipelines.data_sources import DataSource, local_data
from pipelines.runners import Runner, task_pool

logger = logging.getLogger(__name__)

MODELS = "models"
_RUN_ID = "run_id"
_NOTED = "noted.json"
_TRACKING_URI = "MLFLOW_TRACKING_URI"


class ClaimsError(FeatherFaceError):
    """Some trainings of a ledger failed; the others are kept."""


@dataclass(frozen=True)
class Books:
    """Where a task on whatever machine writes down what it did."""

    root: Path
    tracking_uri: str = field(repr=False)
    """May hold a password."""
    parent_run_id: str | None
    data_version: str

    def open(self) -> None:
        """Make MLflow of this process use it."""
        if not self.tracking_uri.startswith("sqlite:"):
            os.environ.setdefault(_TRACKING_URI, self.tracking_uri)
        configure(self.root)


@task(name="claim-cell", task_run_name="{cell.label}", retries=2, retry_delay_seconds=5)
def train_cell(cell: Cell, source: DataSource, teacher: Path, folder: Path, books: Books) -> dict[str, float]:
    """One training, judged on the development split and once on the validation photographs.

    A finished one is not run again, a killed one goes on.

    Raises:
        WorkspaceBusyError: another run of the ledger trains this very cell.
    """
    own, data = folder / cell.label, local_data(source)
    with workspace_turn(own):
        metrics = run_cell(cell, data=data, teacher=teacher, folder=own)
        if validation_ground_truth(data) is not None:
            settings = cell.config.evaluate
            metrics |= judge_on_validation(own / WEIGHTS, settings, data=data, folder=own)
        if not _is_noted(metrics, own):
            _note(cell, metrics, own, books)
    return metrics


@task(name="claim-model", task_run_name="{network}", retries=2, retry_delay_seconds=5)
def judge_network(
    network: Network, source: DataSource, teacher: Path, folder: Path, settings: EvaluateConfig
) -> None:
    """Look at the validation photographs with a finished network.

    Raises:
        WorkspaceBusyError: another run of the ledger does.
    """
    own = folder / MODELS / network
    with workspace_turn(own), _weights_of(network, teacher) as weights:
        judge_on_validation(weights, settings, data=local_data(source), folder=own)


def _note(cell: Cell, metrics: dict[str, float], folder: Path, books: Books) -> None:
    """A run of MLflow for a finished cell, below that of the ledger."""
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    books.open()
    tags = provenance_tags(books.root) | {DATA_MD5: books.data_version}
    with start_stage_run(f"claims/{cell.label}", parent_run_id=books.parent_run_id, tags=tags) as tracker:
        tracker.log_params(result["config"])
        for number, point in enumerate(result["history"], start=1):
            tracker.log_metrics({f"train/{name}": value for name, value in point.items()}, step=number)
        tracker.log_metrics(metrics)
        noted = {"run_id": tracker.run_id, "metrics": metrics}
        write_atomically(folder / _NOTED, json.dumps(noted).encode())


def _is_noted(metrics: dict[str, float], folder: Path) -> bool:
    """Whether a cell's run of MLflow is of this training and this judgement of it."""
    path = folder / _NOTED
    if not path.is_file():
        return False
    noted = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    return json.dumps(noted) == json.dumps(metrics)  # as text: a number that is none equals itself


@flow(name="claims", persist_result=False, validate_parameters=False)
def claims(
    *,
    ledger: Path,
    budget: str,
    data: Path,
    teacher: Path,
    folder: Path,
    workers: int | None = None,
    runner: Runner = "processes",
) -> str:
    """Train what is missing, answer every claim, and write `claims.md`, `claims.json` and the picture.

    Args:
        ledger: a file like `claims.yaml`.
        budget: one of its budgets.
        data: a data set in WIDER FACE layout; machines without it pull its version from its DVC remote.
        teacher: its weights.
        folder: of the results; a folder for each cell. A cluster's machines share it.
        workers: cells at once; default: one a core.
        runner: where they run.

    Returns:
        The report, as Markdown.

    Raises:
        FeatherFaceError: ledger, data or weights cannot be used.
    """
    request = read_request(ledger=ledger, budget=budget, data=data, teacher=teacher)
    asked, cells, source = request.ledger, request.cells, request.source
    logger.info("%d trainings of %d cells", len(cells), len(asked.cells))
    configure(Path())
    with start_pipeline_run(
        name=f"claims-{budget}",
        resume_run_id=_known_run(folder),
        tags=provenance_tags(Path()) | {DATA_MD5: source.version},
    ) as tracker:
        write_atomically(folder / _RUN_ID, str(tracker.run_id).encode())
        books = Books(Path().resolve(), tracking_uri(Path()), tracker.run_id, source.version)
        _run_tasks(asked, cells, source, teacher, folder, books=books, runner=runner, workers=workers)
        text = _conclude(asked, cells, source, folder, budget)
        for name in ("claims.md", "claims.json", PLOT_FILE):
            tracker.log_artifact(folder / name, "claims")
    create_markdown_artifact(key="claims", markdown=text)
    return text


def _run_tasks(
    asked: Ledger,
    cells: Sequence[Cell],
    source: DataSource,
    teacher: Path,
    folder: Path,
    *,
    books: Books,
    runner: Runner,
    workers: int | None,
) -> None:
    # Workers are started for what is missing alone: each takes seconds to import all that it needs.
    photographs = validation_ground_truth(source.path)
    common = {"source": source, "teacher": teacher, "folder": folder}
    known = {cell.label: _known_metrics(cell, source, teacher, folder, photographs) for cell in cells}
    with task_pool(runner, workers) as pool:
        futures = {
            cell.label: pool.submit(train_cell, {"cell": cell, "books": books, **common})
            for cell in cells
            if known[cell.label] is None
        }
        failures = []
        for number, cell in enumerate(cells, start=1):
            try:
                metrics = known[cell.label] or futures[cell.label].result()
            except Exception as error:  # noqa: BLE001 - of whatever kind: the other cells are worth finishing
                failures.append(f"{cell.label}: {error}")
                logger.warning("[%d/%d] %s failed: %s", number, len(cells), cell.label, error)
            else:
                mean_ap = 100 * metrics["dev/ap_mean"]
                logger.info("[%d/%d] %s: mean AP %.2f", number, len(cells), cell.label, mean_ap)
        if failures:
            raise ClaimsError(
                f"{len(failures)} of {len(cells)} trainings failed ({failures[0]}); run the same command "
                "again: it does only what is missing"
            )
        if asked.models and photographs is not None:
            common["settings"] = cells[0].config.evaluate
            judged = [
                pool.submit(judge_network, {"network": network, **common})
                for network in get_args(Network)
                if not _is_judged(network, teacher, cells[0].config.evaluate, photographs, folder)
            ]
            for waiting in judged:
                waiting.result()


def _known_metrics(
    cell: Cell, source: DataSource, teacher: Path, folder: Path, photographs: WiderGroundTruth | None
) -> dict[str, float] | None:
    """What `train_cell` would give of a cell that is trained, judged and noted; None for others."""
    own = folder / cell.label
    metrics = known_metrics(cell, data=source.path, teacher=teacher, folder=own)
    if metrics is not None and photographs is not None:
        settings = cell.config.evaluate
        judged = known_judgement(own / WEIGHTS, settings, photographs=photographs, folder=own)
        metrics = None if judged is None else metrics | judged
    return metrics if metrics is not None and _is_noted(metrics, own) else None


def _is_judged(
    network: Network, teacher: Path, settings: EvaluateConfig, photographs: WiderGroundTruth, folder: Path
) -> bool:
    with _weights_of(network, teacher) as weights:
        own = folder / MODELS / network
        return known_judgement(weights, settings, photographs=photographs, folder=own) is not None


@contextmanager
def _weights_of(network: Network, teacher: Path) -> Iterator[Path]:
    with resources.as_file(shipped_weights()) as shipped:
        yield teacher if network == "teacher" else shipped


def _conclude(asked: Ledger, cells: Sequence[Cell], source: DataSource, folder: Path, budget: str) -> str:
    scores = read_scores(cells, folder=folder, data=source.path)
    replications = read_validation_scores(cells, folder=folder, data=source.path)
    answers = answer(
        asked, scores, replications=replications, models=_model_scores(asked, folder, source.path)
    )
    minutes = minutes_of(cells, folder)
    spent = asked.budgets[budget]
    facts = {
        "document": asked.document,
        "command": f"`featherface claims --budget {budget}`, commit `{git_sha(Path())[:10]}`",
        "data": f"version {source.version}; a development split of "
        f"{asked.development.fraction:.0%} of the training photographs"
        f"{'' if replications is None else '; the validation photographs, once'}",
        "budget": f"{spent.epochs} epoch(s) a cell, seeds {', '.join(map(str, spent.seeds))}; "
        f"{statistics.median(minutes):.1f} minutes a training, {sum(minutes):.0f} minutes in all",
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "made": f"{datetime.now(tz=UTC):%Y-%m-%d}",
    }
    measured = costs() if asked.measure_costs else {}
    text = to_markdown(answers, scores, measured, facts=facts, replications=replications)
    plot(answers, folder / PLOT_FILE)
    write_atomically(folder / "claims.md", text.encode())
    content = {"facts": facts, "answers": [_plain(each) for each in answers]}
    write_atomically(folder / "claims.json", json.dumps(content, indent=1).encode())
    return text


def _model_scores(asked: Ledger, folder: Path, data: Path) -> dict[Network, Score] | None:
    ground_truth = validation_ground_truth(data)
    if not asked.models or ground_truth is None:
        return None
    return {
        network: read_validation_score(folder / MODELS / network, ground_truth)
        for network in get_args(Network)
    }


def _known_run(folder: Path) -> str | None:
    path = folder / _RUN_ID
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _plain(answer: Answer) -> dict[str, Any]:
    return asdict(answer)
