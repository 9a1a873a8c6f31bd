"""A teacher that cannot learn, and a student's start from its weights."""

from typing import Protocol

import torch
from torch import Tensor, nn

from featherface.structures import DetectorFeatures, HeadOutputs


class FeatureDetector(Protocol):
    """A detector that shows its feature maps, such as `models.detector.FeatherFace`."""

    def forward_features(self, images: Tensor) -> tuple[HeadOutputs, DetectorFeatures]:
        """Outputs of B images and the maps that led to them."""
        ...


class FrozenTeacher:
    """Run a detector in evaluation mode and without gradients.

    It is no `nn.Module`, so that no `train()`, `to()` or `parameters()` of a module that holds it reaches the
    network.

    Args:
        detector: frozen in place: its parameters stop requiring gradients.

    Raises:
        TypeError: the detector has no `forward_features`.
    """

    def __init__(self, detector: nn.Module) -> None:
        if not callable(getattr(detector, "forward_features", None)):
            raise TypeError(f"a teacher needs forward_features(images), {type(detector).__name__} has none")
        # Memory layout: training hands over channels-last images, and a mix costs a copy at every layer.
        self._detector = detector.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub forgets modules

    def __call__(self, images: Tensor) -> tuple[HeadOutputs, DetectorFeatures]:
        """Outputs and maps of B images; they can be used in a loss, but carry no gradient.

        Raises:
            RuntimeError: somebody put the network into training mode: its batch statistics would drift.
        """
        if self._detector.training:
            raise RuntimeError("the teacher is in training mode; nothing but FrozenTeacher should hold it")
        detector: FeatureDetector = self._detector
        # Not inference_mode: its tensors cannot be saved for the student's backward pass.
        with torch.no_grad():
            return detector.forward_features(images)


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
