"""The page in WebKit, the engine of Safari, as GNOME builds it: it finds what Python finds there, too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_pictures import PICTURES, encode, same_faces, scene

from featherface.inference.detector import FaceDetector

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:setting remote_server_addr:DeprecationWarning"),
]

WAIT_S = 120
NUMBERS = "return document.getElementById('numbers').textContent"


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    """A screen that nobody sees: WebKit has no mode without one."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb (Debian: xvfb)")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1400x1000x24"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield f":{server.stdout.readline().strip()}"
        server.terminate()


@pytest.fixture(scope="module")
def page(address: str, screen: str) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the package selenium")
    driver = shutil.which("WebKitWebDriver")
    browser = next(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), None)
    if driver is None or browser is None:
        pytest.skip("needs WebKitGTK (Debian: webkit2gtk-driver)")
    options = webdriver.WebKitGTKOptions()
    options.binary_location = str(browser)
    options.add_argument("--automation")
    service = webdriver.WebKitGTKService(driver, env={**os.environ, "DISPLAY": screen})
    page = webdriver.WebKitGTK(options=options, service=service)
    page.get(address)
    until(page, lambda: page.find_element("id", "count").text == "Ready")
    yield page
    page.quit()


def until(page: Any, is_true: Any) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(page, WAIT_S, poll_frequency=0.05).until(lambda _: is_true())


def faces(page: Any, path: Path) -> dict[str, Any]:
    """What the page says of a picture once it has looked at it."""
    page.find_element("id", "file").send_keys(str(path))
    until(page, lambda: path.name in page.execute_script(NUMBERS))
    found: dict[str, Any] = json.loads(page.execute_script(NUMBERS))
    return found


@pytest.mark.parametrize("name", PICTURES)
def test_boxes_landmarks_and_scores_are_those_of_python(
    page: Any, detector: FaceDetector, portrait: np.ndarray, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(PICTURES[name](portrait))
    differences = same_faces(faces(page, path), detector(path))
    print(name, *(f"{difference:.5f}" for difference in differences))  # noqa: T201 - seen with `pytest -s`


def test_the_slider_hides_faces(page: Any, detector: FaceDetector, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    path = tmp_path / "crowd.png"
    path.write_bytes(encode(scene(15, (720, 960)), "PNG"))
    num_faces = len(faces(page, path)["faces"])
    page.find_element("id", "threshold").send_keys(Keys.END)
    sure = [score for score in detector(path).scores if score > 0.99]
    assert 0 < len(sure) < num_faces
    until(page, lambda: len(json.loads(page.execute_script(NUMBERS))["faces"]) == len(sure))
