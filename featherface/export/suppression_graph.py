"""The nodes that `export.suppression` adds to a network: `inference.postprocess` as a graph of ONNX.

Dimensions as there: `P` priors, `M` candidates, `N` faces.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import compose, parser

from featherface.inference.model_info import VARIANCES, ModelInfo
from featherface.inference.votes import VOTE_RULE

# A stride's part of the priors, in the order of `models.priors`: row, column, size. Only the sides of the
# images are read, so that every multiple of 32 fits.
_LEVEL = """
    rows_{i} = Div(height, stride_{i})
    columns_{i} = Div(width, stride_{i})
    float_stride_{i} = CastLike(stride_{i}, half)
    row_{i} = Range(zero, rows_{i}, one)
    column_{i} = Range(zero, columns_{i}, one)
    row_float_{i} = CastLike(row_{i}, half)
    column_float_{i} = CastLike(column_{i}, half)
    row_middle_{i} = Add(row_float_{i}, half)
    column_middle_{i} = Add(column_float_{i}, half)
    y_flat_{i} = Mul(row_middle_{i}, float_stride_{i})
    x_flat_{i} = Mul(column_middle_{i}, float_stride_{i})
    y_{i} = Reshape(y_flat_{i}, along_rows)
    x_{i} = Reshape(x_flat_{i}, along_columns)
    rows_1_{i} = Reshape(rows_{i}, flat)
    columns_1_{i} = Reshape(columns_{i}, flat)
    num_sizes_{i} = Shape(sizes_{i})
    grid_{i} = Concat <axis = 0> (rows_1_{i}, columns_1_{i}, num_sizes_{i}, one_1)
    side_1_{i} = Reshape(sizes_{i}, along_sizes)
    cx_{i} = Expand(x_{i}, grid_{i})
    cy_{i} = Expand(y_{i}, grid_{i})
    side_{i} = Expand(side_1_{i}, grid_{i})
    cells_{i} = Concat <axis = 3> (cx_{i}, cy_{i}, side_{i})
    priors_{i} = Reshape(cells_{i}, along_priors)
"""

_GRAPH = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
suppression (
    float[1, 3, height, width] images,
    float[1, priors, 2] cls_logits, float[1, priors, 4] box_deltas, float[1, priors, 10] landmark_deltas,
    float score_threshold, float iou_threshold, int64 max_faces
) => (float[faces, 4] boxes_xyxy, float[faces] scores, float[faces, 5, 2] landmarks)
<
    int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, int64 three = {{3}}, float half = {{0.5}},
    int64[1] one_1 = {{1}}, int64[1] two_1 = {{2}}, int64[1] three_1 = {{3}}, int64[1] four_1 = {{4}},
    int64[1] flat = {{-1}},
    int64[4] along_rows = {{-1, 1, 1, 1}}, int64[4] along_columns = {{1, -1, 1, 1}},
    int64[4] along_sizes = {{1, 1, -1, 1}}, int64[2] along_priors = {{-1, 3}},
    int64[3] points = {{-1, 5, 2}}, int64[3] one_point = {{-1, 1, 2}}, int64[3] one_class = {{1, 1, -1}},
    int64[1] first_axis = {{0}}, int64[1] last_axis = {{1}}, int64[2] all_points = {{1, 2}},
    float center_variance = {{{center_variance}}}, float size_variance = {{{size_variance}}},
    float max_log_side = {{{max_log_side}}}, float largest = {{{largest}}},
    float zero_float = {{0.0}}, float one_float = {{1.0}}, int64 most_elected = {{{most_elected}}},
    float max_gain = {{{max_gain}}}, float least_share = {{{least_share}}},
    float least_voter_score = {{{least_voter_score}}}, float least_overlap = {{{least_overlap}}},
    float votes_power = {{{votes_power}}}, float height_power = {{{height_power}}},
    float usual_votes = {{{usual_votes}}}, float usual_height = {{{usual_height_px}}},
    float overlap_span = {{{overlap_span}}},
    float tiny = {{{tiny}}},
    {levels_constants}
>
{{
    shape = Shape(images)
    height = Gather <axis = 0> (shape, two)
    width = Gather <axis = 0> (shape, three)
    {levels}
    priors = Concat <axis = 0> ({priors})

    logits = Squeeze(cls_logits, first_axis)
    background = Gather <axis = 1> (logits, zero)
    face = Gather <axis = 1> (logits, one)
    margin = Sub(face, background)
    all_scores = Sigmoid(margin)
    unsure = Sub(one_float, score_threshold)
    gained_unsure = Mul(unsure, max_gain)
    threshold_sum = Add(score_threshold, gained_unsure)
    least_likely = Div(score_threshold, threshold_sum)
    floor = Min(score_threshold, least_voter_score)
    likely_threshold = Max(floor, least_likely)
    least_voter = Mul(least_likely, least_share)
    voter_threshold = Max(floor, least_voter)
    is_above = Greater(all_scores, voter_threshold)
    above_2 = NonZero(is_above)
    above = Squeeze(above_2, first_axis)

    prior = Gather <axis = 0> (priors, above)
    center_prior = Slice(prior, first_axis, two_1, last_axis)
    side_prior = Slice(prior, two_1, three_1, last_axis)
    all_boxes = Squeeze(box_deltas, first_axis)
    box = Gather <axis = 0> (all_boxes, above)
    center_delta = Slice(box, first_axis, two_1, last_axis)
    size_delta = Slice(box, two_1, four_1, last_axis)
    center_scale = Mul(side_prior, center_variance)
    center_offset = Mul(center_delta, center_scale)
    center = Add(center_prior, center_offset)
    log_side_free = Mul(size_delta, size_variance)
    log_side = Min(log_side_free, max_log_side)
    growth = Exp(log_side)
    grown = Mul(side_prior, growth)
    half_side = Mul(grown, half)
    corner_first = Sub(center, half_side)
    corner_last = Add(center, half_side)
    boxes = Concat <axis = 1> (corner_first, corner_last)

    all_landmarks = Squeeze(landmark_deltas, first_axis)
    landmark_flat = Gather <axis = 0> (all_landmarks, above)
    landmark_delta = Reshape(landmark_flat, points)
    landmark_scale = Unsqueeze(center_scale, last_axis)
    landmark_center = Reshape(center_prior, one_point)
    landmark_offset = Mul(landmark_delta, landmark_scale)
    points_xy = Add(landmark_center, landmark_offset)

    box_size = ReduceL1 <keepdims = 0> (boxes, last_axis)
    points_size = ReduceL1 <keepdims = 0> (points_xy, all_points)
    total_size = Add(box_size, points_size)
    is_finite = Less(total_size, largest)
    finite_boxes = Compress <axis = 0> (boxes, is_finite)
    finite_points = Compress <axis = 0> (points_xy, is_finite)
    candidate_scores = Gather <axis = 0> (all_scores, above)
    finite_scores = Compress <axis = 0> (candidate_scores, is_finite)

    boxes_of_image = Unsqueeze(finite_boxes, first_axis)
    scores_of_class = Reshape(finite_scores, one_class)
    num_elected = Max(max_faces, most_elected)
    kept_3 = NonMaxSuppression(
        boxes_of_image, scores_of_class, num_elected, iou_threshold, likely_threshold
    )
    kept = Gather <axis = 1> (kept_3, two)
    kept_scores = Gather <axis = 0> (finite_scores, kept)
    num_kept = Shape(kept)
    own_scores, kept_order = TopK <axis = 0, largest = 1, sorted = 1> (kept_scores, num_kept)
    elected = Gather <axis = 0> (kept, kept_order)
    own_boxes = Gather <axis = 0> (finite_boxes, elected)

    left, top, right, bottom = Split <axis = 1, num_outputs = 4> (own_boxes)
    voter_boxes = Transpose(finite_boxes)
    voter_left, voter_top, voter_right, voter_bottom = Split <axis = 0, num_outputs = 4> (voter_boxes)
    shared_left = Max(left, voter_left)
    shared_top = Max(top, voter_top)
    shared_right = Min(right, voter_right)
    shared_bottom = Min(bottom, voter_bottom)
    shared_width_free = Sub(shared_right, shared_left)
    shared_height_free = Sub(shared_bottom, shared_top)
    shared_width = Max(shared_width_free, zero_float)
    shared_height = Max(shared_height_free, zero_float)
    shared = Mul(shared_width, shared_height)
    width_free = Sub(right, left)
    height_free = Sub(bottom, top)
    own_width = Max(width_free, zero_float)
    own_height = Max(height_free, zero_float)
    own_area = Mul(own_width, own_height)
    voter_width_free = Sub(voter_right, voter_left)
    voter_height_free = Sub(voter_bottom, voter_top)
    voter_width = Max(voter_width_free, zero_float)
    voter_height = Max(voter_height_free, zero_float)
    voter_area = Mul(voter_width, voter_height)
    both_areas = Add(own_area, voter_area)
    union_free = Sub(both_areas, shared)
    union = Max(union_free, tiny)
    overlap = Div(shared, union)
    overlap_above = Sub(overlap, least_overlap)
    place_free = Div(overlap_above, overlap_span)
    place = Clip(place_free, zero_float, one_float)

    own_column = Unsqueeze(own_scores, last_axis)
    voter_row = Unsqueeze(finite_scores, first_axis)
    own_share = Mul(own_column, least_share)
    own_least = Max(own_share, least_voter_score)
    score_above = Sub(voter_row, own_least)
    own_span_free = Sub(own_column, own_least)
    own_span = Max(own_span_free, tiny)
    share_free = Div(score_above, own_span)
    share = Clip(share_free, zero_float, one_float)
    weight = Mul(place, share)
    weight_sum = ReduceSum <keepdims = 0> (weight, last_axis)
    votes = Max(weight_sum, one_float)

    votes_over_usual = Div(votes, usual_votes)
    votes_gain = Pow(votes_over_usual, votes_power)
    height_flat = Squeeze(own_height, last_axis)
    height_one = Max(height_flat, one_float)
    usual_over_height = Div(usual_height, height_one)
    height_gain = Pow(usual_over_height, height_power)
    gain_free = Mul(votes_gain, height_gain)
    gain = Min(gain_free, max_gain)
    odds = Mul(own_scores, gain)
    own_unsure = Sub(one_float, own_scores)
    odds_sum = Add(odds, own_unsure)
    voted = Div(odds, odds_sum)

    sorted_scores, order = TopK <axis = 0, largest = 1, sorted = 1> (voted, num_kept)
    is_face = Greater(sorted_scores, score_threshold)
    face_order_free = Compress <axis = 0> (order, is_face)
    max_faces_1 = Reshape(max_faces, flat)
    zero_1 = Reshape(zero, flat)
    face_order = Slice(face_order_free, zero_1, max_faces_1)
    scores = Gather <axis = 0> (voted, face_order)
    boxes_xyxy = Gather <axis = 0> (own_boxes, face_order)
    own_points = Gather <axis = 0> (finite_points, elected)
    landmarks = Gather <axis = 0> (own_points, face_order)
}}
"""
_MAX_LOG_SIDE = 10.0  # as in `inference.postprocess`


def suppression_graph(proto: onnx.ModelProto, info: ModelInfo) -> onnx.GraphProto:
    """From raw outputs to faces: for the versions of a file, and the priors that it names.

    Names of what lies inside have a prefix.
    """
    levels = range(len(info.strides))
    constants = [f"int64 stride_{i} = {{{stride}}}" for i, stride in enumerate(info.strides)]
    constants += [
        f"float[{len(sizes)}] sizes_{i} = {{{', '.join(str(float(size)) for size in sizes)}}}"
        for i, sizes in enumerate(info.min_sizes_px)
    ]
    text = _GRAPH.format(
        ir_version=proto.ir_version,
        opset=next(item.version for item in proto.opset_import if item.domain == ""),
        center_variance=VARIANCES[0],
        size_variance=VARIANCES[1],
        max_log_side=_MAX_LOG_SIDE,
        largest=float(np.finfo(np.float32).max),
        tiny=float(np.finfo(np.float32).tiny),
        **VOTE_RULE._asdict(),
        overlap_span=VOTE_RULE.whole_overlap - VOTE_RULE.least_overlap,
        levels_constants=", ".join(constants),
        levels="".join(_LEVEL.format(i=i) for i in levels),
        priors=", ".join(f"priors_{i}" for i in levels),
    )
    tail = parser.parse_model(text)
    # The network could use the same names.
    prefixed = compose.add_prefix(tail, "faces/", rename_inputs=False, rename_outputs=False)
    return prefixed.graph
