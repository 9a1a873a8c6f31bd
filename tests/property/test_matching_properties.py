"""Laws of the matching, over random faces and the priors of a small input."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherface.geometry import box_iou, cxcywh_to_xyxy, decode_boxes, encode_boxes
from featherface.losses.matching import Matches, match_priors
from featherface.models.priors import make_priors
from featherface.structures import Targets

SIDE_PX = 96


PRIORS = torch.from_numpy(make_priors((SIDE_PX, SIDE_PX)).copy())
seeds = st.integers(0, 2**31)
counts = st.integers(0, 30)


def random_targets(seed: int, num_faces: int, *, max_side_px: float = 60.0, batch: int = 2) -> Targets:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    center = rand(batch, num_faces, 2) * SIDE_PX
    half = (3 + rand(batch, num_faces, 2) * (max_side_px - 3)) / 2
    boxes = torch.cat((center - half, center + half), dim=-1)
    kind = rand(batch, num_faces)
    is_face, is_ignored = kind < 0.7, kind > 0.85  # the rest is padding
    return Targets(boxes, torch.zeros(batch, num_faces, 5, 2), torch.zeros_like(is_face), is_face, is_ignored)


def greedy(iou: torch.Tensor) -> dict[int, int]:
    """Own prior of each face by the definition: all pairs from the largest overlap down."""
    pairs = sorted((-float(iou[g, p]), g, p) for g, p in iou.nonzero().tolist())
    own: dict[int, int] = {}
    for _, face, prior in pairs:
        if face not in own and prior not in own.values():
            own[face] = prior
    return own


@settings(max_examples=40, deadline=None)
@given(seeds, counts)
def test_every_face_gets_a_prior(seed: int, num_faces: int) -> None:
    targets = random_targets(seed, num_faces)
    matches = match_priors(PRIORS, targets)
    for image_idx in range(2):
        learnt = set(matches.matched_gt_idx[image_idx].tolist()) - {-1}
        assert learnt == set(targets.is_face[image_idx].nonzero().flatten().tolist())


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 25))
def test_own_priors_are_those_of_the_greedy_definition(seed: int, num_faces: int) -> None:
    # Random priors: on a grid many overlaps are exactly equal, and the definition leaves ties open.
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(40, 2, generator=generator, dtype=torch.float64) * SIDE_PX
    priors = torch.cat((center, 20 + torch.rand(40, 2, generator=generator, dtype=torch.float64) * 20), dim=1)
    targets = random_targets(seed, num_faces, batch=1)
    targets = Targets(
        targets.gt_boxes_xyxy.double(),
        targets.gt_landmarks_xy,
        targets.has_landmarks,
        torch.ones_like(targets.is_face),
        torch.zeros_like(targets.is_ignored),
    )
    matches = match_priors(priors, targets, match_iou_threshold=1.0)  # nothing but own priors
    got = {int(g): p for p, g in enumerate(matches.matched_gt_idx[0].tolist()) if g >= 0}
    assert got == greedy(box_iou(targets.gt_boxes_xyxy[0], cxcywh_to_xyxy(priors)))


@settings(max_examples=40, deadline=None)
@given(seeds, counts, st.floats(0.2, 0.9))
def test_labels_and_indices_agree_and_high_overlap_is_never_background(
    seed: int, num_faces: int, threshold: float
) -> None:
    targets = random_targets(seed, num_faces)
    matches = match_priors(PRIORS, targets, match_iou_threshold=threshold)
    assert torch.equal(matches.labels == 1, matches.matched_gt_idx >= 0)
    assert set(matches.labels.unique().tolist()) <= {-1, 0, 1}
    for image_idx in range(2):
        iou = box_iou(targets.gt_boxes_xyxy[image_idx], cxcywh_to_xyxy(PRIORS))  # (G, P)
        overlaps_face = (iou[targets.is_face[image_idx]] >= threshold).any(dim=0)
        overlaps_ignored = (iou[targets.is_ignored[image_idx]] >= threshold).any(dim=0)
        assert bool((matches.labels[image_idx][overlaps_face] == 1).all())
        assert bool((matches.labels[image_idx][overlaps_ignored] != 0).all())


@settings(max_examples=30, deadline=None)
@given(seeds, counts)
def test_order_of_the_faces_only_renames_them(seed: int, num_faces: int) -> None:
    targets = random_targets(seed, num_faces)
    order = torch.randperm(num_faces, generator=torch.Generator().manual_seed(seed))
    shuffled = Targets(*(tensor[:, order] for tensor in vars(targets).values()))
    plain, renamed = match_priors(PRIORS, targets), match_priors(PRIORS, shuffled)
    assert torch.equal(plain.labels == -1, renamed.labels == -1) or _has_ties(targets)
    named = torch.cat((order, torch.tensor([-1])))[renamed.matched_gt_idx]
    assert torch.equal(named, plain.matched_gt_idx) or _has_ties(targets)


def _has_ties(targets: Targets) -> bool:
    """Two faces of one image overlap some prior equally: the first one wins, and the order matters."""
    for image_idx in range(2):
        boxes = targets.gt_boxes_xyxy[image_idx][targets.is_face[image_idx]]
        iou = box_iou(boxes, cxcywh_to_xyxy(PRIORS)).sort(dim=0).values
        if bool(((iou[1:] == iou[:-1]) & (iou[1:] > 0)).any()):
            return True
    return False


@settings(max_examples=30, deadline=None)
@given(seeds, counts)
def test_images_are_matched_as_if_alone(seed: int, num_faces: int) -> None:
    targets = random_targets(seed, num_faces)
    together = match_priors(PRIORS, targets)
    alone = [
        match_priors(PRIORS, Targets(*(tensor[i : i + 1] for tensor in vars(targets).values())))
        for i in range(2)
    ]
    assert torch.equal(together.labels, torch.cat([matches.labels for matches in alone]))
    assert torch.equal(together.matched_gt_idx, torch.cat([matches.matched_gt_idx for matches in alone]))


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 30))
def test_encoding_the_matched_faces_and_decoding_gives_them_back(seed: int, num_faces: int) -> None:
    targets = random_targets(seed, num_faces)
    matches: Matches = match_priors(PRIORS, targets)
    image_idx, prior_idx = (matches.labels == 1).nonzero(as_tuple=True)
    faces = targets.gt_boxes_xyxy[image_idx, matches.matched_gt_idx[image_idx, prior_idx]]
    decoded = decode_boxes(encode_boxes(faces, PRIORS[prior_idx]), PRIORS[prior_idx])
    torch.testing.assert_close(decoded, faces, atol=1e-3, rtol=1e-4)
