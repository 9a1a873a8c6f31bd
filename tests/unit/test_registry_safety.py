"""What keeps the registry honest: turns, smoke tests, and a ledger whose chain shows every change."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from mlflow import MlflowClient, artifacts
from mlflow.artifacts import download_artifacts
from onnx import TensorProto, helper
from sqlalchemy import Engine, event
from test_registry import write_detector
from tiers import slow

from featherface.cli import main
from featherface.errors import ModelError
from featherface.tracking import ledger, ledger_copy, moves, turns
from featherface.tracking.connection import experiment_id
from featherface.tracking.download import download_model
from featherface.tracking.moves import ChampionChangedError
from featherface.tracking.registry import ModelRegistry
from featherface.tracking.turns import PREFIX, turn
from featherface.tracking.version_store import VersionStore
from featherface.tracking.versions import RegisteredVersion, UnavailableError

NAME = "featherface"


@pytest.fixture
def registry(client: MlflowClient) -> ModelRegistry:
    return ModelRegistry()


@pytest.fixture
def add_version(client: MlflowClient, tmp_path: Path) -> Callable[[], str]:
    def add() -> str:
        if not client.search_registered_models():
            client.create_registered_model(NAME)
        return str(client.create_model_version(NAME, source=(tmp_path / "none").as_uri()).version)

    return add


@pytest.fixture
def good_version(client: MlflowClient, tmp_path: Path) -> Callable[[float], str]:
    """Versions that work, each with a network of its own."""

    def add(face_logit: float) -> str:
        run_id = client.create_run(experiment_id(client)).info.run_id
        file = write_detector(tmp_path / "model.onnx", face_logit=face_logit)
        return ModelRegistry().register_student(run_id, file, metrics={}, tags={})

    return add


def ledger_tags(client: MlflowClient) -> dict[str, dict[str, Any]]:
    tags = client.get_registered_model(NAME).tags
    return {key: json.loads(tags[key]) for key in sorted(tags) if key.startswith(ledger.PREFIX)}


def aliases(client: MlflowClient) -> dict[str, str]:
    return {name: str(value) for name, value in client.get_registered_model(NAME).aliases.items()}


def raise_if(error: Exception | None) -> None:
    if error is not None:
        raise error


def copies(root: Path) -> list[Path]:
    """The files of the ledger's copy, oldest entry first."""
    return sorted((root / "mlartifacts").rglob(f"{ledger_copy.FOLDER}/*.json"))


def write_broken_detector(path: Path) -> Path:
    """Loads, has the outputs of a detector, and answers with what is no number."""
    shapes = {"box_deltas": [1, 0, 4], "cls_logits": [1, 0, 2], "landmark_deltas": [1, 0, 10]}
    nodes = [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, shape, []))
        for name, shape in shapes.items()
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, "h", "w"])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "broken", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.save(model, path)
    return path


def test_every_entry_says_who_did_what_and_follows_the_one_before(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    for _ in range(3):
        registry.promote(add_version(), ["better"])
    registry.rollback()
    entries = registry.history()
    assert [entry.follows for entry in entries] == ["", *(entry.digest for entry in entries[:-1])]
    assert all("@" in entry.actor for entry in entries)
    assert registry.check_history() == []


@pytest.mark.parametrize("entry_idx", [0, 1, slow(2)])
def test_an_edited_entry_shows(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str], entry_idx: int
) -> None:
    for _ in range(3):
        registry.promote(add_version())
    key, fields = list(ledger_tags(client).items())[entry_idx]
    client.set_registered_model_tag(NAME, key, json.dumps({**fields, "reasons": ["it was me"]}))
    problems = registry.check_history()
    assert any("differs from its copy" in problem for problem in problems)
    assert any("does not follow" in problem for problem in problems) == (entry_idx < 2)


@pytest.mark.parametrize("entry_idx", [slow(0), 1, 2])
def test_a_removed_entry_shows(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str], entry_idx: int
) -> None:
    for _ in range(3):
        registry.promote(add_version())
    client.delete_registered_model_tag(NAME, list(ledger_tags(client))[entry_idx])
    problems = registry.check_history()
    assert any("it was removed" in problem for problem in problems)
    expected = {0: "is gone", 1: "does not follow"}.get(entry_idx)
    assert expected is None or any(expected in problem for problem in problems)


@pytest.mark.parametrize(
    "spoil",
    ["cut", slow("unknown key"), slow("list"), slow("text for a number"), "no time", slow("end of time")],
)
def test_an_unreadable_entry_is_named_and_stops_nobody(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str], spoil: str
) -> None:
    for _ in range(3):
        registry.promote(add_version())
    key, fields = list(ledger_tags(client).items())[0 if spoil == "cut" else -1]
    text = {
        "cut": json.dumps(fields)[:40],
        "unknown key": json.dumps({**fields, "x": 1}),
        "list": "[]",
        "text for a number": json.dumps({**fields, "mean_ap": "high"}),
        "no time": json.dumps({**fields, "at": "2026"}),
        "end of time": json.dumps({**fields, "at": "9999-12-31T23:59:59.999999+00:00"}),
    }[spoil]
    client.set_registered_model_tag(NAME, key, text)
    assert f"the entry under the tag {key} cannot be read: somebody changed it" in registry.check_history()
    assert len(registry.history()) == 2
    assert len(registry.list_versions()) == 3
    assert registry.rollback() == "2"
    assert any("cannot be read" in problem for problem in registry.check_history())


def test_an_unreadable_copy_is_named(
    registry: ModelRegistry, add_version: Callable[[], str], tmp_path: Path
) -> None:
    for _ in range(2):
        registry.promote(add_version())
    file = copies(tmp_path)[0]
    file.write_text(file.read_text()[:30])
    assert any(
        f"the copy {file.name} in the artifact store cannot be read" in problem
        for problem in registry.check_history()
    )


def test_an_entry_that_somebody_added_shows_and_goes_on_to_show(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    registry.promote(add_version())
    last = registry.history()[-1]
    forged = ledger.next_entry("promote", version="1", previous="1", reasons=["forged"], after=[last])
    ledger.write(client, NAME, forged)
    (problem,) = registry.check_history()
    assert problem.startswith(f"the entry of {forged.at}, the last one, is not copied yet: ")
    # The next move cannot know whether it was a process that died: it takes it over, and says so for ever.
    registry.promote(add_version(), ["better"])
    assert registry.check_history() == []
    assert registry.history()[-1].reasons == ("better", f"had no copy until now: the entry of {forged.at}")


def test_a_missing_copy_shows_and_is_not_written_again(
    registry: ModelRegistry, add_version: Callable[[], str], tmp_path: Path
) -> None:
    for _ in range(3):
        registry.promote(add_version())
    at = registry.history()[1].at
    copies(tmp_path)[1].unlink()
    told = [f"the entry of {at} has no copy: somebody added it, or removed the copy"]
    assert registry.check_history() == told
    registry.rollback()
    assert registry.check_history() == told
    copies(tmp_path)[-1].unlink()
    assert len(registry.check_history()) == 2


@pytest.mark.parametrize("num_before", [0, 1])
def test_the_next_move_finishes_what_died_between_ledger_and_copy(
    registry: ModelRegistry,
    add_version: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    num_before: int,
) -> None:
    for _ in range(num_before):
        registry.promote(add_version())
    real = ledger_copy.copy

    def die(client: MlflowClient, name: str, entries: list[ledger.LedgerEntry]) -> None:
        if entries:
            raise ConnectionError("the machine is gone")
        real(client, name, entries)

    version = add_version()
    with monkeypatch.context() as patch:
        patch.setattr(ledger_copy, "copy", die)
        with pytest.raises(ConnectionError):
            registry.promote(version, ["better"])
    (problem,) = registry.check_history()
    assert "is not copied yet" in problem
    registry.promote(version, ["better"])
    assert registry.check_history() == []
    assert registry.history()[-1].reasons[1].startswith("had no copy until now: the entry of ")


def test_a_lost_copy_shows_and_the_next_move_writes_it_again(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    for _ in range(2):
        registry.promote(add_version())
    before = registry.history()[-1]
    (run,) = client.search_runs([experiment_id(client)], "tags.`featherface.ledger` = 'featherface'")
    folder = Path(download_artifacts(run_id=run.info.run_id, artifact_path=ledger_copy.FOLDER))
    assert len(list(folder.iterdir())) == 2
    client.delete_run(run.info.run_id)
    assert registry.check_history() == ["the copy of the ledger in the artifact store is gone"]
    registry.promote(add_version())
    assert registry.check_history() == []
    assert registry.history()[-1].reasons == (
        f"had no copy until now: the entry of {before.at} and 1 before it",
    )


def test_entries_from_before_the_chain_are_taken_at_its_beginning(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    old = {"action": "promote", "version": "1", "previous": None, "reasons": []}
    version = add_version()
    client.set_registered_model_alias(NAME, "champion", version)
    for second in (1, 2):
        at = f"2026-01-01T00:00:0{second}.000000+00:00"
        client.set_registered_model_tag(NAME, f"{ledger.PREFIX}{at[:26]}Z", json.dumps({**old, "at": at}))
    registry.promote(add_version())
    assert registry.check_history() == []
    assert [entry.version for entry in registry.history()] == ["1", "1", "2"]


def test_a_clock_that_runs_behind_does_not_change_the_order(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    registry.promote(add_version())
    (entry,) = registry.history()
    ahead = ledger.LedgerEntry("2999-01-01T00:00:00.000000+00:00", "observe", "1", None, follows=entry.digest)
    client.set_registered_model_tag(NAME, f"{ledger.PREFIX}2999", json.dumps(vars(ahead)))
    registry.promote(add_version())
    assert [each.version for each in registry.history()] == ["1", "1", "2"]
    assert ledger.broken_links(registry.history()) == []


def test_a_champion_that_cannot_detect_gives_way_to_the_old_one(
    client: MlflowClient,
    registry: ModelRegistry,
    add_version: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.promote(add_version())
    run_id = client.create_run(experiment_id(client)).info.run_id
    broken = write_broken_detector(tmp_path / "broken.onnx")
    version = registry.register_student(run_id, broken, metrics={}, tags={})
    with pytest.raises(ModelError, match=r"failed its smoke test: .*version 1 stays the champion"):
        registry.promote(version, ["best ever"])
    assert aliases(client) == {"champion": "1", "challenger": "2"}
    assert registry.get("2").status == "withdrawn"
    assert [entry.action for entry in registry.history()] == ["promote"], "nothing moved"

    # It works before the move and not after it.
    answers = iter([None, ModelError("it answers nonsense")])
    monkeypatch.setattr(moves, "smoke_test", lambda _: raise_if(next(answers)))
    with pytest.raises(ModelError, match="answers nonsense; version 1 is the champion again"):
        registry.promote(version, ["best ever"])
    assert aliases(client) == {"champion": "1", "challenger": "2"}
    assert registry.get("2").status == "withdrawn"
    assert [entry.action for entry in registry.history()] == ["promote", "promote", "withdraw"]
    assert registry.check_history() == []
    with pytest.raises(ModelError, match="version 1 of 'featherface' has no champion before it"):
        registry.rollback()


def test_a_first_champion_that_cannot_detect_leaves_none(
    client: MlflowClient, registry: ModelRegistry, tmp_path: Path
) -> None:
    run_id = client.create_run(experiment_id(client)).info.run_id
    version = registry.register_student(
        run_id, write_broken_detector(tmp_path / "broken.onnx"), metrics={}, tags={}
    )
    with pytest.raises(ModelError, match="there is no champion, as before"):
        registry.promote(version)
    assert registry.current_champion() is None
    assert registry.history() == []


def test_a_first_champion_that_was_withdrawn_is_no_way_back(
    client: MlflowClient,
    registry: ModelRegistry,
    good_version: Callable[[float], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([None, ModelError("it answers nonsense")])
    with monkeypatch.context() as patch:
        patch.setattr(moves, "smoke_test", lambda _: raise_if(next(answers)))
        with pytest.raises(ModelError, match="there is no champion, as before"):
            registry.promote(good_version(8.0))
    assert aliases(client) == {"challenger": "1"}
    assert [(e.action, e.version, e.previous) for e in registry.history()] == [
        ("promote", "1", None),
        ("withdraw", "", "1"),
    ]
    registry.promote(good_version(7.0))
    assert aliases(client) == {"champion": "2", "challenger": "1"} or aliases(client) == {"champion": "2"}
    with pytest.raises(ModelError, match="version 2 of 'featherface' has no champion before it"):
        registry.rollback()
    assert registry.check_history() == []


def test_a_rollback_skips_what_does_not_work_any_more(
    client: MlflowClient, registry: ModelRegistry, good_version: Callable[[float], str], tmp_path: Path
) -> None:
    for logit in (8.0, 7.0, 6.0):
        registry.promote(good_version(logit))
    files = {version: download_model(f"models:/{NAME}/{version}", root=tmp_path) for version in ("1", "2")}
    kept = files["1"].read_bytes()
    for file in files.values():
        file.write_bytes(b"gone")
    with pytest.raises(ModelError, match=r"version 3 .* stays the champion: version 2 was.*version 1 was"):
        registry.rollback()
    assert aliases(client) == {"champion": "3", "previous_champion": "2"}
    assert registry.get("3").status == "promoted"
    files["1"].write_bytes(kept)
    assert registry.rollback(["misses helmets"]) == "1"
    assert aliases(client) == {"champion": "1"}
    reasons = registry.history()[-1].reasons
    assert reasons[0] == "misses helmets"
    assert reasons[1].startswith("version 2 was skipped, it does not work: ")
    assert registry.get("3").reasons == ("misses helmets",)


@pytest.mark.parametrize(
    ("is_written", "works"), [(True, False), (False, True), slow(True, True), slow(False, False)]
)
def test_a_promotion_that_was_killed_before_the_smoke_test_is_finished(
    client: MlflowClient,
    good_version: Callable[[float], str],
    monkeypatch: pytest.MonkeyPatch,
    works: bool,
    is_written: bool,
) -> None:
    registry = ModelRegistry()
    for logit in (8.0, 7.0):
        registry.promote(good_version(logit))
    version = good_version(6.0)

    def die(*_: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(moves, "_confirm", die) if is_written else patch.setattr(ledger, "write", die)
        with pytest.raises(SystemExit):
            registry.promote(version, ["better"])
    assert aliases(client)["champion"] == "3"
    assert registry.get("3").status == "pending"
    if works:
        registry.promote(version, ["better"])
        assert registry.get("3").status == "promoted"
        assert aliases(client) == {"champion": "3", "previous_champion": "2"}
    else:
        monkeypatch.setattr(moves, "smoke_test", lambda _: raise_if(ModelError("it answers nonsense")))
        with pytest.raises(ModelError, match="nonsense; version 2 is the champion again"):
            registry.promote(version, ["better"])
        assert registry.get("3").status == "withdrawn"
        assert aliases(client) == {"champion": "2", "previous_champion": "1", "challenger": "3"}
    last = registry.history()[2]
    assert (last.action, last.version, last.previous, last.reasons) == ("promote", "3", "2", ("better",))
    assert len(registry.history()) == (3 if works else 4)
    assert registry.check_history() == []


def test_a_version_that_cannot_be_fetched_now_is_not_taken_for_broken(
    client: MlflowClient,
    registry: ModelRegistry,
    good_version: Callable[[float], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = good_version(8.0)

    def fail(*_: object, **__: object) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "download_artifacts", fail)
        with pytest.raises(ModelError, match="version 1 of 'featherface': cannot be had"):
            registry.promote(version)
    assert registry.get(version).status == "pending"
    # The store goes away once the version has become the champion.
    answers = iter([None, UnavailableError("the store is away")])
    with monkeypatch.context() as patch:
        patch.setattr(moves, "smoke_test", lambda _: raise_if(next(answers)))
        with pytest.raises(ModelError, match="the store is away; there is no champion, as before"):
            registry.promote(version)
    assert registry.get(version).status == "pending"
    registry.promote(version)


def test_reasons_that_are_too_long_are_cut_before_anything_moves(
    registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    """PostgreSQL refuses what is longer than the column; six characters of JSON stand for a Cyrillic one."""
    text = "Модель лучше находит лица в толпе и в профиль. " * 25
    registry.promote(add_version(), ["first", text])
    registry.promote(add_version())
    registry.rollback([text])
    entries = registry.history()
    assert [len(ledger.to_json(entry)) <= 5000 for entry in entries] == [True] * 3
    for entry, start in ((entries[0], "first; Модель"), (entries[2], "Модель")):
        (reason,) = entry.reasons
        assert reason.startswith(start)
        assert reason.endswith("…")
        assert len(reason) > 600
    assert registry.get("2").reasons == (text,), "whole on the version"
    assert registry.check_history() == []


def test_reasons_that_nothing_can_hold_move_nothing(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    registry.promote(add_version())
    version = add_version()
    with pytest.raises(ModelError, match="the reasons have 60,004 characters, at most 50,000 can be kept"):
        registry.promote(version, ["y" * 60_000])
    assert aliases(client) == {"champion": "1"}
    assert len(registry.history()) == 1


def test_a_version_judged_against_another_champion_is_not_promoted(
    registry: ModelRegistry, add_version: Callable[[], str]
) -> None:
    registry.promote(add_version())
    late = add_version()
    registry.promote(add_version(), judged_against="1")
    with pytest.raises(ChampionChangedError, match=r"version 2 was judged against champion 1, but version 3"):
        registry.promote(late, judged_against="1")
    with pytest.raises(ChampionChangedError, match=r"against champion \(none\)"):
        registry.promote(late, judged_against=None)
    registry.promote(late, judged_against="3")
    registry.promote("3")  # a person may do as they please


def test_who_has_the_turn_keeps_others_waiting_until_they_are_told(
    client: MlflowClient, add_version: Callable[[], str]
) -> None:
    add_version()
    told = pytest.raises(ModelError, match=r"@.* is moving the aliases of 'featherface'; try again")
    with turn(client, NAME), told, turn(client, NAME, patience_s=0.2):
        raise AssertionError("two have the turn")
    with turn(client, NAME):
        pass
    assert not [key for key in client.get_registered_model(NAME).tags if key.startswith(PREFIX)]


def test_a_turn_that_took_too_long_is_lost_to_who_came_meanwhile(
    client: MlflowClient, add_version: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_version()
    monkeypatch.setattr(turns, "LIFE_S", -1.0)  # over as soon as it begins
    with turn(client, NAME) as held:
        held.check()  # nobody came: it goes on
        # Somebody on another machine saw that it was over, just before it was written anew.
        theirs = {"actor": "them@elsewhere", "host": "elsewhere", "pid": 1, "until": time.time() + 100}
        client.set_registered_model_tag(NAME, f"{PREFIX}theirs", json.dumps(theirs))
        with pytest.raises(ModelError, match="another process had its turn"):
            held.check()
        client.delete_registered_model_tag(NAME, f"{PREFIX}theirs")
        with turn(client, NAME), pytest.raises(ModelError, match="another process had its turn"):
            held.check()
        with pytest.raises(ModelError, match="another process had its turn with 'featherface'; see what"):
            held.check()


def test_a_turn_is_renewed_while_it_is_held(
    client: MlflowClient, add_version: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_version()
    now = time.time()
    monkeypatch.setattr(turns.time, "time", lambda: now)
    with turn(client, NAME) as held:
        for _ in range(5):
            now += 0.6 * turns.LIFE_S
            held.check()
        monkeypatch.setattr(
            turns, "_is_alive", lambda _, ticket: now <= ticket.until
        )  # another machine's view
        with pytest.raises(ModelError, match="is moving the aliases"), turn(client, NAME, patience_s=0):
            pass


def test_a_promotion_that_took_too_long_moves_nothing(
    client: MlflowClient,
    registry: ModelRegistry,
    add_version: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.promote(add_version())
    slow, fast = add_version(), add_version()
    monkeypatch.setattr(turns, "LIFE_S", -1.0)
    real = VersionStore.describe

    def describe(store: VersionStore, version: str) -> RegisteredVersion:
        if version == slow:
            monkeypatch.undo()
            registry.promote(fast)
        return real(store, version)

    monkeypatch.setattr(VersionStore, "describe", describe)
    with pytest.raises(ModelError, match="another process had its turn"):
        registry.promote(slow)
    assert aliases(client) == {"champion": fast, "previous_champion": "1"}
    assert registry.check_history() == []


@pytest.mark.parametrize(
    "ticket",
    [
        {"actor": "a@b", "host": "elsewhere", "pid": 1, "until": 1.0},
        {"actor": "a@b", "host": os.uname().nodename, "pid": 2**22 + 1, "until": 1e12},
        {"actor": "a@b", "host": os.uname().nodename, "pid": os.getpid(), "until": 1e12},
        {},
        {"actor": "a@b", "host": os.uname().nodename, "pid": 0, "until": 1e12},
    ],
    ids=["too old", "its process is gone", "of this process, which has none", "no ticket", "no process"],
)
def test_tickets_of_the_dead_are_cleared(
    client: MlflowClient, add_version: Callable[[], str], ticket: dict[str, Any]
) -> None:
    add_version()
    client.set_registered_model_tag(NAME, f"{PREFIX}cut", json.dumps(ticket)[:-1])
    client.set_registered_model_tag(NAME, f"{PREFIX}dead", json.dumps(ticket))
    with turn(client, NAME, patience_s=0.1):
        pass
    assert not [key for key in client.get_registered_model(NAME).tags if key.startswith(PREFIX)]


PROMOTE = """
import sys, time
from pathlib import Path
from featherface.tracking.connection import configure
from featherface.tracking.moves import ChampionChangedError
from featherface.tracking.registry import ModelRegistry
configure(Path(sys.argv[1]))
registry = ModelRegistry()
print("ready", flush=True)
sys.stdin.readline()
try:
    registry.promote(sys.argv[2], judged_against="1")
    print("won")
except ChampionChangedError as error:
    print("told:", error)
"""


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    client: MlflowClient, registry: ModelRegistry, add_version: Callable[[], str], tmp_path: Path
) -> None:
    registry.promote(add_version())
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE, str(tmp_path), add_version()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n"
    started = time.monotonic()
    answers = sorted(rival.communicate("go\n", timeout=60)[0].partition(":")[0].strip() for rival in rivals)
    assert answers == ["told", "won"], f"after {time.monotonic() - started:.1f} s"
    assert [entry.action for entry in registry.history()] == ["promote", "promote"]
    assert registry.check_history() == []


@pytest.mark.parametrize("known", [True, False], ids=["a user of the system", "a container's user"])
def test_who_acts_is_the_user_of_the_process(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    monkeypatch.setenv("LOGNAME", "the-boss")
    if not known:
        monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 7)
    user = ledger.actor().partition("@")[0]
    assert user == (pwd.getpwuid(os.getuid()).pw_name if known else "the-boss")


def test_no_reason_forges_a_line_of_the_history(
    registry: ModelRegistry,
    add_version: Callable[[], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry.promote(add_version(), ["x\n2020-01-01T00:00:00Z  promote   9 -> 9  forged \x1b[2Jhidden"])
    with pytest.raises(SystemExit) as left:
        main(["registry", "history", "--root", str(tmp_path)])
    assert left.value.code == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r"x\n2020-01-01T00:00:00Z  promote   9 -> 9  forged \x1b[2Jhidden")


@pytest.mark.parametrize("command", ["list", "history", "reap", "rollback", "reproduce 1", "delete 1"])
@pytest.mark.parametrize("kind", ["nothing", "file", "garbage"])
def test_where_no_registry_is_none_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    command: str,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "typo"
    if kind == "file":
        root.write_text("a file")
    elif kind == "garbage":
        root.mkdir()
        (root / "mlflow.db").write_text("garbage" * 100)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as left:
        main(["registry", *command.split(), "--root", str(root)])
    (line,) = capsys.readouterr().err.splitlines()
    words = "is no SQLite database" if kind == "garbage" else "no registry at"
    assert (left.value.code, words in line) == (2, True), line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def read_only(registry: ModelRegistry, add_version: Callable[[], str]) -> Iterator[None]:
    """Three champions in a database that takes no more; permissions would not stop root."""
    for _ in range(3):
        registry.promote(add_version())

    def forbid_writing(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    event.listen(Engine, "checkout", forbid_writing)
    yield
    event.remove(Engine, "checkout", forbid_writing)


@pytest.mark.usefixtures("read_only")
@pytest.mark.parametrize("command", ["promote 1", slow("rollback"), "delete 1"])
def test_a_database_that_cannot_be_written_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """MLflow itself says it with two tracebacks and the statement."""
    with pytest.raises(SystemExit) as left:
        main(["registry", *command.split(), "--root", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 1
    assert line == (
        f"featherface: the tracking store sqlite:///{tmp_path}/mlflow.db cannot be used (attempt to write "
        "a readonly database); see that it can be written, its disk has room and nobody holds it, then run "
        "the same command again"
    )
    assert not caplog.records
