"""Array shapes in signatures: jaxtyping's, or plain arrays where jaxtyping is not installed.

A bare training machine has torch, numpy and OpenCV and nothing else; shapes in signatures are for people and
tests, so training must not need the library that writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int8, Int64
else:
    try:
        from jaxtyping import Bool, Float, Float32, Float64, Int8, Int64
    except ModuleNotFoundError:

        class _Plain:
            """`Float[Tensor, "B C"]` is `Tensor`."""

            def __class_getitem__(cls, item: tuple[type, str]) -> type:
                return item[0]

        Bool = Float = Float32 = Float64 = Int8 = Int64 = _Plain

__all__ = ["Bool", "Float", "Float32", "Float64", "Int8", "Int64"]
