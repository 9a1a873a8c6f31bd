"""The server of Prefect that a run has for itself, and what Prefect prints meanwhile."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from featherface.errors import EndedEarlyError, FeatherFaceError
from pipelines.console import TerseConsoleHandler

ROOT = Path(__file__).parents[2]
RUN = """
import pathlib, time, psutil
from pipelines.environment import prefect_ready
with prefect_ready(pathlib.Path()):
    from prefect.settings import PREFECT_API_URL
    [server] = psutil.Process().children()
    print(PREFECT_API_URL.value(), server.pid, flush=True)
    time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_the_server_is_out_of_reach_of_ctrl_c_and_goes_with_a_killed_run(tmp_path: Path) -> None:
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=tmp_path, env={**others, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        assert run.stdout is not None
        url, pid = run.stdout.readline().split()
        server = psutil.Process(int(pid))
        assert httpx.get(f"{url}/health").json() is True
        assert (tmp_path / ".prefect" / "prefect.db").is_file()
        assert os.getsid(server.pid) == os.getpgid(server.pid) == server.pid
        run.send_signal(signal.SIGKILL)
        run.wait()
        psutil.wait_procs([server], timeout=20)
        assert not server.is_running()


@pytest.mark.parametrize(
    ("error", "is_printed"),
    [
        (FeatherFaceError("no such folder"), False),
        (EndedEarlyError("killed"), False),
        (KeyboardInterrupt(), False),
        (ZeroDivisionError("a bug"), True),
    ],
)
def test_prefect_prints_what_the_command_line_does_not_say(error: BaseException, *, is_printed: bool) -> None:
    try:
        raise error  # noqa: TRY301 - it must be the one that is handled
    except BaseException:  # noqa: BLE001 - Ctrl-C is one of them
        record = logging.LogRecord("prefect", logging.ERROR, "", 1, "it failed", (), sys.exc_info())
        assert TerseConsoleHandler().filter(record) == is_printed
