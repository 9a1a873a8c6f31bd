"""What a challenger and the champion are compared by: the same measure of both, on the same images."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featherface.config import Config
from featherface.data.widerface import GROUND_TRUTH_DIR
from featherface.errors import ModelError
from featherface.evaluation.bootstrap import MEAN, Interval, ap_differences
from featherface.evaluation.predictions import load_archive, read_predictions
from featherface.evaluation.run import evaluate_model_file
from featherface.evaluation.widerface import load_ground_truth, restrict
from featherface.tracking.download import download_model
from featherface.tracking.provenance import DATA_MD5, UNKNOWN
from featherface.tracking.registry import ModelRegistry
from featherface.tracking.versions import (
    FILE_MEAN_AP,
    JUDGED_BY,
    MODEL_NAME,
    RegisteredVersion,
    UnavailableError,
)
from pipelines.gate import Metrics, Slice

PREDICTIONS_FILE = "predictions.npz"
"""Kept with each version, so that a later one can be compared on the same images."""

logger = logging.getLogger(__name__)
Predictions = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Opponent:
    """The champion as a challenger meets it."""

    metrics: Metrics
    predictions: Predictions | None
    """Of each image (n, 5): x, y, width, height in pixels, score; None: not on the challenger's images."""


def meet_champion(
    registry: ModelRegistry,
    champion: RegisteredVersion,
    challenger: RegisteredVersion,
    *,
    root: Path,
    config: Config,
) -> Opponent:
    """The champion's numbers on the data that a challenger was scored on, measured by the same rules.

    They are on record where both are the same. Where one is another, the champion's file is scored now: new
    data or a larger image size must not be the way in for a model that finds less. Where that is not
    possible, the version of the challenger's data not known or the champion's file not usable, its numbers on
    record are given, which compare with nothing: a champion that does not work must not keep out one that
    does. One that cannot be fetched may work, so nothing is judged until it can, or until a person promotes
    by hand.

    Args:
        registry: where predictions are kept with the versions.
        champion: the version in use.
        challenger: the new version.
        root: the workspace; its data are those that the challenger was scored on.
        config: of the workspace.

    Raises:
        UnavailableError: what is kept of the champion cannot be fetched: the store is away, or has lost it.
    """
    on_record = gate_metrics(champion)
    data = challenger.tags.get(DATA_MD5, UNKNOWN)
    if data == UNKNOWN:
        return Opponent(on_record, None)
    rules = challenger.tags.get(JUDGED_BY)
    if (champion.tags.get(DATA_MD5), champion.tags.get(JUDGED_BY)) == (data, rules):
        return Opponent(on_record, kept_predictions(registry, champion))
    logger.info("the champion, version %s, is scored as the challenger was", champion.version)
    try:
        metrics, predictions = _score(champion, root, config)
    except UnavailableError:
        raise
    except ModelError as error:
        logger.warning("the champion cannot be scored as the challenger was: %s", error)
        return Opponent(on_record, None)
    anew = replace(
        on_record,
        mean_ap=metrics.get("val/ap_mean"),
        slices=_slices(metrics),
        data_md5=data,
        judged_by=rules,
        scored_anew=True,
    )
    return Opponent(anew, predictions)


def paired_difference(
    registry: ModelRegistry, challenger: RegisteredVersion, opponent: Opponent, data_root: Path
) -> Interval | None:
    """Mean AP of the challenger less the champion's; None where predictions of one of them are not kept."""
    if opponent.predictions is None:
        return None
    ours = kept_predictions(registry, challenger)
    if ours is None:
        return None
    ground_truth = restrict(load_ground_truth(data_root / GROUND_TRUTH_DIR), list(ours))
    return ap_differences(ours, opponent.predictions, ground_truth)[MEAN]


def kept_predictions(registry: ModelRegistry, version: RegisteredVersion) -> Predictions | None:
    """The predictions that are kept with a version; None if there are none."""
    archive = registry.fetch_extra(version.version, PREDICTIONS_FILE)
    return None if archive is None else load_archive(archive)


def gate_metrics(version: RegisteredVersion) -> Metrics:
    """The numbers that the gate looks at, as the registry holds them; absent ones stay None."""
    params = version.metrics.get("model/params", math.nan)
    return Metrics(
        mean_ap=version.metrics.get("val/ap_mean"),
        file_mean_ap=float(version.tags.get(FILE_MEAN_AP, math.nan)),
        params=int(params) if math.isfinite(params) else None,
        file_mib=version.metrics.get("export/file_mib"),
        parity_error=version.metrics.get("export/parity_error"),
        latency_ratio=version.metrics.get("bench/latency_ratio"),
        slices=_slices(version.metrics),
        data_md5=version.tags.get(DATA_MD5),
        judged_by=version.tags.get(JUDGED_BY),
    )


def _score(version: RegisteredVersion, root: Path, config: Config) -> tuple[dict[str, float], Predictions]:
    path = download_model(f"models:/{MODEL_NAME}/{version.version}", root=root)
    with tempfile.TemporaryDirectory() as scratch:
        report = evaluate_model_file(
            str(path),
            root / config.data.root,
            settings=config.evaluate,
            save_predictions=Path(scratch) / "predictions",
            coco=False,
        )
        return report.metrics(), read_predictions(Path(scratch) / "predictions")


def _slices(metrics: Mapping[str, float]) -> dict[str, Slice]:
    prefix = "val/faces_"
    names_of_slices = [key.removeprefix(prefix) for key in metrics if key.startswith(prefix)]
    return {
        name: Slice(metrics[f"val/ap_{name}"], int(metrics[f"val/faces_{name}"]))
        for name in sorted(names_of_slices)
        if f"val/ap_{name}" in metrics
    }
