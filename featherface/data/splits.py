"""A development split of the training images: choices are made on it, so that `val` stays a judge."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from featherface.data.widerface import Sample


def split_dev(
    samples: Sequence[Sample], *, fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split samples into (the rest, development), each event in proportion, each in the given order.

    Which images are taken depends on the seed and on names without suffix, not on their order, so the same
    photographs stored as JPEG or WebP split alike. Events too small for a whole image pool their parts.

    Args:
        samples: annotated photographs of any number of events.
        fraction: of the images that go to development, in [0, 1].
        seed: another seed, another split.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    events: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        events[sample.annotation.event].append(_key(sample))
    development: set[str] = set()
    owed = 0.0
    for event in sorted(events):
        ranked = sorted(events[event], key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
        owed += len(ranked) * fraction
        # Half up, the remainder passed on to the next event; the small number absorbs the sums' rounding.
        num_taken = min(len(ranked), int(owed + 0.5 + 1e-9))
        owed -= num_taken
        development.update(ranked[:num_taken])
    return (
        tuple(sample for sample in samples if _key(sample) not in development),
        tuple(sample for sample in samples if _key(sample) in development),
    )


def _key(sample: Sample) -> str:
    return str(PurePosixPath(sample.annotation.image).with_suffix(""))
