"""1x1 convolutions between student and teacher maps; used while distilling, and never exported."""

from collections.abc import Sequence

from torch import Tensor, nn

from featherface.shapes import Float


class FeatureAdapters(nn.Module):
    """Widen or narrow the student's map of each level to the teacher's channels; equal ones pass untouched.

    There is no bias: `feature_loss` does not see offsets.

    Args:
        student_channels: channels of each level in the student.
        teacher_channels: channels of each level in the teacher.

    Raises:
        ValueError: levels differ in number.

    Reference:
        The regressor of FitNets, arXiv:1412.6550, section 2.2.
    """

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int]) -> None:
        super().__init__()
        if len(student_channels) != len(teacher_channels):
            raise ValueError(
                f"as many levels as the teacher's are needed, got {len(student_channels)} and "
                f"{len(teacher_channels)}"
            )
        self.levels = nn.ModuleList(
            nn.Identity() if have == want else nn.Conv2d(have, want, kernel_size=1, bias=False)
            for have, want in zip(student_channels, teacher_channels, strict=True)
        )

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> tuple[Tensor, ...]:
        """Map each level (B, C, H, W) to the teacher's channels."""
        return tuple(adapter(level_map) for adapter, level_map in zip(self.levels, maps, strict=True))
