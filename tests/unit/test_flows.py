"""The flow brings a project of two real DVC stages up to date."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from featherface.errors import DataError, EndedEarlyError, FeatherFaceError
from pipelines import batch, dvc_commands, flows
from pipelines.gate import Decision
from pipelines.outcome import PipelineOutcome
from pipelines.runners import task_pool
from pipelines.tasks import _is_worth_a_retry, reproduce

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


def test_in_a_notebook_a_flow_ends_as_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of asyncio runs there, and Prefect takes whoever asks for its like."""
    outcome = PipelineOutcome((), {}, "1", True, Decision(promoted=True, reasons=()), "1", "sqlite:///a", "2")
    states: list[State[Any]] = [Completed(data=outcome), Failed(data=FeatherFaceError("no such folder"))]
    monkeypatch.setattr(flows, "retrain_and_judge", lambda *_, **__: states.pop(0))

    async def cell() -> PipelineOutcome:
        return flows.run_flow(Path())

    assert asyncio.run(cell()) == outcome
    with pytest.raises(FeatherFaceError, match="no such folder"):
        asyncio.run(cell())


@pytest.mark.parametrize(
    ("error", "is_worth"), [(FeatherFaceError("no such folder"), False), (EndedEarlyError("killed"), True)]
)
def test_in_a_notebook_bad_input_stays_bad(error: Exception, *, is_worth: bool) -> None:
    class Run:
        name = "distill"

    async def cell() -> bool:
        return _is_worth_a_retry(cast("Any", None), cast("Any", Run), Failed(data=error))

    assert asyncio.run(cell()) == is_worth


def test_a_batch_whose_reference_is_none_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_champion", lambda _root: None)
    (tmp_path / "a.png").write_bytes(b"a picture")
    with pytest.raises(DataError, match="mistyped: holds no batch; `featherface batch SOURCE"):
        batch.detect_batch.fn(source=str(tmp_path), out=str(tmp_path / "out"), reference="mistyped")
    assert not (tmp_path / "out").exists()


def test_a_process_of_a_pool_that_was_killed_is_a_line_of_what_to_do() -> None:
    with (
        pytest.raises(EndedEarlyError, match=r"was killed, .*: run the same command again"),
        task_pool("processes", 1),
    ):
        raise BrokenProcessPool


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_keeps_no_stopped_flow_from_ending() -> None:
    """It dies with the lock of Prefect's queue, and Python would wait for that queue at its end."""
    script = (
        "from pipelines.runners import task_pool\n"
        "with task_pool('processes', 1) as pool:\n"
        "    pool._subprocess_message_queue._wlock.acquire()\n"
        "    raise KeyboardInterrupt\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
