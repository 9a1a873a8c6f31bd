"""A bundle trained by a process that has torch, numpy and OpenCV alone ends as the stage itself does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import fill_disk
from PIL import Image

from featherface.bundles import layout, train
from featherface.bundles.collect import collect
from featherface.bundles.pack import pack
from featherface.bundles.train import ShardedPhotographs, train_bundle
from featherface.config import Config
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import open_widerface
from featherface.distillation.student import StudentTraining
from featherface.errors import ConfigError, DataError, ModelError
from featherface.imaging import read_image
from featherface.inference.weights import load_model, save_weights
from featherface.models.build import build_model
from featherface.stages import distill, names
from featherface.stages.base import Workspace
from featherface.tracking.tracker import NullTracker

REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN = {"epochs": 2, "batch_size": 4, "image_size_px": 64, "num_threads": 1, "view_scales": [1.0, 1.5]}
CONFIG = Config.model_validate({"distill": {"train": TRAIN}})
# torch, numpy and OpenCV, and what torch itself cannot be imported without.
BARE = (
    *("torch", "torchgen", "functorch", "numpy", "numpy.libs", "cv2", "opencv_python_headless.libs"),
    *("typing_extensions.py", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec"),
)


class Notebook(NullTracker):
    """Remembers the curves."""

    def __init__(self) -> None:
        self.curves: dict[str, list[int]] = {}
        self.tags: dict[str, str] = {}

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        for name in metrics:
            self.curves.setdefault(name, []).append(step)

    def set_tags(self, tags: dict[str, str]) -> None:
        self.tags |= tags


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("workspace")
    synthesize_dataset(root / "data", num_train=9, num_val=1, image_hw=(120, 160), seed=5, num_workers=1)
    torch.manual_seed(0)
    save_weights(root / names.TEACHER_WEIGHTS, build_model("v1-487k"), architecture="v1-487k")
    return Workspace(root)


@pytest.fixture(scope="module")
def bundle(workspace: Workspace) -> Path:
    target = workspace.root / "bundle"
    pack(
        CONFIG,
        data=workspace.root / "data",
        teacher=workspace.root / names.TEACHER_WEIGHTS,
        initial=None,
        data_version="unknown",
        target=target,
        shard_mib=0.01,
    )
    return target


@pytest.fixture(scope="module")
def result(workspace: Workspace, bundle: Path) -> Path:
    out, bare = workspace.root / "out", workspace.root / "bare"
    bare.mkdir()
    installed = Path(torch.__file__).parents[1]
    for name in BARE:
        if (installed / name).exists():
            (bare / name).symlink_to(installed / name)
    # -S: without the packages of this environment.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "featherface.bundles.train", str(bundle), str(out)],
        capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "PYTHONPATH": f"{bare}{os.pathsep}{REPOSITORY}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_photographs_are_packed_in_parts_and_byte_for_byte(workspace: Workspace, bundle: Path) -> None:
    shards = json.loads((bundle / layout.BUNDLE).read_text())["shards"]
    assert len(shards) > 1
    packed = {}
    for name in shards:
        with zipfile.ZipFile(bundle / name) as shard:
            packed |= {image: shard.read(image) for image in shard.namelist()}
    images = workspace.root / "data/WIDER_train/images"
    assert len(packed) == 9
    assert all(content == (images / image).read_bytes() for image, content in packed.items())


def test_any_photograph_is_read_as_the_stage_reads_it(workspace: Workspace, tmp_path: Path) -> None:
    data = Path(shutil.copytree(workspace.root / "data", tmp_path / "data"))
    samples = open_widerface(data, "train")
    os.utime(samples[0].path, (0, 0))  # a ZIP knows no date before 1980
    pixels = np.random.default_rng(3).integers(0, 256, (120, 160, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(samples[1].path, "PNG")
    pack(
        CONFIG,
        data=data,
        teacher=workspace.root / names.TEACHER_WEIGHTS,
        initial=None,
        data_version="unknown",
        target=tmp_path / "bundle",
    )
    photographs = ShardedPhotographs([tmp_path / "bundle" / layout.SHARD.format(0)])
    for sample in samples:
        difference = np.abs(photographs.read(sample).astype(int) - read_image(sample.path))
        assert difference.max() <= 1


def cut_annotations(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[: int(lines[1]) + 2]), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (
            layout.ANNOTATIONS,
            cut_annotations,
            r"is not the file that was packed \([\d,]+ bytes\)",
        ),
        (
            layout.TEACHER,
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"X"),
            "is not the file that",
        ),
        (
            layout.SHARD.format(0),
            Path.unlink,
            r"cannot be read \(No such file .*\); carry it again",
        ),
    ],
)
def test_a_file_that_changed_on_the_way_is_refused_by_name(
    bundle: Path, tmp_path: Path, name: str, damage: Callable[[Path], object], words: str
) -> None:
    carried = Path(shutil.copytree(bundle, tmp_path / "carried"))
    damage(carried / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "StudentTraining", lambda *_, **__: pytest.fail("it went on to train"))
        with pytest.raises(DataError, match=rf"carried/{name}: {words}"):
            train_bundle(carried, tmp_path / "out")


def test_a_bare_machine_ends_with_the_weights_of_the_stage(workspace: Workspace, result: Path) -> None:
    distill.run(CONFIG.data, CONFIG.model, CONFIG.distill, workspace=workspace)
    expected = hashlib.sha256((workspace.root / names.DISTILLED_WEIGHTS).read_bytes()).hexdigest()
    history = (workspace.root / names.STUDENT_HISTORY).read_text(encoding="utf-8")
    (workspace.root / names.DISTILLED_WEIGHTS).unlink()
    notebook = Notebook()
    collected = collect(result, CONFIG, Workspace(workspace.root, notebook))
    assert hashlib.sha256((workspace.root / names.DISTILLED_WEIGHTS).read_bytes()).hexdigest() == expected
    assert (workspace.root / names.STUDENT_HISTORY).read_text(encoding="utf-8") == history
    assert collected.metrics["model/params"] == 239_689
    assert notebook.curves["train/loss"] == [1, 2]
    assert notebook.curves["step/lr"] == [0]
    assert notebook.tags["featherface.trained_with"] == f"torch {torch.__version__}"


def test_details_learn_elsewhere_as_in_the_stage(workspace: Workspace, tmp_path: Path) -> None:
    initial = tmp_path / "student.safetensors"
    innovations = CONFIG.model.innovations
    save_weights(initial, build_model("v2-ultra"), architecture="v2-ultra", innovations=innovations)
    changes = {"enabled": False, "learn": "details", "initial_weights": str(initial), "details_offset": -0.5}
    config = Config.model_validate({"distill": {"train": TRAIN | {"epochs": 1}, **changes}})
    pack(
        config,
        data=workspace.root / "data",
        teacher=workspace.root / names.TEACHER_WEIGHTS,
        initial=initial,
        data_version="unknown",
        target=tmp_path / "bundle",
    )
    train_bundle(tmp_path / "bundle", tmp_path / "out")
    weights = []
    for write in (
        lambda: collect(tmp_path / "out", config, workspace),
        lambda: distill.run(config.data, config.model, config.distill, workspace=workspace),
    ):
        write()
        weights.append((workspace.root / names.DISTILLED_WEIGHTS).read_bytes())
        (workspace.root / names.DISTILLED_WEIGHTS).unlink()
    assert weights[0] == weights[1]


def test_a_bundle_of_another_version_is_refused(bundle: Path, tmp_path: Path) -> None:
    """Its settings are others: nothing on a bare machine knows what a missing one would be."""
    old = Path(shutil.copytree(bundle, tmp_path / "old"))
    content = json.loads((old / layout.BUNDLE).read_text())
    (old / layout.BUNDLE).write_text(json.dumps(content | {"schema": 1}))
    with pytest.raises(DataError, match=r"has schema 1, this code reads 2; pack and train again, or use"):
        train_bundle(old, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_result_is_not_made_again(bundle: Path, result: Path) -> None:
    before = (result / layout.STUDENT).stat().st_mtime_ns
    train_bundle(bundle, result)
    assert (result / layout.STUDENT).stat().st_mtime_ns == before


def test_the_training_of_another_bundle_is_not_gone_on_with(
    workspace: Workspace, bundle: Path, result: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    content = json.loads((other / layout.BUNDLE).read_text())
    (other / layout.BUNDLE).write_text(json.dumps(content | {"data_version": "another"}))
    before = {path: path.read_bytes() for path in result.iterdir()}
    with pytest.raises(DataError, match=r"out: holds something else .*; give a new folder"):
        train_bundle(other, result)
    assert {path: path.read_bytes() for path in result.iterdir()} == before
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: holds something else"):
        train_bundle(bundle, tmp_path / "file")


def test_bad_input_is_told_in_a_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "featherface.bundles.train", str(tmp_path), str(tmp_path / "out")],
        capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"featherface: {tmp_path / layout.BUNDLE}: cannot be read")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_place_that_takes_no_results_is_told_in_a_line(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "featherface.bundles.train", str(bundle), str(tmp_path / "file" / "out")],
        capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "when_packed", "when_trained"),
    [
        (
            {"keep_initial_weights": True},
            "trains no student, so there is nothing to do elsewhere",
            "asks for no training",
        ),
        ({"learn": "details"}, r"set distill\.enabled to false", r"set distill\.enabled to false"),
    ],
    ids=["nothing to train", "details with a teacher"],
)
def test_nothing_is_packed_that_training_would_refuse(
    workspace: Workspace, tmp_path: Path, changes: dict[str, object], when_packed: str, when_trained: str
) -> None:
    refused = {"initial_weights": "student.safetensors", **changes}
    distill = CONFIG.distill.model_copy(update=refused)
    with pytest.raises(ConfigError, match=when_packed):
        pack(
            CONFIG.model_copy(update={"distill": distill}),
            data=workspace.root / "data",
            teacher=workspace.root / names.TEACHER_WEIGHTS,
            initial=None,
            data_version="unknown",
            target=tmp_path / "bundle",
        )
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(ConfigError, match=when_trained):
        StudentTraining(CONFIG.model, distill, load_model(workspace.root / names.TEACHER_WEIGHTS))


def test_a_result_that_could_not_be_written_is_made_by_the_next_run(
    bundle: Path, result: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(result, tmp_path / "out"))
    (out / layout.RESULT).unlink()
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, layout.RESULT)
        with pytest.raises(ModelError, match=r"result\.json: cannot be written \(No space"):
            train_bundle(bundle, out)
    assert not (out / layout.RESULT).exists()
    train_bundle(bundle, out)
    history = [json.loads((folder / layout.RESULT).read_text())["history"] for folder in (result, out)]
    assert history[0] == history[1]


def test_a_result_of_other_parameters_is_refused(workspace: Workspace, result: Path) -> None:
    other = CONFIG.model_copy(update={"distill": CONFIG.distill.model_copy(update={"logit_weight": 2.0})})
    with pytest.raises(ConfigError, match=r"another 'distill\.logit_weight' .* 2\.0 instead of 1\.0"):
        collect(result, other, workspace)


def test_a_result_of_another_teacher_is_refused(workspace: Workspace, result: Path, tmp_path: Path) -> None:
    elsewhere = Workspace(tmp_path)
    torch.manual_seed(1)
    save_weights(elsewhere.path(names.TEACHER_WEIGHTS), build_model("v1-487k"), architecture="v1-487k")
    with pytest.raises(ConfigError, match="another 'teacher' than"):
        collect(result, CONFIG, elsewhere)
    assert not (tmp_path / names.DISTILLED_WEIGHTS).exists()


def test_a_training_that_has_not_ended_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is written when the training ends: run it again"):
        collect(tmp_path, CONFIG, workspace)


def test_a_cut_student_is_refused(workspace: Workspace, result: Path, tmp_path: Path) -> None:
    (tmp_path / layout.RESULT).write_bytes((result / layout.RESULT).read_bytes())
    (tmp_path / layout.STUDENT).write_bytes((result / layout.STUDENT).read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cannot be used .* fetch it again"):
        collect(tmp_path, CONFIG, workspace)


def test_a_bundle_is_not_mixed_with_other_files(workspace: Workspace, bundle: Path) -> None:
    with pytest.raises(DataError, match="is not empty; give a new folder"):
        pack(
            CONFIG,
            data=workspace.root / "data",
            teacher=workspace.root / names.TEACHER_WEIGHTS,
            initial=None,
            data_version="unknown",
            target=bundle,
        )


def test_the_arrays_of_the_teacher_are_its_weights(workspace: Workspace, bundle: Path) -> None:
    expected = load_model(workspace.root / names.TEACHER_WEIGHTS).state_dict()
    with np.load(bundle / layout.TEACHER) as arrays:
        assert set(arrays.files) == set(expected)
        assert all(np.array_equal(arrays[name], value.numpy()) for name, value in expected.items())
