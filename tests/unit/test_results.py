"""`Faces` of files that change, as a sequence, and by numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featherface.errors import ImageDecodeError
from featherface.imaging import RgbImage, write_image
from featherface.inference.results import Faces
from featherface.inference.sources import SingleSource, describe_source
from featherface.structures import Detections

HW = (40, 60)


def faces_of(source: SingleSource, *, num_faces: int = 3) -> Faces:
    """Faces side by side, each surer than the next."""
    lefts = 10 * np.arange(num_faces, dtype=np.float32)
    found = Detections(
        np.stack([lefts, lefts, lefts + 9, lefts + 9], axis=1),
        np.linspace(0.9, 0.6, num_faces, dtype=np.float32),
        np.tile(lefts[:, None, None], (1, 5, 2)) + np.arange(5, dtype=np.float32)[:, None],
    )
    return Faces(found, image_hw=HW, source=describe_source(source))


def grey(hw: tuple[int, int] = HW, value: int = 0) -> RgbImage:
    return np.full((*hw, 3), value, dtype=np.uint8)


def replace_by(image: RgbImage) -> Callable[[Path], None]:
    return lambda path: write_image(path, image)


def touch_later(path: Path) -> None:
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize(
    "change",
    [replace_by(grey((60, 40))), replace_by(grey(value=200)), touch_later],
    ids=["shape", "content", "time"],
)
@pytest.mark.parametrize("use", [Faces.blur, Faces.plot, Faces.crop, Faces.align, lambda faces: faces.image])
def test_faces_of_a_file_that_has_changed_are_not_used_on_another_picture(
    use: Callable[[Faces], object], change: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    write_image(path, grey())
    faces = faces_of(path)
    use(faces)
    change(path)
    with pytest.raises(
        ImageDecodeError, match=r"a\.png: has changed since its faces were found; detect again"
    ):
        use(faces[:1])


def test_an_array_of_another_shape_is_refused_and_one_written_over_is_drawn_on() -> None:
    image = grey()
    faces = faces_of(image)
    image[:] = 7
    assert faces.image.max() == 7
    image.resize((20, 60, 3), refcheck=False)
    with pytest.raises(ImageDecodeError, match=r"^the image: has changed since"):
        faces.blur()


def test_a_file_of_the_same_name_elsewhere_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "x.png", grey(value=ord(folder)))
        touch_later(tmp_path / "a" / "x.png")
    monkeypatch.chdir(tmp_path / "a")
    faces = faces_of("x.png")
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ImageDecodeError, match=r"x\.png: has changed"):
        faces.blur()
