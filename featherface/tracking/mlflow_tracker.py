"""Notes of one run, delivered to MLflow; a store that fails costs a warning, not the training.

Points of curves are collected and delivered together every few seconds; what cannot be delivered waits, in
order, until the store answers again or the run ends. Runs are started and ended in `runs.py`.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from featherface.tracking.connection import shown
from featherface.tracking.tracker import flatten_params

logger = logging.getLogger(__name__)

# MLflow's own limits of one call.
_POINTS_PER_CALL = 1000
_PAIRS_PER_CALL = 100
_DIGEST_LENGTH = 36
_TOO_MANY_REQUESTS = 429


class MlflowTracker:
    """The `Tracker` of one MLflow run.

    Args:
        client: where the run lives.
        run_id: the run; it must exist.
        flush_interval_s: how long points of curves may wait before they are delivered.
        retry_interval_s: how long to leave a failing store alone before the next attempt.
        clock: seconds, rising.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        *,
        flush_interval_s: float = 2.0,
        retry_interval_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._flush_interval_s = flush_interval_s
        self._retry_interval_s = retry_interval_s
        self._clock = clock
        self._points: deque[Metric] = deque()
        self._notes: deque[tuple[str, Callable[[], object]]] = deque()
        self._last_delivery_s = float("-inf")
        self._failed_at_s: float | None = None

    @property
    def run_id(self) -> str:
        """The MLflow run."""
        return self._run_id

    @property
    def num_waiting(self) -> int:
        """How many points and notes are not delivered yet."""
        return len(self._points) + len(self._notes)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Note settings; one that the run already has with another value is refused, with a logged error."""
        entries = [Param(name, text) for name, text in flatten_params(params).items()]
        for start in range(0, len(entries), _PAIRS_PER_CALL):
            chunk = entries[start : start + _PAIRS_PER_CALL]
            self._deliver("params", partial(self._client.log_batch, self._run_id, params=chunk))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Note facts about the run; a later value replaces an earlier one."""
        entries = [RunTag(name, value) for name, value in tags.items()]
        for start in range(0, len(entries), _PAIRS_PER_CALL):
            chunk = entries[start : start + _PAIRS_PER_CALL]
            self._deliver("tags", partial(self._client.log_batch, self._run_id, tags=chunk))

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Note one point of a curve; NaN and infinities are kept as they are."""
        self.log_metrics({name: value}, step=step)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Note several numbers of one step."""
        timestamp_ms = time.time_ns() // 1_000_000
        self._points.extend(Metric(name, float(value), timestamp_ms, step) for name, value in metrics.items())
        is_due = self._clock() - self._last_delivery_s >= self._flush_interval_s
        if is_due or len(self._points) % _POINTS_PER_CALL == 0:
            self._drain()

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file or folder.

        Raises:
            FileNotFoundError: there is nothing at `path`.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: does not exist, so it cannot be kept with the run")
        if path.is_dir():
            target = str(PurePosixPath(folder or "") / path.name)
            self._deliver(str(path), lambda: self._client.log_artifacts(self._run_id, str(path), target))
        else:
            self._deliver(str(path), lambda: self._client.log_artifact(self._run_id, str(path), folder))

    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Note which version of which data the run read.

        Raises:
            ValueError: the digest is empty or longer than MLflow takes.
        """
        if not 1 <= len(digest) <= _DIGEST_LENGTH:
            raise ValueError(
                f"a digest of 1 to {_DIGEST_LENGTH} characters is needed, got {len(digest)}: '{digest}'"
            )
        dataset = Dataset(name=name, digest=digest, source_type="local", source=json.dumps({"uri": source}))
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        self._deliver(f"dataset {name}", lambda: self._client.log_inputs(self._run_id, inputs))

    def close(self) -> None:
        """Deliver what still waits; what the store does not take now is lost, and an error says how much."""
        # Once more, however short ago the store failed.
        self._failed_at_s = None if self._failed_at_s is None else float("-inf")
        self._drain()
        if self.num_waiting:
            logger.error(
                "run %s: %d notes never reached %s",
                self._run_id,
                self.num_waiting,
                shown(self._client.tracking_uri),
            )

    def _deliver(self, what: str, action: Callable[[], object]) -> None:
        self._notes.append((what, action))
        self._drain()

    def _drain(self) -> None:
        now_s = self._clock()
        if self._failed_at_s is not None and now_s - self._failed_at_s < self._retry_interval_s:
            return
        self._last_delivery_s = now_s
        while self._notes:
            what, action = self._notes[0]
            if not self._attempt(what, action):
                return
            self._notes.popleft()
        while self._points:
            chunk = [self._points[i] for i in range(min(_POINTS_PER_CALL, len(self._points)))]
            send = partial(self._client.log_batch, self._run_id, metrics=chunk)
            if not self._attempt("metrics", send):
                return
            for _ in chunk:
                self._points.popleft()
        if self._failed_at_s is not None:
            logger.warning("run %s: the tracking store answers again, everything is delivered", self._run_id)
            self._failed_at_s = None

    def _attempt(self, what: str, action: Callable[[], object]) -> bool:
        """Whether this note is done with: delivered, or refused for good."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - stores fail in their own ways (SQL, HTTP, S3): none may stop a training
            if _is_refusal(error):
                logger.error("run %s: %s were refused: %s", self._run_id, what, shown(str(error)))
                return True
            if self._failed_at_s is None:
                logger.warning(
                    "run %s: the tracking store fails (%s); notes wait for it",
                    self._run_id,
                    shown(str(error)),
                )
            self._failed_at_s = self._clock()
            return False
        return True


def _is_refusal(error: Exception) -> bool:
    """Whether the same call can never succeed: a mistake in the note itself, not a failing store."""
    if isinstance(error, MlflowException):
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]  # MLflow's own
        return 400 <= status < 500 and status != _TOO_MANY_REQUESTS
    return isinstance(error, (TypeError, ValueError, FileNotFoundError))
