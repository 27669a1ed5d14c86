"""Make paired performers from the generator alone, for a table like the paper's first: who shows what is known.

    python tools/make_pairs.py OUT_DIR --pairs 8 --frames 40 --size 256

    OUT_DIR/pair0/   target.png  driver.mp4  truth.mp4
    OUT_DIR/         manifest.toml (for `reenact benchmark`)  pairs.json (how well the truths follow)

Two people of a pair, drawn from W, go through one track of expressions: the driver A, and B, whose
clip is the truth and whose first frame is the target. Each is to show its own rest and the track's change, so that
neither is favoured (the relative form of Siarohin et al., "First Order Motion Model", 2019, on blendshapes). They
are solved for by `solve.Solver` over every slot that shapes a face, so that the truth takes no side for fewer of
them: see `slots_of`. B is chosen to face another way than A, and is lit otherwise: see `lit`.

A clip that is there already is not made again; delete its folder to have it anew. Seconds are for the CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from make_samples import person
from torch import Tensor

from reenact.align import STEADY
from reenact.detectors import landmarker
from reenact.devices import quick_dtype
from reenact.evaluate import evaluate
from reenact.expression import NAMES, USED, Probe, goals, limited, of_track
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.files import write_text
from reenact.generators.mobile import NATIVE_SIZE, MobileGenerator, create
from reenact.images import to_rgb, write_image
from reenact.landmarks import track_face
from reenact.metrics._series import follows
from reenact.solve import SolveOptions, Solver
from reenact.types import FaceTrack, Floats, Frame, Rgb
from reenact.video import VideoWriter, read_frames
from reenact.weights import WeightStore, default_root

RATE, CRF = 25, 8

# Seeds of A and B: adults without glasses and nearly at rest, whose yaws differ by 16 to 26 degrees.
PEOPLE = ((25, 27), (76, 150), (17, 158), (88, 152), (93, 87), (46, 135), (105, 153), (133, 100))

# Keys enough for so regular a track, and all but the moving parts held twice as firmly: hair and pose may move too.
OPTIONS = SolveOptions(keys=12, sweeps=((16, 0.045, 128), (16, 0.02, 256)), ridge=0.012, steady=600.0, bent=False)
FINEST = 64  # pixels: slots beyond draw texture and colour; let loose they tint the skin and hold back the brows

# ---- The track ---------------------------------------------------------------------------------------------------

# By how much each expression changes the measure: blendshapes before their sigmoid and a fifth as large (from 0.05 to
# 0.7 is 0.76), distances in noses and eyes. NAME/ stands for NAMELeft and NAMERight, or "NAME left" and "NAME right".
EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {
        **{"mouthSmile/": 0.8, "mouthUpperUp/": 0.4, "mouthLowerDown/": 0.3, "mouth width": 0.17, "lips open": 0.14},
        **{"corner /": -0.12, "upper lip": -0.07},
    },
    "open": {
        **{"jawOpen": 0.75, "mouthLowerDown/": 0.4, "lips open": 0.45, "mouth dark": 0.2, "jaw": 0.36, "corner /": 0.1},
    },
    "blink": {
        **{"eyeBlink/": 0.75, "eyeSquint/": 0.15, "eyeLookDown/": 0.4, "lid /": -0.2},
    },
    "brows": {
        **{"browInnerUp": 0.7, "browOuterUp/": 0.6, "browDown/": -0.2, "brow /": 0.15},
    },
    "frown": {
        **{"browDown/": 0.6, "browInnerUp": -0.2, "brow /": -0.09, "eyeSquint/": 0.2},
    },
    "pucker": {
        **{"mouthPucker": 0.6, "mouthSmile/": -0.2, "mouth width": -0.18},
    },
    "aside": {
        **{"eyeLookOutLeft": 0.4, "eyeLookInRight": 0.4, "eyeLookInLeft": -0.3, "eyeLookOutRight": -0.3},
    },
}


def change_of(expression: str) -> Tensor:
    """What an expression of `EXPRESSIONS` adds to a face's own [M]."""
    change = torch.zeros(len(NAMES))
    for name, value in EXPRESSIONS[expression].items():
        for side in ("left", "right") if " /" in name else ("Left", "Right") if "/" in name else ("",):
            change[NAMES.index(name.replace("/", side))] = value
    return change


def order_of(pair: int) -> tuple[str, ...]:
    """In which order the pair's track has the expressions."""
    names = list(EXPRESSIONS)
    return tuple(names[i] for i in np.random.default_rng(pair).permutation(len(names)))


def track_of(pair: int, frames: int) -> Tensor:
    """The changes [frames,M] that both people of a pair go through: from rest through all expressions to rest.

    Evenly spaced keys, and half a cosine from each to the next, so that speed is nil at the keys.
    """
    rest = torch.zeros(len(NAMES))
    keys = torch.stack([rest, *(change_of(name) for name in order_of(pair)), rest])  # [K,M]
    position = torch.linspace(0, len(keys) - 1, frames)
    before = position.long().clamp(max=len(keys) - 2)
    share = (0.5 - 0.5 * torch.cos(math.pi * (position - before)))[:, None]
    return keys[before] * (1 - share) + keys[before + 1] * share


def goals_of(track: Tensor, rest: Tensor) -> Tensor:
    """What a person whose rest is [M] should show [T,M]; no distance becomes less than none."""
    wanted = goals(track, torch.zeros_like(rest), rest)
    return torch.cat([wanted[:, : len(USED)], wanted[:, len(USED) :].clamp(min=0)], 1)


# ---- The light ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Light:
    """A light from one side."""

    angle: float  # radians, where it is brightest: 0 is the right of the picture, a quarter turn its bottom
    stops: float  # between one side of the picture and the other
    gamma: float  # above 1 is darker


def light_of(pair: int) -> Light:
    """What B of a pair is lit with: from anywhere above, one side one to nearly two stops brighter than the other."""
    random = np.random.default_rng(1000 + pair)
    return Light(random.uniform(-math.pi, 0), random.uniform(1.0, 1.8), random.choice((0.85, 1.2)))


def lit(pictures: Tensor, light: Light | None) -> Tensor:
    """[...,S,S] in [-1,1] under a light that stays: a gain by place in linear light, and a gamma."""
    if light is None:
        return pictures
    axis = torch.linspace(-0.5, 0.5, pictures.shape[-1], device=pictures.device)
    along = axis * math.cos(light.angle) + axis[:, None] * math.sin(light.angle)  # [S,S]
    gain = torch.exp2(light.stops * along / 2.2)  # 2.2: about sRGB's own gamma
    return ((pictures * 0.5 + 0.5).clamp(0, 1) ** light.gamma * gain).clamp(0, 1) * 2 - 1


# ---- The clips ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Studio:
    """What draws and what measures."""

    store: WeightStore
    generator: MobileGenerator
    nets: FaceLandmarkerNets

    @classmethod
    def open(cls) -> Studio:
        """With the user's weights, on the CPU."""
        store = WeightStore(default_root())
        nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
        cpu = torch.device("cpu")
        return cls(store, create(store, cpu, quick_dtype(cpu)), nets)


def slots_of(generator: MobileGenerator) -> tuple[int, ...]:
    """The slots that may move: all that work at 4 pixels to `FINEST`."""
    resolutions = [2**n for n in range(2, FINEST.bit_length())]
    return tuple(slot for resolution in resolutions for slot in generator.layers_at(resolution))


def perform(studio: Studio, seed: int, track: Tensor, size: int, light: Light | None) -> Iterator[Rgb]:
    """The frames [size,size,3] of a person who goes through the track."""
    generator, w = studio.generator, person(studio.generator, seed)
    with torch.no_grad():
        probe = Probe(studio.nets, generator.synthesize(w[None], NATIVE_SIZE))
    solver = Solver(generator, probe, w, slots_of(generator), OPTIONS)
    goals = goals_of(track, solver.rest)
    started = time.perf_counter()
    response = solver.respond(goals)
    say(f"  seed {seed}: {len(response)} expressions in {time.perf_counter() - started:.0f} s")
    for goal in goals:
        yield draw(generator, solver.latent(response(goal)), size, light)


def draw(generator: MobileGenerator, w: Tensor, size: int, light: Light | None) -> Rgb:
    """The whole network's picture, shrunk by areas."""
    with torch.no_grad():
        picture = generator.synthesize(w[None], NATIVE_SIZE)[0]
    return to_rgb(lit(torch.nn.functional.adaptive_avg_pool2d(picture, size), light))


def make_clip(path: Path, frames: Iterator[Rgb], size: int) -> None:
    """Write the frames, unless they are there; a clip has its name only when it is whole."""
    if path.exists():
        return
    with VideoWriter(path, size, size, crf=CRF) as writer:
        for index, rgb in enumerate(frames):
            writer.write(Frame(rgb, index, index, index / RATE))


def make_pair(studio: Studio, pair: int, seeds: tuple[int, int], folder: Path, frames: int, size: int) -> None:
    """Target, driver and truth of a pair."""
    folder.mkdir(parents=True, exist_ok=True)
    (a, b), track, light = seeds, track_of(pair, frames), light_of(pair)
    target = draw(studio.generator, person(studio.generator, b), size, light)
    write_image(folder / "target.png", target)
    make_clip(folder / "driver.mp4", perform(studio, a, track, size, None), size)
    make_clip(folder / "truth.mp4", perform(studio, b, track, size, light), size)


def to_manifest(pairs: int) -> str:
    """The list for `reenact benchmark`, TOML; see `reenact.manifest`."""
    roles = {"target": "target.png", "driver": "driver.mp4", "truth": "truth.mp4"}
    tables = []
    for name in (f"pair{i}" for i in range(pairs)):
        files = [f'{role} = "{name}/{file}"' for role, file in roles.items()]
        tables.append("\n".join(["[[pair]]", f'name = "{name}"', 'kind = "cross"', *files]))
    return "\n\n".join(tables) + "\n"


# ---- How well they follow ----------------------------------------------------------------------------------------


def report_on(studio: Studio, pair: int, folder: Path, frames: int) -> dict[str, object]:
    """Numbers on a pair's clips: the truth against the driver as the benchmark has it, and each against the track."""
    paths = {role: folder / f"{role}.mp4" for role in ("driver", "truth")}
    result = evaluate(paths["truth"], paths["driver"], folder / "target.png", metrics=["expression", "identity"])
    values = {score.name: score.value for score in result.scores}
    kept = ("expression", "expression-r", "expression-gain", "identity-target", "csim-target")
    faces, track = {role: follow(studio, path) for role, path in paths.items()}, track_of(pair, frames)
    yaws = {role: float(np.median(poses_of(face)[:, 0])) for role, face in faces.items()}
    return {
        "pair": pair,
        "order": order_of(pair),
        "light": vars(light_of(pair)),
        "truth against driver": {name: values.get(name) for name in kept},
        **{f"{role} against track": against_track(face, track) for role, face in faces.items()},
        "yaw in degrees": yaws,
        "pose wander in degrees": {role: wander(poses_of(face)) for role, face in faces.items()},
        "steady points' wander": {role: shift(face) for role, face in faces.items()},
    }


def follow(studio: Studio, path: Path) -> FaceTrack:
    """The face of a clip."""
    return track_face((frame.rgb for frame in read_frames(path)), landmarker.create(studio.store, torch.device("cpu")))


def poses_of(face: FaceTrack) -> Floats:
    """Yaw, pitch, roll [T,3] in degrees."""
    assert face.pose is not None  # this detector always tells
    return face.pose


def against_track(face: FaceTrack, track: Tensor) -> dict[str, float]:
    """Mean r and gain of the clip's measured change on the track's, over what the track moves, as measured [T,M]."""
    seen = limited(of_track(face)).numpy()
    moves = np.flatnonzero(track.numpy().any(0))
    both = [follows(seen[:, i], track[:, i].numpy()) for i in moves]
    r, gain = np.nanmean(both, axis=0)
    return {"r": float(r), "gain": float(gain)}


def wander(poses: Floats) -> float:
    """Mean of the angles' absolute difference from the first frame's."""
    return float(np.nanmean(np.abs(poses - poses[0])))


def shift(face: FaceTrack) -> float:
    """How far the steady points go from the first frame's on average, in units of the face's width."""
    points = face.points[:, list(STEADY)]
    return float(np.nanmean(np.linalg.norm(points - points[0], axis=2)) / np.ptp(face.points[0, :, 0]))


def summary(report: Mapping[str, object]) -> str:
    """One pair in a line."""
    names = ("truth against driver", "truth against track", "driver against track", "pose wander in degrees")
    parts = [f"{name}: {json.dumps(rounded(report[name]))}" for name in names]
    return f"pair{report['pair']}  " + "  ".join(parts)


def rounded(value: object) -> object:
    """The floats of a nested value with three decimals."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def seeds_of(text: str) -> tuple[int, int]:
    """'25,27' -> (25, 27)."""
    a, b = text.split(",")
    return int(a), int(b)


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Make the pairs, list them, and say how well they follow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    parser.add_argument("--pairs", type=int, default=len(PEOPLE), help="only the first so many")
    parser.add_argument("--seeds", type=seeds_of, nargs="+", default=PEOPLE, metavar="A,B", help="others, pair by pair")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args()
    studio, reports, people = Studio.open(), list[dict[str, object]](), args.seeds[: args.pairs]
    for pair, seeds in enumerate(people):
        say(f"pair {pair + 1} of {len(people)}")
        folder = args.folder / f"pair{pair}"
        make_pair(studio, pair, seeds, folder, args.frames, args.size)
        reports.append({"seeds": seeds, **report_on(studio, pair, folder, args.frames)})
        write_text(args.folder / "manifest.toml", to_manifest(pair + 1))
        write_text(args.folder / "pairs.json", json.dumps(rounded(reports), indent=1) + "\n")
    for report in reports:
        print(summary(report))


if __name__ == "__main__":
    main()
