"""From finished trainings to answers: scores on the development split, verdicts, and what each idea costs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featherface.claims.ledger import Answer, Ledger, Network, judge_count, judge_gain, judge_level
from featherface.claims.statistics import NUM_DRAWS, Score, estimate, estimate_over_images
from featherface.claims.validation import read_validation_score, validation_ground_truth
from featherface.data.splits import split_dev
from featherface.data.widerface import open_widerface
from featherface.errors import DataError
from featherface.evaluation.bootstrap import MEAN, ap_draws
from featherface.evaluation.development import development_ground_truth
from featherface.evaluation.predictions import read_predictions
from featherface.export.latency import measure_latency
from featherface.export.onnx import export_onnx
from featherface.inference.backends import info_of_module
from featherface.models.build import build_model
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.names import INNOVATIONS, Architecture, Innovation
from featherface.trials.cell import PREDICTIONS, RESULT, is_finished
from featherface.trials.plan import Cell

COUNTED_AT = (640, 640)


@dataclass(frozen=True)
class Cost:
    """What a set of innovations costs the student."""

    params: int
    multiply_adds: int
    """At 640 x 640."""
    latency_ratio: float
    """One thread, 640 x 640, over the network without any; interleaved in one run."""


def read_scores(cells: Sequence[Cell], *, folder: Path, data: Path) -> dict[str, list[Score]]:
    """Average precision of every trained cell, on the same images and the same draws of them.

    Args:
        cells: that were trained, seed by seed.
        folder: with a folder for each of them.
        data: the data set that they were trained on.

    Raises:
        DataError: a cell is not finished.
    """
    scores: dict[str, list[Score]] = {}
    development = cells[0].development
    _, samples = split_dev(
        open_widerface(data, "train"), fraction=development.fraction, seed=development.seed
    )
    ground_truth = development_ground_truth(samples, scale=development.scale)
    for cell in cells:
        if not is_finished(folder / cell.label):
            raise DataError(f"{folder / cell.label}: is not finished; run the same command again")
        values, draws = ap_draws(
            read_predictions(folder / cell.label / PREDICTIONS), ground_truth, num_draws=NUM_DRAWS
        )
        scores.setdefault(cell.name, []).append(Score(values[MEAN], draws[MEAN]))
    return scores


def read_validation_scores(
    cells: Sequence[Cell], *, folder: Path, data: Path
) -> dict[str, list[Score]] | None:
    """As `read_scores`, on the validation photographs; None where the data set has none.

    Raises:
        DataError: a cell was not judged on them.
    """
    ground_truth = validation_ground_truth(data)
    if ground_truth is None:
        return None
    scores: dict[str, list[Score]] = {}
    for cell in cells:
        found = read_validation_score(folder / cell.label, ground_truth)
        scores.setdefault(cell.name, []).append(found)
    return scores


def answer(
    ledger: Ledger,
    scores: Mapping[str, Sequence[Score]],
    *,
    replications: Mapping[str, Sequence[Score]] | None = None,
    models: Mapping[Network, Score] | None = None,
) -> list[Answer]:
    """The verdict on every claim; the intervals of all gains and levels hold together.

    Args:
        ledger: what is claimed.
        scores: of the cells on the development split, which give the verdicts on gains.
        replications: of the cells on the validation photographs: shown beside them.
        models: finished networks on the validation photographs; without them nothing is said of these.
    """
    claimed = ledger.models if models else {}
    num_claims = len(ledger.gains) + len(claimed)
    answers = []
    for name, gain in ledger.gains.items():
        again = replications and estimate(replications, gain.contrast, num_claims=num_claims)
        found = estimate(scores, gain.contrast, num_claims=num_claims)
        answers.append(judge_gain(name, gain, found, again or None))
    for name, claim in claimed.items():
        if models is None:
            continue
        other = None if claim.against is None else models[claim.against]
        found = estimate_over_images(models[claim.model], other, num_claims=num_claims)
        answers.append((judge_level if other is None else judge_gain)(name, claim, found))
    architectures: set[Architecture] = {count.architecture for count in ledger.counts.values()}
    params = {name: count_parameters(build_model(name)) for name in architectures}
    return [*answers, *(judge_count(name, count, params) for name, count in ledger.counts.items())]


def costs(*, rounds: int = 20) -> dict[str, Cost]:
    """Of the student without innovations, with each alone, and with all."""
    sets: dict[str, tuple[Innovation, ...]] = {"none": (), "all": INNOVATIONS}
    sets |= {name: (name,) for name in INNOVATIONS}
    networks = {name: build_model("v2-ultra", innovations=chosen).eval() for name, chosen in sets.items()}
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: Path(scratch) / f"{name}.onnx" for name in networks}
        for name, network in networks.items():
            info = info_of_module(network, architecture="v2-ultra", innovations=sets[name])
            export_onnx(network, files[name], info=info, fixed_hw=COUNTED_AT)
        latency = measure_latency(files, input_hw=COUNTED_AT, rounds=rounds)
    return {
        name: Cost(
            params=count_parameters(network),
            multiply_adds=count_multiply_adds(network, COUNTED_AT),
            latency_ratio=latency.ratio(name, "none"),
        )
        for name, network in networks.items()
    }


def minutes_of(cells: Sequence[Cell], folder: Path) -> list[float]:
    """How long the training of each cell took."""
    results = (json.loads((folder / cell.label / RESULT).read_text(encoding="utf-8")) for cell in cells)
    return [result["metrics"]["train/seconds"] / 60 for result in results]
