"""Claims as they are written down, the trainings that answer them, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from featherface.claims.statistics import Estimate
from featherface.config import Count, Section, Seeds, load_profile, validated, with_settings
from featherface.errors import ConfigError
from featherface.names import Architecture
from featherface.trials.plan import Cell, CellName, Development
from featherface.yaml_files import read_yaml

_ADVICE = "give a ledger, a YAML file with claims and the cells that answer them, such as claims.yaml"
Verdict = Literal["supported", "refuted", "inconclusive"]
Network = Literal["shipped", "teacher"]


class Gain(Section):
    """So many points of mean AP more: `contrast` says of what over what."""

    claim: str
    where: str
    """In the design document."""
    points: float
    contrast: dict[CellName, float] = Field(min_length=2)
    """Weight of each cell: `{all: 1, none: -1}`."""


class ParameterCount(Section):
    """So many parameters: counted, not trained."""

    claim: str
    where: str
    architecture: Architecture
    at_least: Count
    at_most: Count
    """Both inclusive: "244K" is 243,500 to 244,499."""


class ModelClaim(Section):
    """What a finished network reaches on the validation photographs, or is ahead of another one by."""

    claim: str
    where: str
    points: float
    model: Network
    against: Network | None = None
    """None: the claim is of a level, not of a gain."""


class Budget(Section):
    """How long and how often each cell is trained."""

    epochs: Count
    seeds: Seeds = Field(min_length=2)
    common: dict[str, Any] = Field(default={})
    """Dotted keys of params.yaml and their values, for every cell."""


class Ledger(Section):
    """What `claims.yaml` holds."""

    document: str
    profile: str = "widerface"
    budgets: dict[str, Budget] = Field(min_length=1)
    cells: dict[CellName, dict[str, Any]] = Field(min_length=1)
    gains: dict[str, Gain] = Field(min_length=1)
    models: dict[str, ModelClaim] = Field(default={})
    counts: dict[str, ParameterCount] = Field(default={})
    development: Development = Development()
    measure_costs: bool = True
    """Parameters, multiply-adds and latency of the innovations: a minute and a half of a quiet machine."""


@dataclass(frozen=True)
class Answer:
    """What a claim came to."""

    name: str
    claim: str
    where: str
    verdict: Verdict
    finding: str
    claimed_points: float | None = None
    estimate: Estimate | None = None
    replication: Estimate | None = None
    """The same on the validation photographs, which had no part in the verdict."""
    is_level: bool = False
    """A level of AP, not a gain."""


def read_ledger(path: Path) -> Ledger:
    """Read and check a ledger.

    Raises:
        ConfigError: the file is no ledger, or a claim speaks of a cell that is not in it.
    """
    ledger = validated(Ledger, read_yaml(path, advice=_ADVICE), str(path))
    for name, gain in ledger.gains.items():
        unknown = sorted(set(gain.contrast) - set(ledger.cells))
        if unknown:
            raise ConfigError(f"{path}: claim '{name}' speaks of cell {unknown[0]!r}, which is not in it")
        if abs(sum(gain.contrast.values())) > 1e-9:
            raise ConfigError(f"{path}: claim '{name}': the weights of a contrast add up to 0")
    return ledger


def cells_of(ledger: Ledger, budget: str, *, where: str) -> tuple[Cell, ...]:
    """The trainings that a budget asks for, seed by seed: a ledger that is cut off has whole seeds.

    Raises:
        ConfigError: there is no such budget, or a cell names a key that params.yaml does not have.
    """
    if budget not in ledger.budgets:
        raise ConfigError(f"--budget {budget}: there is no such budget; known: {', '.join(ledger.budgets)}")
    chosen, base = ledger.budgets[budget], load_profile(ledger.profile)
    cells = []
    for seed in chosen.seeds:
        for name, changes in ledger.cells.items():
            settings = {
                "distill.train.epochs": chosen.epochs,
                "distill.train.seed": seed,
                **chosen.common,
                **changes,
            }
            config = with_settings(base, settings, f"{where}: cell '{name}'")
            cells.append(Cell(name, seed, config, ledger.development))
    return tuple(cells)


def judge_gain(
    name: str, gain: Gain | ModelClaim, found: Estimate, replication: Estimate | None = None
) -> Answer:
    """Supported, refuted or neither; the interval covers seeds and images, and all claims together.

    Refuted: the interval lies below the claimed gain, be there a smaller one or none. Supported: it lies
    above nothing and reaches the claimed gain. Neither: the experiment was too small to tell.
    """
    verdict: Verdict
    if found.high < gain.points:
        verdict = "refuted"
        finding = "less than claimed, but more than nothing" if found.low > 0 else "less than claimed"
        if found.high < 0:
            finding = "a loss"
    elif found.low > 0:
        verdict, finding = "supported", "more than nothing, and as much as claimed is possible"
    else:
        verdict, finding = "inconclusive", "neither nothing nor the claimed gain can be ruled out"
    return Answer(name, gain.claim, gain.where, verdict, finding, gain.points, found, replication)


def judge_level(name: str, claim: ModelClaim, found: Estimate) -> Answer:
    """Supported: all of the interval reaches the claimed level; refuted: none of it does."""
    verdict: Verdict = "inconclusive"
    finding = "the claimed level is possible, and so is less"
    if found.high < claim.points:
        verdict, finding = "refuted", "less than claimed"
    elif found.low >= claim.points:
        verdict, finding = "supported", "at least as much as claimed"
    return Answer(name, claim.claim, claim.where, verdict, finding, claim.points, found, is_level=True)


def judge_count(name: str, count: ParameterCount, params: Mapping[Architecture, int]) -> Answer:
    """Counted exactly, so there is no doubt left."""
    got = params[count.architecture]
    verdict: Verdict = "supported" if count.at_least <= got <= count.at_most else "refuted"
    return Answer(name, count.claim, count.where, verdict, f"{count.architecture} has {got:,} parameters")
