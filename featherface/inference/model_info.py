"""What a model file says of itself: the text beside the weights that inference and export agree on.

The exporter writes it, the backends read it, and anyone can read it with `onnx` or `safetensors` alone.
Nothing here opens a file or imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from featherface.errors import ModelError
from featherface.imaging import MEAN_BGR, STRIDE_MULTIPLE
from featherface.models.priors import MIN_SIZES_PX, STRIDES

SCHEMA_VERSION: Final = "1"
SCHEMA_KEY: Final = "featherface_schema"
INPUT_NAME: Final = "images"
OUTPUT_NAMES: Final = ("cls_logits", "box_deltas", "landmark_deltas")
FACE_OUTPUT_NAMES: Final = ("boxes_xyxy", "scores", "landmarks")
"""Of a network with decoding and suppression inside."""
VARIANCES: Final = (0.1, 0.2)
"""Scales of the center and size deltas, as in `geometry`, which this module cannot import: it needs torch."""
_MAX_SIDE_PX: Final = 100_000


def preprocessing() -> dict[str, Any]:
    """How an image becomes network input, in words that a program in another language can follow."""
    return {
        "color_order": "BGR",
        "layout": "NCHW",
        "dtype": "float32",
        "value_range": [0, 255],
        "mean": [float(value) for value in MEAN_BGR],
        "scale": 1.0,
        "pad_multiple": STRIDE_MULTIPLE,
        "pad_side": "right and bottom, with the mean",
    }


@dataclass(frozen=True)
class ModelInfo:
    """The network of a model file and its priors; `extra` keeps what only people read: commit, license."""

    architecture: str = "unknown"
    innovations: tuple[str, ...] = ()
    strides: tuple[int, ...] = STRIDES
    min_sizes_px: tuple[tuple[int, ...], ...] = MIN_SIZES_PX
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.min_sizes_px):
            raise ModelError(
                f"one tuple of prior sizes per stride is needed, got {len(self.strides)} strides and "
                f"{len(self.min_sizes_px)} tuples"
            )
        sides = (*self.strides, *(size for sizes in self.min_sizes_px for size in sizes))
        if not self.strides or not all(0 < side <= _MAX_SIDE_PX for side in sides):
            raise ModelError(
                f"strides and prior sizes are from 1 to {_MAX_SIDE_PX} pixels, got {self.strides} and "
                f"{self.min_sizes_px}"
            )

    def to_metadata(self) -> dict[str, str]:
        """The flat text that goes into the file; structured values are JSON."""
        return {
            **self.extra,
            SCHEMA_KEY: SCHEMA_VERSION,
            "architecture": self.architecture,
            "innovations": json.dumps(self.innovations),
            "strides": json.dumps(self.strides),
            "min_sizes_px": json.dumps(self.min_sizes_px),
            "variances": json.dumps(VARIANCES),
            "preprocessing": json.dumps(preprocessing(), sort_keys=True),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, source: str) -> ModelInfo:
        """Read what `to_metadata` wrote; text without a schema is a plain network with the usual priors.

        Args:
            metadata: the file's text, key to value.
            source: name of the file, for messages.

        Raises:
            ModelError: another schema, broken JSON, or a preprocessing that this package does not do.
        """
        if SCHEMA_KEY not in metadata:
            return cls(extra=dict(metadata))
        if metadata[SCHEMA_KEY] != SCHEMA_VERSION:
            raise ModelError(
                f"{source}: written with model schema {metadata[SCHEMA_KEY]!r}, this version of featherface "
                f"reads {SCHEMA_VERSION!r}; export the model again"
            )
        try:
            _require("variances", _parse(metadata, "variances"), list(VARIANCES), source)
            _require("preprocessing", _parse(metadata, "preprocessing"), preprocessing(), source)
            strides = tuple(int(stride) for stride in _parse(metadata, "strides"))
            sizes_px = tuple(tuple(int(size) for size in sizes) for sizes in _parse(metadata, "min_sizes_px"))
            innovations = tuple(str(name) for name in _parse(metadata, "innovations"))
            architecture = metadata["architecture"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"{source}: its metadata is broken ({type(error).__name__}: {error}); export the model again"
            ) from error
        extra = {key: value for key, value in metadata.items() if key not in _OWN_KEYS}
        try:
            return cls(architecture, innovations, strides, sizes_px, extra)
        except ModelError as error:
            raise ModelError(f"{source}: {error}; export the model again") from error


_OWN_KEYS = frozenset(ModelInfo().to_metadata())


def _parse(metadata: Mapping[str, str], key: str) -> Any:
    return json.loads(metadata[key])


def _require(name: str, got: object, needed: object, source: str) -> None:
    if got != needed:
        raise ModelError(
            f"{source}: made for {name} {got}, this version of featherface does {needed}; export again"
        )
