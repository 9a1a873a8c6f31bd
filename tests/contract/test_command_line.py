"""The command line refuses bad input in one line with exit code 2, and is fast to start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import httpx
import mlflow.exceptions
import numpy as np
import pytest

from featherface.cli import main, printing
from featherface.data.synthetic import synthesize_dataset
from featherface.imaging import write_image
from pipelines.dvc_commands import StageDiedError

LONG_NAME = "x" * 300


def run_main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["detect", "nosuch.jpg"], "nosuch.jpg: there is no such file"),
        (["detect", "."], "no images"),
        (["detect"], "Missing argument"),
        (["nonsense"], "No such command 'nonsense'"),
        (["run", "nonsense"], "there is no stage 'nonsense'; known: validate, train_teacher"),
        (
            ["run", "validate"],
            "is no workspace, as it has no params.yaml; `featherface pipeline` makes one",
        ),
        (["score", "--predictions", "nowhere", "--ground-truth", "nowhere"], "nowhere: is no folder"),
        (["evaluate", "--data", "nowhere", "--model", "nosuch.onnx"], "nosuch.onnx"),
        (["data", "validate", "nowhere"], "nowhere"),
        (["data", "validate", "nowhere", "--plot", "."], ".: is a folder; give the name of a file"),
        (["data", "import-widerface", "nowhere", "there"], "nowhere: is no folder"),
        (
            ["pipeline", "--profile", "nonsense"],
            "there is no such profile; known: synthetic, widerface, widerface-continue, widerface-details",
        ),
        *(
            (
                ["pipeline", "--profile", name],
                f"--profile {name}: there is no such profile; known: synthetic,",
            )
            for name in ("../profiles/synthetic", "./synthetic", "synthetic.yaml")
        ),
        (
            ["pipeline", "--profile", "widerface"],
            "data: does not exist; give the photographs with --data DIR",
        ),
        (
            ["pipeline", "--profile", "widerface", "--data", "nowhere", "--root", "new"],
            "nowhere: is no folder; give --data the one with WIDER FACE",
        ),
        (["pipeline", "--profile", "widerface", "--data", "."], "--teacher FILE"),
        *(
            ([*command, ""], f"what follows {command[-1]} is empty, as a variable that is not set: give a ")
            for command in (
                ["pipeline", "--root"],
                ["run", "validate", "--root"],
                ["registry", "list", "--root"],
                ["data", "push", "--root"],
                ["pipeline", "--student"],
                ["evaluate", "--data"],
                ["detect", "photo.jpg", "--model"],
                ["data", "validate"],
            )
        ),
        (["bundle", "pack", "out", "--root="], "--root is empty, as a variable"),
        (["export", "--out", "new", "--data= "], "--data is empty, as a variable"),
        ([" "], "the first argument is empty, as a variable"),
        (["pipeline", "--set", "distill.trane.epochs=3"], "'distill.trane.epochs' is not in params.yaml"),
        (
            ["pipeline", "--set", "distill.train.epochs=many"],
            "'distill.train.epochs': Input should be a valid",
        ),
        (["pipeline", "--set", "distill.train.epochs"], "give KEY=VALUE, such as distill.train.epochs=80"),
        (["pipeline", "--student", "nosuch.safetensors"], "nosuch.safetensors: no such file"),
        (["demo", "--out", "new", "--runtime", "nowhere"], "ort.wasm.bundle.min.mjs: cannot be read"),
        (["demo", "--out", "new", "--model", "nosuch.onnx"], "nosuch.onnx: cannot be read"),
        (["demo", "--out", LONG_NAME], f"{LONG_NAME}: File name too long"),
        (["evaluate", "--data", LONG_NAME], "File name too long"),
        (["score", "--predictions", LONG_NAME, "--ground-truth", "x"], "File name too long"),
        (
            ["trials", "nosuch.yaml", "--data", ".", "--teacher", "t"],
            "nosuch.yaml: cannot be read (No such file or directory); give a plan, a YAML file with the",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_main(capsys, *arguments)
    assert code == 2
    assert words in err
    assert err.startswith("featherface: ")
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trane: {}\n", "params.yaml: unknown key 'trane'; allowed here: synthesize, data, model"),
        ("distill: {train: {ephocs: 3}}\n", "unknown key 'distill.train.ephocs'; allowed here: epochs,"),
        ("train_teacher: {epochs: many}\n", "key 'train_teacher.epochs': Input should be a valid integer"),
        ("model: {architecture: v3}\n", "key 'model.architecture': Input should be 'v2-ultra'"),
        ("model: [\n", "params.yaml: is not valid YAML"),
        ("- a\n", "a mapping of sections is needed, got a list"),
    ],
)
def test_bad_params_name_file_key_and_what_is_allowed(
    text: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    code, _, err = run_main(capsys, "run", "validate", "--root", str(tmp_path))
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_a_stage_leaves_nothing_in_a_folder_that_is_no_workspace(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_main(capsys, "run", "validate", "--root", str(tmp_path))[0] == 2
    assert not any(tmp_path.iterdir())


def test_empty_folder_has_no_images(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run_main(capsys, "detect", str(tmp_path))
    assert code == 2
    assert f"{tmp_path}: has no images in it" in err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_main(capsys, "--help")
    assert code == 0
    for command in ("pipeline", "run", "detect", "demo", "evaluate", "score", "data", "registry"):
        assert f"  {command} " in out


@pytest.mark.parametrize("group", [[], ["data"], ["bundle"], ["registry"], ["team"]])
def test_no_summary_of_a_command_is_cut(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_main(capsys, *group, "--help")
    summaries = out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert summaries
    assert not [line for line in summaries if not line.endswith(".")]
    assert not [line for line in summaries if line.endswith("...")]


def test_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(capsys, "--version") == (0, f"featherface {version('featherface')}\n", "")


def test_starting_and_detecting_import_neither_torch_nor_mlflow_nor_prefect() -> None:
    code = (
        "import sys; import featherface.cli; from featherface.inference import batch, detector; "
        "import featherface.demo.folder, featherface.demo.server; "
        "heavy = {'torch', 'mlflow', 'prefect', 'matplotlib', 'scipy'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_flow_that_finds_nothing_new_needs_no_torch() -> None:
    code = "import sys, pipelines.flows, pipelines.scheduled; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def gray(path: Path) -> Path:
    write_image(path, np.full((64, 64, 3), 99, np.uint8))
    return path


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            StageDiedError("distill", "Killed"),
            1,
            "stage 'distill' ended early (Killed); what it had finished is",
        ),
        (mlflow.exceptions.MlflowException("no such run\n[SQL: SELECT 1]"), 1, "no such run\n"),
        (httpx.ConnectError("refused"), 1, "Prefect's server does not answer (refused); what is finished"),
        (OSError(28, "No space left on device", "a.txt"), 1, "a.txt: No space left on device\n"),
        (OSError(28, "No space left on device"), 1, "No space left on device\n"),
        (PermissionError(13, "Permission denied", "top/x"), 2, "top/x: Permission denied\n"),
        *(
            (
                ModuleNotFoundError("", name=name),
                1,
                f"this command needs the package '{name}': install featherface[{extra}]\n",
            )
            for name, extra in (
                ("torch", "train"),
                ("onnx.checker", "train"),
                ("mlflow", "pipeline"),
                ("dvc_data", "pipeline"),
            )
        ),
    ],
)
def test_what_is_no_bug_is_one_line(
    error: Exception,
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("featherface.cli.app", fail)
    got, out, err = run_main(capsys, "pipeline")
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(f"featherface: {line}")


@pytest.mark.parametrize(
    ("arguments", "where", "what_then"),
    [
        (["detect", "."], "featherface.inference.batch.expand_sources", "begin anew"),
        (["pipeline"], "featherface.cli.pipeline.find_flow", "go on"),
        (["batch", ".", "--out", "x"], "featherface.cli.detection.find_flow", "go on"),
    ],
)
def test_ctrl_c_says_what_the_same_command_will_do(
    arguments: list[str],
    where: str,
    what_then: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, stop)
    line = f"featherface: stopped; run the same command again to {what_then}\n"
    assert run_main(capsys, *arguments) == (130, "", line)


def test_ctrl_c_while_the_command_line_is_imported_shows_no_traceback(tmp_path: Path) -> None:
    # Started in the background, a process ignores SIGINT, and so do its children: not this one.
    (tmp_path / "typer.py").write_text(
        "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "featherface", "detect", "x.jpg"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_that_a_full_disk_does_not_take_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "featherface", "--version"],
            env={**os.environ, "PYTHONUNBUFFERED": ""}, stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    line = "featherface: standard output: cannot be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_table_that_a_full_disk_does_not_take_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_main(capsys, "detect", str(gray(tmp_path / "a.png")), "--csv", "/dev/full")
    assert (code, err) == (2, "featherface: /dev/full: cannot be written (No space left on device)\n")
    assert Path("/dev/full").is_char_device()


def test_a_table_replaces_no_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, bare = gray(Path("a.png")), gray(Path("b.png")), gray(Path("c.png")).rename("bare")
    before = first.read_bytes()
    for table, words in {first: "is the name of a picture or film", bare: "is one of the sources"}.items():
        code, _, err = run_main(capsys, "detect", "--csv", str(table), str(second), str(bare))
        assert (code, err.count("\n")) == (2, 1)
        assert f"featherface: {table}: {words}" in err
    assert first.read_bytes() == bare.read_bytes() == before
    assert run_main(capsys, "detect", "a.png", "--csv", "new.MP4")[0] == 2


def test_a_table_on_standard_output_leaves_what_a_script_wrote_before(tmp_path: Path) -> None:
    """A shell has sent it into a file, which then looks like any other."""
    log, picture = tmp_path / "log", gray(tmp_path / "a.png")
    for table in ("/dev/stdout", "-"):
        log.write_text("before\n")
        with log.open("a") as appended:
            subprocess.run(
                [sys.executable, "-m", "featherface", "detect", str(picture), "--csv", table],
                stdout=appended, check=True,
            )  # fmt: skip
        lines = log.read_text().splitlines()
        assert lines[0] == "before"
        assert [line for line in lines if line.startswith("image,left,")]
    assert len(lines) == 2, "with - the table alone is printed"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".csv"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "--data", "d", "--size", "100"], "--size 100 is no multiple of 32; take 96 or 128"),
        (["bench", "--data", "d", "--out", "a.png"], "a.png/comparison.json: cannot be written"),
        (["detect", "a.png", "--json", "--json-lines"], "only one of --json, --json-lines and --csv -"),
        (["detect", "a.png", "--json", "--csv", "-"], "only one of --json, --json-lines and --csv -"),
        (["detect", "a.png", "--device", "tpu"], "device 'tpu': allowed are auto, cpu, cuda"),
        (
            ["detect", "a.png", "--image-size", "9" * 5000],
            "image size: a number of pixels or 'original' is needed, got one of 5000 dig",
        ),
        (
            ["detect", "a.png", "--image-size", "0"],
            "image_size must be a whole number from 32 to 6250000, or",
        ),
    ],
)
def test_options_that_cannot_be_used_are_refused_before_any_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    gray(Path("a.png"))
    code, _, err = run_main(capsys, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert f"featherface: {words}" in err
    assert [path.name for path in Path().iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--report", "d"], "d: is a folder; give the name of a file"),
        (["--report", "a.png/r.html"], "a.png/r.html: cannot be written"),
        (["--save-predictions", "a.png/p"], "a.png/p: cannot be written"),
        (
            ["--save-predictions", "p"],
            "p: holds predictions of another image '0--A/old'; give an empty folder",
        ),
    ],
)
def test_where_results_of_an_evaluation_cannot_go_is_said_before_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    gray(Path("a.png"))
    Path("p/0--A").mkdir(parents=True)
    Path("p/0--A/old.txt").write_text("old\n0\n")
    synthesize_dataset(Path("d"), num_train=1, num_val=1, image_hw=(96, 128), seed=1, num_workers=1)
    monkeypatch.setattr("featherface.evaluation.run.read_ahead", None)  # nothing is looked at
    code, _, err = run_main(capsys, "evaluate", "--data", "d", *option)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"featherface: {words}")


def test_a_run_that_uses_nothing_or_is_stopped_leaves_an_older_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table, broken, picture = Path("faces.csv"), Path("broken.png"), gray(Path("a.png"))
    broken.write_bytes(b"nothing")
    table.write_text("older\n")
    assert run_main(capsys, "detect", str(broken), "--csv", str(table))[0] == 2

    def stop(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("featherface.cli.table.FaceTable.add", stop)
        assert run_main(capsys, "detect", str(picture), "--csv", str(table))[0] == 130
    assert table.read_text() == "older\n"
    Path("link.csv").symlink_to(table)
    assert run_main(capsys, "detect", str(picture), "--csv", "link.csv")[0] == 0
    assert table.read_text().startswith("image,left,")
    assert Path("link.csv").is_symlink()
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "broken.png", "faces.csv", "link.csv"]


def test_of_faces_cut_out_is_said_only_where_some_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_main(capsys, "detect", str(gray(tmp_path / "a.png")), "--crops", str(tmp_path / "c"))
    assert (code, err) == (0, "")
    assert not (tmp_path / "c").exists()


def test_sigterm_leaves_nothing_half_written(tmp_path: Path) -> None:
    film = str(tmp_path / "film.mp4")
    writer = cv2.VideoWriter(film, cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for _ in range(2000):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    with subprocess.Popen(
        [
            sys.executable, "-m", "featherface", "detect", film, "--json-lines", "--num-threads", "1",
            "--save", tmp_path / "s", "--csv", tmp_path / "t.csv",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("{")
        half_written = [path.name for path in (tmp_path / "s").iterdir()]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert half_written
    assert (process.returncode, "Traceback" in err) == (128 + signal.SIGTERM, False)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["film.mp4", "s"]


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes streams")
def test_a_stream_that_the_caller_closed_is_not_the_next_file_that_is_opened(tmp_path: Path) -> None:
    program = (
        "import os, runpy, sys\n"
        f"runpy.run_path({printing.__file__!r})['fill_closed_streams']()\n"
        f"file = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY)\n"
        "print('a bar', file=sys.stderr, flush=True)\n"
        "os.system('echo a child >&2')\n"
        "sys.exit(10 * file + (sys.stdin is None and sys.stdout is None))"
    )
    shell = ["sh", "-c", 'exec "$0" -S -c "$1" <&- >&- 2>&-', sys.executable, program]
    assert subprocess.run(shell, check=False).returncode == 31
    assert (tmp_path / "file").read_bytes() == b""
