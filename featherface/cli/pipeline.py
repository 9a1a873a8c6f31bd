"""`featherface pipeline`, `run`, `trials`, `average`: all stages, one, many short trainings, their mean."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.flows import find_flow
from featherface.cli.options import RUNNER, Runner, read_settings
from featherface.errors import ConfigError, FeatherFaceError
from featherface.launching import REFUSED, become_processes, launched_rank

SHIPPED_STUDENT = Path(__file__).parent.parent / "weights" / "featherface.safetensors"
_EXAMPLES = """\b
Examples:
  featherface pipeline
  featherface pipeline --profile widerface --data WIDER_FACE
  featherface pipeline --profile widerface-continue --student shipped --data WIDER_FACE
"""


def add_commands(app: typer.Typer) -> None:
    """Hang the commands on the application."""
    app.command(short_help="Train, judge, export and promote a student.", epilog=_EXAMPLES)(pipeline)
    app.command(short_help="Run one stage, whether it is stale or not.")(run)
    app.command(short_help="Compare many configurations in short, equal trainings.")(trials)
    app.command(short_help="Make one student of several: the mean of their weights.")(average)
    app.command(short_help="Test the numbers that the design document claims.")(claims)


def pipeline(
    *,
    profile: Annotated[
        str,
        typer.Option(
            help="synthetic: drawn scenes, nothing needed; widerface: real photographs; widerface-continue: "
            "the same, from a trained student (--student); widerface-details: what that one sees of tiny "
            "faces."
        ),
    ] = "synthetic",
    root: Annotated[
        Path | None,
        typer.Option(help="The workspace; default: this folder, or workspaces/PROFILE for other profiles."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="widerface: folder with WIDER_train, WIDER_val, wider_face_split and ground_truth, or "
            "WIDER_train.zip, WIDER_val.zip, wider_face_split.zip and eval_tools.zip, where ground_truth is."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="widerface: the published featherface_v1.safetensors; default: looked for near --data."
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="Go on from this student: a .safetensors file, or `shipped` for the one included."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A value of a new workspace, e.g. distill.train.epochs=80."
        ),
    ] = None,
) -> int:
    """Data, teacher, student, evaluation, export, registration, promotion; what is up to date is not redone.

    Stopped at any point, the same command goes on from the last checkpoint.
    """
    run_pipeline = find_flow("pipeline")
    folder = root or (Path() if profile == "synthetic" else Path("workspaces") / profile)
    outcome = run_pipeline(
        profile=profile,
        root=folder,
        data=data,
        teacher=teacher,
        student=_path_of(student),
        settings=read_settings(changes, example="distill.train.epochs=80"),
    )
    typer.echo(outcome.table())
    return 0


def _path_of(student: str | None) -> Path | None:
    if student is None:
        return None
    return SHIPPED_STUDENT if student == "shipped" else Path(student)


def run(
    stage: Annotated[
        str, typer.Argument(help="validate, train_teacher, distill, rescore, evaluate, export or report.")
    ],
    root: Annotated[Path, typer.Option(help="The workspace.")] = Path(),
) -> int:
    """Run one stage, whether it is stale or not: what dvc.yaml calls."""
    from featherface.child_process import end_with_named_parent
    from featherface.stages.starter import hand_on

    end_with_named_parent()
    try:
        _run_stage(stage, root.resolve())
    except FeatherFaceError as refusal:
        if not hand_on(refusal):
            raise
        return REFUSED
    return 0


def _run_stage(stage: str, root: Path) -> None:
    from featherface.stages.base import PARAMS_FILE
    from featherface.stages.tracked import num_processes_of, run_tracked
    from featherface.turn import HOLDER_VARIABLE, workspace_turn

    number = num_processes_of(stage, root)
    if not (root / PARAMS_FILE).exists():  # else a folder `state` would be left where nobody wants one
        raise ConfigError(
            f"{root}: is no workspace, as it has no {PARAMS_FILE}; `featherface pipeline` makes one, --root "
            "names it"
        )
    # The first process of a training holds the workspace for the others.
    with workspace_turn(root) if launched_rank() == 0 else nullcontext("") as holder:
        become_processes(number, ["run", stage, "--root", str(root)], environment={HOLDER_VARIABLE: holder})
        result = run_tracked(stage, root)
    if launched_rank() == 0:
        typer.echo(f"{stage}: {result.summary}")


def trials(
    plan: Annotated[Path, typer.Argument(help="YAML file with the cells to compare; see experiments/.")],
    data: Annotated[Path, typer.Option(help="A data set in WIDER FACE layout.")],
    teacher: Annotated[Path, typer.Option(help="Weights of the teacher, a .safetensors file.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; default: trials/NAME OF THE PLAN.")
    ] = None,
) -> int:
    """Train many configurations for a short while and compare them on a part of the training photographs.

    Finished cells are not run again, a killed one goes on from its checkpoint.
    """
    from featherface.trials.run import run_plan

    typer.echo(run_plan(plan, data=data, teacher=teacher, folder=out or Path("trials") / plan.stem))
    return 0


def average(
    students: Annotated[
        list[Path], typer.Argument(help="Two or more .safetensors files that went on from the same student.")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> int:
    """Make one student of several that went on from the same one: the mean of their weights.

    `featherface pipeline --student OUT` then trains it on, judges it and promotes it.
    """
    from featherface.training.averaging import average_students

    average_students(students, out)
    typer.echo(f"the mean of {len(students)} students is in {out}")
    return 0


def claims(
    data: Annotated[Path, typer.Option(help="A data set in WIDER FACE layout.")],
    teacher: Annotated[Path, typer.Option(help="Weights of the teacher, a .safetensors file.")],
    budget: Annotated[str, typer.Option(help="small: over an hour on two cores; full: days.")] = "small",
    ledger: Annotated[Path, typer.Option(help="The claims, and the trainings that answer them.")] = Path(
        "claims.yaml"
    ),
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; default: trials/claims-BUDGET.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trainings at once; default: one a core.")
    ] = None,
    runner: RUNNER = Runner.PROCESSES,
) -> int:
    """Test what the design document claims: train every cell of the ledger, and give a verdict on each claim.

    Finished cells are not run again, a killed one goes on from its checkpoint.
    """
    text = find_flow("claims")(
        ledger=ledger.resolve(),
        budget=budget,
        data=data.resolve(),
        teacher=teacher.resolve(),
        folder=out or Path("trials") / f"claims-{budget}",
        workers=workers,
        runner=runner.value,
    )
    typer.echo(text)
    return 0
