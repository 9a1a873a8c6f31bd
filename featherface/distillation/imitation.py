"""The first stages of a student's backbone learn to answer as the teacher's do with another activation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from featherface.distillation.teacher import FrozenStages
from featherface.progress import epoch_progress
from featherface.structures import Batch

_LR = 2e-3
_WARMUP_STEPS = 50
# Added to the variance of a channel of the teacher: one that never changes must not count without end.
_VARIANCE_FLOOR = 1e-4


def answers_alike(stages: Sequence[nn.Module], originals: Sequence[nn.Module]) -> bool:
    """Whether stages compute the same as others: equal tensors, equal activations."""
    return all(
        _kinds(stage) == _kinds(original) and _are_equal(stage.state_dict(), original.state_dict())
        for stage, original in zip(stages, originals, strict=True)
    )


def imitate_stages(
    stages: Sequence[nn.Module], originals: Sequence[nn.Module], batches: Iterable[Batch], *, steps: int
) -> float:
    """Train stages, each of which reads the one before, until their maps are those of others.

    A start with the weights of `originals` makes it short: a ReLU where they have LeakyReLU hides a few
    percent of what they say. AdamW on half a cosine; the outcome depends on the batches alone.

    Args:
        stages: changed in place, and left in evaluation mode.
        originals: stages of the same maps; not changed.
        batches: views; their annotations do not count. At least `steps` of them.
        steps: gradient steps, at least 1.

    Returns:
        The share of the maps' variance over batch and places that is left unexplained, as the mean over
        channels, then stages, of the last tenth of the steps.

    Raises:
        ValueError: fewer batches than steps.

    Reference:
        FitNets, arXiv:1412.6550, section 2.2, for maps of one shape.
    """
    parameters = [parameter for stage in stages for parameter in stage.parameters()]
    device = parameters[0].device
    known = FrozenStages(originals, device=device)
    optimizer = torch.optim.AdamW(parameters, lr=_LR, weight_decay=0.0)
    for stage in stages:
        stage.train()
        stage.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub forgets modules
    shares: list[float] = []
    with epoch_progress("imitate the first stages", total=steps, done=0) as show:
        for step, batch in zip(range(steps), batches, strict=False):
            images = batch.images.to(device, memory_format=torch.channels_last)
            lr = _LR * min(1, (step + 1) / _WARMUP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.param_groups[0]["lr"] = lr
            levels: list[Tensor] = []
            for stage in stages:
                levels.append(stage(levels[-1] if levels else images))
            loss = torch.stack(
                [_unexplained(own, wanted) for own, wanted in zip(levels, known(images), strict=True)]
            ).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            shares.append(float(loss.detach()))
            show(shares[-1], lr)
    if len(shares) < steps:
        raise ValueError(f"{steps} steps need as many batches, got {len(shares)}")
    for stage in stages:
        stage.eval()
    last = shares[-math.ceil(len(shares) / 10) :]
    return sum(last) / len(last)


def _unexplained(own: Tensor, wanted: Tensor) -> Tensor:
    variance = wanted.var(dim=(0, 2, 3), keepdim=True) + _VARIANCE_FLOOR
    return ((own - wanted).square() / variance).mean()


def _kinds(stage: nn.Module) -> list[tuple[type[nn.Module], float]]:
    return [(type(part), getattr(part, "negative_slope", 0.0)) for part in stage.modules()]


def _are_equal(own: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    # Counts of steps compute nothing.
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    return all(name in theirs and torch.equal(own[name].cpu(), theirs[name].cpu()) for name in names)
