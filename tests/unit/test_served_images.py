"""What clients of the served model send, and what mistakes are answered with; without a server."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mlflow.types import ParamSchema, Schema, TensorSpec

from featherface.errors import DataError, OptionError
from featherface.inference.detector import FaceDetector
from featherface.tracking import scoring_guard, served_images
from featherface.tracking.packaging import signature
from featherface.tracking.scoring_guard import guard_scoring_server, guarded, is_scoring_server
from featherface.tracking.served_images import list_images, read_served_image
from featherface.tracking.served_params import ServedParams, read_params

with warnings.catch_warnings():
    # Importing MLflow's model flavors warns about type hints of its own code.
    warnings.simplefilter("ignore")
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

SCHEMA = Schema([TensorSpec(np.dtype("object"), (-1,), "images")])
PARAMS = signature().params
PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
PNG = cv2.imencode(".png", PIXELS[:, :, ::-1])[1].tobytes()
TEXT = base64.b64encode(PNG).decode()


def read_all(given: Any) -> list[np.ndarray]:
    """As it comes out of MLflow's reading of JSON."""
    items = list_images(given if isinstance(given, np.ndarray) else np.array(given, dtype=object))
    return [read_served_image(item, f"images[{place}]") for place, item in enumerate(items)]


@pytest.mark.parametrize(
    "given",
    [
        TEXT,
        [TEXT],
        [f"data:image/png;base64,{TEXT}"],
        [base64.encodebytes(PNG).decode()],  # lines of 76 characters
        [PNG],
        [np.array(TEXT, dtype=object)],
        PIXELS,
        PIXELS[None],
        PIXELS.tolist(),
        [PIXELS.tolist()],
        PIXELS[None].astype(np.int64),
        np.asfortranarray(PIXELS),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_way_to_send_an_image_gives_its_pixels(given: Any) -> None:
    (image,) = read_all(given)
    np.testing.assert_array_equal(image, PIXELS)
    assert image.dtype == np.uint8


def test_a_batch_keeps_its_order_and_may_mix_sizes_and_kinds() -> None:
    wide = np.full((4, 9, 3), 7, np.uint8)
    images = read_all([TEXT, wide.tolist(), PIXELS.tolist()])
    for image, expected in zip(images, (PIXELS, wide, PIXELS), strict=True):
        np.testing.assert_array_equal(image, expected)
    # Of one height numpy makes two dimensions of them.
    np.testing.assert_array_equal(read_all([PIXELS.tolist(), wide.tolist()])[1], wide)
    assert read_all([]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("photo.jpg", r"got a text that is not base64: 'photo\.jpg' \(Only base64 data is allowed\)"),
        ("/etc/hostname", "not base64|is no JPEG"),
        (TEXT[:-1], r"not base64: .* \(Incorrect padding\)"),
        ("é", "not base64"),
        ("", "the file is empty"),
        (base64.b64encode(b"hello").decode(), r"is no JPEG, PNG.*starts with b'hello'"),
        (base64.b64encode(PNG[:60]).decode(), "is a broken image"),
        (None, "is needed, got None"),
        (7, "is needed, got 7"),
        ({"b64": TEXT}, r"is needed, got \{'b64'"),
        ([0.5, 0.5], r"shape \(2,\) and type float64"),
        ((PIXELS / 255).tolist(), r"shape \(4, 5, 3\) and type float64"),
        (PIXELS[:, :, :2].tolist(), r"shape \(4, 5, 2\)"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        ([[["a", "b", "c"]]], "type <U1"),
        ([[[True, False, True]]], "type bool"),
        ([[[10**30, 0, 0]]], "type object"),
        ([[[0, 0, 256]]], "got numbers from 0 to 256"),
        ([[[-1, 0, 0]]], "got numbers from -1 to 0"),
        ([[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]], "lists of different lengths"),
    ],
)
def test_what_is_no_image_is_refused_by_its_place(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"^images\[4\]: .*({message})") as caught:
        read_served_image(given, "images[4]")
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_the_server_takes_smaller_images_than_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_images, "MAX_SERVED_PIXELS", 19)
    for suffix in (".jpg", ".png"):
        encoded = cv2.imencode(suffix, PIXELS)[1].tobytes()
        with pytest.raises(DataError, match=r"has 5x4 pixels, the limit is 1\.9e-05 megapixels"):
            read_served_image(encoded, "images[0]")


class Model:
    """A loaded model as MLflow's scoring server knows it: answers with what it was given, or fails."""

    class Metadata:
        def __init__(self, params_schema: ParamSchema | None) -> None:
            self._params_schema = params_schema

        def get_params_schema(self) -> ParamSchema | None:
            return self._params_schema

        def _is_signature_from_type_hint(self) -> bool:
            return False

    def __init__(
        self, failure: Exception | None = None, *, params_schema: ParamSchema | None = PARAMS
    ) -> None:
        self._failure = failure
        self.metadata = self.Metadata(params_schema)
        self.params: Any = None

    def predict(self, data: Any, params: Any = None) -> list[str]:
        params_schema = self.metadata.get_params_schema()
        checked, self.params = pyfunc._validate_prediction_input(data, params, SCHEMA, params_schema)
        if self._failure is not None:
            raise self._failure
        return list(checked["images"])


@pytest.fixture
def ask() -> Callable[..., tuple[int, Any]]:
    """Status and content that a guarded server answers with."""
    answer = guarded(scoring_server.invocations, scoring_server.InvocationsResponse)

    def ask_it(body: Any, content_type: str | None = "application/json", *, model: Any = None) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = answer(data, content_type, model or Model(), SCHEMA)
        return response.status, json.loads(response.response)

    return ask_it


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        'application/json;Charset="UTF-8" ;',
        "application/json; charset=utf8",
        "Application/JSON",
    ],
)
@pytest.mark.parametrize(
    "body", [{"inputs": {"images": ["a", "b"]}}, {"inputs": ["a", "b"]}, {"instances": ["a", "b"]}]
)
def test_what_is_right_passes_the_guard(ask: Any, body: Any, content_type: str) -> None:
    assert ask(body, content_type) == (200, {"predictions": ["a", "b"]})


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b"{}", None, 415, "the Content-Type application/json is needed, got none"),
        (b"{}", "image/jpeg", 415, "the Content-Type application/json is needed, got 'image/jpeg'"),
        (b"images\nx", "text/csv", 415, "the Content-Type application/json is needed, got 'text/csv'"),
        ({"inputs": ["a"]}, "application/json; charset=latin1", 415,
         "the Content-Type application/json may say charset=utf-8 and nothing else, got 'charset=latin1'"),
        ({"inputs": ["a"]}, "application/json; version=2", 415,
         "the Content-Type application/json may say charset=utf-8 and nothing else, got 'version=2'"),
        (b"x", 'application/vnd.apache.parquet; charset="', 415,
         "the Content-Type application/vnd.apache.parquet may say charset=utf-8"),
        (b"", "application/json", 400, "the body is empty; send {"),
        (b"{\xff", "application/json", 400, "the body is not JSON ('utf-8' codec"),
        (b'{"inputs":' + b"9" * 5000 + b"}", "application/json", 400, "the body is not JSON (Exceeds"),
        (b"[" * 100_000, "application/json", 400, "lists are nested too deep; send {"),
        ([], "application/json", 400, "a JSON object is needed, got []; send {"),
        ({"image": 1}, "application/json", 400, "exactly one of inputs, instances, dataframe_split"),
        ({"inputs": 1, "instances": 1}, "application/json", 400, "exactly one of inputs"),
        ({"inputs": {"x": [1]}}, "application/json", 400, "Model is missing inputs ['images']. Note that"),
        ({"dataframe_split": {"columns": ["images"], "data": [[1]], "index": [7]}}, "application/json", 400,
         "the input does not fit the model's signature; send {"),
        ({"dataframe_split": 5}, "application/json", 400, "Invalid input. Dataframe split format must be"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_a_line(
    ask: Any, body: Any, content_type: str | None, status: int, message: str
) -> None:
    got, content = ask(body, content_type)
    assert (got, content["error_code"]) == (status, "INVALID_PARAMETER_VALUE")
    assert content["message"].startswith(message)
    assert len(content["message"]) < 500
    assert "\n" not in content["message"]


def test_params_are_the_detectors_options_with_its_defaults() -> None:
    defaults = FaceDetector.__init__.__kwdefaults__
    assert read_params(None) == read_params({}) == ServedParams()
    assert ServedParams()._asdict() == {name: defaults[name] for name in ServedParams._fields}
    assert PARAMS is not None
    assert {param.name: param.default for param in PARAMS} == ServedParams()._asdict()
    assert read_params({"max_faces": 3}) == ServedParams(max_faces=3)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, {"score_threshold": 0.5, "max_faces": 750}),
        (None, {"score_threshold": 0.5, "max_faces": 750}),
        ({"score_threshold": 0.1}, {"score_threshold": 0.1, "max_faces": 750}),
        ({"score_threshold": 1, "max_faces": 2}, {"score_threshold": 1.0, "max_faces": 2}),
    ],
)
def test_params_reach_the_model(ask: Any, given: Any, taken: dict[str, Any]) -> None:
    model = Model()
    assert ask({"inputs": ["a"], "params": given}, model=model) == (200, {"predictions": ["a"]})
    assert model.params == taken


WRONG_PARAMS = [
    ({"score_threshold": 1.5}, "score_threshold must be a number from 0 to 1, got 1.5"),
    ({"score_threshold": "0.1"}, "score_threshold must be a number from 0 to 1, got '0.1'"),
    ({"score_threshold": None}, "score_threshold must be a number from 0 to 1, got None"),
    ({"score_threshold": True}, "score_threshold must be a number from 0 to 1, got True"),
    ({"score_threshold": float("nan")}, "score_threshold must be a number from 0 to 1, got nan"),
    ({"max_faces": 0}, "max_faces must be a whole number from 1 to 1000000, got 0"),
    ({"max_faces": 2.0}, "max_faces must be a whole number from 1 to 1000000, got 2.0"),
    ({"max_faces": 10**30}, "max_faces must be a whole number from 1 to 1000000, got 1000"),
    ({"max_faces": "x" * 100_000}, "max_faces must be a whole number from 1 to 1000000, got 'xxx"),
    ({"threshold": 0.1}, "params has no 'threshold'; it can have score_threshold and max_faces"),
    ({"x" * 100_000: 0.1, "max_faces": 2}, "params has no 'xxx"),
    ([0.1], "params must be an object of score_threshold and max_faces, got [0.1]"),
    (0, "params must be an object of score_threshold and max_faces, got 0"),
]


@pytest.mark.parametrize(("given", "message"), WRONG_PARAMS)
def test_wrong_params_are_refused_not_passed_over(ask: Any, given: Any, message: str) -> None:
    status, content = ask({"inputs": ["a"], "params": given})
    assert (status, content["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert content["message"].startswith(message)
    assert len(content["message"]) < 500
    with pytest.raises(OptionError) as caught:
        read_params(given)
    assert str(caught.value).startswith(message)


def test_params_beside_their_place_are_refused(ask: Any) -> None:
    status, content = ask({"inputs": ["a"], "score_threshold": 0.1})
    assert status == 400
    assert content["message"] == 'score_threshold belongs into params: {"params": {"score_threshold": ...}}'


def test_a_body_that_is_refused_is_not_sent_back(ask: Any) -> None:
    long = "x" * 100_000
    for body in (long.encode(), {long: 1}, [long], {"inputs": {"x": long}}, {"dataframe_records": long}):
        status, content = ask(body)
        assert status == 400
        assert len(json.dumps(content)) < 600


def test_a_failure_of_ours_is_a_500_whose_traceback_stays_in_the_log(
    ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    status, content = ask({"inputs": ["a"]}, model=Model(RuntimeError("out of paper")))
    assert status == 500
    assert content == {
        "error_code": "INTERNAL_ERROR",
        "message": "the detector failed; the log of the server says why",
    }
    assert "RuntimeError: out of paper" in caplog.text


def test_a_server_is_guarded_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = scoring_server.invocations
    monkeypatch.setattr(scoring_server, "invocations", plain)
    guard_scoring_server()
    once = scoring_server.invocations
    assert once.__wrapped__ is plain
    guard_scoring_server()
    assert scoring_server.invocations is once


def test_the_variable_that_tells_a_scoring_server_is_still_mlflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(scoring_guard.SERVER_VARIABLE, raising=False)
    assert not is_scoring_server()
    monkeypatch.setenv(scoring_server._SERVER_MODEL_PATH, "somewhere")
    assert is_scoring_server()
    assert scoring_server.get_cmd(str(Path()), 1, "h", 1, 1)[1].keys() >= {scoring_guard.SERVER_VARIABLE}
