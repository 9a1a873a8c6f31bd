"""The whole of learning in small: the student learns four images by heart."""

import pytest
import torch
from torch import Tensor

from featherface.geometry import box_iou, decode_boxes
from featherface.losses.matching import match_priors
from featherface.losses.multibox import multibox_loss
from featherface.models.build import build_model
from featherface.models.priors import make_priors
from featherface.structures import Batch, Targets
from featherface.training.loop import fit
from featherface.training.state import Recipe

SIDE_PX = 96


def four_images() -> Batch:
    """Noise with one or two discs with two eyes and a mouth each; the last image has none."""
    generator = torch.Generator().manual_seed(4)
    images = 20 * torch.randn(4, 3, SIDE_PX, SIDE_PX, generator=generator)
    faces = [[(30.0, 30.0, 16.0)], [(60.0, 40.0, 30.0)], [(24.0, 64.0, 12.0), (70.0, 30.0, 20.0)], []]
    boxes, landmarks = torch.zeros(4, 2, 4), torch.zeros(4, 2, 5, 2)
    is_face = torch.zeros(4, 2, dtype=torch.bool)
    y, x = torch.meshgrid(torch.arange(SIDE_PX), torch.arange(SIDE_PX), indexing="ij")
    parts = torch.tensor([[-0.4, -0.3], [0.4, -0.3], [0.0, 0.1], [-0.3, 0.5], [0.3, 0.5]])
    for image_idx, circles in enumerate(faces):
        for gt_idx, (center_x, center_y, radius) in enumerate(circles):
            center = torch.tensor([center_x, center_y])
            images[image_idx, :, (x - center_x) ** 2 + (y - center_y) ** 2 < radius**2] += 90.0
            landmarks[image_idx, gt_idx] = center + radius * parts
            for part_x, part_y in landmarks[image_idx, gt_idx]:
                images[image_idx, :, (x - part_x) ** 2 + (y - part_y) ** 2 < (radius / 6) ** 2] -= 150.0
            boxes[image_idx, gt_idx] = torch.cat((center - radius, center + radius))
            is_face[image_idx, gt_idx] = True
    targets = Targets(boxes, landmarks, is_face, is_face, torch.zeros_like(is_face))
    return Batch(images, targets, ("a", "b", "c", "d"))


@pytest.mark.slow
def test_student_learns_four_images_by_heart() -> None:
    torch.manual_seed(0)
    model, batch = build_model("v2-ultra"), four_images()
    priors = torch.from_numpy(make_priors((SIDE_PX, SIDE_PX)).copy())

    def step_loss(batch: Batch, _progress: float) -> dict[str, Tensor]:
        matches = match_priors(priors, batch.targets)
        return multibox_loss(model(batch.images), priors, batch.targets, matches)._asdict()

    recipe = Recipe(epochs=1, steps_per_epoch=150, lr=3e-3, weight_decay=0.0, ema_decay=0.9)
    losses: list[float] = []
    result = fit(
        model,
        lambda _epoch, first: (batch for _ in range(first, 150)),
        step_loss,
        recipe=recipe,
        on_step=lambda report: losses.append(sum(report.losses.values())),
    )
    assert losses[-1] < 0.02 * losses[0]

    # What was learnt is in the averaged network, with its batch statistics: it finds each face and no other.
    with torch.no_grad():
        outputs = result.averaged(batch.images)
    for image_idx in range(4):
        is_found = outputs.cls_logits[image_idx].softmax(dim=-1)[:, 1] > 0.5
        found = decode_boxes(outputs.box_deltas[image_idx], priors)[is_found]
        faces = batch.targets.gt_boxes_xyxy[image_idx][batch.targets.is_face[image_idx]]
        iou = box_iou(found, faces)
        assert bool((iou.amax(dim=0) > 0.8).all()) if len(faces) else len(found) == 0
        assert bool((iou.amax(dim=1) > 0.5).all()) if len(faces) else True
