"""A folder becomes a workspace: parameters of a profile, dvc.yaml, data at a recorded version."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featherface.config import Config, dump_config, load_config, load_profile, with_settings
from featherface.data.importing import import_widerface
from featherface.data.synthetic import synthesize_dataset
from featherface.errors import ConfigError, DataError
from featherface.files import sha256_of, write_atomically
from featherface.stages.base import PARAMS_FILE
from featherface.stages.dvc_yaml import HEADER, render_dvc_yaml
from featherface.tracking.connection import shown
from featherface.tracking.provenance import UNKNOWN, data_md5
from featherface.yaml_files import read_yaml
from pipelines import dvc_commands
from pipelines.fetching import fetch_data

logger = logging.getLogger(__name__)

TEACHER_FILE = "featherface_v1.safetensors"
IMPORTED_STUDENT = "inputs/student.safetensors"
_INITIAL_KEY = "distill.initial_weights"


def prepare_workspace(
    root: Path,
    *,
    profile: str,
    data: Path | None,
    teacher: Path | None,
    student: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """Bring a workspace to the point where its stages can run; harmless when repeated.

    Args:
        root: the workspace; a new or empty folder becomes one.
        profile: parameters of a new one.
        data: photographs to import into a new one.
        teacher: published weights of the teacher, copied into it.
        student: weights of a student to go on from, copied into it.
        settings: values of a new one that differ from the profile's, by dotted key.

    Raises:
        ConfigError: the workspace has other photographs or settings, or its params.yaml cannot be used.
        DataError: no data can be had, or it is not the version that data.dvc records.
    """
    root.mkdir(parents=True, exist_ok=True)
    params_path = root / PARAMS_FILE
    is_new = not params_path.exists()
    wanted = {**(settings or {}), **({} if student is None else {_INITIAL_KEY: IMPORTED_STUDENT})}
    config = load_profile(profile) if is_new else _load_whole(params_path)
    changed = with_settings(config, wanted, "--set")
    if is_new:
        config = changed
    elif changed != config:
        raise ConfigError(
            f"{params_path}: is there already, and says otherwise than --set or --student; edit it, or give "
            "another --root"
        )
    if config.data.source != load_profile(profile).data.source:
        raise ConfigError(
            f"{params_path}: data.source is '{config.data.source}', asked for profile '{profile}'; "
            "give another --root, or the profile of this one"
        )
    folder, is_drawn = root / config.data.root, config.data.source == "synthetic"
    if is_drawn and data is not None:
        raise ConfigError(
            f"--data {data} would not be read: profile '{profile}' draws its scenes; give --profile widerface"
        )
    if not (is_drawn or folder.exists() or _recorded_version(root)):
        _given_photographs(folder, data)  # the teacher is looked for near them
    if config.teacher.weights is not None:
        _bring_teacher(root / config.teacher.weights, given=teacher, data=data)
    elif teacher is not None:
        raise ConfigError(f"{params_path}: teacher.weights is null, so --teacher {teacher} would not be read")
    if student is not None:
        _bring_student(root / IMPORTED_STUDENT, given=student)
    _see_that_the_student_is_there(root, config)
    dvc_commands.initialize(root)
    bring_data(root, config, source=data)
    if is_new:
        write_atomically(params_path, dump_config(config).encode())
    sync_dvc_yaml(root, config)
    return config


def _load_whole(path: Path) -> Config:
    """A params.yaml in which every section is named: DVC compares what is written there, not our defaults."""
    config = load_config(path)
    missing = [name for name in Config.model_fields if name not in read_yaml(path)]
    if missing:
        raise ConfigError(f"{path}: has no {', '.join(missing)}; add each, `{missing[0]}: {{}}` is enough")
    return config


def sync_dvc_yaml(root: Path, config: Config) -> bool:
    """Write dvc.yaml anew where it does not follow from the stages; says whether it had to."""
    path, wanted = root / "dvc.yaml", render_dvc_yaml(config, root)
    current = path.read_text(encoding="utf-8") if path.exists() else None
    if current == wanted:
        return False
    if current is not None and not current.startswith(HEADER):
        raise ConfigError(f"{path}: was not written by FeatherFace; move it away, it would be overwritten")
    write_atomically(path, wanted.encode())
    return True


def bring_data(root: Path, config: Config, *, source: Path | None) -> None:
    """See that the data set is there and is the recorded version; a data set without a record gets one."""
    folder = root / config.data.root
    recorded = _recorded_version(root)
    if folder.exists():
        if source is not None:
            logger.info("%s is there already: %s is not imported again", folder, source)
        if recorded is not None:
            _refuse_changed_data(root, config.data.root, recorded)
            return
    else:
        can_be_made = config.data.source == "synthetic" or source is not None
        if recorded is None or not _fetch_data(root, recorded, folder, can_be_made=can_be_made):
            _make_data(folder, config, source)
    _record_data(root, config.data.root, recorded)


def _recorded_version(root: Path) -> str | None:
    version = data_md5(root)
    return None if version == UNKNOWN else version


def _make_data(folder: Path, config: Config, source: Path | None) -> None:
    if config.data.source == "synthetic":
        settings = config.synthesize
        logger.info("drawing %d training and %d validation images", settings.num_train, settings.num_val)
        synthesize_dataset(
            folder,
            num_train=settings.num_train,
            num_val=settings.num_val,
            image_hw=settings.image_hw,
            seed=settings.seed,
        )
    else:
        given = _given_photographs(folder, source)
        logger.info("importing %s", given)
        import_widerface(given, folder, whole=True)


def _given_photographs(folder: Path, source: Path | None) -> Path:
    if source is None:
        raise DataError(
            f"{folder}: does not exist; give the photographs with --data DIR (WIDER FACE layout or its zips)"
        )
    if not source.is_dir():
        raise DataError(f"{source}: is no folder; give --data the one with WIDER FACE folders or archives")
    return source


def _fetch_data(root: Path, recorded: str, folder: Path, *, can_be_made: bool) -> bool:
    """Take the recorded version from DVC's cache or remote; False where it has to be made anew."""
    has_remote = bool(dvc_commands.run_dvc(root, "remote", "list").strip())
    try:
        fetch_data(root, recorded, folder, from_remote=has_remote)
    except dvc_commands.DvcError as error:
        if has_remote and not can_be_made:
            remote = dvc_commands.default_remote(root) or "DVC's remote"
            raise DataError(
                f"{root / dvc_commands.DATA_FILE}: its version {recorded} cannot be fetched from "
                f"{shown(remote)} ({shown(str(error))}); start the remote if it is away, or give the "
                "photographs with --data DIR"
            ) from error
        logger.debug("the recorded data is in no cache or remote (%s)", error)
        return False
    return True


def _record_data(root: Path, name: str, recorded: str | None) -> None:
    record = root / dvc_commands.DATA_FILE
    before = record.read_text(encoding="utf-8") if recorded is not None else None
    dvc_commands.run_dvc(root, "add", name)
    got = _recorded_version(root)
    if before is not None and got != recorded:
        write_atomically(record, before.encode())
        raise DataError(
            f"{root / name}: has the version {got}, but {record} records {recorded}; "
            f"`dvc pull` the recorded version, or accept this one with `dvc add {name}`"
        )


def _refuse_changed_data(root: Path, name: str, recorded: str) -> None:
    if dvc_commands.DATA_FILE not in dvc_commands.stale_stages(root):
        return
    raise DataError(
        f"{root / name}: is not the version {recorded} that {dvc_commands.DATA_FILE} records; accept what "
        f"is there with `dvc add {name}`, or go back with `dvc checkout {dvc_commands.DATA_FILE}`"
    )


def _bring_teacher(target: Path, *, given: Path | None, data: Path | None) -> None:
    if target.exists() and given is None:
        return
    places = [given] if given else _likely_places(data) if data else []
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = (
            ", ".join(str(place) for place in places) or "nowhere: neither --teacher nor --data was given"
        )
        raise DataError(
            f"{TEACHER_FILE}: the published weights of the teacher were not found; "
            f"give --teacher FILE (looked at {looked})"
        )
    write_atomically(target, found.read_bytes())


def _bring_student(target: Path, *, given: Path) -> None:
    if not given.is_file():
        raise DataError(f"{given}: no such file; give --student the .safetensors file of a student")
    if not target.exists():
        write_atomically(target, given.read_bytes())
    elif sha256_of(target) != sha256_of(given):
        raise ConfigError(
            f"{target}: the workspace goes on from another student than {given}; give another --root"
        )


def _see_that_the_student_is_there(root: Path, config: Config) -> None:
    # The stage that reads it comes after hours of the teacher's training.
    initial = config.distill.initial_weights
    if initial is not None and not (root / initial).is_file():
        raise DataError(
            f"{root / initial}: the student to go on from is not there; give --student FILE, or "
            "--student shipped"
        )


def _likely_places(data: Path) -> list[Path]:
    """In the data's folder, beside it, beside its parent, and in folders called `teacher` there."""
    bases = (data, *data.resolve().parents[:2])
    return [folder / TEACHER_FILE for base in bases for folder in (base, base / "teacher")]


def main() -> None:
    """Bring dvc.yaml of the workspace named on the command line in step with the stages."""
    root = Path(sys.argv[1]).resolve()
    sync_dvc_yaml(root, load_config(root / PARAMS_FILE))


if __name__ == "__main__":
    main()
