"""Find the constant that gives the paper's learning rate its meaning.

    python tools/sweep_paper_scale.py samples/target.jpg --steps 60

The paper descends with plain gradient steps at rate 1 on a distance between features of VGG-16; how long such a step
is depends on the features' scale, which it does not give. This runs the `paper` recipe from zero at several scales of
the squared distance, through the 128-pixel exit to be quick, and prints where the loss ends, as a share of its start.
The best scale is the largest that still falls steadily.
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
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--scales", type=float, nargs="+", default=[1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    args = parser.parse_args()
    store, device = WeightStore(default_root()), torch.device("cpu")
    generator, network = mobile.create(store, device), load_vgg(store, device)
    rgb = read_image(args.target)
    _, detector = landmarks.choose_detector("landmarker", store, device)
    crop = ffhq_crop(landmarks.find_face(rgb, detector, str(args.target)).points)
    picture = to_tensor(cut_out(rgb, crop, 256).rgb)
    print(f"{'scale':>8} {'start':>12} {'end':>12} {'end/start':>9} {'rises':>5}")
    for scale in args.scales:
        recipe = replace(PAPER, steps=args.steps, sizes=((128, 1.0),), scale=scale)
        losses = invert(generator, network, picture, recipe).losses
        rises = sum(b > a for a, b in pairwise(losses))
        print(f"{scale:8.0e} {losses[0]:12.5g} {losses[-1]:12.5g} {losses[-1] / losses[0]:9.3f} {rises:5d}", flush=True)


if __name__ == "__main__":
    main()
