"""Generates the procedural data set, the same bytes from the same seed on every machine.

The layout is that of WIDER FACE (S. Yang et al., arXiv:1511.06523), so that everything that reads the
photographs reads this too. What is on the images is decided in `synthetic_scenes`, how they are annotated in
`synthetic_layout`.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
from tqdm import tqdm

from featherface.child_process import end_with_pool
from featherface.data.synthetic_layout import AnnotatedImage, format_annotations, write_ground_truth
from featherface.data.synthetic_scenes import SCENES, Split, kind_of, render_photograph
from featherface.errors import DataError

_MIN_SIDE_PX = 96
_IMAGES_WORTH_A_PROCESS = 16
_TEMPORARY_PREFIX = ".synthesizing-"


class _Job(NamedTuple):
    folder: Path
    seed: int
    split: Split
    number: int
    image_hw: tuple[int, int]


def synthesize_dataset(
    destination: Path,
    *,
    num_train: int,
    num_val: int,
    image_hw: tuple[int, int],
    seed: int,
    num_workers: int | None = None,
    progress: bool | None = None,
) -> None:
    """Write a data set in WIDER FACE layout; either all of it appears at `destination`, or nothing.

    Args:
        destination: a folder that does not exist yet, or is empty.
        num_train: images in `WIDER_train`.
        num_val: images in `WIDER_val`, for which there are easy, medium and hard lists.
        image_hw: height and width of most images; one in six is turned. At least 96 px each.
        seed: equal seeds give equal bytes, whatever the number of workers; no negative number.
        num_workers: processes; by default one per core that this process may use, one alone for a few images.
        progress: show a bar on stderr; by default if that is a terminal.

    Raises:
        DataError: the destination holds something, or a number is out of range.
    """
    _check_numbers(num_train, num_val, image_hw, seed, num_workers)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DataError(f"{destination} is not an empty folder; give a new one or delete it first")
    with _written_atomically(destination) as folder:
        counts: tuple[tuple[Split, int], ...] = (("train", num_train), ("val", num_val))
        jobs = [
            _Job(folder, seed, split, index, image_hw) for split, count in counts for index in range(count)
        ]
        for split in ("train", "val"):
            (folder / f"WIDER_{split}" / "images").mkdir(parents=True)
        images = list(_render_all(jobs, num_workers, progress))
        for split, start, count in (("train", 0, num_train), ("val", num_train, num_val)):
            # By event, as in the official files; within an event by number (sorting is stable).
            listed = sorted(images[start : start + count], key=lambda image: image.event)
            text = folder / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt"
            text.parent.mkdir(exist_ok=True)
            text.write_text(format_annotations(listed), encoding="ascii", newline="\n")
            if split == "val":
                (folder / "ground_truth").mkdir()
                write_ground_truth(folder / "ground_truth", listed)


def _check_numbers(
    num_train: int, num_val: int, image_hw: tuple[int, int], seed: int, num_workers: int | None
) -> None:
    if num_train < 1 or num_val < 1:
        raise DataError(
            f"at least one image per split is needed, got {num_train} for train and {num_val} for val"
        )
    if min(image_hw) < _MIN_SIDE_PX:
        raise DataError(
            f"images of at least {_MIN_SIDE_PX} px a side are needed, got {image_hw[0]}x{image_hw[1]}"
        )
    if num_workers is not None and num_workers < 1:
        raise DataError(f"at least one worker is needed, got {num_workers}")
    if seed < 0:
        raise DataError(f"the seed must not be negative, got {seed}")


@contextmanager
def _written_atomically(destination: Path) -> Iterator[Path]:
    """Give a new folder beside the destination, which takes its place at the end; on an error it is removed.

    What a killed run left behind is removed by the next run to the same destination.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{_TEMPORARY_PREFIX}{destination.name}-"
    for leftover in destination.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=destination.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp makes folders that only their owner may read
        folder.replace(destination)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _render_all(jobs: list[_Job], num_workers: int | None, progress: bool | None) -> Iterator[AnnotatedImage]:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Starting a process takes as long as rendering about this many images.
    workers = num_workers or min(available, -(-len(jobs) // _IMAGES_WORTH_A_PROCESS))
    is_shown = sys.stderr.isatty() if progress is None else progress
    if workers == 1:
        with _plain_opencv():
            yield from _with_bar(map(_render, jobs), len(jobs), is_shown)
        return
    # Spawned, not forked: a fork of a process with threads (torch, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_to_draw) as pool:
        yield from _with_bar(pool.map(_render, jobs, chunksize=4), len(jobs), is_shown)


def _with_bar(images: Iterator[AnnotatedImage], total: int, is_shown: bool) -> Iterator[AnnotatedImage]:
    return iter(tqdm(images, total=total, desc="synthesize", unit="image", disable=not is_shown))


def _begin_to_draw() -> None:
    end_with_pool()  # killed, it would tell us nothing, and we would wait for work for ever
    _use_plain_opencv()


def _use_plain_opencv() -> None:
    """Let OpenCV use one thread and only instructions that every x86-64 machine has."""
    cv2.setNumThreads(1)
    cv2.setUseOptimized(False)


@contextmanager
def _plain_opencv() -> Iterator[None]:
    threads, is_optimized = cv2.getNumThreads(), cv2.useOptimized()
    _use_plain_opencv()
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        cv2.setUseOptimized(is_optimized)


def _render(job: _Job) -> AnnotatedImage:
    rgb, faces, optics = render_photograph(job.seed, job.split, job.number, job.image_hw)
    event = SCENES[kind_of(job.number)].event
    name = f"{event.replace('--', '_')}_{job.split}_{job.number:05d}.jpg"
    path = job.folder / f"WIDER_{job.split}" / "images" / event / name
    path.parent.mkdir(exist_ok=True)
    encoded, content = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, optics.jpeg_quality])
    if not encoded:
        raise AssertionError(f"OpenCV cannot encode {rgb.shape} as JPEG")
    path.write_bytes(content.tobytes())
    return AnnotatedImage(event, name, (rgb.shape[0], rgb.shape[1]), tuple(faces))
