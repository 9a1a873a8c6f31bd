"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from featherface.errors import ConfigError


class Runner(StrEnum):
    """Where the tasks of a flow run."""

    PROCESSES = "processes"
    DASK = "dask"
    RAY = "ray"


CHAMPION = "models:/featherface@champion"
MODEL = Annotated[
    str | None,
    typer.Option(
        help=f"An .onnx or .safetensors file, or {CHAMPION}. Default: what ships, else the champion."
    ),
]
RUNNER = Annotated[Runner, typer.Option(help="Processes of this machine, or a cluster.")]


def default_model() -> str | None:
    """None where weights ship with the package, else the champion of this folder's registry."""
    from featherface.inference.loading import has_shipped_weights

    return None if has_shipped_weights() else CHAMPION


def read_settings(changes: Sequence[str] | None, *, example: str) -> dict[str, Any]:
    """What `--set KEY=VALUE` says, each value as YAML reads it.

    Args:
        changes: as given.
        example: of one, for the message of an error.

    Raises:
        ConfigError: one has no equals sign, or its value is no YAML.
    """
    from featherface.config import read_value  # pydantic takes its time, and most commands need none

    settings = {}
    for change in changes or ():
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: give KEY=VALUE, such as {example}")
        settings[key.strip()] = read_value(value, f"--set {change}")
    return settings
