"""COCO average precision of one class, faces, as a torchmetrics metric around pycocotools.

Unlike `torchmetrics.detection.MeanAveragePrecision` it needs no torchvision, judges up to 1,000 detections an
image (with the usual 100, crowds lose most of their recall) and is built for one class. Importing this module
imports torch and torchmetrics (3 s): import it where the metric is made.

Dimensions: `N` detections and `G` faces of one image.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

if TYPE_CHECKING:
    import numpy.typing as npt

_FACE = 1
_AREA_LABELS = ("", "_small", "_medium", "_large")
_IOU_50, _IOU_75 = 0, 5
"""Positions among COCO's IoU thresholds .5, .55, ... .95."""


class FaceAveragePrecision(Metric):
    """AP and AR over IoU .5:.95, AP at .5 and .75, and AP and AR of small, medium and large faces.

    Small is below 32 x 32 and large above 96 x 96 pixels of the original image. An ignored face is COCO's
    crowd: a detection inside it counts neither way. Images without faces count their false positives. A value
    is -1, as in pycocotools, where there is no face to find.

    Args:
        max_detections: best detections of an image that are judged.

    Reference:
        Lin et al., Microsoft COCO, arXiv:1405.0312; the evaluation of pycocotools 2.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    det_rows: list[Tensor]
    det_counts: list[Tensor]
    gt_boxes: list[Tensor]
    gt_ignored: list[Tensor]
    gt_counts: list[Tensor]

    def __init__(self, max_detections: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, got {max_detections}")
        self.max_detections = max_detections
        # Rows of all images end to end beside the number of each image's: these survive concatenation across
        # processes, which a list with one entry an image does not.
        for name in ("det_rows", "det_counts", "gt_boxes", "gt_ignored", "gt_counts"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        rows: npt.NDArray[np.floating],
        gt_boxes_xywh: npt.NDArray[np.floating],
        is_ignored: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Add one image.

        Args:
            rows: (N, 5) detections: x, y, width, height in pixels and score, in any order.
            gt_boxes_xywh: (G, 4) every annotated face.
            is_ignored: (G,) faces that are neither to be found nor false; None: all are to be found.

        Raises:
            ValueError: shapes do not fit, or a number is not finite.
        """
        rows = _as_finite(rows, 5, "rows")
        gt_boxes_xywh = _as_finite(gt_boxes_xywh, 4, "gt_boxes_xywh")
        ignored = np.zeros(len(gt_boxes_xywh), bool) if is_ignored is None else np.asarray(is_ignored, bool)
        if ignored.shape != (len(gt_boxes_xywh),):
            raise ValueError(f"is_ignored must be ({len(gt_boxes_xywh)},), got {ignored.shape}")
        self.det_rows.append(torch.tensor(rows, device=self.device))
        self.det_counts.append(torch.tensor([len(rows)], device=self.device))
        self.gt_boxes.append(torch.tensor(gt_boxes_xywh, device=self.device))
        self.gt_ignored.append(torch.tensor(ignored, device=self.device))
        self.gt_counts.append(torch.tensor([len(gt_boxes_xywh)], device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """`ap`, `ap50`, `ap75`, `ar`, `ap_` and `ar_` of `small`, `medium`, `large`: in [0, 1] or -1."""
        precision, recall = self._evaluate()
        # pycocotools: precision (T, R, A), recall (T, A) with -1 where there is no face.
        values = {"ap": _mean(precision[..., 0])}
        values["ap50"] = _mean(precision[_IOU_50, :, 0])
        values["ap75"] = _mean(precision[_IOU_75, :, 0])
        for area_idx, label in enumerate(_AREA_LABELS):
            values[f"ap{label}"] = _mean(precision[..., area_idx])
            values[f"ar{label}"] = _mean(recall[..., area_idx])
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def _evaluate(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        gt_counts, det_counts = _cat(self.gt_counts, 1), _cat(self.det_counts, 1)
        images = [{"id": image_idx} for image_idx in range(1, len(gt_counts) + 1)]
        gt_boxes, ignored, rows = _cat(self.gt_boxes, 4), _cat(self.gt_ignored, 1), _cat(self.det_rows, 5)
        faces = _annotate(gt_boxes, gt_counts, iscrowd=ignored.astype(int))
        found = _annotate(rows[:, :4], det_counts, score=rows[:, 4])
        with contextlib.redirect_stdout(io.StringIO()):
            # Not loadRes: it fails on an empty list.
            evaluation = _SparseEval(_as_coco(images, faces), _as_coco(images, found), "bbox")
            evaluation.params.maxDets = [self.max_detections]
            evaluation.evaluate()
            evaluation.accumulate()
        # (T, R, K, A, M) and (T, K, A, M), of one class and one limit.
        return evaluation.eval["precision"][:, :, 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]


class _SparseEval(COCOeval):  # type: ignore[misc]  # pycocotools ships no types
    """COCOeval that looks only at pairs that overlap enough: equal results in a tenth of the time.

    The original walks all faces for each detection, threshold and area; nearly all barely touch.
    """

    def evaluateImg(  # noqa: N802  # the name to override
        self,
        imgId: int,  # noqa: N803
        catId: int,  # noqa: N803
        aRng: list[float],  # noqa: N803
        maxDet: int,  # noqa: N803
    ) -> dict[str, Any] | None:
        """Match the detections of one image to its faces; only what `accumulate` reads is answered."""
        faces, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not faces and not found:
            return None
        is_ignored = np.array([face["ignore"] for face in faces], dtype=bool) | _is_outside(faces, aRng)
        face_order = np.argsort(is_ignored, kind="mergesort")
        faces, is_ignored = [faces[i] for i in face_order], is_ignored[face_order]
        found = [found[i] for i in np.argsort([-d["score"] for d in found], kind="mergesort")[:maxDet]]
        # (N, G); pycocotools gives an empty list where either side is empty.
        ious = np.asarray(self.ious[imgId, catId]).reshape(len(found), len(faces))[:, face_order]
        chosen = _match(ious, self.params.iouThrs, is_ignored, [bool(face["iscrowd"]) for face in faces])
        is_matched = chosen >= 0
        is_free = is_matched & is_ignored[chosen] if faces else is_matched
        return {
            "dtMatches": is_matched,
            "dtScores": [d["score"] for d in found],
            "gtIgnore": is_ignored,
            "dtIgnore": is_free | (~is_matched & _is_outside(found, aRng)),
        }


def _is_outside(annotations: list[dict[str, Any]], area_range: list[float]) -> npt.NDArray[np.bool_]:
    areas = np.array([annotation["area"] for annotation in annotations], dtype=np.float64)
    return (areas < area_range[0]) | (areas > area_range[1])


def _match(
    ious: npt.NDArray[np.float64],
    thresholds: npt.NDArray[np.float64],
    is_ignored: npt.NDArray[np.bool_],
    is_crowd: list[bool],
) -> npt.NDArray[np.int64]:
    """(T, N): the face that each detection, best first, takes at each IoU threshold, or -1."""
    num_detections = len(ious)
    chosen = np.full((len(thresholds), num_detections), -1, dtype=np.int64)
    limits = [min(float(threshold), 1 - 1e-10) for threshold in thresholds]
    taken: list[set[int]] = [set() for _ in limits]
    ignored = is_ignored.tolist()
    is_near = ious >= limits[0]
    for det_idx in np.flatnonzero(is_near.any(axis=1)).tolist():
        near = np.flatnonzero(is_near[det_idx]).tolist()
        pairs = list(zip(near, ious[det_idx, near].tolist(), strict=True))
        for threshold_idx, limit in enumerate(limits):
            face = _choose(pairs, limit, ignored, taken[threshold_idx])
            if face >= 0:
                chosen[threshold_idx, det_idx] = face
                if not is_crowd[face]:  # a crowd takes any number of detections
                    taken[threshold_idx].add(face)
    return chosen


def _choose(pairs: list[tuple[int, float]], limit: float, is_ignored: list[bool], taken: set[int]) -> int:
    """The free face with the largest overlap, the last of equals; an ignored one only if no other will do."""
    best = -1
    for face, overlap in pairs:
        if overlap < limit or face in taken:
            continue
        if best >= 0 and is_ignored[face] and not is_ignored[best]:
            break
        best, limit = face, overlap
    return best


def _annotate(
    boxes_xywh: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], **columns: npt.NDArray[Any]
) -> list[dict[str, Any]]:
    """COCO annotations; ids start at 1, because pycocotools takes 0 for "unmatched"."""
    image_ids = np.repeat(np.arange(1, len(counts) + 1), counts.astype(np.int64)).tolist()
    areas = (boxes_xywh[:, 2] * boxes_xywh[:, 3]).tolist()
    extra = [
        dict(zip(columns, values, strict=True))
        for values in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]
    return [
        {
            "id": idx,
            "image_id": image_id,
            "category_id": _FACE,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            **more,
        }
        for idx, (image_id, box, area, more) in enumerate(
            zip(image_ids, boxes_xywh.tolist(), areas, extra, strict=True), start=1
        )
    ]


def _as_coco(images: list[dict[str, int]], annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": _FACE, "name": "face"}],
    }
    coco.createIndex()
    return coco


def _as_finite(values: npt.NDArray[np.floating], columns: int, name: str) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        array = array.reshape(0, columns)
    if array.ndim != 2 or array.shape[1] != columns or not np.isfinite(array).all():
        raise ValueError(f"{name} must be (n, {columns}) finite numbers, got shape {array.shape}")
    return array


def _cat(state: list[Tensor] | Tensor, columns: int) -> npt.NDArray[Any]:
    """All entries of a state end to end; a state is a list here and one tensor after a synchronization."""
    if isinstance(state, list) and not state:
        return np.empty((0, columns)) if columns > 1 else np.empty(0, dtype=np.int64)
    array: npt.NDArray[Any] = dim_zero_cat(state).cpu().numpy()
    return array


def _mean(values: npt.NDArray[np.float64]) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0
