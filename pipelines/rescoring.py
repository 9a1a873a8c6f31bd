"""The champion on newer data: judged again where the challenger was, so that the two can be compared."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featherface.config import EvaluateConfig
from featherface.errors import ModelError
from featherface.evaluation.predictions import read_predictions
from featherface.stages.evaluate import evaluate_model_file
from featherface.tracking.download import download_model
from featherface.tracking.provenance import DATA_MD5, UNKNOWN
from featherface.tracking.versions import MODEL_NAME, RegisteredVersion

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rescored:
    """A version as it does on other data than it was registered with."""

    version: RegisteredVersion
    """With the metrics and the data version of now; the registry keeps what it had."""
    predictions: Mapping[str, npt.NDArray[np.float64]]
    """Of each image (n, 5): x, y, width, height in pixels, score."""


def rescore(
    champion: RegisteredVersion, data_md5: str, *, root: Path, data_root: Path, settings: EvaluateConfig
) -> Rescored | None:
    """Judge the champion's file on the data that a challenger was judged on.

    Args:
        champion: scored on other data, or on nobody knows which.
        data_md5: version of the data in `data_root`.
        root: the workspace.
        data_root: the data set.
        settings: as of the stage `evaluate`.

    Returns:
        None where that is not possible: `data_md5` is not known, or the champion's file cannot be used. A
        champion that does not work must not keep one that does from its place.
    """
    if data_md5 == UNKNOWN:
        return None
    logger.info("the champion, version %s, is judged on the new data", champion.version)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = download_model(f"models:/{MODEL_NAME}/{champion.version}", root=root)
            report = evaluate_model_file(
                str(path), data_root, settings=settings, save_predictions=Path(scratch)
            )
        except ModelError as error:
            logger.warning("the champion cannot be judged on the new data: %s", error)
            return None
        predictions = read_predictions(Path(scratch))
    tags = {**champion.tags, DATA_MD5: data_md5}
    return Rescored(replace(champion, tags=tags, metrics=report.metrics()), predictions)
