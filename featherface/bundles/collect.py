"""What came back from another machine becomes the output of the stage `distill`, its history included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featherface.bundles import layout
from featherface.bundles.files import read_json, read_network
from featherface.bundles.pack import settings_of
from featherface.config import Config
from featherface.errors import ConfigError
from featherface.files import sha256_of
from featherface.models.build import build_model
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace
from featherface.stages.distill import write_student
from featherface.tracking.provenance import data_md5

TRAINED_ON = "featherface.trained_on"
TRAINED_WITH = "featherface.trained_with"


def collect(result: Path, config: Config, workspace: Workspace) -> StageResult:
    """Write the student, its history and metrics as the stage would have, and replay the notes.

    Args:
        result: folder that `bundles.train` wrote.
        config: of the workspace.
        workspace: where the bundle was packed, unchanged since.

    Raises:
        DataError: the result is not complete.
        ConfigError: it belongs to other parameters, data or weights than the workspace has now.
    """
    content = read_json(result / layout.RESULT, "it is written when the training ends: run it again to go on")
    _refuse_another_origin(content["bundle"], config, workspace)
    student = build_model(config.model.architecture, innovations=config.model.innovations)
    read_network(result / layout.STUDENT, student)
    for metrics, step in _notes(result / layout.NOTES):
        workspace.tracker.log_metrics(metrics, step=step)
    workspace.tracker.set_tags({TRAINED_ON: content["hardware"], TRAINED_WITH: f"torch {content['torch']}"})
    return write_student(
        student.eval(),
        content["history"],
        num_copied=content["num_copied"],
        model=config.model,
        distill=config.distill,
        workspace=workspace,
    )


def _refuse_another_origin(bundle: Mapping[str, Any], config: Config, workspace: Workspace) -> None:
    teacher = workspace.root / names.TEACHER_WEIGHTS
    found = {
        **_flat(settings_of(config)),
        "data": data_md5(workspace.root),
        "teacher": sha256_of(teacher) if teacher.is_file() else "missing",
    }
    packed = {
        **_flat(bundle["settings"]),
        "data": bundle["data_version"],
        "teacher": bundle["networks"][layout.TEACHER]["sha256"],
    }
    if config.distill.initial_weights is not None and layout.INITIAL in bundle["networks"]:
        found["initial weights"] = sha256_of(workspace.root / config.distill.initial_weights)
        packed["initial weights"] = bundle["networks"][layout.INITIAL]["sha256"]
    for name in found.keys() | packed.keys():
        if found.get(name) != packed.get(name):
            raise ConfigError(
                f"{workspace.root}: has another '{name}' than the result was made with: {found.get(name)} "
                f"instead of {packed.get(name)}; set it back, or pack and train again"
            )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            flat |= _flat(item, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = item
    return flat


def _notes(path: Path) -> Iterator[tuple[dict[str, float], int]]:
    """Metrics and step of each line; the last one may have been cut by a kill."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            note = json.loads(line)
        except ValueError:
            continue
        yield note["metrics"], int(note["step"])
