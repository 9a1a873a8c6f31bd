"""Champion and challenger judged on the same images, with a real registry between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import EndpointConnectionError
from mlflow import MlflowClient, artifacts
from test_registry import write_detector
from tiers import slow

from featherface.config import Config, PromoteConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import GROUND_TRUTH_DIR, open_widerface
from featherface.errors import ModelError
from featherface.evaluation.bootstrap import Interval
from featherface.evaluation.predictions import save_archive, write_predictions
from featherface.evaluation.widerface import average_precision, image_key, load_ground_truth, restrict
from featherface.stages import names
from featherface.stages.base import Workspace
from featherface.tracking import ledger, moves
from featherface.tracking.connection import experiment_id
from featherface.tracking.measurements import is_measured_anew
from featherface.tracking.provenance import DATA_MD5, GIT_DIRTY, GIT_SHA
from featherface.tracking.registry import ModelRegistry
from featherface.tracking.versions import (
    FILE_MEAN_AP,
    JUDGED_BY,
    MEASURED_BY_RUN,
    MODEL_NAME,
    RegisteredVersion,
    UnavailableError,
)
from pipelines.gate import Decision, judge
from pipelines.opponent import (
    PREDICTIONS_FILE,
    gate_metrics,
    kept_predictions,
    meet_champion,
    paired_difference,
)
from pipelines.reproduction import RECIPE
from pipelines.tasks import judge_and_promote, register

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


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, data_root: Path) -> None:
    """The registry and the scenes in one workspace."""
    (tmp_path / "data").symlink_to(data_root)


def add_version(
    client: MlflowClient,
    data_root: Path,
    folder: Path,
    *,
    share: float,
    data_md5: str = "d.dir",
    num_images: int = 8,
) -> str:
    """A version that found so much of each image's faces; its model itself is never loaded here."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"not loaded")
    predictions = {}
    for sample in open_widerface(data_root, "val")[:num_images]:
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
        tags={DATA_MD5: data_md5, JUDGED_BY: "as now"},
        extras={PREDICTIONS_FILE: folder / PREDICTIONS_FILE},
    )
    ModelRegistry().record_file_score(version, METRICS["val/ap_mean"])
    return version


def test_the_difference_is_measured_on_the_images_that_both_saw(
    client: MlflowClient, data_root: Path, tmp_path: Path
) -> None:
    registry, config = ModelRegistry(), Config()
    all_faces, half = (
        registry.get(add_version(client, data_root, tmp_path / name, share=share, num_images=6))
        for name, share in (("a", 1.0), ("b", 0.5))
    )

    def difference_to(champion: RegisteredVersion) -> Interval | None:
        opponent = meet_champion(registry, champion, half, root=tmp_path, config=config)
        return paired_difference(registry, half, opponent, data_root)

    difference = difference_to(all_faces)
    assert difference is not None
    assert difference.low <= difference.value <= difference.high < 0
    kept = [kept_predictions(registry, version) for version in (half, all_faces)]
    truth = restrict(load_ground_truth(data_root / GROUND_TRUTH_DIR), list(kept[0] or {}))
    ours, theirs = (average_precision(predictions or {}, truth).mean for predictions in kept)
    assert difference.value == pytest.approx(ours - theirs)
    same = difference_to(half)
    assert same is not None
    assert (same.low, same.high) == (0, 0)


@pytest.mark.parametrize(
    "then", [{DATA_MD5: "older.dir", JUDGED_BY: "as now"}, {DATA_MD5: "d.dir", JUDGED_BY: "at 640 px"}]
)
def test_a_champion_of_older_data_or_rules_is_scored_as_the_challenger_was(
    client: MlflowClient, data_root: Path, tmp_path: Path, then: dict[str, str]
) -> None:
    """Numbers of easier pictures must neither let a worse one in nor keep a better one out."""
    run_id = client.create_run(experiment_id(client)).info.run_id
    blind = write_detector(tmp_path / "model.onnx", face_logit=8.0)
    champion = ModelRegistry().register_student(
        run_id, blind, metrics=METRICS | {"val/ap_mean": 0.99}, tags=then
    )
    ModelRegistry().promote(champion)
    challenger = add_version(client, data_root, tmp_path / "b", share=1.0)
    registry, config = ModelRegistry(), Config()
    met = [registry.get(champion), registry.get(challenger)]
    opponent = meet_champion(registry, *met, root=tmp_path, config=config)
    assert opponent.metrics.mean_ap is not None
    assert opponent.metrics.mean_ap < 0.5
    assert (opponent.metrics.data_md5, opponent.metrics.judged_by) == ("d.dir", "as now")
    assert opponent.metrics.slices
    difference = paired_difference(registry, met[1], opponent, data_root)
    assert difference is not None
    assert difference.low > 0
    assert "on which it was scored anew" in str(
        judge(gate_metrics(met[1]), opponent.metrics, config.promote, difference=difference)
    )
    assert registry.get(champion).metrics["val/ap_mean"] == 0.99, "the record stays"


def test_a_champion_that_does_not_work_keeps_nobody_out(
    client: MlflowClient, data_root: Path, tmp_path: Path
) -> None:
    registry, config = ModelRegistry(), Config()
    champion = add_version(client, data_root, tmp_path / "a", share=1.0, data_md5="older.dir")
    challenger = add_version(client, data_root, tmp_path / "b", share=0.5)
    met = [registry.get(champion), registry.get(challenger)]
    opponent = meet_champion(registry, *met, root=tmp_path, config=config)
    assert opponent.predictions is None
    assert not opponent.metrics.scored_anew


def test_a_store_that_is_away_is_not_taken_for_one_without_predictions(
    client: MlflowClient, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a worse model would be promoted in the minute in which nobody can compare."""
    registry = ModelRegistry()
    version = registry.get(add_version(client, data_root, tmp_path / "a", share=1.0))
    assert registry.fetch_extra(version.version, "nothing.npz") is None
    outside = client.create_model_version("featherface", source=(tmp_path / "none").as_uri())
    assert registry.fetch_extra(str(outside.version), PREDICTIONS_FILE) is None

    def fail(*_: object, **__: object) -> None:
        raise OSError("the store is away")

    for call in ("list_artifacts", "download_artifacts"):
        with monkeypatch.context() as patch:
            patch.setattr(artifacts, call, fail)
            with pytest.raises(UnavailableError, match=r"version 1 .* cannot be had \(the store is away\)"):
                kept_predictions(registry, version)


def test_a_champion_in_a_store_that_is_away_is_not_taken_for_one_that_does_not_work(
    client: MlflowClient, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, config = ModelRegistry(), Config()
    champion = add_version(client, data_root, tmp_path / "a", share=1.0, data_md5="older.dir")
    challenger = add_version(client, data_root, tmp_path / "b", share=0.5)
    met = [registry.get(champion), registry.get(challenger)]

    def fail(*_: object, **__: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://store.test")

    monkeypatch.setattr(artifacts, "download_artifacts", fail)
    with pytest.raises(UnavailableError, match=rf"featherface/{champion}: cannot be had .*store\.test"):
        meet_champion(registry, *met, root=tmp_path, config=config)


def test_a_challenger_that_found_less_is_rejected_although_its_numbers_are_equal(
    client: MlflowClient, data_root: Path, tmp_path: Path
) -> None:
    champion = add_version(client, data_root, tmp_path / "a", share=1.0)
    client.set_registered_model_alias("featherface", "champion", champion)
    challenger = add_version(client, data_root, tmp_path / "b", share=0.5)
    decision = judge_and_promote.fn(
        challenger, data_root.parent, Config(promote=PromoteConfig(max_params=2000))
    )
    assert not decision.promoted
    (reason,) = decision.reasons
    assert reason.endswith("the challenger is surely worse")
    assert ModelRegistry().get(challenger).status == "rejected"


@pytest.fixture
def good_version(client: MlflowClient, tmp_path: Path) -> Callable[[float], str]:
    """Versions that work and pass the gate, each with a network of its own."""

    def add(face_logit: float) -> str:
        run_id = client.create_run(experiment_id(client)).info.run_id
        file = write_detector(tmp_path / "model.onnx", face_logit=face_logit)
        version = ModelRegistry().register_student(run_id, file, metrics=METRICS, tags={})
        ModelRegistry().record_file_score(version, METRICS["val/ap_mean"])
        return version

    return add


@pytest.fixture
def run_pipeline(client: MlflowClient, tmp_path: Path) -> Callable[..., tuple[str, Decision]]:
    """What the flow does once its stages are done: they have always come to the same file."""
    (tmp_path / names.ONNX_FILE).parent.mkdir(parents=True)
    write_detector(tmp_path / names.ONNX_FILE)
    for name in RECIPE:
        (tmp_path / name).write_text("{}")

    def run(*, judged_by: str = "as now", found: float = 1.0, **metrics: float) -> tuple[str, Decision]:
        workspace, boxes = Workspace(tmp_path), np.array([[1.0, 1.0, 9.0, 9.0, found]])
        student = METRICS | {f"bench/{name}": value for name, value in metrics.items()}
        workspace.write_json(names.REPORT_METRICS, {"student": student})
        write_predictions(tmp_path / names.PREDICTIONS, {"0--Parade/0_Parade_1": boxes})
        run_id = client.create_run(experiment_id(client)).info.run_id
        version, _ = register.fn(tmp_path, run_id, {DATA_MD5: "d.dir", JUDGED_BY: judged_by, GIT_SHA: run_id})
        if FILE_MEAN_AP not in ModelRegistry().get(version).tags:
            ModelRegistry().record_file_score(version, METRICS["val/ap_mean"])
        return version, judge_and_promote.fn(version, tmp_path, Config())

    return run


def test_a_file_that_was_measured_anew_is_judged_by_the_new_numbers(
    run_pipeline: Callable[..., tuple[str, Decision]],
) -> None:
    """A busy machine must not keep a student out for ever."""
    version, decision = run_pipeline(latency_ratio=3.0)
    assert not decision.promoted
    assert run_pipeline(latency_ratio=3.0) == (version, decision)
    again, decision = run_pipeline(latency_ratio=0.5)
    assert (again, decision.promoted) == (version, True)
    assert ModelRegistry().get(version).metrics["bench/latency_ratio"] == 0.5
    assert [(entry.action, entry.version) for entry in ModelRegistry().history()] == [("promote", version)]


def test_rules_that_changed_are_on_record_with_what_was_measured_by_them(
    run_pipeline: Callable[..., tuple[str, Decision]],
) -> None:
    registry = ModelRegistry()
    version, _ = run_pipeline(judged_by="at 640 px", gone=1.0)
    first = registry.get(version)
    run_pipeline(judged_by="as now", found=0.5)
    second = registry.get(version)
    assert second.tags[JUDGED_BY] == "as now"
    assert second.run_id == second.tags[GIT_SHA] != first.run_id, (
        "lineage and recipe are those of the numbers"
    )
    assert dict(second.metrics) == METRICS, "also those that there are no more"
    predictions = kept_predictions(registry, second)
    assert predictions is not None
    assert predictions["0--Parade/0_Parade_1"][0, 4] == 0.5
    assert second.status == "promoted"
    run_pipeline(judged_by="as now", found=0.5)
    assert registry.get(version) == second, "nothing changed, so nothing is written"


def test_a_file_score_by_other_rules_does_not_count(
    run_pipeline: Callable[..., tuple[str, Decision]],
) -> None:
    registry = ModelRegistry()
    version, _ = run_pipeline()
    run_id, slower = registry.get(version).run_id or "", METRICS | {"bench/latency_ratio": 0.7}
    for rules, counts in (("as now", True), ("at 640 px", False)):  # a clock has no say in it
        tags = {DATA_MD5: "d.dir", JUDGED_BY: rules}
        registry.record_measurement(version, run_id, metrics=slower, tags=tags, extras={})
        assert (FILE_MEAN_AP in registry.get(version).tags) == counts


@pytest.mark.parametrize(("dirty", "counts"), [("false", True), ("true", False), (None, False)])
def test_what_can_be_made_again_is_not_replaced_by_what_cannot(
    run_pipeline: Callable[..., tuple[str, Decision]], client: MlflowClient, dirty: str | None, counts: bool
) -> None:
    version, _ = run_pipeline()
    client.set_model_version_tag(MODEL_NAME, version, GIT_DIRTY, "false")
    tags = {DATA_MD5: "d.dir", JUDGED_BY: "others"} | ({} if dirty is None else {GIT_DIRTY: dirty})
    assert is_measured_anew(ModelRegistry().get(version), METRICS, tags) == counts


def test_a_verdict_stays_with_the_numbers_that_it_was_about(
    run_pipeline: Callable[..., tuple[str, Decision]],
) -> None:
    version, _ = run_pipeline(latency_ratio=3.0)
    ModelRegistry().record_decline(version, "by Ann")
    declined = ModelRegistry().get(version)
    again, decision = run_pipeline(judged_by="others", latency_ratio=0.1)
    assert (again, decision.promoted) == (version, False)
    assert decision.reasons[0].startswith(f"version {version} was declined (by Ann)")
    assert ModelRegistry().get(version) == declined


@pytest.mark.parametrize(
    ("call", "tag", "rules"),
    [
        slow("log_model_artifacts", None, "as now"),
        ("log_batch", None, "as now"),
        slow("delete_model_version_tag", JUDGED_BY, "as now"),
        ("set_model_version_tag", MEASURED_BY_RUN, None),
        slow("set_model_version_tag", JUDGED_BY, None),
    ],
)
def test_a_measurement_that_broke_off_is_repeated(
    run_pipeline: Callable[..., tuple[str, Decision]],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    tag: str | None,
    rules: str | None,
) -> None:
    version, _ = run_pipeline()
    real = getattr(MlflowClient, call)

    def die(*arguments: Any, **others: Any) -> None:
        if tag is not None and tag not in arguments:
            return real(*arguments, **others)
        raise ConnectionError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, die)
        with pytest.raises(ConnectionError):
            run_pipeline(judged_by="others")
    assert ModelRegistry().get(version).tags.get(JUDGED_BY) == rules  # without any it compares with nothing
    run_pipeline(judged_by="others", found=0.5)
    after = ModelRegistry().get(version)
    assert after.tags[JUDGED_BY] == "others"
    predictions = kept_predictions(ModelRegistry(), after)
    assert predictions is not None
    assert predictions["0--Parade/0_Parade_1"][0, 4] == 0.5


def test_what_was_rolled_back_comes_back_by_hand_only(
    client: MlflowClient, good_version: Callable[[float], str], tmp_path: Path
) -> None:
    """The nightly flow finds the same file as the same version and judges it every night."""
    registry = ModelRegistry()
    for logit in (8.0, 7.0):
        assert judge_and_promote.fn(good_version(logit), tmp_path, Config()).promoted
    registry.rollback(["misses helmets"])
    for _night in range(2):
        decision = judge_and_promote.fn("2", tmp_path, Config())
        assert not decision.promoted
        assert decision.reasons == (
            "version 2 was rolled back (misses helmets); promote it by hand if it is wanted again",
        )
    champion = registry.current_champion()
    assert champion is not None
    assert champion.version == "1"
    assert len(registry.history()) == 3
    registry.promote("2", ["helmets are found after all"])
    assert judge_and_promote.fn("2", tmp_path, Config()).reasons == ("version 2 is the champion already",)


def test_a_rollback_that_broke_off_is_not_undone_either(
    client: MlflowClient,
    good_version: Callable[[float], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = ModelRegistry()
    for logit in (8.0, 7.0):
        registry.promote(good_version(logit))

    def die(*_: object, **__: object) -> None:
        raise ConnectionError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "write", die)
        with pytest.raises(ConnectionError):
            registry.rollback(["misses helmets"])
    assert not judge_and_promote.fn("2", tmp_path, Config()).promoted


def test_a_champion_that_came_meanwhile_is_judged_against(
    client: MlflowClient, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = (add_version(client, data_root, tmp_path / name, share=1.0) for name in ("a", "b"))
    judged_against: list[str | None] = []

    def compare(
        registry: ModelRegistry, _challenger: object, champion: RegisteredVersion | None, *_: object
    ) -> Decision:
        judged_against.append(champion and champion.version)
        if len(judged_against) == 1:
            registry.promote(theirs)
        return Decision(promoted=True, reasons=("better",))

    monkeypatch.setattr(moves, "smoke_test", lambda _: None)
    monkeypatch.setattr("pipelines.tasks._compare", compare)
    assert judge_and_promote.fn(ours, tmp_path, Config()).promoted
    assert judged_against == [None, theirs]
    assert [entry.version for entry in ModelRegistry().history()] == [theirs, ours]


def test_what_a_person_declined_is_not_promoted_by_the_gate(
    client: MlflowClient, good_version: Callable[[float], str], tmp_path: Path
) -> None:
    registry = ModelRegistry()
    registry.record_decline(good_version(8.0), "by Ann: blurred faces are missed")
    (reason,) = judge_and_promote.fn("1", tmp_path, Config()).reasons
    assert reason.startswith("version 1 was declined (by Ann: blurred faces are missed); promote it by hand")
    registry.promote("1")
    registry.record_decline("1", "by Bob")
    assert registry.get("1").status == "promoted", "the champion stays it"


def test_what_does_not_work_is_tried_once(client: MlflowClient, tmp_path: Path) -> None:
    run_id = client.create_run(experiment_id(client)).info.run_id
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    version = ModelRegistry().register_student(run_id, tmp_path / "broken.onnx", metrics=METRICS, tags={})
    ModelRegistry().record_file_score(version, METRICS["val/ap_mean"])
    with pytest.raises(ModelError, match="failed its smoke test"):
        judge_and_promote.fn(version, tmp_path, Config())
    num_entries = len(ModelRegistry().history())
    (reason,) = judge_and_promote.fn(version, tmp_path, Config()).reasons
    assert reason.startswith("version 1 was withdrawn (failed its smoke test: ")
    assert len(ModelRegistry().history()) == num_entries


@pytest.mark.parametrize("works", [True, False])
def test_the_next_night_finishes_a_promotion_that_was_killed(
    client: MlflowClient,
    good_version: Callable[[float], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    works: bool,
) -> None:
    registry = ModelRegistry()
    registry.promote(good_version(8.0))
    version = good_version(7.0)

    def die(*_: object, **__: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "write", die)
        with pytest.raises(SystemExit):
            judge_and_promote.fn(version, tmp_path, Config())
    if works:
        (reason,) = judge_and_promote.fn(version, tmp_path, Config()).reasons
        assert reason == "version 2 is the champion already; its promotion, which broke off, is finished"
        assert registry.history()[-1].reasons == registry.get(version).reasons
        assert registry.history()[-1].reasons[0].startswith("mean AP 0.9000 reaches")
        return

    def fail(_: Path) -> None:
        raise ModelError("it answers nonsense")

    monkeypatch.setattr(moves, "smoke_test", fail)
    with pytest.raises(ModelError, match="nonsense; version 1 is the champion again"):
        judge_and_promote.fn(version, tmp_path, Config())
    assert not judge_and_promote.fn(version, tmp_path, Config()).promoted
