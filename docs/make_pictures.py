"""Draw the pictures of the documents anew: detections in drawn scenes, pages of MLflow, Prefect and the demo.

Run it after `make run`; or as `python docs/make_pictures.py team`, while the services of `make up` run and
have seen a retraining. Screenshots need Chromium and the Python package playwright; without them they stay
as they are.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import cv2
import httpx
import numpy as np

from featherface.data.synthetic_scenes import render_scene
from featherface.demo.folder import write_demo
from featherface.demo.server import open_server
from featherface.imaging import write_image
from featherface.inference.detector import FaceDetector
from featherface.inference.drawing import draw_faces
from featherface.structures import Detections
from pipelines.team.settings import MLFLOW_USER, open_team

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
# Scenes of another seed than the data set's: the champion has never seen them.
SEED = 77
SCENES = (0, 1, 2, 3, 4, 5)
COLUMNS = 3
TILE_WH = (480, 360)
# MLflow's page keeps asking its server, so it is never idle: it gets a fixed time to draw itself.
PATIENCE_MS = 15_000
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def draw_detections() -> None:
    """A sheet of scenes with what the champion finds in them."""
    detector = FaceDetector("models:/featherface@champion", image_size="original")
    tiles = []
    for index in SCENES:
        image, _ = render_scene(SEED, "val", index, (480, 640))
        found: Detections = detector.detect(image)
        tiles.append(_fit(draw_faces(image, found)))
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    write_image(IMAGES / "detections.jpg", np.vstack(rows), quality=88)


def _fit(image: np.ndarray) -> np.ndarray:
    width, height = TILE_WH
    scale = min(width / image.shape[1], height / image.shape[0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.full((height, width, 3), 245, np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile


def screenshot_runs() -> None:
    """MLflow's own page of the experiment in headless Chromium."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    server = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        [*command, "--backend-store-uri", f"sqlite:///{ROOT / 'mlflow.db'}"], cwd=ROOT
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS
            )
            page = browser.new_page(viewport={"width": 1760, "height": 760})
            page.goto(f"http://127.0.0.1:{port}/#/experiments/1/runs", wait_until="domcontentloaded")
            page.wait_for_timeout(PATIENCE_MS)
            page.screenshot(path=IMAGES / "mlflow-runs.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


def screenshot_team(folder: Path) -> None:
    """The pages that a team looks at: the champion, the flow runs of the night, what is scheduled."""
    from playwright.sync_api import sync_playwright

    team = open_team(folder)
    pages = {
        "mlflow-model": (team.mlflow_url, "/#/models/featherface"),
        "prefect-flow": (team.prefect_url, f"/runs/flow-run/{_latest_retraining(team.prefect_url)}"),
        "prefect-runs": (team.prefect_url, "/runs"),
        "prefect-deployments": (team.prefect_url, "/deployments"),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        user = {"username": MLFLOW_USER, "password": team.passwords.mlflow}
        context = browser.new_context(viewport={"width": 1760, "height": 900}, http_credentials=user)
        for name, (url, path) in pages.items():
            page = context.new_page()
            page.goto(f"{url}{path}", wait_until="domcontentloaded")
            page.wait_for_timeout(PATIENCE_MS)
            if name == "mlflow-model":  # an assistant and the ledger's entries lie over the versions
                page.get_by_role("button", name="Close").first.click()
                page.get_by_text("New model registry UI").scroll_into_view_if_needed()
                page.mouse.move(600, 600)
                page.mouse.wheel(0, 2000)
                page.wait_for_timeout(1_000)
            page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


def _latest_retraining(prefect_url: str) -> str:
    """The id of the last flow run that brought every stage up to date."""
    wanted = {"flows": {"name": {"any_": ["retrain-and-judge"]}}, "sort": "START_TIME_DESC", "limit": 1}
    with httpx.Client(base_url=f"{prefect_url}/api", timeout=20) as client:
        token = client.get("/csrf-token", params={"client": "pictures"}).raise_for_status().json()["token"]
        headers = {"Prefect-Csrf-Client": "pictures", "Prefect-Csrf-Token": token}
        answer = client.post("/flow_runs/filter", json=wanted, headers=headers).raise_for_status()
    return str(answer.json()[0]["id"])


def screenshot_demo() -> None:
    """The page of `featherface demo`: a portrait on a desk, a drawn scene with blurred faces on a phone."""
    from playwright.sync_api import sync_playwright
    from skimage import data

    desk = {"viewport": {"width": 1360, "height": 850}, "color_scheme": "light"}
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "device_scale_factor": 2}
    with TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder, portrait = Path(scratch) / "demo", Path(scratch) / "portrait.png"
        write_demo(folder)
        write_image(portrait, data.astronaut())
        with open_server(folder, 0) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/"
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS
            )
            page = browser.new_page(**desk)
            page.goto(address)
            # A browser is fast from the second picture on, and the first would be an unfair time to show.
            page.click("#sample")
            page.wait_for_selector("#timing:visible")
            page.set_input_files("#file", portrait)
            page.wait_for_selector('#numbers:has-text("portrait")', state="attached")
            page.screenshot(path=IMAGES / "demo.jpg", quality=88)
            page = browser.new_page(**phone, is_mobile=True, has_touch=True)
            page.goto(address)
            page.tap("#sample")
            page.wait_for_selector("#timing:visible")
            page.tap("#blur")
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=IMAGES / "demo-phone.jpg", quality=85)
            browser.close()
            server.shutdown()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - our own server on loopback
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(f"{url} does not answer")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        screenshot_team(Path(sys.argv[1]))
    else:
        draw_detections()
        if shutil.which("chromium") and importlib.util.find_spec("playwright"):
            screenshot_runs()
            screenshot_demo()
        else:
            sys.stderr.write("no Chromium or no playwright: the screenshots stay as they are\n")
