"""The turn of a workspace as `pipelines.claims` knows it; it is in `featherface.stages.turn`."""

from featherface.stages.turn import WorkspaceBusyError, workspace_turn

__all__ = ["WorkspaceBusyError", "workspace_turn"]
