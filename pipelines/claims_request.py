"""What `featherface claims` was asked for, checked in seconds, before a server or a folder is made for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featherface.claims.ledger import Ledger, cells_of, read_ledger
from featherface.errors import ModelError
from featherface.trials.plan import Cell
from pipelines.data_sources import DataSource, describe_data


@dataclass(frozen=True)
class ClaimsRequest:
    """A ledger, the trainings that a budget asks for, and what they train on."""

    ledger: Ledger
    cells: tuple[Cell, ...]
    source: DataSource


def read_request(*, ledger: Path, budget: str, data: Path, teacher: Path) -> ClaimsRequest:
    """Read all that was named.

    Raises:
        FeatherFaceError: ledger, budget, data or weights cannot be used.
    """
    asked = read_ledger(ledger)
    cells = cells_of(asked, budget, where=str(ledger))
    if not teacher.is_file():
        raise ModelError(f"{teacher}: there is no such file; give the teacher's .safetensors")
    return ClaimsRequest(asked, tuple(cells), describe_data(data))
