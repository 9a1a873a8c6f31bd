"""Options that several commands have."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from featherface.errors import ConfigError, OptionError


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


def chosen_model(model: str | None) -> str | None:
    """What `--model` names; without it None where weights ship, else this folder's champion."""
    from featherface.inference.loading import has_shipped_weights

    if model is None and not has_shipped_weights():
        return CHAMPION
    return model


def refuse_empty(arguments: Sequence[str]) -> None:
    """See that no command works in the current folder because a script's variable was not set.

    As a path an empty text is the current folder, so only the arguments themselves tell.

    Raises:
        OptionError: an argument, or what follows the `=` of an option, is empty.
    """
    for before, argument in itertools.pairwise(["", *arguments]):
        option, equals, value = argument.partition("=")
        if not argument.strip():
            what = f"what follows {before}" if before else "the first argument"
        elif option.startswith("--") and equals and not value.strip():
            what = option
        else:
            continue
        raise OptionError(f"{what} is empty, as a variable that is not set: give a value, or leave it out")


def read_settings(changes: Sequence[str] | None, *, example: str) -> dict[str, Any]:
    """What `--set KEY=VALUE` says, each value as YAML reads it.

    Args:
        changes: as given.
        example: of one, for the message of an error.

    Raises:
        ConfigError: one has no equals sign, or its value is no YAML.
    """
    from featherface.yaml_files import read_value  # most commands read no YAML

    settings = {}
    for change in changes or ():
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: give KEY=VALUE, such as {example}")
        settings[key.strip()] = read_value(value, f"--set {change}")
    return settings
