"""Stage `rescore`: the student gets its second opinion, from its answers on whole training photographs."""

from __future__ import annotations

from featherface.config import DataConfig, RescoreConfig
from featherface.data.widerface import open_widerface
from featherface.files import sha256_of
from featherface.inference.weights import load_model_with_info, save_weights
from featherface.models.detector import FeatherFace
from featherface.parallel import training_device
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace
from featherface.stages.resuming import checkpointing_of
from featherface.training.rescoring import collect_candidates, fit_rescorer

STAGE = "rescore"
NO_HISTORY = "epoch,rescore/loss\n"


def run(data: DataConfig, rescore: RescoreConfig, *, workspace: Workspace) -> StageResult:
    """Write the finished student, the losses of its second opinion and metrics.

    A student of a network that has no second opinion, or with `rescore.share` 0, is written as it came, and
    so is one that has learnt too little to take anything for a face.
    """
    student, info = load_model_with_info(workspace.path(names.DISTILLED_WEIGHTS))
    if rescore.share > 0 and student.head.rescorer is not None:
        history, metrics, summary = _teach(student, data, rescore, workspace)
    else:
        history, metrics, summary = NO_HISTORY, {}, "off: the student stays as it was distilled"
    save_weights(
        workspace.path(names.STUDENT_WEIGHTS),
        student,
        architecture=info.architecture,
        innovations=info.innovations,
        extra=info.extra,
    )
    workspace.write_text(names.RESCORE_HISTORY, history)
    workspace.write_json(names.RESCORE_METRICS, metrics)
    return StageResult(metrics=metrics, summary=summary)


def _teach(
    student: FeatherFace, data: DataConfig, rescore: RescoreConfig, workspace: Workspace
) -> tuple[str, dict[str, float], str]:
    checkpointing = checkpointing_of(
        STAGE,
        workspace=workspace,
        data=data,
        sections=(rescore,),
        extra_identity=sha256_of(workspace.path(names.DISTILLED_WEIGHTS)),
    )
    candidates = collect_candidates(
        student.to(training_device()),
        open_widerface(workspace.root / data.root, "train"),
        settings=rescore,
        min_face_px=data.min_face_px,
        checkpointing=checkpointing,
    )
    if not len(candidates):
        summary = "the student takes nothing in these photographs for a face: there is nothing to learn from"
        return NO_HISTORY, {"rescore/candidates": 0}, summary
    losses = fit_rescorer(student.cpu(), candidates, rescore, checkpointing=checkpointing)
    for epoch, loss in enumerate(losses, start=1):
        workspace.tracker.log_metrics({"rescore/loss": loss}, step=epoch)
    share_found = float(candidates.is_found.float().mean())
    metrics = {
        "rescore/candidates": len(candidates),
        "rescore/found_fraction": share_found,
        "rescore/loss": losses[-1],
    }
    history = NO_HISTORY + "".join(f"{epoch},{loss}\n" for epoch, loss in enumerate(losses, start=1))
    summary = (
        f"{len(candidates):,} candidates, {100 * share_found:.1f} % of them faces, "
        f"loss {losses[-1]:.4f}, share {rescore.share:g}"
    )
    return history, metrics, summary
