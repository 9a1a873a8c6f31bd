"""`Faces` of files that change, as a sequence, and by numbers."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
import weakref
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
USES = [Faces.blur, Faces.plot, Faces.crop, Faces.align, lambda faces: faces.image]
"""All that needs the pixels, but for `save`."""


def faces_of(source: SingleSource, *, num_faces: int = 3, bgr: bool = False) -> Faces:
    """Faces side by side, each surer than the next."""
    lefts = 10 * np.arange(num_faces, dtype=np.float32)
    found = Detections(
        np.stack([lefts, lefts, lefts + 9, lefts + 9], axis=1),
        np.linspace(0.9, 0.6, num_faces, dtype=np.float32),
        np.tile(lefts[:, None, None], (1, 5, 2)) + np.arange(5, dtype=np.float32)[:, None],
    )
    return Faces(found, image_hw=HW, source=describe_source(source, bgr=bgr))


def test_faces_are_picked_in_any_order_by_their_numbers() -> None:
    faces = faces_of(grey())
    by_left = faces[np.argsort(-faces.boxes[:, 0])]
    assert isinstance(by_left, Faces)
    assert by_left.boxes[:, 0].tolist() == [20, 10, 0]
    np.testing.assert_array_equal(by_left.landmarks, faces.landmarks[::-1])
    np.testing.assert_array_equal(by_left.scores, faces.scores[::-1])
    assert faces[[0, -1]].boxes[:, 0].tolist() == [0, 20]
    assert faces[np.array([1, 1], dtype=np.uint8)].boxes[:, 0].tolist() == [10, 10]
    assert faces[[True, False, True]].boxes[:, 0].tolist() == [0, 20]
    assert len(faces[[]]) == len(faces[np.flatnonzero(faces.scores > 1)]) == 0
    assert by_left.image.shape == (*HW, 3)


def test_numbers_of_no_face_and_other_things_pick_none() -> None:
    faces = faces_of(grey())
    for index in ([0, 3], np.array([-4]), [True], np.array([True])):
        with pytest.raises(IndexError):
            faces[index]
    for other in (
        "x",
        True,
        1.0,
        None,
        [0.0],
        ["0"],
        [[0]],
        [[0], [0, 1]],
        (0, 1),
        np.array(True),
        np.eye(3),
    ):
        with pytest.raises(
            TypeError, match="faces are picked by a whole number, a slice, or a list or array"
        ):
            faces[other]


def test_faces_are_found_in_their_results() -> None:
    faces, image = faces_of(grey()), grey()
    assert faces[0] in faces
    assert faces.index(faces[2]) == 2
    assert faces.count(faces_of(image)[1]) == 1
    assert len({*faces, *faces_of(image)}) == 3
    first = faces[0]
    for change in ({"score": 0.5}, {"box": first.box + 1}, {"landmarks": first.landmarks[::-1]}):
        assert dataclasses.replace(first, **change) != first
    assert first != 0


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
@pytest.mark.parametrize("use", USES)
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


@pytest.mark.parametrize("bgr", [False, True])
def test_the_image_of_an_array_cannot_be_written_to_as_it_may_be_the_callers_own(bgr: bool) -> None:
    image = grey()
    faces = faces_of(image, bgr=bgr)
    with pytest.raises(ValueError, match="read-only"):
        faces.image[:] = 7
    image[:] = 7  # the caller may
    assert faces.image.max() == 7
    for use in USES:
        use(faces)
    for copy in (faces.image.copy(), faces.blur(), faces.plot(), faces.align(), *faces.crop()):
        copy[:] = 9
    assert image.max() == 7


def test_faces_without_their_image_keep_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, grey())
    for source, name in ((grey(), "the image"), (path.read_bytes(), "the image"), (path, str(path))):
        faces = faces_of(source)
        bare = faces.without_image()
        assert (bare.to_dict(), bare.timing, repr(bare)) == (faces.to_dict(), faces.timing, repr(faces))
        again = pickle.loads(pickle.dumps(bare))
        sure = bare[bare.scores > 0.7].without_image()
        for part, expected in ((bare, faces), (bare[1:], faces[1:]), (sure, faces[:2]), (again, faces)):
            assert list(part) == list(expected)
            assert part.name == faces.name
            for use in (*USES, lambda part: part.save(tmp_path / "b.png")):
                with pytest.raises(
                    ImageDecodeError, match=f"^{re.escape(name)}: was left out of this result"
                ):
                    use(part)
        assert faces.image.shape == (*HW, 3), "the result itself keeps it"
    assert bare[:0].crop() == []


def test_faces_without_their_image_hold_no_pixels() -> None:
    image = grey()
    alive = weakref.ref(image)
    bare = faces_of(image).without_image()
    del image
    assert alive() is None
    assert len(pickle.dumps(bare)) < 2000


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
