"""The flow brings a project of two real DVC stages up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import dvc_commands, flows
from pipelines.tasks import reproduce

PIPELINE = """
stages:
  first: {cmd: cp params.yaml first, params: [x], outs: [first]}
  second: {cmd: cp first second, deps: [first], outs: [second]}
"""


@pytest.mark.usefixtures("client")
def test_what_lies_behind_a_stage_from_the_cache_is_brought_up_to_date_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back at parameters of before, DVC runs nothing and names the first stage alone as stale."""
    monkeypatch.setattr(flows, "STAGES", ("first", "second"))
    monkeypatch.setattr(flows, "reproduce", reproduce.fn)
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    dvc_commands.initialize(tmp_path)

    def reproduce_all(x: int) -> list[str]:
        (tmp_path / "params.yaml").write_text(f"x: {x}\n", encoding="utf-8")
        outcomes = flows._reproduce_all(tmp_path, run_id="none", flow_run_id="none")
        assert (tmp_path / "second").read_text() == f"x: {x}\n"
        return [outcome.what_happened for outcome in outcomes]

    reproduce_all(1)
    reproduce_all(2)
    assert reproduce_all(1) == ["restored", "restored"]
    assert reproduce_all(1) == ["nothing changed", "nothing changed"]
