"""What an export found of each format: as rows, as JSON, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SETTINGS = ("easy", "medium", "hard")


@dataclass(frozen=True)
class Parity:
    """How far the answers of a file are from those of its network."""

    error: float
    """The largest difference of any output over all inputs."""
    unit: str
    tolerance: float | None
    """A larger difference is refused; None: judged by AP instead."""

    def __str__(self) -> str:
        allowed = "judged by AP" if self.tolerance is None else f"allowed {self.tolerance:g}"
        return f"{self.error:.1e} {self.unit} ({allowed})"


@dataclass(frozen=True)
class Row:
    """One format."""

    name: str
    files: tuple[str, ...]
    num_bytes: int
    """Of all its files."""
    parity: Parity | None
    """None: the file is the network, there is nothing to compare it with."""
    ap: Mapping[str, float] | None
    """Easy, medium, hard and mean in [0, 1]; None without ground truth."""
    latency_ms: float | None
    """Median time of the network; None for what was refused."""
    latency_ratio: float | None
    """Over the fp32 ONNX file, median of the ratios within rounds."""
    refused: str | None = None
    """Why the files were not written."""


@dataclass(frozen=True)
class ExportReport:
    """All formats of one export."""

    model: str
    rows: tuple[Row, ...]
    images: int
    """Validation images that AP was measured on; 0 without ground truth."""
    calibration_images: int
    latency_input_hw: tuple[int, int]

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why formats were not written."""
        return tuple(row.refused for row in self.rows if row.refused is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, formats by their names."""
        return {
            "model": self.model,
            "images": self.images,
            "calibration_images": self.calibration_images,
            "latency_input_hw": list(self.latency_input_hw),
            "formats": {
                row.name: {
                    "files": list(row.files),
                    "bytes": row.num_bytes,
                    "parity": None if row.parity is None else asdict(row.parity),
                    "ap": None if row.ap is None else dict(row.ap),
                    "latency_ms_p50": row.latency_ms,
                    "latency_ratio": row.latency_ratio,
                    "refused": row.refused,
                }
                for row in self.rows
            },
        }

    def table(self) -> str:
        """Markdown: a line a format; AP in percent."""
        height, width = self.latency_input_hw
        lines = [
            f"Exports of {self.model}. "
            + (f"AP on {self.images:,} images" if self.images else "AP was not measured")
            + f"; latency of the file at {width} x {height} with one thread, the files taking turns.",
            "",
            "| format | files | bytes | largest difference | easy | medium | hard | latency over fp32 ONNX |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in self.rows]
        lines += ["", *(f"Not written: {reason}." for reason in self.refusals)] if self.refusals else []
        return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    aps = " | ".join("-" if row.ap is None else f"{100 * row.ap[setting]:.2f}" for setting in SETTINGS)
    ratio = "-" if row.latency_ratio is None else f"{row.latency_ratio:.2f} ({row.latency_ms:.1f} ms)"
    files = "none: refused" if row.refused else ", ".join(row.files)
    return (
        f"| {row.name} | {files} | {row.num_bytes:,} | {row.parity or 'is the network'} | {aps} | {ratio} |"
    )
