"""FeatherFace: backbone, neck and head in their order; every network of the project is one of these.

Nothing here loads weights, picks a device, decodes boxes or suppresses duplicates.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from featherface.models.backbone import Backbone
from featherface.models.deformable import DeformableConv2d
from featherface.models.details import Details
from featherface.models.head import Head
from featherface.models.layers import LEAKY_SLOPE, Levels
from featherface.shapes import Float
from featherface.structures import DetectorFeatures, HeadOutputs


class FeatherFace(nn.Module):
    """A single-shot face detector over three levels.

    Between backbone and head all parts are level modules (three maps in, three maps out); a part that a
    network does not have is `nn.Identity`. Input sides must be multiples of 32 pixels.

    Args:
        backbone: images -> C3, C4, C5.
        backbone_attention: attention on C3, C4, C5.
        neck: C3, C4, C5 -> P3, P4, P5 of one width.
        feature_reuse: innovation 1.
        neck_attention: attention on P3, P4, P5.
        multiscale_intelligence: innovation 4.
        context: wider windows around each pixel.
        dynamic_weight_sharing: innovation 5, wraps the context.
        shuffle: mixes the channels of the context's windows.
        progressive_enhancement: innovation 3.
        head: P3, P4, P5 -> outputs of all priors.
        details: a second way from the backbone's first layers to P3, or none.
        strides: pixels a cell of the three levels.
        min_sizes_px: sides of the priors of a cell, one tuple a level.

    Attributes:
        strides: as given; with `min_sizes_px` what `make_priors` needs.
        min_sizes_px: as given.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        backbone_attention: nn.Module,
        neck: nn.Module,
        feature_reuse: nn.Module,
        neck_attention: nn.Module,
        multiscale_intelligence: nn.Module,
        context: nn.Module,
        dynamic_weight_sharing: nn.Module,
        shuffle: nn.Module,
        progressive_enhancement: nn.Module,
        head: Head,
        details: Details | None = None,
        strides: Sequence[int],
        min_sizes_px: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.min_sizes_px = tuple(tuple(sizes) for sizes in min_sizes_px)
        self.backbone = backbone
        self.backbone_attention = backbone_attention
        self.neck = neck
        self.feature_reuse = feature_reuse
        self.neck_attention = neck_attention
        self.multiscale_intelligence = multiscale_intelligence
        self.context = context
        self.dynamic_weight_sharing = dynamic_weight_sharing
        self.shuffle = shuffle
        self.progressive_enhancement = progressive_enhancement
        self.head = head
        self.details = details
        self._initialize()

    def _initialize(self) -> None:
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=LEAKY_SLOPE, nonlinearity="leaky_relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        for part in self.modules():
            if isinstance(part, DeformableConv2d | Head):  # these have a start of their own
                part.initialize()
        if self.details is not None:
            self.details.forget()

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> HeadOutputs:
        """What every prior says of network input (BGR 0..255 minus the mean)."""
        outputs, _ = self.forward_features(images)
        return outputs

    def forward_features(
        self, images: Float[Tensor, "B 3 H W"], *, known: Sequence[Tensor] = ()
    ) -> tuple[HeadOutputs, DetectorFeatures]:
        """Like `forward`, with the maps of the backbone and those the head reads, for distillation.

        Args:
            images: network input.
            known: what the first stages of the backbone make of it, where that is known already: stages that
                do not learn run once, for student and teacher.
        """
        details = self.details
        if details is None or not details.adds_anything:
            features, levels = self.maps(images, known=known)
        else:
            shallow = self.shallow(images)
            features, levels = self.maps(images, known=known, shallow=shallow)
            levels = details(levels, shallow)
        return self.head(levels), DetectorFeatures(backbone=features, neck=levels)

    def shallow(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B S h w"]:
        """The map at stride 2 that the details read."""
        return cast("Backbone", self.backbone).shallow(images)

    def maps(
        self, images: Float[Tensor, "B 3 H W"], *, known: Sequence[Tensor] = (), shallow: Tensor | None = None
    ) -> tuple[Levels, Levels]:
        """C3 to C5, and P3 to P5 before the details; `shallow` is the map that these read, if known."""
        features = self.backbone(images, known=known, shallow=shallow)
        levels = self.neck(self.backbone_attention(features))
        levels = self.neck_attention(self.feature_reuse(levels))
        levels = self.dynamic_weight_sharing(self.context(self.multiscale_intelligence(levels)))
        return features, self.progressive_enhancement(self.shuffle(levels))
