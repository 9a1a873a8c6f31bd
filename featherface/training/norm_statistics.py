"""Statistics of a student's normalizations, from whole photographs instead of training views.

In training a normalization computes with the mean and variance of its batch, and keeps a running average of
both to detect with: that of views of 300 pixels, zoomed into crowds or cut out of a face. A detector meets
whole photographs, whose maps have others. docs/experiments.md, 1 December 2026, says what that is worth.

Reference:
    Statistics that are computed anew after training: Wu and Johnson, Rethinking "Batch" in BatchNorm,
    arXiv:2105.07576, section 3; taken from where the network is to work: Li et al., Revisiting Batch
    Normalization for Practical Domain Adaptation, arXiv:1603.04779.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from featherface.data.labeled import LabeledImage
from featherface.data.reading import map_ahead
from featherface.data.widerface import Sample
from featherface.errors import DataError
from featherface.models.backbone import TEACHERS_STAGES
from featherface.models.detector import FeatherFace
from featherface.training.memory import keep_freed_memory
from featherface.training.whole_views import network_input, whole_view

if TYPE_CHECKING:
    from featherface.config import RescoreConfig


@torch.no_grad()
def adapt_statistics(student: FeatherFace, samples: Sequence[Sample], settings: RescoreConfig) -> int:
    """Move the statistics that a student detects with towards those of whole photographs.

    Those of photographs are the mean over `settings.statistics_photographs` of them, drawn, each looked at
    once and normalized by itself. The stages that a student may share with its teacher keep theirs.

    Args:
        student: in evaluation mode; its statistics are changed in place, its weights are not.
        samples: training photographs.
        settings: share, number, sizes and seed.

    Returns:
        How many photographs were looked at.

    Raises:
        ImageDecodeError: a photograph cannot be decoded.
        DataError: there are no photographs.
    """
    if not samples:
        raise DataError("there is no photograph to learn from; import or synthesize a data set first")
    keep_freed_memory()
    torch.set_num_threads(settings.num_threads)
    order = np.random.default_rng((settings.seed, 2)).permutation(len(samples))
    chosen = [samples[index] for index in order[: settings.statistics_photographs]]
    observer = copy.deepcopy(student).eval()
    observed = _statistics_of(observer)
    for norm, _, _ in observed:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all that it sees
        norm.train()

    def look(numbered: tuple[int, Sample]) -> LabeledImage:
        place, sample = numbered
        return whole_view(sample, settings, draw=(3, place))

    views = map_ahead(look, enumerate(chosen))
    hide = not sys.stderr.isatty()
    for view in tqdm(views, desc="statistics", total=len(chosen), unit="image", disable=hide):
        observer(network_input(view, observer))
    for (_, *own), (_, *whole) in zip(_statistics_of(student), observed, strict=True):
        for mine, theirs in zip(own, whole, strict=True):
            mine.lerp_(theirs, settings.statistics_share)
    return len(chosen)


def _statistics_of(network: nn.Module) -> list[tuple[nn.BatchNorm2d, Tensor, Tensor]]:
    """The normalizations that may change, with their running means and variances (C,)."""
    return [
        (module, module.running_mean, module.running_var)
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        and not name.startswith(TEACHERS_STAGES)
        and module.running_mean is not None
        and module.running_var is not None
    ]
