"""A stage inside a run of its own: parameters, curves, files, duration and peak memory go to the tracker."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from featherface.config import Config, load_config
from featherface.data.widerface import annotation_path
from featherface.errors import ConfigError
from featherface.files import sha256_of
from featherface.launching import launched_rank
from featherface.stages import STAGES
from featherface.stages.base import CHECKPOINT_FILES, PARAMS_FILE, Stage, StageResult, Workspace
from featherface.stages.starter import begin, finish
from featherface.tracking.connection import configure, patient_client
from featherface.tracking.provenance import data_md5, provenance_tags, stage_lock_md5
from featherface.tracking.runs import start_stage_run
from featherface.tracking.tracker import Tracker

PARENT_RUN_VARIABLE = "FEATHERFACE_PARENT_RUN_ID"
FLOW_RUN_VARIABLE = "FEATHERFACE_FLOW_RUN_ID"
RUN_ID_FILE = "run_id"
RUN_OF_FILE = "run_of"
"""Digest of what that run computes: killed and started with other parameters, a stage opens another run."""
MAX_LOGGED_BYTES = 20 * 2**20


def num_processes_of(name: str, root: Path) -> int:
    """How many processes params.yaml asks for in a stage; 1 for those that train nothing.

    Raises:
        ConfigError: there is no such stage.
    """
    _refuse_unknown(name)
    if name not in ("train_teacher", "distill"):
        return 1
    try:
        config = load_config(root / PARAMS_FILE)
    except ConfigError:
        return 1  # the stage itself refuses them
    if name == "train_teacher":
        return config.train_teacher.num_processes
    return 1 if config.distill.keep_initial_weights else config.distill.train.num_processes


def run_tracked(
    name: str, root: Path, *, perform: Callable[[Config, Workspace], StageResult] | None = None
) -> StageResult:
    """Run one stage of a workspace and keep notes of it in MLflow.

    A stage that was killed leaves its checkpoint; run again on the same parameters and files, it goes on in
    the same run.

    Args:
        name: of the stage.
        root: the workspace.
        perform: what writes the stage's outputs; None: the stage's own function.

    Raises:
        FeatherFaceError: bad input: unknown stage, broken params.yaml, missing files.
    """
    _refuse_unknown(name)
    return _run(STAGES[name], load_config(root / PARAMS_FILE), root, perform)


def _refuse_unknown(name: str) -> None:
    if name not in STAGES:
        raise ConfigError(f"there is no stage '{name}'; known: {', '.join(STAGES)}")


def last_run_id(root: Path, stage: str) -> str | None:
    """The MLflow run that a stage of this workspace last reported to."""
    path = Workspace(root).state_dir(stage) / RUN_ID_FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _run(
    stage: Stage,
    config: Config,
    root: Path,
    instead: Callable[[Config, Workspace], StageResult] | None,
) -> StageResult:
    perform = instead or stage.run
    if launched_rank() > 0:
        return perform(config, Workspace(root))  # the first process of a training takes the notes
    state = Workspace(root).state_dir(stage.name)
    begin(state, stage_lock_md5(root, stage.name))
    run_of = _digest_of(stage, config, root)
    # What comes from elsewhere has curves of its own.
    resumed = _killed_run(root, stage.name, run_of) if instead is None else None
    with _opened_run(stage, root, resumed) as tracker:
        (state / RUN_ID_FILE).write_text(tracker.run_id or "", encoding="utf-8")
        (state / RUN_OF_FILE).write_text(run_of, encoding="utf-8")
        tracker.log_params({section: getattr(config, section).model_dump() for section in stage.sections})
        tracker.log_dataset(config.data.source, data_md5(root), config.data.root)
        started = time.perf_counter()
        result = perform(config, Workspace(root, tracker))
        tracker.log_metrics(
            {**result.metrics, "sys/duration_s": time.perf_counter() - started, **_peak_memory()}
        )
        _log_outputs(tracker, stage, root)
    finish(state, stage_lock_md5(root, stage.name))
    return result


def _digest_of(stage: Stage, config: Config, root: Path) -> str:
    """Of parameters, version of the data, annotations and input files: what a run of the stage tells of.

    It covers what a checkpoint counts for (`resuming`): a training that begins anew has a run of its own.
    """
    files = [root / name for name in stage.all_inputs(config)]
    files.append(annotation_path(root / config.data.root, "train"))
    parts = [getattr(config, section).model_dump_json() for section in stage.sections]
    parts += [data_md5(root), *(sha256_of(path) for path in files if path.is_file())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _killed_run(root: Path, stage: str, run_of: str) -> str | None:
    """The run that a killed stage left, if it was to compute the same."""
    state = Workspace(root).state_dir(stage)
    known = state / RUN_OF_FILE
    is_same = known.is_file() and known.read_text(encoding="utf-8") == run_of
    return last_run_id(root, stage) if is_same and any(state.glob(CHECKPOINT_FILES)) else None


@contextmanager
def _opened_run(stage: Stage, root: Path, resume_run_id: str | None) -> Iterator[Tracker]:
    with ExitStack() as until_the_end:
        # Alone, a stage says soon that there is no server; in a flow hours of work would be lost by that.
        with patient_client() if PARENT_RUN_VARIABLE in os.environ else nullcontext():
            configure(root)
            tracker = until_the_end.enter_context(
                start_stage_run(
                    stage.name,
                    parent_run_id=os.environ.get(PARENT_RUN_VARIABLE),
                    resume_run_id=resume_run_id,
                    tags=provenance_tags(root, flow_run_id=os.environ.get(FLOW_RUN_VARIABLE)),
                )
            )
        yield tracker


def _peak_memory() -> dict[str, float]:
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return {"sys/peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}


def _log_outputs(tracker: Tracker, stage: Stage, root: Path) -> None:
    for output in stage.outputs:
        path = root / output.path
        # Folders hold a file an image: they are DVC's.
        if path.is_file() and path.stat().st_size <= MAX_LOGGED_BYTES:
            tracker.log_artifact(path, stage.name)
