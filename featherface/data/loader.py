"""Batches of augmented views for training, prepared ahead by threads.

The view of a sample depends on (seed, epoch, place in the epoch) alone and threads share no generator, so a
run that resumes in the middle of an epoch reads the very same batches. Threads are enough: OpenCV releases
the GIL.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from featherface.data.augment import augment
from featherface.data.harder_views import mix
from featherface.data.labeled import LabeledImage, label_image
from featherface.data.reading import read_photograph
from featherface.data.widerface import Sample
from featherface.errors import DataError
from featherface.imaging import STRIDE_MULTIPLE, resize_long_side, to_network_input
from featherface.parallel import num_local_processes
from featherface.structures import Batch, Targets

if TYPE_CHECKING:
    from featherface.config import AugmentConfig
    from featherface.imaging import RgbImage

CGROUP_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where a container reads how much memory it may have: version 2 of control groups, and version 1."""

# Twice the view: the smallest crops are enlarged anyway, and decoded photographs of any size fit in memory.
_CACHED_LONG_SIDE_FACTOR = 2


# Last key of the generator that draws the sizes of an epoch's batches; no place in an epoch reaches it.
_SIZES = 2**32


@dataclass(frozen=True)
class _BatchPlan:
    """One batch: which places of the epoch's order, as views of which side."""

    places: range
    size_px: int


class TrainingLoader:
    """Batches of random views of samples; keeps decoded photographs in memory up to a limit.

    An epoch holds every sample once, in a new order. The last incomplete batch is dropped, so that all steps
    weigh the same; as the order changes, no sample is left out for ever. A set smaller than one batch gives
    one batch of what there is. With several view scales an epoch has as many steps, of other sizes: it goes
    through the order as far as they reach, or around it.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        batch_size: int,
        image_size_px: int,
        seed: int,
        augment_config: AugmentConfig,
        min_face_px: float,
        view_scales: Sequence[float] = (1.0,),
        part: tuple[int, int] = (0, 1),
        read: Callable[[Sample], RgbImage] = read_photograph,
        num_threads: int = 1,
        num_prefetched: int = 4,
        cache_mib: float | None = None,
    ) -> None:
        """Remember what to read; nothing is decoded and no thread runs before the first batch is asked for.

        Args:
            samples: the training photographs.
            batch_size: views a batch.
            image_size_px: side of a view at scale 1, a multiple of 32.
            seed: of order and views.
            augment_config: ranges and probabilities of the views.
            min_face_px: faces smaller than this in a view are ignored.
            view_scales: each batch draws one. Its views have that multiple of `image_size_px` as side,
                rounded to 32 pixels, and show so much more at the same zoom; there are fewer, so that the
                batch has as many pixels as one of scale 1.
            part: (k, n) gives the k-th of n parts of every batch: what one of n processes trains on.
            read: decodes the photograph of a sample.
            num_threads: threads that prepare batches; the batches do not depend on it.
            num_prefetched: batches that are prepared ahead; as many as there are threads at least.
            cache_mib: memory for decoded photographs; what does not fit is decoded again in every epoch.
                None: a third of what machine or container have, over the processes of `torchrun` in it.

        Raises:
            DataError: no samples.
        """
        if not samples:
            raise DataError("there is no photograph to train on; import or synthesize a data set first")
        if min(batch_size, num_threads, num_prefetched) < 1:
            raise ValueError("batch_size, num_threads and num_prefetched must be at least 1")
        self._samples = tuple(samples)
        self._batch_size = min(batch_size, len(self._samples))
        self._image_size_px = image_size_px
        self._seed = seed
        self._augment_config = augment_config
        self._min_face_px = min_face_px
        self._view_scales = tuple(view_scales)
        self._part = part
        self._decode = read
        self._num_threads = num_threads
        self._num_prefetched = max(num_prefetched, num_threads)
        self._cache: dict[int, LabeledImage] = {}
        self._cache_bytes_left = _share_of_memory() if cache_mib is None else int(cache_mib * 2**20)
        self._cache_lock = threading.Lock()

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._samples) // self._batch_size

    def batches(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_batch` on; closing the iterator stops its threads.

        Raises:
            ImageDecodeError: a photograph cannot be read, at the batch that needs it.
        """
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._samples))
        plans = self._plan(epoch)
        pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="featherface-loader")
        pending: deque[Future[Batch]] = deque()
        try:
            for plan in plans[start_batch:]:
                pending.append(pool.submit(self._make_batch, order, epoch, plan))
                if len(pending) > self._num_prefetched:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _plan(self, epoch: int) -> list[_BatchPlan]:
        """What each batch of an epoch is made of."""
        generator = np.random.default_rng((self._seed, epoch, _SIZES))
        plans, first_place = [], 0
        for scale in generator.choice(self._view_scales, size=len(self)):
            size_px = STRIDE_MULTIPLE * max(1, round(self._image_size_px * scale / STRIDE_MULTIPLE))
            num_views = max(self._part[1], round(self._batch_size * (self._image_size_px / size_px) ** 2))
            places = range(first_place, first_place + num_views)
            plans.append(_BatchPlan(places[self._part[0] :: self._part[1]], size_px))
            first_place += num_views
        return plans

    def _make_batch(self, order: np.ndarray, epoch: int, plan: _BatchPlan) -> Batch:
        indices = [int(order[place % len(order)]) for place in plan.places]
        views = [
            self._view(index, np.random.default_rng((self._seed, epoch, place)), plan.size_px)
            for place, index in zip(plan.places, indices, strict=True)
        ]
        return collate(views, [self._samples[index].annotation.image for index in indices])

    def _view(self, sample_idx: int, generator: np.random.Generator, size_px: int) -> LabeledImage:
        view = self._view_of_one(sample_idx, generator, size_px)
        mix_probability = self._augment_config.mix_probability
        if mix_probability and generator.random() < mix_probability:
            other = self._view_of_one(int(generator.integers(len(self._samples))), generator, size_px)
            view = mix(view, other, generator)
        return view

    def _view_of_one(self, sample_idx: int, generator: np.random.Generator, size_px: int) -> LabeledImage:
        return augment(
            self._read(sample_idx),
            generator,
            image_size_px=size_px,
            settings=self._augment_config,
            min_face_px=self._min_face_px,
            extent=size_px / self._image_size_px,
        )

    def _read(self, sample_idx: int) -> LabeledImage:
        """The decoded photograph, shrunk; threads may decode the same one twice, which changes nothing."""
        cached = self._cache.get(sample_idx)
        if cached is not None:
            return cached
        sample = self._samples[sample_idx]
        image, scale_xy = self._decode(sample), (1.0, 1.0)
        long_side_px = _CACHED_LONG_SIDE_FACTOR * self._image_size_px
        if max(image.shape[:2]) > long_side_px:
            image, scale_xy = resize_long_side(image, long_side_px)
        labeled = label_image(image, sample.annotation, scale_xy=scale_xy)
        with self._cache_lock:
            if sample_idx not in self._cache and image.nbytes <= self._cache_bytes_left:
                self._cache[sample_idx] = labeled
                self._cache_bytes_left -= image.nbytes
        return labeled


def _share_of_memory() -> int:
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        limits = [3 * 2**31]
    for path in CGROUP_MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such control group; the word max: no limit
            limits.append(int(path.read_text(encoding="ascii")))
    return min(limits) // 3 // num_local_processes()


def collate(views: Sequence[LabeledImage], names: Sequence[str]) -> Batch:
    """One batch of views of one size; faces are padded with zeros to the view that has most."""
    height, width = views[0].image.shape[:2]
    # In memory as training wants it, channels last: the step copies nothing, and the writes are in one run.
    images = np.empty((len(views), height, width, 3), dtype=np.float32).transpose(0, 3, 1, 2)  # (B, 3, H, W)
    shape = (len(views), max(len(view) for view in views))
    gt_boxes_xyxy = np.zeros((*shape, 4), dtype=np.float32)
    gt_landmarks_xy = np.zeros((*shape, 5, 2), dtype=np.float32)
    has_landmarks, is_face, is_ignored = (np.zeros(shape, dtype=np.bool_) for _ in range(3))
    for row, view in enumerate(views):
        num_faces = len(view)
        to_network_input(view.image, out=images[row])
        gt_boxes_xyxy[row, :num_faces] = view.boxes_xyxy
        gt_landmarks_xy[row, :num_faces] = view.landmarks_xy
        has_landmarks[row, :num_faces] = view.has_landmarks
        is_face[row, :num_faces] = ~view.is_ignored
        is_ignored[row, :num_faces] = view.is_ignored
    targets = Targets(
        gt_boxes_xyxy=torch.from_numpy(gt_boxes_xyxy),
        gt_landmarks_xy=torch.from_numpy(gt_landmarks_xy),
        has_landmarks=torch.from_numpy(has_landmarks),
        is_face=torch.from_numpy(is_face),
        is_ignored=torch.from_numpy(is_ignored),
    )
    return Batch(images=torch.from_numpy(images), targets=targets, sample_ids=tuple(names))
