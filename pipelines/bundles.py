"""`featherface bundle`: distillation on another machine, between two halves of the pipeline."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from featherface.bundles.collect import collect
from featherface.bundles.pack import pack
from featherface.config import load_config
from featherface.errors import DataError
from featherface.stages import names
from featherface.stages.base import PARAMS_FILE, StageResult
from featherface.stages.tracked import last_run_id, run_tracked
from featherface.tracking.provenance import data_md5, stage_lock_md5
from featherface.tracking.runs import tie_run
from featherface.turn import workspace_turn
from pipelines import dvc_commands

logger = logging.getLogger(__name__)

STAGE = "distill"
BEFORE = ("validate", "train_teacher")


def pack_bundle(*, root: Path, target: Path) -> list[Path]:
    """Bring the stages before the distillation up to date, and pack what it reads.

    Args:
        root: a workspace: `featherface pipeline` made it, and may have been stopped.
        target: a new folder for the bundle.

    Raises:
        FeatherFaceError: the workspace is none, cannot be used, or another run is at work there.
    """
    root = root.resolve()
    config = load_config(root / PARAMS_FILE)
    with workspace_turn(root):
        for stage in BEFORE:
            try:
                dvc_commands.reproduce(root, stage, {})
            except dvc_commands.StageDiedError as error:
                raise DataError(f"{root}: {error}") from error
        initial = config.distill.initial_weights
        return pack(
            config,
            data=root / config.data.root,
            teacher=root / names.TEACHER_WEIGHTS,
            initial=None if initial is None else root / initial,
            data_version=data_md5(root),
            target=target,
        )


def collect_bundle(*, root: Path, result: Path) -> StageResult:
    """Make what came back the output of stage `distill`, in MLflow and for DVC: the pipeline goes on from it.

    Args:
        root: the workspace in which the bundle was packed.
        result: folder that `python -m featherface.bundles.train` wrote.

    Raises:
        FeatherFaceError: the result is not complete or not of this workspace, or another run is at work
            there.
    """
    root = root.resolve()
    with workspace_turn(root):
        collected = run_tracked(STAGE, root, perform=partial(collect, result))
        dvc_commands.run_dvc(root, "commit", "--force", STAGE)
        run_id, lock_md5 = last_run_id(root, STAGE), stage_lock_md5(root, STAGE)
        if run_id is not None and lock_md5 is not None:
            tie_run(run_id, lock_md5)
    return collected
