"""The typed, frozen view of params.yaml, and the only home of defaults.

Unknown keys and wrong types are refused with the file, the key and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from featherface.errors import ConfigError
from featherface.names import INNOVATIONS, Architecture, Innovation
from featherface.yaml_files import read_yaml, to_yaml

PROFILES_DIR = Path(__file__).parent / "profiles"
DATA_FOLDER = "data"
"""Of a workspace: where its data set lies, as `dvc.yaml` and `data.dvc` have it."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise PydanticCustomError("repeated", "a seed counts once: the same training twice says nothing new")
    return seeds


Seeds = Annotated[tuple[Seed, ...], AfterValidator(_each_once)]
SectionT = TypeVar("SectionT", bound="Section")


class Section(BaseModel):
    """One top-level key of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)


class SynthesizeConfig(Section):
    """The procedural data set that ships with the project."""

    num_train: Count = 800
    num_val: Count = 200
    image_hw: tuple[Count, Count] = (480, 640)
    seed: Seed = 20260


class DataConfig(Section):
    """Which photographs, and which of their faces are learnt."""

    source: Literal["synthetic", "widerface"] = "synthetic"
    root: str = DATA_FOLDER
    min_face_px: NonNegative = 6.0
    """Faces with a shorter side below this in a training view are ignored: neither positive nor negative."""

    @field_validator("root")
    @classmethod
    def _is_tracked(cls, root: str) -> str:
        # The key stays for the sake of the files that have it. Another folder would be read, but no change of
        # it seen.
        if PurePosixPath(root) != PurePosixPath(DATA_FOLDER):
            raise PydanticCustomError(
                "untracked",
                "DVC tracks the workspace's folder 'data' and no other; set it to data, and give photographs "
                "that lie elsewhere with --data to a new workspace",
            )
        return root


class ModelConfig(Section):
    """The student."""

    architecture: Architecture = "v2-ultra"
    innovations: tuple[Innovation, ...] = INNOVATIONS


class TeacherConfig(Section):
    """The teacher: trained in the pipeline, or given as public weights."""

    architecture: Literal["v1", "v1-487k"] = "v1-487k"
    weights: str | None = None
    """Published weights, relative to the workspace; null: train the teacher in the pipeline."""


class AugmentConfig(Section):
    """Random views of a training image."""

    crop_scale_min: Positive = 0.3
    crop_scale_max: Positive = 1.1
    """Side of the square crop over the short side of the image; above 1 the image is padded."""
    min_visible_fraction: Fraction = 0.0
    """Faces of which a crop leaves less are ignored: cut faces teach to find faces in parts of large ones."""
    flip_probability: Fraction = 0.5
    photometric_probability: Fraction = 0.5
    rotation_probability: Fraction = 0.0
    rotation_max_degrees: Annotated[float, Field(ge=0, le=45)] = 30.0
    """Views are turned about their center by up to so much to either side."""
    occlusion_probability: Fraction = 0.0
    """Of each face from 16 px on: a part of it lies behind a patch (random erasing, arXiv:1708.04896)."""
    grey_probability: Fraction = 0.0
    degrade_probability: Fraction = 0.0
    """Blur, noise or compression."""
    sharpen_probability: Fraction = 0.0
    """Enlarged photographs are soft; those that a detector is given mostly are not."""
    mix_probability: Fraction = 0.0
    """Two views laid over each other: only a teacher can say what faces are seen in them."""

    @field_validator("crop_scale_max")
    @classmethod
    def _is_no_less(cls, largest: float, info: ValidationInfo) -> float:
        smallest = info.data.get("crop_scale_min")
        if smallest is not None and largest < smallest:
            raise PydanticCustomError("reversed", f"must not be below crop_scale_min ({smallest:g})")
        return largest


class LossConfig(Section):
    """Multibox loss (SSD, arXiv:1512.02325, with landmarks as in RetinaFace, arXiv:1905.00641)."""

    match_iou_threshold: Annotated[float, Field(gt=0, le=1)] = 0.35
    min_priors_per_face: Count = 1
    """Faces that fewer priors match get their best ones up to this number: more positives for tiny faces."""
    cls: Literal["hard_negatives", "placed_hard_negatives", "focal", "quality_focal"] = "hard_negatives"
    """`placed_hard_negatives`: positives whose box would not count as found are to be less sure; `focal`:
    arXiv:1708.02002; `quality_focal`, arXiv:2006.04388, learns how well box and face overlap."""
    negatives_per_positive: NonNegative = 7.0
    """Of the first two."""
    box: Literal["smooth_l1", "giou", "eiou"] = "smooth_l1"
    """Of the encoded coordinates, or of the overlap: arXiv:1902.09630 and arXiv:2101.08158."""
    box_weight: NonNegative = 2.0
    cls_weight: NonNegative = 1.0
    landmark_weight: NonNegative = 1.0


class TrainConfig(Section):
    """How a network is fitted; one section trains the teacher, its twin inside `distill` the student."""

    epochs: Count = 10
    batch_size: Count = 16
    image_size_px: Annotated[int, Field(ge=32, multiple_of=32)] = 320
    view_scales: Annotated[tuple[Annotated[float, Field(ge=0.25, le=4)], ...], Field(min_length=1)] = (1.0,)
    """Each batch draws one: views of that multiple of `image_size_px`, which show so much more of the image
    at the same zoom, and as many images fewer as keeps the pixels of a batch."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 2e-3
    weight_decay: NonNegative = 5e-4
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup_fraction: Fraction = 0.1
    grad_clip_norm: Positive = 10.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    ema_power: NonNegative = 8.0
    """As long as `ema_decay` allows it, step n weighs n ** `ema_power` in the average: with 1 it looks back
    on half of the training, with 8 on a ninth."""
    seed: Seed = 1
    num_threads: Count = 2
    """Of each process."""
    num_processes: Count = 1
    """On this machine, each with a part of every batch: one for each GPU, or for each core of a CPU, with one
    thread then. On a machine with GPUs there are no more than those."""
    sync_batch_norm: bool = True
    """Several processes normalize by the statistics of the whole batch, and end where one would; false: each
    by those of its part, which on a CPU is much faster."""
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()


class DistillConfig(Section):
    """How the student learns from the teacher; `enabled: false` trains its twin without a teacher."""

    enabled: bool = True
    train: TrainConfig = TrainConfig()
    start: Literal["pruned", "copied", "random"] = "copied"
    """`pruned`: as the teacher with channels left out, where the student has its structure (v2-ultra and v1);
    `copied`: with the teacher's weights in the layers of the same shape; `random`."""
    initial_weights: str | None = None
    """Go on from this student instead: a .safetensors file, relative to the workspace."""
    keep_initial_weights: bool = False
    """Take the initial student as it is and train nothing here: only `rescore` is done anew."""
    learn: Literal["base", "details", "everything"] = "base"
    """`details`: the initial student's layers for tiny faces (`models.details`); `base`: all else; or both."""
    details_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What they have learnt to add counts by this factor."""
    details_offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Added to the margins of P3 afterwards, whose priors picked their hard negatives among themselves."""
    task_weight: NonNegative = 1.0
    logit_weight: NonNegative = 1.0
    box_weight: NonNegative = 0.5
    landmark_weight: NonNegative = 0.25
    feature_weight: NonNegative = 0.5
    """Of imitating the backbone's maps, as far as the student's stages learn."""
    neck_feature_weight: NonNegative = 0.0
    """Of imitating the maps that the heads read."""
    temperature_start: Positive = 4.0
    temperature_end: Positive = 1.0
    score_temperature: Positive = 1.0
    """Class logits of the trained student are divided by it. Networks are too sure of themselves, and the
    benchmark looks at scores from 0.02 up in a thousand equal steps: what lies closer to the ends is lost."""
    frozen_stages: Annotated[int, Field(ge=0, le=2)] = 0
    """How many of the backbone's first stages stay as the teacher has them; they run once for both."""
    confidence_threshold: Fraction = 0.3
    """Box and landmark terms count only priors where the teacher's face probability is at least this."""


class RescoreConfig(Section):
    """The student's second opinion of a score, learnt from whole photographs when all else has been."""

    share: Fraction = 0.35
    """Of the second opinion in the margin between face and background; 0: there is none."""
    score_temperature: Positive = 1.0
    """The mean of both opinions is divided by it: above 1 a student is less sure of itself; 0.5 stays 0.5."""
    long_sides_px: Annotated[tuple[Annotated[int, Field(ge=32)], ...], Field(min_length=1)] = (640,)
    """Each photograph is looked at once, in one of these sizes: those in which it will be used."""
    flip_probability: Fraction = 0.5
    max_candidates: Count = 16_000_000
    """Priors to learn from, 80 bytes each; photographs beyond that are left out."""
    epochs: Count = 10
    batch_size: Count = 2048
    """Candidates of all photographs, mixed."""
    lr: Positive = 3e-3
    weight_decay: NonNegative = 1e-3
    seed: Seed = 1
    num_threads: Count = 2


class EvaluateConfig(Section):
    """How detectors are judged: single scale, official WIDER FACE protocol and COCO."""

    score_threshold: Fraction = 0.02
    iou_threshold: Fraction = 0.4
    max_faces: Count = 750
    """Best detections of an image that count, ours and those of peers; the detector's own default."""
    image_size: Annotated[int, Field(ge=32)] | Literal["original"] = "original"
    num_threads: Count = 2


class ExportConfig(Section):
    """The ONNX file."""

    opset: Annotated[int, Field(ge=18)] = 18
    parity_tolerance: Positive = 1e-4
    parity_images: Count = 8
    score_threshold: Fraction = 0.5
    iou_threshold: Fraction = 0.4
    latency_size_px: Annotated[int, Field(ge=32, multiple_of=32)] = 640


class PromoteConfig(Section):
    """What a challenger must be to become the champion."""

    min_mean_ap: Fraction = 0.5
    max_params: Count = 250_000
    max_file_mib: Positive = 1.2
    max_parity_error: Positive = 1e-4
    max_latency_ratio: Positive = 2.0
    """Latency of the student over the teacher's, both through ONNX Runtime in one interleaved run."""
    max_ap_drop: Fraction = 0.005
    """How much less mean AP than the champion's, on the same data version, is still accepted."""
    max_file_ap_drop: Fraction = 0.001
    """How much less mean AP the registered file may have than the network from which it was exported."""
    allowed_data: tuple[str, ...] = ()
    """Versions of the data on which a challenger may have been scored; empty: any."""
    max_slice_ap_drop: Fraction = 0.03
    """The same for the AP of faces of one height, blur, occlusion, pose and so on."""
    min_slice_faces: Count = 200
    """Kinds of which the validation images hold fewer faces are not compared: chance decides there."""


class Config(Section):
    """All of params.yaml."""

    synthesize: SynthesizeConfig = SynthesizeConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    teacher: TeacherConfig = TeacherConfig()
    train_teacher: TrainConfig = TrainConfig()
    distill: DistillConfig = DistillConfig()
    rescore: RescoreConfig = RescoreConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()
    promote: PromoteConfig = PromoteConfig()


def load_config(path: Path | str) -> Config:
    """Read and check a params.yaml.

    Raises:
        ConfigError: the file is missing or no YAML mapping, has an unknown key or a value not allowed.
    """
    return validated(Config, read_yaml(Path(path)), str(path))


def validated(kind: type[SectionT], content: Mapping[str, Any], where: str) -> SectionT:
    """A section from the mapping that a YAML file holds.

    Args:
        kind: of section.
        content: as read.
        where: it comes from; begins the message of an error.

    Raises:
        ConfigError: an unknown key, or a value that is not allowed; all of them are named.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, kind)}") from error


def load_profile(name: str) -> Config:
    """The configuration that a new workspace starts from: the defaults, with what the profile changes.

    Raises:
        ConfigError: there is no such profile.
    """
    known = sorted(profile.stem for profile in PROFILES_DIR.glob("*.yaml"))
    if name not in known:  # a path to one of them would name the workspace's folder, too
        raise ConfigError(f"--profile {name}: there is no such profile; known: {', '.join(known)}")
    return load_config(PROFILES_DIR / f"{name}.yaml")


def with_settings(config: Config, settings: Mapping[str, Any], where: str) -> Config:
    """The same configuration with some values changed.

    Args:
        config: not changed.
        settings: values by dotted key, such as `distill.train.epochs`.
        where: what asks for them; begins the message of an error.

    Raises:
        ConfigError: a key that params.yaml does not have, or a value that it would not take.
    """
    content = config.model_dump(mode="json")
    for key, value in settings.items():
        content = _with(content, key.split("."), value, f"{where}: key '{key}'")
    return validated(Config, content, where)


def dump_config(config: Section) -> str:
    """YAML text that `load_config` reads back to an equal config."""
    return to_yaml(config.model_dump(mode="json"))


def _with(section: dict[str, Any], path: list[str], value: Any, where: str) -> dict[str, Any]:
    key, *rest = path
    if key not in section:
        raise ConfigError(f"{where} is not in params.yaml; known here: {', '.join(section)}")
    if not rest:
        return {**section, key: value}
    if not isinstance(section[key], dict):
        raise ConfigError(f"{where}: '{key}' has no keys below it")
    return {**section, key: _with(section[key], rest, value, where)}


def _explain(error: ValidationError, kind: type[Section]) -> str:
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(kind, problem["loc"][:-1])
            problems.append(f"unknown key '{key}'{f'; allowed here: {known}' if known else ''}")
        else:
            problems.append(f"key '{key}': {problem['msg']}, got {problem['input']!r}")
    return "; ".join(problems)


def _fields_at(kind: type[Section], location: tuple[int | str, ...]) -> str:
    """Names of the fields of a section inside a section; nothing where the way leads through a mapping."""
    section: Any = kind
    for part in location:
        field = getattr(section, "model_fields", {}).get(str(part))
        section = None if field is None else field.annotation
    return ", ".join(getattr(section, "model_fields", {}))
