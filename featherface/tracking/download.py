"""A registered model's file, on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from featherface.errors import ModelError
from featherface.files import sha256_of
from featherface.tracking.connection import follow_workspace, tracking_uri
from featherface.tracking.packaging import ONNX_NAME, measured_folder
from featherface.tracking.versions import MEASURED_BY_RUN, ONNX_SHA256, readable_errors

_MODEL_URI = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")


def download_model(uri: str, *, root: Path = Path()) -> Path:
    """The ONNX file of a registered model, on this machine.

    A file of a store on this machine is used where it lies; a server's is fetched into a temporary folder.

    Args:
        uri: `models:/featherface@champion` or `models:/featherface/3`.
        root: the workspace whose registry is asked where `MLFLOW_TRACKING_URI` names none.

    Raises:
        ModelError: no such address, registry, model, alias or version, or the file is not the registered one.
        FeatherFaceError: the workspace was moved without its files.
    """
    match = _MODEL_URI.fullmatch(uri)
    if match is None:
        raise ModelError(
            f"'{uri}' is no model address; use models:/featherface@champion or models:/featherface/3"
        )
    store = tracking_uri(root)
    database = Path(store.removeprefix("sqlite:///"))
    if store.startswith("sqlite:///") and not database.exists():
        # MLflow would lay out an empty database only to say that the model is not in it.
        raise ModelError(
            f"{uri}: no registry at {database}; run `featherface pipeline`, or set MLFLOW_TRACKING_URI"
        )
    name = match["name"]
    with readable_errors(uri):
        client = MlflowClient(store, store)
        follow_workspace(client, root)
        aliases = client.get_registered_model(name).aliases
        if match["alias"] is not None and match["alias"] not in aliases:
            known = ", ".join(sorted(aliases)) or "none"
            raise ModelError(
                f"{uri}: model '{name}' has no alias '{match['alias']}', it has: {known}; "
                "`featherface registry list` shows its versions"
            )
        version = client.get_model_version(name, str(match["version"] or aliases[match["alias"]]))
    return fetch_version(client, version, what=uri)


def fetch_extra(client: MlflowClient, version: ModelVersion, name: str) -> Path | None:
    """A file that was kept beside the model of a version, on this machine; None if there is none.

    It is that of the run whose numbers count. None is said only where the store answers and has no such file:
    one that is away may have it.

    Args:
        client: of the store that has it.
        version: as this client found it.
        name: of the file.

    Raises:
        one of `STORE_ERRORS`: the store does not answer.
    """
    try:
        folder = client.get_model_version_download_uri(version.name, version.version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None  # the logged model behind the version was deleted
    measured_by = version.tags.get(MEASURED_BY_RUN)
    if measured_by is not None:
        folder = f"{folder}/{measured_folder(measured_by)}"
    files = artifacts.list_artifacts(artifact_uri=folder, tracking_uri=client.tracking_uri)
    if name not in {Path(file.path).name for file in files}:
        return None
    return Path(artifacts.download_artifacts(f"{folder}/{name}", tracking_uri=client.tracking_uri))


def fetch_version(client: MlflowClient, version: ModelVersion, *, what: str) -> Path:
    """The ONNX file of a version, on this machine, and surely the one that was registered.

    Args:
        client: of the store that has it.
        version: as this client found it.
        what: it is called in errors.

    Raises:
        ModelError: it cannot be had, or is not the registered one.
    """
    with readable_errors(what):
        # Not `models:/...`: such an address MLflow looks up in its default store, whatever it is told here.
        folder = client.get_model_version_download_uri(version.name, version.version)
        file = Path(
            artifacts.download_artifacts(f"{folder}/artifacts/{ONNX_NAME}", tracking_uri=client.tracking_uri)
        )
    expected = version.tags.get(ONNX_SHA256)
    if expected is not None and sha256_of(file) != expected:
        raise ModelError(f"{what}: {file} is not the file that was registered; register the export again")
    return file
