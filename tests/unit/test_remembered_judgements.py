"""What was judged by other rules is judged again."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from featherface.claims import validation
from featherface.claims.validation import SUMMARY, judge_on_validation
from featherface.config import EvaluateConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.inference.loading import shipped_weights
from featherface.inference.votes import VOTE_RULE


def test_a_judgement_holds_until_the_votes_are_counted_by_other_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder, settings = tmp_path / "data", tmp_path / "judged", EvaluateConfig()
    synthesize_dataset(data, num_train=1, num_val=2, image_hw=(120, 160), seed=3, num_workers=1)

    def judge() -> dict[str, float]:
        return judge_on_validation(shipped_weights(), settings, data=data, folder=folder)

    found = judge()
    known = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    (folder / SUMMARY).write_text(json.dumps(known | {"metrics": {"remembered": 1.0}}), encoding="utf-8")
    assert judge() == {"remembered": 1.0}
    other = VOTE_RULE._replace(votes_power=0.5)
    monkeypatch.setattr("featherface.evaluation.run.VOTE_RULE", other)
    assert judge().keys() == found.keys()
    assert json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["fingerprint"] != known["fingerprint"]


def test_weights_that_are_replaced_while_they_are_judged_are_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, settings, looks = tmp_path / "weights", EvaluateConfig(), iter([b"second", b"second"])
    weights.write_bytes(b"first")

    def look(*_arguments: object, **_options: object) -> SimpleNamespace:
        judged = float(len(weights.read_bytes()))
        weights.write_bytes(next(looks))
        return SimpleNamespace(metrics=lambda _split: {"looked at": judged})

    monkeypatch.setattr(validation, "evaluate_dataset", look)
    monkeypatch.setattr(validation, "detector_for", lambda *_: SimpleNamespace(detect=None))
    for expected in (5.0, 6.0, 6.0):
        got = judge_on_validation(weights, settings, data=tmp_path, folder=tmp_path / "judged")
        assert got == {"looked at": expected}
