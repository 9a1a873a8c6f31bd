"""The server of Prefect that a run has for itself, and what Prefect prints meanwhile."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.exceptions import TerminationSignal
from prefect.settings import PREFECT_API_URL, temporary_settings

from featherface.errors import EndedEarlyError, FeatherFaceError
from pipelines.console import TerseConsoleHandler
from pipelines.temporary_server import prefect_server

ROOT = Path(__file__).parents[2]
RUN = """
import pathlib, time, psutil
from pipelines.environment import prefect_ready
with prefect_ready(pathlib.Path()):
    from prefect import flow, task
    from prefect.settings import PREFECT_API_URL
    from pipelines.runners import task_pool
    @task
    def nothing(): pass
    @flow
    def pooled():
        with task_pool("processes", 1) as pool:
            pool.submit(nothing, {}).wait()
    pooled()
    servers = [child.pid for child in psutil.Process().children() if "server" in " ".join(child.cmdline())]
    print(PREFECT_API_URL.value(), *servers, flush=True)
    time.sleep(100)
"""


def test_the_server_is_out_of_reach_of_ctrl_c_and_goes_with_a_killed_run(tmp_path: Path) -> None:
    """A proxy, as offices have one, is asked for nothing."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"PYTHONPATH": str(ROOT), "HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "example.org"}
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=tmp_path, env=others | own,
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


TWO_WORKSPACES = """
import contextlib, os, pathlib
from prefect.settings import PREFECT_HOME
from pipelines import environment, temporary_server
temporary_server.prefect_server = contextlib.nullcontext
for name in ("one", "two"):
    with environment.prefect_ready(pathlib.Path(name)):
        print(PREFECT_HOME.value(), os.environ["PREFECT_HOME"])
print(os.environ.get("PREFECT_HOME"))
"""


@pytest.mark.parametrize("named", [None, "three"], ids=["nobody", "the user"])
def test_each_workspace_of_a_process_keeps_its_own_state(tmp_path: Path, named: str | None) -> None:
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"PYTHONPATH": str(ROOT)} | ({} if named is None else {"PREFECT_HOME": named})
    done = subprocess.run(
        [sys.executable, "-c", TWO_WORKSPACES], cwd=tmp_path, env=others | own,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    homes = [named] * 2 if named else ["one/.prefect", "two/.prefect"]
    assert done.stdout.splitlines() == [*(f"{home} {home}" for home in homes), str(named)]


@pytest.mark.parametrize(
    ("error", "logger", "is_printed"),
    [
        (FeatherFaceError("no such folder"), "prefect.flow_runs", False),
        (EndedEarlyError("killed"), "prefect", False),
        (KeyboardInterrupt(), "prefect.task_runs", False),
        (TerminationSignal(15), "prefect.task_runs", False),
        (ZeroDivisionError("a bug"), "prefect.task_runs", True),
        (FeatherFaceError("no such folder"), "PIL", True),
    ],
)
def test_prefect_prints_what_the_command_line_does_not_say(
    error: BaseException, logger: str, *, is_printed: bool
) -> None:
    try:
        raise error  # noqa: TRY301 - it must be the one that is handled
    except BaseException:  # noqa: BLE001 - Ctrl-C is one of them
        record = logging.LogRecord(logger, logging.ERROR, "", 1, "it failed", (), sys.exc_info())
        assert TerseConsoleHandler().filter(record) == is_printed


def test_prefect_s_summary_of_a_failed_task_is_not_printed() -> None:
    text = "Finished in state Failed('no such folder')"
    for logger, is_printed in (("prefect.task_runs", False), ("PIL", True)):
        record = logging.LogRecord(logger, logging.ERROR, "", 1, text, (), None)
        assert TerseConsoleHandler().filter(record) == is_printed


def test_a_named_server_that_is_away_is_named_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"  # of nobody, once it is closed
    with (
        temporary_settings({PREFECT_API_URL: f"http://ann:secret@{address}/api"}),
        pytest.raises(EndedEarlyError) as refused,
        prefect_server(),
    ):
        pytest.fail("nobody is there")
    assert str(refused.value) == (
        f"the Prefect server at http://{address}/api does not answer ([Errno {errno.ECONNREFUSED}] "
        "Connection refused); start it, or unset PREFECT_API_URL"
    )


@pytest.mark.parametrize(("status", "is_refused"), [(200, False), (503, True)])
def test_a_named_server_is_asked_whether_it_is_well(status: int, *, is_refused: bool) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/api/health"
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        refusal = (
            pytest.raises(EndedEarlyError, match=r"does not answer .*503") if is_refused else nullcontext()
        )
        with temporary_settings({PREFECT_API_URL: url}), refusal, prefect_server():
            assert not is_refused
