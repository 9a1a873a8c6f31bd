"""Copies that a run writes: never over a source or over each other; one file's trouble stops no other."""

from __future__ import annotations

import os
import time
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from featherface import FaceDetector
from featherface.errors import DataError, OptionError
from featherface.imaging import read_image, write_image
from featherface.inference.backends import NetworkOutputs
from featherface.inference.batch import detect_files
from featherface.inference.model_info import ModelInfo
from featherface.inference.outputs import Outputs
from featherface.models.priors import make_priors


class OneFace:
    """A backend: it finds one face, in a corner of every picture."""

    info = ModelInfo(architecture="one-face")

    def __call__(self, images: np.ndarray) -> NetworkOutputs:
        num_priors = len(make_priors(images.shape[2:]))
        cls_logits = np.tile(np.float32([9, 0]), (1, num_priors, 1))
        cls_logits[0, 0] = (0, 4)
        zeros = (np.zeros((1, num_priors, width), np.float32) for width in (4, 10))
        return NetworkOutputs(cls_logits, *zeros)


@pytest.fixture
def detector() -> FaceDetector:
    return FaceDetector(OneFace(), image_size="original")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(*names: str) -> list[Path]:
    """Pictures of one gray each, no two alike."""
    paths = [Path(name) for name in names]
    for number, path in enumerate(paths):
        write_image(path, np.full((64, 64, 3), 10 * number, np.uint8))
    return paths


def shoot(name: str, num_frames: int = 2) -> Path:
    writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for _ in range(num_frames):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    return Path(name)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize("kind", ["marked", "blurred"])
@pytest.mark.parametrize("where", ["here", "here/../here", "link"])
def test_no_copy_replaces_a_source(detector: FaceDetector, folder: Path, kind: str, where: str) -> None:
    (folder / "here").mkdir()
    Path("link").symlink_to("here")
    sources = [*draw("here/a.jpg", "here/b.png"), shoot("here/c.mp4")]
    before = contents(folder)
    for source in sources:
        with pytest.raises(OptionError, match=rf"{source.name}: is one of the sources and would be replaced"):
            detect_files(detector, [source], outputs=Outputs(**{kind: Path(where)}))
    with pytest.raises(OptionError, match="one of the sources"):
        detect_files(detector, [*draw("b.png"), Path("here/a.jpg")], outputs=Outputs(marked=Path("here")))
    assert {name: data for name, data in contents(folder).items() if "here" in name} == before


def test_a_source_under_another_name_is_not_replaced_either(detector: FaceDetector, folder: Path) -> None:
    for name in ("links", "out"):
        Path(name).mkdir()
    draw("out/a.jpg")
    Path("links/a.jpg").symlink_to(folder / "out" / "a.jpg")
    with pytest.raises(OptionError, match=r"out/a\.jpg: is one of the sources"):
        detect_files(detector, [Path("links/a.jpg")], outputs=Outputs(marked=Path("out")))


def test_no_face_replaces_a_source(detector: FaceDetector, folder: Path) -> None:
    sources = draw("a.jpg", "a-1.jpg", "b.jpg")
    before = Path("a-1.jpg").read_bytes()
    results = dict(detect_files(detector, sources, outputs=Outputs(crops=Path())))
    assert "a-1.jpg: is one of the sources, and a face of a.jpg would replace it" in str(results["a.jpg"])
    assert Path("a-1.jpg").read_bytes() == before
    assert written(".") == ["a-1-1.jpg", "a-1.jpg", "a.jpg", "b-1.jpg", "b.jpg"]


@pytest.mark.parametrize("kinds", [("marked", "blurred"), ("marked", "crops"), ("crops", "blurred")])
def test_each_kind_of_copy_needs_a_folder_of_its_own(folder: Path, kinds: tuple[str, str]) -> None:
    Path("link").symlink_to("out")
    with pytest.raises(OptionError, match="share names: give each its own folder"):
        Outputs(**dict(zip(kinds, (Path("out"), Path("link") / "." / "x" / ".."), strict=True)))


def test_faces_of_frames_and_of_pictures_do_not_replace_each_other(
    detector: FaceDetector, folder: Path
) -> None:
    sources = [shoot("long.mp4"), *draw("long-0.jpg", "long-2-1.jpg", "other.jpg")]
    list(detect_files(detector, sources, outputs=Outputs(crops=Path("out"))))
    assert written("out") == [
        "long-0-1.jpg", "long-2-1-1.jpg", "long-3-0-1.jpg", "long-3-1-1.jpg", "other-1.jpg",
    ]  # fmt: skip
    list(detect_files(detector, sources, outputs=Outputs(marked=Path("marked"))))
    assert "long.mp4" in written("marked")


def test_many_sources_of_one_name_are_numbered_in_no_time(detector: FaceDetector, folder: Path) -> None:
    shared = [Path(str(number), name) for number in range(8000) for name in ("1.jpg", "1-7.jpg")]
    started_s = time.process_time()
    detect_files(detector, shared, outputs=Outputs(marked=Path("out")))
    assert time.process_time() - started_s < 3, (
        "it took half a minute when each number was tried for each source"
    )


def test_numbers_of_copies_pass_over_names_that_sources_have(detector: FaceDetector, folder: Path) -> None:
    names = ("1/a.jpg", "2/a.jpg", "3/a-2.jpg", "4/a.jpg", "5/a-2.jpg", "6/a-5.jpg", "7/a.jpg", "8/a.jpg")
    for number in range(1, 9):
        Path(str(number)).mkdir()
    list(detect_files(detector, draw(*names), outputs=Outputs(blurred=Path("out"))))
    assert written("out") == [
        "a-2-2.jpg", "a-2-3.jpg", "a-2.jpg", "a-3.jpg", "a-4.jpg", "a-5.jpg", "a-6.jpg", "a.jpg"
    ]  # fmt: skip


def test_a_picture_with_the_name_of_a_film_is_written_as_a_picture(
    detector: FaceDetector, folder: Path
) -> None:
    draw("a.jpg")[0].rename("q.mp4")
    outputs = Outputs(marked=Path("s"), crops=Path("c"), blurred=Path("b"))
    results = dict(detect_files(detector, [Path("q.mp4"), *draw("p.jpg")], outputs=outputs))
    assert [len(faces) for faces in results.values()] == [1, 1]
    assert (written("s"), written("b")) == (["p.jpg", "q.png"], ["p.jpg", "q.png"])
    assert written("c") == ["p-1.jpg", "q-1.png"]


RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = RGB_PROFILE[:16] + b"GRAY" + RGB_PROFILE[20:]


def profile_of(path: Path) -> bytes | None:
    with Image.open(path) as image:
        return image.info.get("icc_profile")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("profile", [RGB_PROFILE, None])
def test_copies_keep_the_color_profile_of_their_source(
    detector: FaceDetector, folder: Path, suffix: str, profile: bytes | None
) -> None:
    Image.new("RGB", (64, 64), (200, 120, 40)).save(f"a{suffix}", icc_profile=profile)
    outputs = Outputs(marked=Path("marked"), crops=Path("crops"), blurred=Path("blurred"))
    ((_, faces),) = detect_files(detector, [Path(f"a{suffix}")], outputs=outputs)
    copies = [path for kind in ("marked", "crops", "blurred") for path in Path(kind).iterdir()]
    assert [profile_of(path) for path in copies] == [profile] * 3
    for path, pixels in zip(copies, (faces.plot(), *faces.crop(), faces.blur()), strict=True):
        assert np.abs(read_image(path).astype(int) - pixels).mean() < 5


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("CMYK", RGB_PROFILE[:16] + b"CMYK" + RGB_PROFILE[20:]),
        ("L", GREY_PROFILE),
        ("L", RGB_PROFILE),
        ("RGB", GREY_PROFILE),
        ("RGB", b"nonsense" * 50),
        ("RGB", RGB_PROFILE + bytes(2**20)),
    ],
)
def test_a_profile_of_other_pixels_is_not_handed_on(
    detector: FaceDetector, folder: Path, mode: str, profile: bytes
) -> None:
    Image.new(mode, (64, 64)).save("a.jpg", icc_profile=profile)
    assert profile_of(Path("a.jpg")) == profile
    list(detect_files(detector, [Path("a.jpg")], outputs=Outputs(marked=Path("out"))))
    assert profile_of(Path("out/a.jpg")) is None


def test_every_source_but_pixels_has_a_profile(detector: FaceDetector, folder: Path) -> None:
    image = Image.new("RGB", (64, 64))
    image.save("a.png", icc_profile=RGB_PROFILE)
    data = Path("a.png").read_bytes()
    for source in ("a.png", Path("a.png"), data, Image.open(BytesIO(data))):
        assert detector(source).icc_profile == RGB_PROFILE
    assert detector(np.asarray(image)).icc_profile is None
    faces = detector("a.png")
    Path("a.png").unlink()
    assert faces.icc_profile is None
    os.mkfifo("a.png")
    assert faces.icc_profile is None


def test_what_cannot_be_written_of_one_file_stops_no_other(detector: FaceDetector, folder: Path) -> None:
    longest = "a" * 251 + ".jpg"
    draw("short.jpg")[0].rename(longest)
    film = shoot("film.mp4")
    for name in ("s/taken.jpg", "s/film.mp4"):
        Path(name).mkdir(parents=True)
    sources = [Path(longest), *draw("taken.jpg"), film, *draw("b.jpg")]
    outputs = Outputs(marked=Path("s"), crops=Path("c"))
    results = list(detect_files(detector, sources, outputs=outputs))
    failed = {name: str(error) for name, error in results if isinstance(error, DataError)}
    assert list(failed) == [longest, "taken.jpg", "film.mp4"]
    assert "File name too long" in failed[longest]
    assert "s/taken.jpg: cannot be written (Is a directory)" in failed["taken.jpg"]
    assert "film.mp4: cannot be written (Is a directory)" in failed["film.mp4"]
    assert written("s") == [longest, "b.jpg", "film.mp4", "taken.jpg"]


def test_a_folder_that_cannot_be_made_stops_all(detector: FaceDetector, folder: Path) -> None:
    Path("file").touch()
    for where, words in {"file/x": "cannot be made", "x" * 300: "File name too long"}.items():
        with pytest.raises(DataError, match=words):
            list(detect_files(detector, draw("a.jpg", "b.jpg"), outputs=Outputs(marked=Path(where))))


def test_a_full_disk_stops_all(detector: FaceDetector, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    sources = draw("a.jpg", "b.jpg")
    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(DataError, match=r"s/a\.jpg: cannot be written \(No space left on device\)"):
        list(detect_files(detector, sources, outputs=Outputs(marked=Path("s"))))


def test_a_stopped_run_leaves_no_half_of_a_film(detector: FaceDetector, folder: Path) -> None:
    running = detect_files(detector, [shoot("film.mp4", 5)], outputs=Outputs(marked=Path("s")))
    next(running)
    assert written("s")
    running.close()
    assert written("s") == []
