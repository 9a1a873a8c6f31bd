"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml

from featherface.errors import ConfigError


class Runner(StrEnum):
    """Where the tasks of a flow run."""

    PROCESSES = "processes"
    DASK = "dask"
    RAY = "ray"


RUNNER = Annotated[Runner, typer.Option(help="Processes of this machine, or a cluster.")]


def read_settings(changes: Sequence[str] | None, *, example: str) -> dict[str, Any]:
    """What `--set KEY=VALUE` says, each value as YAML reads it.

    Args:
        changes: as given.
        example: of one, for the message of an error.

    Raises:
        ConfigError: one has no equals sign, or its value is no YAML.
    """
    settings = {}
    for change in changes or ():
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: give KEY=VALUE, such as {example}")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {change}: the value is not valid YAML") from error
    return settings
