"""What a stage is: a plain function, the files it reads and writes, the sections of params.yaml it may see.

The keyword arguments of a stage's function *are* its declared parameters, so it cannot read what DVC does not
track. Nothing here knows a particular stage, DVC, Prefect or MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from featherface.config import Config
from featherface.errors import DataError
from featherface.files import write_atomically
from featherface.tracking.tracker import NullTracker, Tracker

PARAMS_FILE = "params.yaml"
STATE_DIR = "state"
CHECKPOINT_FILE = "checkpoint.pt"
CHECKPOINT_FILES = "*.pt"
"""What a killed stage leaves behind in its `state_dir`."""


@dataclass(frozen=True)
class StageResult:
    """What a stage reports; the files it wrote are the stage's declared outputs."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers by name, `split/name`, logged to the stage's run."""
    summary: str = ""
    """A few words for people, printed when the stage ends."""


@dataclass(frozen=True)
class Workspace:
    """A folder with params.yaml, dvc.yaml, data and artifacts; every path of a stage is relative to it."""

    root: Path
    tracker: Tracker = field(default_factory=NullTracker)

    def path(self, relative: str | Path) -> Path:
        """The absolute path of a file of the workspace; its folder is made."""
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_text(self, relative: str | Path, text: str) -> Path:
        """Write a file whole or not at all.

        Raises:
            ModelError: it cannot be written, as the disk is full for instance.
        """
        path = self.path(relative)
        write_atomically(path, text.encode())
        return path

    def write_json(self, relative: str | Path, content: object) -> Path:
        """Write indented JSON with sorted keys, whole or not at all."""
        return self.write_text(
            relative, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
        )

    def read_json(self, relative: str | Path) -> Any:
        """Read JSON that another stage wrote.

        Raises:
            DataError: the file is missing or broken.
        """
        path = self.root / relative
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); run the stage that writes it") from error

    def state_dir(self, stage: str) -> Path:
        """Where a stage keeps what must survive a crash: DVC deletes its outputs before it runs."""
        path = self.root / STATE_DIR / stage
        path.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class Output:
    """A file or folder that a stage writes, and what DVC makes of it."""

    path: str
    kind: str = "file"
    """`file`, `metric` (small JSON, kept by git rather than by the cache) or `plot` (CSV)."""
    plot_x: str = ""
    plot_y: tuple[str, ...] = ()
    plot_title: str = ""


@dataclass(frozen=True)
class Stage:
    """One station of the pipeline; the same object serves the command line, DVC and Prefect."""

    name: str
    module: str
    """Where its function `run` is; imported only when it runs, as most stages bring heavy libraries."""
    sections: tuple[str, ...]
    """The sections of params.yaml that it reads: the names of its function's arguments."""
    inputs: tuple[str, ...]
    """Files and folders it reads, relative to the workspace."""
    outputs: tuple[Output, ...]
    code: tuple[str, ...]
    """Modules and packages it runs, as paths inside the `featherface` package."""
    extra_inputs: Callable[[Config], tuple[str, ...]] = lambda _config: ()
    """Further inputs that only some configurations have."""

    @property
    def run_function(self) -> Callable[..., StageResult]:
        """The plain function that does the work."""
        function: Callable[..., StageResult] = import_module(self.module).run
        return function

    def all_inputs(self, config: Config) -> tuple[str, ...]:
        """Every file and folder that it reads with this configuration."""
        return (*self.inputs, *self.extra_inputs(config))

    def run(self, config: Config, workspace: Workspace) -> StageResult:
        """Check that the inputs are there, then do the work.

        Raises:
            DataError: an input is missing.
        """
        for name in self.all_inputs(config):
            if not (workspace.root / name).exists():
                raise DataError(
                    f"{workspace.root / name}: does not exist and stage '{self.name}' reads it; "
                    "run the stages before it, or all of them with `featherface pipeline`"
                )
        return self.run_function(
            **{section: getattr(config, section) for section in self.sections}, workspace=workspace
        )
