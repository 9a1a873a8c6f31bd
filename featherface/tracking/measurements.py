"""Whether a run that came to a registered file again has measured it otherwise than is on record."""

from __future__ import annotations

from collections.abc import Mapping

from featherface.tracking.provenance import DATA_MD5, GIT_DIRTY
from featherface.tracking.versions import JUDGED_BY, RegisteredVersion

_RULES = (DATA_MD5, JUDGED_BY)
_MEAN_AP = "val/ap_mean"


def is_measured_anew(known: RegisteredVersion, metrics: Mapping[str, float], tags: Mapping[str, str]) -> bool:
    """Whether a run has other numbers or rules than are on record of a version, which they may replace.

    They may not where it was decided against: the numbers stay that this was about. Nor where its logged
    model is gone, and its numbers with it: no others can be put there. Nor where it is of a clean commit and
    the run is of none: it could not be made again by what would be on record.

    Args:
        known: the version that is the run's file.
        metrics: what the run measured.
        tags: where it came from, as of `provenance_tags`.
    """
    if known.verdict or not known.metrics:
        return False
    if known.tags.get(GIT_DIRTY) == "false" != tags.get(GIT_DIRTY):
        return False
    return dict(known.metrics) != dict(metrics) or is_judged_anew(known, metrics, tags)


def is_judged_anew(known: RegisteredVersion, metrics: Mapping[str, float], tags: Mapping[str, str]) -> bool:
    """Whether the AP is another one, or was measured on other data or by other rules; arguments as above."""
    has_new_rules = any(known.tags.get(key) != tags.get(key) for key in _RULES)
    return has_new_rules or known.metrics.get(_MEAN_AP) != metrics.get(_MEAN_AP)
