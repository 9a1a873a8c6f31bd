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
    """What `--model` names; without it None where weights ship, else the champion of this folder's registry.

    Raises:
        OptionError: it names nothing, as an unset variable of a script does.
    """
    from featherface.inference.loading import has_shipped_weights

    if model is None:
        return None if has_shipped_weights() else CHAMPION
    if not model.strip():
        raise OptionError(f"--model is empty: give a file or {CHAMPION}, or leave it out")
    return model


def refuse_empty_root(arguments: Sequence[str]) -> None:
    """See that no command works in the current folder because a script's variable was not set.

    As a path an empty text is the current folder, so only the arguments themselves tell.

    Raises:
        OptionError: `--root` is empty.
    """
    given = [value for option, value in itertools.pairwise(arguments) if option == "--root"]
    given += [argument.removeprefix("--root=") for argument in arguments if argument.startswith("--root=")]
    if any(not value.strip() for value in given):
        raise OptionError("--root is empty: give the workspace's folder, or leave it out")


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
