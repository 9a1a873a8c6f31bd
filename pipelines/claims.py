"""`featherface claims`: every training that the ledger asks for, spread over workers, then the verdicts."""

from __future__ import annotations

import json
import logging
import platform
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from featherface.claims.answers import answer, costs, minutes_of, read_scores
from featherface.claims.ledger import Answer, cells_of, read_ledger
from featherface.claims.report import PLOT_FILE, plot, to_markdown
from featherface.errors import ModelError
from featherface.files import write_atomically
from featherface.tracking.provenance import data_md5, git_sha
from featherface.trials.cell import run_cell
from featherface.trials.plan import Cell
from pipelines.runners import Runner, task_runner
from pipelines.workspace_turn import workspace_turn

logger = logging.getLogger(__name__)


@task(name="claim-cell", task_run_name="{cell.label}", retries=2, retry_delay_seconds=5)
def train_cell(cell: Cell, data: Path, teacher: Path, folder: Path) -> dict[str, float]:
    """One training; a finished one is not run again, a killed one goes on.

    Raises:
        WorkspaceBusyError: another run of the ledger trains this very cell.
    """
    with workspace_turn(folder / cell.label):
        return run_cell(cell, data=data, teacher=teacher, folder=folder / cell.label)


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
        data: a data set in WIDER FACE layout.
        teacher: its weights.
        folder: of the results; a folder for each cell.
        workers: cells at once; default: one a core.
        runner: where they run.

    Returns:
        The report, as Markdown.

    Raises:
        FeatherFaceError: ledger, data or weights cannot be used.
    """
    asked = read_ledger(ledger)
    cells = cells_of(asked, budget, where=str(ledger))
    if not teacher.is_file():
        raise ModelError(f"{teacher}: there is no such file; give the teacher's .safetensors")
    logger.info("%d trainings of %d cells", len(cells), len(asked.cells))
    with task_runner(runner, workers) as pool:
        common = {"data": data, "teacher": teacher, "folder": folder}
        futures = [pool.submit(train_cell, {"cell": cell, **common}) for cell in cells]
        for number, (cell, future) in enumerate(zip(cells, futures, strict=True), start=1):
            mean_ap = future.result()["dev/ap_mean"]
            logger.info("[%d/%d] %s: mean AP %.2f", number, len(cells), cell.label, 100 * mean_ap)
    scores = read_scores(cells, folder=folder, data=data)
    answers, measured = answer(asked, scores), costs()
    minutes = minutes_of(cells, folder)
    facts = {
        "document": asked.document,
        "command": f"`featherface claims --budget {budget}`, commit `{git_sha(Path())[:10]}`",
        "data": f"version {data_md5(data.parent)}; a development split of "
        f"{asked.development.fraction:.0%} of the training photographs",
        "budget": f"{asked.budgets[budget].epochs} epochs, seeds {list(asked.budgets[budget].seeds)}; "
        f"{statistics.median(minutes):.1f} minutes a training, {sum(minutes):.0f} in all",
        "hardware": f"{platform.processor() or platform.machine()}, {platform.system()}",
        "made": f"{datetime.now(tz=UTC):%Y-%m-%d}",
    }
    text = to_markdown(answers, scores, measured, facts=facts)
    plot(answers, folder / PLOT_FILE)
    write_atomically(folder / "claims.md", text.encode())
    content = {"facts": facts, "answers": [_plain(each) for each in answers]}
    write_atomically(folder / "claims.json", json.dumps(content, indent=1).encode())
    create_markdown_artifact(key="claims", markdown=text)
    return text


def _plain(answer: Answer) -> dict[str, Any]:
    return asdict(answer)
