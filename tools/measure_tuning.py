"""What does --tune bring, on photos of yours?

    python tools/measure_tuning.py OUT_DIR me.jpg other.png --driver smile.jpg

For each target: how near the drawn face g(s1) is to the photo's crop, before and after the generator is tuned (ST-LPIPS
by VGG-16, PSNR inside the face, identity distance by dlib's ResNet), how near the person is who makes the driver's
expression by `--fuse splice`, and the seconds from the search's first step to tuning's last. A line each; the pictures
are kept in OUT_DIR.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from reenact.evaluate import evaluate
from reenact.fuse import FuseOptions
from reenact.images import read_image, write_image
from reenact.pipeline import PRESETS, Hooks, Options, reenact
from reenact.types import Rgb

SHOWN = 512  # pixels of the drawn faces
NAMES = ("st-lpips-vgg", "psnr-face", "identity-target")


def main() -> None:
    """Measure each target, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("targets", type=Path, nargs="+")
    parser.add_argument("--driver", type=Path, required=True, help="a picture of an expression")
    parser.add_argument("--preset", choices=PRESETS, default="fast")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print("target: ST-LPIPS, face PSNR, identity of g(s1), untuned -> tuned; identity with the expression; seconds")
    for target in args.targets:
        seconds, shown = _run(target, args.driver, PRESETS[args.preset], args.out)
        crop, before, after = (shown[stage] for stage in ("target crop", "reconstruction", "tuned"))
        near = " -> ".join(", ".join(f"{value:.3g}" for value in _nearness(crop, each)) for each in (before, after))
        smiling = " -> ".join(f"{_person(target, path):.3f}" for path in (shown["untuned result"], shown["result"]))
        print(f"{target.stem}: {near}; {smiling}; {seconds:.0f}", flush=True)


def _run(target: Path, driver: Path, preset: Options, out: Path) -> tuple[float, dict[str, Path]]:
    """Seconds of finding the target and tuning to it; the pictures by stage."""
    shown: dict[str, Path] = {}
    ends: list[float] = []  # of the steps

    def keep(stage: str, rgb: Rgb) -> None:
        shown[stage] = out / f"{target.stem}-{stage.replace(' ', '-')}.png"
        write_image(shown[stage], rgb)

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage == "invert" and done == 1:
            ends.clear()  # the last run's
        if stage in ("invert", "tune"):
            ends.append(time.perf_counter())

    for tune in (False, True):
        options = replace(preset, fuse=FuseOptions(method="splice", layers="expression"), tune=tune, size=SHOWN)
        hooks = Hooks(progress=progress, picture=lambda stage, index, rgb: keep(stage, rgb))
        for frame in reenact(target, driver, options, hooks=hooks):
            keep("result" if tune else "untuned result", frame.rgb)
    return ends[-1] - ends[0] + (ends[1] - ends[0]), shown  # the first step took as long as the second


def _nearness(crop: Path, drawn: Path) -> list[float]:
    # The crop is as large as the generator's pictures; what was drawn may be smaller.
    truth = _shrunk(crop)
    found = evaluate(drawn, truth, truth, truth, metrics=("st-lpips", "pixels", "identity"))
    scores = {score.name: score.value for score in found.scores}
    return [float("nan") if (value := scores[name]) is None else value for name in NAMES]


def _shrunk(crop: Path) -> Path:
    small = crop.with_name(f"{crop.stem}-{SHOWN}.png")
    rgb = cv2.resize(read_image(crop), (SHOWN, SHOWN), interpolation=cv2.INTER_AREA)
    write_image(small, np.asarray(rgb, np.uint8))
    return small


def _person(target: Path, result: Path) -> float:
    found = evaluate(result, target, target, metrics=("identity",))
    value = next(score.value for score in found.scores if score.name == "identity-target")
    return float("nan") if value is None else value


if __name__ == "__main__":
    main()
