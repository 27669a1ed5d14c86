"""Make samples/target.jpg and samples/driver.mp4 from the generator alone, so that they show nobody real.

    python tools/make_samples.py --out samples

Two people drawn from W; the driver smiles, opens the mouth, raises the brows and blinks over two seconds, each
expression solved for as in a reenactment. The sound is a plain melody, louder where the mouth is open.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from reenact.expression import NAMES, Probe, limited, unsquashed
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.generators.mobile import MobileGenerator, create
from reenact.images import to_rgb, write_image
from reenact.solve import SolveOptions, Solver
from reenact.types import Frame, Rgb
from reenact.video import VideoWriter
from reenact.weights import WeightStore, default_root

RATE, FRAMES, SIZE = 25, 50, 512
SOUND_RATE = 48_000

# What each expression asks of the measure: blendshapes as values, distances as changes. What goes along with it must
# be asked for too, or the numbers that are to stay hold it back.
EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {
        **{"mouthSmileLeft": 0.95, "mouthSmileRight": 0.95, "mouthUpperUpLeft": 0.5, "mouthUpperUpRight": 0.5},
        **{"mouthLowerDownLeft": 0.4, "mouthLowerDownRight": 0.4, "mouthFrownLeft": 0.0, "mouthFrownRight": 0.0},
        **{"mouth width": 0.2, "lips open": 0.16, "corner left": -0.14, "corner right": -0.14, "upper lip": -0.08},
    },
    "open": {
        **{"jawOpen": 0.65, "mouthLowerDownLeft": 0.5, "mouthLowerDownRight": 0.5, "mouthClose": 0.02},
        **{"lips open": 0.5, "mouth dark": 0.25, "jaw": 0.4, "corner left": 0.12, "corner right": 0.12},
    },
    "brows": {
        **{"browInnerUp": 0.75, "browOuterUpLeft": 0.7, "browOuterUpRight": 0.7, "browDownLeft": 0.0},
        **{"browDownRight": 0.0, "brow left": 0.12, "brow right": 0.12},
    },
    "blink": {
        **{"eyeBlinkLeft": 0.8, "eyeBlinkRight": 0.8, "eyeSquintLeft": 0.5, "eyeSquintRight": 0.5},
        **{"eyeLookDownLeft": 0.5, "eyeLookDownRight": 0.5, "lid left": -0.2, "lid right": -0.2},
    },
}
# (expression, middle, half length) in seconds.
SCORE = (("smile", 0.45, 0.4), ("blink", 0.95, 0.14), ("open", 1.2, 0.35), ("brows", 1.65, 0.3), ("blink", 1.86, 0.12))


def amount(middle: float, half: float, time: float) -> float:
    """A smooth rise and fall between 0 and 1 with a short hold."""
    return float(np.clip(1.5 * np.cos(np.clip((time - middle) / half, -1, 1) * np.pi / 2), 0, 1))


def goal_at(time: float, rest: Tensor) -> Tensor:
    """The expression [M] of the driver at a time in seconds."""
    goal = limited(rest)
    for name, middle, half in SCORE:
        share = amount(middle, half, time)
        for number, value in EXPRESSIONS[name].items():
            i = NAMES.index(number)
            if " " in number:  # a distance
                goal[i] = torch.maximum(goal[i] + share * value, torch.tensor(0.0))
            else:
                full = limited(unsquashed(torch.full((len(NAMES),), value)))[0]
                goal[i] = goal[i] + share * (full - goal[i])
    return goal


def person(generator: MobileGenerator, seed: int, truncation: float = 0.6) -> Tensor:
    """The W+ of somebody who does not exist [L,512]."""
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(seed))
    mean = generator.mean_latent
    return mean + truncation * (generator.map(z) - mean)


def perform(generator: MobileGenerator, nets: FaceLandmarkerNets, w: Tensor) -> list[Rgb]:
    """The frames of a person who goes through `SCORE`."""
    with torch.no_grad():
        probe = Probe(nets, generator.synthesize(w[None], SIZE))
    options = SolveOptions(keys=24, sweeps=((16, 0.05, 128), (16, 0.02, 256)), hold=4.0, ridge=0.012, bent=False)
    solver = Solver(generator, probe, w, generator.expression_layers, options)
    goals = torch.stack([goal_at(index / RATE, solver.rest) for index in range(FRAMES)])
    response = solver.respond(goals, lambda done, total: print(f"step {done} of {total}", end="\r", flush=True))
    print()
    frames = []
    for goal in goals:
        with torch.no_grad():
            picture = generator.synthesize(solver.latent(response(goal))[None], 1024)
        frames.append(to_rgb(torch.nn.functional.avg_pool2d(picture[0], 2)))
    return frames


def melody() -> av.AudioFrame:
    """Two seconds of a soft scale, mono, in step with the open mouth."""
    time = np.arange(SOUND_RATE * FRAMES // RATE) / SOUND_RATE
    notes = 220 * 2 ** (np.array([0, 4, 7, 12, 7, 4, 0, -5])[(time * 4).astype(int) % 8] / 12)
    phase = 2 * np.pi * np.cumsum(notes) / SOUND_RATE
    louder = 0.2 + 0.6 * np.array([amount(1.2, 0.35, t) for t in time])
    wave = (0.3 * louder * (np.sin(phase) + 0.3 * np.sin(2 * phase))).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
    return frame


def write_sound(path: Path) -> None:
    """The melody as AAC."""
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for packet in [*stream.encode(melody()), *stream.encode(None)]:
            container.mux(packet)


def main() -> None:
    """Write both samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("samples"))
    parser.add_argument("--target-seed", type=int, default=15)
    parser.add_argument("--driver-seed", type=int, default=22)
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    store, device = WeightStore(default_root()), torch.device("cpu")
    generator = create(store, device)
    nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
    with torch.no_grad():
        target = generator.synthesize(person(generator, args.target_seed)[None], 1024)
    write_image(args.out / "target.jpg", to_rgb(torch.nn.functional.avg_pool2d(target[0], 2)))
    frames = perform(generator, nets, person(generator, args.driver_seed))
    sound = args.out / "sound.m4a"
    write_sound(sound)
    with VideoWriter(args.out / "driver.mp4", SIZE, SIZE, audio_from=sound, overwrite=True) as writer:
        for index, rgb in enumerate(frames):
            writer.write(Frame(rgb, index, index, index / RATE))
    sound.unlink()


if __name__ == "__main__":
    main()
