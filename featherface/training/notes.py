"""What of a training is noted, under which names: the same for MLflow and for notes on a bare machine."""

from __future__ import annotations

from collections.abc import Mapping

from featherface.training.loop import StepReport

EVERY_STEPS = 10


def step_metrics(report: StepReport) -> dict[str, float]:
    """Numbers of every tenth step; of the others none."""
    if report.step % EVERY_STEPS:
        return {}
    losses = {f"step/loss_{name}": value for name, value in report.losses.items()}
    return {**losses, "step/lr": report.lr, "step/grad_norm": report.grad_norm}


def epoch_metrics(losses: Mapping[str, float]) -> dict[str, float]:
    """Losses of an epoch under their names in MLflow and in the history file."""
    return {"train/loss" if name == "loss" else f"train/loss_{name}": value for name, value in losses.items()}
