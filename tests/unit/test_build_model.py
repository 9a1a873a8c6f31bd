"""The four networks as built by name: switches, shapes, training, start values and keys."""

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from featherface.models.build import build_model
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.models.detector import FeatherFace
from featherface.models.head import FACE_PROBABILITY_AT_START
from featherface.models.priors import make_priors
from featherface.names import ARCHITECTURES, INNOVATIONS
from featherface.structures import HeadOutputs

SUBSETS = [subset for size in range(6) for subset in combinations(INNOVATIONS, size)]
STUDENTS = ("v2-ultra", "v2-ultra-reference")


def summed(outputs: HeadOutputs) -> Tensor:
    return sum((output.square().mean() for output in outputs), start=torch.zeros(()))


def images(batch: int = 2, height: int = 32, width: int = 32) -> Tensor:
    return 60 * torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("subset", SUBSETS, ids=lambda subset: "+".join(subset) or "none")
def test_every_subset_has_its_size_and_trains_down_to_one_pixel(
    subset: tuple[str, ...],
) -> None:
    torch.manual_seed(0)
    model = build_model(innovations=subset).train()
    second_opinion, details = 2_566, 19_128
    expected = 217_955 + second_opinion + details + (40 if "dynamic_weight_sharing" in subset else 0)
    assert count_parameters(model) == expected
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model.head.cls[0].weight.detach().clone()
    outputs = model(images())
    assert outputs.cls_logits.shape == (2, (16 + 4 + 1) * 2, 2)
    summed(outputs).backward()
    assert all(
        name.startswith(("head.rescorer.", "details."))  # learnt when all else has been
        if parameter.grad is None
        else bool(torch.isfinite(parameter.grad).all())
        for name, parameter in model.named_parameters()
    )
    optimizer.step()
    assert not torch.equal(model.head.cls[0].weight, before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_line_up_with_the_priors_of_a_non_square_input(architecture: str) -> None:
    torch.manual_seed(0)
    model = build_model(architecture).eval()
    with torch.no_grad():
        outputs, features = model.forward_features(images(1, 64, 96))
    priors = make_priors((64, 96), strides=model.strides, min_sizes_px=model.min_sizes_px)
    assert [tuple(output.shape) for output in outputs] == [(1, len(priors), size) for size in (2, 4, 10)]
    assert [tuple(level.shape[2:]) for level in features.backbone] == [(8, 12), (4, 6), (2, 3)]
    assert [tuple(level.shape[2:]) for level in features.neck] == [(8, 12), (4, 6), (2, 3)]
    assert len({level.shape[1] for level in features.neck}) == 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forward_is_forward_features_without_the_features(architecture: str) -> None:
    model = build_model(architecture).eval()
    with torch.no_grad():
        outputs, (with_features, _) = model(images(1)), model.forward_features(images(1))
    for output, expected in zip(outputs, with_features, strict=True):
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_image_does_not_see_its_batch(architecture: str) -> None:
    model = settled(build_model(architecture))
    batch = images(3, 32, 64)
    with torch.no_grad():
        together, alone = model(batch), model(batch[1:2])
    for output, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(output[1:2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_untrained_network_says_that_faces_are_rare(architecture: str) -> None:
    torch.manual_seed(0)
    model = settled(build_model(architecture))
    with torch.no_grad():
        face = model(images(4, 64, 64)).cls_logits.softmax(dim=-1)[..., 1]
    assert face.mean().item() == pytest.approx(FACE_PROBABILITY_AT_START, rel=0.5)
    assert face.max() < 0.2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_features_neither_vanish_nor_explode_at_the_start(architecture: str) -> None:
    torch.manual_seed(0)
    model = build_model(architecture).train()
    _, features = model.forward_features(images(4, 64, 64))
    for level in (*features.backbone, *features.neck):
        assert 0.1 < level.std().item() < 10


@pytest.mark.parametrize("architecture", STUDENTS)
def test_all_innovations_together_start_near_none(architecture: str) -> None:
    torch.manual_seed(0)
    plain = build_model(architecture, innovations=()).train()
    full = build_model(architecture)
    full.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        without = plain.forward_features(images(4, 128, 128))[1].neck[0].flatten()
        with_all = full.train().forward_features(images(4, 128, 128))[1].neck[0].flatten()
    assert torch.corrcoef(torch.stack((without, with_all)))[0, 1] > 0.7


def test_students_share_the_teachers_first_stages_by_key_and_shape() -> None:
    teacher, student = (build_model(name).state_dict() for name in ("v1", "v2-ultra"))
    for key, value in student.items():
        if key.startswith(("backbone.stage1", "backbone.stage2")):
            assert teacher[key].shape == value.shape


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_weight_has_two_names(architecture: str) -> None:
    model = build_model(architecture)
    storages = [value.data_ptr() for key, value in model.state_dict().items()]
    assert len(set(storages)) == len(storages)
    other = build_model(architecture)
    other.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_channels_last_and_float64_give_the_same(architecture: str) -> None:
    torch.manual_seed(0)
    model = settled(build_model(architecture))
    with torch.no_grad():
        expected = model(images(1, 64, 32))
        last = model.to(memory_format=torch.channels_last)(
            images(1, 64, 32).contiguous(memory_format=torch.channels_last)
        )
        double = model.double()(images(1, 64, 32).double())
    for output, other, exact in zip(expected, last, double, strict=True):
        torch.testing.assert_close(output, other, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(output.double(), exact, rtol=1e-3, atol=1e-4)


def test_the_default_is_our_student_with_all_innovations() -> None:
    assert (
        build_model().state_dict().keys()
        == build_model("v2-ultra", innovations=INNOVATIONS).state_dict().keys()
    )
    assert isinstance(build_model().feature_reuse, nn.ModuleList)
    assert isinstance(build_model(innovations=()).feature_reuse, nn.Identity)


def test_our_student_keeps_its_budget() -> None:
    model = build_model("v2-ultra")
    assert count_parameters(model) <= 244_999
    plain = build_model("v2-ultra", innovations=())
    plain.head.rescorer = None
    assert count_multiply_adds(plain, (640, 640)) < 550e6
    assert count_multiply_adds(model, (640, 640)) < 600e6


@pytest.mark.parametrize(
    ("architecture", "innovations", "message"),
    [
        ("v3", None, "unknown architecture 'v3'; allowed: v2-ultra, v2-ultra-reference, v1, v1-487k"),
        (
            "v2-ultra",
            ["magic"],
            "unknown innovations 'magic'; allowed: feature_reuse, attention_multiplication",
        ),
        ("v1", ["feature_reuse"], "v1 takes no innovations, got feature_reuse"),
        ("v2-ultra", "feature_reuse", "are a list of names, got 'feature_reuse'; put it in brackets"),
    ],
)
def test_names_that_do_not_exist_are_refused(
    architecture: str, innovations: list[str] | str | None, message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build_model(architecture, innovations=innovations)


def settled(model: FeatherFace) -> FeatherFace:
    """The model in evaluation mode, its running statistics those of noise."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of the batches seen
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(60 * torch.randn(2, 3, 64, 64, generator=generator))
    return model.eval()
