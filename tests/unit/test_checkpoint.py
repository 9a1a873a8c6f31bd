"""Checkpoints: complete, never half-written, never trusted."""

import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from featherface.errors import EndedEarlyError, ModelError
from featherface.training import checkpoint as checkpoint_module
from featherface.training.checkpoint import (
    Checkpoint,
    generator_states,
    load_checkpoint,
    restore_generators,
    save_checkpoint,
)


def example(fingerprint: str = "abc") -> Checkpoint:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.rand(2, 3, 8, 8)).mean().backward()
    optimizer.step()
    return Checkpoint(
        fingerprint=fingerprint,
        epoch=3,
        batch_idx=7,
        states={"model": network.state_dict(), "optimizer": optimizer.state_dict()},
        generators=generator_states({"numpy": np.random.default_rng(1)}),
        extra={"history": [{"epoch": 0, "loss": 1.5}], "sums": {"cls": 0.25}},
    )


def test_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = example()
    save_checkpoint(tmp_path / "new" / "training.pt", saved)
    loaded = load_checkpoint(tmp_path / "new" / "training.pt")
    assert (loaded.fingerprint, loaded.epoch, loaded.batch_idx) == ("abc", 3, 7)
    assert loaded.extra == saved.extra
    assert loaded.generators["numpy"] == saved.generators["numpy"]
    torch.testing.assert_close(dict(loaded.states["model"]), dict(saved.states["model"]), rtol=0, atol=0)
    torch.testing.assert_close(
        loaded.states["optimizer"]["state"], saved.states["optimizer"]["state"], rtol=0, atol=0
    )
    assert loaded.states["optimizer"]["param_groups"] == saved.states["optimizer"]["param_groups"]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["training.pt"]


def test_a_disk_that_is_full_halfway_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    save_checkpoint(path, example("old"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, before[1]))
    try:
        with pytest.raises(EndedEarlyError, match=r"\.pt: cannot be written \(File too large\)"):
            save_checkpoint(path, example("new"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path).fingerprint == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["syncing", "renaming"])
def test_failure_at_any_moment_leaves_the_old_file(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "training.pt"
    save_checkpoint(path, example("old"))

    def fail(*_args: object) -> None:
        raise OSError("disk full")

    if moment == "syncing":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(EndedEarlyError, match="disk full"):
        save_checkpoint(path, example("new"))
    monkeypatch.undo()
    assert load_checkpoint(path).fingerprint == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftover_of_a_killed_run_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".training.pt.unfinished").write_bytes(b"half")
    save_checkpoint(tmp_path / "training.pt", example())
    assert [file.name for file in tmp_path.iterdir()] == ["training.pt"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.pt: there is no such checkpoint"):
        load_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.parametrize("damage", ["empty", "text", "first half", "last byte gone"])
def test_damaged_file_is_refused_with_what_to_do(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    save_checkpoint(path, example())
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"epoch,loss\n" * 100,
            "first half": whole[: len(whole) // 2],
            "last byte gone": whole[:-1],
        }[damage]
    )
    with pytest.raises(
        ModelError, match=r"training\.pt: is damaged \(.+\); delete it to train from the start"
    ):
        load_checkpoint(path)


def test_one_flipped_bit_in_a_weight_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    saved = example()
    save_checkpoint(path, saved)
    content = bytearray(path.read_bytes())
    position = bytes(content).index(saved.states["model"]["0.weight"].numpy().tobytes())
    content[position + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="wrong checksum"):
        load_checkpoint(path)


def test_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "training.pt"
    torch.save({"schema": 1, "trap": Trap()}, path)
    with pytest.raises(ModelError, match="is no file of tensors and plain values; delete it"):
        load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "sprung").exists()  # the trap works


def test_weights_alone_are_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=r"weights\.pt: holds no checkpoint of a training"):
        load_checkpoint(tmp_path / "weights.pt")


@pytest.mark.parametrize("schema", [0, 99])
def test_other_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int) -> None:
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SCHEMA", schema)
    save_checkpoint(tmp_path / "training.pt", example())
    monkeypatch.undo()
    with pytest.raises(ModelError, match=f"has schema {schema}, this version reads 2"):
        load_checkpoint(tmp_path / "training.pt")


def test_generators_go_on_where_they_were(tmp_path: Path) -> None:
    generators = {"torch": torch.Generator().manual_seed(5), "numpy": np.random.default_rng(5)}

    def draw() -> tuple[list[float], list[float], list[float]]:
        return (
            torch.rand(3, generator=generators["torch"]).tolist(),  # type: ignore[arg-type]
            generators["numpy"].random(3).tolist(),  # type: ignore[union-attr]
            torch.rand(3).tolist(),
        )

    draw()
    checkpoint = Checkpoint("x", 0, 0, states={}, generators=generator_states(generators))
    save_checkpoint(tmp_path / "training.pt", checkpoint)
    first = draw()
    assert draw() != first
    restore_generators(generators, load_checkpoint(tmp_path / "training.pt").generators)
    assert draw() == first


def test_checkpoint_of_other_generators_is_refused() -> None:
    states = generator_states({"augment": torch.Generator()})
    with pytest.raises(ModelError, match=r"has the random generators \['augment', 'torch.default'\]"):
        restore_generators({}, states)
