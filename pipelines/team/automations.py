"""What the team's server does by itself when a run falls silent."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from pipelines.team.servers import HEARTBEAT_S

SILENCE_S = 3 * HEARTBEAT_S
NAME = "silent runs have crashed"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_ENDS = ("Completed", "Rejected", "Skipped", "Declined", "Failed", "Cancelled", "Crashed", "Paused")


async def watch_for_silence() -> None:
    """Have runs marked as crashed that no longer say they are alive: their machine or worker was killed.

    `prefect.yaml` starts a retraining again after that. Uses the server of
    `PREFECT_API_URL`; renews what is there.
    """
    wanted = Automation(
        name=NAME,
        description="A run whose process was killed would stay Running for ever.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *(f"prefect.flow-run.{name}" for name in _ENDS)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"it said nothing for {SILENCE_S} s: its process is gone"
            )
        ],
    )
    try:
        known = await Automation.aread(name=NAME)
    except ValueError:
        known = None
    if known is None:
        await wanted.acreate()
    elif _content(known) != _content(wanted):  # renewed, it would forget whom it watches
        known.trigger, known.actions = wanted.trigger, wanted.actions
        await known.aupdate()


def _content(automation: Automation) -> dict[str, Any]:
    content: dict[str, Any] = automation.model_dump(mode="json", include={"trigger", "actions"})
    content["trigger"].pop("id", None)
    for key in ("after", "expect", "for_each"):  # sets, in any order
        content["trigger"][key] = sorted(content["trigger"][key])
    return content


if __name__ == "__main__":
    asyncio.run(watch_for_silence())
