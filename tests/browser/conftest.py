"""The demo in headless Chromium, with a film of one public-domain portrait for a camera."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from featherface.demo.folder import write_demo
from featherface.demo.server import open_server
from featherface.errors import DownloadError
from featherface.inference.detector import FaceDetector

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def served(server: ThreadingHTTPServer) -> Iterator[str]:
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo with the runtime of the user's cache, or npm's."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    try:
        write_demo(folder)
    except DownloadError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="session")
def address(folder: Path) -> Iterator[str]:
    """Where the demo is served."""
    yield from served(open_server(folder, 0))


@pytest.fixture(scope="session")
def foreign_address() -> Iterator[tuple[str, list[str]]]:
    """Another server that would answer any page, and the paths that it was asked for."""
    asked: list[str] = []

    class Welcoming(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, message: str, *arguments: Any) -> None:
            pass

    for address in served(ThreadingHTTPServer(("127.0.0.1", 0), Welcoming)):
        yield address, asked


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    return data.astronaut()


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector(num_threads=1)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    film = tmp_path_factory.mktemp("camera") / "portrait.mjpeg"
    frame = cv2.resize(portrait, (640, 640))[40:520]
    film.write_bytes(cv2.imencode(".jpg", frame[:, :, ::-1])[1].tobytes() * 30)
    with playwright.sync_playwright() as running:
        chrome = running.chromium.launch(
            executable_path=chromium, args=[*FLAGS, f"--use-file-for-fake-video-capture={film}"]
        )
        yield chrome
        chrome.close()


@dataclass
class Demo:
    """The page, ready, and what it did so far."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def give(self, path: Path) -> None:
        self.page.set_input_files("#file", path)

    def faces(self, name: str) -> dict[str, Any]:
        """What the page says of a picture once it has looked at it."""
        self.page.wait_for_selector(f'#numbers:has-text("{name}")', state="attached")
        found: dict[str, Any] = self.page.evaluate(
            "JSON.parse(document.getElementById('numbers').textContent)"
        )
        return found


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Demo]:
    """A page with options of its context; at the end it has asked nobody else and handled all errors."""
    context = browser.new_context(**options)
    demo = Demo(context.new_page())
    context.on("request", lambda request: demo.requests.append(request.url))
    demo.page.on("pageerror", lambda error: demo.errors.append(str(error)))
    demo.page.goto(address)
    demo.page.wait_for_selector('#count:has-text("Ready")')
    yield demo
    context.close()
    assert demo.errors == []
    assert f"{address}runtime/ort-wasm-simd-threaded.wasm" in demo.requests
    assert [url for url in demo.requests if not url.startswith((address, f"blob:{address}"))] == []


@pytest.fixture
def demo(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Demo]:
    """A fresh page; `@pytest.mark.parametrize("demo", [...], indirect=True)` gives options of its context."""
    with opened(browser, address, **getattr(request, "param", {})) as demo:
        yield demo


@pytest.fixture(scope="module")
def same_demo(browser: Any, address: str) -> Iterator[Demo]:
    """One page for tests that leave its controls alone: starting it takes seconds."""
    with opened(browser, address) as demo:
        yield demo
