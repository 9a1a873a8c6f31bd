"""An S3 store: Ceph's gateway with a monitor, a manager and one storage daemon, all on this machine.

Real S3 semantics (multipart uploads, versions, conditional writes) from a system's own packages.
One daemon keeps one copy: a team's data belong on a store with several, see docs/operations.md.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import uuid
from pathlib import Path

import boto3
from botocore.client import BaseClient
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from pipelines.team.services import Service, ServiceError, start, stop
from pipelines.team.settings import DVC_BUCKET, MLFLOW_BUCKET, REGION, Team

logger = logging.getLogger(__name__)

PROGRAMS = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "monmaptool", "radosgw-admin", "ceph")
_OSD_GIB = 20
_COMMAND_S = 60
_ATTEMPTS = 3
# Else it asks for its place at each start, before it knows its own cluster, and dies of the answer.
_KEEPS_ITS_PLACE = ("--osd-crush-update-on-start=false", "--osd-class-update-on-start=false")
NAMES = ("s3-monitor", "s3-manager", "s3-storage", "s3-gateway")


def start_s3(team: Team, state: Path) -> bool:
    """Start the store, with a user and the buckets; says whether anything had to be started.

    Raises:
        ServiceError: Ceph is not installed, or does not start.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise ServiceError(
            f"the S3 store needs Ceph ({', '.join(missing)} not found): `apt-get install ceph-mon ceph-mgr "
            "ceph-osd radosgw`"
        )
    folder = team.path("s3")
    for attempt in range(1, _ATTEMPTS + 1):
        is_new = not (folder / "ready").exists()
        try:
            if is_new:
                _clear(folder, state)
                _lay_out(team, folder)
            return _start(team, folder, state, is_new=is_new)
        except ServiceError:
            # A new store on a busy machine: its daemon may ask the monitor before that knows of it.
            if not is_new or attempt == _ATTEMPTS:
                raise
            logger.warning("the S3 store did not come up, trying again")
    raise AssertionError("the loop ends by returning or raising")


def _clear(folder: Path, state: Path) -> None:
    """Remove what is left of a set-up that did not come to its end, its daemons first."""
    for name in reversed(NAMES):
        stop(name, state)
    shutil.rmtree(folder, ignore_errors=True)


def _start(team: Team, folder: Path, state: Path, *, is_new: bool) -> bool:
    started = start(_daemon(folder, "s3-monitor", "ceph-mon", "a"), state)
    started |= start(_daemon(folder, "s3-manager", "ceph-mgr", "x"), state)
    if is_new:
        _make_storage(folder)
    started |= start(_daemon(folder, "s3-storage", "ceph-osd", "0", *_KEEPS_ITS_PLACE), state)
    if is_new:
        _make_user(team, folder)
    gateway = Service(
        "s3-gateway",
        ["radosgw", "--foreground", "-c", str(folder / "ceph.conf"), "-n", "client.gateway"],
        is_ready=lambda: _answers(team),
    )
    started |= start(gateway, state)
    _make_buckets(team)
    (folder / "ready").touch()
    return started


def s3_client(team: Team) -> BaseClient:
    """A client that gives up soon: the store is near, or it is away."""
    return boto3.client(
        "s3",
        endpoint_url=team.s3_url,
        region_name=REGION,
        aws_access_key_id=team.passwords.s3_access_key,
        aws_secret_access_key=team.passwords.s3_secret_key,
        config=BotoConfig(
            connect_timeout=2, read_timeout=10, retries={"max_attempts": 1}, s3={"addressing_style": "path"}
        ),
    )


def _lay_out(team: Team, folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = team.settings
    identity = str(uuid.uuid4())
    (folder / "ceph.conf").write_text(
        f"""[global]
fsid = {identity}
mon host = v1:{settings.host}:{settings.ceph_port}
ms bind msgr2 = false
ms bind ipv6 = false
public addr = {settings.host}
cluster addr = {settings.host}
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd objectstore = bluestore
bluestore block size = {_OSD_GIB << 30}
mon allow pool size one = true
mon warn on pool no redundancy = false
mon pg warn min per osd = 0
run dir = {folder}
log file = {folder}/$name.ceph.log
pid file =
admin socket = {folder}/$name.asok
mon data = {folder}/mon-$id
mgr data = {folder}/mgr-$id
osd data = {folder}/osd-$id
mgr initial modules =
[client.gateway]
rgw frontends = beast endpoint={settings.host}:{settings.s3_port}
rgw data = {folder}/gateway
""",
        encoding="utf-8",
    )
    for name in ("mon-a", "mgr-x", "osd-0", "gateway"):
        (folder / name).mkdir()
    monmap = str(folder / "monmap")
    _run(["monmaptool", "--create", "--fsid", identity, "--addv", "a",
          f"[v1:{settings.host}:{settings.ceph_port}]", monmap])  # fmt: skip
    _run(["ceph-mon", "-c", str(folder / "ceph.conf"), "--mkfs", "-i", "a", "--monmap", monmap])


def _daemon(folder: Path, name: str, program: str, identity: str, *options: str) -> Service:
    kind = program.removeprefix("ceph-")
    return Service(
        name,
        [program, "-f", "-c", str(folder / "ceph.conf"), "-i", identity, *options],
        is_ready=lambda: _status(folder, kind),
    )


def _status(folder: Path, kind: str) -> bool:
    try:
        status = json.loads(_ceph(folder, "status", "--format", "json"))
    except (ServiceError, ValueError):
        return False
    match kind:
        case "mon":
            return bool(status["quorum_names"])
        case "mgr":
            return bool(status["mgrmap"]["available"])
        case _:
            return bool(status["osdmap"]["num_up_osds"])


def _make_storage(folder: Path) -> None:
    identity = str(uuid.uuid4())
    _ceph(folder, "osd", "new", identity)
    _ceph(folder, "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
    _run(["ceph-osd", "-c", str(folder / "ceph.conf"), "-i", "0", "--mkfs", "--osd-uuid", identity])


def _make_user(team: Team, folder: Path) -> None:
    keys = ["--access-key", team.passwords.s3_access_key, "--secret-key", team.passwords.s3_secret_key]
    _run(["radosgw-admin", "-c", str(folder / "ceph.conf"), "-n", "client.gateway", "user", "create",
          "--uid", "featherface", "--display-name", "FeatherFace", *keys])  # fmt: skip


def _make_buckets(team: Team) -> None:
    client = s3_client(team)
    there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in (MLFLOW_BUCKET, DVC_BUCKET):
        if name not in there:
            client.create_bucket(Bucket=name)


def _answers(team: Team) -> bool:
    try:
        s3_client(team).list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def _ceph(folder: Path, *arguments: str) -> str:
    return _run(["ceph", "-c", str(folder / "ceph.conf"), "--connect-timeout", "3", *arguments])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMMAND_S)  # noqa: S603 - Ceph's tools, our own arguments
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"{command[0]} does not end after {_COMMAND_S} s") from error
    if done.returncode != 0:
        # Not the command: it may hold the keys.
        raise ServiceError(f"{command[0]} failed: {' '.join(done.stderr.split())[-400:]}")
    return done.stdout
