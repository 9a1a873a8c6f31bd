"""A teacher that cannot learn, and a student's start from its weights."""

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from featherface.models.folding import frozen_copy
from featherface.structures import DetectorFeatures, HeadOutputs


class FeatureDetector(Protocol):
    """A detector that shows its feature maps, such as `models.detector.FeatherFace`."""

    def forward_features(
        self, images: Tensor, *, known: Sequence[Tensor] = ()
    ) -> tuple[HeadOutputs, DetectorFeatures]:
        """Outputs of B images and the maps that led to them."""
        ...


class FrozenTeacher:
    """Run a copy of a detector in evaluation mode and without gradients, as fast as it can be.

    Its batch normalizations are folded, and its convolutions are computed in bfloat16 where that is fast (see
    `reduced_precision`): the teacher must not dominate the step.

    It is no `nn.Module`, so that no `train()`, `to()` or `parameters()` of a module that holds it reaches the
    network.

    Args:
        detector: copied.
        device: where the copy runs; None: the CPU.

    Raises:
        TypeError: the detector has no `forward_features`.
    """

    def __init__(self, detector: nn.Module, *, device: torch.device | None = None) -> None:
        if not callable(getattr(detector, "forward_features", None)):
            raise TypeError(f"a teacher needs forward_features(images), {type(detector).__name__} has none")
        self._detector = cast("FeatureDetector", frozen_copy(detector).to(device or torch.device("cpu")))

    def __call__(
        self, images: Tensor, *, known: Sequence[Tensor] = ()
    ) -> tuple[HeadOutputs, DetectorFeatures]:
        """Outputs and maps of B images in float32; they can be used in a loss, but carry no gradient.

        Args:
            images: network input.
            known: outputs of the first stages, where a student with the same stages has them already.
        """
        # Not inference_mode: its tensors cannot be saved for the student's backward pass.
        with torch.no_grad(), reduced_precision(images.device):
            outputs, features = self._detector.forward_features(
                images.float(), known=[level.float() for level in known]
            )
        return outputs, DetectorFeatures(backbone=_as_float(features.backbone), neck=_as_float(features.neck))


class FrozenStages:
    """Run a copy of the first stages of the student's backbone, which do not learn.

    Like the teacher they compute in bfloat16 where that is fast, which halves their time; docs/experiments.md
    says what a student notices of it.
    """

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        self._stages = [frozen_copy(stage) for stage in stages]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The map of each stage in float32, without a gradient."""
        levels: list[Tensor] = []
        with torch.no_grad(), reduced_precision(images.device):
            for stage in self._stages:
                levels.append(stage(levels[-1] if levels else images))
        return [level.float() for level in levels]


def reduced_precision(device: torch.device) -> torch.autocast:
    """Bfloat16 for what does not learn: on a GPU, and on a CPU with AVX-512.

    Any other CPU computes in float32: without AVX-512 torch falls back to convolutions that were measured to
    take thirty times as long.
    """
    is_fast = device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_fast)


def _as_float(levels: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    p3, p4, p5 = levels
    return p3.float(), p4.float(), p5.float()


def copy_matching_weights(student: nn.Module, teacher: nn.Module) -> tuple[str, ...]:
    """Copy each tensor of the teacher that the student has under the same name and shape.

    Whole layers or nothing: a layer is a module with tensors of its own, and is copied only if all of them
    match: half of a batch norm or of a convolution is no start.

    Returns:
        The names of the copied tensors, in the student's order; empty if nothing matches.
    """
    theirs = teacher.state_dict()
    state = student.state_dict()
    layers: dict[str, list[str]] = {}
    for name in state:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    copied = tuple(
        name
        for names in layers.values()
        if all(name in theirs and theirs[name].shape == state[name].shape for name in names)
        for name in names
    )
    with torch.no_grad():
        for name in copied:
            state[name].copy_(theirs[name])
    return copied
