"""How files come: from the package index through pip, and from web servers, where a large one can go on later.

What goes wrong at a source is a `SourceError`, so that the next one can be tried.
"""

from __future__ import annotations

import errno
import http.client
import os
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20
_URL_TIMEOUT = 30.0  # seconds without a byte


class SourceError(Exception):
    """Why one source did not give the file; the next one is tried."""


@dataclass(frozen=True)
class Archive:
    """A wheel or an sdist on the package index."""

    package: str
    version: str
    file: str
    bytes: int
    sha256: str


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """What is left of a stream, a megabyte at a time."""
    while chunk := stream.read(_CHUNK):
        yield chunk


# --- The package index --------------------------------------------------------------------------


@contextmanager
def pip_download(archive: Archive, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running `pip download` into folder/archive, logging to folder/pip.log; killed on the way out."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    # With a hash demanded, an sdist's setup.py (which pip runs) is the one that was looked at.
    form = "--only-binary" if archive.file.endswith(".whl") else "--no-binary"
    options = ["--no-deps", "--require-hashes", form, archive.package, "--ignore-requires-python", "--no-cache-dir"]
    with (folder / "pip.log").open("wb") as log:
        pip = subprocess.Popen(
            [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements), "-d", str(folder / "archive")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_pip_environment(folder),
            cwd=folder,  # `-m` would import a pip.py of the user's folder
        )
        try:
            yield pip
        finally:
            pip.kill()
            pip.wait()


def _pip_environment(folder: Path) -> dict[str, str]:
    """The user's environment and settings of pip, less what is in the way of a download."""
    patience = {"PIP_RETRIES": "2"}  # unless the user says otherwise; pip's own 5 keep one without network waiting
    fixed = {
        "PIP_REQUIRE_VIRTUALENV": "0",  # nothing is installed
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_NO_COLOR": "1",
        "PIP_PROGRESS_BAR": "off",
        "PYTHONUTF8": "1",
    }
    # pip unpacks into its temporary folder: on the cache's disk, and where progress can be seen.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    return {**patience, **os.environ, **fixed, **temporary}


def size_so_far(folder: Path, name: str) -> int:
    """Bytes of the download `name`, wherever in `folder` pip has it just now."""
    try:
        return max((file.stat().st_size for file in folder.glob(f"*/{name}")), default=0)
    except FileNotFoundError:  # moved in between
        return 0


def pip_reason(log: str) -> str:
    """One line out of what a failed pip wrote. A full disk is no reason to try elsewhere: OSError."""
    if f"[Errno {errno.ENOSPC}]" in log:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in log:
        return f"{sys.executable} has no pip (`python -m ensurepip` or `uv pip install pip` installs it)"
    if "DO NOT MATCH THE HASHES" in log:
        return "wrong sha256: the index holds another file"
    if "connection broken by" in log:
        return "no connection to the package index"
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    return (errors or log.splitlines() or ["pip failed without a word"])[-1]


def members(file: Path, names: set[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Those of `names` that a wheel or a .tar.gz holds, each with an open stream."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            for name in names.intersection(wheel.namelist()):
                with wheel.open(name) as stream:
                    yield name, stream
    else:
        with tarfile.open(file, "r:gz") as sdist:
            for info in sdist:
                if info.name in names and (member := sdist.extractfile(info)):
                    yield info.name, member


# --- The web ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    """An answer under way."""

    start: int  # where in the file it begins: 0, or where it was asked to go on
    total: int | None  # bytes of the whole file, where the server tells
    tag: str  # what this version of the file is called, to go on with the same one; "" where the server doesn't tell
    chunks: Iterator[bytes]


@contextmanager
def open_url(url: str, start: int = 0, tag: str = "") -> Iterator[Body]:
    """The file at an address, from `start` on if it is still the version called `tag`, else from its beginning."""
    with _as_source_errors():
        answer = _answer(url, start, tag)
    with answer:
        begins = start if answer.status == http.client.PARTIAL_CONTENT else 0
        with _as_source_errors():
            first = answer.read(_CHUNK)
        if answer.headers.get_content_type() == "text/html" or (not begins and _is_markup(first)):
            raise SourceError("a web page came instead of the file")
        length = answer.headers.get("Content-Length", "")
        total = begins + int(length) if length.isdecimal() else None
        yield Body(begins, total, _strong(answer.headers.get("ETag", "")), _read(first, answer))


def _answer(url: str, start: int, tag: str) -> http.client.HTTPResponse:
    headers = {"User-Agent": "reenact"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": tag} if tag else {})
    try:
        found: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_URL_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # there is no more than we have
            return _answer(url, 0, "")
        raise
    return found


def _read(first: bytes, answer: IO[bytes]) -> Iterator[bytes]:
    yield first
    with _as_source_errors():
        yield from chunks(answer)


def _strong(tag: str) -> str:
    return "" if tag.startswith("W/") else tag  # a weak one does not promise the same bytes


@contextmanager
def _as_source_errors() -> Iterator[None]:
    """Whatever the network does wrong."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise SourceError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise SourceError(f"no connection ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"the connection broke ({error})") from error


def _is_markup(start: bytes) -> bool:
    """Whether a body is a web page; XML files are left to their hash."""
    return start.lstrip()[:1] == b"<" and not start.lstrip().startswith(b"<?xml")
