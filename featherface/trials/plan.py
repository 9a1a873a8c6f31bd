"""A plan: which configurations are compared, with which seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from featherface.config import (
    Config,
    Count,
    Positive,
    Section,
    Seeds,
    load_profile,
    validated,
    with_settings,
)
from featherface.yaml_files import read_yaml

_ADVICE = "give a plan, a YAML file with the cells to compare, such as those in experiments/"
CellName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


class Development(Section):
    """The photographs that judge: a part of the training photographs, which no cell trains on."""

    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.07
    seed: int = 0
    scale: Positive = 1.6
    """Pixels of the benchmark's photographs over pixels of the stored ones: 1024 over 640."""
    image_size: Count = 1024
    """Long side in px at which they are looked at."""


class Plan(Section):
    """Cells that differ in what they name; everything else is the profile's, or common to all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = "widerface"
    common: dict[str, Any] = Field(default={})
    """Dotted keys of params.yaml and their values, for every cell."""
    cells: dict[CellName, dict[str, Any]] = Field(min_length=1)
    """By name (of a folder, too): dotted keys and values. The others are compared with the first one."""
    seeds: Seeds = Field(default=(1,), min_length=1)
    development: Development = Development()


@dataclass(frozen=True)
class Cell:
    """One training of a plan."""

    name: str
    seed: int
    config: Config
    development: Development

    @property
    def label(self) -> str:
        """Name of its folder."""
        return f"{self.name}-seed{self.seed}"


def read_cells(path: Path) -> tuple[Cell, ...]:
    """The trainings of a plan file, the first cell first, seed by seed.

    Raises:
        ConfigError: the file is no plan, or names a key or a value that params.yaml would not take.
    """
    plan = validated(Plan, read_yaml(path, advice=_ADVICE), str(path))
    base = load_profile(plan.profile)
    cells = []
    for seed in plan.seeds:
        for name, changes in plan.cells.items():
            settings = {"distill.train.seed": seed, **plan.common, **changes}
            cells.append(
                Cell(name, seed, with_settings(base, settings, f"{path}: cell '{name}'"), plan.development)
            )
    return tuple(cells)
