"""Taking turns: one process at a time moves the aliases of a model, on however many machines they run.

MLflow has no operation that compares and sets. What it has is enough: tags of one's own, which everybody can
read. Who wants a turn writes a ticket and then looks for others; only who finds none has the turn. Of two who
come at once the later writer always sees the earlier one's ticket, so they never both go on; who sees another
ticket takes the own one back, waits a little and tries again.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from mlflow import MlflowClient
from pydantic import Field, TypeAdapter

from featherface.errors import ModelError
from featherface.tracking.ledger import actor

PREFIX = "turn/"
LIFE_S = 120.0
"""A ticket that is older is a dead process's; a turn takes seconds. Clocks may differ by less than this."""
PATIENCE_S = 20.0
_WAIT_S = (0.05, 0.4)


@dataclass(frozen=True)
class _Ticket:
    actor: str
    host: str
    pid: Annotated[int, Field(gt=0, lt=2**31)]
    until: float


_TICKET = TypeAdapter(_Ticket)

_held: set[str] = set()
_held_lock = threading.Lock()


class Turn:
    """The turn that this process has; `turn` gives it.

    Args:
        client: where.
        name: the registered model.
        ticket: key of the tag that shows whose turn it is.
    """

    def __init__(self, client: MlflowClient, name: str, ticket: str) -> None:
        self._client = client
        self._name = name
        self._ticket = ticket
        self._until = 0.0

    def write(self) -> None:
        """Put the ticket there for a whole life from now on."""
        self._until = time.time() + LIFE_S
        fields = {"actor": actor(), "host": socket.gethostname(), "pid": os.getpid(), "until": self._until}
        self._client.set_registered_model_tag(self._name, self._ticket, json.dumps(fields))

    def remove(self) -> None:
        """Take the ticket away, unless others have."""
        if self._ticket in self._client.get_registered_model(self._name).tags:
            self._client.delete_registered_model_tag(self._name, self._ticket)

    def find_other(self) -> str | None:
        """Who else has a ticket; those of the dead are cleared away."""
        return _living_ticket(self._client, self._name, self._ticket)

    def check(self) -> None:
        """Make sure that the turn is still this process's; to be asked right before each write.

        Raises:
            ModelError: it took too long, and another process had or has the turn.
        """
        is_there = self._ticket in self._client.get_registered_model(self._name).tags
        remaining_s = self._until - time.time()
        if is_there and remaining_s < LIFE_S / 2:
            self.write()
        # Who came after the ticket's end may have seen that before it was written anew.
        if not is_there or (remaining_s < 0 and self.find_other() is not None):
            raise ModelError(
                f"this took so long that another process had its turn with '{self._name}'; see what "
                "`featherface registry list` shows now, and try again"
            )


@contextmanager
def turn(client: MlflowClient, name: str, *, patience_s: float = PATIENCE_S) -> Iterator[Turn]:
    """Wait for the turn to change the aliases of a registered model, and give it back.

    Args:
        client: where.
        name: the registered model; it must exist.
        patience_s: how long to wait for others.

    Raises:
        ModelError: others had the turn for longer.
    """
    ticket = f"{PREFIX}{uuid.uuid4().hex}"
    own = Turn(client, name, ticket)
    given_up_at = time.monotonic() + patience_s
    with _held_lock:
        _held.add(ticket)
    try:
        while True:
            own.write()
            other = own.find_other()
            if other is None:
                yield own
                return
            own.remove()
            if time.monotonic() > given_up_at:
                raise ModelError(f"{other} is moving the aliases of '{name}'; try again in a minute")
            time.sleep(random.uniform(*_WAIT_S))  # noqa: S311 - it only keeps two from waiting in step
    finally:
        with _held_lock:
            _held.discard(ticket)
        own.remove()


def _living_ticket(client: MlflowClient, name: str, own: str) -> str | None:
    for key, text in client.get_registered_model(name).tags.items():
        if not key.startswith(PREFIX) or key == own:
            continue
        ticket = _parse(text)
        if ticket is not None and _is_alive(key, ticket):
            return ticket.actor
        client.delete_registered_model_tag(name, key)
    return None


def _parse(text: str) -> _Ticket | None:
    """None: it is no ticket of ours, and nobody holds it."""
    try:
        return _TICKET.validate_json(text)
    except ValueError:
        return None


def _is_alive(key: str, ticket: _Ticket) -> bool:
    if time.time() > ticket.until:
        return False
    if ticket.host != socket.gethostname():
        return True
    if ticket.pid == os.getpid():
        return key in _held
    try:
        os.kill(ticket.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is somebody else's
        return True
    return True
