"""The tool that damages inputs: that whole ones pass, that it finds what it looks for, and some cases of it."""

import os
import subprocess
import sys

import numpy as np
import pytest
from programs import FOLDER, loaded

TOOL = FOLDER / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    with loaded("fuzz") as module:
        yield module


@pytest.fixture(scope="module")
def seeds(fuzz, tmp_path_factory):
    os.environ.setdefault("SVT_LOG", "1")
    return fuzz.make_seeds(tmp_path_factory.mktemp("seeds"))


def test_whole_files_are_not_refused(fuzz, seeds, tmp_path, monkeypatch):
    monkeypatch.setattr("reenact.pipeline.reenact", fuzz.stand_in)
    for kind in ("video", "picture", "template"):
        for number, seed in enumerate(seeds[kind]):
            folder = tmp_path / f"{kind}-{number}"
            folder.mkdir()
            (folder / seed.name).write_bytes(seed.data)
            ended = fuzz._command(kind, folder / seed.name, np.random.default_rng(0), seeds, folder)
            assert ended == "ok", seed.name


def test_a_hundred_damaged_files():
    command = [sys.executable, str(TOOL), "--cases", "120"]  # .ci/run does more
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "120 cases: " in done.stdout
    assert " refused" in done.stdout


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("raise ZeroDivisionError", "ZeroDivisionError"),
        ("import os; os._exit(3)", "ended its process"),
        ("import time; time.sleep(60)", "took longer than"),
        ("_ = bytearray(b'x') * 1024**3 * 1", "GB of memory"),
        ("open('outside', 'w').close()", "written outside its folder"),
        ("import sys; print('odd', file=sys.stderr)", "isn't the command's"),
    ],
)
def test_it_finds_what_it_looks_for(tmp_path, fault, why):
    script = tmp_path / "faulty.py"
    text = f"""
import sys
sys.path.insert(0, {str(TOOL.parent)!r})
import fuzz
def stand_in(*words):
    {fault}
    yield from ()
fuzz.stand_in = stand_in
fuzz.SECONDS = {4.0 if "sleep" in fault else 60.0}  # a busy machine takes its time to hand out a gigabyte
fuzz.BYTES = 1024**3
if __name__ == "__main__":
    sys.argv = ["fuzz", "--only", "4"]
    sys.exit(fuzz.main())
"""
    script.write_text(text)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert why in done.stdout
    assert "1 failed" in done.stdout
