"""Imports are complete or did not happen, and archives are not trusted."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from featherface.data import importing
from featherface.data.importing import ImportSummary, import_widerface
from featherface.data.widerface import open_widerface
from featherface.errors import DataError

ANNOTATIONS = "0--Parade/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n0--Parade/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n"
FILES = {
    "WIDER_train/images/0--Parade/a.jpg": b"picture a",
    "WIDER_train/images/0--Parade/b.jpg": b"picture b",
    "WIDER_val/images/0--Parade/a.jpg": b"picture c",
    "wider_face_split/wider_face_train_bbx_gt.txt": ANNOTATIONS.encode(),
    "wider_face_split/wider_face_val_bbx_gt.txt": ANNOTATIONS.encode(),
    "wider_face_split/readme.txt": b"left behind",
    "WIDER_train/images/0--Parade/.DS_Store": b"left behind",
    "__MACOSX/WIDER_train/images/0--Parade/._a.jpg": b"left behind",
}
GROUND_TRUTH = {"ground_truth/wider_face_val.mat": b"matrix", "ground_truth/wider_easy_val.mat": b"easy"}
EXPECTED = ImportSummary({"train": 2, "val": 1}, {"train": 0, "val": 1}, num_ground_truth_files=2)


def write_files(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    write_files(tmp_path / "source", FILES | GROUND_TRUTH)
    return tmp_path / "source"


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for part in ("WIDER_train", "WIDER_val", "wider_face_split"):
        write_zip(
            source / f"{part}.zip", {name: body for name, body in FILES.items() if name.startswith(part)}
        )
    write_zip(source / "eval_tools.zip", {f"eval_tools/{name}": body for name, body in GROUND_TRUTH.items()})
    return source


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


WANTED = {name: body for name, body in FILES.items() if body != b"left behind"} | GROUND_TRUTH


def test_folders_come_in_without_the_files_that_are_not_ours(folders: Path, tmp_path: Path) -> None:
    assert import_widerface(folders, tmp_path / "data") == EXPECTED
    assert tree(tmp_path / "data") == WANTED


def test_archives_come_in_as_the_folders_do(archives: Path, tmp_path: Path) -> None:
    assert import_widerface(archives, tmp_path / "data") == EXPECTED
    assert tree(tmp_path / "data") == WANTED
    assert len(open_widerface(tmp_path / "data", "train")) == 2


def test_one_split_is_enough(folders: Path, tmp_path: Path) -> None:
    (folders / "wider_face_split/wider_face_train_bbx_gt.txt").unlink()
    for name in ("a.jpg", "b.jpg", ".DS_Store"):
        (folders / "WIDER_train/images/0--Parade" / name).unlink()
    assert import_widerface(folders, tmp_path / "data").num_images == {"val": 1}


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (
            "ground_truth/*",
            r"wider_face_val\.mat, .*/wider_hard_val\.mat \(of eval_tools\.zip\)",
        ),
        (
            "ground_truth/wider_easy*",
            r"lacks ground_truth/wider_easy_val\.mat \(of eval_tools\.zip",
        ),
        ("WIDER_val/*/*/*.jpg", r"lacks WIDER_val/images \(of WIDER_val\.zip\), without"),
        (
            "*/wider_face_train*",
            r"_face_train_bbx_gt\.txt \(of wider_face_split\.zip",
        ),
    ],
)
def test_too_little_for_the_pipeline_is_refused_before_anything_is_copied(
    folders: Path, tmp_path: Path, gone: str, words: str
) -> None:
    for setting in ("medium", "hard"):
        (folders / f"ground_truth/wider_{setting}_val.mat").write_bytes(b"matrix")
    for path in folders.glob(gone):
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "_write_all", lambda *_: pytest.fail("something was copied"))
        with pytest.raises(DataError, match=words):
            import_widerface(folders, tmp_path / "data", whole=True)


def test_a_whole_set_comes_in_for_the_pipeline(archives: Path, tmp_path: Path) -> None:
    more = {f"ground_truth/wider_{setting}_val.mat": b"matrix" for setting in ("medium", "hard")}
    write_zip(archives / "eval_tools.zip", {f"eval_tools/{name}": b"m" for name in GROUND_TRUTH | more})
    assert import_widerface(archives, tmp_path / "data", whole=True).num_ground_truth_files == 4


def test_annotations_of_nothing_undo_the_import(folders: Path, tmp_path: Path) -> None:
    (folders / "wider_face_split/wider_face_val_bbx_gt.txt").write_text("")
    assert_refused(folders, tmp_path / "data", r"val_bbx_gt\.txt: names no photograph; put the whole file")


def test_files_are_copied_so_that_the_originals_stay_untouched(folders: Path, tmp_path: Path) -> None:
    import_widerface(folders, tmp_path / "data")
    assert tree(tmp_path / "data") == WANTED
    name = "WIDER_train/images/0--Parade/a.jpg"
    assert not (folders / name).samefile(tmp_path / "data" / name)


def test_linked_folders_of_the_source_are_followed(folders: Path, tmp_path: Path) -> None:
    (folders / "WIDER_train").rename(tmp_path / "elsewhere")
    (folders / "WIDER_train").symlink_to(tmp_path / "elsewhere")
    import_widerface(folders, tmp_path / "data")
    assert not any(path.is_symlink() for path in (tmp_path / "data").rglob("*"))
    assert tree(tmp_path / "data") == WANTED


def test_empty_destination_and_missing_parents_are_fine(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    import_widerface(folders, tmp_path / "empty")
    import_widerface(folders, tmp_path / "deep" / "down" / "data")
    assert tree(tmp_path / "empty") == tree(tmp_path / "deep" / "down" / "data") == WANTED


def assert_refused(source: Path, destination: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        import_widerface(source, destination)
    leftovers = [path.name for path in destination.parent.iterdir() if "partial" in path.name]
    assert leftovers == []
    assert not destination.exists()


def test_destination_in_use_is_left_alone(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("mine")
    with pytest.raises(DataError, match=r"data: is there already; remove it or choose another place"):
        import_widerface(folders, tmp_path / "data")
    assert tree(tmp_path / "data") == {"precious": b"mine"}


def test_missing_source_is_refused(tmp_path: Path) -> None:
    assert_refused(
        tmp_path / "nowhere", tmp_path / "data", r"nowhere: is no folder; give one with WIDER FACE"
    )


def test_folder_with_nothing_of_ours_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "source", {"holiday.jpg": b"beach"})
    assert_refused(
        tmp_path / "source", tmp_path / "data", r"source: has no WIDER_train or WIDER_val folder, nor"
    )


def test_photographs_without_annotations_are_refused(folders: Path, tmp_path: Path) -> None:
    (folders / "wider_face_split/wider_face_val_bbx_gt.txt").unlink()
    assert_refused(
        folders, tmp_path / "data", r"data/.*val_bbx_gt\.txt: is missing, so the photographs have no"
    )


def test_annotations_without_photographs_are_refused(tmp_path: Path) -> None:
    split = {name: body for name, body in FILES.items() if name.startswith("wider_face_split")}
    write_files(tmp_path / "source", split)
    assert_refused(tmp_path / "source", tmp_path / "data", "there are annotations but no photographs")


def test_malformed_annotations_undo_the_import_and_name_the_destination(
    folders: Path, tmp_path: Path
) -> None:
    (folders / "wider_face_split/wider_face_train_bbx_gt.txt").write_text("0--Parade/a.jpg\nmany\n")
    assert_refused(
        folders, tmp_path / "data", rf"^{tmp_path}/data/wider_face_split/.*:2: expected the number"
    )


def test_interrupted_import_leaves_nothing(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_root: Path) -> ImportSummary:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "_summarize", interrupt)
    with pytest.raises(KeyboardInterrupt):
        import_widerface(folders, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/etc/evil", "WIDER_train/../../evil", "C:/evil", "a\\..\\evil"]
)
def test_archive_that_climbs_out_is_refused(archives: Path, tmp_path: Path, name: str) -> None:
    write_zip(archives / "WIDER_train.zip", FILES | {name: b"evil"})
    assert_refused(archives, tmp_path / "data", r"WIDER_train\.zip: the member '.*evil.*' leaves the folder")
    assert not (tmp_path / "evil").exists()


def test_archive_with_a_symbolic_link_is_refused(archives: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("WIDER_train/images/0--Parade/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archives / "WIDER_train.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert_refused(archives, tmp_path / "data", r"the member 'WIDER_train/.*/link\.jpg' is a symbolic link")


def test_archive_bomb_is_refused(archives: Path, tmp_path: Path) -> None:
    bomb = {"WIDER_train/images/0--Parade/bomb.jpg": bytes(40 * 2**20)}
    write_zip(archives / "WIDER_train.zip", bomb)
    assert_refused(
        archives, tmp_path / "data", r"WIDER_train\.zip: would unpack [\d,]+ bytes to 41,943,040; that is"
    )


def test_file_that_is_no_archive_is_refused(archives: Path, tmp_path: Path) -> None:
    (archives / "WIDER_val.zip").write_text("<html>Quota exceeded</html>")
    assert_refused(
        archives, tmp_path / "data", r"WIDER_val\.zip: is no archive that can be read .*download it again"
    )


def test_damaged_member_undoes_the_import(archives: Path, tmp_path: Path) -> None:
    path = archives / "WIDER_train.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("WIDER_train/images/0--Parade/a.jpg", b"picture a")
    path.write_bytes(path.read_bytes().replace(b"picture a", b"picture X", 1))
    assert_refused(
        archives, tmp_path / "data", r"an archive is broken, download it again \(Bad CRC-32 for file"
    )
