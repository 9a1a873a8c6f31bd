"""DVC as the flow uses it: make a project, ask what is stale, reproduce a stage.

The command line of DVC does the work; nothing here knows what a stage computes.
"""

from __future__ import annotations

import configparser
import json
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from featherface.child_process import child_environment, module_command
from featherface.errors import ConfigError, EndedEarlyError, FeatherFaceError
from featherface.files import write_atomically
from featherface.stages.base import STATE_DIR
from featherface.stages.starter import started_here
from featherface.tracking.connection import ARTIFACTS
from featherface.turn import HOLDER_VARIABLE
from featherface.yaml_files import read_yaml
from pipelines.dvc_lock_file import drop_cut_stage, drop_empty
from pipelines.dvc_locks import mend_locks

logger = logging.getLogger(__name__)

DATA_FILE = "data.dvc"
LOCK_FILE = "dvc.lock"
_CONFIG_FILES = (".dvc/config", ".dvc/config.local")
_MENDING = {
    LOCK_FILE: "restore it from git, or delete it: stages whose outputs are in DVC's cache come back from "
    "there, others run again",
    DATA_FILE: "restore it from git, or delete it: the data that are there are recorded anew",
    **dict.fromkeys(_CONFIG_FILES, "restore it from git, or put that of another workspace in its place"),
}
MESSAGE_CHARS = 600
_LAST_LINES = 4
_GOODBYE_S = 3.0
_SETTINGS = b"[core]\n    no_scm = True\n    analytics = false\n    autostage = false\n"
# MLflow keeps each version's recipe, a `data.dvc` with it; file managers leave notes where somebody looked; a
# killed `dvc pull` leaves half a file, at which the next one would stop, and which would be recorded.
_FILES_OF_OTHERS = (f"/{ARTIFACTS}", ".DS_Store", "Thumbs.db", f"*.{'?' * 22}.tmp")


class DvcError(FeatherFaceError):
    """DVC refused; the message holds its last words."""


class StageDiedError(EndedEarlyError):
    """A stage ended without an error of ours: killed, out of memory, refused by DVC, or our own bug."""

    def __init__(self, stage: str, last_words: str = "") -> None:
        super().__init__(
            f"stage '{stage}' ended early{f' ({last_words})' if last_words else ''}; what it had finished is "
            "kept: run the same command again to go on"
        )


def dvc_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for DVC: this Python's console scripts come first, as a stage's command names one."""
    scripts = str(Path(sys.executable).parent)
    path = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"
    # `dvc init` reports to DVC's makers before the project's own settings could forbid it.
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **(extra or {})}


def run_dvc(root: Path, *arguments: str) -> str:
    """Run a DVC command in a workspace and return what it printed; it ends with this process.

    Raises:
        DvcError: it failed.
    """
    mend_locks(root)
    drop_empty(root / LOCK_FILE)
    done = _run(root, arguments)
    if done.returncode != 0 and _is_broken(root / LOCK_FILE, _words_of(done)):
        cut = drop_cut_stage(root / LOCK_FILE)
        done = done if cut is None else _run(root, arguments)
        if cut is not None and _is_broken(root / LOCK_FILE, _words_of(done)):  # not at its end alone
            write_atomically(root / LOCK_FILE, cut)
    if done.returncode != 0:
        refuse_broken_files(root, _words_of(done))
        words = " ".join((done.stderr or done.stdout).split())[-MESSAGE_CHARS:]
        raise DvcError(f"{root}: `dvc {' '.join(arguments)}` failed: {words}")
    return done.stdout


def _run(root: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own interpreter, arguments from this project
        module_command("dvc", *arguments),
        cwd=root, env=child_environment(dvc_environment()), capture_output=True, text=True, check=False,
    )  # fmt: skip


def _words_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def refuse_broken_files(root: Path, words: str = "") -> None:
    """Name the file of DVC's that nobody can read: DVC shows a traceback, or with `--quiet` nothing at all.

    Args:
        root: of the DVC project.
        words: of DVC, which names files that are YAML but not as it writes them, without saying what to do.

    Raises:
        DvcError: there is one.
    """
    for name, advice in _MENDING.items():
        if _is_broken(root / name, words):
            raise DvcError(f"{root / name}: is broken, DVC cannot read it; {advice}")


def _is_broken(path: Path, words: str) -> bool:
    try:
        if path.parent.name == ".dvc":
            _read_config(path)
        elif path.exists():
            read_yaml(path)
    except (ConfigError, configparser.Error, UnicodeDecodeError):
        return True
    return f"{path.name}' validation failed" in words


def default_remote(root: Path) -> str | None:
    """The address of a DVC project's default remote, if it has one.

    Raises:
        DvcError: a file of DVC's is broken.
    """
    refuse_broken_files(root)
    config = _read_config(*(root / name for name in _CONFIG_FILES))
    name = config.get("core", "remote", fallback=None)
    return config.get(f"'remote \"{name}\"'", "url", fallback=None) if name else None


def _read_config(*paths: Path) -> configparser.ConfigParser:
    """Settings of DVC, a later file's before an earlier one's; a missing file has none."""
    config = configparser.ConfigParser(strict=False, interpolation=None)  # addresses have percent signs
    config.read(paths, encoding="utf-8-sig")
    return config


def initialize(root: Path) -> None:
    """Make a folder a DVC project of its own, if it is none."""
    if not (root / ".dvc" / "config").is_file():
        run_dvc(root, "init", "--no-scm")
        # As `dvc config` would, which takes a second for each.
        write_atomically(root / ".dvc" / "config", _SETTINGS)
    _ignore_files_of_others(root / ".dvcignore")


def _ignore_files_of_others(path: Path) -> None:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if missing := [pattern for pattern in _FILES_OF_OTHERS if pattern not in text.split()]:
        path.write_text("\n".join([text.rstrip(), *missing, ""]).lstrip(), encoding="utf-8")


def stale_stages(root: Path) -> set[str]:
    """Names of the stages that DVC would run now; a stage after a stale one may not be named yet."""
    return set(json.loads(run_dvc(root, "status", "--json") or "{}"))


def reproduce(root: Path, stage: str, environment: Mapping[str, str]) -> None:
    """Run one stage through DVC, its output going where ours goes; DVC restores it from its cache if it can.

    The stage works in this process's turn of the workspace; this process tells its refusal, and removes its
    checkpoints when DVC has recorded what came of them.
    DVC and the stage end with this process, however it ends: the next run finds nobody at work here.

    Raises:
        DvcError: a file of DVC's is broken.
        FeatherFaceError: the stage refused its input.
        StageDiedError: it failed otherwise. The message has its last words where nobody sits at a terminal: a
            flow on a server has no other place for them.
    """
    mend_locks(root)
    drop_empty(root / LOCK_FILE)
    with started_here() as starter:
        told = {HOLDER_VARIABLE: str(os.getpid()), **starter.environment}
        try:
            _reproduce(root, stage, {**environment, **told})
        except StageDiedError as error:
            if starter.refusal is not None:
                raise starter.refusal from error
            raise
        starter.clear(root / STATE_DIR / stage)


def _reproduce(root: Path, stage: str, environment: Mapping[str, str]) -> None:
    # Progress bars want the terminal itself; only without one its output can go through our hands.
    is_watched = sys.stderr.isatty()
    last_words: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(  # noqa: S603 - our own interpreter, a stage name from STAGES
        module_command("dvc", "repro", "--quiet", "--single-item", stage),
        cwd=root, env=child_environment(dvc_environment(environment)), text=True, errors="replace",
        stdout=None if is_watched else subprocess.PIPE, stderr=None if is_watched else subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            for line in process.stdout or ():
                sys.stderr.write(line)
                sys.stderr.flush()
                if line.strip():
                    last_words.append(line.strip())
            process.wait()
        except BaseException:
            _end(process)
            raise
    if process.returncode != 0:
        refuse_broken_files(root)
        if not last_words:
            run_dvc(root, "stage", "list")  # reads its files again, and says what `--quiet` keeps to itself
        raise StageDiedError(stage, " | ".join(last_words)[-MESSAGE_CHARS:])


def _end(process: subprocess.Popen[str]) -> None:
    """Leave a stage that Ctrl-C reached as well a moment for its last words; a kill of us alone did not."""
    try:
        process.wait(_GOODBYE_S)
    except subprocess.TimeoutExpired:
        process.terminate()  # the stage ends with it
