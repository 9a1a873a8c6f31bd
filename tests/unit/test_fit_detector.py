"""What a training hands to the loader."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from featherface.config import TrainConfig
from featherface.training import detector
from featherface.training.detector import fit_detector


@pytest.mark.parametrize(
    ("device", "cores", "processes", "threads"),
    [("cpu", 64, 1, 1), ("cuda", 12, 1, 12), ("cuda", 13, 3, 4), ("cuda", 96, 2, 16), ("cuda", 1, 2, 1)],
)
def test_a_gpu_has_the_cores_of_the_machine_to_prepare_its_batches(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, processes: int, threads: int
) -> None:
    handed: dict[str, Any] = {}

    def note(*_: object, **options: Any) -> None:
        handed.update(options)
        raise InterruptedError

    monkeypatch.setattr(detector, "TrainingLoader", note)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model: Any = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device(device))]))
    train = TrainConfig(num_threads=torch.get_num_threads())
    with pytest.raises(InterruptedError):
        fit_detector(model, lambda *_: {}, [], train=train, min_face_px=1)
    assert handed["num_threads"] == threads
