"""Work on one photograph after another, the next ones begun while the caller is busy with this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from featherface.data.widerface import Sample
from featherface.imaging import read_image

if TYPE_CHECKING:
    from featherface.imaging import RgbImage

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def read_photograph(sample: Sample) -> RgbImage:
    """The image (H, W, 3) uint8 RGB of a sample.

    Raises:
        ImageDecodeError: it cannot be read.
    """
    return read_image(sample.path)


def read_ahead(samples: Iterable[Sample]) -> Iterator[RgbImage]:
    """The images (H, W, 3) uint8 RGB in order.

    Raises:
        ImageDecodeError: one cannot be read, when its turn comes.
    """
    return map_ahead(read_photograph, samples)


def map_ahead(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, num_threads: int = 1
) -> Iterator[ResultT]:
    """What becomes of the items, in their order; one more than there are threads is begun at most.

    Args:
        work: what is done with each, safe for several threads.
        items: any number.
        num_threads: that work.
    """
    waiting = iter(items)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="ahead") as pool:
        begun: deque[Future[ResultT]] = deque(
            pool.submit(work, item) for item in islice(waiting, num_threads + 1)
        )
        try:
            while begun:
                result = begun.popleft().result()
                begun.extend(pool.submit(work, item) for item in islice(waiting, 1))
                yield result
        finally:
            for future in begun:
                future.cancel()
