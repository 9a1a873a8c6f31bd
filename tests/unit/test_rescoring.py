"""The second opinion: off until it has learnt, learnt from the student's own answers, heard by its share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from featherface.config import Config, DistillConfig, ModelConfig, RescoreConfig
from featherface.data.labeled import LabeledImage
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import Sample, open_widerface
from featherface.distillation.student import StudentTraining
from featherface.errors import ConfigError, DataError, ModelError
from featherface.inference.weights import load_model, save_weights
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.models.rescoring import MOST_APART
from featherface.names import INNOVATIONS
from featherface.stages import STAGES, names
from featherface.stages.base import Workspace
from featherface.training import rescoring
from featherface.training.candidates import CandidateParts, Candidates
from featherface.training.rescoring import LEAST_SCORE, collect_candidates, fit_rescorer
from featherface.training.state import Checkpointing

SEED = 2  # draws another order of four photographs than their own
IMAGES = 50 * torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "data"
    synthesize_dataset(root, num_train=4, num_val=1, image_hw=(96, 128), seed=1)
    return root


@pytest.fixture(scope="module")
def samples(data: Path) -> tuple[Sample, ...]:
    return open_widerface(data, "train")


def drawn_order(samples: tuple[Sample, ...]) -> list[int]:
    """In which the photographs are looked at; of the seed of `settings`."""
    return [*np.random.default_rng((SEED, 0)).permutation(len(samples))]


def settings(**changes: Any) -> RescoreConfig:
    return RescoreConfig.model_validate({"long_sides_px": [128], "batch_size": 64, "seed": SEED, **changes})


def network(*, suspicious: bool = False, share: float = 0.0) -> FeatherFace:
    """A student whose second opinion is noise; a suspicious one takes most priors for a face."""
    torch.manual_seed(0)
    student = build_model("v2-ultra").eval()
    rescorer = student.head.rescorer
    assert rescorer is not None
    with torch.no_grad():
        for parameter in rescorer.parameters():
            parameter.normal_()
        rescorer.share.fill_(share)
        if suspicious:
            for conv in student.head.cls:
                conv.weight.mul_(20)
                conv.bias.zero_()
    return student


def logits(student: FeatherFace) -> Tensor:
    with torch.no_grad():
        answer: Tensor = student(IMAGES).cls_logits
    return answer


def test_a_new_network_starts_as_it_would_without_a_second_opinion() -> None:
    """Golden numbers of trainings hold with it: it draws no random number and has no gradient."""
    torch.manual_seed(0)
    student = build_model("v2-ultra")
    drawn = torch.rand(())
    assert student.head.rescorer is not None
    assert all(not parameter.any() for parameter in student.head.rescorer.parameters())
    assert not any(parameter.requires_grad for parameter in student.head.rescorer.parameters())
    torch.manual_seed(0)
    student = build_model("v2-ultra")
    student.head.rescorer = None
    assert torch.equal(drawn, torch.rand(()))


def test_a_box_is_found_from_one_half_on_and_unknown_near_an_ignored_face() -> None:
    view = LabeledImage(
        image=np.zeros((32, 128, 3), np.uint8),
        boxes_xyxy=np.array([[0, 0, 10, 10], [100, 0, 110, 10]], np.float32),
        landmarks_xy=np.zeros((2, 5, 2), np.float32),
        has_landmarks=np.zeros(2, np.bool_),
        is_ignored=np.array([False, True]),
    )
    # Overlaps 0.5 and 0.4 of the face, 0.4 and 0.2 of the ignored one, and nothing.
    boxes = [[0, 0, 10, 5], [0, 0, 10, 4], [100, 0, 110, 4], [100, 0, 110, 2], [50, 0, 60, 10]]
    is_found, is_known = rescoring._judge(np.array(boxes, np.float32), view)
    assert is_found.tolist() == [True, False, False, False, False]
    assert is_known.tolist() == [True, True, False, True, True]


def test_photographs_are_seen_in_drawn_sizes_and_their_faces_with_them(samples: tuple[Sample, ...]) -> None:
    annotation, image = samples[0].annotation, np.zeros((96, 128, 3), np.uint8)
    options = {"long_sides_px": [64], "flip_probability": 0.0}
    view = rescoring._view(image, annotation, settings(**options), place=0, min_face_px=0)
    np.testing.assert_allclose(view.boxes_xyxy, annotation.boxes_xyxy / 2, rtol=1e-6)
    assert view.image.shape == (64, 64, 3), "48 rows and 16 of padding"
    drawn = settings(long_sides_px=[64, 96])
    views = [rescoring._view(image, annotation, drawn, place=place, min_face_px=0) for place in range(16)]
    assert {view.image.shape[1] for view in views} == {64, 96}
    assert len({tuple(view.boxes_xyxy[0].tolist()) for view in views}) == 4, "of both sizes also mirrored"


def test_its_first_layer_starts_with_what_the_maps_mostly_hold() -> None:
    generator = torch.Generator().manual_seed(1)
    features = 5 + 3 * torch.randn(4000, 40, generator=generator)
    none = torch.zeros(4000)
    rescorer = network().head.rescorer
    assert rescorer is not None
    rescoring._start(rescorer, Candidates(features.half(), none.long(), none.bool()), generator)
    with torch.no_grad():
        hidden = rescorer.first(features)
    assert hidden.mean(dim=0).abs().max() < 0.05
    assert 1.2 < hidden.std() < 1.7, "the root of two, for what ReLU takes away"


def test_photographs_whose_candidates_are_kept_are_counted_one_by_one(tmp_path: Path) -> None:
    checkpointing = Checkpointing(tmp_path / "rescore.pt", "f", every_s=1e9)
    parts = CandidateParts.of(checkpointing)
    for _ in range(3):
        parts.add(Candidates(torch.zeros(2, 4).half(), torch.zeros(2).long(), torch.zeros(2).bool()))
    parts.keep()
    again = CandidateParts.of(checkpointing)
    assert (again.num_photographs, again.num_candidates, len(again.known)) == (3, 6, 1)


def test_it_is_heard_by_its_share_and_in_evaluation_mode_only() -> None:
    without, half, alone = (logits(network(share=share)) for share in (0.0, 0.5, 1.0))
    assert not torch.allclose(without, alone)
    torch.testing.assert_close(half.diff(dim=2), (without + alone).diff(dim=2) / 2)
    student = network(share=0.5)
    student.head.forget_second_opinion()
    assert torch.equal(logits(student), without)
    loud, quiet = network(share=0.5), network(share=0.0)
    for each in (loud, quiet):
        each.head.train()
    assert torch.equal(logits(loud), logits(quiet))


def test_it_moves_a_score_by_so_much_at_most() -> None:
    """What it answers where it has learnt nothing is as good as noise, and noise must find no face."""
    wild = network(share=0.5)
    assert wild.head.rescorer is not None
    with torch.no_grad():
        for margins in wild.head.rescorer.margins:
            margins.weight.mul_(100)
    moved = (logits(wild) - logits(network())).diff(dim=2)
    assert moved.abs().max() <= 0.5 * MOST_APART + 1e-4
    assert {*moved.sign().unique().tolist()} == {-1.0, 1.0}
    close = network(share=0.5)
    assert close.head.rescorer is not None
    for margins in close.head.rescorer.margins:
        margins.weight.data.zero_()
        margins.bias.data.fill_(-3.0)
    first, both = logits(network()).diff(dim=2), logits(close).diff(dim=2)
    is_near = (first + 3).abs() < MOST_APART
    assert is_near.float().mean() > 0.7
    torch.testing.assert_close(both[is_near], (first[is_near] - 3) / 2)


def test_a_temperature_divides_what_comes_of_both() -> None:
    student = network(share=0.5)
    as_they_are = logits(student)
    assert student.head.rescorer is not None
    student.head.rescorer.temperature.fill_(1.6)
    torch.testing.assert_close(logits(student), as_they_are / 1.6)
    student.head.forget_second_opinion()
    assert torch.equal(logits(student), logits(network()))


def test_boxes_and_landmarks_are_not_touched() -> None:
    with torch.no_grad():
        _, *quiet = network(share=0.0)(IMAGES)
        _, *loud = network(share=1.0)(IMAGES)
    assert all(torch.equal(first, second) for first, second in zip(quiet, loud, strict=True))


def test_candidates_are_what_the_student_takes_for_faces(samples: tuple[Sample, ...]) -> None:
    """From each one's features its own output layer says again what made it a candidate."""
    student = network(suspicious=True)
    found = collect_candidates(student, samples, settings=settings(), min_face_px=4)
    assert 0 < len(found) < 4 * 2 * (16 * 12 + 8 * 6 + 4 * 3)
    weights = torch.cat(
        [conv.weight[:, :, 0, 0].view(-1, 2, 40).diff(dim=1)[:, 0] for conv in student.head.cls]
    )
    biases = torch.cat([conv.bias.view(-1, 2).diff(dim=1)[:, 0] for conv in student.head.cls])
    margins = (found.features.float() * weights[found.outputs]).sum(dim=1) + biases[found.outputs]
    assert margins.sigmoid().min().item() > LEAST_SCORE - 1e-3
    assert set(found.outputs.tolist()) == set(range(6))
    # With the rest below the limit, no prior is missing: the share of the margin alone decides.
    student.head.cls[0].bias.data += torch.tensor([500.0, -500.0]).repeat(2)
    fewer = collect_candidates(student, samples, settings=settings(), min_face_px=4)
    assert set(fewer.outputs.tolist()) == {2, 3, 4, 5}
    assert len(fewer) == int((found.outputs > 1).sum())


def test_margins_of_picked_features_are_those_of_the_map() -> None:
    rescorer = network().head.rescorer
    assert rescorer is not None
    level_map = torch.randn(1, 40, 3, 5)
    with torch.no_grad():
        by_map = rescorer(level_map, 1)[0].permute(1, 2, 0).reshape(-1, 2)  # (cells, priors)
        cells = level_map[0].flatten(1).T
        for place in (0, 1):
            picked = rescorer.margins_of(cells, torch.full((15,), 2 + place))
            torch.testing.assert_close(picked, by_map[:, place], rtol=1e-4, atol=1e-4)


def test_boxes_on_faces_are_found_and_those_on_ignored_faces_are_not_asked(
    samples: tuple[Sample, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [sample.annotation.boxes_xyxy for sample in samples]
    places = iter([])  # set for each run below

    def on_the_first_face(deltas: np.ndarray, _priors: np.ndarray) -> np.ndarray:
        return np.repeat(next(places)[:1], len(deltas), axis=0)

    monkeypatch.setattr("featherface.training.rescoring.decode_boxes", on_the_first_face)
    order = drawn_order(samples)
    student, asked = network(suspicious=True), settings(flip_probability=0.0, num_threads=1)
    places = iter([boxes[index] for index in order])
    known = collect_candidates(student, samples, settings=asked, min_face_px=0)
    assert bool(known.is_found.all())
    places = iter([boxes[index] + 200 for index in order])
    assert not bool(collect_candidates(student, samples, settings=asked, min_face_px=0).is_found.any())
    places = iter([boxes[index] for index in order])
    assert len(collect_candidates(student, samples, settings=asked, min_face_px=1000)) == 0


def test_it_stops_at_the_limit_of_candidates(samples: tuple[Sample, ...]) -> None:
    student = network(suspicious=True)
    one = collect_candidates(student, samples, settings=settings(max_candidates=1), min_face_px=4)
    every = collect_candidates(student, samples, settings=settings(), min_face_px=4)
    assert 0 < len(one) < len(every)
    assert torch.equal(one.features, every.features[: len(one)])
    with pytest.raises(DataError, match="no photograph to learn from"):
        collect_candidates(student, [], settings=settings(), min_face_px=4)


def test_threads_change_nothing(samples: tuple[Sample, ...]) -> None:
    student = network(suspicious=True)
    alone, together = (
        collect_candidates(student, samples, settings=settings(num_threads=number), min_face_px=4)
        for number in (1, 3)
    )
    assert torch.equal(alone.features, together.features)
    assert torch.equal(alone.outputs, together.outputs)
    assert torch.equal(alone.is_found, together.is_found)


def keeping(folder: Path, fingerprint: str = "this one") -> Checkpointing:
    return Checkpointing(path=folder / "checkpoint.pt", fingerprint=fingerprint, every_s=0)


def kill_after(monkeypatch: pytest.MonkeyPatch, name: str, calls: int) -> list[object]:
    """Let a function of the module die at its next call but so many; what it was called with is returned."""
    seen: list[object] = []
    function = getattr(rescoring, name)

    def mortal(first: Any, *others: Any, **more: Any) -> Any:
        if len(seen) == calls:
            raise KeyboardInterrupt
        seen.append(first)
        return function(first, *others, **more)

    monkeypatch.setattr(rescoring, name, mortal)
    return seen


def test_killed_while_it_looks_it_goes_on_behind_the_last_photograph(
    samples: tuple[Sample, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, asked = network(suspicious=True), settings(num_threads=1)

    def collect(checkpointing: Checkpointing | None = None) -> tuple[Tensor, ...]:
        found = collect_candidates(
            student, samples, settings=asked, min_face_px=4, checkpointing=checkpointing
        )
        return found.features, found.outputs, found.is_found

    undisturbed = collect()
    with monkeypatch.context() as patch:
        kill_after(patch, "read_photograph", 3)
        with pytest.raises(KeyboardInterrupt):
            collect(keeping(tmp_path))
    for num_left in (1, 0):
        with monkeypatch.context() as patch:
            looked_at = kill_after(patch, "read_photograph", 99)
            found = collect(keeping(tmp_path))
        assert looked_at == [samples[index] for index in drawn_order(samples)][4 - num_left :]
        assert all(map(torch.equal, found, undisturbed))


def test_what_was_kept_counts_for_the_same_run_only(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    student, asked = network(suspicious=True), settings(num_threads=1)

    def collect(fingerprint: str) -> Candidates:
        return collect_candidates(
            student,
            samples,
            settings=asked,
            min_face_px=4,
            checkpointing=keeping(tmp_path, fingerprint),
        )

    one = collect("one")
    fewer = asked.model_copy(update={"max_candidates": 1})
    collect_candidates(
        student, samples, settings=fewer, min_face_px=4, checkpointing=keeping(tmp_path, "other")
    )
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["candidates-0000.pt"]
    assert torch.equal(collect("one").features, one.features)
    (tmp_path / "candidates-0001.pt").unlink()  # what lies behind it counts no more
    assert torch.equal(collect("one").features, one.features)
    (tmp_path / "candidates-0000.pt").write_bytes(b"half")
    with pytest.raises(ModelError, match=r"candidates-0000\.pt: is damaged .* delete it"):
        collect("one")


@pytest.mark.parametrize("epochs_done", [1, 2, 3])
def test_killed_while_it_learns_it_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs_done: int
) -> None:
    undisturbed, killed = network(), network()
    asked = settings(epochs=3)
    losses = fit_rescorer(undisturbed, separable(300), asked)
    with monkeypatch.context() as patch:
        shown = kill_after(patch, "epoch_progress", epochs_done)
        if epochs_done < 3:
            with pytest.raises(KeyboardInterrupt):
                fit_rescorer(killed, separable(300), asked, checkpointing=keeping(tmp_path))
        else:
            fit_rescorer(killed, separable(300), asked, checkpointing=keeping(tmp_path))
        assert len(shown) == epochs_done
    with monkeypatch.context() as patch:
        shown = kill_after(patch, "epoch_progress", 99)
        again = network()
        assert fit_rescorer(again, separable(300), asked, checkpointing=keeping(tmp_path)) == losses
        assert len(shown) == 3 - epochs_done
    assert all(torch.equal(a, b) for a, b in zip(_values(again), _values(undisturbed), strict=True))
    other = network()
    fit_rescorer(other, separable(300), asked, checkpointing=keeping(tmp_path, "other"))
    assert all(torch.equal(a, b) for a, b in zip(_values(other), _values(undisturbed), strict=True))


def separable(count: int = 2000) -> Candidates:
    """Faces are where two features have one sign, which no output layer can tell."""
    features = 3 + 2 * torch.randn(count, 40, generator=torch.Generator().manual_seed(1))
    is_found = (features[:, 0] > 3) == (features[:, 1] > 3)
    return Candidates(features.half(), torch.arange(count) % 6, is_found)


def test_it_learns_what_a_single_layer_cannot_and_changes_nothing_else() -> None:
    student, before = network(), network()
    found = separable()
    losses = fit_rescorer(student, found, settings(epochs=30, lr=0.01, share=0.25))
    assert losses[-1] < 0.3 * losses[0]
    rescorer = student.head.rescorer
    assert rescorer is not None
    assert float(rescorer.share) == 0.25
    assert not any(parameter.requires_grad for parameter in rescorer.parameters())
    with torch.no_grad():
        margins = rescorer.margins_of(found.features.float(), found.outputs)
    assert float(F.binary_cross_entropy_with_logits(margins, found.is_found.float())) < 0.3
    state = student.state_dict()
    for name, value in before.state_dict().items():
        assert name.startswith("head.rescorer.") or torch.equal(state[name], value), name


def test_the_same_candidates_and_seed_give_the_same_bits() -> None:
    first, again, other = network(), network(share=0.7), network()
    fit_rescorer(first, separable(300), settings(epochs=1))
    fit_rescorer(again, separable(300), settings(epochs=1))
    fit_rescorer(other, separable(300), settings(epochs=1, seed=SEED + 1))
    assert all(torch.equal(a, b) for a, b in zip(*map(_values, (first, again)), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*map(_values, (first, other)), strict=True))


def _values(student: FeatherFace) -> list[Tensor]:
    return list(student.state_dict().values())


def test_a_network_without_one_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no second opinion to train; set rescore\.share to 0"):
        fit_rescorer(build_model("v2-ultra-reference"), separable(100), settings())


def test_a_student_in_training_forgets_it() -> None:
    torch.manual_seed(2)
    teacher = build_model("v1-487k").eval()
    distill = DistillConfig(enabled=False)
    training = StudentTraining(ModelConfig(), distill, teacher, initial=network(share=0.5))
    assert training.student.head.rescorer is not None
    assert float(training.student.head.rescorer.share) == 0


def test_weights_from_before_load_and_answer_as_before(tmp_path: Path) -> None:
    student = network()
    save_weights(tmp_path / "new.safetensors", student, architecture="v2-ultra", innovations=INNOVATIONS)
    tensors = load_file(tmp_path / "new.safetensors")
    older = {name: value for name, value in tensors.items() if not name.startswith("head.rescorer.")}
    from safetensors import safe_open

    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        metadata = file.metadata()
    save_file(older, tmp_path / "old.safetensors", metadata=metadata)
    assert torch.equal(logits(load_model(tmp_path / "old.safetensors")), logits(student))
    warm = network(share=0.5)
    save_weights(tmp_path / "warm.safetensors", warm, architecture="v2-ultra", innovations=INNOVATIONS)
    cold = {k: v for k, v in load_file(tmp_path / "warm.safetensors").items() if "temperature" not in k}
    save_file(cold, tmp_path / "cold.safetensors", metadata=metadata)
    assert torch.equal(logits(load_model(tmp_path / "cold.safetensors")), logits(warm))
    part = {name: value for name, value in tensors.items() if name != "head.rescorer.share"}
    save_file(part, tmp_path / "part.safetensors", metadata=metadata)
    with pytest.raises(ModelError, match=r"head\.rescorer\.share is missing"):
        load_model(tmp_path / "part.safetensors")


def workspace_with(tmp_path: Path, student: FeatherFace, architecture: str = "v2-ultra") -> Workspace:
    workspace = Workspace(tmp_path)
    save_weights(
        workspace.path(names.DISTILLED_WEIGHTS),
        student,
        architecture=architecture,
        innovations=INNOVATIONS,
    )
    workspace.write_text(names.VALIDATION_REPORT, "{}")
    return workspace


def test_the_stage_writes_a_student_that_hears_it(tmp_path: Path, data: Path) -> None:
    workspace = workspace_with(tmp_path, network(suspicious=True))
    (tmp_path / "data").symlink_to(data)
    config = Config(rescore=settings(epochs=2, num_threads=1, score_temperature=1.3))
    result = STAGES["rescore"].run(config, workspace)
    finished = load_model(tmp_path / names.STUDENT_WEIGHTS).head.rescorer
    assert finished is not None
    assert float(finished.share) == pytest.approx(0.35)
    assert float(finished.temperature) == pytest.approx(1.3)
    assert result.metrics == workspace.read_json(names.RESCORE_METRICS)
    assert result.metrics["rescore/candidates"] > 0
    assert len((tmp_path / names.RESCORE_HISTORY).read_text().splitlines()) == 3
    first = (tmp_path / names.STUDENT_WEIGHTS).read_bytes()
    shutil.rmtree(workspace.state_dir("rescore"))
    STAGES["rescore"].run(config, workspace)
    assert (tmp_path / names.STUDENT_WEIGHTS).read_bytes() == first


@pytest.mark.parametrize(
    ("architecture", "share"), [("v2-ultra", 0.0), ("v2-ultra-reference", 0.35)], ids=["off", "none"]
)
def test_who_has_none_stays_as_it_is(tmp_path: Path, data: Path, architecture: str, share: float) -> None:
    workspace = workspace_with(tmp_path, build_model(architecture), architecture)
    (tmp_path / "data").symlink_to(data)
    result = STAGES["rescore"].run(Config(rescore=settings(share=share)), workspace)
    assert "stays as it was distilled" in result.summary
    files = (tmp_path / names.STUDENT_WEIGHTS, tmp_path / names.DISTILLED_WEIGHTS)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_student_that_sees_no_face_stays_as_it_is(tmp_path: Path, data: Path) -> None:
    student = network()
    for conv in student.head.cls:
        conv.bias.data += torch.tensor([50.0, -50.0]).repeat(2)
    workspace = workspace_with(tmp_path, student)
    (tmp_path / "data").symlink_to(data)
    result = STAGES["rescore"].run(Config(rescore=settings()), workspace)
    assert "takes nothing in these photographs for a face" in result.summary
    assert result.metrics == {"rescore/candidates": 0}
    assert torch.equal(logits(load_model(tmp_path / names.STUDENT_WEIGHTS)), logits(student))


def distill_stage(workspace: Workspace, data: Path, **changes: Any) -> str:
    (workspace.root / "data").symlink_to(data)
    workspace.path(names.TEACHER_WEIGHTS).write_bytes(b"not looked at")
    config = Config(distill=DistillConfig(keep_initial_weights=True, **changes))
    return STAGES["distill"].run(config, workspace).summary


def test_a_student_that_is_to_stay_is_taken_over_without_its_second_opinion(
    tmp_path: Path, data: Path
) -> None:
    workspace = workspace_with(tmp_path, network(share=0.4))
    (tmp_path / names.DISTILLED_WEIGHTS).rename(tmp_path / "given.safetensors")
    summary = distill_stage(workspace, data, initial_weights="given.safetensors")
    assert "nothing trained" in summary
    assert torch.equal(logits(load_model(tmp_path / names.DISTILLED_WEIGHTS)), logits(network()))


def test_a_student_that_is_to_stay_must_be_there_and_fit(tmp_path: Path, data: Path) -> None:
    workspace = workspace_with(tmp_path, build_model("v2-ultra-reference"), "v2-ultra-reference")
    (tmp_path / names.DISTILLED_WEIGHTS).rename(tmp_path / "given.safetensors")
    with pytest.raises(ConfigError, match=r"given\.safetensors: is v2-ultra-reference .* asks for v2-ultra"):
        distill_stage(workspace, data, initial_weights="given.safetensors")
    (tmp_path / "data").unlink()
    with pytest.raises(ConfigError, match=r"trains no student, and distill\.initial_weights names none"):
        distill_stage(workspace, data)
