"""Inversion: the W+ that makes a generator draw a given face, by gradient descent.

The paper (Yang & Lim, section 3.2) descends from zero (here from `Generator.origin`) through the 9th convolution of
VGG-16 with plain gradient steps: `PAPER`. The default recipe starts from the mean of W, uses Adam, a perceptual
distance over four layers and pixels, small pictures first, and stops when it no longer improves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .generators import Generator
from .perceptual import Vgg16, lpips_distance, lpips_features
from .types import Inversion, Latent

OnStep = Callable[[int, float, Tensor], None]
"""Called with (step, loss, the W+ [L,512] whose loss that is): at step 1 the start's."""


@dataclass(frozen=True)
class InvertOptions:
    """How to search W+. The defaults are for a single picture, the target."""

    steps: int = 30  # at most
    rate: float = 0.12
    optimiser: str = "adam"  # or "sgd"
    # Where it begins, if not from a warm start: "mean"; "origin", the paper's zero as far as the generator has one; or
    # "encoder", what one tells of the picture, where the caller has one, else "mean".
    start: str = "mean"
    whitened: bool = True  # step in units of W's own spread along its own axes: keeps w where faces can be moved
    sizes: tuple[tuple[int, float], ...] = ((128, 1.0),)  # picture size, share of the steps
    distance: str = "lpips"  # or "conv": squared Euclidean on the features as they are, the paper's
    scale: float = 1.0  # of the distance "conv"; gives the paper's rate of 1 its meaning
    convs: tuple[int, ...] = (2, 4, 7, 10)  # of VGG-16, counted from 1: what is compared
    pixel_weight: float = 0.5
    seen: int = 256  # pixels: larger pictures are shrunk to this before they are compared
    shape: float = 30.0  # on the mean square shift of the face's points, in units of the picture
    prior: float = 1e-2  # on the mean square of w's offset, in W's own spread
    held: bool = False  # the slots that expressions move stay as they start
    near: float = 0.5  # the same, on the slots that expressions move: near the mean face mouths open best
    patience: int = 12  # steps without `tolerance` better, before it moves on or ends
    tolerance: float = 0.002  # of the loss
    warm_up: int = 8
    decay: float = 0.5  # the share of the steps over which the rate falls to nothing


TARGET = InvertOptions()
COLOURS = InvertOptions(
    steps=8, rate=0.1, start="encoder", sizes=((256, 1.0),), seen=128, shape=0.0, near=0.0, held=True, warm_up=0
)
"""For a photo whose expression is known: its light and colours, on a face that is drawn already."""
DRIVER = InvertOptions(
    steps=8, rate=0.02, sizes=((128, 1.0),), shape=0.0, prior=2e-3, near=0.0, warm_up=1, decay=0.3, patience=8
)
"""For the frames after a clip's first: few steps from the last frame's answer, held to W."""
PAPER = InvertOptions(
    steps=1000, rate=1.0, optimiser="sgd", start="origin", whitened=False, sizes=((1024, 1.0),),
    distance="conv", convs=(9,), scale=1e-5, pixel_weight=0.0, shape=0.0, prior=0.0, near=0.0,
    patience=1000, tolerance=0.0, warm_up=0, decay=0.0,
)  # fmt: skip


class Whitening:
    """W+ in coordinates where W has mean 0 and unit spread in every direction."""

    axes: Tensor  # [512,512], a column an axis
    spread: Tensor  # [512], along each

    def __init__(self, generator: Generator) -> None:
        values, axes = torch.linalg.eigh(generator.covariance.cpu().double())
        self.spread = values.clamp(min=1e-6).sqrt().float().to(generator.covariance.device)
        self.axes = axes.float().to(generator.covariance.device)
        self.mean = generator.mean_latent[:1]  # one W for every slot

    def white(self, w: Tensor) -> Tensor:
        """[...,S,512] W+, any number of slots -> white coordinates."""
        return ((w - self.mean) @ self.axes) / self.spread

    def colour(self, u: Tensor) -> Tensor:
        """[...,S,512] white coordinates, any number of slots -> W."""
        return (u * self.spread) @ self.axes.T + self.mean


def invert(
    generator: Generator,
    network: Vgg16,
    picture: Tensor,
    options: InvertOptions = TARGET,
    start: Tensor | None = None,
    weight: Tensor | None = None,
    on_step: OnStep | None = None,
    whitening: Whitening | None = None,
    shape: Callable[[Tensor], Tensor] | None = None,
) -> Inversion:
    """Find the W+ whose picture looks like `picture`.

    Args:
        generator: what draws.
        network: the features that compare.
        picture: [1,3,S,S] RGB in [-1,1], S at least the largest size used.
        options: the recipe.
        start: W+ [L,512] to begin from (the frame before, or an encoder's), or None for `options.start`.
        weight: [1,1,S,S], where the picture counts (the face), or None for everywhere.
        on_step: told of each step's loss.
        shape: another distance, of generated pictures [1,3,S,S] of any size; how far its face's points are off.
        whitening: the generator's, where a caller has it; making it anew for every frame costs an eigendecomposition.

    Returns:
        the best that was found; where the search `ran_away`, the best before.
    """
    whitening = whitening or Whitening(generator)
    w = _start(generator, options) if start is None else start.to(picture.device)
    free = torch.zeros(len(w), 1, device=w.device)
    free[list(generator.live_layers)] = 1
    if options.held:
        free[list(generator.expression_layers)] = 0
    fixed = w.detach().clone()
    unknown = (whitening.white(fixed) if options.whitened else fixed).clone().requires_grad_()
    kind = torch.optim.SGD if options.optimiser == "sgd" else torch.optim.Adam
    optimiser = kind([unknown], lr=options.rate)
    losses: list[float] = []
    best_w = fixed

    def latent() -> Tensor:
        now = whitening.colour(unknown) if options.whitened else unknown
        return fixed + (now - fixed) * free

    planned = 0  # steps of the stages before, taken or not: the rate falls by plan
    for size, steps in _stages(generator, options):
        seen = min(size, options.seen)
        loss_of = distance_to(network, F.adaptive_avg_pool2d(picture, seen), options, _at(weight, seen))
        best, waited = math.inf, 0
        for step in range(planned, planned + steps):
            for group in optimiser.param_groups:
                group["lr"] = options.rate * _ramp(step, options)
            optimiser.zero_grad()
            now = latent()
            drawn = generator.synthesize(now[None], size)
            loss = loss_of(F.adaptive_avg_pool2d(drawn, seen))
            if shape:
                loss = loss + options.shape * shape(drawn)
            if options.prior:
                white = whitening.white(now)
                loss = loss + options.prior * white[list(generator.live_layers)].square().mean()
                loss = loss + options.near * white[list(generator.expression_layers)].square().mean()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            value = loss.item()
            losses.append(value)
            if not math.isfinite(value):  # run away: no step leads back
                return Inversion(Latent(best_w.float().cpu().numpy(), generator.name), tuple(losses))
            if on_step:
                on_step(len(losses), value, now.detach())
            waited = 0 if value < best * (1 - options.tolerance) else waited + 1
            if value < best:
                best, best_w = value, now.detach().clone()
            if waited >= options.patience:
                break
            optimiser.step()
        planned += steps
    return Inversion(Latent(best_w.float().cpu().numpy(), generator.name), tuple(losses))


def distance_to(
    network: Vgg16, picture: Tensor, options: InvertOptions, weight: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """The loss against one picture [1,3,S,S]: pictures [1,3,S,S] -> a number."""
    if options.distance == "conv":
        return _conv_distance(network, picture, options.convs, options.scale)
    with torch.no_grad():
        wanted = lpips_features(network, picture, options.convs)

    def loss(image: Tensor) -> Tensor:
        perceptual = lpips_distance(lpips_features(network, image, options.convs), wanted, weight).sum()
        error = (image - picture).square().mean(1, keepdim=True)
        pixels = error.mean() if weight is None else (error * weight).sum() / weight.sum()
        return perceptual + options.pixel_weight * pixels

    return loss


def _conv_distance(network: Vgg16, picture: Tensor, convs: tuple[int, ...], scale: float) -> Callable[[Tensor], Tensor]:
    """The squared Euclidean distance of rectified convolutions; the paper's is on the 9th."""
    with torch.no_grad():
        wanted = network.features(picture, convs)

    def loss(image: Tensor) -> Tensor:
        pairs = zip(network.features(image, convs), wanted, strict=True)
        return scale * torch.stack([(found - there).float().square().sum() for found, there in pairs]).sum()

    return loss


def _start(generator: Generator, options: InvertOptions) -> Tensor:
    return (generator.origin if options.start == "origin" else generator.mean_latent).clone()


def _stages(generator: Generator, options: InvertOptions) -> Iterator[tuple[int, int]]:
    """(picture size, steps), each size one that the generator can make."""
    for size, share in options.sizes:
        yield nearest_size(generator, size), max(1, round(options.steps * share))


def nearest_size(generator: Generator, size: int) -> int:
    """The size of picture, of those that the generator can make, that is nearest to `size`."""
    return min(generator.sizes, key=lambda s: (abs(math.log2(s / size)), s))


def _at(weight: Tensor | None, size: int) -> Tensor | None:
    return None if weight is None else F.adaptive_avg_pool2d(weight, size)


def _ramp(step: int, options: InvertOptions) -> float:
    """The learning rate's share at a step: up over `warm_up`, down over the last `decay`."""
    up = min(1.0, (step + 1) / (options.warm_up + 1))
    left = (options.steps - step) / options.steps
    return up * (min(1.0, left / options.decay) if options.decay else 1.0)
