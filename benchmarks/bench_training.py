"""Training images per second, and where a step's time goes; a plain RetinaFace-MobileNet0.25 beside it.

    python benchmarks/bench_training.py [--steps 20] [--threads 2] [--image-size 320] [--batch-size 16]

Runs: the reference, trained as a whole; the student, alone and with the teacher `v1` in the loop, each
trained as a whole and with the teacher's first stage kept as it is, as the profile `widerface` does. Steps of
all runs are interleaved, so that whatever else the machine does hits them alike; medians count. At the end
the student trains for itself, and how long its steps wait for batches is measured. Views are of drawn scenes;
weights are random, which costs the same. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from retinaface import PARAMETERS, build_retinaface
from torch import Tensor

from featherface.config import DistillConfig, ModelConfig, SynthesizeConfig, TrainConfig
from featherface.data.loader import TrainingLoader
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import open_widerface
from featherface.distillation.student import StudentTraining
from featherface.losses.task import task_losses
from featherface.models.build import build_model
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.models.detector import FeatherFace
from featherface.structures import Batch
from featherface.training.memory import keep_freed_memory
from featherface.training.optim import WeightAverage, build_optimizer

REFERENCE = "retinaface"
NUM_SCENES = 64
WARM_UP_STEPS = 3
NUM_PREFETCHED = 5

Losses = Callable[[Batch, float], Mapping[str, Tensor]]


class Run:
    """One network in training, stepped by hand."""

    def __init__(self, model: FeatherFace, losses: Losses, train: TrainConfig) -> None:
        self.model = model.to(memory_format=torch.channels_last).train()
        self.losses = losses
        self.optimizer = build_optimizer([model], name="adamw", lr=1e-5, weight_decay=train.weight_decay)
        self.average = WeightAverage(model, decay=train.ema_decay, power=train.ema_power)
        self.seconds: dict[str, list[float]] = {"losses": [], "backward": [], "optimizer": []}

    def step(self, batch: Batch) -> None:
        """Take one gradient step and note the seconds of its parts."""
        started = time.perf_counter()
        loss = torch.stack(list(self.losses(batch, 0.5).values())).sum()
        computed = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        differentiated = time.perf_counter()
        self.optimizer.step()
        self.average.update(self.model)
        ended = time.perf_counter()
        for name, seconds in zip(
            self.seconds,
            (computed - started, differentiated - computed, ended - differentiated),
            strict=True,
        ):
            self.seconds[name].append(seconds)

    def report(self, batch_size: int) -> dict[str, float]:
        """Images per second and the share of each part, from the medians."""
        medians = {name: statistics.median(values[WARM_UP_STEPS:]) for name, values in self.seconds.items()}
        total = sum(medians.values())
        shares = {f"share_{name}": round(value / total, 3) for name, value in medians.items()}
        return {"images_per_s": round(batch_size / total, 1), "step_s": round(total, 4), **shares}


def make_runs(train: TrainConfig) -> dict[str, Run]:
    """What is compared, by name."""
    reference = build_retinaface()
    if count_parameters(reference) != PARAMETERS:
        raise AssertionError(f"the reference has {count_parameters(reference):,} parameters")

    def alone(batch: Batch, _progress: float) -> Mapping[str, Tensor]:
        return task_losses(reference, reference(batch.images), batch, train.loss)

    runs = {REFERENCE: Run(reference, alone, train)}
    teacher = build_model("v1").eval()
    for name, settings in {
        "student, all trained": {"enabled": False},
        "student": {"enabled": False, "frozen_stages": 2},
        "student, all trained, with teacher": {},
        "student with teacher": {"frozen_stages": 2},
    }.items():
        distill = DistillConfig.model_validate({"train": train.model_dump(), **settings})
        training = StudentTraining(ModelConfig(), distill, teacher)
        runs[name] = Run(training.student, training.losses, train)
    return runs


def matching_share(runs: Mapping[str, Run], batch: Batch, train: TrainConfig, repeats: int) -> float:
    """Seconds of matching and multibox loss, forward and backward, from given outputs."""
    model = runs["student"].model
    with torch.no_grad():
        outputs = model(batch.images)
    seconds = []
    for _ in range(repeats):
        leaves = type(outputs)(*(output.detach().requires_grad_() for output in outputs))
        started = time.perf_counter()
        torch.stack(list(task_losses(model, leaves, batch, train.loss).values())).sum().backward()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def make_loader(root: Path, train: TrainConfig, num_batches: int) -> TrainingLoader:
    """A loader whose epoch has at least so many batches: it goes through the scenes again and again.

    An epoch of photographs has hundreds of batches, and only before the first of them is nothing prepared.
    """
    scenes = open_widerface(root, "train")
    return TrainingLoader(
        scenes * math.ceil(num_batches * train.batch_size / len(scenes)),
        batch_size=train.batch_size,
        image_size_px=train.image_size_px,
        seed=train.seed,
        augment_config=train.augment,
        min_face_px=6.0,
    )


def waiting_share(run: Run, batches: Iterator[Batch], steps: int, num_prefetched: int) -> float:
    """Share of the time that training alone waits for its batches, once those made ahead are used up.

    As in a first epoch: the photograph of each view is decoded, too.
    """
    waited_s, started = 0.0, time.perf_counter()
    for number in range(num_prefetched + steps):
        if number == num_prefetched:
            waited_s, started = 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(batches)
        waited_s += time.perf_counter() - asked
        run.step(batch)
    return waited_s / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20, help="of each run; medians of them")
    parser.add_argument("--waiting-steps", type=int, default=60, help="of the student for itself, at the end")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=320, help="side of the views in px")
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    train = TrainConfig(batch_size=arguments.batch_size, image_size_px=arguments.image_size)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "scenes"
        scenes = SynthesizeConfig(num_train=NUM_SCENES, num_val=1)
        synthesize_dataset(root, **scenes.model_dump(), progress=False)
        num_batches = WARM_UP_STEPS + arguments.steps + NUM_PREFETCHED + arguments.waiting_steps
        batches = make_loader(root, train, num_batches).batches(epoch=0)
        runs = make_runs(train)
        for number in range(WARM_UP_STEPS + arguments.steps):
            batch = next(batches)
            for run in runs.values():
                run.step(batch)
            if sys.stderr.isatty():
                sys.stderr.write(f"\rstep {number + 1} of {WARM_UP_STEPS + arguments.steps}")
        results = {name: run.report(train.batch_size) for name, run in runs.items()}
        matching_s = matching_share(runs, batch, train, arguments.steps)
        waiting = waiting_share(runs["student"], batches, arguments.waiting_steps, NUM_PREFETCHED)
    reference = results[REFERENCE]["images_per_s"]
    student = runs["student"].model
    report = {
        "runs": {
            name: {**result, "over_reference": round(result["images_per_s"] / reference, 2)}
            for name, result in results.items()
        },
        "with_teacher_over_alone": round(
            results["student with teacher"]["images_per_s"] / results["student"]["images_per_s"], 3
        ),
        "share_of_matching_and_loss": round(matching_s / results["student"]["step_s"], 3),
        "share_of_waiting_for_data": round(waiting, 4),
        "million_multiply_adds_640": {
            REFERENCE: round(count_multiply_adds(build_retinaface(), (640, 640)) / 1e6, 1),
            "student": round(count_multiply_adds(student, (640, 640)) / 1e6, 1),
        },
        "batch_size": train.batch_size,
        "image_size_px": train.image_size_px,
        "threads": arguments.threads,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
