"""Whether a challenger becomes the champion: a pure function of numbers, no file, no registry, no flow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from featherface.config import PromoteConfig
from featherface.evaluation.bootstrap import Interval
from featherface.tracking.provenance import UNKNOWN

# 0.705 - 0.7 is a hair above 0.005: a difference that equals a limit as written must pass.
_ROUNDING = 1e-9
_NO_INTERVAL = (
    "no interval of the difference: the predictions of one of them are not kept any more, so a small loss "
    "that is certain would not be seen"
)


class Slice(NamedTuple):
    """How well faces of one kind are found."""

    ap: float
    """In [0, 1]."""
    num_faces: int


@dataclass(frozen=True)
class Metrics:
    """What is known of a model; None or NaN: was not measured."""

    mean_ap: float | None = None
    """Mean of easy, medium and hard AP, in [0, 1]."""
    file_mean_ap: float | None = None
    """The same of the file in the registry, scored once more as it will be used."""
    params: int | None = None
    file_mib: float | None = None
    """Size of the ONNX file."""
    parity_error: float | None = None
    """Greatest absolute difference between exported and eager outputs."""
    latency_ratio: float | None = None
    """Latency over the teacher's, both through ONNX Runtime in one interleaved run."""
    slices: Mapping[str, Slice] = field(default_factory=dict)
    """By what the face is like: `height_16_32`, `blur_heavy`, `pose_atypical`, ..."""
    data_md5: str | None = None
    """Version of the data that `mean_ap` was measured on; None or `unknown`: not known."""
    judged_by: str | None = None
    """Digest of thresholds, image size and rules by which `mean_ap` was measured; None: not known."""
    scored_anew: bool = False
    """Measured for this comparison: the registry has numbers of other data or by other rules."""


@dataclass(frozen=True)
class Decision:
    """The verdict, and a sentence for everything that led to it."""

    promoted: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{'promoted' if self.promoted else 'rejected'}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class _Finding:
    is_fine: bool
    sentence: str


def judge(
    challenger: Metrics,
    champion: Metrics | None,
    gate: PromoteConfig,
    *,
    difference: Interval | None = None,
) -> Decision:
    """Compare a challenger with fixed limits and with the champion.

    Every limit counts and all that are missed are named; a number that is missing, not finite or impossible
    rejects. A champion that was scored on another version of the data, on an unknown one, or by other rules
    cannot be compared: then only the limits decide, and the reasons say so. A mean can hide that faces of one
    kind are found no longer: so no kind of which there are enough faces may lose more than a limit of its
    own.

    Args:
        challenger: the new model.
        champion: the model in use; None if there is none yet.
        gate: the limits; every one of them is inclusive.
        difference: mean AP of the challenger less the champion's with a 95 % interval, paired over the same
            images; None where the predictions of one of them are not there any more, which the reasons say. A
            challenger that is surely worse is rejected, however little: small losses would add up over the
            months.

    Returns:
        A promotion with all that was checked, or a rejection with all that failed.
    """
    findings = list(_check_limits(challenger, gate))
    if difference is None and champion is not None and _are_comparable(challenger, champion):
        findings.append(_Finding(True, _NO_INTERVAL))
    findings += [
        _compare(challenger, champion, gate),
        *_compare_slices(challenger, champion, gate),
    ]
    if difference is not None:
        findings.append(_compare_paired(difference))
    failures = tuple(finding.sentence for finding in findings if not finding.is_fine)
    if failures:
        return Decision(promoted=False, reasons=failures)
    return Decision(promoted=True, reasons=tuple(finding.sentence for finding in findings))


def _check_limits(challenger: Metrics, gate: PromoteConfig) -> Iterator[_Finding]:
    yield _at_least("mean AP", challenger.mean_ap, gate.min_mean_ap)
    yield from _check_file(challenger, gate)
    yield _at_most("parameters", challenger.params, gate.max_params, low=1)
    yield _at_most("file size in MiB", challenger.file_mib, gate.max_file_mib)
    yield _at_most("parity error", challenger.parity_error, gate.max_parity_error)
    yield _at_most("latency over the teacher's", challenger.latency_ratio, gate.max_latency_ratio)
    if gate.allowed_data:
        version = challenger.data_md5 or UNKNOWN
        is_allowed = version in gate.allowed_data
        yield _Finding(
            is_allowed, f"data version {version} is {'' if is_allowed else 'not '}among the allowed"
        )


def _check_file(challenger: Metrics, gate: PromoteConfig) -> Iterator[_Finding]:
    name, ours, networks = "mean AP of the registered file", challenger.file_mean_ap, challenger.mean_ap
    if ours is None or not _is_possible(ours, high=1):
        yield _unusable(name, ours)
        return
    if networks is None or not _is_possible(networks, high=1):
        return  # which is named already
    sentence = (
        f"{name} {ours:.4f} is {ours - networks:+.4f} from the network's, a drop of "
        f"{gate.max_file_ap_drop:.4f} is accepted"
    )
    yield _Finding(ours - networks >= -gate.max_file_ap_drop - _ROUNDING, sentence)


def _at_least(name: str, value: float | None, limit: float) -> _Finding:
    if value is None or not _is_possible(value, high=1):
        return _unusable(name, value)
    if value >= limit:
        return _Finding(True, f"{name} {value:.4f} reaches the {limit:.4f} that is asked for")
    return _Finding(False, f"{name} {value:.4f} is below the {limit:.4f} that is asked for")


def _at_most(name: str, value: float | None, limit: float, *, low: float = 0) -> _Finding:
    if value is None or not _is_possible(value, low=low):
        return _unusable(name, value)
    if value <= limit:
        return _Finding(True, f"{name} {_number(value)} is within the limit of {_number(limit)}")
    return _Finding(False, f"{name} {_number(value)} is above the limit of {_number(limit)}")


def _compare(challenger: Metrics, champion: Metrics | None, gate: PromoteConfig) -> _Finding:
    if champion is None:
        return _Finding(True, "there is no champion yet, so the limits alone decide")
    if not _are_comparable(challenger, champion):
        what = (
            "by other thresholds, image size or votes than the challenger"
            if _have_the_same_data(challenger, champion)
            else f"on data version {champion.data_md5 or UNKNOWN} and the challenger on "
            f"{challenger.data_md5 or UNKNOWN}"
        )
        return _Finding(
            True, f"the champion was scored {what}: they cannot be compared, so the limits alone decide"
        )
    if champion.mean_ap is None or not _is_possible(champion.mean_ap, high=1):
        return _Finding(
            False,
            f"the champion's mean AP is {_shown(champion.mean_ap)}, so a drop cannot be ruled out: score it",
        )
    if challenger.mean_ap is None or not _is_possible(challenger.mean_ap, high=1):
        return _Finding(
            False, f"without a mean AP nothing compares with the champion's {champion.mean_ap:.4f}"
        )
    gain = challenger.mean_ap - champion.mean_ap
    sentence = (
        f"mean AP {challenger.mean_ap:.4f} against the champion's {champion.mean_ap:.4f} on the same data"
        f"{', on which it was scored anew,' if champion.scored_anew else ''} is "
        f"{gain:+.4f}, and a drop of {gate.max_ap_drop:.4f} is accepted"
    )
    return _Finding(gain >= -gate.max_ap_drop - _ROUNDING, sentence)


def _compare_slices(challenger: Metrics, champion: Metrics | None, gate: PromoteConfig) -> Iterator[_Finding]:
    if champion is None or not _are_comparable(challenger, champion):
        return
    compared = 0
    for name, theirs in champion.slices.items():
        if theirs.num_faces < gate.min_slice_faces:
            continue
        compared += 1
        ours = challenger.slices.get(name)
        kind = f"AP of the {theirs.num_faces:,} faces of {name.replace('_', ' ')}"
        if ours is None or not _is_possible(ours.ap, high=1):
            yield _Finding(False, f"{kind} is {_shown(None if ours is None else ours.ap)}: measure it")
        elif ours.ap - theirs.ap < -gate.max_slice_ap_drop - _ROUNDING:
            yield _Finding(
                False,
                f"{kind} {ours.ap:.4f} against the champion's {theirs.ap:.4f} is {ours.ap - theirs.ap:+.4f}, "
                f"and a drop of {gate.max_slice_ap_drop:.4f} is accepted",
            )
    if compared:
        yield _Finding(
            True, f"{compared} kinds of faces were compared, each within {gate.max_slice_ap_drop:.4f}"
        )


def _compare_paired(difference: Interval) -> _Finding:
    interval = (
        f"95 % interval of the difference over the images {difference.low:+.4f} to {difference.high:+.4f}"
    )
    if difference.high < 0:
        return _Finding(False, f"{interval}: the challenger is surely worse")
    return _Finding(True, f"{interval}: {'surely better' if difference.low > 0 else 'not surely worse'}")


def _are_comparable(challenger: Metrics, champion: Metrics) -> bool:
    return _have_the_same_data(challenger, champion) and challenger.judged_by == champion.judged_by


def _have_the_same_data(challenger: Metrics, champion: Metrics) -> bool:
    versions = {challenger.data_md5 or UNKNOWN, champion.data_md5 or UNKNOWN}
    return len(versions) == 1 and UNKNOWN not in versions


def _is_possible(value: float, *, low: float = 0, high: float = math.inf) -> bool:
    return math.isfinite(value) and low <= value <= high


def _unusable(name: str, value: float | None) -> _Finding:
    return _Finding(False, f"{name} is {_shown(value)}: measure it before the model can be judged")


def _shown(value: float | None) -> str:
    return "missing" if value is None else f"{value}, which is no possible value"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
