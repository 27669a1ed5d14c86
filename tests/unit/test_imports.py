"""The house stands: imports point downward only, and the edge alone knows of terminals."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "reenact"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the roof down. What stands in none of these rows lies below them all.
ROOF = (
    "__main__", "cli", "commands", "filming", "console", "benchmark", "ablate", "baselines",
    "trace", "live", "pipeline", "splicing", "run", "report", "evaluate", "check",
)  # fmt: skip


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imported(file: Path) -> set[str]:
    """The full names of all that a file imports, its functions included, but for what only type checkers see."""
    name = module_name(file)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found = set[str]()
    for node in runtime_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            members = {f"{base}.{alias.name}" for alias in node.names}
            found |= {m if m in MODULES else base for m in members}
    return found


def runtime_nodes(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from runtime_nodes(child)


# The package itself hands out the pipeline lazily; that is no way down.
INNER = {name: (imported(file) & MODULES.keys()) - {"reenact", name} for name, file in MODULES.items()}
del INNER["reenact"]


def test_nothing_imports_what_imports_it():
    TopologicalSorter(INNER).prepare()  # raises CycleError, which names them


def test_imports_point_downward():
    for name, found in INNER.items():
        upward = {other for other in found if floor(other) < floor(name)}
        assert not upward, f"{name} imports upward: {upward}"


def floor(name: str) -> int:
    """How far below the roof a module lies."""
    row = name.split(".")[1]
    return ROOF.index(row) if row in ROOF else len(ROOF)


def test_only_the_edge_talks_to_the_terminal():
    users = {n for n, file in MODULES.items() if {i.split(".")[0] for i in imported(file)} & {"rich", "argparse"}}
    assert {name for name in users if not name.startswith("reenact.commands.")} == {"reenact.cli", "reenact.console"}


def test_plug_ins_are_found_by_name_and_imported_by_none():
    kinds = ("reenact.detectors.", "reenact.generators.", "reenact.metrics.")
    for name, found in INNER.items():
        strangers = {f for f in found if f.startswith(kinds) and f.rpartition(".")[0] != name.rpartition(".")[0]}
        assert not strangers, f"{name} names plug-ins: {strangers}"


def test_importing_the_package_does_not_load_torch():
    code = "import sys, reenact, reenact.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_the_package_hands_out_its_names():
    import reenact
    from reenact import pipeline

    assert all(getattr(reenact, name) is getattr(pipeline, name) for name in reenact.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        reenact.nonsense  # noqa: B018


def test_no_two_test_files_share_a_name():
    """pytest takes them for one module."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert len(names) == len(set(names))
