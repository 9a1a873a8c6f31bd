"""What a student learns from a teacher's outputs and feature maps.

Nothing here runs a network, and no gradient reaches the teacher: its tensors are detached at the door.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from featherface.losses.classification import select_hardest
from featherface.parallel import sum_over_processes
from featherface.shapes import Bool, Float
from featherface.structures import HeadOutputs

# Added to a channel's variance: a dead channel must not blow up the gradient. Batch norm's own value.
_VARIANCE_FLOOR = 1e-5


class DistillationLosses(NamedTuple):
    """Three scalars with gradients for the student."""

    logit: Tensor
    """KL divergence from the teacher's class probabilities to the student's, times temperature squared."""
    box: Tensor
    """Smooth L1 of the four encoded coordinates, summed, per prior that the teacher calls a face."""
    landmark: Tensor
    """The same of the ten encoded landmark coordinates."""


def distillation_loss(
    student: HeadOutputs,
    teacher: HeadOutputs,
    *,
    temperature: float,
    is_annotated: Bool[Tensor, "B P"] | None = None,
    confidence_threshold: float = 0.3,
    negatives_per_positive: float = 7.0,
    min_negatives: int = 16,
) -> DistillationLosses:
    """How far the student's outputs are from the teacher's where it matters.

    Nearly all priors are background that both networks know: averaged over all, the few that count would
    drown. So a prior weighs what the teacher's face probability is (at temperature 1), and the background
    priors that the student takes most for a face weigh 1. Where people saw a face the teacher's silence is
    no background: such priors are never hard negatives, or the student would unlearn the faces that it finds
    and the teacher does not, most of them tiny. The sum is divided once by the batch's sum of the
    teacher's face probabilities, the soft number of its positives. Boxes and landmarks count where the
    teacher's face probability reaches the threshold, weighted by it.

    Args:
        student: outputs with gradients.
        teacher: outputs of the same images and priors.
        temperature: > 0; softens both distributions. The square keeps gradients on one scale across
            temperatures.
        is_annotated: priors of annotated faces, of those that are ignored as well; None: nothing is known of
            any.
        confidence_threshold: teacher's face probability from which its boxes and landmarks are trusted, and
            below which a prior can be a hard negative.
        negatives_per_positive: hard negatives for each of the image's soft positives.
        min_negatives: hard negatives of an image at least.

    Raises:
        ValueError: the temperature is not positive, or the networks have other priors.

    Reference:
        Hinton et al., arXiv:1503.02531, section 2; weights as for the background in Chen et al.,
        "Learning Efficient Object Detection Models with Knowledge Distillation" (NeurIPS 2017), made soft.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if student.cls_logits.shape != teacher.cls_logits.shape:
        raise ValueError(
            f"student and teacher must share their priors, got {tuple(student.cls_logits.shape)} and "
            f"{tuple(teacher.cls_logits.shape)} class logits"
        )
    teacher_margin = _face_margin(teacher.cls_logits.detach())
    student_margin = _face_margin(student.cls_logits)
    face_probability = teacher_margin.sigmoid()
    is_face = face_probability >= confidence_threshold

    soft_positives = face_probability.sum(dim=1)  # (B,)
    is_hard_negative = select_hardest(
        student_margin.detach(),
        is_candidate=~is_face if is_annotated is None else ~(is_face | is_annotated),
        num_per_image=(soft_positives * negatives_per_positive).ceil().long().clamp(min=min_negatives),
    )
    weights = torch.where(is_hard_negative, torch.ones_like(face_probability), face_probability)
    divergence = soft_cross_entropy_gap(student_margin, teacher_margin, temperature) * temperature**2
    box, landmark = _regression_sums(student, teacher, is_face, face_probability)
    num_faces = is_face.sum()
    sums = sum_over_processes(
        torch.stack(((divergence * weights).sum(), box, landmark, soft_positives.sum(), num_faces, num_faces))
    )
    return DistillationLosses(*(sums[:3] / sums[3:].clamp(min=1)))


def soft_cross_entropy_gap(
    student_margin: Float[Tensor, "B P"], teacher_margin: Float[Tensor, "B P"], temperature: float
) -> Float[Tensor, "B P"]:
    """KL(teacher || student) of each prior's two class probabilities softened by the temperature.

    Both are given by their margins (face logit minus background logit), on which alone a softmax over two
    classes depends. The divergence is then that of two Bernoulli distributions, written with softplus so that
    no logarithm of a probability is taken.
    """
    softened_student, softened_teacher = student_margin / temperature, teacher_margin / temperature
    return (
        F.softplus(softened_student)
        - F.softplus(softened_teacher)
        - softened_teacher.sigmoid() * (softened_student - softened_teacher)
    )


def feature_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """One minus the correlation of student and teacher, averaged over the channels and then over the levels.

    A channel is correlated over batch and positions. Scale and offset of a channel do not count: the student
    imitates patterns, not magnitudes. In [0, 2]; a channel that is constant in either network counts 1.

    Args:
        student_maps: one (B, C, H, W) a level, after the adapter where channels differ.
        teacher_maps: the same shapes.

    Raises:
        ValueError: levels differ in number or shape.

    Reference:
        PKD, arXiv:2207.02039, section 3.2: its mean squared error of standardized maps over two is this.
    """
    if len(student_maps) != len(teacher_maps) or not student_maps:
        raise ValueError(
            f"as many levels as the teacher's are needed, got {len(student_maps)} and {len(teacher_maps)}"
        )
    losses = []
    for level, (student, teacher) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        if student.shape != teacher.shape:
            raise ValueError(
                f"maps of level {level} must have one shape, got {tuple(student.shape)} and "
                f"{tuple(teacher.shape)}: adapt the channels (FeatureAdapters)"
            )
        losses.append(1 - _channel_correlation(student, teacher.detach()).mean())
    return torch.stack(losses).mean()


def temperature_at(progress: float, *, start: float, end: float) -> float:
    """Temperature after a share `progress` in [0, 1] of the training: on a cosine from soft to sharp."""
    done = (1 - math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2
    return start + (end - start) * done


def _face_margin(cls_logits: Tensor) -> Tensor:
    return cls_logits[..., 1] - cls_logits[..., 0]  # (B, P)


def _regression_sums(
    student: HeadOutputs, teacher: HeadOutputs, is_face: Tensor, face_probability: Tensor
) -> tuple[Tensor, Tensor]:
    image_idx, prior_idx = is_face.nonzero(as_tuple=True)
    weights = face_probability[image_idx, prior_idx]

    def distance(student_deltas: Tensor, teacher_deltas: Tensor) -> Tensor:
        per_coordinate = F.smooth_l1_loss(
            student_deltas[image_idx, prior_idx],
            teacher_deltas[image_idx, prior_idx].detach(),
            reduction="none",
        )
        return (per_coordinate.sum(dim=1) * weights).sum()

    return (
        distance(student.box_deltas, teacher.box_deltas),
        distance(student.landmark_deltas, teacher.landmark_deltas),
    )


def _channel_correlation(a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"]) -> Float[Tensor, " C"]:
    dims = (0, 2, 3)
    places = sum_over_processes(a.new_tensor(a.numel() // a.shape[1]))
    # Two rounds of sums, as a variance from squares alone would lose its digits.
    means = sum_over_processes(torch.stack((a.sum(dim=dims), b.sum(dim=dims)))) / places  # (2, C)
    a_centered, b_centered = a - means[0, :, None, None], b - means[1, :, None, None]
    products = (a_centered * b_centered, a_centered.square(), b_centered.square())
    covariance, a_variance, b_variance = (
        sum_over_processes(torch.stack([product.sum(dim=dims) for product in products])) / places
    )
    a_variance, b_variance = a_variance + _VARIANCE_FLOOR, b_variance + _VARIANCE_FLOOR
    correlation: Tensor = covariance * (a_variance * b_variance).rsqrt()
    return correlation
