"""A student that starts as its teacher with channels left out.

What is left is no detector yet, but a short training makes it one, much sooner than a start with the backbone
alone: docs/experiments.md has the numbers.
"""

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from featherface.distillation.teacher import copy_matching_weights
from featherface.errors import ConfigError
from featherface.models.detector import FeatherFace
from featherface.models.layers import channel_shuffle
from featherface.models.neck import NODES
from featherface.structures import Batch

_NUM_LEVELS = 3
_STAGE3 = "backbone.stage3"
_WINDOWS = ("window3", "window5_second", "window7_third")
"""Of the context, in the order in which their maps are concatenated."""

TaskLoss = Callable[[FeatherFace, Batch], Tensor]
"""A detector and a batch -> the loss of its task, with a gradient."""


def channel_importance(
    teacher: FeatherFace, batches: Iterable[Batch], task_loss: TaskLoss
) -> dict[str, Tensor]:
    """What the loss would change without each channel of each normalized map, squared and summed over images.

    The change is estimated to the first order: the channel times its gradient, summed over the map.

    Args:
        teacher: with trained weights; not changed.
        batches: annotated views; a few hundred views tell the channels apart.
        task_loss: whose change counts.

    Returns:
        (C,) numbers for the C channels behind each `nn.BatchNorm2d`, by the module's name.

    Reference:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", arXiv:1906.10771, equation 8
        with the gates of section 3.2.
    """
    network = copy.deepcopy(teacher).eval().requires_grad_(requires_grad=True)
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            output.retain_grad()
            maps[name] = output

        return hook

    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(keep(name))
    importance: dict[str, Tensor] = {}
    for batch in batches:
        network.zero_grad(set_to_none=True)
        task_loss(network, batch).backward()
        for name, kept in maps.items():
            if kept.grad is not None:
                change = (kept.detach() * kept.grad).sum(dim=(2, 3)).square().sum(dim=0)  # (C,)
                importance[name] = importance.get(name, torch.zeros_like(change)) + change
    return importance


def prune_teacher(
    student: nn.Module, teacher: nn.Module, importance: Mapping[str, Tensor]
) -> tuple[str, ...]:
    """Fill a student with the teacher's weights, without the channels for which it has no room.

    The student must have the teacher's structure with fewer channels, as `v2-ultra` and `v1`. Of each
    normalized map the most important channels stay; the maps of the pyramid, which are summed with each
    other, keep the same ones. Deformable convolutions become plain ones, and biases in front of a
    normalization go into its mean. What the teacher does not have stays as it is.

    Args:
        student: changed in place.
        teacher: not changed.
        importance: of the teacher's channels, from `channel_importance`.

    Returns:
        The names of the student's tensors that were filled, in its order.

    Raises:
        ConfigError: the networks differ in more than that.
    """
    filled = set(copy_matching_weights(student, teacher))
    pruning = _Pruning(student.state_dict(), teacher.state_dict(), importance)
    try:
        with torch.no_grad():
            pruning.run()
    except (KeyError, ValueError) as error:
        raise ConfigError(
            "a student can start as a pruned teacher only if it has the teacher's structure with fewer "
            f"channels ({error.args[0]}): take model.architecture v2-ultra and teacher.architecture v1, or "
            "set distill.start to copied"
        ) from error
    filled |= pruning.filled
    return tuple(name for name in student.state_dict() if name in filled)


class _Pruning:
    """Two networks by the names of their tensors; `rows` are output channels, `columns` input channels."""

    def __init__(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], importance: Mapping[str, Tensor]
    ) -> None:
        self.student, self.teacher, self.importance = student, teacher, importance
        self.filled: set[str] = set()

    def run(self) -> None:
        deepest = self._stage3()
        pyramid = self._kept_of_pyramid()
        columns = (*(self._all(f"neck.reducers.{level}.conv.weight") for level in (0, 1)), deepest)
        for level, inputs in enumerate(columns):
            self._conv_bn(f"neck.reducers.{level}", pyramid, inputs)
        for name in self.student:
            if name.endswith(".fusions.p4_td.weights"):
                self._pass(name.removesuffix(".fusions.p4_td.weights"), pyramid)
        for level in range(_NUM_LEVELS):
            self._gate(f"neck_attention.channel_gates.{level}", pyramid)
            self._head(level, self._shuffle(level, self._context(level, pyramid)))

    def _stage3(self) -> Tensor:
        """Both layers of the last stage; the channels of C5 that stay."""
        inputs = self._all(f"{_STAGE3}.0.depthwise.conv.weight", dim=0)
        for layer in (f"{_STAGE3}.0", f"{_STAGE3}.1"):
            self._conv_bn(f"{layer}.depthwise", inputs)
            outputs = self._kept(f"{layer}.pointwise.bn")
            self._conv_bn(f"{layer}.pointwise", outputs, inputs)
            inputs = outputs
        return inputs

    def _pass(self, name: str, pyramid: Tensor) -> None:
        for node in NODES:
            conv = f"{name}.convs.{node}"
            self._take(f"{conv}.depthwise.weight", pyramid)
            self._take(f"{conv}.pointwise.weight", pyramid, pyramid)
            self._norm(f"{conv}.bn", pyramid, bias=f"{conv}.pointwise.bias")
            # The published p5_out has a third weight, for a map that it does not have.
            used = self.student[f"{name}.fusions.{node}.weights"].numel()
            self._take(f"{name}.fusions.{node}.weights", torch.arange(used))

    def _gate(self, name: str, channels: Tensor) -> None:
        hidden = self._all(f"{name}.reduce.weight", dim=0)
        self._take(f"{name}.reduce.weight", hidden, channels)
        self._take(f"{name}.reduce.bias", hidden)
        self._take(f"{name}.expand.weight", channels)
        self._take(f"{name}.expand.bias", channels)

    def _context(self, level: int, pyramid: Tensor) -> Tensor:
        """All windows of a level; the channels that stay of their concatenated maps."""
        name = f"context.{level}"
        inputs = dict.fromkeys(("window3", "window5_first"), pyramid)
        kept = {
            window: self._kept(f"{name}.{window}.bn")
            for window in (*_WINDOWS, "window5_first", "window7_second")
        }
        inputs |= dict.fromkeys(("window5_second", "window7_second"), kept["window5_first"])
        inputs["window7_third"] = kept["window7_second"]
        for window, outputs in kept.items():
            source = f"{name}.{window}.conv.conv.weight"  # of a deformable convolution, without its offsets
            self._take(f"{name}.{window}.conv.weight", outputs, inputs[window], source=source)
            self._norm(f"{name}.{window}.bn", outputs)
        starts, start = [], 0
        for window in _WINDOWS:
            starts.append(kept[window] + start)
            start += self.teacher[f"{name}.{window}.bn.weight"].numel()
        return torch.cat(starts)

    def _shuffle(self, level: int, inputs: Tensor) -> Tensor:
        """The block behind the context; the channels that stay of its output."""
        name = f"shuffle.{level}"
        width = self.teacher[f"{name}.squeeze.conv.weight"].shape[1]
        # The teacher's first convolution reads shuffled channels, the student's reads them in their order.
        channels = torch.arange(float(width)).reshape(1, -1, 1, 1)
        places = channel_shuffle(channels, groups=width // 2).flatten().argsort()[inputs]
        inner, outputs = self._kept(f"{name}.depthwise.bn"), self._kept(f"{name}.expand.bn")
        self._conv_bn(f"{name}.squeeze", inner, places)
        self._conv_bn(f"{name}.depthwise", inner)
        self._conv_bn(f"{name}.expand", outputs, inner)
        return outputs

    def _head(self, level: int, inputs: Tensor) -> None:
        for part in ("cls", "box", "landmark"):
            outputs = self._all(f"head.{part}.{level}.weight", dim=0)
            self._take(f"head.{part}.{level}.weight", outputs, inputs)
            self._take(f"head.{part}.{level}.bias", outputs)

    def _conv_bn(self, name: str, rows: Tensor, columns: Tensor | None = None) -> None:
        self._take(f"{name}.conv.weight", rows, columns)
        self._norm(f"{name}.bn", rows, bias=f"{name}.conv.bias")

    def _norm(self, name: str, channels: Tensor, *, bias: str = "") -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self._take(f"{name}.{part}", channels)
        if bias in self.teacher:
            self.student[f"{name}.running_mean"] -= self.teacher[bias][channels]

    def _take(self, name: str, rows: Tensor, columns: Tensor | None = None, *, source: str = "") -> None:
        kept = self.teacher[source or name][rows]
        kept = kept if columns is None else kept[:, columns]
        if kept.shape != self.student[name].shape:
            raise ValueError(
                f"{name} has the shape {tuple(self.student[name].shape)}, not {tuple(kept.shape)}"
            )
        self.student[name].copy_(kept)
        self.filled.add(name)

    def _kept(self, norm: str) -> Tensor:
        """The channels of a normalized map that stay: as many as the student has, in their order."""
        return _largest(self.importance[norm], self.student[f"{norm}.weight"].numel())

    def _kept_of_pyramid(self) -> Tensor:
        """The same for all maps of the pyramid together; each has one voice."""
        voices = [
            scores / scores.sum() for name, scores in self.importance.items() if name.startswith("neck.")
        ]
        if not voices:
            raise KeyError("neck")
        return _largest(torch.stack(voices).sum(dim=0), self.student["neck.reducers.0.bn.weight"].numel())

    def _all(self, name: str, *, dim: int = 1) -> Tensor:
        return torch.arange(self.teacher[name].shape[dim])


def _largest(scores: Tensor, count: int) -> Tensor:
    if count > scores.numel():
        raise ValueError(f"the student has {count} channels where the teacher has {scores.numel()}")
    return scores.topk(count).indices.sort().values
