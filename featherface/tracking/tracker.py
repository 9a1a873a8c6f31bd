"""What a stage may tell about itself while it runs, wherever that goes; no mlflow here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Takes notes of one run; safe to call from a training loop: a failing service must not raise here."""

    @property
    def run_id(self) -> str | None:
        """The run that the notes go to; None where nothing is kept."""
        ...

    def log_params(self, params: Mapping[str, object]) -> None:
        """Note settings; nested mappings become dotted names (see `flatten_params`)."""
        ...

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Note one point of a curve; cheap enough for every iteration."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Note several numbers of one step."""
        ...

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file or folder, below `folder` of the run's artifacts."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Note facts about the run that are neither settings nor numbers."""
        ...

    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Note which version of which data the run read.

        Args:
            name: short name, for instance `synthetic`.
            digest: version, at most 36 characters: what DVC calls the md5 of a folder.
            source: where it comes from, a path or an address.
        """
        ...


class NullTracker:
    """Keeps nothing: for tests, and for stages that run outside a pipeline."""

    @property
    def run_id(self) -> str | None:
        """Always None."""
        return None

    def log_params(self, params: Mapping[str, object]) -> None:
        """Forget them."""

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Forget it."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Forget them."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Forget it."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Forget them."""

    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Forget it."""


def flatten_params(params: Mapping[str, object]) -> dict[str, str]:
    """Dotted names to texts: `{"train": {"lr": 0.1}}` becomes `{"train.lr": "0.1"}`.

    Texts stay as they are, everything else is written as JSON (`null`, `true`, `[1, 2]`); an empty mapping
    is kept as `{}`.

    Raises:
        ValueError: two names become the same, for instance `{"a.b": 1, "a": {"b": 2}}`.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        nested = flatten_params(value) if isinstance(value, Mapping) and value else {"": _as_text(value)}
        for inner, text in nested.items():
            name = f"{key}.{inner}" if inner else str(key)
            if name in flat:
                raise ValueError(f"two parameters are called '{name}'; rename one")
            flat[name] = text
    return flat


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
