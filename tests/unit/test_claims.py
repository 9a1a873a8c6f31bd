"""The ledger's statistics on experiments whose answer is known, and its verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherface.claims.answers import Cost, answer
from featherface.claims.ledger import (
    Gain,
    ModelClaim,
    Network,
    cells_of,
    judge_count,
    judge_gain,
    judge_level,
    read_ledger,
)
from featherface.claims.report import plot, to_markdown
from featherface.claims.statistics import Estimate, Score, estimate
from featherface.claims.validation import judge_on_validation, read_validation_score, validation_ground_truth
from featherface.config import EvaluateConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import open_widerface
from featherface.errors import ConfigError, DataError
from featherface.inference.loading import shipped_weights
from featherface.tracking.tracker import NullTracker
from featherface.trials.cell import RESULT, _fingerprint_of_judging, _fingerprint_of_training
from pipelines import claims
from pipelines.claims import Books
from pipelines.data_sources import describe_data

LEDGER = Path(__file__).resolve().parents[2] / "claims.yaml"
NUM_DRAWS = 200


def experiment(
    generator: np.random.Generator,
    effects: dict[str, float],
    *,
    num_seeds: int = 3,
    seed_noise: float = 0.4,
    image_noise: float = 0.5,
) -> dict[str, list[Score]]:
    """Cells with known gains in points; noise of seeds, and of images, a part of which is shared.

    The images at hand are one draw, so their error is in the values; the draws scatter around those.
    """
    shared_truth, shared_draws = generator.normal(), generator.normal(size=NUM_DRAWS)
    scores = {}
    for name, effect in effects.items():
        own_truth, own_draws = generator.normal(), generator.normal(size=NUM_DRAWS)
        of_images = 3 * shared_truth + image_noise * own_truth
        of_draws = 3 * shared_draws + image_noise * own_draws
        runs = []
        for _ in range(num_seeds):
            value = 70 + effect + seed_noise * generator.normal() + of_images
            runs.append(Score(value / 100, (value + of_draws) / 100))
        scores[name] = runs
    return scores


def test_a_missing_ledger_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nosuch\.yaml: cannot be read \(No such .*\); give a ledger, a YAML"
    ):
        read_ledger(tmp_path / "nosuch.yaml")


@pytest.mark.parametrize("noises", [(0.4, 0.5), (1.0, 0.1), (0.1, 1.0)])
@pytest.mark.parametrize("contrast", [{"a": 1, "none": -1}, {"ab": 1, "a": -1, "b": -1, "none": 1}])
def test_intervals_cover_the_truth_as_often_as_they_say(
    contrast: dict[str, float], noises: tuple[float, float]
) -> None:
    generator, hits, trials = np.random.default_rng(0), 0, 600
    effects = {"none": 0.0, "a": 0.8, "b": 0.5, "ab": 1.9}
    truth = sum(weight * effects[name] for name, weight in contrast.items())
    for _ in range(trials):
        scores = experiment(generator, effects, seed_noise=noises[0], image_noise=noises[1])
        found = estimate(scores, contrast)
        hits += found.low <= truth <= found.high
    # 95 %, less three standard errors of 600 trials; more would be too careful, but is no lie.
    assert hits / trials >= 0.95 - 3 * 0.009


def test_cells_that_scatter_a_quarter_more_than_the_others_lose_little_cover() -> None:
    generator, hits, trials = np.random.default_rng(3), 0, 600
    contrast = {"a": 1.0, "none": -1.0}
    for _ in range(trials):
        scores = experiment(generator, dict.fromkeys("bcdefg", 0.0), seed_noise=0.4, image_noise=0.3)
        noisier = experiment(generator, {"none": 0.0, "a": 0.8}, seed_noise=0.5, image_noise=0.3)
        found = estimate(scores | noisier, contrast)
        hits += found.low <= 0.8 <= found.high
    assert hits / trials >= 0.9


def test_scatter_is_learnt_from_all_cells() -> None:
    steady = [Score(0.7, np.full(NUM_DRAWS, 0.7))] * 2
    scores = {
        "a": [Score(0.71, np.full(NUM_DRAWS, 0.71)), Score(0.73, np.full(NUM_DRAWS, 0.73))],
        "none": steady,
        "other": steady,
    }
    found = estimate(scores, {"other": 1, "none": -1})
    # By hand: residuals -2/3 and 2/3 of one, 1/3 and -1/3 of the others; 4/3 over two degrees of freedom.
    assert found.points == pytest.approx(0)
    assert found.seed_deviation == pytest.approx((2 * 4 / 3 / 2) ** 0.5)
    # Two seeds, and Student's t with two degrees of freedom, 4.3027.
    assert found.high == pytest.approx(4.3027 * (4 / 3 / 2) ** 0.5, rel=1e-4)


def test_without_an_effect_hardly_ever_a_claim_of_a_whole_ledger_is_supported() -> None:
    generator, supported, trials = np.random.default_rng(1), 0, 400
    claims = [Gain(claim="", where="", points=0.8, contrast={name: 1, "none": -1}) for name in "abcde"]
    for _ in range(trials):
        scores = experiment(generator, dict.fromkeys(["none", *"abcde"], 0.0))
        verdicts = [
            judge_gain("x", gain, estimate(scores, gain.contrast, num_claims=len(claims))).verdict
            for gain in claims
        ]
        supported += "supported" in verdicts
    assert supported / trials <= 0.05


def test_an_effect_as_large_as_the_smallest_visible_one_is_mostly_seen() -> None:
    generator, seen, trials = np.random.default_rng(2), 0, 400
    contrast = {"a": 1.0, "none": -1.0}
    usual = np.median(
        [estimate(experiment(generator, {"none": 0, "a": 0}), contrast).smallest_visible for _ in range(200)]
    )
    for _ in range(trials):
        seen += estimate(experiment(generator, {"none": 0, "a": float(usual)}), contrast).low > 0
    assert 0.6 <= seen / trials <= 0.97


def test_seeds_and_images_both_widen_the_interval_and_more_claims_too() -> None:
    steady = Score(0.7, np.full(NUM_DRAWS, 0.7))
    better = Score(0.71, np.full(NUM_DRAWS, 0.71))
    exact = estimate({"a": [better] * 3, "none": [steady] * 3}, {"a": 1, "none": -1})
    assert (exact.points, exact.low, exact.high) == pytest.approx((1, 1, 1))
    wobbly = [Score(value, np.full(NUM_DRAWS, value)) for value in (0.70, 0.71, 0.72)]
    seeds = estimate({"a": wobbly, "none": [steady] * 3}, {"a": 1, "none": -1})
    # By hand: deviation 1 point, t with two degrees of freedom 4.303, root of three.
    assert seeds.high - seeds.points == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    many = estimate({"a": wobbly, "none": [steady] * 3}, {"a": 1, "none": -1}, num_claims=10)
    assert many.high > seeds.high
    with pytest.raises(ValueError, match=r"two seeds or more, .*of \[1\] seeds"):
        estimate({"a": [better], "none": [steady]}, {"a": 1, "none": -1})
    with pytest.raises(ValueError, match=r"as many for each cell, got 2 cells of \[2, 3\] seeds"):
        estimate({"a": [better] * 2, "none": [steady] * 3}, {"a": 1, "none": -1})


@pytest.mark.parametrize(
    ("low", "high", "verdict", "words"),
    [
        (0.2, 1.4, "supported", "more than nothing"),
        (0.2, 0.8, "refuted", "less than claimed, but more than nothing"),
        (-0.5, 0.5, "refuted", "less than claimed"),
        (-2.0, -0.5, "refuted", "a loss"),
        (-0.5, 1.5, "inconclusive", "neither"),
        (0.0, 1.5, "inconclusive", "neither"),
    ],
)
def test_verdicts(low: float, high: float, verdict: str, words: str) -> None:
    gain = Gain(claim="+1.0", where="line 1", points=1.0, contrast={"a": 1, "none": -1})
    answer = judge_gain("a", gain, Estimate((low + high) / 2, low, high, 1.0, 0.5, 3))
    assert answer.verdict == verdict
    assert words in answer.finding


def test_our_ledger_holds_and_asks_for_whole_seeds() -> None:
    ledger = read_ledger(LEDGER)
    cells = cells_of(ledger, "small", where="claims.yaml")
    assert len(cells) == len(ledger.cells) * 3
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert not cells[0].config.model.innovations
    assert sum(cell.config.distill.enabled for cell in cells) == 3
    counted = {"v1-487k": 487_103, "v2-ultra-reference": 244_503, "v2-ultra": 250_000}
    verdicts = {name: judge_count(name, count, counted).verdict for name, count in ledger.counts.items()}  # type: ignore[arg-type]
    assert verdicts == {"teacher": "supported", "reference-student": "supported", "student": "refuted"}
    with pytest.raises(ConfigError, match=r"no such budget; known: small, full"):
        cells_of(ledger, "huge", where="claims.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{all: 1, none: -1}", "{all: 1, nothing: -1}", "speaks of cell 'nothing'"),
        ("{all: 1, none: -1}", "{all: 1, none: -2}", "add up to 0"),
        ("seeds: [1, 2, 3]", "seeds: [1]", r"budgets\.small\.seeds"),
        ("seeds: [1, 2, 3]", "seeds: [1, 2, 1]", "a seed counts once"),
    ],
)
def test_a_ledger_that_makes_no_sense_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(LEDGER.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=words):
        read_ledger(path)


def test_other_validation_photographs_are_looked_at_anew(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "network"
    synthesize_dataset(data, num_train=1, num_val=4, image_hw=(120, 160), seed=1, num_workers=1)
    kept = [sample.path for sample in open_widerface(data, "val")][:3]
    for path in kept:
        path.rename(tmp_path / path.name)
    settings = EvaluateConfig(num_threads=1, image_size=160)

    def judged() -> float:
        with resources.as_file(shipped_weights()) as weights:
            return judge_on_validation(weights, settings, data=data, folder=folder)["val/images"]

    assert judged() == 1
    for path in kept:
        (tmp_path / path.name).rename(path)
    photographs = validation_ground_truth(data)
    assert photographs is not None
    with pytest.raises(DataError, match=r"lacks 3 of 4 photographs, .*; delete .*validation\.json"):
        read_validation_score(folder, photographs)
    assert judged() == 4
    assert 0 <= read_validation_score(folder, photographs).value <= 1


def test_a_cell_that_is_trained_anew_is_noted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cells_of(read_ledger(LEDGER), "small", where="claims.yaml")[0]
    results = iter([0.1, 0.1, 0.9])
    noted: list[float] = []

    class Run(NullTracker):
        def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:  # noqa: ARG002
            noted.extend(metrics.values())

    @contextmanager
    def start_run(*_args: object, **_kwargs: object) -> Iterator[Run]:
        yield Run()

    def run_cell(*_args: object, folder: Path, **_kwargs: object) -> dict[str, float]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).write_text('{"config": {}, "history": []}')
        return {"dev/ap_mean": next(results)}

    monkeypatch.setattr(claims, "run_cell", run_cell)
    monkeypatch.setattr(claims, "start_stage_run", start_run)
    monkeypatch.setattr(Books, "open", lambda _books: None)
    source = describe_data(tmp_path)
    books = Books(tmp_path, "sqlite:///none.db", None, "1")
    for _ in range(3):
        claims.train_cell.fn(cell, source, tmp_path / "teacher", tmp_path / "cells", books)
    assert noted == [0.1, 0.9]


def test_a_worker_is_started_for_what_is_missing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = read_ledger(LEDGER)
    cells = cells_of(asked, "small", where="claims.yaml")[:2]
    teacher, own = tmp_path / "teacher", tmp_path / cells[0].label
    teacher.write_text("one")
    own.mkdir()
    submitted: list[str] = []

    class Pool:
        def submit(self, _task: object, parameters: dict[str, Any]) -> Future[dict[str, float]]:
            submitted.append(parameters["cell"].label)
            future = Future[dict[str, float]]()
            future.set_result({"dev/ap_mean": 0.5})
            return future

    def run() -> list[str]:
        submitted.clear()
        books = Books(tmp_path, "sqlite:///none.db", None, "1")
        source = describe_data(tmp_path)
        claims._run_tasks(asked, cells, source, teacher, tmp_path, books=books, runner="processes", workers=1)
        return submitted

    monkeypatch.setattr(claims, "task_pool", lambda *_: nullcontext(Pool()))
    assert run() == [cell.label for cell in cells]
    metrics = {"dev/ap_mean": 0.5}
    judged_by = _fingerprint_of_judging(cells[0], _fingerprint_of_training(cells[0], tmp_path, teacher))
    (own / RESULT).write_text(json.dumps({"judged_by": judged_by, "metrics": metrics}))
    assert run() == [cell.label for cell in cells], "it is not noted in MLflow"
    (own / "noted.json").write_text(json.dumps({"metrics": metrics}))
    assert run() == [cells[1].label]
    teacher.write_text("another")
    assert run() == [cell.label for cell in cells]


def test_the_report_names_every_claim_and_draws_it(tmp_path: Path) -> None:
    ledger = read_ledger(LEDGER)
    generator = np.random.default_rng(3)
    scores = experiment(generator, dict.fromkeys(ledger.cells, 0.0))
    answers = [
        judge_gain(name, gain, estimate(scores, gain.contrast, num_claims=len(ledger.gains)))
        for name, gain in ledger.gains.items()
    ]
    measured = {"none": Cost(235_211, 537_000_000, 1.0), "all": Cost(235_211, 575_800_000, 1.25)}
    text = to_markdown(answers, scores, measured, facts={"command": "featherface claims"})
    assert "| all | 235,211 | 575.8 | 1.25 |" in text
    assert "Costs" not in to_markdown(answers, scores, {}, facts={})
    for gain in ledger.gains.values():
        assert f"| {gain.claim} | {gain.where} | {gain.points:+.2f} |" in text
    plot(answers, tmp_path / "claims.png")
    assert (tmp_path / "claims.png").stat().st_size > 10_000


def test_claims_about_finished_networks_are_judged_by_images_alone() -> None:
    ledger = read_ledger(LEDGER)
    generator = np.random.default_rng(4)
    scores = experiment(generator, dict.fromkeys(ledger.cells, 0.0))
    images = generator.normal(size=NUM_DRAWS)
    networks: dict[Network, Score] = {
        "shipped": Score(0.80, 0.80 + 0.02 * images),
        "teacher": Score(0.86, 0.86 + 0.02 * images + 0.005 * generator.normal(size=NUM_DRAWS)),
    }
    found = {each.name: each for each in answer(ledger, scores, replications=scores, models=networks)}
    ahead = found["student-over-teacher"].estimate
    assert ahead is not None
    assert ahead.points == pytest.approx(-6)
    # Both see the same images: what these have in common cancels, three deviations of half a point stay.
    assert 1 < ahead.high - ahead.points < 2
    verdicts = {name: found[name].verdict for name in ("student-over-teacher", "student-reaches")}
    assert verdicts == {"student-over-teacher": "refuted", "student-reaches": "refuted"}
    assert found["teacher-reaches"].verdict == "inconclusive"
    assert "| 90.50 | 80.00 (" in to_markdown(list(found.values()), scores, {}, facts={})
    again = found["all-innovations"].replication
    assert again == found["all-innovations"].estimate
    assert "student-reaches" not in {each.name for each in answer(ledger, scores)}


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(86, 88, "inconclusive"), (87, 89, "supported"), (85, 86.9, "refuted")]
)
def test_levels(low: float, high: float, verdict: str) -> None:
    claim = ModelClaim(claim="87 %", where="line 1", points=87, model="teacher")
    assert judge_level("a", claim, Estimate((low + high) / 2, low, high, 1.0, 0.0, 1)).verdict == verdict


def test_where_a_task_notes_what_it_did_is_told_without_its_password(tmp_path: Path) -> None:
    books = Books(tmp_path, "http://admin:hunter2@127.0.0.1:5000", None, "unknown")
    assert "hunter2" not in repr(books)
