"""`featherface registry reproduce`: make a registered version again, from its own code, and compare."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from featherface.config import Config, load_config
from featherface.errors import DataError, ModelError
from featherface.files import sha256_of
from featherface.stages import names
from featherface.stages.base import PARAMS_FILE
from featherface.tracking.provenance import GIT_DIRTY, GIT_SHA, UNKNOWN
from featherface.tracking.registry import ModelRegistry, open_registry
from featherface.tracking.versions import ONNX_SHA256, RegisteredVersion
from featherface.yaml_files import read_yaml
from pipelines import dvc_commands

logger = logging.getLogger(__name__)

RECIPE = (PARAMS_FILE, dvc_commands.DATA_FILE)
_PROJECT = Path(__file__).resolve().parents[1]
# Latencies and times differ from run to run, on one machine too.
_MEASURED_BY_CLOCK = ("bench/", "sys/")


@dataclass(frozen=True)
class Reproduction:
    """What came of it."""

    version: str
    is_same_file: bool
    differences: Mapping[str, tuple[float | None, float | None]]
    """Metrics that differ: on record, and now."""
    num_metrics: int
    """That were compared."""

    def __str__(self) -> str:
        file = "the same file, byte by byte" if self.is_same_file else "another file"
        if not self.differences:
            return f"version {self.version}: {file}; all {self.num_metrics} metrics are equal"
        lines = [f"  {name}: {then} on record, {now} now" for name, (then, now) in self.differences.items()]
        head = f"version {self.version}: {file}; {len(lines)} of {self.num_metrics} metrics differ"
        return "\n".join([head, *lines])


def recipe_of(root: Path) -> dict[str, Path]:
    """The small files that a version cannot be made again without, by the names under which they are kept."""
    config = load_config(root / PARAMS_FILE)
    inputs = [path for path in (config.teacher.weights, config.distill.initial_weights) if path is not None]
    return {name.replace("/", "__"): root / name for name in (*RECIPE, *inputs)}


def reproduce_version(version: str, *, root: Path, target: Path) -> Reproduction:
    """Check out the version's commit, run its whole pipeline in a new workspace there, and compare.

    The installed libraries are used: `constraints.txt` of the commit says which ones there were.

    Args:
        version: of the registry.
        root: the workspace whose registry and DVC cache are meant.
        target: a new folder for code and workspace; what it needs stays there, and git has it registered as a
            worktree until `git worktree remove --force TARGET`.

    Raises:
        ModelError: there is no such registry or version, it was made with uncommitted changes, or its recipe
            was not kept, cannot be fetched now or names files outside the workspace.
        DataError: the target is there already or cannot be made, or the commit is not in this repository.
        FeatherFaceError: the store cannot be used, or the pipeline failed.
    """
    root, target = root.resolve(), target.resolve()
    if target.exists():
        raise DataError(f"{target}: is there already; give a new folder")
    registry = open_registry(root)
    registered = registry.get(version)
    commit = _commit_of(registered)
    workspace = target / "workspaces" / "again"
    _check_out(commit, target)
    try:
        _lay_out(registry, registered, root, workspace)
        _run(target, workspace)
    except BaseException:
        _remove_worktree(target)
        raise
    return _compare(registered, workspace)


def _commit_of(registered: RegisteredVersion) -> str:
    commit = registered.tags.get(GIT_SHA, UNKNOWN)
    if commit == UNKNOWN:
        raise ModelError(f"version {registered.version}: its commit is not known, so its code is not either")
    if registered.tags.get(GIT_DIRTY) != "false":
        raise ModelError(
            f"version {registered.version}: was made with changes that were not committed to {commit[:10]}; "
            "it cannot be made again exactly"
        )
    return commit


def _check_out(commit: str, target: Path) -> None:
    found = _git("cat-file", "-e", f"{commit}^{{commit}}")
    if found.returncode != 0:
        raise DataError(
            f"commit {commit}: is not in {_PROJECT} ({' '.join(found.stderr.split())}); fetch it first"
        )
    # --force: a worktree stays registered when somebody deletes its folder, and this folder is not there.
    done = _git("worktree", "add", "--force", "--detach", str(target), commit)
    if done.returncode != 0:
        raise DataError(
            f"commit {commit}: cannot be checked out from {_PROJECT} to {target} "
            f"({' '.join(done.stderr.split())}); mend that, or give another --target"
        )


def _remove_worktree(target: Path) -> None:
    _git("worktree", "remove", "--force", str(target))


def _lay_out(registry: ModelRegistry, registered: RegisteredVersion, root: Path, workspace: Path) -> None:
    workspace.mkdir(parents=True)
    _fetch(registry, registered, PARAMS_FILE, workspace)
    _fetch(registry, registered, dvc_commands.DATA_FILE, workspace)
    config = load_config(workspace / PARAMS_FILE)
    _refuse_ways_out(registered.version, config, read_yaml(workspace / dvc_commands.DATA_FILE))
    for name in (config.teacher.weights, config.distill.initial_weights):
        if name is not None:
            _fetch(registry, registered, name, workspace)
    # The data come from where the workspace has them: its cache, its remote; drawn ones can be drawn again.
    dvc_commands.initialize(workspace)
    remotes = root / ".dvc" / "config"
    if remotes.is_file():
        shutil.copyfile(remotes, workspace / ".dvc" / "config")
    dvc_commands.run_dvc(workspace, "cache", "dir", str(root / ".dvc" / "cache"))


def _refuse_ways_out(version: str, config: Config, data_file: Mapping[str, Any]) -> None:
    """See that a recipe, which somebody else may have registered, has us write in its workspace alone."""
    outs = data_file.get("outs")
    places = [
        (PARAMS_FILE, "teacher.weights", config.teacher.weights),
        (PARAMS_FILE, "distill.initial_weights", config.distill.initial_weights),
        (dvc_commands.DATA_FILE, "wdir", data_file.get("wdir")),
        *(
            (dvc_commands.DATA_FILE, "outs.path", out.get("path"))
            for out in (outs if isinstance(outs, list) else ())
            if isinstance(out, dict)
        ),
    ]
    for file, key, value in places:
        path = PurePath(str(value or ""))
        if path.is_absolute() or ".." in path.parts:
            raise ModelError(
                f"version {version}: {key} of its {file} is '{value}', which is not inside the workspace; a "
                "version is only made again where all its files are"
            )


def _fetch(registry: ModelRegistry, registered: RegisteredVersion, name: str, workspace: Path) -> None:
    kept = registry.fetch_extra(registered.version, name.replace("/", "__"))
    if kept is None:
        raise ModelError(
            f"version {registered.version}: {name} was not kept with it; only versions that were registered "
            "since FeatherFace keeps their recipes can be made again"
        )
    (workspace / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, workspace / name)


def _run(code: Path, workspace: Path) -> None:
    profile = load_config(workspace / PARAMS_FILE).data.source
    # A registry of its own: a test of the record must not change the record.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-m", "featherface", "pipeline", "--profile", profile, "--root", str(workspace)],
        cwd=code, env=environment | {"PYTHONPATH": str(code)}, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise DataError(f"{workspace}: the pipeline ended with {done.returncode}; it says why above")


def _compare(registered: RegisteredVersion, workspace: Path) -> Reproduction:
    report = json.loads((workspace / names.REPORT_METRICS).read_text(encoding="utf-8"))["student"]
    compared = {
        name: (registered.metrics.get(name), report.get(name))
        for name in sorted({*registered.metrics, *report})
        if not name.startswith(_MEASURED_BY_CLOCK)
    }
    return Reproduction(
        version=registered.version,
        is_same_file=sha256_of(workspace / names.ONNX_FILE) == registered.tags.get(ONNX_SHA256),
        differences={name: pair for name, pair in compared.items() if pair[0] != pair[1]},
        num_metrics=len(compared),
    )


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - fixed words, no shell
        ["git", "-C", str(_PROJECT), *arguments],  # noqa: S607 - whichever git the user has
        capture_output=True, text=True, check=False,
    )  # fmt: skip
