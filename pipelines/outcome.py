"""What a pipeline run came to, and how it is told to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featherface.stages.report import AP_ROWS, COST_ROWS
from featherface.tracking.connection import shown
from pipelines.gate import Decision

HEADLINES = (*(name for name, _ in (*AP_ROWS, *COST_ROWS)), "val/nme", "val/nme_to_teacher")
"""The metrics that are printed; the report and MLflow have all of them."""
WhatHappened = Literal["ran", "restored", "nothing changed"]
LOCAL_UI = "http://127.0.0.1:5000"
"""Where `make ui` serves."""


@dataclass(frozen=True)
class StageOutcome:
    """What happened to one stage."""

    name: str
    what_happened: WhatHappened
    """Restored: DVC had the outputs of just these parameters, code and files in its cache."""
    seconds: float
    mlflow_run_id: str


@dataclass(frozen=True)
class PipelineOutcome:
    """Everything that `featherface pipeline` prints."""

    stages: tuple[StageOutcome, ...]
    metrics: dict[str, float]
    model_version: str
    newly_registered: bool
    decision: Decision
    champion_version: str
    tracking_uri: str
    mlflow_run_id: str

    @property
    def ran_nothing(self) -> bool:
        """True when every stage was up to date, or came from DVC's cache."""
        return all(stage.what_happened != "ran" for stage in self.stages)

    @property
    def mlflow_link(self) -> str:
        """Address of the run in MLflow's web page: the server's, or that of `make ui` for a local file."""
        address = shown(self.tracking_uri)
        server = address if address.startswith(("http://", "https://")) else LOCAL_UI
        return f"{server.rstrip('/')}/#/runs/{self.mlflow_run_id}"

    def table(self) -> str:
        """What the run did and came to, as text for a terminal."""
        lines = ["stage           what happened      seconds"]
        lines += [
            f"{stage.name:<15} {stage.what_happened:<17} {stage.seconds:>8.1f}" for stage in self.stages
        ]
        if self.ran_nothing:
            is_new = any(stage.what_happened == "restored" for stage in self.stages)
            why = "All that changed was in DVC's cache" if is_new else "Nothing changed since the last run"
            lines.append(f"{why}: nothing was trained.")
        lines += ["", f"{'metric':<28} value"]
        lines += [f"{name:<28} {_number(self.metrics[name])}" for name in HEADLINES if name in self.metrics]
        verb = "promoted" if self.decision.promoted else "rejected"
        fresh = "new" if self.newly_registered else "registered before"
        lines += [
            "",
            f"model version {self.model_version} ({fresh}): {verb}; "
            f"champion: version {self.champion_version}",
        ]
        lines += [f"  - {reason}" for reason in self.decision.reasons]
        lines.append(f"MLflow: run {self.mlflow_run_id} at {shown(self.tracking_uri)}")
        return "\n".join(lines)


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) >= 2:
        return f"{value:,.0f}"
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
