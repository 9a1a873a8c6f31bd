"""dvc.yaml, params.yaml and the stages say the same."""

from __future__ import annotations

import inspect
from pathlib import Path

import grimp
import pytest
import yaml

from featherface.config import Config, dump_config, load_config, load_profile
from featherface.stages import STAGES
from featherface.stages.base import Stage
from featherface.stages.dvc_yaml import render_dvc_yaml
from featherface.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parents[2]
# Where notes go and how a stage is started does not change what it computes.
NOT_COMPUTING = ("featherface.tracking", "featherface.stages.tracked", "featherface.stages.dvc_yaml")


def test_dvc_yaml_is_what_the_stages_say() -> None:
    written = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert written == render_dvc_yaml(load_config(ROOT / "params.yaml"), ROOT), "run `make sync`"


def test_dvc_yaml_names_the_commands_params_and_files_of_the_stages() -> None:
    entries = read_yaml(ROOT / "dvc.yaml")["stages"]
    assert list(entries) == list(STAGES)
    for name, entry in entries.items():
        assert entry["cmd"] == f"featherface run {name}"
        assert tuple(entry["params"]) == STAGES[name].sections
        assert set(STAGES[name].inputs) <= set(entry["deps"])
        assert {*entry.get("outs", []), *entry.get("metrics", [])} == {o.path for o in STAGES[name].outputs}


def test_a_workspace_elsewhere_watches_files_of_code_and_no_bytecode(tmp_path: Path) -> None:
    """Python writes it into the folders while a stage runs, after which every stage was stale."""
    for name, entry in yaml.safe_load(render_dvc_yaml(Config(), tmp_path))["stages"].items():
        watched = {path for path in map(Path, entry["deps"]) if path.is_absolute()}
        parts = [ROOT / "featherface" / part for part in STAGES[name].code]
        assert watched == {
            file for part in parts for file in ([part] if part.is_file() else part.rglob("*.py"))
        }


def test_params_yaml_is_the_default_profile_with_every_key_spelled_out() -> None:
    assert read_yaml(ROOT / "params.yaml") == load_profile("synthetic").model_dump(mode="json")


def test_config_survives_yaml(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(dump_config(Config()), encoding="utf-8")
    assert load_config(tmp_path / "params.yaml") == Config()


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_every_module_that_a_stage_imports_is_among_its_dependencies(stage: Stage) -> None:
    graph = grimp.build_graph("featherface")
    imported = {stage.module, *graph.find_upstream_modules(stage.module)}
    # A package's __init__ only lists what is in it, and importing one stage imports its siblings' list.
    reached = {name for name in imported if not name.startswith(NOT_COMPUTING) and not _is_package(name)}
    missing = {name for name in reached if not _is_covered(name, stage.code)}
    assert not missing, f"stage {stage.name} runs code that DVC does not watch: {sorted(missing)}"


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_declared_sections_are_the_arguments_of_the_function(stage: Stage) -> None:
    assert (*stage.sections, "workspace") == tuple(inspect.signature(stage.run_function).parameters)


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_every_code_dependency_exists(stage: Stage) -> None:
    assert [module for module in stage.code if not (ROOT / "featherface" / module).exists()] == []


def _is_package(name: str) -> bool:
    return (ROOT / Path(*name.split(".")) / "__init__.py").exists()


def _is_covered(name: str, code: tuple[str, ...]) -> bool:
    path = "/".join(name.split(".")[1:])
    return any(path == entry.removesuffix(".py") or path.startswith(f"{entry}/") for entry in code)
