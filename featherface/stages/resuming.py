"""Where a stage keeps what a killed run of it goes on from, and for which parameters and data that counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from featherface.config import DataConfig, Section
from featherface.data.widerface import annotation_path
from featherface.files import sha256_of
from featherface.stages.base import CHECKPOINT_FILE, Workspace
from featherface.tracking.provenance import data_md5
from featherface.training.state import Checkpointing


def checkpointing_of(
    stage: str,
    *,
    workspace: Workspace,
    data: DataConfig,
    sections: Sequence[Section],
    extra_identity: str = "",
) -> Checkpointing:
    """A checkpoint in `state/<stage>` that counts for these parameters and this version of the data only.

    Args:
        stage: whose.
        workspace: where.
        data: which photographs. Their annotations count, too: `featherface run` takes what lies there.
        sections: parameters that make the work what it is.
        extra_identity: what else does, for instance the digest of weights.
    """
    identity = [section.model_dump_json() for section in (data, *sections)]
    identity += [data_md5(workspace.root), extra_identity]
    identity.append(sha256_of(annotation_path(workspace.root / data.root, "train")))
    return Checkpointing(
        path=workspace.state_dir(stage) / CHECKPOINT_FILE,
        fingerprint=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
    )
