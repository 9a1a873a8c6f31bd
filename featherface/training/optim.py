"""Optimizer, learning rate of each step, and the running average of a network.

The learning rate is a pure function of the step: it has no state that a restart could lose.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

OptimizerName = Literal["adamw", "sgd"]
ScheduleName = Literal["one_cycle", "cosine"]

# One-cycle starts at 1/25 of the peak and ends at a ten-thousandth of that, as in fastai and PyTorch.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1 / 25e4


@dataclass(frozen=True)
class LearningRate:
    """Learning rate of every optimizer step.

    `one_cycle` rises on a cosine from a twenty-fifth of the peak and falls on a cosine to nearly nothing;
    `cosine` rises linearly from zero and falls on a cosine to zero. The momentum stays constant in both.

    Reference:
        Smith and Topin, arXiv:1708.07120 (without the cycle of the momentum); Loshchilov and Hutter,
        arXiv:1608.03983 (without restarts), with the linear warm-up of Goyal et al., arXiv:1706.02677.
    """

    peak: float
    total_steps: int
    schedule: ScheduleName = "one_cycle"
    warmup_fraction: float = 0.1
    """Share of the steps during which the rate rises, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ValueError(f"total_steps must be 1 or more, got {self.total_steps}")
        if not 0 <= self.warmup_fraction <= 1:
            raise ValueError(f"warmup_fraction must be in [0, 1], got {self.warmup_fraction}")
        if self.schedule not in ("one_cycle", "cosine"):
            raise ValueError(f"schedule must be one_cycle or cosine, got {self.schedule!r}")

    def at(self, step: int) -> float:
        """Learning rate of step 0 ... total_steps - 1; the peak is reached at the end of the warm-up."""
        start, end = (_ONE_CYCLE_START, _ONE_CYCLE_END) if self.schedule == "one_cycle" else (0.0, 0.0)
        warmup_steps = self.warmup_fraction * self.total_steps
        if step < warmup_steps:
            # The first step of the linear warm-up must move: counted from 1.
            done = (
                step / warmup_steps if self.schedule == "one_cycle" else min(1.0, (step + 1) / warmup_steps)
            )
            scale = start + (1 - start) * (_half_cosine(done) if self.schedule == "one_cycle" else done)
        else:
            done = (step - warmup_steps) / max(1.0, self.total_steps - 1 - warmup_steps)
            scale = 1 + (end - 1) * _half_cosine(min(1.0, done))
        return self.peak * scale


def _half_cosine(done: float) -> float:
    return (1 - math.cos(math.pi * done)) / 2


def build_optimizer(
    modules: Iterable[nn.Module],
    *,
    name: OptimizerName = "adamw",
    lr: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Make the optimizer of all trainable parameters of the modules; norms and biases do not decay.

    Args:
        modules: a network, and what is trained beside it.
        name: AdamW, or SGD with Nesterov momentum of 0.9.
        lr: set anew at each step by whoever has a schedule.
        weight_decay: of parameters with two or more dimensions. Norms, biases, fusion weights and gates are
            vectors: pulling them to zero would not regularize but rescale.

    Raises:
        ValueError: the name is unknown, or there is nothing to train.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("there is no parameter to train: all are frozen, or the modules have none")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # One fused kernel: a small network has hundreds of small tensors, and a loop over them costs more than
    # the arithmetic.
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=True)
    raise ValueError(f"optimizer must be adamw or sgd, got {name!r}")


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give all parameter groups one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


class WeightAverage:
    """Exponential moving average of a network's weights and batch statistics.

    The average follows quickly at first: at update n its decay is at most (1 + n) / (2 + power + n), or the
    random start would weigh on short trainings. Until then update n weighs about n ** power.

    Args:
        model: is copied; its later changes arrive by `update` only. Its structure must stay.
        decay: of the old average at each update, in [0, 1); 0 keeps a plain copy.
        power: 0 or more; 0 is nearly the plain mean of all updates, large ones follow more closely.

    Raises:
        ValueError: decay or power out of range.

    Reference:
        Polyak averaging in the exponential form and with the warm-up of TensorFlow's
        ExponentialMovingAverage, which has power 8; mean teachers, arXiv:1703.01780; averages that weigh by a
        power of the step, arXiv:1212.1824.
    """

    def __init__(self, model: nn.Module, *, decay: float, power: float = 8.0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the average must be in [0, 1), got {decay}")
        if not power >= 0:
            raise ValueError(f"the power of the average must be 0 or more, got {power}")
        self.module = copy.deepcopy(model).requires_grad_(False).eval()
        """The averaged network, in evaluation mode."""
        self.num_updates = 0
        self._decay = decay
        self._power = power

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the present weights of the model; counters (of batch norm) are copied, not averaged."""
        self.num_updates += 1
        decay = min(self._decay, (1 + self.num_updates) / (2 + self._power + self.num_updates))
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        averages = [average for average, _ in pairs if average.is_floating_point()]
        lives = [live for average, live in pairs if average.is_floating_point()]
        torch._foreach_lerp_(averages, lives, 1 - decay)
        for average, live in pairs:
            if not average.is_floating_point():
                average.copy_(live)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on exactly."""
        return {"num_updates": self.num_updates, "weights": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.module.load_state_dict(state["weights"])
        self.num_updates = int(state["num_updates"])


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
