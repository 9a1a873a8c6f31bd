"""What holds for every challenger, champion and gate."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from featherface.config import PromoteConfig
from pipelines.gate import Metrics, judge

numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 3)
metrics = st.builds(
    Metrics,
    mean_ap=numbers | st.floats(0, 1),
    file_mean_ap=numbers | st.floats(0, 1),
    params=st.none() | st.integers(-1, 400_000),
    file_mib=numbers,
    parity_error=numbers | st.floats(0, 1e-4),
    latency_ratio=numbers,
    data_md5=st.sampled_from([None, "a", "b"]),
)
sound = st.builds(
    Metrics,
    mean_ap=st.floats(0.3, 1),
    file_mean_ap=st.just(1.0),
    params=st.integers(200_000, 260_000),
    file_mib=st.floats(0.9, 1.3),
    parity_error=st.floats(0, 1.2e-4),
    latency_ratio=st.floats(0.1, 2.3),
    data_md5=st.sampled_from(["a", "b"]),
)
gates = st.builds(PromoteConfig, min_mean_ap=st.floats(0, 1), max_ap_drop=st.floats(0, 0.1))
few = settings(max_examples=150, deadline=None)


@few
@given(metrics | sound, st.none() | metrics | sound, gates)
def test_a_promoted_model_keeps_every_limit(
    challenger: Metrics, champion: Metrics | None, gate: PromoteConfig
) -> None:
    decision = judge(challenger, champion, gate)
    assert decision.reasons
    if not decision.promoted:
        return
    assert challenger.mean_ap is not None
    assert gate.min_mean_ap <= challenger.mean_ap <= 1
    assert challenger.params is not None
    assert 1 <= challenger.params <= gate.max_params
    for value, limit in (
        (challenger.file_mib, gate.max_file_mib),
        (challenger.parity_error, gate.max_parity_error),
        (challenger.latency_ratio, gate.max_latency_ratio),
    ):
        assert value is not None
        assert 0 <= value <= limit
    if champion is not None and champion.data_md5 == challenger.data_md5 is not None:
        assert champion.mean_ap is not None
        assert challenger.mean_ap >= champion.mean_ap - gate.max_ap_drop - 1e-8


@few
@given(sound, st.none() | sound, gates, st.floats(0, 0.5), st.floats(0, 1))
def test_a_better_model_is_never_rejected_where_a_worse_one_is_promoted(
    worse: Metrics, champion: Metrics | None, gate: PromoteConfig, gain: float, factor: float
) -> None:
    assert worse.mean_ap is not None
    assert worse.latency_ratio is not None
    better = replace(
        worse, mean_ap=min(1.0, worse.mean_ap + gain), latency_ratio=worse.latency_ratio * factor
    )
    if judge(worse, champion, gate).promoted:
        assert judge(better, champion, gate).promoted


@few
@given(sound, gates)
def test_a_model_that_passes_alone_passes_against_itself(model: Metrics, gate: PromoteConfig) -> None:
    assert judge(model, model, gate).promoted == judge(model, None, gate).promoted
