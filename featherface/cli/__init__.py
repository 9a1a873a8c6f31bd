"""The command line `featherface`: exit 0 fine; 2 bad input, one line on stderr; 1 anything else.

Commands only translate arguments into one call and its result into text. Heavy libraries are imported
inside the commands that need them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import sys
from collections.abc import Iterator
from importlib.metadata import requires, version
from typing import Annotated, Any, TextIO

import typer

from featherface.cli import (
    bundle,
    comparison,
    data,
    demo,
    detect,
    detection,
    export,
    pipeline,
    registry,
    team,
)
from featherface.cli.options import refuse_empty
from featherface.cli.printing import (
    above_bars,
    drop_what_cannot_be_written,
    escape_what_cannot_be_written,
    fill_closed_streams,
    printable,
)
from featherface.errors import EndedEarlyError, FeatherFaceError
from featherface.launching import launched_rank
from featherface.stopping import TERMINATED

# Newer versions of typer carry a copy of click of their own and do not export this base class.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_STOPPED = 130  # what shells say of a program that Ctrl-C ended
_GO_ON = frozenset({"pipeline", "run", "trials", "claims", "batch"})
"""Commands that go on where they were stopped; others begin anew."""
# What the system says of a name that was given; whatever else it says is no fault of the arguments.
_OF_NAMES = (
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EACCES,
    errno.EPERM, errno.EROFS,
)  # fmt: skip

_FIRST_STEPS = """\b
First steps:
  featherface detect photo.jpg --save out
  featherface pipeline
`featherface COMMAND --help` says more.
"""

app = typer.Typer(
    name="featherface",
    help="Ultra-light face detection, and the pipeline that trains, judges and promotes the detector.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_FIRST_STEPS,
)
pipeline.add_commands(app)
detect.add_commands(app)
detection.add_commands(app)
comparison.add_commands(app)
demo.add_commands(app)
export.add_commands(app)
app.add_typer(data.app, name="data")
app.add_typer(bundle.app, name="bundle")
app.add_typer(registry.app, name="registry")
app.add_typer(team.app, name="team")


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"featherface {version('featherface')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is."),
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    fill_closed_streams()
    escape_what_cannot_be_written()
    with _logging_to_stderr():
        code = _run(sys.argv[1:] if arguments is None else arguments)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        refuse_empty(arguments)
        result = app(arguments, prog_name="featherface", standalone_mode=False)
    except FeatherFaceError as error:
        return _say(str(error), code=2)
    except UsageError as error:
        return _refuse_usage(error)
    except _no_faults_of_the_user() as error:
        return _say(_in_words(error), code=1)
    except OSError as error:
        return _explain_system(error)
    except ModuleNotFoundError as error:
        return _explain_missing(error)
    except typer.Abort:
        result = _STOPPED
    except SystemExit as error:
        if error.code != TERMINATED:
            raise
        result = TERMINATED
    if result in (_STOPPED, TERMINATED) and launched_rank() == 0:
        what_then = "begin anew" if _GO_ON.isdisjoint(arguments[:1]) else "go on"
        _say(f"stopped; run the same command again to {what_then}", code=result)
    return result if isinstance(result, int) else 0


def _say(message: str, *, code: int) -> int:
    typer.echo(f"featherface: {printable(' '.join(message.split()))}", err=True)
    return code


def _no_faults_of_the_user() -> tuple[type[Exception], ...]:
    """Errors that are for people all the same; MLflow's and Prefect's where a command has loaded them."""
    mlflow, httpx = (sys.modules.get(name) for name in ("mlflow.exceptions", "httpx"))
    return (
        EndedEarlyError,
        *(() if mlflow is None else (mlflow.MlflowException,)),
        *(() if httpx is None else (httpx.TransportError,)),
    )


def _in_words(error: Any) -> str:
    library = type(error).__module__.partition(".")[0]
    if library == "mlflow":
        from featherface.tracking.connection import explain

        return explain(error)
    if library != "httpx":
        return str(error)
    return f"Prefect's server does not answer ({error}); what is finished is kept: run the same command again"


def _explain_system(error: OSError) -> int:
    is_output = drop_what_cannot_be_written()
    if isinstance(error, BrokenPipeError):  # whoever read our output has enough
        return 1
    reason = error.strerror or str(error)
    if is_output:
        return _say(f"standard output: cannot be written ({reason})", code=1)
    if error.filename is None:
        return _say(reason, code=1)
    return _say(f"{error.filename}: {reason}", code=2 if error.errno in _OF_NAMES else 1)


def _refuse_usage(error: Any) -> int:  # click's classes: see UsageError
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.ctx.get_help())
        return 2
    hint = f"; see `{error.ctx.command_path} --help`" if error.ctx else ""
    return _say(f"{error.format_message().rstrip('.')}{hint}", code=2)


def _explain_missing(error: ModuleNotFoundError) -> int:
    if error.name is None or error.name.partition(".")[0] in {"featherface", "pipelines"}:
        raise error
    extra = _extra_with(error.name.partition(".")[0])
    return _say(f"this command needs the package '{error.name}': install featherface[{extra}]", code=1)


def _extra_with(package: str) -> str:
    """The first extra that brings a package; what is named by none comes with the pipeline."""
    for requirement in requires("featherface") or ():
        name, has_extra, extra = requirement.partition("extra ==")
        if has_extra and re.match(rf"{re.escape(package)}\b(?!-)", name):
            return extra.strip("\"' ")
    return "pipeline"


class _OneLine(logging.Formatter):
    """Messages may hold names of files, and those anything."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return printable(super().formatMessage(record))


class _HandlerAboveBars(logging.StreamHandler[TextIO]):
    """A record that comes while a bar is shown has lines of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        with above_bars(self.stream):
            super().emit(record)


@contextlib.contextmanager
def _logging_to_stderr() -> Iterator[None]:
    """Show what our modules tell, as plain lines; whoever calls `main` gets the loggers back as they were."""
    handler = _HandlerAboveBars()
    handler.setFormatter(_OneLine("%(message)s"))
    loggers = [logging.getLogger(name) for name in ("featherface", "pipelines")]
    level = logging.INFO if launched_rank() == 0 else logging.ERROR  # they would say the same
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (old_level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old_level)
            logger.propagate = propagate
