"""Key names of the published v1 weights -> ours. Reading the file is the caller's business.

The published names are the public ones, with their spelling mistake `bacbkbone`.
"""

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

from featherface.errors import ModelError
from featherface.models.teachers import build_v1

_Rule: TypeAlias = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_SEPARABLE = {"0": "depthwise.conv", "1": "depthwise.bn", "3": "pointwise.conv", "4": "pointwise.bn"}
_GATE = {
    "ChannelGate.mlp.1": "channel_gates.{level}.reduce",
    "ChannelGate.mlp.3": "channel_gates.{level}.expand",
    "SpatialGate.spatial.conv": "spatial_gates.{level}.conv",
    "SpatialGate.spatial.bn": "spatial_gates.{level}.bn",
}
_NODES = {"conv4_up": "p4_td", "conv3_up": "p3_out", "conv4_down": "p4_out", "conv5_down": "p5_out"}
_NODE_PARTS = {"depthwise_conv.conv": "depthwise", "pointwise_conv.conv": "pointwise", "bn": "bn"}
_FUSIONS = {"p4_w1": "p4_td", "p3_w1": "p3_out", "p4_w2": "p4_out", "p5_w2": "p5_out"}
_REDUCERS = {
    "p3_down_channel": "reducers.0",
    "p4_down_channel": "reducers.1",
    "p5_down_channel": "reducers.2",
    "p4_down_channel_2": "second_reducers.0",
    "p5_down_channel_2": "second_reducers.1",
}
_REDUCER_PARTS = {"0.conv": "conv", "1": "bn"}
_WINDOWS = {
    "conv3X3": "window3",
    "conv5X5_1": "window5_first",
    "conv5X5_2": "window5_second",
    "conv7X7_2": "window7_second",
    "conv7x7_3": "window7_third",
}
_DEFORMABLE = {
    "0.offset_conv": "conv.offset_conv",
    "0.modulator_conv": "conv.modulator_conv",
    "0.regular_conv": "conv.conv",
    "1": "bn",
}
_SHUFFLE = {
    "1": "squeeze.conv",
    "2": "squeeze.bn",
    "3": "depthwise.conv",
    "4": "depthwise.bn",
    "5": "expand.conv",
    "6": "expand.bn",
}
_HEADS = {"ClassHead": "cls", "BboxHead": "box", "LandmarkHead": "landmark"}


def _any_of(names: Mapping[str, str]) -> str:
    # Longest first: `p4_down_channel` is the beginning of `p4_down_channel_2`.
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


def _rule(pattern: str, rename: Callable[[re.Match[str]], str]) -> _Rule:
    return re.compile(rf"{pattern}(?P<end>\.\w+|$)"), rename


_RULES: tuple[_Rule, ...] = (
    _rule(
        r"body\.stage1\.0\.(?P<part>[01])",
        lambda m: f"backbone.stage1.0.{'conv' if m['part'] == '0' else 'bn'}",
    ),
    _rule(
        r"body\.(?P<stage>stage[123])\.(?P<layer>\d)\.(?P<part>[0134])",
        lambda m: f"backbone.{m['stage']}.{m['layer']}.{_SEPARABLE[m['part']]}",
    ),
    _rule(
        rf"bacbkbone_(?P<level>[012])_cbam\.(?P<part>{_any_of(_GATE)})",
        lambda m: f"backbone_attention.{_GATE[m['part']].format(level=m['level'])}",
    ),
    _rule(
        rf"bif_cbam_(?P<level>[012])\.(?P<part>{_any_of(_GATE)})",
        lambda m: f"neck_attention.{_GATE[m['part']].format(level=m['level'])}",
    ),
    _rule(
        rf"bifpn\.(?P<repeat>[012])\.(?P<node>{_any_of(_NODES)})\.(?P<part>{_any_of(_NODE_PARTS)})",
        lambda m: f"neck.repeats.{m['repeat']}.convs.{_NODES[m['node']]}.{_NODE_PARTS[m['part']]}",
    ),
    _rule(
        rf"bifpn\.(?P<repeat>[012])\.(?P<weights>{_any_of(_FUSIONS)})",
        lambda m: f"neck.repeats.{m['repeat']}.fusions.{_FUSIONS[m['weights']]}.weights",
    ),
    _rule(
        rf"bifpn\.0\.(?P<reducer>{_any_of(_REDUCERS)})\.(?P<part>{_any_of(_REDUCER_PARTS)})",
        lambda m: f"neck.{_REDUCERS[m['reducer']]}.{_REDUCER_PARTS[m['part']]}",
    ),
    _rule(
        rf"ssh(?P<level>[123])\.(?P<window>{_any_of(_WINDOWS)})\.(?P<part>{_any_of(_DEFORMABLE)})",
        lambda m: f"context.{int(m['level']) - 1}.{_WINDOWS[m['window']]}.{_DEFORMABLE[m['part']]}",
    ),
    _rule(
        r"ssh(?P<level>[123])_cs\.(?P<part>[1-6])",
        lambda m: f"shuffle.{int(m['level']) - 1}.{_SHUFFLE[m['part']]}",
    ),
    _rule(
        rf"(?P<head>{_any_of(_HEADS)})\.(?P<level>[012])\.conv1x1",
        lambda m: f"head.{_HEADS[m['head']]}.{m['level']}",
    ),
)


def public_v1_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published v1 weights under our key names, for a strict `load_state_dict` of `build_model("v1")`.

    Raises:
        ModelError: the keys or shapes are not exactly those of the published network.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _rename(key)
        if name is None:
            raise ModelError(
                f"these are no weights of the published FeatherFace V1: unknown key {key!r} "
                f"among {len(state)}; give the public checkpoint of that network"
            )
        renamed[name] = value
    expected = build_v1().state_dict()
    missing = expected.keys() - renamed.keys()
    if missing:
        raise ModelError(
            f"these are no weights of the published FeatherFace V1: {len(missing)} of {len(expected)} "
            f"entries are missing, such as {min(missing)!r}; give the whole public checkpoint"
        )
    for name, value in renamed.items():
        if name not in expected or value.shape != expected[name].shape:
            wanted = tuple(expected[name].shape) if name in expected else "no such entry"
            raise ModelError(
                f"these are no weights of the published FeatherFace V1: {name!r} has shape "
                f"{tuple(value.shape)}, needed is {wanted}"
            )
    return renamed


def _rename(key: str) -> str | None:
    for pattern, rename in _RULES:
        match = pattern.fullmatch(key)
        if match:
            return rename(match) + match["end"]
    return None
