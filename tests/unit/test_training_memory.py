"""Memory of a training over epochs, with the teacher beside the student and views of several sizes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from featherface.config import DistillConfig, ModelConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import open_widerface
from featherface.distillation.student import StudentTraining
from featherface.models.build import build_model
from featherface.training.detector import fit_detector

_MIB = 2**20
EPOCHS, SETTLED = 14, 5


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc"
)
def test_memory_stays_flat_over_epochs(tmp_path: Path) -> None:
    synthesize_dataset(tmp_path, num_train=48, num_val=1, image_hw=(240, 320), seed=3, progress=False)
    torch.manual_seed(0)
    settings = {"epochs": EPOCHS, "batch_size": 8, "image_size_px": 96, "view_scales": [0.67, 1.0, 2.0]}
    distill = DistillConfig.model_validate({"train": settings, "frozen_stages": 1})
    training = StudentTraining(ModelConfig(), distill, build_model("v1").eval())
    used_mib: list[float] = []
    fit_detector(
        training.student,
        training.losses,
        open_widerface(tmp_path, "train"),
        train=distill.train,
        min_face_px=6.0,
        auxiliary=training.adapters,
        on_epoch_end=lambda _report: used_mib.append(resident_mib()),
    )
    assert len(used_mib) == EPOCHS
    # The first epochs fill the cache of decoded images and the allocator; a leak of one map a step is 50 MiB.
    assert max(used_mib[SETTLED:]) - used_mib[SETTLED] < 10, [round(value) for value in used_mib]
