"""YAML in and out; the only module that parses it.

Files are read by the safe loader, and what is wrong with one is said in a line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from featherface.errors import ConfigError


def read_yaml(path: Path, *, advice: str = "give a params.yaml") -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty file is an empty mapping.

    Args:
        path: the file.
        advice: what to do if it cannot be read, for the message.

    Raises:
        ConfigError: the file is missing, unreadable, no YAML or no mapping.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ConfigError(f"{path}: cannot be read ({reason}); {advice}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date or number of no sense; too deep
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict | None):
        raise ConfigError(f"{path}: a mapping of sections is needed, got a {type(raw).__name__}")
    return raw or {}


def read_value(text: str, where: str) -> Any:
    """A single value as YAML has it: a number, a list, `null`, ...

    Args:
        text: to be read.
        where: it stands, for the message of an error.

    Raises:
        ConfigError: it is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: the value is not valid YAML") from error


def to_yaml(content: dict[str, Any]) -> str:
    """YAML text in the order of the mapping."""
    return yaml.safe_dump(content, sort_keys=False, width=110)
