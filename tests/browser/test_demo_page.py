"""The page finds what Python finds, reaches nobody, and does what its controls say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from demo_pictures import PICTURES, encode, same_faces, scene, turned
from PIL import Image

from featherface.imaging import letterbox, to_network_input
from featherface.inference.detector import FaceDetector
from featherface.models.priors import make_priors

if TYPE_CHECKING:
    from conftest import Demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", PICTURES)
def test_boxes_landmarks_and_scores_are_those_of_python(
    same_demo: Demo, detector: FaceDetector, portrait: np.ndarray, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(PICTURES[name](portrait))
    same_demo.give(path)
    expected = detector(path)
    differences = same_faces(same_demo.faces(name), expected)
    # `pytest -s` shows by how much they differ.
    print(name, len(expected), *(f"{difference:.5f}" for difference in differences))  # noqa: T201
    if name not in ("one-pixel.png", "line.png"):
        assert len(expected) > 0


@pytest.mark.parametrize("long_side", [320, 1280])
def test_other_sizes_of_the_input_are_those_of_python_as_well(
    demo: Demo, portrait: np.ndarray, tmp_path: Path, long_side: int
) -> None:
    path = tmp_path / "sized.png"
    path.write_bytes(encode(scene(15, (720, 960)), "PNG"))
    demo.page.check(f"[name=long-side][value='{long_side}']", force=True)
    demo.give(path)
    same_faces(demo.faces("sized.png"), FaceDetector(image_size=long_side)(path))


@pytest.mark.parametrize("hw", [(180, 240), (320, 160), (83, 54), (5, 250), (1, 1)])
def test_network_input_is_that_of_python_within_a_rounding(same_demo: Demo, hw: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*hw, 3), dtype=np.uint8)
    rgba = np.dstack([image, np.full(hw, 255, np.uint8)])
    planes, width, height = same_demo.page.evaluate(
        """async ([width, height, data]) => {
            const { letterbox } = await import(new URL("js/letterbox.js", document.baseURI));
            const settings = { stride_multiple: 32, mean_bgr: [104, 117, 123] };
            const boxed = letterbox({ width, height, data: Uint8ClampedArray.from(data) }, 160, settings);
            return [Array.from(boxed.planes), boxed.inputWidth, boxed.inputHeight];
        }""",
        [hw[1], hw[0], rgba.ravel().tolist()],
    )
    expected = to_network_input(letterbox(image, 160).image)
    differences = np.abs(np.array(planes).reshape(3, height, width) - expected)
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.005


def test_priors_are_those_of_python(demo: Demo) -> None:
    found = demo.page.evaluate(
        """async () => {
            const { makePriors } = await import(new URL("js/priors.js", document.baseURI));
            return Array.from(makePriors(640, 352, [8, 16, 32], [[16, 32], [64, 128], [256, 512]]));
        }"""
    )
    np.testing.assert_array_equal(np.array(found).reshape(-1, 3), make_priors((352, 640))[:, :3])


def test_a_color_profile_changes_nothing_for_the_network(
    demo: Demo, detector: FaceDetector, portrait: np.ndarray, tmp_path: Path
) -> None:
    # Red and green change their places for people; Python, which learned so, never looks at profiles.
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    path = tmp_path / "profile.png"
    path.write_bytes(encode(portrait, "PNG", icc_profile=swapped))
    demo.give(path)
    boxes, _, scores = same_faces(demo.faces("profile.png"), detector(path))
    assert boxes < 0.05
    assert scores < 0.0001


def test_the_slider_hides_faces_and_the_keyboard_moves_it(
    demo: Demo, detector: FaceDetector, tmp_path: Path
) -> None:
    path = tmp_path / "crowd.png"
    path.write_bytes(encode(scene(15, (720, 960)), "PNG"))
    demo.give(path)
    num_faces = len(demo.faces("crowd.png")["faces"])
    demo.page.focus("#threshold")
    demo.page.keyboard.press("End")
    sure = [score for score in detector(path).scores if score > 0.99]
    assert 0 < len(sure) < num_faces
    assert len(demo.faces("crowd.png")["faces"]) == len(sure)
    assert demo.page.inner_text("#count") == f"{len(sure)} face{'' if len(sure) == 1 else 's'}"
    demo.page.keyboard.press("Home")
    more = FaceDetector(score_threshold=0.1)(path)
    assert len(more) >= num_faces
    assert len(demo.faces("crowd.png")["faces"]) == len(more)


def marked_pixels(demo: Demo) -> int:
    """How many pixels above the picture are not transparent."""
    count: int = demo.page.evaluate(
        """() => {
            const canvas = document.querySelector(".marks");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((value, index) => index % 4 === 3 && value > 0).length;
        }"""
    )
    return count


def test_marks_are_drawn_and_can_be_switched_off_by_keyboard(
    demo: Demo, portrait: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "marked.png"
    path.write_bytes(encode(portrait, "PNG"))
    demo.give(path)
    demo.faces("marked.png")
    assert marked_pixels(demo) > 500
    demo.page.focus("#marks")
    demo.page.keyboard.press("Space")
    assert marked_pixels(demo) == 0


def download(demo: Demo) -> tuple[str, np.ndarray]:
    with demo.page.expect_download() as started:
        demo.page.click("#download")
    with Image.open(started.value.path()) as image:
        return started.value.suggested_filename, np.asarray(image.convert("RGB"))


def test_a_blurred_download_changes_the_faces_and_nothing_else(
    demo: Demo, detector: FaceDetector, tmp_path: Path
) -> None:
    path = tmp_path / "blur-me.png"
    original = scene(15, (720, 960))
    path.write_bytes(encode(original, "PNG"))
    demo.give(path)
    demo.faces("blur-me.png")
    demo.page.click("#marks")
    demo.page.click("#blur")
    name, blurred = download(demo)
    assert name == "blur-me-blurred.png"
    faces = detector(path)
    expected = faces.blur()
    is_untouched = (expected == original).all(axis=2)
    is_outside = np.ones(original.shape[:2], dtype=bool)
    for left, top, right, bottom in faces.boxes:
        pad_x, pad_y = 0.15 * (right - left) + 1, 0.15 * (bottom - top) + 1
        is_outside[
            max(int(top - pad_y), 0) : int(np.ceil(bottom + pad_y)),
            max(int(left - pad_x), 0) : int(np.ceil(right + pad_x)),
        ] = False
        inside = np.s_[int(top) + 1 : int(bottom), int(left) + 1 : int(right)]
        assert (blurred[inside] != original[inside]).any(axis=2).mean() > 0.9
    assert not is_outside.all()
    np.testing.assert_array_equal(blurred[is_outside], original[is_outside])
    assert is_untouched[is_outside].all()
    # A box that ends within a hundredth of a whole pixel may take one row more or less than Python's.
    assert (np.abs(blurred.astype(int) - expected).max(axis=2) <= 2).mean() > 0.999


def test_a_photograph_is_downloaded_as_jpeg_with_its_marks(
    demo: Demo, portrait: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(turned(portrait, 6))
    demo.give(path)
    demo.faces("photo.jpg")
    name, marked = download(demo)
    assert name == "photo-faces.jpg"
    assert marked.shape == (512, 390, 3)
    # The color of the boxes is nowhere in the portrait.
    assert (np.abs(marked.astype(int) - (38, 222, 255)).max(axis=2) < 40).sum() > 100


BROKEN = {
    "empty.jpg": (lambda _: b"", "empty.jpg: is empty."),
    "letter.jpg": (lambda _: b"Dear all", "letter.jpg: is no picture that this browser can read"),
    "cut.png": (lambda portrait: encode(portrait, "PNG")[:60_000], "cut.png: is no picture"),
    "cut.jpg": (lambda portrait: encode(portrait, "JPEG")[:20_000], "cut.jpg: is no picture"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_and_the_page_goes_on(
    demo: Demo, portrait: np.ndarray, tmp_path: Path, name: str
) -> None:
    make, words = BROKEN[name]
    (tmp_path / name).write_bytes(make(portrait))
    demo.give(tmp_path / name)
    demo.page.wait_for_selector("#message:not([hidden])")
    assert demo.page.inner_text("#message").startswith(words)
    (tmp_path / "good.png").write_bytes(encode(portrait, "PNG"))
    demo.give(tmp_path / "good.png")
    assert len(demo.faces("good.png")["faces"]) == 1
    assert demo.page.is_hidden("#message")


def test_a_picture_can_be_dropped(demo: Demo, portrait: np.ndarray) -> None:
    dropped = demo.page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
            return transfer;
        }""",
        list(encode(portrait, "PNG")),
    )
    demo.page.dispatch_event("#stage", "drop", {"dataTransfer": dropped})
    assert len(demo.faces("dropped.png")["faces"]) == 1


def test_tab_and_space_choose_a_file(demo: Demo) -> None:
    # The click that opens the dialog, instead of the dialog: it comes without Playwright's notice at times.
    demo.page.evaluate(
        """() => document.getElementById("file").addEventListener("click", (event) => {
            event.preventDefault();
            event.target.dataset.wasClicked = "yes";
        })"""
    )
    demo.page.keyboard.press("Tab")
    demo.page.keyboard.press("Space")
    demo.page.wait_for_selector("#file[data-was-clicked]", state="attached")
    assert demo.page.evaluate('document.getElementById("file").dataset.wasClicked') == "yes"


def test_the_camera_shows_faces_as_in_a_mirror_and_stops(demo: Demo) -> None:
    demo.page.click("#camera")
    found = demo.faces("camera.jpg")
    assert (found["width"], found["height"]) == (640, 480)
    assert len(found["faces"]) == 1
    left, _, right, _ = found["faces"][0]["box_xyxy"]
    # In the film the face is left of the middle, from 223 to 337.
    assert left == pytest.approx(640 - 337, abs=3)
    assert right == pytest.approx(640 - 223, abs=3)
    assert demo.page.get_attribute("#camera", "aria-pressed") == "true"
    demo.page.click("#camera")
    assert demo.page.get_attribute("#camera", "aria-pressed") == "false"
    assert demo.page.inner_text("#camera") == "Camera"


def count_cameras(demo: Demo, *, asked: int, left: int) -> int:
    """How many cameras are on, once so many were opened and others switched off, or after 5 seconds."""
    found: int = demo.page.evaluate(
        """async ([asked, left]) => {
            const on = () => window.cameras.filter((stream) => stream.active).length;
            for (let turn = 0; turn < 100 && (window.cameras.length < asked || on() > left); turn += 1) {
                await new Promise((resolve) => setTimeout(resolve, 50));
            }
            return on();
        }""",
        [asked, left],
    )
    return found


@pytest.fixture
def asking_demo(demo: Demo) -> Demo:
    """A page whose browser asks before it opens the camera; `allow()` is the answer, `cameras` are open."""
    demo.page.evaluate(
        """() => {
            const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            const allowed = new Promise((resolve) => { window.allow = resolve; });
            window.cameras = [];
            navigator.mediaDevices.getUserMedia = async (wish) => {
                await allowed;
                const stream = await open(wish);
                window.cameras.push(stream);
                return stream;
            };
        }"""
    )
    return demo


def test_a_camera_that_was_asked_for_twice_is_one_and_stops(asking_demo: Demo) -> None:
    page = asking_demo.page
    page.click("#camera")
    page.click("#camera")
    page.evaluate("window.allow()")
    assert asking_demo.faces("camera.jpg")["width"] == 640
    assert count_cameras(asking_demo, asked=2, left=1) == 1
    page.click("#camera")
    assert count_cameras(asking_demo, asked=2, left=0) == 0
    assert page.inner_text("#camera") == "Camera"


def test_a_camera_that_is_allowed_after_a_picture_was_chosen_stays_off(asking_demo: Demo) -> None:
    page = asking_demo.page
    page.click("#camera")
    page.click("#sample")
    asking_demo.faces("sample.jpg")
    page.evaluate("window.allow()")
    assert count_cameras(asking_demo, asked=1, left=0) == 0
    assert page.inner_text("#camera") == "Camera"
    assert "sample.jpg" in page.text_content("#numbers")


def test_a_camera_that_cannot_be_shown_is_switched_off(asking_demo: Demo) -> None:
    page = asking_demo.page
    page.evaluate(
        "() => { HTMLMediaElement.prototype.play = "
        "async () => { throw new DOMException('no', 'AbortError') } }"
    )
    page.click("#camera")
    page.evaluate("window.allow()")
    page.wait_for_selector('#message:has-text("The camera cannot be used: no")')
    assert count_cameras(asking_demo, asked=1, left=0) == 0


def test_a_camera_that_is_refused_is_explained(demo: Demo) -> None:
    demo.page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = "
        "async () => { throw new DOMException('no', 'NotAllowedError') } }"
    )
    demo.page.click("#camera")
    demo.page.wait_for_selector('#message:has-text("The camera was not allowed")')
    assert demo.page.is_visible("#message")


def test_neither_page_nor_worker_can_reach_another_address(
    demo: Demo, foreign_address: tuple[str, list[str]]
) -> None:
    foreign, asked = foreign_address
    ask = "(address) => fetch(address).then(() => 'reached', () => 'blocked')"
    assert demo.page.evaluate(ask, f"{foreign}page") == "blocked"
    (worker,) = demo.page.workers
    assert worker.evaluate(ask, f"{foreign}worker") == "blocked"
    show = """(address) => new Promise((resolve) => {
        const image = new Image();
        image.onload = image.onerror = resolve;
        image.src = address;
    })"""
    demo.page.evaluate(show, f"{foreign}image")
    assert asked == []
    # Chromium reports what was blocked as a request that was made; the server knows better.
    demo.requests[:] = [url for url in demo.requests if not url.startswith(foreign)]


def test_opened_from_disk_the_page_says_that_it_needs_a_server(browser: Any, folder: Path) -> None:
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector('#late:has-text("from a server only, not as a file from disk")')
    assert page.is_visible("#late")
    page.close()


def test_without_its_model_the_page_says_so_and_does_not_hang(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.route("**/model.onnx", lambda route: route.fulfill(status=404))
    page.goto(address)
    page.wait_for_selector(
        '#message:has-text("The detector cannot start: /model.onnx: the server answers 404")'
    )
    page.click("#sample")
    page.wait_for_selector('#message:has-text("That did not work: /model.onnx: the server answers 404")')
    assert page.is_hidden("#busy")
    page.close()


@pytest.mark.parametrize(
    "demo", [{"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}], indirect=True
)
def test_on_a_phone_nothing_is_wider_than_the_screen_and_fingers_can_hit_it(demo: Demo) -> None:
    demo.page.tap("#sample")
    demo.faces("sample.jpg")
    assert demo.page.evaluate("document.documentElement.scrollWidth") == 390
    for control in demo.page.query_selector_all("button:visible, .button, .choices label, .switches label"):
        assert control.bounding_box()["height"] >= 44
