"""Photographs one after another, the next one decoded while the caller works on this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from featherface.data.widerface import Sample
from featherface.imaging import read_image

if TYPE_CHECKING:
    from featherface.imaging import RgbImage


def read_ahead(samples: Iterable[Sample]) -> Iterator[RgbImage]:
    """The images (H, W, 3) uint8 RGB in order.

    Raises:
        ImageDecodeError: one cannot be read, when its turn comes.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as pool:
        pending = None
        for sample in samples:
            following = pool.submit(read_image, sample.path)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
