"""Champion and challenger judged on the same images, with a real registry between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from featherface.config import PromoteConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import open_widerface
from featherface.evaluation.predictions import save_archive
from featherface.evaluation.widerface import image_key
from featherface.tracking.connection import experiment_id
from featherface.tracking.provenance import DATA_MD5
from featherface.tracking.registry import ModelRegistry
from pipelines.tasks import PREDICTIONS_FILE, judge_and_promote, paired_difference

METRICS = {
    "val/ap_mean": 0.9,
    "model/params": 1000.0,
    "export/file_mib": 0.5,
    "export/parity_error": 0.0,
    "bench/latency_ratio": 0.5,
}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "data"
    synthesize_dataset(root, num_train=1, num_val=8, image_hw=(240, 320), seed=5, progress=False)
    return root


def add_version(
    client: MlflowClient, data_root: Path, folder: Path, *, share: float, data_md5: str = "d.dir"
) -> str:
    """A version that found so much of each image's faces; its model itself is never loaded here."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"not loaded")
    predictions = {}
    for sample in open_widerface(data_root, "val"):
        boxes = sample.annotation.boxes_xywh
        found = boxes[: round(share * len(boxes))]
        scores = np.linspace(0.9, 0.5, len(found))
        predictions[image_key(sample.annotation.image)] = np.column_stack([found, scores])
    save_archive(folder / PREDICTIONS_FILE, predictions)
    run_id = client.create_run(experiment_id(client)).info.run_id
    version = ModelRegistry().register_student(
        run_id,
        folder / "model.onnx",
        metrics=METRICS,
        tags={DATA_MD5: data_md5},
        extras={PREDICTIONS_FILE: folder / PREDICTIONS_FILE},
    )
    ModelRegistry().record_file_score(version, METRICS["val/ap_mean"])
    return version


def test_the_difference_is_measured_on_the_images_that_both_saw(
    client: MlflowClient, data_root: Path, tmp_path: Path
) -> None:
    registry = ModelRegistry()
    all_faces = registry.get(add_version(client, data_root, tmp_path / "a", share=1.0))
    half = registry.get(add_version(client, data_root, tmp_path / "b", share=0.5))
    difference = paired_difference(registry, half, all_faces, data_root)
    assert difference is not None
    assert difference.low <= difference.value <= difference.high < 0
    same = paired_difference(registry, half, half, data_root)
    assert same is not None
    assert (same.low, same.high) == (0, 0)
    other = registry.get(add_version(client, data_root, tmp_path / "c", share=1.0, data_md5="e.dir"))
    assert paired_difference(registry, half, other, data_root) is None, "other data"
    assert paired_difference(registry, half, None, data_root) is None, "no champion"


def test_a_challenger_that_found_less_is_rejected_although_its_numbers_are_equal(
    client: MlflowClient, data_root: Path, tmp_path: Path
) -> None:
    champion = add_version(client, data_root, tmp_path / "a", share=1.0)
    client.set_registered_model_alias("featherface", "champion", champion)
    challenger = add_version(client, data_root, tmp_path / "b", share=0.5)
    decision = judge_and_promote.fn(challenger, PromoteConfig(max_params=2000), data_root)
    assert not decision.promoted
    (reason,) = decision.reasons
    assert reason.endswith("the challenger is surely worse")
    assert ModelRegistry().get(challenger).status == "rejected"
