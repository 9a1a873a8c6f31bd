"""Bringing WIDER FACE in: from folders or from the official archives to the layout that the project reads.

Everything is written to a folder beside the destination, which is renamed at the end: an import is complete
or it did not happen. Archives come from the network and are not trusted.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

from tqdm import tqdm

from featherface.data.widerface import (
    Split,
    annotation_path,
    images_dir,
    open_widerface,
    read_annotations,
    refuse_lacking,
)
from featherface.errors import DataError
from featherface.imaging import IMAGE_SUFFIXES

ARCHIVES = ("WIDER_train.zip", "WIDER_val.zip", "wider_face_split.zip", "eval_tools.zip")
"""The names under which the benchmark is distributed; the last one holds the official ground truth."""
# Photographs do not compress; text does, ten times at most. A bomb is a thousand times its archive.
_MAX_EXPANSION = 100
_ALLOWED_BESIDE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ImportSummary:
    """What was brought in."""

    num_images: dict[str, int]
    """Annotated photographs that are there, by split."""
    num_missing: dict[str, int]
    """Annotated photographs that the source lacks, by split."""
    num_ground_truth_files: int
    """Files of the official ground truth."""


@dataclass(frozen=True)
class _Entry:
    """A file of the source and how to put it somewhere."""

    target: PurePosixPath
    write: Callable[[Path], None]


def import_widerface(source: Path | str, destination: Path | str, *, whole: bool = False) -> ImportSummary:
    """Copy or unpack WIDER FACE into `destination`, with a progress bar on a terminal.

    `source` holds `WIDER_train`, `WIDER_val`, `wider_face_split` and perhaps `ground_truth`, as folders or as
    the official archives; one split is enough. Other files are left behind.

    Args:
        source: a folder; it may be read-only.
        destination: does not exist yet, or is an empty folder.
        whole: refuse, before anything is copied, what the pipeline cannot train on and judge by: both splits
            and `ground_truth` are needed then.

    Raises:
        DataError: nothing to import, or too little, an archive that is broken, climbs out of its folder, has
        links or explodes, malformed annotations, a destination that is in use or cannot be written to.
    """
    source, destination = Path(source), Path(destination).resolve()
    if not source.is_dir():
        raise DataError(f"{source}: is no folder; give one with WIDER FACE folders or archives")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DataError(f"{destination}: is there already; remove it or choose another place")
    with ExitStack() as stack:
        entries = {entry.target: entry for entry in _zip_entries(source, stack)}
        entries |= {entry.target: entry for entry in _folder_entries(source)}
        if not entries:
            raise DataError(
                f"{source}: has no WIDER_train or WIDER_val folder, nor {', '.join(ARCHIVES[:3])}"
            )
        there = {str(path) for target in entries for path in (target, *target.parents)}
        if whole:
            refuse_lacking(source, there.__contains__)
        return _write_all(sorted(entries.values(), key=lambda entry: entry.target), destination)


def _write_all(entries: list[_Entry], destination: Path) -> ImportSummary:
    partial: Path | None = None
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}.partial-"))
        for entry in tqdm(entries, desc="import", unit="file", disable=None):
            target = partial / entry.target
            target.parent.mkdir(parents=True, exist_ok=True)
            entry.write(target)
        summary = _summarize(partial)
        partial.chmod(0o755)  # mkdtemp makes folders for the owner's eyes only
        partial.replace(destination)
    except DataError as error:
        # The user knows the destination, not the folder that is about to vanish.
        raise DataError(str(error).replace(str(partial), str(destination))) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"an archive is broken, download it again ({error})") from error
    except OSError as error:
        raise DataError(f"{destination}: the import failed ({error})") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return summary


def _summarize(root: Path) -> ImportSummary:
    """Count what came in; a split needs both annotations and photographs."""
    num_images, num_missing = {}, {}
    for split in get_args(Split):
        has_annotations, has_images = annotation_path(root, split).is_file(), images_dir(root, split).is_dir()
        if has_annotations and has_images:
            num_images[split] = len(open_widerface(root, split, missing="skip"))
            num_missing[split] = len(read_annotations(annotation_path(root, split))) - num_images[split]
        elif has_images:
            raise DataError(
                f"{annotation_path(root, split)}: is missing, so the photographs have no annotations"
            )
    if not num_images:
        raise DataError(
            f"{root}: there are annotations but no photographs; WIDER_train or WIDER_val is needed"
        )
    num_ground_truth_files = sum(1 for _ in (root / "ground_truth").glob("*.mat"))
    return ImportSummary(num_images, num_missing, num_ground_truth_files)


def _layout_target(path: PurePosixPath) -> PurePosixPath | None:
    """Where a file of the source belongs, or None for files that are not ours."""
    parts = path.parts
    if parts[0] == "eval_tools":
        parts = parts[1:]
    match parts:
        case (("WIDER_train" | "WIDER_val"), "images", _event, name) if not name.startswith("."):
            return PurePosixPath(*parts) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else None
        case ("wider_face_split", "wider_face_train_bbx_gt.txt" | "wider_face_val_bbx_gt.txt"):
            return PurePosixPath(*parts)
        case ("ground_truth", name) if name.endswith(".mat") and not name.startswith("."):
            return PurePosixPath(*parts)
    return None


def _folder_entries(source: Path) -> Iterator[_Entry]:
    patterns = ("WIDER_*/images/*/*", "wider_face_split/*", "ground_truth/*", "eval_tools/ground_truth/*")
    for path in (path for pattern in patterns for path in source.glob(pattern)):
        target = _layout_target(PurePosixPath(path.relative_to(source).as_posix()))
        if target is not None and path.is_file():
            yield _Entry(target, _Copier(path))


@dataclass(frozen=True)
class _Copier:
    """Copies a file's content.

    A hard link would save the space, but DVC makes what it caches read-only: the owner's file too.
    """

    path: Path

    def __call__(self, target: Path) -> None:
        shutil.copyfile(self.path, target)


@dataclass(frozen=True)
class _Unpacker:
    """Unpacks a member of an archive."""

    archive: zipfile.ZipFile
    member: zipfile.ZipInfo

    def __call__(self, target: Path) -> None:
        with self.archive.open(self.member) as packed, target.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked, length=2**20)


def _zip_entries(source: Path, stack: ExitStack) -> Iterator[_Entry]:
    for path in (source / name for name in ARCHIVES):
        if not path.is_file():
            continue
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: is no archive that can be read ({error}); download it again") from error
        _refuse_bomb(path, archive)
        for member in archive.infolist():
            _refuse_unsafe(path, member)
            target = None if member.is_dir() else _layout_target(PurePosixPath(member.filename))
            if target is not None:
                yield _Entry(target, _Unpacker(archive, member))


def _refuse_bomb(path: Path, archive: zipfile.ZipFile) -> None:
    # zipfile stops reading a member at the size its header declares, so the declared sizes bound the real
    # ones.
    packed, unpacked = path.stat().st_size, sum(member.file_size for member in archive.infolist())
    if unpacked > _MAX_EXPANSION * packed + _ALLOWED_BESIDE_BYTES:
        raise DataError(
            f"{path}: would unpack {packed:,} bytes to {unpacked:,}; that is no set of photographs"
        )


def _refuse_unsafe(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
        raise DataError(f"{path}: the member '{name}' leaves the folder that it is unpacked to")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{path}: the member '{name}' is a symbolic link; photographs are plain files")
