"""A version of the data is pushed, and whoever waits for it is told, or the command says that nobody was."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from featherface.config import Config, dump_config
from pipelines import data_versions
from pipelines.data_versions import NobodyToldError, push_data

VERSION = "0" * 32 + ".dir"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its data did not change; DVC itself is not asked."""
    (tmp_path / "data").mkdir()
    (tmp_path / "params.yaml").write_text(dump_config(Config()))
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {VERSION}\n  path: data\n")
    monkeypatch.setattr(data_versions.dvc_commands, "run_dvc", lambda *_: "")
    return tmp_path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What a Prefect server is told; the fixture is the server."""
    events: list[Any] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Its version; it has no tokens to give."""
            self.reply(404 if "csrf" in self.path else 200, b'"3.8.8"')

        def do_POST(self) -> None:
            events.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.reply(204 if self.path == "/api/events" else 404, b"")

        def reply(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing into the tests' output."""

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield events
        server.shutdown()
        thread.join()


def test_a_push_that_nobody_hears_is_an_error(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(
        NobodyToldError,
        match=rf"^pushed version {VERSION}, but the Prefect server at http://127.0.0.1:9/api cannot be "
        r"reached \(.*refused.*\), so no retraining was started: push again when it is up$",
    ):
        push_data(workspace)


def test_pushing_again_tells_again_though_the_data_did_not_change(workspace: Path, told: list[Any]) -> None:
    assert [push_data(workspace), push_data(workspace)] == [VERSION, VERSION]
    assert [event["event"] for event in told] == ["featherface.data.pushed"] * 2
    assert told[0]["id"] != told[1]["id"]
    assert told[1]["resource"]["featherface.data.version"] == VERSION
    assert told[1]["resource"]["prefect.resource.id"] == f"featherface.data.{workspace.name}"
