"""Several processes that train one network together, each with a part of every batch.

`torchrun` starts the processes. Sums that a loss or a batch statistic is made of are taken over all of them,
so that a step has the result of one process with the whole batch, up to the order of additions. In a single
process nothing happens.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from featherface.child_process import end_with_parent
from featherface.errors import FeatherFaceError


def rank() -> int:
    """Number of this process, from 0; 0 is the one that keeps notes and checkpoints."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_processes() -> int:
    """How many processes train together; 1 without `torchrun`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def num_local_processes() -> int:
    """How many of them are on this machine; 1 without `torchrun`."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def training_device() -> torch.device:
    """Where this process trains: its own GPU if the machine has any, else the CPU.

    Raises:
        FeatherFaceError: `torchrun` started more processes than there are GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    num_local, num_gpus = num_local_processes(), torch.cuda.device_count()
    if num_local > num_gpus:
        raise FeatherFaceError(
            f"torchrun started {num_local} processes here, this machine has {num_gpus} GPU(s): each process "
            f"needs its own, so start it with --nproc-per-node {num_gpus}"
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def joined_processes(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, for the time of a training; alone it does nothing.

    Args:
        device: where this process trains; CUDA talks through NCCL, everything else through gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    end_with_parent()  # a killed launcher must not leave processes that go on writing checkpoints
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        with warnings.catch_warnings():
            # Kernels of one pixel have two layouts in memory that mean the same; torch remarks on it.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield
    finally:
        dist.destroy_process_group()


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum of the tensors that all processes pass, with gradients to all of them; alone, the tensor itself."""
    if num_processes() == 1:
        return x
    total: Tensor = _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call]  # torch does not type it
    return total


class _SumOverProcesses(torch.autograd.Function):
    """All losses depend on the sum, so the gradient of a part is the sum of what all processes pass back."""

    @staticmethod
    def forward(_ctx: object, x: Tensor) -> Tensor:
        return _all_reduced(x)

    @staticmethod
    def backward(_ctx: object, *gradients: Tensor) -> Tensor:
        return _all_reduced(gradients[0])


def _all_reduced(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def take_buffers_of_first(module: nn.Module) -> None:
    """Give a module the buffers that it has in the first process; alone, they are there already.

    Batch norms that are not shared follow each process's own part of the batches. It is those of the first
    that checkpoints keep, so a training that was resumed ends with them too.
    """
    if num_processes() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def with_mean_gradients(module: nn.Module) -> DistributedDataParallel:
    """The module, whose gradients are the mean over all processes.

    Buffers start as those of the first process; from then on each process has its own.
    """
    take_buffers_of_first(module)  # before 2.13 torch shares them at every step or never
    known = inspect.signature(DistributedDataParallel).parameters
    sharing = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {sharing: False}
    return DistributedDataParallel(module, **options)


class BatchNormOverProcesses(nn.BatchNorm2d):
    """Batch normalization whose statistics are those of the whole batch, on any device.

    torch's own `SyncBatchNorm` does the same on CUDA only.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalized map; running statistics move as those of `nn.BatchNorm2d` would."""
        if not self.training or num_processes() == 1:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        local = torch.cat((x.sum(dim=(0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])))
        sums = sum_over_processes(local)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centered = x - mean[:, None, None]
        variance = sum_over_processes(centered.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self._follow(mean, variance * count / (count - 1).clamp(min=1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    def _follow(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_variance, momentum)


def share_batch_norms(model: nn.Module) -> None:
    """Make every batch normalization of a network one over processes; names and tensors stay as they are."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _shared(child))


def _shared(norm: nn.BatchNorm2d) -> BatchNormOverProcesses:
    shared = BatchNormOverProcesses(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    shared.to(next(norm.parameters())).load_state_dict(norm.state_dict())
    shared.train(norm.training)
    for parameter, original in zip(shared.parameters(), norm.parameters(), strict=True):
        parameter.requires_grad_(original.requires_grad)
    return shared
