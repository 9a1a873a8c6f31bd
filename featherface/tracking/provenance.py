"""Where a run came from, as tags: commit, data version, parameters; asks git, reads files, changes nothing.

The commit is the code's, wherever the workspace lies. Code that was installed without git has none; then it
is the workspace's, if that is in a checkout.

A fact that cannot be had (no git, no `data.dvc`) is the word `unknown`, never an error: a result without a
commit is worse than one with, and better than none.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

UNKNOWN = "unknown"

GIT_SHA = "git.sha"
GIT_DIRTY = "git.dirty"
DATA_MD5 = "dvc.data.md5"
LOCK_MD5 = "dvc.lock.md5"
PARAMS_SHA256 = "params.sha256"
FLOW_RUN_ID = "prefect.flow_run_id"

_CODE = Path(__file__).resolve().parents[2]

# The first indented md5 is the output's; one at the margin would be the checksum of the .dvc file itself.
_OUTPUT_MD5 = re.compile(r"^(?:-|\s)\s*md5:\s*(\S+)\s*$", re.MULTILINE)


def provenance_tags(root: Path, *, flow_run_id: str | None = None, code: Path = _CODE) -> dict[str, str]:
    """Tags that say which code, data and parameters a run in this workspace reads.

    Args:
        root: the workspace: holds `data.dvc`, `dvc.lock` and `params.yaml`, in a git checkout or not.
        flow_run_id: the Prefect flow run that started it; without one the tag is left out.
        code: the folder that holds the package.
    """
    tags = {
        GIT_SHA: git_sha(root, code=code),
        GIT_DIRTY: git_dirty(root, code=code),
        DATA_MD5: data_md5(root),
        LOCK_MD5: _digest_of(root / "dvc.lock", "md5"),
        PARAMS_SHA256: _digest_of(root / "params.yaml", "sha256"),
    }
    if flow_run_id is not None:
        tags[FLOW_RUN_ID] = flow_run_id
    return tags


def git_sha(root: Path, *, code: Path = _CODE) -> str:
    """The commit that is checked out, 40 hexadecimal digits; arguments as of `provenance_tags`."""
    return _git(_checkout(root, code), "rev-parse", "--verify", "HEAD") or UNKNOWN


def git_dirty(root: Path, *, code: Path = _CODE) -> str:
    """`true` where files differ from the commit or are not in it, else `false`.

    `dvc.lock` is left out: the pipeline itself rewrites it, and its digest is a tag of its own.
    """
    paths = (":/", ":(exclude,top,glob)**/dvc.lock")
    changes = _git(_checkout(root, code), "status", "--porcelain", "--", *paths)
    return UNKNOWN if changes is None else str(bool(changes)).lower()


def data_md5(root: Path) -> str:
    """The version of the data set that `data.dvc` records, as DVC writes it (ends in `.dir` for a folder)."""
    text = _read_text(root / "data.dvc")
    found = _OUTPUT_MD5.search(text) if text is not None else None
    return found.group(1) if found else UNKNOWN


def stage_lock_md5(root: Path, stage: str) -> str | None:
    """A digest of what `dvc.lock` says of a stage: equal exactly if command, inputs, params and outputs are.

    None where the stage was never run to its end. DVC writes the file in one fixed form, so the stage's block
    of lines is taken as text: this module needs no YAML parser.
    """
    text = _read_text(root / "dvc.lock")
    if text is None:
        return None
    block = re.search(rf"^  {re.escape(stage)}:\n((?: {{3,}}.*\n?)+)", text, re.MULTILINE)
    return hashlib.md5(block.group(0).encode(), usedforsecurity=False).hexdigest() if block else None


def _checkout(root: Path, code: Path) -> Path:
    """Where git is asked. A package in a .venv may lie in somebody's checkout without being part of it."""
    is_tracked = _git(code, "ls-files", "--error-unmatch", "featherface/__init__.py") is not None
    return code if is_tracked else root


def _digest_of(path: Path, algorithm: str) -> str:
    try:
        return hashlib.new(algorithm, path.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError:
        return UNKNOWN


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _git(root: Path, *arguments: str) -> str | None:
    # `git status` would note in the index what it found. Killed at that, it leaves a lock behind that stops
    # every commit.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        answer = subprocess.run(  # noqa: S603 - fixed words, no shell
            command,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
