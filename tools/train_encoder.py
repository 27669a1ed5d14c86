"""Fit what tells a face's latent by its colours: reenact/encoder.py.

    python tools/train_encoder.py --samples encoder --pool 5610 --out weights/mobile_encoder.safetensors

First the generator draws its own people, once, into the folder --samples, going on where an earlier run stopped: of one
style, of two crossed, with the mean face's expressions (what the target's light and colours are found on), and pushed
off W as inversions are. Then a linear readout is fitted to them by ridge regression, their pictures made worse as
photos are. Nobody's photo is used but to measure the result on: --photos.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from reenact import landmarks, mapper
from reenact.align import cut_out, ffhq_crop
from reenact.devices import quick_dtype
from reenact.encoder import GRID, Encoder
from reenact.expression import NAMES, Probe
from reenact.face_landmarker import FaceLandmarkerNets
from reenact.generators import Generator, mobile
from reenact.images import read_image, to_tensor
from reenact.invert import Whitening
from reenact.metrics import View
from reenact.metrics.identity import DlibIdentity
from reenact.perceptual import load_vgg, lpips_distance, lpips_features
from reenact.types import Floats, Landmarks, Rgb
from reenact.weights import WeightStore, default_root, shipped_for

SEEN = 128  # pixels
AT_ONCE = 10  # samples drawn together
KINDS = 5
CARD = 12  # of those that are held out, for the model card
HELD = 500  # samples, the first, that are not learnt from


class Samples:
    """The generator's own people, on disk: pictures and their whitened latents."""

    def __init__(self, folder: Path, pool: int, slots: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pictures = _array(folder / "pictures.npy", (pool, SEEN, SEEN, 3), np.uint8)
        self.latents = _array(folder / "latents.npy", (pool, slots, 512), np.float16)
        self._done = folder / "done"

    @property
    def done(self) -> int:
        """How many there are."""
        return int(self._done.read_text()) if self._done.exists() else 0

    def draw(self, generator: Generator, whitening: Whitening, seed: int) -> None:
        """Fill the arrays from where an earlier run stopped."""
        styles = Styles(generator, whitening)
        live = list(generator.live_layers)
        for first in range(self.done, len(self.pictures), AT_ONCE):
            random = torch.Generator().manual_seed(seed * 1_000_003 + first)
            end = min(first + AT_ONCE, len(self.pictures))
            w = torch.stack([styles.draw(i % KINDS, random) for i in range(end - first)])
            pictures = generator.synthesize(w, SEEN).clamp(-1, 1).permute(0, 2, 3, 1)
            self.pictures[first:end] = (pictures * 127.5 + 127.5).round().byte().numpy()
            self.latents[first:end] = whitening.white(w[:, live]).half().numpy()
            self._done.write_text(str(end))


def _array(path: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array in a file, made where it is missing."""
    if not path.exists():
        return np.lib.format.open_memmap(path, "w+", dtype, shape)
    array = np.lib.format.open_memmap(path, "r+")
    if array.shape != shape:
        sys.exit(f"{path}: holds {len(array)} samples; give --pool {len(array)}, or another folder")
    return array


class Styles:
    """Draws W+ as an encoder will be asked for it."""

    def __init__(self, generator: Generator, whitening: Whitening) -> None:
        self.generator, self.whitening = generator, whitening
        self.slots = list(generator.expression_layers)
        path = shipped_for(generator.name, "mapper")
        assert path  # the default generator has one
        self.mapper = mapper.LatentMapper.load(path)

    @torch.no_grad()
    def expression(self, random: torch.Generator) -> Tensor:
        """An expression of the mean face: whitened [S,512], the expression slots."""
        seen = torch.zeros(len(NAMES))
        asked = torch.randn(len(mapper.ASKED), generator=random)
        seen[list(mapper.ASKED)] = self.mapper.centre + self.mapper.spread * asked
        change: Tensor = self.mapper(seen)
        return self.whitening.white(self.generator.mean_latent[self.slots]) + change

    def draw(self, kind: int, random: torch.Generator) -> Tensor:
        """One W+ [L,512]."""
        mean, layers = self.generator.mean_latent, self.generator.num_layers

        def chance(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=random))

        def person() -> Tensor:
            return torch.lerp(mean[0], self.generator.map(torch.randn(1, 512, generator=random))[0], chance(0.3, 1.1))

        w = person().repeat(layers, 1)
        if kind == 1:  # the expression slots of another
            w[self.slots] = person()
        elif kind == 2:  # two styles, crossed
            w[int(torch.randint(1, layers - 1, (), generator=random)) :] = person()
        elif kind == 3:  # an expression of the mean face, in somebody's light and colours
            w[self.slots] = self.whitening.colour(self.expression(random))
        elif kind == 4:  # spread like W, but not of it
            off = torch.randn(layers, 512, generator=random) * chance(0, 0.7)
            w = self.whitening.colour(self.whitening.white(w) + off)
        return w


# ---- Pictures as photos have them ----------------------------------------------------------------------------------


def worsened(picture: Rgb, random: np.random.Generator) -> Rgb:
    """Cut out askew, in another light, a thing before it, blurred, grained, compressed."""
    size = picture.shape[0]
    turn: NDArray[Any] = cv2.getRotationMatrix2D(
        ((size - 1) / 2,) * 2, random.normal(0, 2.5), np.exp(random.normal(0, 0.03))
    )
    turn[:, 2] += random.normal(0, 0.015 * size, 2)
    light: NDArray[Any] = cv2.warpAffine(picture, turn, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    light = 255 * (light / np.float32(255)) ** np.float32(np.exp(random.normal(0, 0.08)))
    light *= np.exp(random.normal(0, 0.04, 3)).astype(np.float32)
    if random.random() < 0.25:
        light = _covered(light, random)
    if random.random() < 0.5:
        light = cv2.GaussianBlur(light, (0, 0), random.uniform(0.3, 1.6))
    if random.random() < 0.5:
        light = light + random.normal(0, random.uniform(0, 12), light.shape)
    found: Any = np.clip(light + 0.5, 0, 255).astype(np.uint8)
    if random.random() < 0.5:
        settings = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 95))]
        found = cv2.imdecode(cv2.imencode(".jpg", found, settings)[1], cv2.IMREAD_COLOR)
    return np.asarray(found, np.uint8)


def _covered(light: NDArray[Any], random: np.random.Generator) -> Floats:
    """An ellipse of one colour before the picture."""
    size = light.shape[0]
    place, axes = random.integers(0, size, 2).tolist(), random.integers(size // 20, size // 4, 2).tolist()
    mask: NDArray[Any] = np.zeros((size, size), np.float32)
    cv2.ellipse(mask, place, axes, random.uniform(0, 180), 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), random.uniform(0.5, 2))[..., None]
    return np.asarray(light * (1 - mask) + mask * random.uniform(0, 255, 3), np.float32)


def tensors(pictures: Sequence[Rgb]) -> Tensor:
    """uint8 [S,S,3] each -> [N,3,S,S] in [-1,1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


# ---- The fit -------------------------------------------------------------------------------------------------------


def fit(encoder: Encoder, samples: Samples, ridge: float) -> None:
    """The best linear readout of the colours of what is not held out: `ridge` as a share of their variance."""
    random = np.random.default_rng(0)
    worse = [worsened(picture, random) for picture in samples.pictures[HELD : samples.done]]
    colours = torch.cat([F.adaptive_avg_pool2d(tensors(worse[i : i + 100]), GRID) for i in range(0, len(worse), 100)])
    encoder.centre.copy_(colours.flatten(1).mean(0))
    encoder.spread.copy_(colours.flatten(1).std(0))
    seen = torch.cat([encoder.seen(colours), torch.ones(len(colours), 1)], 1)
    known = torch.from_numpy(samples.latents[HELD : samples.done].astype(np.float32)).flatten(1)
    gram = seen.T @ seen + ridge * len(seen) * torch.eye(seen.shape[1])
    answer = torch.linalg.solve(gram, seen.T @ known)  # [3*GRID*GRID+1,S*512]
    encoder.readout.weight.copy_(answer[:-1].T)
    encoder.readout.bias.copy_(answer[-1])


def explained(encoder: Encoder, samples: Samples, whitening: Whitening) -> float:
    """The share of the held-out latents' variance in W that the encoder tells."""
    random = np.random.default_rng(1)
    told = encoder(tensors([worsened(picture, random) for picture in samples.pictures[:HELD]]))
    known = torch.from_numpy(samples.latents[:HELD].astype(np.float32))
    left, all_of_it = ((each * whitening.spread).square().sum() for each in (told - known, known))
    return 1 - (left / all_of_it).item()


class Likeness:
    """How like a picture what a latent draws is, at 256 pixels: for the model card."""

    NAMES = ("ST-LPIPS (VGG, 256)", "L2", "identity (dlib)", "blendshapes, mean |Δ|")

    def __init__(self, generator: Generator, store: WeightStore) -> None:
        self._generator, self.mean_latent = generator, generator.mean_latent
        cpu = torch.device("cpu")
        self._judge = load_vgg(store, cpu, quick_dtype(cpu))
        self._nets = FaceLandmarkerNets.load(store.path("face_landmarker.task"))
        self._embed = DlibIdentity(importlib.import_module("dlib"), store)

    @torch.inference_mode()
    def __call__(self, latents: Sequence[Tensor], picture: Tensor) -> list[tuple[float, ...]]:
        """`NAMES`, of each W+ [L,512] to a picture [1,3,256,256]."""
        wanted, (person, expression) = lpips_features(self._judge, picture), self._look(picture)
        found = list[tuple[float, ...]]()
        for w in latents:
            drawn = self._generator.synthesize(w[None], 256).clamp(-1, 1)
            far = lpips_distance(lpips_features(self._judge, drawn), wanted).item()
            other, shown = self._look(drawn)
            error, apart = (drawn - picture).square().mean().item(), float(np.linalg.norm(other - person))
            found.append((far, error, apart, (shown - expression).abs().mean().item()))
        return found

    def _look(self, picture: Tensor) -> tuple[Floats, Tensor]:
        """Who that is, and the expression."""
        points, blendshapes, _ = Probe(self._nets, picture).look(picture)
        rgb = ((picture[0].permute(1, 2, 0) * 0.5 + 0.5) * 255).round().byte().numpy()
        identity = self._embed(View(rgb, Landmarks((points[0] * 256 - 0.5).numpy(), 1.0)))
        assert identity is not None  # there are landmarks
        return identity, blendshapes[0]


def drawn_samples(generator: Generator, whitening: Whitening, samples: Samples, count: int) -> list[Tensor]:
    """The first of them, held out, once more at 256 pixels: [1,3,256,256] each."""
    live = torch.tensor(generator.live_layers)
    white = torch.from_numpy(samples.latents[:count].astype(np.float32))
    latents = (generator.mean_latent.index_copy(0, live, whitening.colour(each)) for each in white)
    return [generator.synthesize(w[None], 256).clamp(-1, 1) for w in latents]


def cut_photos(paths: Sequence[Path], store: WeightStore) -> list[Tensor]:
    """The faces of photos: [1,3,256,256] each."""
    _, detector = landmarks.choose_detector("landmarker", store, torch.device("cpu"))
    found = []
    for path in paths:
        rgb = read_image(path)
        crop = ffhq_crop(landmarks.find_face(rgb, detector, str(path)).points)
        found.append(to_tensor(cut_out(rgb, crop, 256).rgb))
    return found


def print_likeness(whose: str, pictures: Sequence[Tensor], told: Callable[[Tensor], Tensor], like: Likeness) -> None:
    """Means over pictures: of the mean face, and of what the encoder told."""
    mean = like.mean_latent
    means = np.mean([like([mean, told(picture)], picture) for picture in pictures], 0)  # [2,4]
    for name, row in zip(("the mean face", "the encoder"), means, strict=True):
        numbers = ", ".join(f"{what} {value:.3f}" for what, value in zip(like.NAMES, row, strict=True))
        print(f"{len(pictures)} {whose}, {name}: {numbers}", flush=True)


@torch.no_grad()
def main() -> None:
    """Draw what is missing of the samples, fit, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("weights/mobile_encoder.safetensors"))
    parser.add_argument("--samples", type=Path, default=Path("encoder"))
    parser.add_argument("--pool", type=int, default=5_610)
    parser.add_argument("--ridge", type=float, default=0.03)
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="to measure it on too")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    store, cpu = WeightStore(default_root()), torch.device("cpu")
    generator = mobile.create(store, cpu, quick_dtype(cpu))
    whitening = Whitening(generator)
    samples = Samples(args.samples, args.pool, len(generator.live_layers))
    samples.draw(generator, whitening, args.seed)
    encoder = Encoder(len(generator.live_layers))
    fit(encoder, samples, args.ridge)
    stored = {name: value.half().contiguous() for name, value in encoder.state_dict().items()}
    save_file(stored, args.out, {"samples": str(samples.done - HELD), "seed": str(args.seed)})
    encoder, like = Encoder.load(args.out), Likeness(generator, store)
    print(f"{explained(encoder, samples, whitening):.3f} of the held-out latents' variance in W")
    pictures = {
        "samples": drawn_samples(generator, whitening, samples, CARD),
        "photos": cut_photos(args.photos, store),
    }
    for whose, some in pictures.items():
        if some:
            print_likeness(whose, some, partial(encoder.latent, generator, whitening), like)


if __name__ == "__main__":
    main()
