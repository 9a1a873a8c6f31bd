"""Files to pixels to network input, and the refusals on the way."""

from __future__ import annotations

import io
import re
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from heic_files import FOUR_CORNERS, TURNED
from hostile_files import big_tiff
from PIL import Image, ImageOps

from featherface.errors import DataError, ImageDecodeError
from featherface.headers import has_float_samples, image_plugin
from featherface.imaging import (
    MEAN_RGB,
    decode_image,
    letterbox,
    read_image,
    resize_long_side,
    to_network_input,
    unletterbox_boxes,
    unletterbox_landmarks,
    write_image,
)
from featherface.pillow_images import rgb_of_pillow

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def four_corners() -> np.ndarray:
    """48x80: red, green / blue, white quarters, so that every turn and mirror differs."""
    image = np.zeros((48, 80, 3), dtype=np.uint8)
    image[:24, :40], image[:24, 40:], image[24:, :40], image[24:, 40:] = RED, GREEN, BLUE, WHITE
    return image


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_give_the_very_pixels_in_rgb_order(image_format: str) -> None:
    data = encode(Image.fromarray(four_corners()), image_format)
    np.testing.assert_array_equal(decode_image(data, "x"), four_corners())


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_keep_red_red_and_blue_blue(image_format: str) -> None:
    decoded = decode_image(encode(Image.fromarray(four_corners()), image_format, quality=95), "x")
    for (row, column), color in {(12, 20): RED, (12, 60): GREEN, (36, 20): BLUE, (36, 60): WHITE}.items():
        assert np.abs(decoded[row, column].astype(int) - color).max() <= 4


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(image_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    data = encode(
        Image.fromarray(four_corners()), image_format, exif=exif.tobytes(), **options.get(image_format, {})
    )
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    decoded = decode_image(data, "x")
    assert decoded.shape == expected.shape
    assert np.abs(decoded - expected).max() <= 3


def test_a_heic_photograph_is_read_upright() -> None:
    corners = cv2.resize(four_corners(), (128, 64), interpolation=cv2.INTER_NEAREST)
    for data, expected in ((FOUR_CORNERS, corners), (TURNED, np.rot90(corners, -1))):
        decoded = decode_image(data, "x")
        assert decoded.shape == expected.shape
        assert np.abs(decoded.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("length", range(8, len(FOUR_CORNERS), 25))
def test_a_cut_heic_photograph_is_refused(length: int) -> None:
    with pytest.raises(ImageDecodeError, match=r"^cut: is (a broken image \(.+\)|no JPEG.*)"):
        decode_image(FOUR_CORNERS[:length], "cut")


def test_without_the_extra_a_heic_photograph_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featherface.pillow_images.READS_HEIC", False)
    with pytest.raises(
        ImageDecodeError, match=r"^x: is an HEIC picture, which `pip install pi-heif` makes readable; or"
    ):
        decode_image(FOUR_CORNERS, "x")


@pytest.mark.parametrize(
    ("first", "others", "plugin"),
    [
        (b"avif", b"mif1miaf", "Avif"),
        (b"mif1", b"miafavif", "Avif"),
        (b"mif1", b"heicmiaf", "Heif"),
        (b"isom", b"avifmp41", None),
        (b"qt  ", b"", None),
    ],
)
def test_pictures_in_boxes_are_told_from_films(first: bytes, others: bytes, plugin: str | None) -> None:
    box = struct.pack(">I", 16 + len(others)) + b"ftyp" + first + bytes(4) + others
    assert image_plugin(box + b"avif" * 10) == plugin, "what comes behind the box says nothing"


def test_broken_exif_does_not_make_a_picture_unreadable() -> None:
    data = encode(Image.fromarray(four_corners()), "WEBP", lossless=True, exif=b"Exif\x00\x00nonsense")
    np.testing.assert_array_equal(decode_image(data, "x"), four_corners())


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_broken_exif_of_a_jpeg_is_ignored_in_silence(
    cut: int, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(four_corners()), "JPEG", exif=exif.tobytes()[:-cut])
    assert decode_image(data, "x").shape in {(48, 80, 3), (80, 48, 3)}
    assert [str(warning.message) for warning in recwarn] == caplog.messages == []


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_grey_is_repeated_on_three_channels(image_format: str) -> None:
    grey = np.full((8, 8), 77, dtype=np.uint8)
    decoded = decode_image(encode(Image.fromarray(grey), image_format), "x")
    np.testing.assert_array_equal(decoded, np.full((8, 8, 3), 77))


def test_sixteen_bit_grey_keeps_its_upper_byte_instead_of_clipping() -> None:
    grey = np.asarray([[0x0000, 0x1234], [0x80FF, 0xFFFF]], dtype=np.uint16)
    decoded = decode_image(encode(Image.fromarray(grey), "PNG"), "x")
    np.testing.assert_array_equal(decoded[:, :, 0], [[0x00, 0x12], [0x80, 0xFF]])
    np.testing.assert_array_equal(decoded[:, :, 0], decoded[:, :, 2])


def test_sixteen_bit_color_keeps_its_upper_byte() -> None:
    bgr = np.zeros((2, 2, 3), dtype=np.uint16)
    bgr[:] = (0x1100, 0x2200, 0x33FF)
    decoded = decode_image(cv2.imencode(".png", bgr)[1].tobytes(), "x")
    np.testing.assert_array_equal(decoded[0, 0], (0x33, 0x22, 0x11))


def test_transparency_is_laid_on_white() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, 0], rgba[0, 1], rgba[0, 2] = (255, 0, 0, 255), (9, 9, 9, 0), (0, 0, 0, 128)
    decoded = decode_image(encode(Image.fromarray(rgba), "PNG"), "x")
    np.testing.assert_array_equal(decoded[0], [(255, 0, 0), (255, 255, 255), (127, 127, 127)])


def test_transparent_palette_is_laid_on_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    decoded = decode_image(encode(image, "PNG", transparency=0), "x")
    np.testing.assert_array_equal(decoded[0], [(255, 255, 255), (255, 0, 0)])


def test_cmyk_jpeg_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow ink: red
    decoded = decode_image(encode(cmyk, "JPEG", quality=95), "x")
    assert np.abs(decoded[8, 8].astype(int) - RED).max() <= 4


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3), (4, 4, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_pixels_are_refused(shape: tuple[int, ...], dtype: type) -> None:
    _, encoded = cv2.imencode(".tif", np.zeros(shape, dtype=dtype))
    with pytest.raises(ImageDecodeError, match=r"^x\.tif: has floating-point pixels; convert it to 8 bits"):
        decode_image(encoded.tobytes(), "x.tif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_a_tiff_says_of_its_numbers_is_read_in_both_orders(order: str, count: int) -> None:
    def tiff(kind: int) -> bytes:
        start = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, 2)
        width = struct.pack(f"{order}HHIHH", 256, 3, 1, 3, 0)
        kinds = struct.pack(f"{order}{count}H", *[kind] * count)
        inline = kinds.ljust(4, b"\0") if count <= 2 else struct.pack(f"{order}I", 34)
        return start + width + struct.pack(f"{order}HHI", 339, 3, count) + inline + kinds * (count > 2)

    assert has_float_samples(tiff(3))
    assert not has_float_samples(tiff(1))
    assert not any(has_float_samples(tiff(3)[:end]) for end in range(32)), "cut within the tag"


@pytest.mark.parametrize("count", [1, 4, 5])
def test_what_a_big_tiff_says_of_its_numbers_is_read(count: int) -> None:
    def tiff(kind: int) -> bytes:
        kinds = struct.pack(f"<{count}H", *[kind] * count)
        value = int.from_bytes(kinds, "little") if count <= 4 else 32 + 20 * 2
        return big_tiff([(256, 4, 1, 3), (339, 3, count, value)], kinds * (count > 4))

    assert has_float_samples(tiff(3))
    assert not has_float_samples(tiff(1))
    assert not any(has_float_samples(tiff(3)[:end]) for end in range(56)), "cut within the tag"


def test_a_pillow_image_of_floating_point_pixels_is_refused() -> None:
    with pytest.raises(ImageDecodeError, match=r"^x: has floating-point pixels; convert it to 8 bits"):
        rgb_of_pillow(Image.new("F", (3, 3)), "x")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageDecodeError, match=r"gone\.jpg: cannot be read \(No such file"):
        read_image(tmp_path / "gone.jpg")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageDecodeError, match=r"cannot be read \(Is a directory\)"):
        read_image(tmp_path)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageDecodeError, match=r"empty\.jpg: is no JPEG, .* image \(the file is empty\)"):
        read_image(tmp_path / "empty.jpg")


def test_text_called_jpg_is_refused_with_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello world")
    with pytest.raises(ImageDecodeError, match=r"text\.jpg: is no JPEG.*it starts with b'hello wo'"):
        read_image(tmp_path / "text.jpg")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.999])
def test_truncated_jpeg_is_refused_though_opencv_half_decodes_it(kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), "JPEG")
    with pytest.raises(ImageDecodeError, match=r"^cut\.jpg: is a (truncated JPEG|broken image)"):
        decode_image(data[: int(kept * len(data))], "cut.jpg")


def test_end_of_the_thumbnail_does_not_hide_that_the_photograph_is_cut() -> None:
    thumbnail = encode(Image.new("RGB", (8, 8)), "JPEG")
    whole = encode(Image.fromarray(four_corners()), "JPEG", exif=b"Exif\x00\x00" + thumbnail)
    assert b"\xff\xd9" in whole[: len(whole) // 2]
    with pytest.raises(ImageDecodeError, match="truncated JPEG"):
        decode_image(whole[:-20], "x.jpg")


def test_bytes_after_the_end_of_a_jpeg_are_fine() -> None:
    data = encode(Image.fromarray(four_corners()), "JPEG")
    np.testing.assert_array_equal(decode_image(data + b"video of a phone", "x"), decode_image(data, "x"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpegs_have_the_very_pixels_that_opencv_reads(options: dict[str, object], mode: str) -> None:
    """Weights and published numbers are of photographs that OpenCV decoded."""
    noise = np.random.default_rng(0).integers(0, 255, (61, 83, 3), dtype=np.uint8)
    image = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2)).convert(mode)
    data = encode(image, "JPEG", **options)
    bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_image(data, "x"), bgr[:, :, ::-1])


def test_a_jpeg_that_lost_its_middle_is_read_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    data = encode(Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2)), "JPEG")
    whole = decode_image(data, "whole.jpg")
    assert caplog.messages == []
    half = len(data) // 2
    damaged = decode_image(data[:half] + data[half + 1000 :], "lost.jpg")
    assert len(caplog.messages) == 1
    assert re.match(r"lost\.jpg: is a damaged JPEG \(.+\); faces in what is lost", caplog.messages[0])
    np.testing.assert_array_equal(damaged[:24], whole[:24])
    assert (damaged != whole).any()


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_other_truncated_formats_are_refused(image_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), image_format)
    with pytest.raises(ImageDecodeError, match=r"^cut: is a (broken image \(.+\)|truncated WebP)"):
        decode_image(data[: len(data) // 2], "cut")


def test_random_bytes_after_a_signature_are_refused() -> None:
    random_bytes = np.random.default_rng(0).bytes(500)
    signatures = (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x10\0\0\0WEBP",
        b"BM",
        b"GIF89a",
        b"II*\0",
        b"MM\0*",
        b"\0\0\0\x18ftypavif",
        b"\0\0\0\x18ftypheic",
    )
    for signature in signatures:
        with pytest.raises(ImageDecodeError, match=r"^x: "):
            decode_image(signature + random_bytes, "x")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_png_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageDecodeError, match=r"has 20000x20000 pixels, the limit is 200 megapixels"):
        decode_image(png_header(20_000, 20_000), "bomb.png")


def test_jpeg_bomb_is_refused_before_it_is_decoded() -> None:
    data = encode(Image.new("RGB", (16, 16)), "JPEG")
    start_of_frame = data.index(b"\xff\xc0")
    data = data[: start_of_frame + 5] + struct.pack(">HH", 60_000, 60_000) + data[start_of_frame + 9 :]
    with pytest.raises(ImageDecodeError, match=r"has 60000x60000 pixels, the limit"):
        decode_image(data, "bomb.jpg")


def test_image_of_a_hundred_megapixels_gives_no_warning_only_a_reason() -> None:
    # Pillow warns here in Image.open; warnings are errors in this test suite.
    with pytest.raises(ImageDecodeError, match="broken image"):
        decode_image(png_header(10_000, 10_000), "x.png")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".png", ".PNG"])
def test_written_image_reads_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    write_image(path, four_corners(), quality=95)
    assert np.abs(read_image(path)[12, 20].astype(int) - RED).max() <= 4
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_longest_name_that_a_file_can_have_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 251 + ".png")
    write_image(path, four_corners())
    np.testing.assert_array_equal(read_image(path), four_corners())


def test_written_image_has_ordinary_permissions(tmp_path: Path) -> None:
    write_image(tmp_path / "picture.png", four_corners())
    (tmp_path / "ordinary").touch()
    assert stat.S_IMODE((tmp_path / "picture.png").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "ordinary").stat().st_mode
    )


def test_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"written as \.jpg, \.jpeg, \.webp, \.png, not as '\.docx'"):
        write_image(tmp_path / "picture.docx", four_corners())


def test_writing_to_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"picture\.png: cannot be written \(No such file or directory\)"):
        write_image(tmp_path / "missing" / "picture.png", four_corners())


def test_long_side_is_exact_and_the_scale_says_what_happened() -> None:
    resized, scale_xy = resize_long_side(np.zeros((100, 301, 3), np.uint8), 150)
    assert resized.shape == (50, 150, 3)
    assert scale_xy == (150 / 301, 50 / 100)


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_array_equal(resize_long_side(stripes, 32)[0], np.full((32, 32, 3), 100))


def test_enlarging_interpolates() -> None:
    step = np.zeros((1, 2, 3), np.uint8)
    step[:, 1] = 200
    enlarged = resize_long_side(step, 8)[0][0, :, 0].astype(int)
    assert (np.diff(enlarged) >= 0).all()
    assert len(set(enlarged.tolist())) > 2


def test_thin_image_keeps_a_pixel() -> None:
    assert resize_long_side(np.zeros((1, 2000, 3), np.uint8), 100)[0].shape == (1, 100, 3)


def test_letterbox_pads_right_and_bottom_with_the_mean_to_multiples_of_32() -> None:
    boxed = letterbox(np.zeros((33, 64, 3), np.uint8))
    assert boxed.image.shape == (64, 64, 3)
    assert boxed.scale_xy == (1.0, 1.0)
    assert boxed.pad_right_bottom_px == (0, 31)
    assert boxed.source_hw == (33, 64)
    assert not boxed.image[:33].any()
    assert (boxed.image[33:] == MEAN_RGB).all()


def test_letterbox_of_a_fitting_image_is_the_image() -> None:
    image = np.ones((32, 64, 3), np.uint8)
    assert letterbox(image).image is image


def test_letterbox_scales_the_long_side() -> None:
    boxed = letterbox(np.zeros((480, 960, 3), np.uint8), 320)
    assert boxed.image.shape == (160, 320, 3)
    assert boxed.pad_right_bottom_px == (0, 0)


def test_letterbox_refuses_no_size() -> None:
    with pytest.raises(ValueError, match="size_px must be at least 1, got 0"):
        letterbox(four_corners(), 0)


def test_boxes_come_back_to_source_pixels_and_are_cut_to_the_source() -> None:
    boxed = letterbox(np.zeros((100, 200, 3), np.uint8), 100)
    boxes_xyxy = np.asarray([[10, 10, 50, 40], [-5, 0, 120, 64]], np.float32)
    mapped = unletterbox_boxes(boxes_xyxy, boxed)
    np.testing.assert_allclose(mapped, [[20, 20, 100, 80], [0, 0, 200, 100]])
    assert mapped.dtype == np.float32


def test_landmarks_come_back_and_are_not_cut() -> None:
    boxed = letterbox(np.zeros((100, 200, 3), np.uint8), 100)
    landmarks_xy = np.full((1, 5, 2), -3, np.float32)
    np.testing.assert_allclose(unletterbox_landmarks(landmarks_xy, boxed), np.full((1, 5, 2), -6))


def test_no_faces_stay_no_faces_on_the_way_back() -> None:
    boxed = letterbox(np.zeros((100, 200, 3), np.uint8), 100)
    assert unletterbox_boxes(np.zeros((0, 4), np.float32), boxed).shape == (0, 4)
    assert unletterbox_landmarks(np.zeros((0, 5, 2), np.float32), boxed).shape == (0, 5, 2)


def test_network_input_is_bgr_minus_the_mean() -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = (10, 20, 30)
    expected = [[[-104, 30 - 104]], [[-117, 20 - 117]], [[-123, 10 - 123]]]
    network_input = to_network_input(image)
    np.testing.assert_array_equal(network_input, np.asarray(expected, np.float32))
    assert network_input.dtype == np.float32
    assert network_input.flags.c_contiguous


def test_padding_is_zero_for_the_network() -> None:
    assert not to_network_input(letterbox(np.zeros((1, 32, 3), np.uint8)).image)[:, 1:].any()


def test_network_input_can_be_written_into_a_batch() -> None:
    batch = np.full((2, 3, 48, 80), np.nan, np.float32)
    returned = to_network_input(four_corners(), out=batch[1])
    assert returned.base is batch
    np.testing.assert_array_equal(batch[1], to_network_input(four_corners()))
    assert np.isnan(batch[0]).all()


def test_network_input_of_a_mirrored_view_equals_that_of_its_copy() -> None:
    mirrored = four_corners()[:, ::-1]
    np.testing.assert_array_equal(to_network_input(mirrored), to_network_input(mirrored.copy()))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (1, 4, 4, 3)])
def test_network_input_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"an \(H, W, 3\) uint8 image is needed, got"):
        to_network_input(np.zeros(shape, np.uint8))


def test_importing_does_not_load_torch() -> None:
    code = (
        "import sys, featherface.imaging, featherface.data.validation, featherface.data.importing;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
