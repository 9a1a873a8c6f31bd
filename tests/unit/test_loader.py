"""Batches: order, resuming, the cache, errors in threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from featherface.config import AugmentConfig
from featherface.data import loader as loader_module
from featherface.data import reading
from featherface.data.labeled import LabeledImage
from featherface.data.loader import TrainingLoader, collate
from featherface.data.widerface import Annotation, Sample
from featherface.errors import DataError, ImageDecodeError
from featherface.imaging import write_image
from featherface.structures import Batch


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Ten small photographs with one face each, the first with three."""
    generator = np.random.default_rng(0)
    made = []
    for i in range(10):
        num_faces = 3 if i == 0 else 1
        path = tmp_path / f"{i}.png"
        write_image(path, generator.integers(0, 256, (40, 48, 3), dtype=np.uint8))
        annotation = Annotation(
            image=f"e/{i}.png",
            boxes_xywh=np.asarray([[5 + 8 * k, 5, 12, 14] for k in range(num_faces)], np.float32),
            attributes=np.zeros((num_faces, 6), np.int8),
            landmarks_xy=np.full((num_faces, 5, 2), 9, np.float32),
            has_landmarks=np.ones(num_faces, np.bool_),
        )
        made.append(Sample(path, annotation))
    return made


def make_loader(samples: list[Sample], **changes: object) -> TrainingLoader:
    options = {
        "batch_size": 3,
        "image_size_px": 32,
        "seed": 7,
        "min_face_px": 2.0,
        "augment_config": AugmentConfig(),
    } | changes
    return TrainingLoader(samples, **options)  # type: ignore[arg-type]


def assert_equal(first: Batch, second: Batch) -> None:
    assert first.sample_ids == second.sample_ids
    assert torch.equal(first.images, second.images)
    for name in ("gt_boxes_xyxy", "gt_landmarks_xy", "has_landmarks", "is_face", "is_ignored"):
        assert torch.equal(getattr(first.targets, name), getattr(second.targets, name)), name


def test_epoch_holds_every_sample_at_most_once_and_drops_the_incomplete_batch(samples: list[Sample]) -> None:
    loader = make_loader(samples)
    batches = list(loader.batches(0))
    ids = [name for batch in batches for name in batch.sample_ids]
    assert len(loader) == len(batches) == 3
    assert len(set(ids)) == len(ids) == 9


def test_larger_views_come_in_smaller_batches_that_go_on_in_the_order(samples: list[Sample]) -> None:
    loader = make_loader(samples, batch_size=4, view_scales=(1.0, 2.0, 4.0))
    sizes = set()
    for epoch in range(4):
        order = next(make_loader(samples, batch_size=10).batches(epoch)).sample_ids
        batches = list(loader.batches(epoch))
        assert len(batches) == len(loader) == 2
        seen = [name for batch in batches for name in batch.sample_ids]
        assert seen == [order[place % 10] for place in range(len(seen))]
        sizes |= {(batch.images.shape[0], batch.images.shape[2]) for batch in batches}
        assert_equal(next(loader.batches(epoch, start_batch=1)), batches[1])
    # Of 4 views of 32 px: as many pixels as far as whole views allow.
    assert sizes == {(4, 32), (1, 64), (1, 128)}


def test_small_views_may_go_around_the_order(samples: list[Sample]) -> None:
    loader = make_loader(samples, batch_size=10, image_size_px=64, view_scales=(0.5,))
    (batch,) = loader.batches(0)
    assert batch.images.shape == (40, 3, 32, 32)
    assert len(set(batch.sample_ids)) == 10


def test_larger_views_show_more_at_the_same_zoom(samples: list[Sample]) -> None:
    still = AugmentConfig(crop_scale_min=0.5, crop_scale_max=0.5, min_visible_fraction=0)
    large = next(make_loader(samples[1:2], augment_config=still, view_scales=[2.0]).batches(0))
    assert large.images.shape[2:] == (64, 64)
    top, bottom = large.targets.gt_boxes_xyxy[0, 0, [1, 3]].tolist()
    # At scale 1 half of the 40 px are shown on 32.
    assert bottom - top == pytest.approx(14 * 32 / 20, rel=0.05)


def test_faces_too_small_in_a_view_are_ignored(samples: list[Sample]) -> None:
    targets = next(make_loader(samples, min_face_px=1000.0).batches(0)).targets
    assert not targets.is_face.any()
    assert targets.is_ignored.any()


def test_processes_share_the_views_of_a_batch(samples: list[Sample]) -> None:
    whole = [batch.sample_ids for batch in make_loader(samples, batch_size=4).batches(0)]
    parts = [make_loader(samples, batch_size=4, part=(number, 2)).batches(0) for number in range(2)]
    together = [(first.sample_ids, second.sample_ids) for first, second in zip(*parts, strict=True)]
    assert together == [(ids[::2], ids[1::2]) for ids in whole]


def test_batch_has_shapes_and_types_of_a_training_step(samples: list[Sample]) -> None:
    batch = next(make_loader(samples, batch_size=10).batches(0))
    num_faces = batch.targets.is_face.shape[1]
    assert batch.images.shape == (10, 3, 32, 32)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images.dtype == torch.float32
    assert 1 <= num_faces <= 3
    assert batch.targets.gt_boxes_xyxy.shape == (10, num_faces, 4)
    assert batch.targets.gt_landmarks_xy.shape == (10, num_faces, 5, 2)
    assert batch.targets.is_face.dtype == batch.targets.is_ignored.dtype == torch.bool
    assert not (batch.targets.is_face & batch.targets.is_ignored).any()


def test_epochs_differ_in_order_and_views(samples: list[Sample]) -> None:
    loader = make_loader(samples, batch_size=10)
    first, second = next(loader.batches(0)), next(loader.batches(1))
    assert first.sample_ids != second.sample_ids
    assert sorted(first.sample_ids) == sorted(second.sample_ids)
    place = second.sample_ids.index(first.sample_ids[0])
    assert not torch.equal(first.images[0], second.images[place])


def test_only_sample_of_a_set_has_another_view_in_every_epoch(samples: list[Sample]) -> None:
    loader = make_loader(samples[:1])
    views = [next(loader.batches(epoch)).images for epoch in range(2)]
    assert not torch.equal(*views)


def test_resumed_epoch_equals_the_rest_of_the_whole_one_bit_for_bit(samples: list[Sample]) -> None:
    whole = list(make_loader(samples).batches(4))
    resumed = list(make_loader(samples).batches(4, start_batch=1))
    assert len(resumed) == 2
    for expected, got in zip(whole[1:], resumed, strict=True):
        assert_equal(expected, got)


@pytest.mark.parametrize(
    "changes", [{"num_threads": 3}, {"num_threads": 16}, {"num_prefetched": 1}, {"cache_mib": 0}]
)
def test_batches_do_not_depend_on_threads_prefetching_or_cache(
    samples: list[Sample], changes: dict[str, float]
) -> None:
    options = {"augment_config": AugmentConfig(mix_probability=0.5), "view_scales": (1.0, 2.0)}
    expected, changed = make_loader(samples, **options), make_loader(samples, **options, **changes)
    for epoch in (0, 1):
        for one, other in zip(expected.batches(epoch), changed.batches(epoch), strict=True):
            assert_equal(one, other)


def test_mixed_views_hold_the_faces_of_two_and_are_the_same_again(samples: list[Sample]) -> None:
    plain = next(iter(make_loader(samples, batch_size=4).batches(0)))
    settings = AugmentConfig(mix_probability=1.0)
    mixed, again = (
        next(iter(make_loader(samples, batch_size=4, augment_config=settings).batches(0))) for _ in range(2)
    )
    assert_equal(mixed, again)
    assert (mixed.images != plain.images).any()
    assert not mixed.targets.is_face.any()
    num_ignored = mixed.targets.is_ignored.sum(dim=1)
    assert (num_ignored >= (plain.targets.is_face | plain.targets.is_ignored).sum(dim=1)).all()


def test_another_seed_gives_other_batches(samples: list[Sample]) -> None:
    first, second = next(make_loader(samples).batches(0)), next(make_loader(samples, seed=8).batches(0))
    assert first.sample_ids != second.sample_ids


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    reads: list[Path] = []
    read_image = reading.read_image

    def counting(path: Path) -> np.ndarray:
        reads.append(path)
        return read_image(path)

    monkeypatch.setattr(reading, "read_image", counting)
    return reads


def test_photographs_are_decoded_once(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    reads = count_reads(monkeypatch)
    loader = make_loader(samples, batch_size=10)
    for epoch in range(3):
        list(loader.batches(epoch))
    assert sorted(reads) == sorted(sample.path for sample in samples)


def test_full_cache_keeps_what_it_has_and_decodes_the_rest_again(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = count_reads(monkeypatch)
    loader = make_loader(samples, batch_size=10, cache_mib=4.5 * 40 * 48 * 3 / 2**20)
    for epoch in range(2):
        list(loader.batches(epoch))
    assert len(reads) == 10 + 6


@pytest.mark.parametrize(
    ("files", "processes", "num_kept"),
    [
        ({"v2": "{limit}\n"}, 1, 6),
        ({"v2": "{limit}\n"}, 3, 2),
        ({"v1": "{limit}\n"}, 2, 3),
        ({"v2": "max\n", "v1": "9223372036854771712\n"}, 2, 10),
        ({}, 1, 10),
    ],
    ids=["alone", "three-processes", "version-1", "no-limit", "no-container"],
)
def test_processes_of_a_container_share_a_third_of_its_memory(
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    files: dict[str, str],
    processes: int,
    num_kept: int,
) -> None:
    monkeypatch.setattr(loader_module, "CGROUP_MEMORY_LIMITS", (tmp_path / "v2", tmp_path / "v1"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    for name, content in files.items():
        (tmp_path / name).write_text(content.format(limit=3 * 6 * 40 * 48 * 3), encoding="ascii")
    reads = count_reads(monkeypatch)
    loader = make_loader(samples, batch_size=10)
    for epoch in range(2):
        list(loader.batches(epoch))
    assert len(reads) == 10 + 10 - num_kept


def test_large_photographs_are_shrunk_and_their_faces_with_them(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((100, 640, 3), np.uint8))
    boxes_xywh = np.asarray([[320, 50, 100, 40]], np.float32)
    annotation = Annotation(
        "e/a.png",
        boxes_xywh,
        np.zeros((1, 6), np.int8),
        np.zeros((1, 5, 2), np.float32),
        np.zeros(1, np.bool_),
    )
    loader = make_loader([Sample(tmp_path / "a.png", annotation)], batch_size=1)
    kept = loader._read(0)
    assert kept.image.shape == (10, 64, 3)
    np.testing.assert_allclose(kept.boxes_xyxy, [[32, 5, 42, 9]])


def test_set_smaller_than_a_batch_gives_one_batch_of_it(samples: list[Sample]) -> None:
    (batch,) = make_loader(samples[:2], batch_size=16).batches(0)
    assert len(batch.sample_ids) == 2


def test_broken_photograph_surfaces_in_the_caller_by_name(samples: list[Sample]) -> None:
    samples[4].path.write_bytes(b"not an image")
    with pytest.raises(ImageDecodeError, match=r"4\.png: is no JPEG"):
        list(make_loader(samples, batch_size=10).batches(0))


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("featherface-loader")]


def test_closing_stops_the_threads(samples: list[Sample]) -> None:
    batches = make_loader(samples, batch_size=1, num_threads=2).batches(0)
    next(batches)
    assert loader_threads()
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert not loader_threads()


def test_every_thread_prepares_a_batch_ahead(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    all_at_work, read_image = threading.Barrier(8, timeout=60), reading.read_image

    def wait_for_all(path: Path) -> np.ndarray:
        all_at_work.wait()
        return read_image(path)

    monkeypatch.setattr(reading, "read_image", wait_for_all)
    batches = make_loader(samples[:8], batch_size=1, num_threads=8).batches(0)
    assert next(batches).images.shape[0] == 1
    batches.close()  # type: ignore[attr-defined]  # a generator


def test_closing_prepares_no_further_batches(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    reads, closing = count_reads(monkeypatch), threading.Event()
    read_image = reading.read_image

    def second_read_waits_for_the_end(path: Path) -> np.ndarray:
        if reads:
            assert closing.wait(timeout=60)
        return read_image(path)

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closing.set()
            super().shutdown(wait=wait)

    monkeypatch.setattr(reading, "read_image", second_read_waits_for_the_end)
    monkeypatch.setattr(loader_module, "ThreadPoolExecutor", Pool)
    batches = make_loader(samples, batch_size=1, num_prefetched=8).batches(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert len(reads) <= 2


def test_threads_are_gone_after_an_epoch_and_after_an_error(samples: list[Sample]) -> None:
    list(make_loader(samples).batches(0))
    assert not loader_threads()
    samples[0].path.unlink()
    with pytest.raises(ImageDecodeError):
        list(make_loader(samples, batch_size=10).batches(0))
    assert not loader_threads()


def test_no_samples_are_refused() -> None:
    with pytest.raises(DataError, match="there is no photograph to train on"):
        make_loader([])


@pytest.mark.parametrize("name", ["batch_size", "num_threads", "num_prefetched"])
def test_counts_below_one_are_refused(samples: list[Sample], name: str) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        make_loader(samples, **{name: 0})


def view(num_faces: int) -> LabeledImage:
    return LabeledImage(
        image=np.zeros((32, 32, 3), np.uint8),
        boxes_xyxy=np.full((num_faces, 4), 5, np.float32),
        landmarks_xy=np.full((num_faces, 5, 2), 6, np.float32),
        has_landmarks=np.arange(num_faces) > 0,
        is_ignored=np.arange(num_faces) % 2 == 1,
    )


def test_faces_are_padded_to_the_view_with_most() -> None:
    batch = collate([view(0), view(3)], ["a", "b"])
    targets = batch.targets
    assert targets.is_face.tolist() == [[False] * 3, [True, False, True]]
    assert targets.is_ignored.tolist() == [[False] * 3, [False, True, False]]
    assert targets.has_landmarks.tolist() == [[False] * 3, [False, True, True]]
    assert not targets.gt_boxes_xyxy[0].any()
    assert (targets.gt_boxes_xyxy[1] == 5).all()
    assert (targets.gt_landmarks_xy[1] == 6).all()
    assert batch.sample_ids == ("a", "b")


def test_batch_without_any_face_has_no_columns() -> None:
    targets = collate([view(0)], ["a"]).targets
    assert targets.gt_boxes_xyxy.shape == (1, 0, 4)
    assert targets.is_face.shape == (1, 0)
