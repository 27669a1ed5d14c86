"""Learn how a face's mesh moves with its blendshapes, on average over the default generator's people.

    python tools/train_motion.py --faces 1200 --out weights/motion.safetensors

A clip's motion is measured against a frame of rest. A single picture has none, and `--motion absolute` wants the
driver's expression whatever the target's own is: for both, this says where the points of the driver's face would be
with other blendshapes. Ridge regression of the meshes, turned to look into the camera, on the blendshapes; nobody's
photo is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from reenact.devices import quick_dtype
from reenact.expression import Probe
from reenact.face_landmarker import BLENDSHAPES, FaceLandmarkerNets, facing
from reenact.generators import mobile
from reenact.weights import WeightStore, default_root

SIZE = 256
RIDGE = 3.0  # on standardised blendshapes, in faces


@torch.inference_mode()
def draw(faces: int, seed: int) -> tuple[Tensor, Tensor]:
    """Blendshapes [N,51] and meshes [N,478,3], in centimetres, of people that the generator makes up."""
    store, cpu = WeightStore(default_root()), torch.device("cpu")
    generator = mobile.create(store, cpu, quick_dtype(cpu))
    nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
    random = torch.Generator().manual_seed(seed)
    shapes, meshes = [], []
    for _ in range(faces):
        w = generator.map(torch.randn(1, 512, generator=random))
        w = torch.lerp(generator.mean_latent[:1], w, 0.5 + 0.6 * torch.rand(1, generator=random))
        # The slots that carry expressions are another's: more of them, less of the person.
        other = torch.lerp(generator.mean_latent[:1], generator.map(torch.randn(1, 512, generator=random)), 1.1)
        latent = w.repeat(generator.num_layers, 1)
        latent[list(generator.paper_layers)] = other
        picture = generator.synthesize(latent[None], SIZE)
        mesh = Probe(nets, picture).mesh(picture)
        shapes.append(nets.blendshapes(mesh * SIZE)[0])
        meshes.append(facing(mesh)[0])
    return torch.stack(shapes), torch.stack(meshes)


def fit(shapes: Tensor, meshes: Tensor) -> tuple[Tensor, Tensor, float]:
    """What a unit of each blendshape moves [51,478,3], the neutral blendshapes [51], R2."""
    spread = shapes.std(0).clamp(min=0.02)
    known, moved = (shapes - shapes.mean(0)) / spread, (meshes - meshes.mean(0)).flatten(1)
    gram = known.T @ known + RIDGE * torch.eye(len(BLENDSHAPES))
    basis = torch.linalg.solve(gram, known.T @ moved)
    explained = 1 - (moved - known @ basis).square().sum() / moved.square().sum()
    calm = (shapes[:, BLENDSHAPES.index("jawOpen")] < 0.05) & (shapes[:, BLENDSHAPES.index("mouthSmileLeft")] < 0.2)
    return (basis / spread[:, None]).unflatten(1, meshes.shape[1:]), shapes[calm].median(0).values, float(explained)


def main() -> None:
    """Draw, fit, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("weights/motion.safetensors"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    shapes, meshes = draw(args.faces, args.seed)
    half = len(shapes) // 2
    basis, _, _ = fit(shapes[:half], meshes[:half])
    rest = shapes[half:] - shapes[half:].mean(0)
    there = (meshes[half:] - meshes[half:].mean(0)).flatten(1)
    held_out = 1 - (there - rest @ basis.flatten(1)).square().sum() / there.square().sum()
    basis, neutral, explained = fit(shapes, meshes)
    print(f"R2 {explained:.3f}, on half from the other half {float(held_out):.3f}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {"basis": basis.half().contiguous(), "neutral": neutral.contiguous()},
        args.out,
        {"faces": str(args.faces), "seed": str(args.seed), "r2": f"{explained:.3f}"},
    )


if __name__ == "__main__":
    main()
