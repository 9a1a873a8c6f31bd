"""Names of the configuration -> networks; the only place where configuration meets a module."""

from collections.abc import Sequence

from featherface.models.detector import FeatherFace
from featherface.models.students import build_v2_ultra, build_v2_ultra_reference
from featherface.models.teachers import build_v1, build_v1_487k
from featherface.names import ARCHITECTURES, INNOVATIONS

_STUDENTS = {"v2-ultra": build_v2_ultra, "v2-ultra-reference": build_v2_ultra_reference}
_TEACHERS = {"v1": build_v1, "v1-487k": build_v1_487k}


def build_model(architecture: str = "v2-ultra", *, innovations: Sequence[str] | None = None) -> FeatherFace:
    """A freshly initialized network, in training mode, on the default device.

    Args:
        architecture: one of `names.ARCHITECTURES`.
        innovations: any subset of `names.INNOVATIONS`, in any order; None: all five for the students, none
            for the teachers, which have no place for them.

    Raises:
        TypeError: innovations that are a text.
        ValueError: an unknown architecture or innovation, or innovations for a teacher.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; allowed: {', '.join(ARCHITECTURES)}")
    if isinstance(innovations, str):  # ("feature_reuse") is no tuple
        raise TypeError(f"innovations are a list of names, got {innovations!r}; put it in brackets")
    unknown = [name for name in innovations or () if name not in INNOVATIONS]
    if unknown:
        raise ValueError(
            f"unknown innovations {', '.join(map(repr, unknown))}; allowed: {', '.join(INNOVATIONS)}"
        )
    if architecture in _TEACHERS:
        if innovations:
            raise ValueError(
                f"{architecture} takes no innovations, got {', '.join(innovations)}; "
                f"they are for {' and '.join(_STUDENTS)}"
            )
        return _TEACHERS[architecture]()
    return _STUDENTS[architecture](frozenset(INNOVATIONS if innovations is None else innovations))
