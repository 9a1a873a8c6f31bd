"""The folder of the demo, the runtime it takes along and the server that shows it; no browser, no network."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featherface.demo import runtime
from featherface.demo.folder import write_demo
from featherface.demo.runtime import PACKAGE, VERSION, cache_folder, find_runtime
from featherface.demo.server import open_server
from featherface.errors import DownloadError, ModelError, OptionError
from featherface.inference.loading import shipped_weights

FILES = {"ort.wasm.bundle.min.mjs": b"export default 1;", "ort-wasm-simd-threaded.wasm": b"\0asm"}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two tiny files in place of the real one, an empty cache, and no npm."""
    monkeypatch.setattr(
        runtime, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    )
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    dist = tmp_path / "package/dist"
    dist.mkdir(parents=True)
    for name, content in FILES.items():
        (dist / name).write_bytes(content)
    return tmp_path / "package"


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def install_npm(tmp_path: Path) -> Callable[[str], None]:
    """Put a program called npm on the path; `$5` is the folder that it is to pack into."""

    def install(script: str) -> None:
        npm = tmp_path / "bin/npm"
        npm.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        npm.chmod(0o755)

    return install


def test_a_package_is_taken_as_folder_as_its_dist_and_as_archive(package: Path, tmp_path: Path) -> None:
    archive = pack(tmp_path / "package.tgz", FILES)
    assert find_runtime(package) == find_runtime(package / "dist") == find_runtime(archive) == FILES


def test_what_is_not_the_pinned_version_is_refused(package: Path) -> None:
    (package / "dist/ort-wasm-simd-threaded.wasm").write_bytes(b"\0asm, but another")
    with pytest.raises(
        DownloadError, match=rf"wasm is not that of {PACKAGE} {VERSION} .* nothing of it is used"
    ):
        find_runtime(package)


def test_a_folder_or_archive_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"bin/ort.wasm.bundle.min.mjs: cannot be read"):
        find_runtime(tmp_path / "bin")
    with pytest.raises(DownloadError, match="is not the package as npm hands it out"):
        find_runtime(pack(tmp_path / "other.tgz", {}))


def test_without_npm_the_message_says_what_to_install() -> None:
    with pytest.raises(DownloadError, match=r"there is no npm here: install Node.js.*--runtime"):
        find_runtime()


def test_npm_is_asked_once_and_the_cache_afterwards(
    tmp_path: Path, install_npm: Callable[[str], None]
) -> None:
    archive = pack(tmp_path / "registry.tgz", FILES)
    install_npm(f'test "$1 $2" = "pack {PACKAGE}@{VERSION}" && /bin/cp {archive} "$5/"')
    assert find_runtime() == FILES
    assert cache_folder() == tmp_path / f"cache/featherface/{PACKAGE}-{VERSION}"
    install_npm("exit 1")
    assert find_runtime() == FILES


def test_a_damaged_cache_is_fetched_again(tmp_path: Path, install_npm: Callable[[str], None]) -> None:
    cache_folder().mkdir(parents=True)
    for name in FILES:
        (cache_folder() / name).write_bytes(b"half")
    install_npm(f'/bin/cp {pack(tmp_path / "registry.tgz", FILES)} "$5/"')
    assert find_runtime() == FILES
    assert (cache_folder() / "ort-wasm-simd-threaded.wasm").read_bytes() == b"\0asm"


def test_npm_that_fails_is_quoted(install_npm: Callable[[str], None]) -> None:
    install_npm("echo ENOTFOUND >&2; exit 1")
    with pytest.raises(
        DownloadError, match=r"failed \(ENOTFOUND\); is there a network\? Without, `--runtime`"
    ):
        find_runtime()


def test_a_package_that_was_tampered_with_never_reaches_the_cache(
    tmp_path: Path, install_npm: Callable[[str], None]
) -> None:
    archive = pack(tmp_path / "registry.tgz", FILES | {"ort.wasm.bundle.min.mjs": b"evil()"})
    install_npm(f'/bin/cp {archive} "$5/"')
    with pytest.raises(DownloadError, match="`npm pack"):
        find_runtime()
    assert not cache_folder().exists()


@pytest.fixture
def demo(tmp_path: Path, package: Path) -> Path:
    write_demo(tmp_path / "out", runtime=package)
    return tmp_path / "out"


def test_the_folder_has_page_model_runtime_and_its_license(demo: Path) -> None:
    files = {path.relative_to(demo).as_posix() for path in demo.rglob("*") if path.is_file()}
    assert files >= {
        "index.html",
        "style.css",
        "js/page.js",
        "js/worker.js",
        "model.onnx",
        "sample.jpg",
        "runtime/ort-wasm-simd-threaded.wasm",
        "licenses/onnxruntime-web.txt",
    }
    settings = json.loads((demo / "model.json").read_text(encoding="utf-8"))
    assert settings["strides"] == [8, 16, 32]
    assert settings["score_threshold"] == 0.5
    assert "research only" in settings["license"]


def test_the_page_names_no_address_outside_its_folder(demo: Path) -> None:
    for path in [demo / "index.html", demo / "style.css", *(demo / "js").iterdir()]:
        assert not re.findall(
            r"(?:https?:)?//[a-z0-9]", path.read_text(encoding="utf-8").replace("// ", "")
        ), path


def test_a_demo_is_replaced_and_anything_else_left_alone(demo: Path, package: Path, tmp_path: Path) -> None:
    (demo / "index.html").write_text("old", encoding="utf-8")
    write_demo(demo, runtime=package)
    assert "FeatherFace" in (demo / "index.html").read_text(encoding="utf-8")
    with pytest.raises(OptionError, match="package: has other files in it; give a new or an empty folder"):
        write_demo(package, runtime=package)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OptionError, match=r"notes.txt: is a file"):
        write_demo(tmp_path / "notes.txt", runtime=package)


@pytest.mark.parametrize(
    "settings", ['{"format": "layers-model", "modelTopology": {}}', "[]", "no JSON", '{"strides": [8]}']
)
def test_a_folder_with_a_model_of_others_is_left_alone(settings: str, package: Path, tmp_path: Path) -> None:
    model = tmp_path / "tfjs"
    model.mkdir()
    (model / "model.json").write_text(settings, encoding="utf-8")
    with pytest.raises(OptionError, match="tfjs: has other files in it; give a new or an empty folder"):
        write_demo(model, runtime=package)
    assert [path.name for path in model.iterdir()] == ["model.json"]
    assert (model / "model.json").read_text(encoding="utf-8") == settings


def test_a_model_that_no_browser_runs_is_refused_before_anything_is_written(
    tmp_path: Path, package: Path
) -> None:
    (tmp_path / "cut.onnx").write_bytes(shipped_weights().read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"cut\.onnx: is no ONNX file that can be used"):
        write_demo(tmp_path / "out", model=tmp_path / "cut.onnx", runtime=package)
    with pytest.raises(ModelError, match=r"a browser runs .onnx files, got '.safetensors'"):
        write_demo(tmp_path / "out", model="student.safetensors", runtime=package)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def address(demo: Path) -> Iterator[str]:
    with open_server(demo, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/js/page.js", "text/javascript; charset=utf-8"),
        ("/runtime/ort.wasm.bundle.min.mjs", "text/javascript; charset=utf-8"),
        ("/runtime/ort-wasm-simd-threaded.wasm", "application/wasm"),
        ("/model.onnx", "application/octet-stream"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_the_server_says_the_types_that_browsers_insist_on(
    address: str, path: str, content_type: str
) -> None:
    with urllib.request.urlopen(address + path) as response:
        assert response.headers["Content-Type"] == content_type


@pytest.mark.parametrize("path", ["/js/", "/../package/dist/ort-wasm-simd-threaded.wasm", "/nosuch"])
def test_the_server_lists_nothing_and_leaves_its_folder_never(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address + path)
    refused.value.close()
    assert refused.value.code == 404


def test_a_port_that_is_taken_is_named(demo: Path) -> None:
    with (
        open_server(demo, 0) as server,
        pytest.raises(OptionError, match=rf"port {server.server_port}: cannot be used .*; give another"),
    ):
        open_server(demo, server.server_port)
