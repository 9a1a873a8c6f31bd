"""The state of a training: how it starts, what of it is kept, and how a killed one goes on."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from featherface.errors import ModelError
from featherface.training.checkpoint import (
    Checkpoint,
    RandomGenerator,
    generator_states,
    load_checkpoint,
    restore_generators,
)
from featherface.training.optim import (
    LearningRate,
    OptimizerName,
    ScheduleName,
    WeightAverage,
    build_optimizer,
)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How the weights move."""

    epochs: int
    steps_per_epoch: int
    optimizer: OptimizerName = "adamw"
    lr: float = 2e-3
    weight_decay: float = 5e-4
    schedule: ScheduleName = "one_cycle"
    warmup_fraction: float = 0.1
    grad_clip_norm: float = 10.0
    ema_decay: float = 0.998
    ema_power: float = 8.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.steps_per_epoch < 1:
            raise ValueError(
                f"epochs and steps_per_epoch must be 1 or more, got {self.epochs} and {self.steps_per_epoch}"
            )
        if not self.grad_clip_norm > 0:
            raise ValueError(f"grad_clip_norm must be above 0, got {self.grad_clip_norm}")


@dataclass(frozen=True)
class Checkpointing:
    """Where a training is kept, and how often."""

    path: Path
    fingerprint: str
    """Of configuration and data; a checkpoint of another one is written over, not gone on with."""
    every_s: float = 120.0
    """Seconds between checkpoints inside an epoch; each epoch ends with one as well. 0: at every step."""

    def kept(self, path: Path | None = None) -> Checkpoint | None:
        """What a killed run with this fingerprint left behind; None if there is nothing of the kind.

        Args:
            path: of another file than `self.path`.

        Raises:
            ModelError: the file is damaged.
        """
        path = path or self.path
        if not path.exists():
            return None
        checkpoint = load_checkpoint(path)
        if checkpoint.fingerprint != self.fingerprint:
            _LOGGER.warning("%s is of another configuration or data: not gone on with", path)
            return None
        return checkpoint


@dataclass
class TrainingState:
    """What changes while training; made by `start`."""

    model: nn.Module
    auxiliary: nn.Module
    """Trained beside the model; without parameters if there is nothing of the kind."""
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    learning_rate: LearningRate
    recipe: Recipe
    generators: Mapping[str, RandomGenerator]
    epoch: int = 0
    """Epoch under way, from 0."""
    batch_idx: int = 0
    """Batches of it that are done."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of each loss over those batches."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Means of the epochs that are done."""

    @classmethod
    def start(
        cls,
        model: nn.Module,
        recipe: Recipe,
        *,
        auxiliary: nn.Module | None = None,
        generators: Mapping[str, RandomGenerator],
    ) -> "TrainingState":
        """The state before the first step; turns the model to channels-last."""
        # Convolutions with few channels run up to twice as fast on a CPU in this layout.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub forgets modules
        auxiliary = auxiliary if auxiliary is not None else nn.Module()
        return cls(
            model=model,
            auxiliary=auxiliary,
            optimizer=build_optimizer(
                (model, auxiliary), name=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay
            ),
            average=WeightAverage(model, decay=recipe.ema_decay, power=recipe.ema_power),
            learning_rate=LearningRate(
                peak=recipe.lr,
                total_steps=recipe.epochs * recipe.steps_per_epoch,
                schedule=recipe.schedule,
                warmup_fraction=recipe.warmup_fraction,
            ),
            recipe=recipe,
            generators=generators,
        )

    @property
    def step(self) -> int:
        """Steps taken since the beginning."""
        return self.epoch * self.recipe.steps_per_epoch + self.batch_idx

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def checkpoint(self, fingerprint: str) -> Checkpoint:
        """All that `resume` needs."""
        return Checkpoint(
            fingerprint=fingerprint,
            epoch=self.epoch,
            batch_idx=self.batch_idx,
            states={
                "model": self.model.state_dict(),
                "auxiliary": self.auxiliary.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict(),
            },
            generators=generator_states(self.generators),
            extra={"recipe": asdict(self.recipe), "sums": self.sums, "history": self.history},
        )

    def resume(self, checkpointing: Checkpointing) -> bool:
        """Take over the checkpoint, if there is one of this recipe and fingerprint; says whether it did.

        Raises:
            ModelError: the file is damaged, or its network has another shape.
        """
        path, checkpoint = checkpointing.path, checkpointing.kept()
        if checkpoint is None:
            return False
        if checkpoint.extra.get("recipe") != asdict(self.recipe):
            _LOGGER.warning("%s is of another configuration or data: not gone on with", path)
            return False
        try:
            self._restore(checkpoint)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"{path}: does not fit this training ({reason}); delete it to train from the start"
            ) from error
        _LOGGER.info(
            "going on from %s: %d of %d steps are done",
            path,
            self.step,
            self.learning_rate.total_steps,
        )
        return True

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.states["model"])
        self.auxiliary.load_state_dict(checkpoint.states["auxiliary"])
        self.optimizer.load_state_dict(checkpoint.states["optimizer"])
        self.average.load_state_dict(checkpoint.states["average"])
        restore_generators(self.generators, checkpoint.generators)
        self.epoch, self.batch_idx = checkpoint.epoch, checkpoint.batch_idx
        self.sums = dict(checkpoint.extra["sums"])
        self.history = [dict(entry) for entry in checkpoint.extra["history"]]
