"""One student of several that were trained from a common start: the mean of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from featherface.errors import ModelError
from featherface.files import sha256_of
from featherface.inference.weights import load_model_with_info, save_weights
from featherface.training.origin import MEAN_OF


def average_students(paths: Sequence[Path], target: Path) -> None:
    """Write the mean of students' weights, tensor by tensor.

    It is a detector only where the students went on from the same weights; there it can find more than each
    of them (docs/experiments.md). Statistics of normalizations are averaged too, which is not what the mean
    would gather itself: a short training on from it mends them. Counters are the first student's. Second
    opinions were learnt apart from each other and have no mean: the student has none until the stage
    `rescore`.

    Args:
        paths: two or more .safetensors files of one architecture with the same innovations.
        target: the .safetensors file to write.

    Raises:
        ModelError: fewer than two, a file that cannot be used, or students of different networks.

    Reference:
        Wortsman et al., Model soups, arXiv:2203.05482, section 2, the uniform soup.
    """
    if len(paths) < 2:
        raise ModelError(f"a mean needs two students at least, got {len(paths)}")
    loaded = [load_model_with_info(path) for path in paths]
    first, info = loaded[0]
    for path, (_, other) in zip(paths, loaded, strict=True):
        if (other.architecture, set(other.innovations)) != (info.architecture, set(info.innovations)):
            raise ModelError(
                f"{path}: is {other.architecture} with {len(other.innovations)} innovations, {paths[0]} is "
                f"{info.architecture} with {len(info.innovations)}; only students of one network have a mean"
            )
    states = [model.state_dict() for model, _ in loaded]
    with torch.no_grad():
        for name, tensor in first.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.stack([state[name].double() for state in states]).mean(dim=0))
    first.head.forget_second_opinion()
    save_weights(
        target,
        first,
        architecture=info.architecture,
        innovations=info.innovations,
        extra={MEAN_OF: " ".join(sha256_of(path) for path in paths)},
    )
