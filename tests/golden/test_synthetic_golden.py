"""The bytes of a tiny procedural data set, frozen.

`data.dvc` promises that a fresh clone generates the same bytes, so a difference here is a new version of the
data: run `make golden`, regenerate `data.dvc`, and say in the changelog why. A difference without a change of
ours comes from numpy, OpenCV or its JPEG encoder: keep the pinned version, or refresh in the same way.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from featherface.data.synthetic import synthesize_dataset

GOLDEN = Path(__file__).with_name("synthetic.json")


def tiny_digests(folder: Path) -> dict[str, str]:
    """Return file names and SHA-256 of two training images and one of validation with their annotations."""
    root = folder / "data"
    synthesize_dataset(root, num_train=2, num_val=1, image_hw=(120, 160), seed=1, num_workers=1)
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_tiny_data_set_has_the_frozen_bytes(tmp_path: Path) -> None:
    digests = tiny_digests(tmp_path)
    if os.environ.get("FEATHERFACE_REWRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(digests, indent=2) + "\n")
    assert digests == json.loads(GOLDEN.read_text())
