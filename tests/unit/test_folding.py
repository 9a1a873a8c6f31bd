"""Networks with folded batch normalizations answer as before."""

import pytest
import torch
from torch import nn

from featherface.models.build import build_model
from featherface.models.deformable import DeformableConv2d
from featherface.models.folding import fold_batch_norms, frozen_copy
from featherface.names import ARCHITECTURES


def trained_looking(architecture: str) -> nn.Module:
    """A network whose normalizations are not the identity that they start as."""
    torch.manual_seed(0)
    model = build_model(architecture)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
            nn.init.normal_(norm.running_mean, std=0.2)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return model.eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folded_network_answers_the_same_with_fewer_layers(architecture: str) -> None:
    model = trained_looking(architecture)
    folded = fold_batch_norms(model)
    images = 50 * torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for got, want in zip(folded(images), model(images), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * float(want.std()))
    # Behind a deformable convolution the normalization stays: five in each of three context blocks.
    left = [part for part in folded.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(left) == sum(isinstance(part, DeformableConv2d) for part in model.modules())
    assert sum(isinstance(part, nn.BatchNorm2d) for part in model.modules()) > 40


def test_a_frozen_copy_answers_the_same_and_learns_nothing() -> None:
    model = trained_looking("v2-ultra")
    frozen = frozen_copy(model)
    images = (50 * torch.randn(1, 3, 64, 96)).contiguous(memory_format=torch.channels_last)
    answers, expected = frozen(images), model(images)
    torch.testing.assert_close(answers.cls_logits, expected.cls_logits, rtol=1e-3, atol=1e-3)
    assert expected.cls_logits.requires_grad
    assert not answers.cls_logits.requires_grad


def test_the_network_itself_stays_as_it_is() -> None:
    model = build_model("v2-ultra").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_batch_norms(model)
    assert model.training
    assert not folded.training
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
