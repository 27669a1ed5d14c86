import contextlib
import errno
import hashlib
import http.server
import io
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from reenact import weights
from reenact.errors import UsageError, WeightsError
from reenact.weights import WeightStore, all_shipped, default_root, entries, licences, shipped, shipped_for

ONE, TWO = b"one" * 1000, b"two" * 2000  # the contents of the weight files one.bin and two.bin


# --- Archives, registries and servers whose content is known ------------------------------------


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def toml(table: dict[str, object]) -> str:
    """An inline table; JSON's strings and numbers are TOML's too."""
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + "}"


def tables(**contents: tuple[bytes, list[dict[str, str]]]) -> str:
    """The [weights] of a registry: content and sources of each file NAME.bin."""
    lines = ["[weights]"]
    for name, (content, sources) in contents.items():
        entry = {"bytes": len(content), "sha256": sha256(content), "licence": "CC0-1.0", "origin": "here", "note": ""}
        lines.append(toml(entry)[:-1] + f", sources = [{', '.join(map(toml, sources))}]}}")
        lines[-1] = f'"{name}.bin" = {lines[-1]}'
    return "\n".join(lines) + "\n"


def archive_table(file: Path) -> str:
    package, version = file.name.removesuffix(".tar.gz").split("-")[:2]
    data = file.read_bytes()
    described = {"package": package, "version": version, "file": file.name, "bytes": len(data), "sha256": sha256(data)}
    return f"[archives]\n{package} = {toml(described)}\n"


def make_wheel(folder: Path, one: bytes = ONE) -> Path:
    wheel = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("tiny/one.dat", one)
        out.writestr("tiny/two.dat", TWO)
        out.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny_weights\nVersion: 1.0\nRequires-Python: <3\n"
        )
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", "")
    return wheel


def make_sdist(folder: Path) -> Path:
    """An sdist that builds itself, so that pip needs nothing else from the index."""
    backend = """
import os
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    os.mkdir(os.path.join(directory, "tiny_source-1.0.dist-info"))
    with open(os.path.join(directory, "tiny_source-1.0.dist-info", "METADATA"), "w") as out:
        out.write("Metadata-Version: 2.1\\nName: tiny_source\\nVersion: 1.0\\n")
    return "tiny_source-1.0.dist-info"
"""
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    metadata = "Metadata-Version: 2.1\nName: tiny_source\nVersion: 1.0\n"
    files = {"pyproject.toml": project, "backend.py": backend, "PKG-INFO": metadata, "tiny/one.dat": ONE.decode()}
    with tarfile.open(folder / "tiny_source-1.0.tar.gz", "w:gz") as out:
        for name, text in files.items():
            info = tarfile.TarInfo(f"tiny_source-1.0/{name}")
            info.size = len(text)
            out.addfile(info, io.BytesIO(text.encode()))
    return folder / "tiny_source-1.0.tar.gz"


IN_WHEEL = {
    "one": (ONE, [{"archive": "tiny_weights", "member": "tiny/one.dat"}]),
    "two": (TWO, [{"archive": "tiny_weights", "member": "tiny/two.dat"}]),
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., WeightStore]:
    """A store with an empty cache and the registry given as text."""

    def make(registry: str, **settings: object) -> WeightStore:
        (tmp_path / "weights.toml").write_text(registry)
        return WeightStore(tmp_path / "cache", registry=tmp_path / "weights.toml", **settings)

    # The registry is read once per path, and pytest gives each test a path of its own.
    return make


@pytest.fixture
def wheel_store(index: Path, make_store: Callable[..., WeightStore]) -> WeightStore:
    return make_store(archive_table(make_wheel(index)) + tables(**IN_WHEEL))


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages`: path to (content type, body, length that it claims)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, tuple[str, bytes, int]] = {}
        self.asked: list[str] = []
        self.delay = 0.0  # seconds before each answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def serve(self, path: str, body: bytes, kind: str = "application/octet-stream", length: int | None = None) -> str:
        self.pages[path] = (kind, body, len(body) if length is None else length)
        return self.url + path


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        time.sleep(self.server.delay)
        if self.path not in self.server.pages:
            self.send_error(404)
            return
        kind, body, length = self.server.pages[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client had enough
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def from_urls(*urls: str) -> str:
    """A registry whose one.bin comes from these."""
    return tables(one=(ONE, [{"url": url} for url in urls]))


def complaint(store: WeightStore, name: str = "one.bin") -> str:
    """The one line that a failed fetch gives, after which nothing half-written may be there."""
    with pytest.raises(WeightsError) as error:
        store.path(name)
    message = str(error.value)
    assert message.startswith(name)
    assert "\n" not in message
    assert_cache_holds(store, set())
    return message


def assert_cache_holds(store: WeightStore, names: set[str]) -> None:
    found = {file.name for file in store.root.iterdir()} if store.root.is_dir() else set()
    assert found - {".lock"} == names


# --- From the package index ---------------------------------------------------------------------


def test_a_file_out_of_a_wheel(wheel_store: WeightStore) -> None:
    assert wheel_store.path("one.bin").read_bytes() == ONE
    assert wheel_store.path("one.bin") == wheel_store.root / "one.bin"


def test_one_download_fills_all_that_the_archive_holds(wheel_store: WeightStore) -> None:
    wheel_store.path("one.bin")
    assert_cache_holds(wheel_store, {"one.bin", "two.bin"})
    assert (wheel_store.root / "two.bin").read_bytes() == TWO


def test_a_file_out_of_an_sdist(index: Path, make_store: Callable[..., WeightStore]) -> None:
    source = {"archive": "tiny_source", "member": "tiny_source-1.0/tiny/one.dat"}
    store = make_store(archive_table(make_sdist(index)) + tables(one=(ONE, [source])))
    assert store.path("one.bin").read_bytes() == ONE
    assert_cache_holds(store, {"one.bin"})


def test_fetch_gives_the_paths_in_order(wheel_store: WeightStore) -> None:
    assert [path.name for path in wheel_store.fetch(["two.bin", "one.bin"])] == ["two.bin", "one.bin"]


def test_a_cached_file_needs_no_index_and_no_right_to_write(wheel_store: WeightStore, index: Path) -> None:
    wheel_store.path("one.bin")
    next(index.iterdir()).unlink()
    (wheel_store.root / ".lock").unlink()
    assert wheel_store.path("one.bin").read_bytes() == ONE
    assert not (wheel_store.root / ".lock").exists()


def test_pips_settings_for_installing_do_not_matter(wheel_store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.setattr(sys, "executable", getattr(sys, "_base_executable", sys.executable))
    try:
        subprocess.run([sys.executable, "-m", "pip", "--version"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("the base Python has no pip")
    assert wheel_store.path("one.bin").read_bytes() == ONE


def test_a_pip_module_in_the_users_folder_is_not_run(
    wheel_store: WeightStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert wheel_store.path("one.bin").read_bytes() == ONE


def test_the_cache_may_be_given_relative_to_the_current_folder(
    wheel_store: WeightStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = WeightStore(Path("here/weights"), registry=wheel_store.registry)
    assert store.path("one.bin").read_bytes() == ONE
    assert (tmp_path / "here" / "weights" / "one.bin").is_file()


def test_progress_ends_with_the_whole_archive(index: Path, make_store: Callable[..., WeightStore]) -> None:
    wheel, calls = make_wheel(index), []
    store = make_store(archive_table(wheel) + tables(**IN_WHEEL), on_progress=lambda *call: calls.append(call))
    store.path("one.bin")
    size = wheel.stat().st_size
    assert calls[-1] == ("one.bin", size, size)
    assert all(name == "one.bin" and done <= total == size for name, done, total in calls)


def test_another_file_on_the_index_is_refused(index: Path, make_store: Callable[..., WeightStore]) -> None:
    registry = archive_table(make_wheel(index)) + tables(**IN_WHEEL)
    make_wheel(index, one=b"something else")
    message = complaint(make_store(registry))
    assert "tiny_weights 1.0 from the package index: wrong sha256" in message
    assert sha256(ONE) in message  # so that it can be put there by hand


def test_another_file_in_the_archive_is_refused(index: Path, make_store: Callable[..., WeightStore]) -> None:
    wheel = make_wheel(index, one=b"1" * len(ONE))
    assert "wrong sha256" in complaint(make_store(archive_table(wheel) + tables(one=IN_WHEEL["one"])))


def test_a_member_that_is_not_there(index: Path, make_store: Callable[..., WeightStore]) -> None:
    source = {"archive": "tiny_weights", "member": "tiny/three.dat"}
    store = make_store(archive_table(make_wheel(index)) + tables(one=(ONE, [source])))
    assert "holds no tiny/three.dat" in complaint(store)


def test_the_index_has_no_such_package(wheel_store: WeightStore, index: Path) -> None:
    next(index.iterdir()).unlink()
    assert "No matching distribution" in complaint(wheel_store)


def test_no_network(wheel_store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "no connection to the package index" in complaint(wheel_store)


def test_no_pip(wheel_store: WeightStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    message = complaint(wheel_store)
    assert f"{python} has no pip" in message
    assert "ensurepip" in message


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for Python is a shell script")
def test_disk_full_while_pip_downloads(
    wheel_store: WeightStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho 'ERROR: Could not install due to an OSError: [Errno 28] No space left on device'\nexit 1"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    message = complaint(wheel_store)
    assert f"the disk is full at {wheel_store.root}" in message
    assert "REENACT_WEIGHTS" in message


def test_disk_full_while_unpacking(wheel_store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert f"the disk is full at {wheel_store.root}" in complaint(wheel_store)


def test_a_cache_that_can_not_be_made(make_store: Callable[..., WeightStore], tmp_path: Path) -> None:
    store = make_store(from_urls("http://127.0.0.1:9/one"))
    (tmp_path / "cache").touch()  # a file where the folder should be
    message = complaint(store)
    assert f"can't be stored in {store.root}" in message
    assert "REENACT_WEIGHTS" in message


def test_an_interrupted_fetch_leaves_nothing(index: Path, make_store: Callable[..., WeightStore]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    store = make_store(archive_table(make_wheel(index)) + tables(**IN_WHEEL), on_progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.path("one.bin")
    assert_cache_holds(store, set())


def test_what_a_killed_process_left_is_cleared_away(wheel_store: WeightStore) -> None:
    (wheel_store.root / ".fetch-killed").mkdir(parents=True)
    (wheel_store.root / ".fetch-killed" / "half.whl").write_bytes(ONE)
    wheel_store.path("one.bin")
    assert_cache_holds(wheel_store, {"one.bin", "two.bin"})


# --- From a URL ---------------------------------------------------------------------------------


def test_a_file_from_a_url(server: Server, make_store: Callable[..., WeightStore]) -> None:
    calls: list[tuple[str, int, int]] = []
    store = make_store(from_urls(server.serve("/one", ONE)), on_progress=lambda *call: calls.append(call))
    assert store.path("one.bin").read_bytes() == ONE
    assert calls[-1] == ("one.bin", len(ONE), len(ONE))


def test_a_web_page_instead_of_the_file(server: Server, make_store: Callable[..., WeightStore]) -> None:
    by_type = server.serve("/quota", b"Quota exceeded", kind="text/html; charset=utf-8")
    by_content = server.serve("/login", b"\n <!DOCTYPE html><html>Please log in</html>")
    message = complaint(make_store(from_urls(by_type, by_content)))
    assert message.count("a web page came instead of the file") == 2


def test_wrong_content(server: Server, make_store: Callable[..., WeightStore]) -> None:
    url = server.serve("/one", b"x" * len(ONE))
    assert f"{url}: wrong sha256" in complaint(make_store(from_urls(url)))


def test_a_connection_that_breaks(server: Server, make_store: Callable[..., WeightStore]) -> None:
    url = server.serve("/one", ONE[:100], length=len(ONE))
    assert "100 bytes instead of 3,000" in complaint(make_store(from_urls(url)))


def test_an_endless_answer_is_cut_short(server: Server, make_store: Callable[..., WeightStore]) -> None:
    url = server.serve("/one", ONE * 10_000)
    assert "more than the 3,000 bytes" in complaint(make_store(from_urls(url)))


def test_every_failed_source_says_why(server: Server, make_store: Callable[..., WeightStore]) -> None:
    gone, nobody = server.url + "/gone", "http://127.0.0.1:9/one"
    message = complaint(make_store(from_urls(gone, nobody)))
    assert f"{gone}: HTTP 404" in message
    assert f"{nobody}: no connection" in message
    assert str(make_store(from_urls(gone)).root / "one.bin") in message


def test_sources_are_tried_in_order_until_one_gives_the_file(
    server: Server, index: Path, make_store: Callable[..., WeightStore]
) -> None:
    wheel = make_wheel(index)
    sources = [
        {"url": server.url + "/gone"},
        {"archive": "tiny_weights", "member": "tiny/one.dat"},
        {"url": server.serve("/one", ONE)},
    ]
    store = make_store(archive_table(wheel) + tables(one=(ONE, sources)))
    assert store.path("one.bin").read_bytes() == ONE
    assert server.asked == ["/gone"]


# --- The cache ----------------------------------------------------------------------------------


def test_offline_and_missing(server: Server, make_store: Callable[..., WeightStore]) -> None:
    message = complaint(make_store(from_urls(server.serve("/one", ONE)), offline=True))
    assert "not fetched" in message
    assert "offline" in message
    assert not server.asked


def test_offline_and_cached(server: Server, make_store: Callable[..., WeightStore]) -> None:
    registry = from_urls(server.serve("/one", ONE))
    make_store(registry).path("one.bin")
    assert make_store(registry, offline=True).path("one.bin").read_bytes() == ONE


@pytest.mark.parametrize("damage", [ONE[:-1], b"x" * len(ONE), b""])
def test_a_damaged_file_is_fetched_again_with_a_warning(
    server: Server, make_store: Callable[..., WeightStore], damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(from_urls(server.serve("/one", ONE)))
    store.path("one.bin").write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert store.path("one.bin").read_bytes() == ONE
    assert "one.bin" in caplog.text
    assert len(server.asked) == 2


def test_a_damaged_file_offline_is_left_and_reported(server: Server, make_store: Callable[..., WeightStore]) -> None:
    registry = from_urls(server.serve("/one", ONE))
    make_store(registry).path("one.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match="1 bytes instead of 3,000"):
        make_store(registry, offline=True).path("one.bin")


def test_verify_says_what_is_wrong(server: Server, make_store: Callable[..., WeightStore]) -> None:
    store = make_store(from_urls(server.serve("/one", ONE)))
    (weight,) = entries(store.registry)
    assert store.verify("one.bin") == "not fetched"
    assert not weight.is_cached(store)
    file = store.path("one.bin")
    assert store.verify("one.bin") is None
    assert weight.is_cached(store)
    file.write_bytes(b"x" * len(ONE))
    assert "wrong sha256" in (store.verify("one.bin") or "")
    assert not weight.is_cached(store)


def test_an_unknown_name_lists_the_known(wheel_store: WeightStore) -> None:
    for use in (wheel_store.path, wheel_store.verify):
        with pytest.raises(UsageError, match=r"'three.bin'; there are: one\.bin, two\.bin"):
            use("three.bin")


def _fetch_in_another_process(root: Path, registry: Path) -> bytes:
    return WeightStore(root, registry=registry).path("one.bin").read_bytes()


def test_two_processes_at_once_download_once(
    server: Server, index: Path, make_store: Callable[..., WeightStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(index)
    store = make_store(archive_table(wheel) + tables(**IN_WHEEL))
    link = f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()
    server.serve("/simple/tiny-weights/", link, kind="text/html")
    server.serve(f"/{wheel.name}", wheel.read_bytes())
    server.delay = 0.5  # long enough for the second to arrive
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(_fetch_in_another_process, store.root, store.registry) for _ in range(2)]
        assert [run.result(timeout=60) for run in runs] == [ONE, ONE]
    assert server.asked.count(f"/{wheel.name}") == 1
    assert_cache_holds(store, {"one.bin", "two.bin"})


def test_two_threads_at_once_download_once(server: Server, make_store: Callable[..., WeightStore]) -> None:
    store = make_store(from_urls(server.serve("/one", ONE)))
    server.delay = 0.3
    threads = [threading.Thread(target=store.path, args=["one.bin"]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == ["/one"]


# --- Places -------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REENACT_WEIGHTS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", ".cache/reenact"),
        ("darwin", "Library/Caches/reenact"),
        ("win32", "AppData/Local/reenact"),
    ],
)
def test_the_cache_is_where_the_platform_has_caches(
    home: Path, monkeypatch: pytest.MonkeyPatch, platform: str, folder: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert default_root() == home / folder


@pytest.mark.parametrize(("platform", "variable"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")])
def test_the_platforms_variable_moves_the_cache(
    home: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    assert default_root() == home / "elsewhere" / "reenact"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_reenact_weights_overrides_the_platform(home: Path, monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("REENACT_WEIGHTS", str(home / "mine"))
    assert default_root() == home / "mine"


def test_shipped_files_are_found_in_the_wheel_first_then_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "reenact" / "weights.py"))
    installed, checkout = tmp_path / "reenact" / "shipped" / "heads", tmp_path / "weights" / "heads"
    with pytest.raises(WeightsError, match=r"heads is not in .*reinstall"):
        shipped("heads")
    for file in (checkout, installed):
        file.parent.mkdir(parents=True)
        file.touch()
        assert shipped("heads") == file


def test_what_is_learnt_for_a_generator_must_be_there_and_others_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("encoder", "mapper"):
        assert shipped_for("mobile", kind) == shipped(f"mobile_{kind}.safetensors")
        assert shipped_for("stylegan2", kind) is None
        assert shipped_for("me/mobile.safetensors", kind) is None
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "reenact" / "weights.py"))
    with pytest.raises(WeightsError, match=r"mobile_mapper.safetensors is not in .*reinstall"):
        shipped_for("mobile", "mapper")


def test_all_that_is_shipped_is_what_would_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "reenact" / "weights.py"))
    for path in ("weights/a.safetensors", "weights/b.safetensors", "reenact/shipped/b.safetensors"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "weights" / "a.md").touch()
    assert all_shipped() == {name: shipped(name) for name in ("a.safetensors", "b.safetensors")}


# --- What the project ships ---------------------------------------------------------------------


def test_the_packaged_registry_says_everything_of_every_file() -> None:
    assert len(entries()) == len({weight.name for weight in entries()}) == 19
    for weight in entries():
        assert weight.sources
        assert weight.licence
        assert weight.note
        assert weight.origin.startswith("https://")
        for sha256 in (weight.sha256, weight.recorded):
            assert sha256 is None or len(bytes.fromhex(sha256)) == 32


def test_what_is_needed_is_known_for_certain() -> None:
    for weight in entries():
        if not weight.optional:
            assert weight.bytes
            assert weight.sha256
            assert not weight.terms


def test_every_stylegan_wants_its_licence_accepted() -> None:
    for weight in entries():
        if weight.name.startswith("stylegan"):
            assert weight.optional
            assert "non-commercial" in weight.licence
            assert weight.terms.startswith("https://")


def test_licences_name_every_file_and_what_forbids_commercial_use() -> None:
    text = "\n".join(licences())
    assert all(weight.name in text for weight in entries())
    (generator,) = (line for line in licences() if "mobilestylegan" in line)
    assert "Apache-2.0" in generator
    assert "non-commercial" in generator


@pytest.mark.pretrained
@pytest.mark.parametrize("name", [weight.name for weight in entries() if not weight.optional])
def test_the_packaged_registry_can_be_fetched(store: WeightStore, name: str) -> None:
    assert store.path(name).stat().st_size == store.weight(name).bytes
    assert store.verify(name) is None
