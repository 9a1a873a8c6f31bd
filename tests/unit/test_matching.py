"""Which prior learns which face, on priors few enough to work out by hand."""

import pytest
import torch
from torch import Tensor

from featherface.geometry import box_iou, cxcywh_to_xyxy
from featherface.losses import matching
from featherface.losses.matching import match_priors
from featherface.structures import Targets

# Three squares of 10 px in a row, 10 px apart, and one of 40 px around the second.
PRIORS = torch.tensor(
    [[5.0, 5.0, 10.0, 10.0], [15.0, 5.0, 10.0, 10.0], [25.0, 5.0, 10.0, 10.0], [15.0, 5.0, 40.0, 40.0]]
)


def make_targets(faces: list[list[list[float]]], ignored: list[list[list[float]]] | None = None) -> Targets:
    """Per image the boxes to learn and, after them, the boxes to ignore; padded with zeros."""
    ignored = ignored if ignored is not None else [[] for _ in faces]
    images = [here + there for here, there in zip(faces, ignored, strict=True)]
    num_faces = max(len(image) for image in images)
    boxes = torch.zeros(len(images), num_faces, 4)
    is_face = torch.zeros(len(images), num_faces, dtype=torch.bool)
    is_ignored = torch.zeros_like(is_face)
    for image_idx, image in enumerate(images):
        for gt_idx, box in enumerate(image):
            boxes[image_idx, gt_idx] = torch.tensor(box)
            is_face[image_idx, gt_idx] = gt_idx < len(faces[image_idx])
            is_ignored[image_idx, gt_idx] = gt_idx >= len(faces[image_idx])
    landmarks = torch.zeros(len(images), num_faces, 5, 2)
    return Targets(boxes, landmarks, torch.zeros_like(is_face), is_face, is_ignored)


def test_face_takes_the_prior_it_covers_and_leaves_the_rest_to_the_background() -> None:
    matches = match_priors(PRIORS, make_targets([[[0, 0, 10, 10]]]))
    assert matches.labels.tolist() == [[1, 0, 0, 0]]
    assert matches.matched_gt_idx.tolist() == [[0, -1, -1, -1]]


def test_every_prior_above_the_threshold_learns_the_face() -> None:
    # 20 x 10 px: IoU 1/2 with the first two priors, 200/1600 = 1/8 with the large one.
    targets = make_targets([[[0, 0, 20, 10]]])
    assert match_priors(PRIORS, targets, match_iou_threshold=0.5).labels.tolist() == [[1, 1, 0, 0]]
    assert match_priors(PRIORS, targets, match_iou_threshold=0.125).labels.tolist() == [[1, 1, 0, 1]]


def test_of_two_equally_good_priors_the_first_is_the_own_one() -> None:
    targets = make_targets([[[0, 0, 20, 10]]])
    assert match_priors(PRIORS, targets, match_iou_threshold=0.51).labels.tolist() == [[1, 0, 0, 0]]


def test_face_below_the_threshold_still_gets_its_best_prior() -> None:
    matches = match_priors(PRIORS, make_targets([[[22, 2, 24, 4]]]))  # IoU 0.04 with the third
    assert matches.labels.tolist() == [[0, 0, 1, 0]]


def test_prior_that_two_faces_want_learns_the_one_it_overlaps_more() -> None:
    # Both overlap the first prior by more than 0.35; the second face's own prior is the second one.
    matches = match_priors(PRIORS, make_targets([[[1, 0, 10, 10], [4, 0, 14, 10]]]), match_iou_threshold=0.35)
    assert matches.labels.tolist() == [[1, 1, 0, 0]]
    assert matches.matched_gt_idx.tolist() == [[0, 1, -1, -1]]


def test_two_faces_with_one_best_prior_both_get_one() -> None:
    # Both lie in the first prior. The larger overlaps it more, so the smaller one, given first, moves on to
    # the only other prior that it touches: the large one.
    matches = match_priors(PRIORS, make_targets([[[0, 0, 4, 4], [0, 0, 9, 9]]]))
    assert matches.labels.tolist() == [[1, 0, 0, 1]]
    assert matches.matched_gt_idx.tolist() == [[1, -1, -1, 0]]


def test_displaced_face_displaces_another_one() -> None:
    # Face 0 and 1 want prior 1; 1 overlaps it more. Face 0 then takes prior 2 from face 2, which overlaps it
    # less and is left with the large one.
    faces = [[13.0, 0, 26, 10], [11.0, 0, 20, 10], [27.0, 0, 40, 10]]
    iou = box_iou(torch.tensor(faces), cxcywh_to_xyxy(PRIORS))
    assert iou.argmax(dim=1).tolist() == [1, 1, 2]
    assert iou[0, 2] > iou[2, 2]
    matches = match_priors(PRIORS, make_targets([faces]), match_iou_threshold=0.95)
    assert matches.matched_gt_idx.tolist() == [[-1, 1, 0, 2]]


def test_equal_faces_share_out_the_priors_in_their_order() -> None:
    matches = match_priors(PRIORS, make_targets([[[0, 0, 10, 10]] * 2]), match_iou_threshold=0.9)
    assert matches.matched_gt_idx.tolist() == [[0, -1, -1, 1]]


def test_face_for_which_no_prior_is_left_gets_none() -> None:
    matches = match_priors(PRIORS[:1], make_targets([[[0, 0, 8, 8], [0, 0, 9, 9]]]))
    assert matches.matched_gt_idx.tolist() == [[1]]


def test_images_of_a_batch_do_not_share_priors() -> None:
    targets = make_targets([[[0, 0, 10, 10]], [[0, 0, 9, 9], [20, 0, 30, 10]], []])
    matches = match_priors(PRIORS, targets)
    assert matches.labels.tolist() == [[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert matches.matched_gt_idx.tolist() == [[0, -1, -1, -1], [0, -1, 1, -1], [-1, -1, -1, -1]]


def test_prior_half_inside_an_ignored_face_is_ignored() -> None:
    # The ignored face covers the first prior, half of the second, nothing of the third, 1/8 of the large one.
    targets = make_targets([[]], [[[-5, 0, 15, 10]]])
    assert match_priors(PRIORS, targets).labels.tolist() == [[-1, -1, 0, 0]]
    targets = make_targets([[]], [[[-5, 0, 14.9, 10]]])
    # The second is now covered by less than a half, and overlaps by 0.196: below half of the best 0.5025.
    assert match_priors(PRIORS, targets).labels.tolist() == [[-1, 0, 0, 0]]


def test_ignored_face_smaller_than_all_priors_shields_the_one_it_would_have_matched() -> None:
    matches = match_priors(PRIORS, make_targets([[]], [[[22, 2, 24, 4]]]))
    assert matches.labels.tolist() == [[0, 0, -1, 0]]


def test_small_ignored_face_shields_priors_half_as_good_as_its_best() -> None:
    # 5 x 6 px across the border of the first two priors, overlaps 18/112 and 12/118 ...
    assert match_priors(PRIORS, make_targets([[]], [[[7, 2, 12, 8]]])).labels.tolist() == [[-1, -1, 0, 0]]
    # ... and 24/106 and 6/124.
    assert match_priors(PRIORS, make_targets([[]], [[[6, 2, 11, 8]]])).labels.tolist() == [[-1, 0, 0, 0]]


def test_ignored_face_larger_than_a_prior_ignores_all_priors_inside() -> None:
    matches = match_priors(PRIORS, make_targets([[]], [[[-100, -100, 100, 100]]]))
    assert matches.labels.tolist() == [[-1, -1, -1, -1]]


def test_positive_wins_over_ignored() -> None:
    box = [0.0, 0, 10, 10]
    matches = match_priors(PRIORS, make_targets([[box]], [[box]]))
    assert matches.labels.tolist() == [[1, 0, 0, 0]]
    assert matches.matched_gt_idx.tolist() == [[0, -1, -1, -1]]


@pytest.mark.parametrize("kind", ["face", "ignored"])
def test_box_without_area_changes_nothing(kind: str) -> None:
    boxes: list[list[float]] = [[5, 5, 5, 9], [5, 5, 4, 4]]
    targets = make_targets([boxes]) if kind == "face" else make_targets([[]], [boxes])
    assert match_priors(PRIORS, targets).labels.tolist() == [[0, 0, 0, 0]]


def test_batch_without_any_face_is_background() -> None:
    matches = match_priors(PRIORS, make_targets([[], []]))
    assert matches.labels.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]
    assert matches.labels.dtype == torch.int8
    assert matches.matched_gt_idx.dtype == torch.int64


def test_small_face_gets_as_many_priors_as_asked_for_if_they_overlap_enough() -> None:
    # 4 x 4 px across the border of the first two priors: IoU 8/108 with each, so 0.074 is too little ...
    targets = make_targets([[[8, 3, 12, 7]]])
    assert match_priors(PRIORS, targets, min_priors_per_face=2).labels.tolist() == [[1, 0, 0, 0]]
    # ... and of 6 x 6 px: 18/118 = 0.153 each is enough.
    targets = make_targets([[[7, 2, 13, 8]]])
    assert match_priors(PRIORS, targets).labels.tolist() == [[1, 0, 0, 0]]
    assert match_priors(PRIORS, targets, min_priors_per_face=2).labels.tolist() == [[1, 1, 0, 0]]
    assert match_priors(PRIORS, targets, min_priors_per_face=99).labels.tolist() == [[1, 1, 0, 0]]


def test_a_face_keeps_more_priors_than_asked_for_if_they_reach_the_threshold() -> None:
    targets = make_targets([[[0, 0, 20, 10]]])  # overlaps 1/2, 1/2, 0 and 1/8
    matches = match_priors(PRIORS, targets, match_iou_threshold=0.125, min_priors_per_face=2)
    assert matches.labels.tolist() == [[1, 1, 0, 1]]


def test_result_does_not_depend_on_the_size_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)  # in which faces of both images are sent on to other priors
    corner = torch.rand(2, 40, 2, generator=generator) * 30
    boxes = torch.cat((corner, corner + torch.rand(2, 40, 2, generator=generator) * 12 + 1), dim=-1)
    is_face = torch.rand(2, 40, generator=generator) < 0.6
    targets = Targets(boxes, boxes.new_zeros(2, 40, 5, 2), torch.zeros_like(is_face), is_face, ~is_face)
    priors = torch.cat((torch.rand(50, 2, generator=generator) * 40, torch.full((50, 2), 9.0)), dim=1)
    whole = match_priors(priors, targets, min_priors_per_face=3)
    monkeypatch.setattr(matching, "_BLOCK_ELEMENTS", 1)
    single = match_priors(priors, targets, min_priors_per_face=3)
    assert torch.equal(whole.labels, single.labels)
    assert torch.equal(whole.matched_gt_idx, single.matched_gt_idx)


def test_overlaps_in_blocks_equal_those_of_geometry() -> None:
    generator = torch.Generator().manual_seed(4)
    boxes = torch.rand(100, 4, generator=generator, dtype=torch.float64) * 40
    boxes[0] = 5.0  # no area
    priors = cxcywh_to_xyxy(PRIORS.double())
    blocks = [iou for _, iou in matching._iou_blocks(boxes, priors.t().contiguous())]
    torch.testing.assert_close(torch.cat(blocks), box_iou(boxes, priors))


def test_double_and_non_contiguous_boxes_match_like_any_other() -> None:
    targets = make_targets([[[0, 0, 10, 10]]])
    boxes = torch.stack((targets.gt_boxes_xyxy, targets.gt_boxes_xyxy), dim=-1).double()[..., 0]
    assert not boxes.is_contiguous()
    strided = Targets(
        boxes, targets.gt_landmarks_xy, targets.has_landmarks, targets.is_face, targets.is_ignored
    )
    assert match_priors(PRIORS.double(), strided).labels.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize("threshold", [0.0, 1.1, float("nan")])
def test_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"match_iou_threshold must be in \(0, 1\], got"):
        match_priors(PRIORS, make_targets([[]]), match_iou_threshold=threshold)


def test_less_than_one_prior_per_face_is_refused() -> None:
    with pytest.raises(ValueError, match="min_priors_per_face must be 1 or more, got 0"):
        match_priors(PRIORS, make_targets([[]]), min_priors_per_face=0)


def test_ground_truth_is_left_as_it_was() -> None:
    targets = make_targets([[[0, 0, 4, 4], [0, 0, 9, 9]]], [[[20, 0, 30, 10]]])
    before: list[Tensor] = [tensor.clone() for tensor in vars(targets).values()]
    match_priors(PRIORS, targets)
    assert all(torch.equal(a, b) for a, b in zip(before, vars(targets).values(), strict=True))
