"""The registry on a real MLflow: versions, aliases, the ledger, and models that load without pickle."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from onnx import TensorProto, helper
from tiers import slow

from featherface.cli import main
from featherface.errors import ModelError
from featherface.inference.detector import FaceDetector
from featherface.tracking import ledger
from featherface.tracking.connection import experiment_id
from featherface.tracking.download import download_model
from featherface.tracking.ledger import LedgerEntry, champions, champions_before
from featherface.tracking.packaging import FACE_COLUMNS, save_pyfunc
from featherface.tracking.registry import ModelRegistry
from featherface.tracking.version_store import VersionStore

ROOT = Path(__file__).resolve().parents[2]
QUICK = (("promote", 1), ("promote", 3), ("rollback", 2))
METRICS = {"val/ap_easy": 0.9, "val/ap_hard": 0.6}
TAGS = {"git.sha": "a" * 40, "dvc.data.md5": "0" * 32 + ".dir"}


def write_detector(path: Path, *, face_logit: float = 8.0) -> Path:
    """An ONNX file with the exported names and shapes that sees a face at the first prior of a bright image.

    Every prior gets zero deltas, so a face's box is its prior; logits are positive for the first prior of the
    image only, and only where the image's upper left pixel is bright.
    """
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis_b"], ["batch"]),
        helper.make_node("Gather", ["shape", "axes_hw"], ["hw"]),
        # Two priors a cell at strides 8, 16 and 32.
        helper.make_node("Div", ["hw", "strides"], ["cells"]),
        helper.make_node("ReduceProd", ["cells", "one"], ["cells_per_level"], keepdims=0),
        helper.make_node("ReduceSum", ["cells_per_level", "zero"], ["num_cells"], keepdims=1),
        helper.make_node("Mul", ["num_cells", "two"], ["num_priors"]),
        *(
            node
            for name, width in (("box_deltas", "four"), ("landmark_deltas", "ten"))
            for node in (
                helper.make_node("Concat", ["batch", "num_priors", width], [f"{name}_shape"], axis=0),
                helper.make_node("Expand", ["nothing", f"{name}_shape"], [name]),
            )
        ),
        helper.make_node("Slice", ["images", "zeros4", "corner_end"], ["corner"]),
        helper.make_node("ReduceMean", ["corner", "all_but_b"], ["brightness"], keepdims=0),
        helper.make_node("Sign", ["brightness"], ["sign"]),
        helper.make_node("Mul", ["sign", "logit"], ["face"]),
        helper.make_node("Reshape", ["face", "b_1_1"], ["face3"]),
        helper.make_node("Sub", ["num_priors", "one"], ["num_others"]),
        helper.make_node("Concat", ["batch", "num_others", "one"], ["others_shape"], axis=0),
        helper.make_node("Expand", ["never", "others_shape"], ["others"]),
        helper.make_node("Concat", ["face3", "others"], ["face_logits"], axis=1),
        helper.make_node("Concat", ["batch", "num_priors", "one"], ["background_shape"], axis=0),
        helper.make_node("Expand", ["nothing", "background_shape"], ["background"]),
        helper.make_node("Concat", ["background", "face_logits"], ["cls_logits"], axis=2),
    ]
    integers: dict[str, Any] = {
        "axis_b": [0],
        "axes_hw": [2, 3],
        "strides": [[8, 8], [16, 16], [32, 32]],
        "zero": [0],
        "one": [1],
        "two": [2],
        "four": [4],
        "ten": [10],
        "zeros4": [0, 0, 0, 0],
        "corner_end": [2**30, 3, 1, 1],
        "all_but_b": [1, 2, 3],
        "b_1_1": [-1, 1, 1],
    }
    floats = {"nothing": [[[0.0]]], "never": [[[-20.0]]], "logit": [face_logit]}
    constants = [onnx.numpy_helper.from_array(np.array(v, np.int64), k) for k, v in integers.items()]
    constants += [onnx.numpy_helper.from_array(np.array(v, np.float32), k) for k, v in floats.items()]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "p", width])
            for name, width in (("cls_logits", 2), ("box_deltas", 4), ("landmark_deltas", 10))
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def registry(client: MlflowClient) -> ModelRegistry:
    return ModelRegistry()


@pytest.fixture
def onnx_path(tmp_path: Path) -> Path:
    return write_detector(tmp_path / "student.onnx")


@pytest.fixture
def add_version(client: MlflowClient, tmp_path: Path) -> Callable[[], str]:
    """Versions without a model behind them: all that aliases need, in milliseconds."""

    def add() -> str:
        if not client.search_registered_models():
            client.create_registered_model("featherface")
        return str(client.create_model_version("featherface", source=(tmp_path / "none").as_uri()).version)

    return add


def aliases(client: MlflowClient) -> dict[str, str]:
    return {k: str(v) for k, v in client.get_registered_model("featherface").aliases.items()}


def test_a_registered_student_is_served_without_pickle_and_without_this_checkout(
    client: MlflowClient, registry: ModelRegistry, onnx_path: Path, tmp_path: Path
) -> None:
    run_id = client.create_run(experiment_id(client)).info.run_id
    client.log_metric(run_id, "train/loss", 1.0)
    version = registry.register_student(run_id, onnx_path, metrics=METRICS, tags=TAGS)

    assert version == "1"
    found = registry.get("1")
    assert found.aliases == ("challenger",)
    assert found.run_id == run_id
    assert found.status == "pending"
    assert found.metrics == METRICS
    assert dict(found.tags).items() >= TAGS.items()
    assert registry.find_version_of(onnx_path) == "1"
    assert registry.find_version_of(write_detector(tmp_path / "other.onnx", face_logit=1.0)) is None
    source = Path(download_model("models:/featherface@challenger", root=tmp_path))
    assert source.read_bytes() == onnx_path.read_bytes()
    assert source == download_model("models:/featherface/1", root=tmp_path)
    assert not list((tmp_path / "mlartifacts").rglob("*.pkl"))
    assert not list((tmp_path / "mlartifacts").rglob("__pycache__"))

    # A fresh process that cannot see this checkout: everything it needs is in the model.
    code = """
import json, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/featherface@challenger")
images = np.zeros((3, 40, 64, 3), np.uint8)
images[1] = 255
table = model.predict({"images": images})
import featherface
print(json.dumps({
    "columns": list(table.columns), "types": sorted({str(t) for t in table.dtypes}),
    "rows": table.to_dict("records"), "code": featherface.__file__, "torch": "torch" in sys.modules,
    "none": len(model.predict({"images": images[:1]})), "empty": len(model.predict({"images": images[:0]})),
}))
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    run = subprocess.run(
        [sys.executable, "-P", "-c", code, f"sqlite:///{tmp_path}/mlflow.db"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout.splitlines()[-1])
    assert answer["columns"] == ["image", *FACE_COLUMNS]
    assert answer["types"] == ["float32", "int32"]
    assert str(tmp_path / "mlartifacts") in answer["code"]
    assert not answer["torch"]
    assert (answer["none"], answer["empty"]) == (0, 0)
    (row,) = answer["rows"]
    assert row["image"] == 1
    (expected,) = FaceDetector(onnx_path)(np.full((40, 64, 3), 255, np.uint8)).scores
    assert row["score"] == pytest.approx(expected, abs=1e-5)
    assert row["x1"] >= 0
    assert row["x2"] > row["x1"]


def test_the_model_has_a_signature_for_any_image_size_and_answers_json(
    client: MlflowClient, onnx_path: Path, tmp_path: Path
) -> None:
    from mlflow.pyfunc.scoring_server import invocations

    save_pyfunc(onnx_path, tmp_path / "model")
    carried = {path.name for path in (tmp_path / "model" / "code" / "featherface").iterdir() if path.is_dir()}
    assert carried == {"inference", "models", "tracking"}, "what detecting needs of this package, and no more"
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    (images,) = model.metadata.get_input_schema().inputs
    assert (images.name, images.type, images.shape) == ("images", np.dtype("object"), (-1,))
    assert model.metadata.get_output_schema().input_names() == ["image", *FACE_COLUMNS]

    request = json.dumps({"inputs": {"images": np.full((2, 33, 47, 3), 255).tolist()}})
    response = invocations(request, "application/json", model, model.metadata.get_input_schema())
    assert response.status == 200, response.response
    answer = json.loads(response.response)["predictions"]
    assert [face["image"] for face in answer] == [0, 1]
    assert set(answer[0]) == {"image", *FACE_COLUMNS}

    # The example that comes with the model is a request as clients send it.
    example = (tmp_path / "model" / "serving_input_example.json").read_text()
    response = invocations(example, "application/json", model, model.metadata.get_input_schema())
    assert response.status == 200, response.response


def test_a_served_model_takes_options_for_one_request(onnx_path: Path, tmp_path: Path) -> None:
    save_pyfunc(onnx_path, tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    bright = {"images": np.full((1, 40, 64, 3), 255, np.uint8)}
    (score,) = model.predict(bright)["score"]
    assert len(model.predict(bright, params={"score_threshold": float(score)})) == 0
    assert len(model.predict(bright, params={"score_threshold": 0.0, "max_faces": 3})) == 3
    assert len(model.predict(bright)) == 1, "the next request has the defaults again"
    with pytest.raises(MlflowException, match=r"^score_threshold must be a number from 0 to 1, got 2"):
        model.predict(bright, params={"score_threshold": 2})


def test_a_model_that_was_saved_without_params_still_answers(onnx_path: Path, tmp_path: Path) -> None:
    save_pyfunc(onnx_path, tmp_path / "model")
    description = Model.load(str(tmp_path / "model"))
    description.signature = ModelSignature(description.signature.inputs, description.signature.outputs)
    description.save(str(tmp_path / "model" / "MLmodel"))
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert model.metadata.get_params_schema() is None
    assert len(model.predict({"images": np.full((1, 40, 64, 3), 255, np.uint8)})) == 1


def test_what_is_not_there_is_not_registered(
    client: MlflowClient, registry: ModelRegistry, onnx_path: Path, tmp_path: Path
) -> None:
    run_id = client.create_run(experiment_id(client)).info.run_id
    with pytest.raises(
        ModelError, match=r"missing\.onnx: does not exist; `featherface run export` writes it"
    ):
        registry.register_student(run_id, tmp_path / "missing.onnx", metrics={}, tags={})
    with pytest.raises(ModelError, match="run 000: cannot be had"):
        registry.register_student("000", onnx_path, metrics={}, tags={})
    assert registry.list_versions() == []


def test_a_first_promotion_has_no_previous_champion(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    version = add_version()
    client.set_registered_model_alias("featherface", "challenger", version)
    assert registry.current_champion() is None

    registry.promote(version, ["mean AP 0.7 reaches 0.5"])

    assert aliases(client) == {"champion": "1"}
    champion = registry.current_champion()
    assert champion is not None
    assert champion.version == "1"
    assert champion.status == "promoted"
    assert json.loads(champion.tags["promotion.reasons"]) == ["mean AP 0.7 reaches 0.5"]

    other, newest = add_version(), add_version()
    client.set_registered_model_alias("featherface", "challenger", newest)
    registry.promote(other)
    assert aliases(client) == {"champion": other, "previous_champion": version, "challenger": newest}


def test_promotions_and_rollbacks_walk_back_through_the_champions(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    for _ in range(3):
        registry.promote(add_version())
    assert aliases(client) == {"champion": "3", "previous_champion": "2"}

    assert registry.rollback(["faces of crowds are missed"]) == "2"
    assert aliases(client) == {"champion": "2", "previous_champion": "1"}
    assert registry.get("3").status == "rolled_back"
    assert registry.rollback() == "1"
    assert aliases(client) == {"champion": "1"}
    with pytest.raises(ModelError, match="version 1 of 'featherface' has no champion before it"):
        registry.rollback()

    registry.promote(add_version())
    assert aliases(client) == {"champion": "4", "previous_champion": "1"}
    assert [(e.action, e.version, e.previous) for e in registry.history()] == [
        ("promote", "1", None),
        ("promote", "2", "1"),
        ("promote", "3", "2"),
        ("rollback", "2", "3"),
        ("rollback", "1", "2"),
        ("promote", "4", "1"),
    ]
    assert registry.history()[3].reasons == ("faces of crowds are missed",)


def test_promoting_the_champion_again_changes_nothing(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    for _ in range(2):
        registry.promote(add_version())
    registry.promote("2")
    assert aliases(client) == {"champion": "2", "previous_champion": "1"}
    assert len(registry.history()) == 2


@pytest.mark.parametrize(
    "crash", [(a, n) if (a, n) in QUICK else slow((a, n)) for a in ("promote", "rollback") for n in range(5)]
)
def test_a_crash_between_any_two_calls_leaves_a_champion_and_a_repeat_ends_well(
    client: MlflowClient,
    registry: ModelRegistry,
    add_version: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    crash: tuple[str, int],
) -> None:
    action, left = crash
    for _ in range(3):
        registry.promote(add_version())
    challenger = add_version()
    client.set_registered_model_alias("featherface", "challenger", challenger)

    def crash_in_time(patch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(MlflowClient, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise ConnectionError("the machine is gone")
            left -= 1
            return real(*args, **kwargs)

        patch.setattr(MlflowClient, name, call)

    with monkeypatch.context() as patch:
        for name in (
            "set_registered_model_alias",
            "delete_registered_model_alias",
            "set_registered_model_tag",
            "set_model_version_tag",
        ):
            crash_in_time(patch, name)
        with contextlib.suppress(ConnectionError):
            registry.promote(challenger) if action == "promote" else registry.rollback()

    assert aliases(client)["champion"] in ({"3", "4"} if action == "promote" else {"2", "3"})
    if action == "promote":
        registry.promote(challenger)
        assert aliases(client) == {"champion": "4", "previous_champion": "3"}
        assert registry.get("4").status == "promoted"
        assert registry.rollback() == "3"
    else:
        if aliases(client)["champion"] == "3":
            registry.rollback()
        assert registry.rollback() == "1"
    assert len({entry.at for entry in registry.history()}) == len(registry.history())


def test_a_champion_moved_by_hand_is_observed_and_can_be_rolled_back(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    for _ in range(2):
        registry.promote(add_version())
    by_hand = add_version()
    client.set_registered_model_alias("featherface", "champion", by_hand)
    client.delete_registered_model_alias("featherface", "previous_champion")

    assert registry.rollback() == "2"
    assert aliases(client) == {"champion": "2", "previous_champion": "1"}
    assert [entry.action for entry in registry.history()] == ["promote", "promote", "observe", "rollback"]


def test_a_rollback_skips_champions_that_were_deleted(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    for _ in range(3):
        registry.promote(add_version())
    client.delete_model_version("featherface", "2")  # MLflow drops the alias with it
    assert registry.rollback() == "1"
    assert aliases(client) == {"champion": "1"}


def test_a_rejected_challenger_keeps_its_reasons_and_the_champion_stays(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    registry.promote(add_version())
    registry.record_rejection(add_version(), ["parity error 0.1 is above the limit of 0.0001"])
    assert registry.get("2").status == "rejected"
    assert json.loads(registry.get("2").tags["promotion.reasons"]) == [
        "parity error 0.1 is above the limit of 0.0001"
    ]
    assert aliases(client) == {"champion": "1"}


def test_versions_are_listed_newest_first_with_their_aliases(
    registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    assert registry.list_versions() == []
    for _ in range(11):
        version = add_version()
    registry.promote("2")
    registry.promote(version)
    listed = registry.list_versions()
    assert [each.version for each in listed] == [str(number) for number in range(11, 0, -1)]
    assert {each.version: each.aliases for each in listed if each.aliases} == {
        "11": ("champion",),
        "2": ("previous_champion",),
    }


def test_a_version_with_an_alias_is_not_deleted(
    registry: ModelRegistry,
    add_version: Callable[[], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(3):
        registry.promote(add_version())
    for version, code, words in (
        ("3", 2, "version 3 of 'featherface' is champion: it stays until another one is"),
        ("2", 2, "version 2 of 'featherface' is previous_champion: it stays"),
        ("1", 0, "version 1 is deleted; its run and files stay in MLflow"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["registry", "delete", version, "--root", str(tmp_path)])
        assert (left.value.code, words in "".join(capsys.readouterr())) == (code, True)
    assert [each.version for each in registry.list_versions()] == ["3", "2"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("rolled_back", "was rolled back (misses helmets)"),
        ("withdrawn", "was withdrawn"),
        ("declined", "was declined"),
    ],
)
def test_a_version_with_a_verdict_is_not_deleted(
    registry: ModelRegistry, client: MlflowClient, add_version: Callable[[], str], status: str, words: str
) -> None:
    """The version is the only record of it: the next run would register the same file, and promote it."""
    version = add_version()
    VersionStore(client, "featherface").tag_decision(version, status, ["misses helmets"])
    with pytest.raises(ModelError) as refused:
        registry.delete_version(version)
    assert f"version 1 of 'featherface' {words}" in str(refused.value)
    assert "the next run would register the same file anew" in str(refused.value)
    assert [each.version for each in registry.list_versions()] == ["1"]
    registry.record_rejection(version, ["too slow"])  # the gate's own, from numbers that it measures again
    registry.delete_version(version)
    assert registry.list_versions() == []


@pytest.mark.parametrize("removed", ["tag", "version"])
def test_a_rollback_that_was_removed_in_mlflow_comes_back_from_the_ledger(
    registry: ModelRegistry,
    client: MlflowClient,
    add_version: Callable[[], str],
    onnx_path: Path,
    removed: str,
) -> None:
    def register() -> str:
        run_id = client.create_run(experiment_id(client)).info.run_id
        return registry.register_student(run_id, onnx_path, metrics=METRICS, tags=TAGS)

    registry.promote(add_version())
    again = register()
    registry.promote(again)
    registry.rollback(["misses helmets"])
    if removed == "tag":
        client.delete_model_version_tag("featherface", again, "promotion.status")
    else:
        client.delete_model_version("featherface", again)
        again = register()
    for found in (registry.get(again), registry.list_versions()[0]):
        assert (found.version, found.status) == (again, "rolled_back")
        assert found.verdict == "was rolled back (misses helmets)"
    registry.promote(again)
    assert registry.get(again).status == "promoted"
    client.delete_model_version_tag("featherface", again, "promotion.status")
    assert registry.get(again).status == "pending", "by hand it became the champion again"


@pytest.mark.parametrize("version", ["7", "champion", "-1"])
def test_a_version_that_is_not_there_is_refused_in_one_line(
    registry: ModelRegistry, add_version: Callable[[], str], version: str
) -> None:
    add_version()
    with pytest.raises(ModelError, match="featherface registry list") as caught:
        registry.promote(version)
    assert "\n" not in str(caught.value)


def test_an_empty_registry_has_no_champion_no_history_and_no_way_back(registry: ModelRegistry) -> None:
    assert registry.current_champion() is None
    assert registry.history() == []
    with pytest.raises(ModelError, match="has no champion, so there is nothing to roll back"):
        registry.rollback()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "models:/featherface",
            "is no model address; use models:/featherface@champion or models:/featherface/3",
        ),
        ("models:/featherface@", "is no model address"),
        ("models:/featherface/latest", "is no model address"),
        ("models:/featherface@challenger", "has no alias 'challenger', it has: champion"),
        ("models:/featherface/9", r"version=9\) not found"),
        ("models:/another@champion", "name=another not found"),
        ("models:/featherface@champion", "cannot be had"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_in_one_line(
    registry: ModelRegistry, add_version: Callable[[], str], tmp_path: Path, uri: str, message: str
) -> None:
    registry.promote(add_version())
    with pytest.raises(ModelError, match=message) as caught:
        download_model(uri, root=tmp_path)
    assert "\n" not in str(caught.value)


def test_asking_where_there_is_no_registry_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"no registry at .*mlflow\.db; run `featherface pipeline`"):
        download_model("models:/featherface@champion")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_changed_after_registration_is_refused(
    client: MlflowClient, registry: ModelRegistry, onnx_path: Path, tmp_path: Path
) -> None:
    run_id = client.create_run(experiment_id(client)).info.run_id
    version = registry.register_student(run_id, onnx_path, metrics={}, tags={})
    # The registry is the workspace's even where MLflow's own default is another.
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/nowhere.db")
    os.environ.pop("MLFLOW_TRACKING_URI")
    path = download_model(f"models:/featherface/{version}", root=tmp_path)
    assert not (tmp_path / "nowhere.db").exists()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="is not the file that was registered"):
        download_model(f"models:/featherface/{version}", root=tmp_path)


def test_a_failed_registration_leaves_no_version(
    client: MlflowClient, registry: ModelRegistry, onnx_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = client.create_run(experiment_id(client)).info.run_id

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("the bucket is gone")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", fail)
    with pytest.raises(ConnectionError):
        registry.register_student(run_id, onnx_path, metrics={}, tags={})
    assert registry.list_versions() == []
    (model,) = client.search_logged_models([experiment_id(client)])
    assert str(model.status) == "LoggedModelStatus.FAILED" or model.status.value == "FAILED"


def test_the_stack_of_champions_follows_the_ledger() -> None:
    def entry(action: ledger.Action, version: str) -> LedgerEntry:
        return LedgerEntry("2026-01-01T00:00:00", action, version, None)

    assert champions([]) == []
    assert champions([entry("promote", "1"), entry("promote", "2"), entry("rollback", "1")]) == ["1"]
    assert champions([entry("promote", "1"), entry("observe", "5"), entry("promote", "5")]) == ["1", "5"]
    assert champions([entry("promote", "1"), entry("rollback", "9")]) == ["1", "9"]
    assert champions([entry("promote", "1"), entry("promote", "2"), entry("observe", "1")]) == ["1"]
    again = [entry("promote", "1"), entry("promote", "2"), entry("promote", "1")]
    assert champions(again) == ["1", "2", "1"]
    assert champions_before(again, "1", {"1", "2"}) == ["2"]
    assert champions_before(again, "2", {"2"}) == [], "1 was deleted"
