"""Lists of what a benchmark reenacts, as TOML or CSV.

    [[pair]]                      name,kind,target,driver,truth
    target = "faces/anna.jpg"     ,,faces/anna.jpg,clips/ben.mp4,
    driver = "clips/ben.mp4"      ,self,,clips/ben.mp4,

    [[pair]]
    kind = "self"
    driver = "clips/ben.mp4"

Of kind "cross", which is meant where none is given, `truth` may say what the result should be, frame by frame. Of kind
"self" the driver's first frame is the target, and the driver the truth. Paths are relative to the list.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = ("cross", "self")
FIELDS = ("name", "kind", "target", "driver", "truth")
_ROLES = ("target", "driver", "truth")
_EXAMPLE = '[[pair]] target = "a.jpg" driver = "b.mp4", or [[pair]] kind = "self" driver = "b.mp4"'


@dataclass(frozen=True)
class Pair:
    """What one result is made from."""

    name: str  # of its folder and in tables; no two are alike
    kind: str  # of `KINDS`
    driver: Path
    target: Path | None = None  # None: the driver's first frame
    truth: Path | None = None  # None: the driver itself where the kind is "self", else there is none


def read_manifest(path: Path) -> tuple[Pair, ...]:
    """The pairs of a list, in its order; all of their files exist.

    Raises:
        UsageError: no such list, or one that can't be read, is empty, has a field that is none of `FIELDS`, a pair
            without what its kind needs, a file that is missing, or two pairs of one name.
    """
    readers = {".toml": _toml_rows, ".csv": _csv_rows}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: a list of pairs is a {' or '.join(readers)} file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: can't be read as text ({error})") from error
    rows = readers[path.suffix.lower()](path, text)
    if not rows:
        raise UsageError(f"{path}: lists no pair; write {_EXAMPLE}")
    pairs = tuple(_pair(f"{path}: pair {number}", path.parent, row) for number, row in enumerate(rows, 1))
    _check_names(path, pairs)
    return pairs


def _toml_rows(path: Path, text: str) -> list[dict[str, str]]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: is no TOML ({error})") from error
    rows = content.pop("pair", [])
    if content or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: expected nothing but [[pair]] tables; write {_EXAMPLE}")
    for number, row in enumerate(rows, 1):
        for field, value in row.items():
            if not isinstance(value, str):
                raise UsageError(f"{path}: pair {number}: {field} = {value!r}; expected a text in quotes")
    return rows


def _csv_rows(path: Path, text: str) -> list[dict[str, str]]:
    lines = [line for line in csv.reader(text.splitlines()) if any(cell.strip() for cell in line)]
    if not lines:
        return []
    head, rows = [cell.strip() for cell in lines[0]], lines[1:]
    if "driver" not in head:
        raise UsageError(f"{path}: its first line names no column driver; expected some of {','.join(FIELDS)}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise UsageError(f"{path}: pair {number}: {len(row)} cells; the first line names {len(head)} columns")
    filled = [{name: cell.strip() for name, cell in zip(head, row, strict=True)} for row in rows]
    return [{name: cell for name, cell in row.items() if cell} for row in filled]


def _pair(where: str, folder: Path, row: dict[str, str]) -> Pair:
    """One pair, checked."""
    if unknown := row.keys() - set(FIELDS):
        raise UsageError(f"{where}: has a field {min(unknown)!r}; known are {', '.join(FIELDS)}")
    kind = row.get("kind", "cross")
    if kind not in KINDS:
        raise UsageError(f"{where}: kind {kind!r}; expected {' or '.join(KINDS)}")
    _check_roles(where, kind, row)
    files = {role: folder / row[role] for role in _ROLES if role in row}
    for role, file in files.items():
        if not file.is_file():
            raise UsageError(f"{where}: {role} {file}: no such file")
    pair = Pair(row.get("name", _name_of(files)), kind, **files)
    # It becomes a folder.
    if pair.name.startswith(".") or set(pair.name) & set('/\\:*?"<>|\0'):
        raise UsageError(f"{where}: name {pair.name!r}: can't be a folder's; use letters, digits, - and _")
    return pair


def _check_roles(where: str, kind: str, row: dict[str, str]) -> None:
    needed, barred = (("target", "driver"), ()) if kind == "cross" else (("driver",), ("target", "truth"))
    for role in needed:
        if role not in row:
            raise UsageError(f"{where}: has no {role}; one of kind {kind} needs {' and '.join(needed)}")
    for role in barred:
        if role in row:
            raise UsageError(f"{where}: is of kind self, whose {role} is the driver's own; leave {role} out")


def _name_of(files: dict[str, Path]) -> str:
    return "-".join(files[role].stem for role in ("target", "driver") if role in files)


def _check_names(path: Path, pairs: Sequence[Pair]) -> None:
    # By what a file system that ignores case makes of them.
    counts = Counter(pair.name.casefold() for pair in pairs)
    for pair in pairs:
        if counts[pair.name.casefold()] > 1:
            raise UsageError(f"{path}: two pairs are called {pair.name!r}; give each a name of its own")
