"""Teach a trained student its second opinion, from its own answers on whole photographs.

A training step shows single views, and the hardest few of their priors. This shows what a detector meets:
every prior of a photograph that the student takes for a face, a thousand and more of them, and asks of each
whether its box would count as found. All other layers stay as they are, so the photographs are looked at
once; the candidates of all of them are then learnt in a thoroughly mixed order. docs/experiments.md, 29
November 2026, says what that is worth and why the order matters.

Reference: see `models.rescoring.Rescorer`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from featherface.data.labeled import LabeledImage
from featherface.data.reading import map_ahead
from featherface.data.widerface import Sample
from featherface.errors import DataError, ModelError
from featherface.inference.overlap import box_iou
from featherface.inference.postprocess import decode_boxes, face_scores
from featherface.models.detector import FeatherFace
from featherface.models.folding import frozen_copy
from featherface.models.priors import make_priors
from featherface.models.rescoring import Rescorer
from featherface.training.candidates import CandidateParts, Candidates, join_candidates
from featherface.training.checkpoint import (
    Checkpoint,
    generator_states,
    restore_generators,
    save_checkpoint,
)
from featherface.training.memory import keep_freed_memory
from featherface.training.progress import epoch_progress
from featherface.training.whole_views import network_input, whole_view

if TYPE_CHECKING:
    import numpy.typing as npt

    from featherface.config import RescoreConfig
    from featherface.training.state import Checkpointing

_LOGGER = logging.getLogger(__name__)

LEAST_SCORE = 0.02
"""Priors of which the student is less sure are no candidates: the benchmark does not look at them either."""
_FOUND_IOU = 0.5
_NEAR_IOU = 0.3
"""Candidates that overlap an ignored face by more are neither found nor not."""
_NUM_FOR_STATISTICS = 200_000
_AT_ONCE = 100_000


def collect_candidates(
    student: FeatherFace,
    samples: Sequence[Sample],
    *,
    settings: RescoreConfig,
    min_face_px: float,
    checkpointing: Checkpointing | None = None,
) -> Candidates:
    """The candidates of photographs, each looked at once: in a size that is drawn, mirrored or not.

    There are none if the student takes nothing for a face, as after too short a training.

    Photographs come in an order that is drawn as well, until there are `settings.max_candidates`.

    Args:
        student: in evaluation mode; not changed.
        samples: training photographs.
        settings: sizes, limit and seed.
        min_face_px: faces with a shorter side below this in the network's input are ignored.
        checkpointing: where candidates are kept on the way, in files beside the checkpoint's own; a killed
            run goes on behind them, and ends with the same candidates. None keeps nothing.

    Raises:
        ImageDecodeError: a photograph cannot be decoded.
        DataError: there are no photographs.
        ModelError: what was kept is damaged.
    """
    if not samples:
        raise DataError("there is no photograph to learn from; import or synthesize a data set first")
    keep_freed_memory()
    # One thread for each photograph: several that share a small map wait for each other.
    torch.set_num_threads(1)
    order = np.random.default_rng((settings.seed, 0)).permutation(len(samples))
    chosen = [samples[index] for index in order]
    network = frozen_copy(student)

    def look(numbered: tuple[int, Sample]) -> Candidates:
        place, sample = numbered
        return _candidates(network, whole_view(sample, settings, draw=(1, place), min_face_px=min_face_px))

    parts = CandidateParts.of(checkpointing)
    is_enough = parts.num_candidates >= settings.max_candidates
    left = [] if is_enough else list(enumerate(chosen))[parts.num_photographs :]
    looked = map_ahead(look, left, num_threads=settings.num_threads)
    done, hide = parts.num_photographs, not sys.stderr.isatty()
    with tqdm(
        total=len(chosen), initial=done, desc="rescore", unit="image", dynamic_ncols=True, disable=hide
    ) as bar:
        for of_one in looked:
            parts.add(of_one)
            bar.update()
            if parts.num_candidates >= settings.max_candidates:
                break
    parts.keep()
    torch.set_num_threads(settings.num_threads)
    _LOGGER.info(
        "%d candidates in %d of %d photographs", parts.num_candidates, parts.num_photographs, len(samples)
    )
    return join_candidates(parts.known)


def fit_rescorer(
    student: FeatherFace,
    candidates: Candidates,
    settings: RescoreConfig,
    *,
    checkpointing: Checkpointing | None = None,
) -> list[float]:
    """Train the second opinion, and let it count as `settings` say; the other layers stay.

    With `settings.ensemble` so many are learnt first, each from a random start of its own, and forgotten; the
    one that stays learns how likely a face is by the mean of their margins.

    Args:
        student: changed in place.
        candidates: of `collect_candidates`, one at least.
        settings: how.
        checkpointing: where each epoch is kept; a killed run goes on behind the last one and ends with the
            same bits. None keeps nothing.

    Returns:
        The mean cross entropy of each epoch, of the one that stays.

    Raises:
        ModelError: the student has no second opinion, or the checkpoint is damaged.

    Reference:
        Hinton, Vinyals, Dean, arXiv:1503.02531: a network that learns what an ensemble says.
    """
    rescorer = student.head.rescorer
    if rescorer is None:
        raise ModelError("this network has no second opinion to train; set rescore.share to 0")
    rescorer.requires_grad_(requires_grad=True)
    kept = None if checkpointing is None else checkpointing.kept()
    sum_of_margins = torch.zeros(len(candidates)) if kept is None else kept.states["sum_of_margins"]
    for member in range(0 if kept is None else int(kept.extra["member"]), settings.ensemble):
        fit = _Fit.start(rescorer, candidates, settings, member=member, sum_of_margins=sum_of_margins)
        fit.learn(candidates, candidates.is_found.float(), settings, checkpointing)
        sum_of_margins += _margins_of_all(rescorer, candidates)
    fit = _Fit.start(rescorer, candidates, settings, member=settings.ensemble, sum_of_margins=sum_of_margins)
    targets = candidates.is_found.float()
    if settings.ensemble:
        targets = (sum_of_margins / settings.ensemble).sigmoid()
    losses = fit.learn(candidates, targets, settings, checkpointing)
    rescorer.requires_grad_(requires_grad=False)
    rescorer.share.fill_(settings.share)
    rescorer.temperature.fill_(settings.score_temperature)
    return losses


@dataclass(frozen=True)
class _Fit:
    """What changes while one second opinion learns, and what those before it came to."""

    rescorer: Rescorer
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    member: int
    """How many were learnt before it."""
    sum_of_margins: Tensor
    """(N,) of those."""

    @classmethod
    def start(
        cls,
        rescorer: Rescorer,
        candidates: Candidates,
        settings: RescoreConfig,
        *,
        member: int,
        sum_of_margins: Tensor,
    ) -> _Fit:
        """Before the first step. The one that stays draws what it would alone."""
        is_last = member == settings.ensemble
        generator = torch.Generator().manual_seed(settings.seed + (0 if is_last else 1 + member))
        _start(rescorer, candidates, generator)
        steps = -(-len(candidates) // settings.batch_size)
        optimizer = torch.optim.AdamW(
            rescorer.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.lr, total_steps=settings.epochs * steps + 1
        )
        return cls(rescorer, optimizer, schedule, generator, member, sum_of_margins)

    def learn(
        self,
        candidates: Candidates,
        targets: Tensor,
        settings: RescoreConfig,
        checkpointing: Checkpointing | None,
    ) -> list[float]:
        """Take the epochs that are left; the mean loss of each of all."""
        losses = [] if checkpointing is None else self._resume(checkpointing)
        name = f"rescore {self.member + 1}/{settings.ensemble + 1}" if settings.ensemble else "rescore"
        for epoch in range(len(losses), settings.epochs):
            total = 0.0
            order = torch.randperm(len(candidates), generator=self.generator)
            batches = order.split(settings.batch_size)
            with epoch_progress(f"{name} {epoch + 1}/{settings.epochs}", total=len(batches)) as show:
                for step, chosen in enumerate(batches, start=1):
                    features = candidates.features[chosen].float()
                    margins = self.rescorer.margins_of(features, candidates.outputs[chosen])
                    loss = F.binary_cross_entropy_with_logits(margins, targets[chosen])
                    self.optimizer.zero_grad()
                    loss.backward()
                    self.optimizer.step()
                    self.schedule.step()
                    total += float(loss.detach())
                    show(total / step, float(self.schedule.get_last_lr()[0]))
            losses.append(total / len(batches))
            _LOGGER.info("%s, epoch %d/%d: loss %.4f", name, epoch + 1, settings.epochs, losses[-1])
            if checkpointing is not None:
                save_checkpoint(checkpointing.path, self._checkpoint(checkpointing.fingerprint, losses))
        return losses

    def _checkpoint(self, fingerprint: str, losses: Sequence[float]) -> Checkpoint:
        """All that `_resume` needs, between two epochs."""
        return Checkpoint(
            fingerprint=fingerprint,
            epoch=len(losses),
            batch_idx=0,
            states={
                "rescorer": self.rescorer.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "sum_of_margins": self.sum_of_margins,
            },
            generators=generator_states({"order": self.generator}),
            extra={"losses": list(losses), "member": self.member},
        )

    def _resume(self, checkpointing: Checkpointing) -> list[float]:
        """Take over the checkpoint, if there is one of this fingerprint and member; its losses."""
        checkpoint = checkpointing.kept()
        if checkpoint is None or checkpoint.extra["member"] != self.member:
            return []
        self.rescorer.load_state_dict(checkpoint.states["rescorer"])
        self.optimizer.load_state_dict(checkpoint.states["optimizer"])
        self.schedule.load_state_dict(checkpoint.states["schedule"])
        restore_generators({"order": self.generator}, checkpoint.generators)
        _LOGGER.info("going on behind %d epochs", checkpoint.epoch)
        return list(checkpoint.extra["losses"])


@torch.no_grad()
def _margins_of_all(rescorer: Rescorer, candidates: Candidates) -> Tensor:
    parts = zip(candidates.features.split(_AT_ONCE), candidates.outputs.split(_AT_ONCE), strict=True)
    return torch.cat([rescorer.margins_of(features.float(), outputs) for features, outputs in parts])


@torch.no_grad()
def _candidates(student: FeatherFace, view: LabeledImage) -> Candidates:
    images = network_input(view, student)
    outputs, features = student.forward_features(images)
    cls_logits, box_deltas = outputs.cls_logits[0].cpu().numpy(), outputs.box_deltas[0].cpu().numpy()
    idx = np.flatnonzero(face_scores(cls_logits) > LEAST_SCORE)
    priors = make_priors(view.image.shape[:2], strides=student.strides, min_sizes_px=student.min_sizes_px)
    is_found, is_known = _judge(decode_boxes(box_deltas[idx], priors[idx]), view)
    idx, is_found = idx[is_known], is_found[is_known]
    priors_per_cell = np.array([len(sizes) for sizes in student.min_sizes_px])
    cells = np.array([level.shape[2] * level.shape[3] for level in features.neck])
    ends = np.cumsum(cells * priors_per_cell)
    level = np.searchsorted(ends, idx, side="right")
    place = idx - np.concatenate(([0], ends))[level]
    cell = place // priors_per_cell[level] + np.concatenate(([0], np.cumsum(cells)))[level]
    first_output = np.concatenate(([0], np.cumsum(priors_per_cell)))[level]
    by_cell = torch.cat([level_map[0].flatten(1) for level_map in features.neck], dim=1)  # (C, cells of all)
    return Candidates(
        by_cell[:, torch.from_numpy(cell).to(by_cell.device)].T.half().cpu(),
        torch.from_numpy(first_output + place % priors_per_cell[level]),
        torch.from_numpy(is_found),
    )


def _judge(
    boxes: npt.NDArray[np.float32], view: LabeledImage
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which boxes (N, 4) lie where a face is (N,), and of which (N,) that can be said."""
    if not len(view.boxes_xyxy):
        return np.zeros(len(boxes), dtype=np.bool_), np.ones(len(boxes), dtype=np.bool_)
    iou = box_iou(boxes, view.boxes_xyxy)  # (N, G)
    nearest, overlap = iou.argmax(axis=1), iou.max(axis=1)
    return overlap >= _FOUND_IOU, ~(view.is_ignored[nearest] & (overlap > _NEAR_IOU))


def _start(rescorer: Rescorer, candidates: Candidates, generator: torch.Generator) -> None:
    """Random numbers of He's size for maps of mean 0 and deviation 1, as the first layer makes of them."""
    few = candidates.features[
        torch.randperm(len(candidates), generator=generator)[:_NUM_FOR_STATISTICS]
    ].float()
    mean, deviation = few.mean(dim=0), few.std(dim=0, correction=0) + 1e-3
    with torch.no_grad():
        for layer in (rescorer.first, rescorer.second, *rescorer.margins):
            layer.weight.normal_(std=(2 / layer.in_features) ** 0.5, generator=generator)
            layer.bias.zero_()
        rescorer.first.weight.div_(deviation)
        rescorer.first.bias.copy_(-rescorer.first.weight @ mean)
