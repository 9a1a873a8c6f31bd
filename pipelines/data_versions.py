"""A new version of the data: recorded, kept in the remote, and told to whoever waits for it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from featherface.config import load_config
from featherface.errors import DataError, FeatherFaceError
from featherface.stages.base import PARAMS_FILE
from featherface.tracking.connection import shown
from featherface.tracking.provenance import data_md5
from featherface.turn import workspace_turn
from pipelines import dvc_commands

logger = logging.getLogger(__name__)

PUSHED = "featherface.data.pushed"
_API_URL = "PREFECT_API_URL"
_PATIENCE_S = 10.0


class NobodyToldError(FeatherFaceError):
    """A version was recorded and pushed, but no retraining was started."""


def push_data(root: Path, *, remote: str | None = None) -> str:
    """Accept what lies in the data folder as a new version, push it, and raise an event.

    Args:
        root: the workspace.
        remote: address of DVC's remote from now on, such as `s3://dvc/featherface`; None: the one it
            has, if any.

    Returns:
        The version.

    Raises:
        DataError: there is no data folder.
        DvcError: the remote does not answer; the version is recorded all the same.
        NobodyToldError: the Prefect server of `PREFECT_API_URL` does not take the event; data that did not
            change raise it again.
        WorkspaceBusyError: a run reads the data.
    """
    root = root.resolve()
    config = load_config(root / PARAMS_FILE)
    folder = root / config.data.root
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no data folder; `featherface pipeline` makes one")
    with workspace_turn(root):
        if remote is not None:
            dvc_commands.run_dvc(root, "remote", "add", "--force", "--default", "team", remote)
        dvc_commands.run_dvc(root, "add", config.data.root)
        version = data_md5(root)
        if dvc_commands.run_dvc(root, "remote", "list").strip():
            dvc_commands.run_dvc(root, "push", dvc_commands.DATA_FILE)
        else:
            logger.warning("%s has no DVC remote: the data stay on this machine", root)
    api_url = os.environ.get(_API_URL)
    if api_url:
        _tell(root, version, api_url)
    else:
        logger.warning("%s is not set: nobody is told of version %s", _API_URL, version)
    return version


def _tell(root: Path, version: str, api_url: str) -> None:
    from httpx import HTTPError, Timeout
    from prefect.client.orchestration import get_client
    from prefect.events import Event, Resource
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    resource = {
        "prefect.resource.id": f"featherface.data.{root.name}",
        "prefect.resource.name": root.name,
        "featherface.data.version": version,
    }
    event = Event(event=PUSHED, resource=Resource(resource))
    # Not `emit_event`: it sends later, from a thread, and nobody learns that it could not.
    with temporary_settings({PREFECT_API_URL: api_url, PREFECT_CLIENT_MAX_RETRIES: 0}):
        settings = {"timeout": Timeout(_PATIENCE_S)}
        try:
            with get_client(sync_client=True, httpx_settings=settings) as client:
                client.request("POST", "/events", json=[event.model_dump(mode="json")])
        except (HTTPError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise NobodyToldError(
                f"pushed version {version}, but the Prefect server at {shown(api_url)} cannot be reached "
                f"({shown(reason)}), so no retraining was started: push again when it is up"
            ) from error
