"""What `featherface pipeline` calls: prepares the workspace and runs the flow in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherface.stopping import stopped_in_order
from featherface.tracking.registry import open_registry
from featherface.turn import workspace_turn
from pipelines.claims_request import read_request
from pipelines.environment import prefect_ready
from pipelines.workspace import prepare_workspace

if TYPE_CHECKING:
    from pipelines.outcome import PipelineOutcome


@stopped_in_order()
def run_batch(*, root: Path, **parameters: Any) -> dict[str, Any]:
    """Run the flow `detect-batch`, whose parameters these are, in this process.

    Raises:
        FeatherFaceError: as of the flow.
    """
    root = root.resolve()
    open_registry(root)  # refuses a folder without one before anything is made there
    with prefect_ready(root):
        from pipelines.batch import detect_batch

        summary: dict[str, Any] = detect_batch(root=str(root), **parameters)
    return summary


@stopped_in_order()
def run_claims(
    *, folder: Path, ledger: Path, budget: str, data: Path, teacher: Path, **parameters: Any
) -> str:
    """Run the flow `claims`, whose parameters these are, in this process.

    Raises:
        FeatherFaceError: as of the flow.
    """
    folder = folder.resolve()
    read_request(ledger=ledger, budget=budget, data=data, teacher=teacher)
    folder.mkdir(parents=True, exist_ok=True)  # Prefect's database does not make the folders above it
    with prefect_ready(folder):
        from pipelines.claims import claims

        text: str = claims(
            folder=folder, ledger=ledger, budget=budget, data=data, teacher=teacher, **parameters
        )
    return text


@stopped_in_order()
def run_pipeline(
    *,
    profile: str,
    root: Path,
    data: Path | None = None,
    teacher: Path | None = None,
    student: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> PipelineOutcome:
    """Run the whole flow in a workspace; a new or empty folder becomes one.

    Args:
        profile: which parameters a new workspace starts from: `synthetic` or `widerface`.
        root: the workspace.
        data: photographs in WIDER FACE layout to import, for profile `widerface`.
        teacher: published weights of the teacher, for profile `widerface`.
        student: weights of a student to go on from.
        settings: values of a new workspace that differ from the profile's, by dotted key.

    Raises:
        FeatherFaceError: bad input, another run in the workspace, or a stage that failed; what was finished
            is kept.
    """
    root = root.resolve()
    with workspace_turn(root):
        prepare_workspace(
            root, profile=profile, data=data, teacher=teacher, student=student, settings=settings
        )
        with prefect_ready(root):
            from pipelines.flows import run_flow

            return run_flow(root)
