"""The wheel, installed without the checkout around it, is all that is needed."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

ROOT = Path(__file__).parents[2]


def run(*words, cwd, **env):
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory):
    """Where the commands of a virtual environment lie that has the wheel in it, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    run(sys.executable, "-m", "pip", "--python", folder, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(
        run(commands / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # Added this way they come last, and a checkout that is installed here to be edited isn't seen: that is a .pth
    # file itself, and those are read in the environment's own folder only.
    (site / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    return commands


def test_the_wheel_holds_the_package_its_weights_and_its_licence(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(file.relative_to(ROOT).as_posix()) for file in (ROOT / "reenact").rglob("*.py")}
    trained = {f"reenact/shipped/{file.name}" for file in (ROOT / "weights").iterdir()}
    assert sources | trained | {"reenact/weights.toml"} <= names
    assert "reenact/shipped/mobile_heads.safetensors" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests", "samples", "tools")) for name in names)


def test_the_installed_command_knows_its_version(wheel, commands, tmp_path):
    version = wheel.name.split("-")[1]
    assert run(commands / "reenact", "--version", cwd=tmp_path) == f"reenact {version}\n"


def test_the_weights_that_are_used_are_the_installed_ones(commands, tmp_path):
    code = "from reenact.weights import shipped; print(shipped('mobile_heads.safetensors'))"
    path = Path(run(commands / "python", "-c", code, cwd=tmp_path).strip())
    assert path.is_relative_to(commands.parent)


@pytest.mark.pretrained
def test_it_runs(commands, store, tmp_path):
    # A face from the checkout's tests; all else comes from the wheel.
    face = np.asarray(Image.open(ROOT / "tests" / "data" / "face.png").convert("RGB"))
    Image.fromarray(face).save(tmp_path / "target.png")
    make_clip(tmp_path / "driver.mp4", (0,), size=face.shape[1::-1], picture=lambda *_: face)
    quick = [
        "--preset",
        "fast",
        "--size",
        "128",
        "--steps",
        "2",
        "--fuse",
        "splice",
        "--layers",
        "4",
        "--driver-steps",
        "1",
    ]
    run(commands / "reenact", "target.png", "driver.mp4", "-o", "out.mp4", *quick, cwd=tmp_path)
    assert (tmp_path / "out.mp4").stat().st_size > 1000
