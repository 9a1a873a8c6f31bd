"""Pictures of all kinds for the page of `featherface demo`, and what its answer has to be."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

from featherface.data.synthetic_scenes import render_scene

MAX_PX, MAX_SCORE = 1.0, 0.01


def encode(image: np.ndarray | Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        buffer, image_format, **options
    )
    return buffer.getvalue()


# What undoes an orientation of EXIF.
INVERSE = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}


def turned(portrait: np.ndarray, orientation: int) -> bytes:
    """As a camera that is held askew writes it: pixels turned away, and a note of how to turn them back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Not square, so that a turn that is forgotten shows in the size.
    stored = Image.fromarray(portrait[:, 60:450]).transpose(INVERSE[orientation])
    return encode(stored, "JPEG", quality=95, exif=exif)


def scene(index: int, hw: tuple[int, int]) -> np.ndarray:
    return render_scene(78, "val", index, hw)[0]


def transparent(portrait: np.ndarray) -> np.ndarray:
    alpha = np.full(portrait.shape[:2], 255, np.uint8)
    alpha[:, 300:] = 0
    return np.dstack([portrait, alpha])


def same_faces(found: dict[str, Any], expected: Any) -> tuple[float, float, float]:
    """Check a page's faces against Python's; the largest differences of boxes, landmarks and scores."""
    assert (found["width"], found["height"]) == (expected.width, expected.height)
    assert len(found["faces"]) == len(expected)
    if len(expected) == 0:
        return 0.0, 0.0, 0.0
    boxes = np.abs(np.array([face["box_xyxy"] for face in found["faces"]]) - expected.boxes).max()
    points = np.abs(np.array([face["landmarks"] for face in found["faces"]]) - expected.landmarks).max()
    scores = np.abs(np.array([face["score"] for face in found["faces"]]) - expected.scores).max()
    assert boxes < MAX_PX
    assert points < MAX_PX
    assert scores < MAX_SCORE
    return float(boxes), float(points), float(scores)


PICTURES = {
    "portrait.png": lambda portrait: encode(portrait, "PNG"),
    "portrait.jpg": lambda portrait: encode(portrait, "JPEG", quality=90),
    "portrait.webp": lambda portrait: encode(portrait, "WEBP", quality=90),
    "portrait.gif": lambda portrait: encode(portrait, "GIF"),
    "crowd-shrunk.png": lambda _: encode(scene(15, (720, 960)), "PNG"),
    "crowd-halved.jpg": lambda _: encode(scene(2, (960, 1280)), "JPEG", quality=92),
    "crowd-enlarged.png": lambda _: encode(scene(4, (360, 480)), "PNG"),
    "tall.png": lambda _: encode(scene(13, (900, 611)), "PNG"),
    "turned-3.jpg": lambda portrait: turned(portrait, 3),
    "turned-6.jpg": lambda portrait: turned(portrait, 6),
    "turned-7.jpg": lambda portrait: turned(portrait, 7),
    "grey.jpg": lambda portrait: encode(Image.fromarray(portrait).convert("L"), "JPEG", quality=90),
    "grey.png": lambda portrait: encode(Image.fromarray(portrait).convert("L"), "PNG"),
    "transparent.png": lambda portrait: encode(transparent(portrait), "PNG"),
    "tiny.png": lambda portrait: encode(
        cv2.resize(portrait[30:200, 150:300], (30, 34), interpolation=cv2.INTER_AREA), "PNG"
    ),
    "one-pixel.png": lambda portrait: encode(portrait[:1, :1], "PNG"),
    "line.png": lambda portrait: encode(portrait[:1], "PNG"),
}
