"""Whole photographs as a detector meets them, in sizes that are drawn, mirrored or not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from featherface.data.augment import flip_horizontally, ignore_small_faces
from featherface.data.labeled import LabeledImage, label_image
from featherface.data.reading import read_photograph
from featherface.data.widerface import Sample
from featherface.imaging import letterbox, resize_long_side, to_network_input

if TYPE_CHECKING:
    from featherface.config import RescoreConfig


def whole_view(
    sample: Sample, settings: RescoreConfig, *, draw: tuple[int, ...], min_face_px: float = 0.0
) -> LabeledImage:
    """A photograph in a size that is drawn, mirrored or not, padded as the network needs it.

    Args:
        sample: the photograph and its faces.
        settings: sizes, probability and seed.
        draw: with the seed, decides what is drawn.
        min_face_px: faces with a shorter side below this in the view are ignored.

    Raises:
        ImageDecodeError: it cannot be decoded.
    """
    rng = np.random.default_rng((settings.seed, *draw))
    image = read_photograph(sample)
    resized, scale_xy = resize_long_side(image, int(rng.choice(settings.long_sides_px)))
    view = ignore_small_faces(label_image(resized, sample.annotation, scale_xy=scale_xy), min_face_px)
    if rng.random() < settings.flip_probability:
        view = flip_horizontally(view)
    return replace(view, image=letterbox(view.image).image)


def network_input(view: LabeledImage, network: nn.Module) -> Tensor:
    """The view (1, 3, H, W) where the network is, in the layout in which it computes fastest."""
    images = torch.from_numpy(to_network_input(view.image)[None])
    return images.to(next(network.parameters()).device, memory_format=torch.channels_last)
