"""dvc.yaml as it follows from the stages: written once here, so that the two cannot disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import featherface
from featherface.config import Config
from featherface.stages import STAGES
from featherface.stages.base import Output, Stage
from featherface.yaml_files import to_yaml

HEADER = "# Written from featherface/stages by `make sync`; edit the stages, not this file.\n"


def render_dvc_yaml(config: Config, root: Path) -> str:
    """The text of dvc.yaml for a workspace: commands, params, dependencies (code too), outputs, plots.

    Code inside the workspace is named relative to it, folders as a whole; elsewhere absolutely and file by
    file, because no `.dvcignore` keeps the bytecode that Python writes beside it from counting there.
    """
    package = Path(featherface.__file__).resolve().parent
    stages = {name: _render_stage(stage, config, root.resolve(), package) for name, stage in STAGES.items()}
    plots = [
        {output.path: {"x": output.plot_x, "y": list(output.plot_y), "title": output.plot_title}}
        for stage in STAGES.values()
        for output in stage.outputs
        if output.kind == "plot"
    ]
    return HEADER + to_yaml({"stages": stages, "plots": plots})


def _render_stage(stage: Stage, config: Config, root: Path, package: Path) -> dict[str, Any]:
    code = sorted(path for module in stage.code for path in _code_paths(package / module, root))
    entry: dict[str, Any] = {
        "cmd": f"featherface run {stage.name}",
        "deps": [*stage.all_inputs(config), *code],
        "params": list(stage.sections),
        "outs": [output.path for output in stage.outputs if output.kind != "metric"],
        "metrics": [output.path for output in stage.outputs if output.kind == "metric"],
    }
    return {key: value for key, value in entry.items() if value}


def _code_paths(path: Path, root: Path) -> list[str]:
    if path.is_relative_to(root):  # so that dvc.yaml is the same in every clone
        return [path.relative_to(root).as_posix()]
    return [file.as_posix() for file in ([path] if path.is_file() else path.rglob("*.py"))]


__all__ = ["HEADER", "Output", "render_dvc_yaml"]
