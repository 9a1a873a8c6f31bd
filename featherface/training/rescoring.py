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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from featherface.data.augment import flip_horizontally, ignore_small_faces
from featherface.data.labeled import LabeledImage, label_image
from featherface.data.reading import map_ahead, read_photograph
from featherface.data.widerface import Annotation, Sample
from featherface.errors import DataError, ModelError
from featherface.imaging import letterbox, resize_long_side, to_network_input
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

if TYPE_CHECKING:
    import numpy.typing as npt

    from featherface.config import RescoreConfig
    from featherface.imaging import RgbImage
    from featherface.training.state import Checkpointing

_LOGGER = logging.getLogger(__name__)

LEAST_SCORE = 0.02
"""Priors of which the student is less sure are no candidates: the benchmark does not look at them either."""
_FOUND_IOU = 0.5
_NEAR_IOU = 0.3
"""Candidates that overlap an ignored face by more are neither found nor not."""
_NUM_FOR_STATISTICS = 200_000


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
        image = read_photograph(sample)
        return _candidates(
            network, _view(image, sample.annotation, settings, place=place, min_face_px=min_face_px)
        )

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

    Args:
        student: changed in place.
        candidates: of `collect_candidates`, one at least.
        settings: how.
        checkpointing: where each epoch is kept; a killed run goes on behind the last one and ends with the
            same bits. None keeps nothing.

    Returns:
        The mean cross entropy of each epoch.

    Raises:
        ModelError: the student has no second opinion, or the checkpoint is damaged.
    """
    rescorer = student.head.rescorer
    if rescorer is None:
        raise ModelError("this network has no second opinion to train; set rescore.share to 0")
    generator = torch.Generator().manual_seed(settings.seed)
    _start(rescorer, candidates, generator)
    rescorer.requires_grad_(requires_grad=True)
    steps = -(-len(candidates) // settings.batch_size)
    optimizer = torch.optim.AdamW(rescorer.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.epochs * steps + 1
    )
    state = _Fit(rescorer, optimizer, schedule, generator)
    losses = [] if checkpointing is None else state.resume(checkpointing)
    for epoch in range(len(losses), settings.epochs):
        total = 0.0
        order = torch.randperm(len(candidates), generator=generator)
        with epoch_progress(f"rescore {epoch + 1}/{settings.epochs}", total=steps) as show:
            for step, chosen in enumerate(order.split(settings.batch_size), start=1):
                margins = rescorer.margins_of(candidates.features[chosen].float(), candidates.outputs[chosen])
                loss = F.binary_cross_entropy_with_logits(margins, candidates.is_found[chosen].float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
                show(total / step, float(schedule.get_last_lr()[0]))
        losses.append(total / steps)
        _LOGGER.info("epoch %d/%d: loss %.4f", epoch + 1, settings.epochs, losses[-1])
        if checkpointing is not None:
            save_checkpoint(checkpointing.path, state.checkpoint(checkpointing.fingerprint, losses))
    rescorer.requires_grad_(requires_grad=False)
    rescorer.share.fill_(settings.share)
    rescorer.temperature.fill_(settings.score_temperature)
    return losses


@dataclass(frozen=True)
class _Fit:
    """What changes while the second opinion learns."""

    rescorer: Rescorer
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator

    def checkpoint(self, fingerprint: str, losses: Sequence[float]) -> Checkpoint:
        """All that `resume` needs, between two epochs."""
        return Checkpoint(
            fingerprint=fingerprint,
            epoch=len(losses),
            batch_idx=0,
            states={
                "rescorer": self.rescorer.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
            },
            generators=generator_states({"order": self.generator}),
            extra={"losses": list(losses)},
        )

    def resume(self, checkpointing: Checkpointing) -> list[float]:
        """Take over the checkpoint, if there is one of this fingerprint; the losses of its epochs."""
        checkpoint = checkpointing.kept()
        if checkpoint is None:
            return []
        self.rescorer.load_state_dict(checkpoint.states["rescorer"])
        self.optimizer.load_state_dict(checkpoint.states["optimizer"])
        self.schedule.load_state_dict(checkpoint.states["schedule"])
        restore_generators({"order": self.generator}, checkpoint.generators)
        _LOGGER.info("going on behind %d epochs", checkpoint.epoch)
        return list(checkpoint.extra["losses"])


def _view(
    image: RgbImage, annotation: Annotation, settings: RescoreConfig, *, place: int, min_face_px: float
) -> LabeledImage:
    """A photograph in a size that is drawn, mirrored or not, padded as the network needs it."""
    rng = np.random.default_rng((settings.seed, 1, place))
    resized, scale_xy = resize_long_side(image, int(rng.choice(settings.long_sides_px)))
    view = ignore_small_faces(label_image(resized, annotation, scale_xy=scale_xy), min_face_px)
    if rng.random() < settings.flip_probability:
        view = flip_horizontally(view)
    return replace(view, image=letterbox(view.image).image)


@torch.no_grad()
def _candidates(student: FeatherFace, view: LabeledImage) -> Candidates:
    device = next(student.parameters()).device
    images = torch.from_numpy(to_network_input(view.image)[None])
    images = images.to(device, memory_format=torch.channels_last)
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
        by_cell[:, torch.from_numpy(cell).to(device)].T.half().cpu(),
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
