"""DVC as the flow uses it: make a project, ask what is stale, reproduce a stage.

The command line of DVC does the work; nothing here knows what a stage computes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from featherface.errors import FeatherFaceError

DATA_FILE = "data.dvc"
MESSAGE_CHARS = 600


class DvcError(FeatherFaceError):
    """DVC refused; the message holds its last words."""


class StageDiedError(RuntimeError):
    """A stage ended without saying why: killed, out of memory, or our own bug (see its traceback)."""

    def __init__(self, stage: str) -> None:
        super().__init__(
            f"stage '{stage}' ended early; what it had finished is kept: run the same command again to go on"
        )


def dvc_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for DVC: this Python's console scripts come first, as a stage's command names one."""
    scripts = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}", **(extra or {})}


def run_dvc(root: Path, *arguments: str) -> str:
    """Run a short DVC command in a workspace and return what it printed.

    Raises:
        DvcError: it failed.
    """
    done = subprocess.run(  # noqa: S603 - our own interpreter, arguments from this project
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root, env=dvc_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())[-MESSAGE_CHARS:]
        raise DvcError(f"{root}: `dvc {' '.join(arguments)}` failed: {words}")
    return done.stdout


def initialize(root: Path) -> None:
    """Make a folder a DVC project of its own, if it is none."""
    if (root / ".dvc" / "config").is_file():
        return
    run_dvc(root, "init", "--no-scm", "--quiet")
    run_dvc(root, "config", "core.analytics", "false")
    run_dvc(root, "config", "core.autostage", "false")


def stale_stages(root: Path) -> set[str]:
    """Names of the stages that DVC would run now; a stage after a stale one may not be named yet."""
    return set(json.loads(run_dvc(root, "status", "--json") or "{}"))


def reproduce(root: Path, stage: str, environment: Mapping[str, str]) -> bool:
    """Run one stage through DVC, its output going where ours goes; DVC restores it from its cache if it can.

    Returns:
        Whether it succeeded; what went wrong is on the terminal.
    """
    done = subprocess.run(  # noqa: S603 - our own interpreter, a stage name from STAGES
        [sys.executable, "-m", "dvc", "repro", "--quiet", "--single-item", stage],
        cwd=root, env=dvc_environment(environment), check=False,
    )  # fmt: skip
    return done.returncode == 0
