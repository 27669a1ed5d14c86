"""Find the constant that gives the paper's learning rate its meaning.

    python tools/sweep_paper_scale.py samples/target.jpg --steps 1000 --scales 1e-5

The paper descends with plain gradient steps at rate 1 on a distance between features of VGG-16; how long such a step
is depends on the features' scale, which it does not give. This runs the `paper` recipe at several scales of
the squared distance, through the 256-pixel exit (the size at which the recipe compares: the distance is a sum over
places, so that the scale holds for one size), and prints where the loss stands on the way, as a share of its start. The
best scale is the largest that still falls steadily over all 1,000 steps: some run away only after a hundred.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from reenact import landmarks
from reenact.align import cut_out, ffhq_crop
from reenact.generators import mobile
from reenact.images import read_image, to_tensor
from reenact.invert import PAPER, invert
from reenact.perceptual import load_vgg
from reenact.weights import WeightStore, default_root


def main() -> None:
    """Print a table, a line per scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--scales", type=float, nargs="+", default=[1e-6, 3e-6, 1e-5, 3e-5, 1e-4])
    parser.add_argument("--size", type=int, default=256, help="of the generator's early exit")
    args = parser.parse_args()
    store, device = WeightStore(default_root()), torch.device("cpu")
    generator, network = mobile.create(store, device), load_vgg(store, device)
    rgb = read_image(args.target)
    _, detector = landmarks.choose_detector("landmarker", store, device)
    crop = ffhq_crop(landmarks.find_face(rgb, detector, str(args.target)).points)
    picture = to_tensor(cut_out(rgb, crop, 256).rgb)
    for scale in args.scales:
        losses: list[float] = []

        def told(step: int, loss: float, _: torch.Tensor, losses: list[float] = losses, scale: float = scale) -> None:
            losses.append(loss)
            if step % 50 == 1:
                print(f"{scale:g} step {step}: {loss / losses[0]:.4f} of the start", flush=True)

        recipe = replace(PAPER, steps=args.steps, sizes=((args.size, 1.0),), scale=scale)
        invert(generator, network, picture, recipe, on_step=told)
        rises = sum(b > a for a, b in pairwise(losses))
        print(
            f"{scale:g}: {losses[0]:.5g} to {losses[-1]:.5g}, {losses[-1] / losses[0]:.3f}; rises {rises}", flush=True
        )


if __name__ == "__main__":
    main()
