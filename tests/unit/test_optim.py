"""Learning rate, parameter groups and the running average of weights."""

import itertools

import pytest
import torch
from torch import nn

from featherface.training.optim import LearningRate, WeightAverage, build_optimizer, set_learning_rate


def tiny_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_one_cycle_starts_low_peaks_after_the_warm_up_and_ends_near_nothing() -> None:
    rate = LearningRate(peak=1.0, total_steps=100, schedule="one_cycle", warmup_fraction=0.2)
    rates = [rate.at(step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[20] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 / 25e4)
    assert all(a < b for a, b in itertools.pairwise(rates[:21]))
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))


def test_one_cycle_is_that_of_torch_where_the_warm_up_is_a_whole_number_of_steps() -> None:
    # torch peaks at step fraction * total - 1; ours peaks one later, hence 0.3 * 100 here and 0.31 there.
    optimizer = torch.optim.SGD(tiny_network().parameters(), lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2.0, total_steps=100, pct_start=0.31, cycle_momentum=False
    )
    ours = LearningRate(peak=2.0, total_steps=100, schedule="one_cycle", warmup_fraction=0.3)
    for step in range(100):
        assert ours.at(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        if step < 99:
            theirs.step()


def test_cosine_rises_in_equal_steps_and_falls_to_zero() -> None:
    rate = LearningRate(peak=0.8, total_steps=14, schedule="cosine", warmup_fraction=4 / 14)
    assert [rate.at(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert rate.at(13) == pytest.approx(0)
    assert rate.at(4 + 3) == pytest.approx(0.8 * 0.75)  # a third of the way down: (1 + cos 60 degrees) / 2


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("total_steps", [1, 2, 7])
def test_rate_is_between_zero_and_the_peak(schedule: str, warmup_fraction: float, total_steps: int) -> None:
    rate = LearningRate(0.5, total_steps, schedule, warmup_fraction)  # type: ignore[arg-type]
    rates = [rate.at(step) for step in range(total_steps)]
    assert all(0 <= value <= 0.5 for value in rates)
    assert max(rates) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total_steps": 0}, "total_steps must be 1 or more, got 0"),
        ({"warmup_fraction": 1.5}, r"warmup_fraction must be in \[0, 1\], got 1.5"),
        ({"schedule": "steps"}, "schedule must be one_cycle or cosine, got 'steps'"),
    ],
)
def test_wrong_settings_of_the_rate_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearningRate(**({"peak": 1.0, "total_steps": 10} | change))  # type: ignore[arg-type]


# Nesterov's first step goes 1 + momentum times as far.
@pytest.mark.parametrize(("name", "kept"), [("adamw", 1 - 0.1 * 0.5), ("sgd", 1 - 0.1 * 0.5 * 1.9)])
def test_norms_and_biases_do_not_decay(name: str, kept: float) -> None:
    network = tiny_network()
    optimizer = build_optimizer([network], name=name, lr=0.1, weight_decay=0.5)  # type: ignore[arg-type]
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    optimizer.step()
    changed = {
        key for key, parameter in network.named_parameters() if not torch.equal(before[key], parameter)
    }
    assert changed == {"0.weight", "2.weight"}
    torch.testing.assert_close(network[0].weight, before["0.weight"] * kept)


def test_frozen_parameters_are_left_out_and_other_modules_taken_in() -> None:
    network, auxiliary = tiny_network(), nn.Conv2d(2, 5, 1, bias=False)
    network[0].requires_grad_(False)
    optimizer = build_optimizer([network, auxiliary], lr=0.1, weight_decay=0.0)
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(p) for p in (*network[1].parameters(), *network[2].parameters(), auxiliary.weight)}


def test_learning_rate_is_set_in_every_group() -> None:
    optimizer = build_optimizer([tiny_network()], lr=0.1, weight_decay=0.1)
    set_learning_rate(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025]


def test_unknown_optimizer_and_nothing_to_train_are_refused() -> None:
    with pytest.raises(ValueError, match="optimizer must be adamw or sgd, got 'lion'"):
        build_optimizer([tiny_network()], name="lion", lr=0.1, weight_decay=0.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no parameter to train"):
        build_optimizer([nn.ReLU()], lr=0.1, weight_decay=0.0)


def test_average_moves_by_one_minus_the_decay() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = WeightAverage(network, decay=0.9)
    average.num_updates = 10_000  # long after the warm-up
    nn.init.constant_(network.weight, 1.0)
    average.update(network)
    assert average.module.weight.item() == pytest.approx(0.1)
    average.update(network)
    assert average.module.weight.item() == pytest.approx(0.19)
    assert network.weight.item() == 1.0


def test_average_follows_quickly_at_first() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = WeightAverage(network, decay=0.999)
    nn.init.constant_(network.weight, 1.0)
    average.update(network)
    assert average.module.weight.item() == pytest.approx(1 - 2 / 11)


@pytest.mark.parametrize("power", [0.0, 1.0, 8.0])
def test_until_the_decay_takes_over_a_step_weighs_its_number_to_the_power(power: float) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = WeightAverage(network, decay=0.99999, power=power)
    for step in range(1, 1001):
        nn.init.constant_(network.weight, step / 1000)
        average.update(network)
    # The mean of x in [0, 1], weighed by x ** power.
    assert average.module.weight.item() == pytest.approx((power + 1) / (power + 2), rel=0.01)


def test_average_takes_in_batch_statistics_and_copies_counters() -> None:
    network = tiny_network()
    average = WeightAverage(network, decay=0.0)
    network(torch.rand(2, 3, 8, 8) + 5)
    average.update(network)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(average.module.state_dict()[name], tensor)
    assert average.module[1].num_batches_tracked.item() == 1


def test_average_neither_trains_nor_shares_memory_with_the_network() -> None:
    network = tiny_network()
    average = WeightAverage(network, decay=0.5)
    assert not average.module.training
    assert all(not parameter.requires_grad for parameter in average.module.parameters())
    before = average.module[0].weight.clone()
    nn.init.constant_(network[0].weight, 3.0)
    torch.testing.assert_close(average.module[0].weight, before)


def test_average_goes_on_from_its_state() -> None:
    network = tiny_network()
    average, restored = WeightAverage(network, decay=0.99), WeightAverage(tiny_network(), decay=0.99)
    for value in (1.0, 2.0):
        nn.init.constant_(network[0].weight, value)
        average.update(network)
    restored.load_state_dict(average.state_dict())
    for one in (average, restored):
        one.update(network)
    assert torch.equal(average.module[0].weight, restored.module[0].weight)
    assert restored.num_updates == 3


def test_decay_of_one_and_negative_power_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), got 1"):
        WeightAverage(tiny_network(), decay=1.0)
    with pytest.raises(ValueError, match="the power of the average must be 0 or more, got -1"):
        WeightAverage(tiny_network(), decay=0.9, power=-1)
