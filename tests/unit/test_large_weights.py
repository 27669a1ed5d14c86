"""Weight files that are fetched by name only: large ones go on where they broke, some want their licence accepted."""

import contextlib
import hashlib
import http.server
import json
import logging
import threading

import pytest

from reenact import weights
from reenact.cli import main
from reenact.console import Console
from reenact.errors import UsageError, WeightsError
from reenact.weights import WeightStore

DATA = bytes(range(256)) * 40_000  # ten megabytes
TERMS = "https://example.org/terms"


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, parts of it too; breaks off after `breaks` bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.tag, self.breaks, self.knows_ranges, self.kind = DATA, '"one"', None, True, "application/x"
        self.asked = []  # from where each answer began
        self.sent_ranges = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        s = self.server
        wanted, unless = self.headers.get("Range"), self.headers.get("If-Range", s.tag)
        s.sent_ranges.append(wanted)
        start = int(wanted[6:-1]) if wanted and s.knows_ranges and unless == s.tag else 0
        s.asked.append(start)
        if start >= len(s.data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", s.kind)
        if s.tag:
            self.send_header("ETag", s.tag)
        self.send_header("Content-Length", str(len(s.data) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(s.data[start:][: s.breaks])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def make_store(tmp_path, server):
    def make(on_licence=None, on_progress=None, **more):
        about = {"optional": True, "licence": "L", "origin": "o", "note": "n", **more}
        lines = "".join(f"{k} = {json.dumps(v)}\n" for k, v in about.items())
        text = f'[weights."net.pkl"]\n{lines}sources = [{{ url = "{server.url}" }}]\n'
        registry = tmp_path / f"weights-{hashlib.sha256(text.encode()).hexdigest()[:8]}.toml"  # read once per path
        registry.write_text(text)
        return WeightStore(tmp_path / "cache", registry=registry, on_licence=on_licence, on_progress=on_progress)

    return make


def digest(data):
    return hashlib.sha256(data).hexdigest()


def names(store):
    return {file.name for file in store.root.iterdir()} - {".lock"}


# --- Going on -----------------------------------------------------------------------------------


def break_off(server, store, after=3_000_000):
    server.breaks = after
    with pytest.raises(WeightsError, match="the connection broke after 3,000,000 of 10,240,000 bytes; fetch again"):
        store.path("net.pkl")
    server.breaks = None
    assert names(store) == {"net.pkl.part", "net.pkl.part-of"}


def test_a_broken_download_goes_on(server, make_store):
    calls = []
    store = make_store(on_progress=lambda *call: calls.append(call))
    break_off(server, store)
    assert store.path("net.pkl").read_bytes() == DATA
    assert server.asked == [0, 3_000_000]
    assert names(store) == {"net.pkl", "net.pkl.sha256"}
    assert calls[-1] == ("net.pkl", len(DATA), len(DATA))


def test_a_download_that_was_whole_but_not_yet_in_its_place(server, make_store):
    store = make_store()
    break_off(server, store)
    (store.root / "net.pkl.part").write_bytes(DATA)
    assert store.path("net.pkl").read_bytes() == DATA
    assert names(store) == {"net.pkl", "net.pkl.sha256"}


def test_another_version_begins_anew(server, make_store):
    store = make_store()
    break_off(server, store)
    server.tag, server.data = '"two"', DATA[::-1]
    assert store.path("net.pkl").read_bytes() == DATA[::-1]
    assert server.asked == [0, 0]


def test_a_server_that_knows_no_parts(server, make_store):
    store, server.knows_ranges = make_store(), False
    break_off(server, store)
    assert store.path("net.pkl").read_bytes() == DATA
    assert server.sent_ranges == [None, "bytes=3000000-"]


def test_a_weak_tag_does_not_promise_the_same_bytes(server, make_store):
    server.tag = 'W/"one"'
    store = make_store()
    break_off(server, store)
    assert store.path("net.pkl").read_bytes() == DATA


def test_ctrl_c_keeps_what_came(server, make_store):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_store(on_progress=interrupt).path("net.pkl")
    assert make_store().path("net.pkl").read_bytes() == DATA
    assert len(server.asked) == 2
    assert server.asked[1] > 0


def test_what_came_wrong_is_not_gone_on_with(server, make_store):
    store = make_store(sha256=digest(DATA))
    server.data = DATA[::-1]
    with pytest.raises(WeightsError, match=f"wrong sha256.*put the file .sha256 {digest(DATA)}"):
        store.path("net.pkl")
    assert names(store) == set()


def test_a_web_page_instead(server, make_store):
    server.data, server.kind = b"<html>Google Drive - Quota exceeded</html>", "text/html"
    with pytest.raises(WeightsError, match="a web page came instead of the file"):
        make_store().path("net.pkl")


# --- Hashes of which nobody is sure --------------------------------------------------------------


def test_a_recorded_hash_is_told_not_held_to(server, make_store, caplog):
    with caplog.at_level(logging.WARNING):
        assert make_store(recorded=digest(DATA), bytes=3).path("net.pkl").read_bytes() == DATA
        assert not caplog.text
        (make_store().root / "net.pkl").unlink()
        assert make_store(recorded="0" * 64, bytes=3).path("net.pkl").read_bytes() == DATA
    assert f"its sha256 is {digest(DATA)}, not the {'0' * 64} that others recorded" in caplog.text


def test_a_file_is_held_to_what_first_came(server, make_store):
    store = make_store()
    file = store.path("net.pkl")
    assert store.verify("net.pkl") is None
    file.write_bytes(DATA[:-1] + b"x")
    assert "wrong sha256" in store.verify("net.pkl")
    assert store.path("net.pkl").read_bytes() == DATA


def test_a_file_put_there_by_hand_is_taken(server, make_store):
    store = make_store(recorded="0" * 64, terms=TERMS)
    store.root.mkdir()
    (store.root / "net.pkl").write_bytes(b"mine")
    assert store.path("net.pkl").read_bytes() == b"mine"
    assert server.asked == []


def test_the_suffix_may_be_left_out(server, make_store):
    assert make_store().path("net").name == "net.pkl"
    assert make_store().verify("net") is None
    with pytest.raises(UsageError, match=r"'ne'; there are: net\.pkl"):
        make_store().path("ne")


# --- Licences -----------------------------------------------------------------------------------


def test_a_licence_is_asked_for_once(server, make_store):
    asked = []

    def agree(weight):
        asked.append((weight.name, weight.licence, weight.terms))
        return True

    store = make_store(on_licence=agree, terms=TERMS)
    store.path("net.pkl").unlink()
    store.path("net.pkl")
    assert asked == [("net.pkl", "L", TERMS)]
    make_store(terms=TERMS).path("net.pkl")  # nobody need be there again
    (store.root / "net.pkl").unlink()
    with pytest.raises(WeightsError, match=r"its licence must be accepted first: L, https://example\.org/other"):
        make_store(terms="https://example.org/other").path("net.pkl")


@pytest.mark.parametrize("on_licence", [None, lambda weight: False])
def test_without_consent_nothing_is_fetched(server, make_store, on_licence):
    store = make_store(on_licence=on_licence, terms=TERMS)
    with pytest.raises(WeightsError, match=f"must be accepted first: L, {TERMS}; --accept-licence does"):
        store.path("net.pkl")
    assert server.asked == []
    assert not store.root.exists()


def test_the_command_shows_the_licence_and_takes_a_flag(server, make_store, monkeypatch, capsys):
    store = make_store(terms=TERMS)
    monkeypatch.setattr(weights, "default_root", lambda: store.root)
    monkeypatch.setattr(weights.WeightStore, "registry", store.registry)
    monkeypatch.setattr(weights.WeightStore.__init__, "__defaults__", (False, None, store.registry, None))
    monkeypatch.setattr(weights, "entries", lambda registry=store.registry, known=weights.entries: known(registry))
    monkeypatch.setattr("sys.stdin", None)
    assert main(["weights", "fetch", "net"]) == 1
    said = capsys.readouterr().err
    assert "net.pkl: L. n (o)" in said
    assert f"its licence: {TERMS}" in said
    assert "--accept-licence does" in said
    assert main(["weights", "fetch", "net", "--accept-licence"]) == 0
    assert capsys.readouterr().out.strip() == str(store.root / "net.pkl")
    assert main(["weights", "fetch"]) == 0  # optional ones are fetched by name only
    assert capsys.readouterr().out.strip() == ""


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("Yes", True), ("", False), ("no", False)])
def test_the_console_asks_where_somebody_is_there(make_store, monkeypatch, answer, agreed):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda *_: answer)
    assert Console().licence(make_store(terms=TERMS).weight("net.pkl")) is agreed
