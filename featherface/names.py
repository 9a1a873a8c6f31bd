"""The names that configuration, networks and files share. Nothing is imported here."""

from typing import Literal, get_args

Architecture = Literal["v2-ultra", "v2-ultra-reference", "v1", "v1-487k"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
Innovation = Literal[
    "feature_reuse",
    "attention_multiplication",
    "progressive_enhancement",
    "multiscale_intelligence",
    "dynamic_weight_sharing",
]
INNOVATIONS: tuple[Innovation, ...] = get_args(Innovation)

WEIGHTS_KEY = "featherface"
"""Of the text beside the weights in a safetensors file."""
