"""Two processes with half of each batch end where one with whole batches does."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiers import slow
from torch import nn
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from featherface import launching, parallel
from featherface.config import Config, dump_config
from featherface.data.synthetic import synthesize_dataset
from featherface.errors import FeatherFaceError
from featherface.inference.weights import save_weights
from featherface.launching import become_processes
from featherface.models.build import build_model
from featherface.parallel import (
    BatchNormOverProcesses,
    share_batch_norms,
    sum_over_processes,
    training_device,
    with_mean_gradients,
)
from featherface.stages import names

ROOT = Path(__file__).resolve().parents[2]
TWO_PROCESSES = Config.model_validate(
    {
        "distill": {
            "train": {
                **{"epochs": 6, "batch_size": 4, "image_size_px": 64, "num_threads": 1},
                **{"num_processes": 2, "sync_batch_norm": False},
            }
        }
    }
)
SCRIPT = '''
"""Distill a student for a few steps and write its weights: python script.py DATA OUT ENABLED.

In double precision: in single precision the choice of hard negatives, all alike in an untrained network,
turns rounding into other gradients, and the statistics of maps of four pixels make much of it.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from featherface.config import DistillConfig, ModelConfig
from featherface.data.widerface import open_widerface
from featherface.distillation.student import StudentTraining
from featherface.inference.weights import save_weights
from featherface.models.build import build_model
from featherface.training.detector import fit_detector

data, out, enabled = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"
train = {"epochs": 2, "batch_size": 4, "image_size_px": 64, "num_threads": 1, "optimizer": "sgd", "lr": 0.001,
         "view_scales": [1.0, 1.5]}
distill = DistillConfig.model_validate({"enabled": enabled, "train": train})
torch.manual_seed(0)
teacher = build_model("v1-487k").eval()
training = StudentTraining(ModelConfig(), distill, teacher)
for module in (training.student, training.adapters):
    if module is not None:
        module.double()


def losses(batch, progress):
    return training.losses(replace(batch, images=batch.images.double()), progress)


result = fit_detector(training.student, losses, open_widerface(data, "train"), train=distill.train,
                      min_face_px=2, auxiliary=training.adapters)
if os.environ.get("RANK", "0") == "0":
    save_weights(out, result.averaged, architecture="v2-ultra", innovations=ModelConfig().innovations)
    print(len(result.history), result.history[-1]["loss"])
'''


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    synthesize_dataset(folder, num_train=12, num_val=1, image_hw=(120, 160), seed=5, num_workers=1)
    return folder


def train(script: Path, *arguments: object, processes: int) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("enabled", [slow(True, name="distilled"), pytest.param(False, id="twin")])
def test_two_processes_end_with_the_weights_of_one(scenes: Path, tmp_path: Path, enabled: bool) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    printed = [
        train(script, scenes, out, enabled, processes=number) for out, number in ((alone, 1), (together, 2))
    ]
    epochs, losses = zip(*(line.split() for line in printed), strict=True)
    assert epochs == ("2", "2")
    assert float(losses[1]) == pytest.approx(float(losses[0]), rel=1e-7)
    expected, got = load_file(alone), load_file(together)
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        difference = float((got[name] - tensor).abs().max())
        assert difference <= 1e-6 * max(1.0, float(tensor.abs().max())), name


@pytest.mark.slow
def test_a_stage_of_two_processes_goes_on_after_a_kill_with_the_same_bits(
    scenes: Path, tmp_path: Path
) -> None:
    """Through the command line, each process with its own batch statistics."""
    once, killed = tmp_path / "once", tmp_path / "killed"
    for root in (once, killed):
        root.mkdir()
        shutil.copytree(scenes, root / "data")
        (root / "params.yaml").write_text(dump_config(TWO_PROCESSES), encoding="utf-8")
        report = root / names.VALIDATION_REPORT
        report.parent.mkdir(parents=True)
        report.write_text("{}", encoding="utf-8")
        teacher = root / names.TEACHER_WEIGHTS
        torch.manual_seed(0)
        save_weights(teacher, build_model("v1-487k"), architecture="v1-487k")
    command = [sys.executable, "-m", "featherface", "run", "distill", "--root"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(once)], check=True, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.count("distill: ") == 1  # two processes, and one speaks
    process = subprocess.Popen([*command, str(killed)], env=environment, stderr=subprocess.DEVNULL)
    checkpoint = killed / "state/distill/checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert checkpoint.exists(), "the stage ended before it could be killed"
    assert not (killed / names.DISTILLED_WEIGHTS).exists()
    subprocess.run([*command, str(killed)], check=True, env=environment, capture_output=True, timeout=240)
    assert (killed / names.DISTILLED_WEIGHTS).read_bytes() == (once / names.DISTILLED_WEIGHTS).read_bytes()


def test_alone_sums_and_norms_are_the_plain_ones() -> None:
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    assert sum_over_processes(x) is x
    plain = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6))
    plain[1].weight.requires_grad_(requires_grad=False)
    torch.manual_seed(0)
    want = plain(x)
    state = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    share_batch_norms(plain)
    assert isinstance(plain[1], BatchNormOverProcesses)
    assert [parameter.requires_grad for parameter in plain[1].parameters()] == [False, True]
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.state_dict().items())
    torch.testing.assert_close(plain(x), want)


class SinceTorch213:
    def __init__(
        self,
        module: nn.Module,
        broadcast_buffers: bool | None = None,
        forward_sync_buffers: bool | None = None,
    ) -> None:
        self.module = module
        # Both, or the old one, make torch warn.
        self.shares_buffers = forward_sync_buffers if broadcast_buffers is None else None


class BeforeTorch213:
    def __init__(self, module: nn.Module, broadcast_buffers: bool = True) -> None:
        self.module = module
        self.shares_buffers = broadcast_buffers


@pytest.mark.parametrize("version", [SinceTorch213, BeforeTorch213])
def test_buffers_are_shared_at_the_start_alone_with_every_torch(
    monkeypatch: pytest.MonkeyPatch, version: type
) -> None:
    shared = []
    monkeypatch.setattr(parallel, "DistributedDataParallel", version)
    monkeypatch.setattr(parallel, "take_buffers_of_first", shared.append)
    module = nn.BatchNorm2d(3)
    assert vars(with_mean_gradients(module)) == {"module": module, "shares_buffers": False}
    assert shared == [module]


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("asked", "num_gpus", "outcome"),
    [
        (1, 1, []),
        (2, 0, ["--nproc-per-node=2"]),
        (2, 4, ["--nproc-per-node=2"]),
        (2, 1, ["num_processes is 2, this machine has 1 GPU: training in one process with whole batches"]),
        (
            8,
            3,
            ["num_processes is 8, this machine has 3 GPUs: training in 3 processes", "--nproc-per-node=3"],
        ),
    ],
    ids=["alone", "cpu", "enough", "one", "three"],
)
def test_there_are_no_more_processes_than_gpus(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    asked: int,
    num_gpus: int,
    outcome: list[str],
) -> None:
    pretend_gpus(monkeypatch, num_gpus)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda _program, arguments, _: commands.append(list(arguments)))
    with caplog.at_level(logging.INFO):
        become_processes(asked, ["run", "distill"])
    started = [option for command in commands for option in command if "nproc" in option]
    assert [record.getMessage() for record in caplog.records] + started == outcome


def test_a_process_that_torchrun_started_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 0)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("it was started again"))
    become_processes(2, ["run", "distill"])


@pytest.mark.parametrize(
    ("exit_codes", "end"),
    [
        ({0: -signal.SIGTERM, 1: 2}, 2),
        ({0: 1, 1: 2}, 2),
        ({0: -signal.SIGTERM, 1: -signal.SIGKILL}, "process 1 of this training ended early (SIGKILL)"),
        ({0: 1, 1: -signal.SIGTERM}, "process 0 of this training ended early (exit code 1)"),
        ({0: -signal.SIGTERM}, "process 0 of this training ended early (SIGTERM)"),
        (signal.SIGINT, 130),
    ],
)
def test_what_a_process_said_is_not_said_again(
    monkeypatch: pytest.MonkeyPatch, exit_codes: dict[int, int] | signal.Signals, end: int | str
) -> None:
    def fail() -> None:
        if isinstance(exit_codes, signal.Signals):
            raise SignalException("stopped", exit_codes)
        raise ChildFailedError(
            "featherface", {rank: ProcessFailure(rank, 9, code, "") for rank, code in exit_codes.items()}
        )

    monkeypatch.setattr("torch.distributed.run.main", fail)
    monkeypatch.setattr(logging, "disable", lambda _level: None)
    with pytest.raises(SystemExit) as left:
        launching._launch()
    assert left.value.code == end


def test_one_process_is_started_without_torch() -> None:
    code = (
        "import sys; from featherface.launching import become_processes; become_processes(1, []); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_torchrun_with_more_processes_than_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert training_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(FeatherFaceError, match=r"started 3 processes here, this machine has 2 GPU.*-node 2"):
        training_device()
    pretend_gpus(monkeypatch, 0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert training_device() == torch.device("cpu")
