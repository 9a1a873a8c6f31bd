"""Losses of one seeded batch at 320 px; a change of any number is a change of every training."""

import json
import os
from pathlib import Path

import pytest
import torch

from featherface.distillation.losses import distillation_loss
from featherface.losses.matching import match_priors
from featherface.losses.multibox import multibox_loss
from featherface.models.priors import make_priors
from featherface.structures import HeadOutputs, Targets

GOLDEN = Path(__file__).with_name("losses.json")
BATCH, NUM_FACES, SIDE_PX = 4, 12, 320


def seeded_targets(generator: torch.Generator) -> Targets:
    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    center = rand(BATCH, NUM_FACES, 2) * SIDE_PX
    wh = 6 * 40 ** rand(BATCH, NUM_FACES, 1) * (0.8 + 0.4 * rand(BATCH, NUM_FACES, 2))  # 6 ... 240 px
    boxes = torch.cat((center - wh / 2, center + wh / 2), dim=-1)
    landmarks = boxes[:, :, None, :2] + rand(BATCH, NUM_FACES, 5, 2) * wh[:, :, None]
    kind = rand(BATCH, NUM_FACES)
    is_face = kind < 0.6
    is_face[-1] = False  # one image without a face
    return Targets(boxes, landmarks, rand(BATCH, NUM_FACES) < 0.5, is_face, kind > 0.8)


def seeded_outputs(generator: torch.Generator, num_priors: int) -> HeadOutputs:
    return HeadOutputs(*(torch.randn(BATCH, num_priors, width, generator=generator) for width in (2, 4, 10)))


def measured() -> dict[str, float]:
    generator = torch.Generator().manual_seed(20260)
    priors = torch.from_numpy(make_priors((SIDE_PX, SIDE_PX)).copy())
    targets = seeded_targets(generator)
    student, teacher = (seeded_outputs(generator, priors.shape[0]) for _ in range(2))
    matches = match_priors(priors, targets)
    task = multibox_loss(student, priors, targets, matches)
    soft = distillation_loss(student, teacher, temperature=4.0)
    return {
        "num_positives": int((matches.labels == 1).sum()),
        "num_ignored": int((matches.labels == -1).sum()),
        **{f"multibox_{name}": loss.item() for name, loss in task._asdict().items()},
        **{f"distillation_{name}": loss.item() for name, loss in soft._asdict().items()},
    }


def test_losses_of_a_seeded_batch_are_as_recorded() -> None:
    numbers = measured()
    if os.environ.get("FEATHERFACE_REWRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    assert numbers == pytest.approx(json.loads(GOLDEN.read_text(encoding="utf-8")), rel=1e-4)
