"""Array shapes in signatures: jaxtyping's where tests check them, plain arrays elsewhere.

Shapes are for people and tests. jaxtyping's plugin of pytest imports it before anything of ours; a program
that detects faces does not wait for it (an eighth of the time to its first faces), and a
bare training machine, which has torch, numpy and OpenCV and nothing else, does not need it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Float32, Float64, Int8, Int64
else:

    class _Plain:
        """`Float[Tensor, "B C"]` is `Tensor`."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Bool = Float = Float32 = Float64 = Int8 = Int64 = _Plain

__all__ = ["Bool", "Float", "Float32", "Float64", "Int8", "Int64"]
