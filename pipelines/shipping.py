"""Put the champion of a workspace into the package, with its model card: `make ship WORKSPACE=DIR`."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import featherface
from featherface.errors import ModelError
from featherface.files import write_atomically
from featherface.stages import names
from featherface.tracking.connection import configure
from featherface.tracking.registry import ModelRegistry

WEIGHTS_DIR = Path(featherface.__file__).parent / "weights"
MAX_BYTES = 1_200_000
FILES = {names.ONNX_FILE: "featherface.onnx", names.STUDENT_WEIGHTS: "featherface.safetensors"}


def ship(root: Path, *, target: Path = WEIGHTS_DIR) -> list[Path]:
    """Copy the exported student, its weights and its model card; the card gets the digests of the files.

    Args:
        root: the workspace whose pipeline made and promoted the student.
        target: folder of the package.

    Raises:
        ModelError: the exported student is not the champion of this workspace, or a file is too large.
    """
    configure(root)
    registry = ModelRegistry()
    champion, exported = registry.current_champion(), registry.find_version_of(root / names.ONNX_FILE)
    if champion is None or champion.version != exported:
        raise ModelError(
            f"{root}: it exported version {exported or '(not registered)'}, the champion is version "
            f"{champion.version if champion else '(none)'}; only a champion ships"
        )
    contents = {name: (root / path).read_bytes() for path, name in FILES.items()}
    lines = ["## Files", "| file | bytes | sha256 |", "|---|---|---|"]
    for name, content in contents.items():
        if len(content) > MAX_BYTES:
            raise ModelError(f"{name}: has {len(content):,} bytes, at most {MAX_BYTES:,} ship")
        lines.append(f"| `{name}` | {len(content):,} | `{hashlib.sha256(content).hexdigest()}` |")
    card = (root / names.MODEL_CARD).read_text(encoding="utf-8").rstrip("\n")
    contents["MODEL_CARD.md"] = "\n".join([card, "", *lines, ""]).encode()
    for name, content in contents.items():
        write_atomically(target / name, content)
    return [target / name for name in contents]


def main() -> None:
    """Ship from the workspace named on the command line."""
    for path in ship(Path(sys.argv[1]).resolve()):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
