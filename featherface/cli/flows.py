"""The flows are above the command line in the layers, so it finds them by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from featherface.errors import ConfigError


def find_flow(name: str) -> Any:
    """The function that `pipelines` announces under a name.

    Raises:
        ConfigError: nothing installed announces it.
    """
    found = entry_points(group="featherface.flows")
    if name not in found.names:
        raise ConfigError("the flow is not installed; run `pip install -e '.[pipeline]'` in the project")
    return found[name].load()
