"""`mlflow models serve` with the shipped weights, over HTTP: right or refused, no hang, flat memory."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest
from tiny_workspace import environment

from featherface import FaceDetector
from featherface.imaging import decode_image, read_image
from featherface.tracking.packaging import FACE_COLUMNS, save_pyfunc

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ONNX = Path(__file__).resolve().parents[2] / "featherface" / "weights" / "featherface.onnx"
MIB = 2**20
# Of the pixels that a server and this process find with the same file, threads and rounding apart.
TOLERANCE = 0.01


def encode(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@dataclass(frozen=True)
class Server:
    address: str
    process: psutil.Process
    client: httpx.Client

    def post(self, content: bytes, content_type: str | None = "application/json") -> httpx.Response:
        headers = {} if content_type is None else {"Content-Type": content_type}
        return self.client.post(f"{self.address}/invocations", content=content, headers=headers)

    def ask(self, images: Any) -> httpx.Response:
        return self.post(json.dumps({"inputs": {"images": images}}).encode())

    def faces(self, images: Any) -> np.ndarray:
        """A row a face: place in the batch, box, score, landmarks."""
        answer = self.ask(images)
        assert answer.status_code == 200, answer.text
        return as_table(answer)

    def memory_mib(self) -> float:
        return float(self.process.memory_info().rss / MIB)


def as_table(answer: httpx.Response) -> np.ndarray:
    rows = [[face[name] for name in ("image", *FACE_COLUMNS)] for face in answer.json()["predictions"]]
    return np.array(rows, dtype=np.float32).reshape(-1, 1 + len(FACE_COLUMNS))


def expected_faces(detector: FaceDetector, images: list[np.ndarray]) -> np.ndarray:
    """What `Server.faces` gives, found in this process."""
    found = [detector.detect(image) for image in images]
    columns = [
        np.concatenate([faces.boxes_xyxy, faces.scores[:, None], faces.landmarks_xy.reshape(-1, 10)], axis=1)
        for faces in found
    ]
    places = np.repeat(np.arange(len(images)), [len(faces) for faces in found])
    return np.concatenate([places[:, None], np.concatenate(columns)], axis=1).astype(np.float32)


@contextmanager
def serve(folder: Path, *arguments: str) -> Iterator[Server]:
    """`mlflow models serve` as a person starts it, away from this checkout."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    bin_folder = Path(sys.executable).parent
    variables = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    variables |= {"PATH": f"{bin_folder}{os.pathsep}{variables['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = folder / f"server-{port}.log"
    command = ["models", "serve", "-m", "model", "--env-manager", "local", "--port", port, *arguments]
    with log.open("wb") as output:
        started = subprocess.Popen(
            [bin_folder / "mlflow", *command], cwd=folder, env=variables, stdout=output, stderr=output
        )
    address = f"http://127.0.0.1:{port}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    try:
        with httpx.Client(timeout=150, limits=limits) as client:
            wait_until_up(client, address, started, log)
            (process,) = psutil.Process(started.pid).children()
            yield Server(address, process, client)
            assert process.is_running(), log.read_text()
    finally:
        for child in psutil.Process(started.pid).children():
            child.terminate()
        started.wait(120)


def wait_until_up(client: httpx.Client, address: str, started: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and started.poll() is None:
        try:
            if client.get(f"{address}/ping").status_code == 200:
                return
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError(f"the server is not up:\n{log.read_text()}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    save_pyfunc(ONNX, folder / "model")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serve(folder, "--timeout", "120") as server:
        yield server


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(ONNX)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """Eileen Collins, by NASA."""
    skimage = pytest.importorskip("skimage")
    return read_image(Path(skimage.__file__).parent / "data" / "astronaut.png")


def test_files_in_base64_give_the_faces_that_python_gives(
    server: Server, detector: FaceDetector, portrait: np.ndarray
) -> None:
    for suffix in (".jpg", ".png", ".webp"):
        data = encode(portrait, suffix)
        expected = expected_faces(detector, [decode_image(data, "portrait")])
        assert len(expected) == 1
        np.testing.assert_allclose(server.faces([text(data)]), expected, atol=TOLERANCE)
    address = f"data:image/webp;base64,{text(data)}"
    np.testing.assert_allclose(server.faces(address), expected, atol=TOLERANCE)


def test_a_batch_of_mixed_sizes_is_as_one_by_one(
    server: Server, detector: FaceDetector, portrait: np.ndarray
) -> None:
    images = [
        portrait,
        cv2.resize(portrait, (300, 700)),
        np.zeros((50, 40, 3), np.uint8),
        np.tile(portrait, (1, 2, 1)),
    ]
    decoded = [decode_image(encode(image), "") for image in images]
    texts = [text(encode(image)) for image in images]
    together = server.faces(texts)
    assert together[:, 0].tolist() == [0, 1, 3, 3]
    np.testing.assert_allclose(together, expected_faces(detector, decoded), atol=TOLERANCE)
    for place, one in enumerate(texts):
        np.testing.assert_array_equal(server.faces([one])[:, 1:], together[together[:, 0] == place, 1:])


def test_pixels_are_still_taken(server: Server, detector: FaceDetector, portrait: np.ndarray) -> None:
    small = cv2.resize(portrait, (160, 160))
    expected = expected_faces(detector, [small, small[:, ::-1].copy()])
    assert len(expected) == 2
    pixels = np.stack([small, small[:, ::-1]]).tolist()
    np.testing.assert_allclose(server.faces(pixels), expected, atol=TOLERANCE)
    np.testing.assert_allclose(server.faces([pixels[0], text(encode(small, ".png"))])[:, 1:],
                               expected[[0, 0], 1:], atol=TOLERANCE)  # fmt: skip


def test_every_format_of_mlflow_carries_images(server: Server, portrait: np.ndarray) -> None:
    image = text(encode(portrait))
    expected = server.faces([image, image])
    assert len(expected) == 2
    for content in (
        {"inputs": [image, image]},
        {"instances": [image, image]},
        {"instances": [{"images": image}, {"images": image}]},
        {"dataframe_split": {"columns": ["images"], "data": [[image], [image]]}},
        {"dataframe_records": [{"images": image}, {"images": image}]},
    ):
        answer = server.post(json.dumps(content).encode())
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(as_table(answer), expected)


def test_options_of_a_request_are_its_own_among_others(server: Server, portrait: np.ndarray) -> None:
    pair = [text(encode(np.tile(portrait, (1, 2, 1))))]
    expected = [
        (None, 200, 2),
        ({"max_faces": 1}, 200, 1),
        ({"score_threshold": 1}, 200, 0),
        ({"score_threshold": 0.01, "max_faces": 4}, 200, 4),
        ({"score_threshold": 1.5}, 400, "score_threshold must be a number from 0 to 1, got 1.5"),
        ({"threshold": 0.1}, 400, "params has no 'threshold'; it can have score_threshold and max_faces"),
    ]

    def ask(number: int) -> httpx.Response:
        request = {"inputs": {"images": pair}, "params": expected[number % len(expected)][0]}
        return server.post(json.dumps(request).encode())

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(60)))
    for number, answer in enumerate(answers):
        _, status, outcome = expected[number % len(expected)]
        assert answer.status_code == status, answer.text
        said = answer.json()
        assert (len(said["predictions"]) if status == 200 else said["message"]) == outcome


def test_no_face_and_no_image_are_empty_answers(server: Server) -> None:
    assert server.ask([text(encode(np.zeros((64, 64, 3), np.uint8)))]).json() == {"predictions": []}
    assert server.ask([]).json() == {"predictions": []}


def test_mistakes_are_refused_in_a_line_without_paths(
    server: Server, folder: Path, portrait: np.ndarray
) -> None:
    jpeg = encode(portrait)
    too_large = text(encode(np.zeros((7100, 7100, 3), np.uint8), ".png"))
    wanted = r"images[0]: base64 of an image file, or (H, W, 3) RGB pixels from 0 to 255, is needed, got "
    whole = json.dumps({"inputs": [text(jpeg)]}).encode()
    json_type = "application/json"
    mistakes: list[tuple[bytes, str | None, int, str]] = [
        *(
            (json.dumps({"inputs": {"images": given}}).encode(), json_type, 400, message)
            for given, message in (
                (["photo.jpg"], f"{wanted}a text that is not base64: 'photo.jpg'"),
                ([str(folder / "model" / "MLmodel")], f"{wanted}a text that is not base64"),
                ([text(b"hello")], "images[0]: is no JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF or TIFF image"),
                ([text(jpeg), text(jpeg[:2000])], "images[1]: is a truncated JPEG (2000 bytes"),
                ([too_large], "images[0]: has 7100x7100 pixels, the limit is 50 megapixels"),
                ([""], "images[0]: is no JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF or TIFF image (the file is"),
                ([7], f"{wanted}7"),
                (None, f"{wanted}None"),
                ((portrait[:2, :2] / 255).tolist(), f"{wanted}an array of shape (2, 2, 3) and type float64"),
                ([[[[1, 2, 3], [4, 5]]]], f"{wanted}lists of different lengths"),
            )
        ),
        (json.dumps({"inputs": {"picture": text(jpeg)}}).encode(), json_type, 400, "Model is missing inputs"),
        (b"", json_type, 400, "the body is empty; send {"),
        (whole[:-5], json_type, 400, "the body is not JSON (Unterminated string"),
        (jpeg, json_type, 400, "the body is not JSON ("),
        (b"[]", json_type, 400, "a JSON object is needed, got []"),
        (b"{}", json_type, 400, "exactly one of inputs, instances"),
        (b"[" * 100_000, json_type, 400, "lists are nested too deep"),
        (b'{"inputs": ' + b"[" * 600 + b"]" * 600 + b"}", json_type, 400, ""),
        (jpeg, "image/jpeg", 415, "the Content-Type application/json is needed, got 'image/jpeg'"),
        (b"images\nabc", "text/csv", 415, "the Content-Type application/json is needed, got 'text/csv'"),
        (whole, f"{json_type}; charset=latin1", 415, f"the Content-Type {json_type} may say charset"),
        (whole, None, 415, "the Content-Type application/json is needed, got none"),
        (b"nonsense", "application/vnd.apache.parquet", 400, "Failed to parse input"),
    ]
    for content, content_type, status, message in mistakes:
        answer = server.post(content, content_type)
        assert answer.status_code == status, (message, answer.text[:500])
        said = answer.json()
        assert set(said) == {"error_code", "message"}
        assert said["message"].startswith(message)
        assert "\n" not in said["message"]
        assert len(answer.text) < 700
        for leaked in ("Traceback", "site-packages", str(folder / "model")):
            assert leaked not in answer.text
    assert server.client.get(f"{server.address}/invocations").status_code == 405


def test_bodies_of_fifty_megabytes_are_answered_like_small_ones(server: Server, portrait: np.ndarray) -> None:
    jpeg = encode(portrait)
    # What phones append to a picture is passed over.
    large = text(jpeg + bytes(37_500_000 - len(jpeg)))
    assert len(large) >= 50_000_000
    np.testing.assert_array_equal(server.faces([large]), server.faces([text(jpeg)]))
    for content, message in (
        (json.dumps({"inputs": ["A" * 50_000_000]}).encode(), "images[0]: is no JPEG"),
        (json.dumps({"inputs": {"picture": "A" * 50_000_000}}).encode(), "Model is missing inputs"),
        (b'{"inputs": ["' + b"A" * 50_000_000, "the body is not JSON"),
        (bytes(50_000_000), "the body is not JSON"),
    ):
        answer = server.post(content)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith(message)
        assert len(answer.text) < 700


def test_two_hundred_requests_at_once_are_each_answered_right(server: Server, portrait: np.ndarray) -> None:
    kinds = [
        [text(encode(portrait))],
        [text(encode(cv2.resize(portrait, (360, 640)))), text(encode(portrait[::-1].copy()))],
        [text(encode(np.zeros((80, 60, 3), np.uint8)))],
        [text(encode(portrait)[:3000])],
    ]
    alone = [server.ask(images) for images in kinds]
    assert [answer.status_code for answer in alone] == [200, 200, 200, 400]
    assert [len(as_table(answer)) > 0 for answer in alone[:3]] == [True, True, False]
    with ThreadPoolExecutor(200) as pool:
        together = list(pool.map(lambda number: server.ask(kinds[number % 4]), range(200)))
    for number, answer in enumerate(together):
        assert answer.status_code == alone[number % 4].status_code, answer.text
        assert answer.json() == alone[number % 4].json()


def test_memory_is_flat_over_hundreds_of_requests(server: Server, portrait: np.ndarray) -> None:
    generator = random.Random(0)
    sizes_wh = [(generator.randint(16, 1400), generator.randint(16, 1400)) for _ in range(30)]
    suffixes = (".jpg", ".png", ".webp")
    requests = [
        [text(encode(cv2.resize(portrait, size_wh), suffixes[number % 3]))]
        for number, size_wh in enumerate(sizes_wh)
    ]

    def ask_many(number: int) -> float:
        chosen = [generator.choice(requests) for _ in range(number)]
        with ThreadPoolExecutor(4) as pool:
            assert {answer.status_code for answer in pool.map(server.ask, chosen)} == {200}
        return server.memory_mib()

    warm_mib = ask_many(80)
    assert ask_many(200) - warm_mib < 32


def test_memory_of_the_largest_images_is_given_back(server: Server) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("other allocators than glibc's have other habits")
    before_mib = server.memory_mib()
    largest = [text(encode(np.zeros((7000, 7000, 3), np.uint8), ".png"))]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(server.ask, [largest] * 6))
    assert [answer.json() for answer in answers] == [{"predictions": []}] * 6
    assert server.memory_mib() - before_mib < 150  # one such image is 147 MB


def test_a_client_that_stops_sending_is_let_go(folder: Path) -> None:
    with serve(folder, "--timeout", "2") as impatient:
        port = int(impatient.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as half:
            half.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b'Content-Length: 50000000\r\n\r\n{"inputs": ["'
            )
            assert half.recv(1000).startswith(b"HTTP/1.1 504 ")
        assert impatient.client.get(f"{impatient.address}/ping").status_code == 200
