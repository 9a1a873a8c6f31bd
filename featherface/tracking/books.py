"""Aliases and ledger of one registered model, in the hands of the process that has the turn."""

from __future__ import annotations

from collections.abc import Iterable

from featherface.tracking import ledger, ledger_copy
from featherface.tracking.ledger import LedgerEntry
from featherface.tracking.turns import Turn
from featherface.tracking.version_store import Snapshot, VersionStore
from featherface.tracking.versions import CHAMPION, ONNX_SHA256


class Books:
    """What one move reads and writes; before each write it is made sure that the turn is still ours.

    Args:
        store: of the model.
        held: the turn.
    """

    def __init__(self, store: VersionStore, held: Turn) -> None:
        self.store = store
        self._held = held
        snapshot = store.snapshot() or Snapshot({}, [])
        self.aliases = snapshot.aliases
        self.entries = snapshot.entries
        self._uncopied: list[LedgerEntry] = []

    @property
    def champion(self) -> str | None:
        """As the alias has it."""
        return self.aliases.get(CHAMPION)

    @property
    def champion_on_record(self) -> str | None:
        """As the ledger has it."""
        stack = ledger.champions(self.entries)
        return stack[-1] if stack else None

    @property
    def is_copied(self) -> bool:
        """Whether ledger and copy end alike."""
        return not ledger_copy.uncopied(self.store.client, self.store.name, self.entries)

    def champions_before(self, version: str) -> list[str]:
        """The champions before a version that are still there, the latest last."""
        existing = {str(each.version) for each in self.store.search()}
        return ledger.champions_before(self.entries, version, existing)

    def draft(
        self, action: ledger.Action, version: str, *, previous: str | None, reasons: Iterable[str] = ()
    ) -> LedgerEntry:
        """The next entry; made before anything moves, so that nothing can be wrong with it later.

        Where the entries before had no copy it says so: they get one with it, and that is not to be silent.

        Args:
            action: what is about to happen.
            version: the champion from then on; empty: none.
            previous: the champion until then.
            reasons: why.
        """
        reasons = list(reasons)
        self._uncopied = ledger_copy.uncopied(self.store.client, self.store.name, self.entries)
        if any(entry.follows is not None for entry in self._uncopied):
            num_others = len(self._uncopied) - 1
            others = f" and {num_others} before it" if num_others else ""
            reasons.append(f"had no copy until now: the entry of {self._uncopied[-1].at}{others}")
        described = self.store.describe(version) if version else None
        return ledger.next_entry(
            action,
            version=version,
            previous=previous,
            reasons=reasons,
            onnx_sha256=described.tags.get(ONNX_SHA256, "") if described else "",
            mean_ap=described.metrics.get("val/ap_mean") if described else None,
            after=self.entries,
        )

    def write(self, entry: LedgerEntry) -> None:
        """Add the entry that was drafted last, to ledger and copy.

        Raises:
            ModelError: the turn was lost.
        """
        self._held.check()
        ledger_copy.copy(self.store.client, self.store.name, self._uncopied)
        ledger.write(self.store.client, self.store.name, entry)
        ledger_copy.copy(self.store.client, self.store.name, [entry])
        self.entries.append(entry)

    def point(self, alias: str, version: str | None) -> None:
        """Move an alias; None: take it away.

        Raises:
            ModelError: the turn was lost.
        """
        self._held.check()
        if version is not None:
            self.store.client.set_registered_model_alias(self.store.name, alias, version)
            self.aliases[alias] = version
        elif self.aliases.pop(alias, None) is not None:
            self.store.client.delete_registered_model_alias(self.store.name, alias)
