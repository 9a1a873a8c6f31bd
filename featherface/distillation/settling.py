"""What is done to a trained student's weights at the end, and undone before it learns on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featherface.config import DistillConfig
    from featherface.models.detector import FeatherFace


def settle_student(student: FeatherFace, distill: DistillConfig) -> None:
    """Soften its scores; if details have learnt, weigh what they add and lower the scores of their level.

    In place, in the weights.
    """
    student.head.soften(distill.score_temperature)
    if distill.learn == "details" and student.details is not None:
        student.details.weigh(distill.details_share)
        student.head.shift(0, distill.details_offset)


def unsettle_student(student: FeatherFace, distill: DistillConfig) -> None:
    """Undo it, in place, of a student that was settled by the same settings.

    One whose details have not learnt was softened, and no more.
    """
    if student.details is not None and student.details.adds_anything:
        student.details.weigh(1 / distill.details_share)
        student.head.shift(0, -distill.details_offset)
    student.head.soften(1 / distill.score_temperature)
