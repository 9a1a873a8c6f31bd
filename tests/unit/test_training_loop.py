"""The fitting loop: it learns, stops with a clear word, and goes on exactly where it was killed."""

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherface.errors import FeatherFaceError, ModelError
from featherface.structures import Batch, Targets
from featherface.training import loop, progress
from featherface.training.checkpoint import Checkpoint
from featherface.training.loop import EpochReport, FitResult, StepReport, fit
from featherface.training.optim import LearningRate, WeightAverage
from featherface.training.state import Checkpointing, Recipe, TrainingState

STEPS = 5


class Network(nn.Module):
    """A convolution with batch norm and dropout: weights, statistics, counters and ambient randomness."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))  # type: ignore[no-any-return]


def make_network() -> Network:
    torch.manual_seed(0)
    return Network()


def make_batch(epoch: int, batch_idx: int) -> Batch:
    generator = torch.Generator().manual_seed(1000 * epoch + batch_idx)
    flags = torch.zeros(2, 0, dtype=torch.bool)
    targets = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, 5, 2), flags, flags, flags)
    images = torch.rand(2, 3, 12, 10, generator=generator)
    return Batch(images, targets, (f"{epoch}_{batch_idx}_a.jpg", f"{epoch}_{batch_idx}_b.jpg"))


def make_batches(epoch: int, first: int) -> Iterator[Batch]:
    return (make_batch(epoch, batch_idx) for batch_idx in range(first, STEPS))


class Experiment:
    """One training of the tiny network, whose loss also draws from generators of its own."""

    def __init__(self, *, epochs: int = 2, **recipe: object) -> None:
        self.network = make_network()
        self.adapter = nn.Conv2d(1, 1, 1)
        self.generators = {
            "torch": torch.Generator().manual_seed(1),
            "numpy": np.random.default_rng(2),
        }
        self.recipe = Recipe(epochs=epochs, steps_per_epoch=STEPS, lr=0.01, **recipe)  # type: ignore[arg-type]
        self.seen: list[str] = []

    def loss(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        self.seen.append(batch.sample_ids[0])
        noise = torch.rand((), generator=self.generators["torch"])  # type: ignore[arg-type]
        scale = 1 + 0.1 * self.generators["numpy"].random()  # type: ignore[union-attr]
        predicted = self.adapter(self.network(batch.images))
        return {"fit": scale * (predicted - noise).square().mean(), "soft": progress * predicted.abs().mean()}

    def run(
        self,
        path: Path | None = None,
        *,
        fingerprint: str = "f",
        every_s: float = 1e9,
        on_step: Callable[[StepReport], None] | None = None,
        on_epoch_end: Callable[[EpochReport], None] | None = None,
    ) -> FitResult:
        return fit(
            self.network,
            make_batches,
            self.loss,
            recipe=self.recipe,
            auxiliary=self.adapter,
            checkpointing=Checkpointing(path, fingerprint, every_s) if path is not None else None,
            generators=self.generators,
            on_step=on_step,
            on_epoch_end=on_epoch_end,
        )

    def state(self, result: FitResult) -> dict[str, Tensor]:
        """All that must be equal, bit for bit."""
        modules = {"live": self.network, "adapter": self.adapter, "average": result.averaged}
        return {f"{n}.{k}": t for n, module in modules.items() for k, t in module.state_dict().items()}


def assert_same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums are equal bit for bit only if they are split in the same way."""
    torch.set_num_threads(1)


class Killed(BaseException):
    """Stands for the end of the process."""


def killer(at_step: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.step == at_step:
            raise Killed

    return on_step


def test_loss_falls_and_reports_tell_of_it() -> None:
    steps: list[StepReport] = []
    epochs: list[EpochReport] = []
    experiment = Experiment(epochs=8)
    result = experiment.run(on_step=steps.append, on_epoch_end=epochs.append)
    assert [report.step for report in steps] == list(range(8 * STEPS))
    assert [report.epoch for report in epochs] == list(range(8))
    assert epochs[-1].losses["fit"] < 0.75 * epochs[0].losses["fit"]
    first_epoch = [report.losses["fit"] for report in steps[:STEPS]]
    assert epochs[0].losses["fit"] == pytest.approx(sum(first_epoch) / STEPS)
    assert epochs[0].losses["loss"] == pytest.approx(epochs[0].losses["fit"] + epochs[0].losses["soft"])
    assert result.history[3] == {"epoch": 3, "lr": epochs[3].lr, **epochs[3].losses}
    assert all(report.images_per_s > 0 for report in epochs)
    assert epochs[0].averaged is result.averaged
    assert not result.averaged.training
    assert experiment.network.training
    assert all(report.grad_norm > 0 for report in steps)


def test_learning_rate_and_clipping_reach_the_weights() -> None:
    # SGD without momentum's history: the first step moves by at most lr x (1 + momentum) x clip.
    experiment = Experiment(
        epochs=1, optimizer="sgd", grad_clip_norm=1e-3, weight_decay=0.0, schedule="cosine"
    )
    before = {name: p.detach().clone() for name, p in experiment.network.named_parameters()}
    after: dict[str, Tensor] = {}
    rates: list[float] = []

    def on_step(report: StepReport) -> None:
        rates.append(report.lr)
        if report.step == 0:
            after.update({name: p.detach().clone() for name, p in experiment.network.named_parameters()})
            assert report.grad_norm > 1e-3

    experiment.run(on_step=on_step)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm().item()
    assert 0 < moved <= rates[0] * 1.9 * 1e-3 * 1.001


def test_a_training_starts_as_its_recipe_says() -> None:
    recipe = Recipe(
        epochs=3,
        steps_per_epoch=STEPS,
        optimizer="sgd",
        lr=0.01,
        weight_decay=0.03,
        schedule="cosine",
        warmup_fraction=0.3,
        ema_decay=0.9,
        ema_power=2.0,
    )
    network, adapter = make_network(), nn.Conv2d(1, 1, 1)
    state = TrainingState.start(network, recipe, auxiliary=adapter, generators={})
    expected = LearningRate(peak=0.01, total_steps=3 * STEPS, schedule="cosine", warmup_fraction=0.3)
    assert state.learning_rate == expected
    assert isinstance(state.optimizer, torch.optim.SGD)
    assert [group["weight_decay"] for group in state.optimizer.param_groups] == [0.03, 0.0]
    trained = sum(len(group["params"]) for group in state.optimizer.param_groups)
    assert trained == len([*network.parameters(), *adapter.parameters()])
    average = WeightAverage(make_network(), decay=0.9, power=2.0)
    for _ in range(5):
        with torch.no_grad():
            network.head.weight.add_(1)
        for each in (average, state.average):
            each.update(network)
    torch.testing.assert_close(state.average.module.head.weight, average.module.head.weight)


def test_progress_runs_over_the_whole_training() -> None:
    network = make_network()
    seen: list[float] = []

    def step_loss(batch: Batch, progress: float) -> dict[str, Tensor]:
        seen.append(progress)
        return {"loss": network(batch.images).mean()}

    fit(network, make_batches, step_loss, recipe=Recipe(epochs=2, steps_per_epoch=STEPS))
    assert seen == [step / (2 * STEPS) for step in range(2 * STEPS)]


def test_average_takes_in_every_step() -> None:
    experiment = Experiment(ema_decay=0.5)  # above the warm-up's decay of the first eight updates
    kernels: list[Tensor] = []
    start = experiment.network.head.weight.detach().clone()
    result = experiment.run(on_step=lambda _: kernels.append(experiment.network.head.weight.detach().clone()))
    expected = start
    for update, kernel in enumerate(kernels, start=1):
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * kernel
    averaged = result.averaged.get_parameter("head.weight")
    torch.testing.assert_close(averaged.detach(), expected)
    assert not torch.equal(averaged, kernels[-1])


def test_images_arrive_channels_last() -> None:
    layouts: list[bool] = []

    def step_loss(batch: Batch, _progress: float) -> dict[str, Tensor]:
        layouts.append(batch.images.is_contiguous(memory_format=torch.channels_last))
        return {"loss": network(batch.images).mean()}

    network = make_network()
    fit(network, make_batches, step_loss, recipe=Recipe(epochs=1, steps_per_epoch=STEPS))
    assert layouts == [True] * STEPS
    assert network.body[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("killed_at", [0, 2, STEPS - 1, STEPS, 2 * STEPS - 1])
def test_run_killed_at_a_step_ends_with_the_same_bits(killed_at: int, optimizer: str, tmp_path: Path) -> None:
    whole = Experiment(optimizer=optimizer)
    expected = whole.run()

    path = tmp_path / "training.pt"
    with pytest.raises(Killed):
        Experiment(optimizer=optimizer).run(path, every_s=0.0, on_step=killer(killed_at))
    torch.manual_seed(99)  # another process has another state
    resumed = Experiment(optimizer=optimizer)
    nn.init.zeros_(resumed.network.head.weight)
    if killed_at == 0:  # killed before the first checkpoint: nothing to go on from
        assert not path.exists()
        resumed = Experiment(optimizer=optimizer)
    result = resumed.run(path, every_s=0.0)
    assert_same_bits(resumed.state(result), whole.state(expected))
    assert result.history == expected.history
    # Killed before the checkpoint of that step was written, so that step is taken again, and none before it.
    assert resumed.seen == whole.seen[killed_at:]


def test_two_epochs_equal_one_and_a_restart_and_one(tmp_path: Path) -> None:
    whole = Experiment()
    expected = whole.run()
    path = tmp_path / "training.pt"

    def stop_after_first(report: EpochReport) -> None:
        raise Killed

    with pytest.raises(Killed):
        Experiment().run(path, on_epoch_end=stop_after_first)
    resumed = Experiment()
    reported: list[int] = []
    result = resumed.run(path, on_epoch_end=lambda report: reported.append(report.epoch))
    assert_same_bits(resumed.state(result), whole.state(expected))
    assert resumed.seen == whole.seen[STEPS:]
    assert result.history == expected.history
    assert reported == [0, 1]  # the callback that died is called again


def test_finished_training_is_returned_without_a_step(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    first = Experiment()
    expected = first.run(path)
    again = Experiment()
    reported: list[int] = []
    result = again.run(path, on_epoch_end=lambda report: reported.append(report.epoch))
    assert again.seen == []
    assert reported == []
    assert_same_bits(again.state(result), first.state(expected))
    assert result.history == expected.history


@pytest.mark.parametrize("what", ["fingerprint", "recipe"])
def test_checkpoint_of_another_training_is_not_gone_on_with(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "training.pt"
    Experiment().run(path)
    other = Experiment(ema_decay=0.9) if what == "recipe" else Experiment()
    other.run(path, fingerprint="g" if what == "fingerprint" else "f")
    assert len(other.seen) == 2 * STEPS
    assert "is of another configuration or data: not gone on with" in caplog.text


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    Experiment().run(path)
    other = Experiment()
    other.network.head = nn.Conv2d(8, 1, 3)
    with pytest.raises(ModelError, match=r"does not fit this training \(.+\); delete it"):
        other.run(path)


def test_checkpoints_inside_an_epoch_come_by_the_clock(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    present: list[bool] = []
    Experiment(epochs=1).run(path, every_s=1e9, on_step=lambda _: present.append(path.exists()))
    assert present == [False] * STEPS
    assert path.exists()


def test_checkpoints_inside_an_epoch_are_so_many_seconds_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    experiment = Experiment(epochs=1)

    def keep(path: Path, checkpoint: Checkpoint) -> None:
        kept.append(checkpoint.batch_idx)

    # A second for each step.
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(len(experiment.seen)))
    monkeypatch.setattr(loop, "save_checkpoint", keep)
    experiment.run(tmp_path / "training.pt", every_s=2.0)
    assert kept == [2, 4, STEPS, 0], "in the epoch, with its last step, and once all that follows is done"


def test_loss_that_is_not_finite_stops_with_epoch_batch_and_images(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    experiment = Experiment()
    plain = experiment.loss

    def loss(batch: Batch, progress: float) -> dict[str, Tensor]:
        losses = plain(batch, progress)
        return losses | {
            "box": losses["fit"] * (float("nan") if batch.sample_ids[0].startswith("1_2") else 0)
        }

    experiment.loss = loss  # type: ignore[method-assign]
    with pytest.raises(
        FeatherFaceError, match=r"epoch 2, batch 3 \(images 1_2_a\.jpg, 1_2_b\.jpg\): fit = .*box = nan"
    ):
        experiment.run(path, every_s=0.0)
    survivor = Experiment()
    survivor.run(path)
    assert survivor.seen[0] == "1_2_a.jpg"
    assert all(bool(parameter.isfinite().all()) for parameter in experiment.network.parameters())


def test_gradient_that_is_not_finite_stops_before_the_step() -> None:
    network = make_network()
    before = network.head.weight.detach().clone()

    def step_loss(batch: Batch, _progress: float) -> dict[str, Tensor]:
        return {"root": (network(batch.images).mean() * 0).sqrt()}  # the root of 0 is 0, its slope is not

    with pytest.raises(FeatherFaceError, match=r"epoch 1, batch 1 .* the norm of the gradient = nan; lower"):
        fit(network, make_batches, step_loss, recipe=Recipe(epochs=1, steps_per_epoch=STEPS))
    assert torch.equal(network.head.weight, before)


@pytest.mark.parametrize(("promised", "message"), [(6, "6 batches, 5 came"), (4, "4 batches, more came")])
def test_epoch_of_another_length_is_refused(promised: int, message: str) -> None:
    network = make_network()
    seen: list[StepReport] = []
    with pytest.raises(FeatherFaceError, match=f"epoch 1 was to have {message}: did the data set change"):
        fit(
            network,
            make_batches,
            lambda batch, _: {"loss": network(batch.images).mean()},
            recipe=Recipe(epochs=1, steps_per_epoch=promised),
            on_step=seen.append,
        )
    assert len(seen) == min(promised, STEPS)


def test_whoever_looks_at_a_network_between_epochs_does_not_stop_its_learning() -> None:
    experiment = Experiment()
    modes: list[tuple[bool, bool]] = []

    def look(_report: EpochReport) -> None:
        experiment.network.eval()
        experiment.adapter.eval()

    experiment.run(
        on_step=lambda _: modes.append((experiment.network.training, experiment.adapter.training)),
        on_epoch_end=look,
    )
    assert modes == [(True, True)] * 2 * STEPS


def test_batches_are_closed_when_the_training_breaks_down() -> None:
    closed: list[int] = []
    given: list[Iterator[Batch]] = []  # who holds on to it must not keep it open

    def closing(epoch: int, first: int) -> Iterator[Batch]:
        try:
            yield from make_batches(epoch, first)
        finally:
            closed.append(epoch)

    def batches(epoch: int, first: int) -> Iterator[Batch]:
        given.append(closing(epoch, first))
        return given[-1]

    def step_loss(_batch: Batch, _progress: float) -> dict[str, Tensor]:
        raise Killed

    with pytest.raises(Killed) as caught:
        fit(make_network(), batches, step_loss, recipe=Recipe(epochs=1, steps_per_epoch=STEPS))
    assert closed == [0]
    assert caught.value.__traceback__ is not None  # whose frames still hold the iterator


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs and steps_per_epoch must be 1 or more, got 0 and 5"),
        ({"grad_clip_norm": 0.0}, "grad_clip_norm must be above 0, got 0"),
    ],
)
def test_wrong_recipe_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**({"epochs": 1, "steps_per_epoch": 5} | change))  # type: ignore[arg-type]


def test_log_has_one_line_per_epoch(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="featherface.training"):
        Experiment(epochs=3).run()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[1].startswith("epoch 2/3: loss ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_is_shown_at_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, is_shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        Experiment(epochs=2).run()
        assert ("train 2/2: 100%" in stream.getvalue()) == is_shown


def test_training_needs_no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda _name: None)
    Experiment(epochs=1).run()
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_process_killed_by_the_system_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at the seventh step of ten, in a process of its own; then once more through to the end."""
    path = tmp_path / "training.pt"
    command = [sys.executable, __file__, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([*command, "7"], env=environment, check=False, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    resumed = Experiment()
    result = resumed.run(path)
    assert 0 < len(resumed.seen) < 2 * STEPS
    whole = Experiment()
    expected = whole.run()
    assert_same_bits(resumed.state(result), whole.state(expected))
    assert result.history == expected.history


if __name__ == "__main__":

    def _kill_me(report: StepReport) -> None:
        if report.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    Experiment().run(Path(sys.argv[1]), every_s=0.0, on_step=_kill_me)


def test_running_out_of_memory_says_what_to_lower(tmp_path: Path) -> None:
    experiment = Experiment()

    def hungry(batch: Batch, progress: float) -> dict[str, Tensor]:
        if experiment.seen and experiment.seen[-1].startswith("1_1"):
            torch.empty(2**52)  # 16 PiB
        return experiment.loss(batch, progress)

    with pytest.raises(FeatherFaceError) as refused:
        fit(
            experiment.network,
            make_batches,
            hungry,
            recipe=experiment.recipe,
            auxiliary=experiment.adapter,
            checkpointing=Checkpointing(tmp_path / "c.pt", "f", every_s=0),
            generators=experiment.generators,
        )
    assert str(refused.value) == (
        "out of memory at a batch of 2 views of 10x12 px: lower batch_size, image_size_px or view_scales; "
        "the last checkpoint is kept"
    )
    finished = Experiment().run(tmp_path / "c.pt", every_s=0)
    assert [entry["epoch"] for entry in finished.history] == [0.0, 1.0]


def test_other_errors_of_a_step_are_not_taken_for_it() -> None:
    experiment = Experiment()

    def broken(batch: Batch, progress: float) -> dict[str, Tensor]:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(experiment.network, make_batches, broken, recipe=experiment.recipe)
