"""The command line refuses bad input in one line with exit code 2, and is fast to start."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from featherface.cli import main


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
        (["run", "distill"], "params.yaml: cannot be read"),
        (["score", "--predictions", "nowhere", "--ground-truth", "nowhere"], "nowhere: is no folder"),
        (["evaluate", "--data", "nowhere", "--model", "nosuch.onnx"], "nosuch.onnx"),
        (["data", "validate", "nowhere"], "nowhere"),
        (["data", "import-widerface", "nowhere", "there"], "nowhere: is no folder"),
        (
            ["pipeline", "--profile", "nonsense"],
            "there is no such profile; known: synthetic, widerface, widerface-continue",
        ),
        (["pipeline", "--profile", "widerface"], "--teacher FILE"),
        (["pipeline", "--set", "distill.trane.epochs=3"], "'distill.trane.epochs' is not in params.yaml"),
        (
            ["pipeline", "--set", "distill.train.epochs=many"],
            "'distill.train.epochs': Input should be a valid",
        ),
        (["pipeline", "--set", "distill.train.epochs"], "give KEY=VALUE, such as distill.train.epochs=80"),
        (["pipeline", "--student", "nosuch.safetensors"], "nosuch.safetensors: no such file"),
        (["demo", "--out", "new", "--runtime", "nowhere"], "ort.wasm.bundle.min.mjs: cannot be read"),
        (["demo", "--out", "new", "--model", "nosuch.onnx"], "nosuch.onnx: cannot be read"),
        (["trials", "nosuch.yaml", "--data", ".", "--teacher", "t"], "nosuch.yaml: cannot be read"),
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
