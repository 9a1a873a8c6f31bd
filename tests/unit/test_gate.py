"""The promotion policy, by table: who is promoted, who is not, and with which words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from featherface.config import PromoteConfig
from featherface.evaluation.bootstrap import Interval
from pipelines.gate import Decision, Metrics, Slice, judge

GATE = PromoteConfig(
    min_mean_ap=0.5,
    max_params=250_000,
    max_file_mib=1.2,
    max_parity_error=1e-4,
    max_latency_ratio=2.0,
    max_ap_drop=0.005,
)
GOOD = Metrics(
    mean_ap=0.7,
    file_mean_ap=0.7,
    params=244_503,
    file_mib=1.0,
    parity_error=1e-6,
    latency_ratio=0.8,
    data_md5="a1.dir",
)


def test_a_first_model_within_all_limits_is_promoted_with_every_check_named() -> None:
    decision = judge(GOOD, None, GATE)

    assert decision.promoted
    assert decision.reasons == (
        "mean AP 0.7000 reaches the 0.5000 that is asked for",
        "mean AP of the registered file 0.7000 is +0.0000 from the network's, a drop of 0.0010 is accepted",
        "parameters 244,503 is within the limit of 250,000",
        "file size in MiB 1 is within the limit of 1.2",
        "parity error 1e-06 is within the limit of 0.0001",
        "latency over the teacher's 0.8 is within the limit of 2",
        "there is no champion yet, so the limits alone decide",
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mean_ap": 0.4999}, "mean AP 0.4999 is below the 0.5000 that is asked for"),
        (
            {"file_mean_ap": 0.698},
            "mean AP of the registered file 0.6980 is -0.0020 from the network's, a drop of 0.0010 is "
            "accepted",
        ),
        (
            {"params": 0},
            "parameters is 0, which is no possible value: measure it before the model can be judged",
        ),
        ({"params": 250_001}, "parameters 250,001 is above the limit of 250,000"),
        ({"file_mib": 1.25}, "file size in MiB 1.25 is above the limit of 1.2"),
        ({"parity_error": 2e-4}, "parity error 0.0002 is above the limit of 0.0001"),
        ({"latency_ratio": 2.5}, "latency over the teacher's 2.5 is above the limit of 2"),
    ],
)
def test_one_missed_limit_rejects_and_only_that_is_named(change: dict[str, float], sentence: str) -> None:
    assert judge(replace(GOOD, **change), None, GATE) == Decision(promoted=False, reasons=(sentence,))


@pytest.mark.parametrize(
    "field", ["mean_ap", "file_mean_ap", "params", "file_mib", "parity_error", "latency_ratio"]
)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, -1])
def test_a_number_that_is_missing_or_impossible_rejects(field: str, value: float | None) -> None:
    decision = judge(replace(GOOD, **{field: value}), None, GATE)

    assert not decision.promoted
    (reason,) = decision.reasons
    assert ("missing" if value is None else "no possible value") in reason


def test_a_percentage_is_no_average_precision() -> None:
    assert not judge(replace(GOOD, mean_ap=70.0), None, GATE).promoted


def test_every_limit_is_inclusive() -> None:
    at_limits = Metrics(
        mean_ap=0.5,
        file_mean_ap=0.499,
        params=250_000,
        file_mib=1.2,
        parity_error=1e-4,
        latency_ratio=2.0,
        data_md5="a1.dir",
    )
    assert judge(at_limits, None, GATE).promoted


@pytest.mark.parametrize(
    ("challenger_ap", "is_promoted"),
    [(0.710, True), (0.700, True), (0.695, True), (0.6949, False), (0.6, False)],
)
def test_the_drop_against_the_champion_is_bounded(challenger_ap: float, is_promoted: bool) -> None:
    decision = judge(replace(GOOD, mean_ap=challenger_ap, file_mean_ap=challenger_ap), GOOD, GATE)

    assert decision.promoted is is_promoted
    assert f"mean AP {challenger_ap:.4f} against the champion's 0.7000" in decision.reasons[-1]


def test_all_failures_are_named_together() -> None:
    decision = judge(replace(GOOD, mean_ap=0.4, params=300_000), GOOD, GATE)

    assert not decision.promoted
    assert [reason.split()[0] for reason in decision.reasons] == ["mean", "parameters", "mean"]
    assert "is -0.3000, and a drop of 0.0050 is accepted" in decision.reasons[-1]


@pytest.mark.parametrize("champion_data", ["b2.dir", None])
def test_a_champion_of_other_data_is_not_compared_and_that_is_said(champion_data: str | None) -> None:
    decision = judge(replace(GOOD, mean_ap=0.55), replace(GOOD, mean_ap=0.9, data_md5=champion_data), GATE)

    assert decision.promoted
    assert f"data version {champion_data or 'unknown'} and the challenger on a1.dir" in decision.reasons[-1]
    assert "the limits alone decide" in decision.reasons[-1]


@pytest.mark.parametrize("judged_by", ["other", None])
def test_a_champion_judged_by_other_rules_is_not_compared_either(judged_by: str | None) -> None:
    ours = replace(GOOD, mean_ap=0.55, judged_by="ours")
    decision = judge(ours, replace(GOOD, mean_ap=0.9, judged_by=judged_by), GATE)
    assert decision.promoted
    assert "scored by other thresholds, image size or votes than the challenger" in decision.reasons[-1]
    assert not judge(ours, replace(GOOD, mean_ap=0.9, judged_by="ours"), GATE).promoted


@pytest.mark.parametrize("data_md5", [None, "unknown", ""])
def test_two_unknown_data_versions_are_not_taken_for_the_same(data_md5: str | None) -> None:
    unknown = replace(GOOD, data_md5=data_md5)
    assert "cannot be compared" in judge(unknown, replace(unknown, mean_ap=0.9), GATE).reasons[-1]


@pytest.mark.parametrize("champion_ap", [None, math.nan])
def test_a_champion_without_a_score_on_the_same_data_blocks(champion_ap: float | None) -> None:
    decision = judge(GOOD, replace(GOOD, mean_ap=champion_ap), GATE)

    assert not decision.promoted
    assert "the champion's mean AP is" in decision.reasons[0]


def test_a_challenger_without_a_score_is_not_compared() -> None:
    decision = judge(replace(GOOD, mean_ap=None), GOOD, GATE)

    assert not decision.promoted
    assert decision.reasons == (
        "mean AP is missing: measure it before the model can be judged",
        "without a mean AP nothing compares with the champion's 0.7000",
    )


def test_a_kind_of_faces_that_is_found_worse_rejects_and_is_named() -> None:
    gate = GATE.model_copy(update={"max_slice_ap_drop": 0.03, "min_slice_faces": 200})
    champion = replace(
        GOOD,
        slices={
            "blur_heavy": Slice(0.40, 2138),
            "pose_atypical": Slice(0.30, 151),
            "height_16_32": Slice(0.6, 200),
        },
    )

    def challenger(blur: float, pose: float, height: float) -> Metrics:
        aps = {"blur_heavy": blur, "pose_atypical": pose, "height_16_32": height}
        return replace(
            GOOD,
            mean_ap=0.8,
            file_mean_ap=0.8,
            slices={name: Slice(ap, champion.slices[name][1]) for name, ap in aps.items()},
        )

    fine = judge(challenger(0.37, 0.0, 0.7), champion, gate)
    assert fine.promoted, "151 faces are too few to tell, and a limit is inclusive"
    assert fine.reasons[-1] == "2 kinds of faces were compared, each within 0.0300"
    worse = judge(challenger(0.369, 0.5, 0.7), champion, gate)
    assert worse.reasons == (
        "AP of the 2,138 faces of blur heavy 0.3690 against the champion's 0.4000 is -0.0310, and a drop of "
        "0.0300 is accepted",
    )
    assert "measure it" in judge(replace(GOOD, slices={}), champion, gate).reasons[0]
    elsewhere = replace(champion, data_md5="b2.dir")
    assert judge(challenger(0.0, 0.0, 0.0), elsewhere, gate).promoted


@pytest.mark.parametrize(
    ("low", "high", "is_promoted", "words"),
    [
        (-0.004, -0.0001, False, "-0.0040 to -0.0001: the challenger is surely worse"),
        (-0.004, 0.0, True, "not surely worse"),
        (0.001, 0.002, True, "surely better"),
    ],
)
def test_who_is_surely_worse_is_rejected_however_little(
    low: float, high: float, is_promoted: bool, words: str
) -> None:
    decision = judge(replace(GOOD, mean_ap=0.698), GOOD, GATE, difference=Interval(-0.002, low, high))
    assert decision.promoted is is_promoted
    assert decision.reasons[-1].endswith(words)


def test_an_interval_that_could_not_be_taken_is_said() -> None:
    assert "no interval of the difference" in str(judge(GOOD, GOOD, GATE))
    for champion in (None, replace(GOOD, data_md5="b2.dir")):
        assert "no interval" not in str(judge(GOOD, champion, GATE))


def test_a_decision_reads_as_one_line() -> None:
    assert str(Decision(False, ("too big", "too slow"))) == "rejected: too big; too slow"
    assert str(Decision(True, ("fine",))) == "promoted: fine"


def test_only_allowed_data_may_judge() -> None:
    assert judge(GOOD, None, GATE.model_copy(update={"allowed_data": ("b2.dir", "a1.dir")})).promoted
    decision = judge(GOOD, None, GATE.model_copy(update={"allowed_data": ("b2.dir",)}))
    assert decision == Decision(promoted=False, reasons=("data version a1.dir is not among the allowed",))
