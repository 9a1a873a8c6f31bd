"""The ledger's answers as Markdown and as a picture of all intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from featherface.claims.answers import Cost
from featherface.claims.ledger import Answer
from featherface.claims.statistics import Estimate, Score

_COLORS = {"supported": "#2a7f3f", "refuted": "#b3312c", "inconclusive": "#7a7a7a"}
PLOT_FILE = "claims.png"


def to_markdown(
    answers: Sequence[Answer],
    scores: Mapping[str, Sequence[Score]],
    costs: Mapping[str, Cost],
    *,
    facts: Mapping[str, str],
    replications: Mapping[str, Sequence[Score]] | None = None,
) -> str:
    """Verdicts, what every cell reached, what every innovation costs, and how it was measured."""
    lines = ["# What the design document claims, and what we measured", ""]
    lines += [f"- {label}: {value}" for label, value in facts.items()]
    lines += ["", f"![Claimed and measured gains]({PLOT_FILE})", "", "## Verdicts", ""]
    lines += [
        "Points of mean AP. The intervals are those of all claims together (Bonferroni) and cover other",
        "seeds and other images; of finished networks, other images only. *Supported*: more than nothing,",
        "and the claimed gain is possible. *Refuted*: less than claimed. *Inconclusive*: neither can be",
        "ruled out. *Visible from*: the smallest effect that would have been told from nothing in 80 % of",
        "such experiments. *Again*: the same on the validation photographs, which took no part in it.",
        "",
        "| claim | where | claimed | measured, interval | verdict | visible from | again |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(each) for each in answers]
    lines += [
        "",
        "## Cells",
        "Mean AP, and that of each seed.",
        "",
        "| cell | development split | validation photographs |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {_runs(runs)} | {_runs((replications or {}).get(name))} |"
        for name, runs in scores.items()
    ]
    return "\n".join([*lines, *_costs(costs), ""])


def _costs(costs: Mapping[str, Cost]) -> list[str]:
    if not costs:
        return []
    return [
        "",
        "## Costs",
        "Latency at 640 x 640, one thread, over the network without innovations, interleaved; of all of them "
        "without what learns last, layers for tiny faces and second opinion.",
        "",
        "| innovations | parameters | M multiply-adds | latency |",
        "|---|---|---|---|",
        *(
            f"| {name} | {cost.params:,} | {cost.multiply_adds / 1e6:.1f} | {cost.latency_ratio:.2f} |"
            for name, cost in costs.items()
        ),
    ]


def plot(answers: Sequence[Answer], path: Path) -> None:
    """Every gain's interval, with the claimed number beside it; levels would need an axis of their own."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    gains = [each for each in answers if each.estimate is not None and not each.is_level]
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(gains) + 1.4), layout="constrained")
    for row, each in enumerate(reversed(gains)):
        found = each.estimate
        if found is None or each.claimed_points is None:
            continue
        color = _COLORS[each.verdict]
        axes.plot([found.low, found.high], [row, row], color=color, linewidth=3, solid_capstyle="round")
        axes.plot(found.points, row, "o", color=color)
        axes.plot(each.claimed_points, row, "D", color="black", markersize=5, markerfacecolor="white")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(gains)), [each.name.replace("-", " ") for each in reversed(gains)])
    axes.set_xlabel("points of mean AP: measured with interval (colored), claimed (diamond)")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles = [Line2D([], [], color=color, linewidth=3, label=name) for name, color in _COLORS.items()]
    axes.legend(handles=handles, loc="best", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _runs(runs: Sequence[Score] | None) -> str:
    if not runs:
        return ""
    mean = sum(score.value for score in runs) / len(runs)
    return f"{100 * mean:.2f} ({', '.join(f'{100 * score.value:.2f}' for score in runs)})"


def _row(answer: Answer) -> str:
    found = answer.estimate
    if found is None:
        return f"| {answer.claim} | {answer.where} | | {answer.finding} | **{answer.verdict}** | | |"
    number = ".2f" if answer.is_level else "+.2f"
    again = answer.replication
    return (
        f"| {answer.claim} | {answer.where} | {answer.claimed_points:{number}} | "
        f"{_interval(found, number)} | "
        f"**{answer.verdict}**: {answer.finding} | "
        f"{'' if answer.is_level else f'{found.smallest_visible:.2f}'} | "
        f"{'' if again is None else _interval(again, number)} |"
    )


def _interval(found: Estimate, number: str) -> str:
    return f"{found.points:{number}} ({found.low:{number}} to {found.high:{number}})"
