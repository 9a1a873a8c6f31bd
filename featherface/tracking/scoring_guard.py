"""What a model does to MLflow's scoring server that loads it: refusals in a line, and memory given back.

By itself that server answers a mistake with the whole body, with tracebacks and with the paths of its files.
A missing content type or lists nested too deep count as its own error, 500, and an error of ours as the
client's, 400. It has no hook for this. So a model that is loaded inside one wraps the function that answers a
request; nothing else of the server is touched.
"""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import os
import reprlib
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from mlflow.exceptions import MlflowException

from featherface.errors import DataError, OptionError
from featherface.tracking.served_params import PARAMS, ServedParams, read_params

Invocations = Callable[[bytes, str | None, Any, Any], Any]
"""MLflow's `invocations(data, content_type, model, input_schema)`."""

SERVER_VARIABLE = "__pyfunc_model_path__"
"""Set by `mlflow models serve` for the process that answers."""
# <malloc.h>: its number, and a size below the blocks of 16 MiB in which Pillow keeps pixels.
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK = 8 * 2**20
_JSON = "application/json"
_PARQUET = "application/vnd.apache.parquet"
_FORMATS = ("inputs", "instances", "dataframe_split", "dataframe_records")
_EXAMPLE = '{"inputs": {"images": ["<base64 of an image file>"]}}'
_MAX_REASON = 400
# How MLflow words an exception that the model let out.
_OUR_FAULT = "Encountered an unexpected error"
_logger = logging.getLogger(__name__)


class RequestError(Exception):
    """A request that is refused before MLflow looks at it."""

    def __init__(self, reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(reason)
        self.status = status


def is_scoring_server() -> bool:
    """Whether this process is one of `mlflow models serve`."""
    return SERVER_VARIABLE in os.environ


def return_large_blocks() -> None:
    """Let memory of large images go back to the system at once; elsewhere than with glibc do nothing.

    malloc raises its limit for such blocks with every one that it sees freed, so every thread comes to keep
    its own: six pictures of 49 megapixels at once left 2.5 GiB with a server that needs 0.3.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def guard_scoring_server() -> None:
    """Make the refusals of this process's scoring server short."""
    from mlflow.pyfunc import scoring_server

    if not hasattr(scoring_server.invocations, "__wrapped__"):
        scoring_server.invocations = guarded(scoring_server.invocations, scoring_server.InvocationsResponse)


def guarded(invocations: Invocations, make_response: Callable[..., Any]) -> Invocations:
    """The function that answers a request, with refusals of one line.

    Args:
        invocations: MLflow's.
        make_response: makes MLflow's kind of answer from `response`, `status` and `mimetype`.
    """

    @functools.wraps(invocations)
    def answer(data: bytes, content_type: str | None, model: Any, input_schema: Any) -> Any:
        try:
            content, content_type = _read_request(data, content_type)
            if isinstance(content, dict):  # tables in Parquet have no place for them
                _check_params(content)
            return invocations(content, content_type, model, input_schema)
        except RequestError as error:
            status, reason = error.status, str(error)
        except RecursionError:
            status, reason = HTTPStatus.BAD_REQUEST, f"lists are nested too deep; send {_EXAMPLE}"
        except MlflowException as error:
            status, reason = _judge(error)
        code = "INTERNAL_ERROR" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "INVALID_PARAMETER_VALUE"
        response = json.dumps({"error_code": code, "message": " ".join(reason.split())})
        return make_response(response=response, status=int(status), mimetype=_JSON)

    return answer


def _read_request(data: bytes, content_type: str | None) -> tuple[Any, str]:
    """The body as MLflow takes it, JSON parsed, and its type, without parameters."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if content_type is None or media_type not in (_JSON, _PARQUET):
        got = "none" if content_type is None else reprlib.repr(content_type)
        raise RequestError(
            f"the Content-Type {_JSON} is needed, got {got}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        )
    parameters = content_type.partition(";")[2].strip()
    if not _is_utf_8(parameters):
        raise RequestError(
            f"the Content-Type {media_type} may say charset=utf-8 and nothing else, got "
            f"{reprlib.repr(parameters)}",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    if media_type == _PARQUET:
        return data, media_type
    if not data:
        raise RequestError(f"the body is empty; send {_EXAMPLE}")
    try:
        content = json.loads(data)
    except ValueError as error:  # text that is not UTF-8 and numbers of thousands of digits too
        raise RequestError(f"the body is not JSON ({error}); send {_EXAMPLE}") from error
    if not isinstance(content, dict):
        raise RequestError(f"a JSON object is needed, got {reprlib.repr(content)}; send {_EXAMPLE}")
    if sum(key in content for key in _FORMATS) != 1:
        raise RequestError(
            f"exactly one of {', '.join(_FORMATS)} is needed, got the keys "
            f"{reprlib.repr(list(content))}; send {_EXAMPLE}"
        )
    return content, media_type


def _is_utf_8(parameters: str) -> bool:
    """Whether what follows a media type says nothing but UTF-8, or nothing at all.

    MLflow answers other words in plain text, and does not know quotes.
    """
    for pair in filter(None, map(str.strip, parameters.split(";"))):
        name, _, value = pair.partition("=")
        if name.strip().lower() != "charset" or value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            return False
    return True


def _check_params(content: dict[str, Any]) -> None:
    """Refuse options that MLflow would pass over with a line in the log, and those that are wrong."""
    for name in ServedParams._fields:
        if name in content:
            raise RequestError(f'{name} belongs into {PARAMS}: {{"{PARAMS}": {{"{name}": ...}}}}')
    try:
        read_params(content.get(PARAMS))
    except OptionError as error:
        raise RequestError(_one_line(str(error))) from error


def _judge(error: MlflowException) -> tuple[HTTPStatus, str]:
    """Status and reason of what MLflow or the model raised."""
    # MLflow puts the whole request before `message`; what it was raised with stays as it was.
    reason = str(error.args[0])
    if reason.startswith(_OUR_FAULT):
        _logger.error("A request failed:\n%s", error.json_kwargs.get("stack_trace", reason))
        return HTTPStatus.INTERNAL_SERVER_ERROR, "the detector failed; the log of the server says why"
    status = HTTPStatus(error.get_http_status_code())  # type: ignore[no-untyped-call]  # MLflow's
    if isinstance(error.__cause__, DataError | OptionError):  # the model's own words, which say what to do
        return status, reason
    if error.error_class == "SCHEMA_ENFORCEMENT_FAILED":
        is_worded = isinstance(error.__context__, MlflowException)
        reason = str(error.__context__) if is_worded else "the input does not fit the model's signature"
    return status, f"{_one_line(reason).rstrip('.')}; send {_EXAMPLE}"


def _one_line(reason: str) -> str:
    line = " ".join(reason[: 10 * _MAX_REASON].split())
    return line if len(line) <= _MAX_REASON else f"{line[:_MAX_REASON]} ..."
