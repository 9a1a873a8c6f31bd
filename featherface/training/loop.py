"""The fitting loop: gradient steps over epochs, with checkpoints from which a killed run goes on exactly.

Knows no detector, data set, configuration or tracker: the caller hands over batches, a loss and callbacks.
"""

import contextlib
import logging
import math
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from featherface.errors import FeatherFaceError
from featherface.parallel import num_processes, rank, take_buffers_of_first, with_mean_gradients
from featherface.structures import Batch
from featherface.training.checkpoint import RandomGenerator, save_checkpoint
from featherface.training.optim import set_learning_rate
from featherface.training.progress import epoch_progress
from featherface.training.state import Checkpointing, Recipe, TrainingState

_LOGGER = logging.getLogger(__name__)
_OUT_OF_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory", re.IGNORECASE)

BatchesForEpoch = Callable[[int, int], Iterable[Batch]]
"""(epoch, first batch) -> the batches of that epoch from that one on, the same ones each time."""
StepLoss = Callable[[Batch, float], Mapping[str, Tensor]]
"""(batch, progress in [0, 1) of the training) -> weighted losses by name; the step goes down their sum."""


@runtime_checkable
class _Closeable(Protocol):
    """An iterator that wants to be told when nobody reads on, as generators do."""

    def close(self) -> None:
        """Give back threads and files."""
        ...


@dataclass(frozen=True)
class StepReport:
    """One gradient step."""

    epoch: int
    step: int
    """Of the whole training, from 0."""
    lr: float
    losses: dict[str, float]
    grad_norm: float
    """Before clipping."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch, and the networks as they are after it."""

    epoch: int
    lr: float
    """Of the last step."""
    losses: dict[str, float]
    """Means over the steps, and their sum as `loss`."""
    images_per_s: float
    """Of all processes, in the part of the epoch since the last restart; 0 if nothing was left of it."""
    averaged: nn.Module
    """The running average of the weights, in evaluation mode: the network to validate and keep."""


@dataclass(frozen=True)
class FitResult:
    """A finished training."""

    averaged: nn.Module
    """The running average of the weights, in evaluation mode."""
    history: list[dict[str, float]]
    """Per epoch: `epoch`, `lr`, `loss` and the means of its parts; complete across restarts."""


def fit(
    model: nn.Module,
    batches_for_epoch: BatchesForEpoch,
    step_loss: StepLoss,
    *,
    recipe: Recipe,
    auxiliary: nn.Module | None = None,
    checkpointing: Checkpointing | None = None,
    generators: Mapping[str, RandomGenerator] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_epoch_end: Callable[[EpochReport], None] | None = None,
    description: str = "train",
) -> FitResult:
    """Train a network in place, and return the running average of its weights.

    With `checkpointing`, a run that was killed at any moment and is started again with the same arguments
    ends with the same bits on a CPU as one that was not, if the batches depend on nothing but (epoch, batch).
    The last checkpoint stays after the end: a second call returns its result without a step.

    Started by `torchrun` (see `parallel`), every process passes its part of the batches; the first one keeps
    checkpoints and calls back. All read the same checkpoint: on several machines its folder must be shared.

    Args:
        model: on the device where it is trained; its parameters that require gradients are trained. Its
            memory layout becomes channels-last.
        batches_for_epoch: see `BatchesForEpoch`; must give `recipe.steps_per_epoch` batches an epoch.
        step_loss: see `StepLoss`; it calls the model.
        recipe: how the weights move.
        auxiliary: trained and kept beside the model, but not averaged: adapters of a distillation.
        checkpointing: None keeps nothing.
        generators: whatever `step_loss` draws from, by name; their states are kept in the checkpoint.
        on_step: called after each step.
        on_epoch_end: called after each epoch, at least once: again if the process dies inside or just after.
        description: in front of the progress bar.

    Raises:
        FeatherFaceError: the loss or its gradient is not finite, memory runs out, or an epoch has another
            number of batches. The parameters and the last checkpoint are from before that step.
        ModelError: the checkpoint is damaged, or of a network of another shape.
    """
    run = TrainingState.start(model, recipe, auxiliary=auxiliary, generators=generators or {})
    if checkpointing is not None:
        run.resume(checkpointing)
    step_loss = _losses_of_all(step_loss, run)
    if rank() > 0:
        on_step = on_epoch_end = None

    def keep() -> None:
        if checkpointing is not None and rank() == 0:
            save_checkpoint(checkpointing.path, run.checkpoint(checkpointing.fingerprint))

    while run.epoch < recipe.epochs:
        images_per_s = 0.0
        if run.batch_idx < recipe.steps_per_epoch:
            every_s = checkpointing.every_s if checkpointing is not None else math.inf
            images_per_s = _fit_epoch(
                run,
                batches_for_epoch,
                step_loss,
                on_step,
                keep=keep,
                every_s=every_s,
                description=description,
            )
            run.history.append(_summary(run))
            # Kept before the callback, which may fail, and after it, so that it is not called twice.
            keep()
        report = _epoch_report(run, images_per_s)
        if on_epoch_end is not None:
            on_epoch_end(report)
        run.epoch, run.batch_idx, run.sums = run.epoch + 1, 0, {}
        keep()
    take_buffers_of_first(run.average.module)
    return FitResult(averaged=run.average.module, history=run.history)


def _fit_epoch(
    run: TrainingState,
    batches_for_epoch: BatchesForEpoch,
    step_loss: StepLoss,
    on_step: Callable[[StepReport], None] | None,
    *,
    keep: Callable[[], None],
    every_s: float,
    description: str,
) -> float:
    """Take the steps that are left of the epoch; returns images per second."""
    steps = run.recipe.steps_per_epoch
    trained = [p for group in run.optimizer.param_groups for p in group["params"]]
    run.model.train()
    run.auxiliary.train()
    num_images, started = 0, time.perf_counter()
    last_kept = time.monotonic()
    label = f"{description} {run.epoch + 1}/{run.recipe.epochs}"
    with (
        epoch_progress(label, total=steps, done=run.batch_idx) as show,
        contextlib.closing(_promised_batches(batches_for_epoch, run)) as batches,
    ):
        for batch in batches:
            report = _take_step(run, _prepare(batch, run.device), step_loss, trained)
            run.batch_idx += 1
            num_images += batch.images.shape[0]
            show(sum(run.sums.values()) / run.batch_idx, report.lr)
            if on_step is not None:
                on_step(report)
            if time.monotonic() - last_kept >= every_s and run.batch_idx < steps:
                keep()
                last_kept = time.monotonic()
    # The other processes' parts of the batches are as large, but for a remainder.
    return num_processes() * num_images / max(time.perf_counter() - started, 1e-9)


class _StepLosses(nn.Module):
    """The losses of a step as a module, so that DistributedDataParallel sees the backward pass."""

    def __init__(self, run: TrainingState, step_loss: StepLoss) -> None:
        super().__init__()
        self.model, self.auxiliary = run.model, run.auxiliary
        self._step_loss = step_loss

    def forward(self, batch: Batch, progress: float) -> Mapping[str, Tensor]:
        return self._step_loss(batch, progress)


def _losses_of_all(step_loss: StepLoss, run: TrainingState) -> StepLoss:
    """The same losses, whose gradients are the mean over processes; each computes that of the whole batch."""
    if num_processes() == 1:
        return step_loss
    losses: StepLoss = with_mean_gradients(_StepLosses(run, step_loss))
    return losses


def _promised_batches(batches_for_epoch: BatchesForEpoch, run: TrainingState) -> Generator[Batch, None, None]:
    """The batches left of the epoch; what gives them is closed whatever happens, for it may own threads."""
    left = run.recipe.steps_per_epoch - run.batch_idx
    num_given = 0
    batches = iter(batches_for_epoch(run.epoch, run.batch_idx))
    try:
        for batch in batches:
            num_given += 1
            if num_given > left:
                break
            yield batch
    finally:
        if isinstance(batches, _Closeable):
            batches.close()
    if num_given != left:
        came = f"{run.recipe.steps_per_epoch - left + num_given}" if num_given < left else "more"
        raise FeatherFaceError(
            f"epoch {run.epoch + 1} was to have {run.recipe.steps_per_epoch} batches, {came} came: "
            "did the data set change during the training?"
        )


def _prepare(batch: Batch, device: torch.device) -> Batch:
    images = batch.images.to(device=device, memory_format=torch.channels_last)
    if device.type == "cpu":
        return replace(batch, images=images)
    targets = {name: tensor.to(device) for name, tensor in vars(batch.targets).items()}
    return replace(batch, images=images, targets=type(batch.targets)(**targets))


def _take_step(run: TrainingState, batch: Batch, step_loss: StepLoss, trained: list[Tensor]) -> StepReport:
    lr = run.learning_rate.at(run.step)
    # On a GPU convolutions run in bfloat16, whose range needs no scaled loss; on a CPU it gained little.
    half_precision = torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda")
    with _explained(batch), half_precision:
        losses = step_loss(batch, run.step / run.learning_rate.total_steps)
        loss = torch.stack(list(losses.values())).sum()
    values = {name: float(value.detach()) for name, value in losses.items()}
    if not all(map(math.isfinite, values.values())):
        raise _not_finite(run, batch, ", ".join(f"{name} = {value:.4g}" for name, value in values.items()))
    run.optimizer.zero_grad(set_to_none=True)
    with _explained(batch):
        loss.backward()
    grad_norm = float(nn.utils.clip_grad_norm_(trained, run.recipe.grad_clip_norm))
    if not math.isfinite(grad_norm):
        raise _not_finite(run, batch, f"the norm of the gradient = {grad_norm}")
    set_learning_rate(run.optimizer, lr)
    run.optimizer.step()
    run.average.update(run.model)
    for name, value in values.items():
        run.sums[name] = run.sums.get(name, 0.0) + value
    return StepReport(epoch=run.epoch, step=run.step, lr=lr, losses=values, grad_norm=grad_norm)


@contextlib.contextmanager
def _explained(batch: Batch) -> Generator[None, None, None]:
    """Say what to lower when memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On a CPU torch raises a plain RuntimeError of its allocator.
        if isinstance(error, RuntimeError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        views, height, width = batch.images.shape[0], *batch.images.shape[2:]
        raise FeatherFaceError(
            f"out of memory at a batch of {views} views of {width}x{height} px: lower batch_size, "
            "image_size_px or view_scales; the last checkpoint is kept"
        ) from error


def _not_finite(run: TrainingState, batch: Batch, what: str) -> FeatherFaceError:
    return FeatherFaceError(
        f"training broke down in epoch {run.epoch + 1}, batch {run.batch_idx + 1} "
        f"(images {', '.join(batch.sample_ids[:4])}{', ...' if len(batch.sample_ids) > 4 else ''}): {what}; "
        "lower the learning rate or the gradient clipping norm, or look at these images"
    )


def _summary(run: TrainingState) -> dict[str, float]:
    means = {name: total / run.recipe.steps_per_epoch for name, total in run.sums.items()}
    lr = run.learning_rate.at((run.epoch + 1) * run.recipe.steps_per_epoch - 1)
    return {"epoch": float(run.epoch), "lr": lr, "loss": sum(means.values()), **means}


def _epoch_report(run: TrainingState, images_per_s: float) -> EpochReport:
    losses = dict(run.history[-1])
    epoch, lr = int(losses.pop("epoch")), losses.pop("lr")
    _LOGGER.info(
        "epoch %d/%d: %s, lr %.2e, %.0f images/s",
        epoch + 1,
        run.recipe.epochs,
        ", ".join(f"{name} {value:.4f}" for name, value in losses.items()),
        lr,
        images_per_s,
    )
    return EpochReport(
        epoch=epoch, lr=lr, losses=losses, images_per_s=images_per_s, averaged=run.average.module
    )
