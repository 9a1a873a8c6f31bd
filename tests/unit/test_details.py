"""What a network sees of tiny faces: where it starts, what it adds, and that nothing else changes."""

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from featherface.config import Config, DistillConfig, ModelConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.distillation.settling import settle_student
from featherface.distillation.student import StudentTraining
from featherface.errors import ConfigError, ModelError
from featherface.export.program import export_program
from featherface.inference.backends import info_of_module
from featherface.inference.weights import load_model, save_weights
from featherface.models.build import build_model
from featherface.models.complexity import count_multiply_adds
from featherface.models.details import Details
from featherface.models.detector import FeatherFace
from featherface.models.layers import SeparableConv
from featherface.stages import STAGES, names
from featherface.stages.base import Workspace
from featherface.stages.report import describe_training
from featherface.structures import Batch, Targets


def noise(*shape: int) -> torch.Tensor:
    return 50 * torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def trained_looking() -> FeatherFace:
    """A student whose weights are as large as those of a trained one."""
    model = build_model("v2-ultra")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif name.endswith("running_mean"):
                tensor.normal_(generator=generator)
    return model


def a_face(size_px: int = 64, *, boxes: torch.Tensor | None = None) -> Batch:
    boxes = torch.tensor([[[20.0, 20.0, 32.0, 34.0]]]) if boxes is None else boxes
    yes, no = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.bool)
    targets = Targets(boxes, torch.zeros(1, 1, 5, 2), has_landmarks=no, is_face=yes, is_ignored=no)
    return Batch(noise(1, 3, size_px, size_px), targets, ("one",))


def learning_details(initial: FeatherFace | None, **changes: object) -> StudentTraining:
    settings = {"enabled": False, "learn": "details", "initial_weights": "student.safetensors", **changes}
    return StudentTraining(
        ModelConfig(), DistillConfig.model_validate(settings), build_model("v1"), initial=initial
    )


def details_of(model: FeatherFace) -> Details:
    assert model.details is not None
    return model.details


def with_learnt_details() -> FeatherFace:
    model = trained_looking()
    with torch.no_grad():
        details_of(model).to_p3.weight.fill_(0.1)
        details_of(model).last.pointwise.bn.num_batches_tracked += 1
    return model


def test_unlearnt_details_add_nothing() -> None:
    model = trained_looking().eval()
    with_details = model(noise(1, 3, 64, 96))
    assert not details_of(model).adds_anything
    model.details = None
    for got, want in zip(model(noise(1, 3, 64, 96)), with_details, strict=True):
        torch.testing.assert_close(got, want)


def test_learnt_details_change_what_the_first_level_says_and_no_other() -> None:
    model = with_learnt_details().eval()
    after = model(noise(1, 3, 64, 64))
    details_of(model).forget()
    before = model(noise(1, 3, 64, 64))
    of_p3 = 2 * (64 // 8) ** 2
    for old, new in zip(before, after, strict=True):
        assert not torch.allclose(old[:, :of_p3], new[:, :of_p3])
        assert torch.equal(old[:, of_p3:], new[:, of_p3:])


def test_only_what_adds_something_is_counted() -> None:
    unlearnt, learnt = trained_looking(), with_learnt_details()
    without = trained_looking()
    without.details = None
    assert count_multiply_adds(unlearnt, (64, 64)) == count_multiply_adds(without, (64, 64))
    assert count_multiply_adds(learnt, (64, 64)) > 1.2 * count_multiply_adds(unlearnt, (64, 64))


@pytest.mark.parametrize("make", [trained_looking, with_learnt_details])
def test_a_torch_program_is_made_whether_they_add_something_or_not(make: Callable[[], FeatherFace]) -> None:
    model = make().eval()
    content = export_program(model, info=info_of_module(model))
    program = torch.export.load(io.BytesIO(content)).module()
    images = noise(1, 3, 64, 96)
    for got, want in zip(program(images), model(images), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * float(want.detach().std()))


def test_known_stages_change_nothing() -> None:
    model = with_learnt_details().eval()
    images = noise(1, 3, 64, 64)
    known = [model.backbone(images)[0]]
    for got, want in zip(model.forward_features(images, known=known)[0], model(images), strict=True):
        torch.testing.assert_close(got, want)


def test_details_start_as_the_backbones_own_layers() -> None:
    initial = trained_looking()
    details = details_of(learning_details(initial).student)
    shallow = noise(1, 16, 32, 32)
    own: torch.Tensor = shallow
    theirs: torch.Tensor = shallow
    for layer, original in zip(details.layers.eval(), initial.backbone.stage1.eval()[2:], strict=True):
        assert isinstance(layer, SeparableConv)
        own, theirs = layer(own), original(theirs)
    assert torch.equal(own, theirs)


def test_details_that_have_learnt_go_on_from_there() -> None:
    initial = with_learnt_details()
    training = learning_details(initial)
    for name, tensor in details_of(initial).state_dict().items():
        assert torch.equal(details_of(training.student).state_dict()[name], tensor), name


def test_where_all_else_learns_what_details_add_is_forgotten_and_their_layers_stay() -> None:
    initial = with_learnt_details()
    details = details_of(learning_details(initial, learn="base", start="copied").student)
    assert not details.adds_anything
    assert details.has_learnt
    assert not any(parameter.requires_grad for parameter in details.parameters())
    kept = details_of(initial).layers.state_dict()
    for name, tensor in details.layers.state_dict().items():
        assert torch.equal(kept[name], tensor), name


def test_a_step_changes_the_details_alone() -> None:
    training = learning_details(trained_looking())
    before = {name: value.clone() for name, value in training.student.state_dict().items()}
    training.student.train()
    learning = [parameter for parameter in training.student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1)
    for _ in range(2):  # the first opens the way to the layers behind
        optimizer.zero_grad()
        torch.stack([*training.losses(a_face(), 0.0).values()]).sum().backward()
        optimizer.step()
    changed = {
        name for name, value in training.student.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {name.partition(".")[0] for name in changed} == {"details"}
    assert {"details.layers.0.depthwise.conv.weight", "details.to_p3.weight"} <= changed
    assert details_of(training.student).has_learnt


def test_faces_that_other_levels_find_teach_them_nothing() -> None:
    """A face as large as the priors of the last level: the first one sees background alone."""
    training = learning_details(trained_looking())
    training.student.train()
    boxes = torch.tensor([[[0.0, 0.0, 500.0, 500.0]]])
    losses = training.losses(a_face(512, boxes=boxes), 0.0)
    assert losses["box"] == 0
    assert losses["cls"] > 0


def test_margins_of_the_first_level_are_moved() -> None:
    before = with_learnt_details().eval()
    moved = copy.deepcopy(before)
    settle_student(moved, DistillConfig(learn="details", details_offset=-0.85))
    of_p3 = 2 * (64 // 8) ** 2
    images = noise(1, 3, 64, 64)
    gained = (moved(images).cls_logits - before(images).cls_logits).diff(dim=2)
    torch.testing.assert_close(gained[:, :of_p3], torch.full_like(gained[:, :of_p3], -0.85))
    assert not gained[:, of_p3:].any()


@pytest.mark.parametrize("has_learnt", [False, True])
def test_what_was_settled_is_undone_before_more_is_learnt(*, has_learnt: bool) -> None:
    initial = with_learnt_details() if has_learnt else trained_looking()
    changes = {"score_temperature": 1.25, "details_share": 0.5, "details_offset": -0.85}
    training = learning_details(initial, **changes)
    settle_student(training.student, DistillConfig.model_validate({"learn": "details", **changes}))
    expected = copy.deepcopy(initial)
    if not has_learnt:  # its scores had been softened, and no more
        expected.head.shift(0, -0.85)
    for name, tensor in expected.state_dict().items():
        if not name.startswith("details.layers."):
            torch.testing.assert_close(training.student.state_dict()[name], tensor, msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial_weights": None}, r"give one as distill\.initial_weights"),
        ({"enabled": True}, r"set distill\.enabled to false"),
    ],
    ids=["no student", "a teacher"],
)
def test_what_details_cannot_learn_from_is_refused(changes: dict[str, object], message: str) -> None:
    initial = trained_looking() if "enabled" in changes else None
    with pytest.raises(ConfigError, match=message):
        learning_details(initial, start="pruned", **changes)  # without the batches which that start looks at


def test_a_network_without_such_layers_is_refused() -> None:
    settings = {"enabled": False, "learn": "details", "initial_weights": "student.safetensors"}
    with pytest.raises(ConfigError, match="of the architecture v2-ultra learns last"):
        StudentTraining(
            ModelConfig(architecture="v2-ultra-reference"),
            DistillConfig.model_validate(settings),
            build_model("v1"),
        )


def test_weights_from_before_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_weights(
        path, build_model("v2-ultra"), architecture="v2-ultra", innovations=ModelConfig().innovations
    )
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
    save_file({k: v for k, v in tensors.items() if not k.startswith("details.")}, path, metadata=metadata)
    with pytest.raises(ModelError, match=r"before v2-ultra had layers for tiny faces, use the ONNX file"):
        load_model(path)


def test_the_stage_writes_a_student_that_sees_with_them(tmp_path: Path) -> None:
    synthesize_dataset(tmp_path / "data", num_train=4, num_val=1, image_hw=(96, 128), seed=1)
    workspace = Workspace(tmp_path)
    workspace.write_text(names.VALIDATION_REPORT, "{}")
    save_weights(workspace.path(names.TEACHER_WEIGHTS), build_model("v1"), architecture="v1")
    initial = trained_looking()
    save_weights(
        tmp_path / "given.safetensors",
        initial,
        architecture="v2-ultra",
        innovations=ModelConfig().innovations,
    )
    settings = {
        "enabled": False,
        "learn": "details",
        "details_share": 0.5,
        "initial_weights": "given.safetensors",
        "train": {"epochs": 1, "batch_size": 2, "image_size_px": 64, "num_threads": 1},
    }
    config = Config.model_validate({"distill": settings})
    result = STAGES["distill"].run(config, workspace)
    learnt = load_model(tmp_path / names.DISTILLED_WEIGHTS)
    assert details_of(learnt).adds_anything
    kept = initial.state_dict()
    for name, tensor in learnt.state_dict().items():
        if not name.startswith("details."):
            torch.testing.assert_close(tensor, kept[name], msg=name)
    assert result.metrics["model/multiply_adds_640"] == count_multiply_adds(learnt, (640, 640))
    assert "all but its layers for tiny faces (counting 0.5) frozen" in describe_training(
        config.distill, root=tmp_path
    )
