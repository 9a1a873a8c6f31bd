"""`FaceDetector` around a network that a reader can predict: it calls every white square a face."""

import itertools
import json
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherface.errors import DataError, FeatherFaceError, ImageDecodeError, ModelError, OptionError
from featherface.imaging import MEAN_BGR, decode_image, write_image
from featherface.inference.backends import NetworkOutputs
from featherface.inference.detector import FaceDetector
from featherface.inference.model_info import ModelInfo
from featherface.inference.results import Faces
from featherface.inference.sources import as_rgb, describe_source
from featherface.models.priors import make_priors
from featherface.structures import Detections


class WhiteSquares:
    """A backend: around every prior's center that is white it answers with the box of all white pixels."""

    info = ModelInfo(architecture="white-squares")

    def __init__(self, *, drop_priors: int = 0) -> None:
        self.seen_shapes: list[tuple[int, ...]] = []
        self.drop_priors = drop_priors

    def __call__(self, images: np.ndarray) -> NetworkOutputs:
        self.seen_shapes.append(images.shape)
        priors = make_priors(images.shape[2:])
        num_priors = len(priors) - self.drop_priors
        cls_logits = np.zeros((1, num_priors, 2), dtype=np.float32)
        cls_logits[..., 0] = 9
        box_deltas = np.zeros((1, num_priors, 4), dtype=np.float32)
        landmark_deltas = np.zeros((1, num_priors, 10), dtype=np.float32)
        is_white = (images[0] > 255 - np.array(MEAN_BGR)[:, None, None] - 20).all(axis=0)
        rows, columns = np.flatnonzero(is_white.any(axis=1)), np.flatnonzero(is_white.any(axis=0))
        if rows.size:
            left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            center = np.array([(left + right) / 2, (top + bottom) / 2])
            best = int(np.argmin(np.abs(priors[:num_priors, :2] - center).sum(axis=1)))
            cls_logits[0, best] = (0, 4)
            box_deltas[0, best, :2] = (center - priors[best, :2]) / (0.1 * priors[best, 2:])
            box_deltas[0, best, 2:] = np.log(np.array([right - left, bottom - top]) / priors[best, 2:]) / 0.2
            landmark_deltas[0, best] = np.tile(box_deltas[0, best, :2], 5)
        return NetworkOutputs(cls_logits, box_deltas, landmark_deltas)


def square_image(
    hw: tuple[int, int] = (100, 150), box: tuple[int, int, int, int] = (40, 20, 90, 70)
) -> np.ndarray:
    image = np.zeros((*hw, 3), dtype=np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = 255
    return image


@pytest.fixture
def detector() -> FaceDetector:
    return FaceDetector(WhiteSquares())


@pytest.mark.parametrize("image_size", [320, 640, 1000, "original"])
@pytest.mark.parametrize("hw", [(100, 150), (480, 640), (641, 333), (97, 1203)])
def test_boxes_come_back_in_source_pixels(image_size: int | str, hw: tuple[int, int]) -> None:
    box = (hw[1] // 4, hw[0] // 4, hw[1] // 2, hw[0] // 2)
    faces = FaceDetector(WhiteSquares(), image_size=image_size)(square_image(hw, box))
    # Scaling blurs the border of the square by about a pixel of the smaller of the two images.
    shrunk_by = 1.0 if image_size == "original" else max(1.0, max(hw) / image_size)
    np.testing.assert_allclose(faces.boxes, [box], atol=1e-3 if image_size == "original" else 1.5 * shrunk_by)
    center = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    np.testing.assert_allclose(faces.landmarks[0], [center] * 5, atol=1.5 * shrunk_by)
    assert 0.9 < faces.scores[0] < 1 / (1 + np.exp(-4))  # one vote alone makes less sure


def test_the_network_sees_multiples_of_32() -> None:
    backend = WhiteSquares()
    FaceDetector(backend)(square_image((100, 150)))
    FaceDetector(backend, image_size="original")(square_image((100, 150)))
    assert backend.seen_shapes == [(1, 3, 448, 640), (1, 3, 128, 160)]


@pytest.mark.parametrize("hw", [(1, 1), (1, 2000), (2000, 1), (33, 31)])
@pytest.mark.parametrize("image_size", [640, "original"])
def test_an_image_of_any_shape_gives_an_empty_result_not_none(
    hw: tuple[int, int], image_size: int | str
) -> None:
    faces = FaceDetector(WhiteSquares(), image_size=image_size)(np.zeros((*hw, 3), dtype=np.uint8))
    assert isinstance(faces, Faces)
    assert len(faces) == 0
    assert (faces.boxes.shape, faces.scores.shape, faces.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


def test_boxes_are_cut_to_the_image_and_dropped_when_nothing_remains() -> None:
    class TooFar(WhiteSquares):
        def __call__(self, images: np.ndarray) -> NetworkOutputs:
            outputs = super().__call__(images)
            # The first prior reaches over the corner; number 126, of the last cell, is all padding.
            outputs.cls_logits[0, [0, 126]] = (0, 4)
            return outputs

    faces = FaceDetector(TooFar(), image_size="original")(np.zeros((33, 33, 3), dtype=np.uint8))
    np.testing.assert_array_equal(faces.boxes, [[0, 0, 12, 12]])


def test_every_kind_of_source_gives_the_same_faces(detector: FaceDetector, tmp_path: Path) -> None:
    image = square_image()
    path = tmp_path / "square.png"
    write_image(path, image)
    expected = detector(image)
    for source in (path, str(path), path.read_bytes(), Image.fromarray(image), Image.open(path)):
        faces = detector(source)
        np.testing.assert_array_equal(faces.boxes, expected.boxes)
        assert (faces.width, faces.height) == (150, 100)
    assert detector(path).name == str(path)
    assert expected.name is None


def test_a_list_and_a_folder_give_a_result_for_each_image(detector: FaceDetector, tmp_path: Path) -> None:
    (tmp_path / "b" / ".hidden").mkdir(parents=True)
    for name in ("z.png", "b/a.jpg", "b/.hidden/x.png"):
        write_image(tmp_path / name, square_image())
    (tmp_path / "notes.txt").write_text("no image")
    results = detector(tmp_path)
    assert [Path(faces.name or "").relative_to(tmp_path).as_posix() for faces in results] == [
        "b/a.jpg",
        "z.png",
    ]
    assert [len(faces) for faces in detector([tmp_path / "z.png", np.zeros((9, 9, 3), dtype=np.uint8)])] == [
        1,
        0,
    ]
    assert detector([]) == []


def test_pictures_are_streamed_one_by_one_up_to_a_broken_one(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "d.png"):
        write_image(tmp_path / name, square_image())
    (tmp_path / "c.png").write_text("no picture")
    for source in (tmp_path, str(tmp_path), str(tmp_path / "[a-d].png"), sorted(tmp_path.iterdir())):
        backend = WhiteSquares()
        results = FaceDetector(backend).stream(source)
        assert backend.seen_shapes == []
        for number, name in enumerate(("a.png", "b.png"), start=1):
            faces = next(results)
            assert (faces.name, len(faces)) == (str(tmp_path / name), 1)
            assert len(backend.seen_shapes) == number, "what comes later is not looked at yet"
        with pytest.raises(ImageDecodeError, match=r"c\.png: is no JPEG"):
            next(results)


def test_what_is_streamed_is_what_a_call_gives(detector: FaceDetector, tmp_path: Path) -> None:
    images = [square_image((100, 150), (10 * number, 20, 60 + 10 * number, 70)) for number in range(5)]
    images[0][:10, :10] = (200, 100, 0)
    streamed = list(detector.stream(images, bgr=True))
    assert [list(faces) for faces in streamed] == [list(faces) for faces in detector(images, bgr=True)]
    np.testing.assert_array_equal(streamed[0].image, images[0][:, :, ::-1])
    assert [list(faces) for faces in detector.stream(tuple(images), every=2)] == [
        list(faces) for faces in detector(images[::2])
    ]
    assert list(detector.stream([])) == []
    write_image(tmp_path / "one.png", images[0])
    mixed = [tmp_path / "one.png", (tmp_path / "one.png").read_bytes(), Image.fromarray(images[1])]
    assert [faces.name for faces in detector.stream(mixed)] == [str(tmp_path / "one.png"), None, None]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="has no images in it"):
        next(detector.stream(tmp_path / "none"))
    with pytest.raises(DataError, match="there is no such file or folder, and it matches nothing"):
        next(detector.stream(str(tmp_path / "*.tif")))
    with pytest.raises(OptionError, match="every must be a whole number of at least 1, got 0"):
        next(detector.stream(images, every=0))


def test_the_loop_of_the_docs_goes_on_past_broken_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = Path(__file__).parents[2] / "docs" / "inputs.md"
    (loop,) = re.findall(
        r"^```python\n(.*?)^```$", docs.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "c.jpg"):
        write_image(tmp_path / "photos" / name, square_image())
    (tmp_path / "photos" / "b.jpg").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    exec(loop, {})
    first, broken, last = capsys.readouterr().out.splitlines()
    assert "photos/a.jpg of 150x100" in first
    assert broken.startswith("photos/b.jpg: is no JPEG")
    assert "photos/c.jpg of 150x100" in last


def test_a_pillow_image_is_turned_as_its_orientation_says(detector: FaceDetector) -> None:
    image = Image.fromarray(square_image((100, 150), (0, 0, 50, 40)))
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    buffer = BytesIO()
    image.save(buffer, "PNG", exif=exif)
    faces = detector(Image.open(buffer))
    np.testing.assert_allclose(faces.boxes, [[100, 60, 150, 100]], atol=1)
    np.testing.assert_array_equal(faces.boxes, detector(buffer.getvalue()).boxes)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "1", "LA", "La"])
def test_pillow_modes_are_all_read(detector: FaceDetector, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(square_image()[:, :, 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(square_image())
        image = image.convert("LA").convert(mode) if mode == "La" else image.convert(mode)
    np.testing.assert_allclose(detector(image).boxes, [[40, 20, 90, 70]], atol=1)


def test_a_view_with_strides_gives_what_its_copy_gives(detector: FaceDetector) -> None:
    big = square_image((200, 300), (80, 40, 180, 140))
    view = big[::2, ::-2]
    np.testing.assert_array_equal(detector(view).boxes, detector(np.ascontiguousarray(view)).boxes)


def test_detect_gives_plain_arrays_to_the_evaluator(detector: FaceDetector) -> None:
    found = detector.detect(square_image())
    np.testing.assert_array_equal(found.boxes_xyxy, detector(square_image()).boxes)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros(4, dtype=np.uint8), r"got shape \(4,\)"),
        (np.zeros((4, 4, 2), dtype=np.uint8), r"got shape \(4, 4, 2\)"),
        (np.zeros((2, 4, 4, 3), dtype=np.uint8), r"got shape \(2, 4, 4, 3\)"),
        (np.zeros((4, 4, 3), dtype=np.float32), "of float32; multiply by 255"),
        (np.zeros((4, 4), dtype=np.bool_), "of bool"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "at least one pixel"),
        (None, "got builtins.NoneType"),
        (42, "got builtins.int"),
        (Image.new("F", (3, 3)), "floating-point"),
    ],
)
def test_what_is_no_image_is_refused(detector: FaceDetector, source: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        detector(source)


def test_arrays_become_the_picture_that_a_file_of_them_would_be() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert as_rgb(rgb) is rgb
    np.testing.assert_array_equal(as_rgb(rgb[:, :, ::-1], bgr=True), rgb)
    np.testing.assert_array_equal(as_rgb(rgb.astype(np.uint16) * 257), rgb)
    grey = rgb[:, :, 0]
    for array in (grey, grey[:, :, None]):
        np.testing.assert_array_equal(as_rgb(array), np.repeat(grey[:, :, None], 3, axis=2))
    alpha = np.array([[0, 255, 128, 1, 254, 60, 200]] * 5, dtype=np.uint8)
    rgba = np.dstack((rgb, alpha))
    stream = BytesIO()
    Image.fromarray(rgba).save(stream, format="PNG")
    filed = decode_image(stream.getvalue(), "rgba.png")
    assert np.abs(as_rgb(rgba).astype(int) - filed).max() <= 1, "white shows through, rounding aside"
    bgra = np.dstack((rgb[:, :, ::-1], alpha))
    np.testing.assert_array_equal(as_rgb(bgra, bgr=True), as_rgb(rgba))


def test_blue_first_is_said_by_the_caller(detector: FaceDetector) -> None:
    image = square_image()
    image[:10, :10] = (200, 100, 0)
    for faces in (detector(image[:, :, ::-1], bgr=True), detector([image[:, :, ::-1]], bgr=True)[0]):
        np.testing.assert_array_equal(faces.boxes, detector(image).boxes)
        np.testing.assert_array_equal(faces.image, image)


def test_close_ups_are_looked_for_in_a_second_smaller_copy() -> None:
    backend = WhiteSquares()
    detector = FaceDetector(backend, image_size="original", close_ups=True)
    large = detector(square_image((640, 960), (100, 100, 500, 500)))
    assert [shape[2:] for shape in backend.seen_shapes] == [(640, 960), (224, 320)]
    assert len(large) == 1, "seen by both looks, and once in the result"
    middle = detector(square_image((640, 960), (100, 100, 300, 300)))  # not a quarter of the longer side
    np.testing.assert_allclose(middle.boxes, [[100, 100, 300, 300]], atol=0.01)
    small = detector(square_image((640, 960), (100, 100, 140, 140)))
    np.testing.assert_allclose(small.boxes, [[100, 100, 140, 140]], atol=0.01)
    FaceDetector(backend, image_size=320, close_ups=True)(square_image())
    assert len(backend.seen_shapes) == 7, "no second look at what is small already"


def test_a_second_look_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featherface.inference.detector.time.perf_counter", itertools.count().__next__)
    one, two = (
        FaceDetector(WhiteSquares(), image_size="original", close_ups=close_ups)(square_image()).timing
        for close_ups in (False, True)
    )
    assert (one.network_ms, two.network_ms) == (1000, 2000)


class EverywhereFaces(WhiteSquares):
    """A backend that calls every prior a face."""

    def __call__(self, images: np.ndarray) -> NetworkOutputs:
        outputs = super().__call__(images)
        outputs.cls_logits[..., 1] = 12
        return outputs


def test_faces_are_as_many_and_as_close_as_the_options_say() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)

    def count(**options: float) -> int:
        return len(FaceDetector(EverywhereFaces(), image_size="original", **options)(image))

    assert count(iou_threshold=1.0, max_faces=1000) == len(make_priors((64, 64)))
    assert count(iou_threshold=0.9) > count(iou_threshold=0.2) > count(iou_threshold=0.01)
    assert count(iou_threshold=0.2, max_faces=3) == 3
    close = FaceDetector(EverywhereFaces(), image_size=352, close_ups=True, max_faces=3)
    assert len(close(image)) == 3


def test_the_time_of_each_part_is_told(detector: FaceDetector) -> None:
    timing = detector(square_image()).timing
    parts = (timing.read_ms, timing.prepare_ms, timing.network_ms, timing.postprocess_ms)
    assert all(part > 0 for part in parts)
    assert timing.total_ms == pytest.approx(sum(parts))


def test_files_that_are_no_images_are_refused(detector: FaceDetector, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    for source in (tmp_path / "absent.jpg", tmp_path / "text.jpg", b"", b"\xff\xd8\xff cut"):
        with pytest.raises(ImageDecodeError) as refusal:
            detector(source)
        assert "\n" not in str(refusal.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no images"):
        detector(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold must be a number from 0 to 1, got 1.5"),
        ({"score_threshold": True}, "score_threshold must be a number from 0 to 1, got True"),
        ({"score_threshold": float("nan")}, "got nan"),
        ({"iou_threshold": -0.1}, "iou_threshold must be"),
        ({"iou_threshold": "high"}, "got 'high'"),
        ({"max_faces": 0}, "max_faces must be a whole number of at least 1, got 0"),
        ({"image_size": 31}, "whole number from 32 to 6250000, or 'original', got 31"),
        ({"image_size": 10**400}, "from 32 to 6250000, or 'original', got 1000"),
        ({"image_size": np.float64(640)}, "got np.float64"),
        ({"image_size": "big"}, "got 'big'"),
        ({"image_size": True}, "got True"),
        ({"num_threads": 0}, "num_threads must be a whole number from 1 to 1024, or None, got 0"),
        ({"num_threads": 99_999_999_999}, "from 1 to 1024, or None, got 99999999999"),
        ({"score_threshold": np.array([0.5, 0.6])}, "score_threshold must be"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        FaceDetector(WhiteSquares(), **options)


def test_numbers_of_numpy_are_options_as_well() -> None:
    backend = WhiteSquares()
    detector = FaceDetector(
        backend, image_size=np.int64(64), max_faces=np.int32(1), score_threshold=np.float32(0.5)
    )
    assert len(detector(square_image())) == 1
    assert backend.seen_shapes == [(1, 3, 64, 64)]


@pytest.mark.parametrize("image_size", [19_200, 100_000])
def test_a_size_beyond_what_a_network_can_take_is_refused_before_memory_is_asked_for(image_size: int) -> None:
    words = (
        rf"image_size={image_size} is a network input of {image_size}x\d+ pixels, the limit is 200 megapixels"
    )
    with pytest.raises(DataError, match=f"an image of 150x100 with {words}; give a smaller number"):
        # Of close-ups the first look is what is too large.
        FaceDetector(WhiteSquares(), image_size=image_size, close_ups=True)(square_image())


@pytest.mark.parametrize(
    ("model", "kind"), [(123, "builtins.int"), (b"x", "builtins.bytes"), (len, "builtin")]
)
def test_what_is_no_model_is_refused_at_once(model: object, kind: str) -> None:
    with pytest.raises(ModelError, match=rf"a model is a file, an address or a backend .*, got {kind}"):
        FaceDetector(model)


def test_option_errors_are_value_errors_and_ours() -> None:
    assert issubclass(OptionError, ValueError)
    assert issubclass(OptionError, FeatherFaceError)


def test_a_network_with_other_priors_is_refused() -> None:
    with pytest.raises(ModelError, match="answers for 2014 priors where its file promises 2016"):
        FaceDetector(WhiteSquares(drop_priors=2), image_size="original")(
            np.zeros((192, 256, 3), dtype=np.uint8)
        )


def test_thresholds_reach_the_postprocessing() -> None:
    assert len(FaceDetector(WhiteSquares(), score_threshold=0.99)(square_image())) == 0


def test_results_are_a_sequence_of_faces(detector: FaceDetector) -> None:
    faces = detector(square_image())
    face = faces[0]
    assert face.box.tolist() == faces.boxes[0].tolist()
    assert face.landmarks.shape == (5, 2)
    assert [item.score for item in faces] == [face.score]
    assert len(faces[:0]) == 0
    assert repr(faces) == "Faces(1 face in an image of 150x100)"
    with pytest.raises(IndexError):
        faces[1]


def test_some_of_the_faces_are_picked_by_a_mask() -> None:
    found = Detections(
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.array([0.9, 0.8, 0.6], dtype=np.float32),
        np.zeros((3, 5, 2), dtype=np.float32),
    )
    faces = Faces(found, image_hw=(9, 9), source=describe_source(np.zeros((9, 9, 3), dtype=np.uint8)))
    sure = faces[faces.scores > 0.7]
    assert isinstance(sure, Faces)
    np.testing.assert_array_equal(sure.boxes, found.boxes_xyxy[:2])
    assert len(faces[faces.scores > 1]) == 0
    assert faces[np.int64(-1)].score == pytest.approx(0.6)
    with pytest.raises(IndexError):
        faces[np.array([True])]


@pytest.mark.parametrize("is_empty", [False, True])
def test_margins_and_sizes_that_are_none_are_refused(detector: FaceDetector, is_empty: bool) -> None:
    faces = detector(np.zeros((9, 9, 3), dtype=np.uint8) if is_empty else square_image())
    for margin in (-1, float("nan"), float("inf"), 10**400, "wide"):
        with pytest.raises(OptionError, match="margin must be a number of at least 0, got"):
            faces.crop(margin=margin)
    for side in (0, -1, 112.5, True):
        with pytest.raises(OptionError, match="size_px must be a whole number of at least 1, got"):
            faces.align(side)
    assert faces.align(np.int64(8)).shape == (len(faces), 8, 8, 3)
    for margin in (np.float32(0.5), np.float16(0.5), np.int8(0)):  # a warning of numpy is an error here
        assert len(faces.crop(margin=margin)) == len(faces)


@pytest.mark.parametrize("name", ["\ud800.jpg", "a\0.jpg"])
def test_a_name_that_no_file_can_have_is_refused(detector: FaceDetector, name: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"\.jpg': cannot be written \(no name that a file can have\)"
    ) as refusal:
        detector(square_image()).save(tmp_path / name)
    assert str(refusal.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_results_as_plain_values_are_what_the_interface_promises(
    detector: FaceDetector, tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png", square_image())
    plain = json.loads(json.dumps(detector(tmp_path / "a.png").to_dict()))
    assert {key: plain[key] for key in ("image", "width", "height")} == {
        "image": str(tmp_path / "a.png"),
        "width": 150,
        "height": 100,
    }
    (face,) = plain["faces"]
    assert set(face) == {"box_xyxy", "score", "landmarks"}
    np.testing.assert_allclose(face["box_xyxy"], [40, 20, 90, 70], atol=1)
    assert np.shape(face["landmarks"]) == (5, 2)
    assert face["score"] == pytest.approx(0.924318, abs=1e-6)


def test_plot_draws_on_a_copy(detector: FaceDetector, tmp_path: Path) -> None:
    image = square_image((300, 300), (50, 60, 250, 260))
    untouched = image.copy()
    faces = detector(image)
    drawn = faces.plot()
    np.testing.assert_array_equal(image, untouched)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    changed = np.argwhere((drawn != image).any(axis=2))
    # Lines and points around the box, nothing far from it.
    assert changed.min() >= 30
    assert changed.max() <= 265
    faces.save(tmp_path / "drawn.png")
    np.testing.assert_array_equal(detector(tmp_path / "drawn.png").image, drawn)
    np.testing.assert_array_equal(faces.image, image)


def test_plot_of_no_faces_is_the_image(detector: FaceDetector) -> None:
    image = np.full((5, 7, 3), 9, dtype=np.uint8)
    np.testing.assert_array_equal(detector(image).plot(), image)


def test_saving_as_something_else_is_refused(detector: FaceDetector, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not as '\.txt'"):
        detector(square_image()).save(tmp_path / "a.txt")


def test_importing_the_detector_imports_no_torch() -> None:
    code = "import sys, featherface.inference.detector; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
