"""Pivotal tuning: the generator's weights, then its maps of noise, are brought to the photo, its latent held.

Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images" (2021). What is drawn for other expressions must
not change with it: the paper holds pictures of latents nearby to what they were. A face with another expression should
be the photo's by then, too, so it is held to what it was plus what the photo has and the untuned face lacks (as
`blend.py` carries a residual), and only where the expression changes the picture.

Weights learn the person; what is left of the photo then, place by place, goes into the maps of noise, as in Abdal et
al., "Image2StyleGAN++: How to Edit the Embedded Images?" (CVPR 2020). That is the same with every expression, and
belongs to the places where the face is at rest: `portrait.py` draws it so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .generators import Generator
from .invert import Whitening
from .perceptual import Vgg16, lpips_distance, lpips_features

Weights = Mapping[str, Tensor]
"""By name, as in `Generator.weights`; float32, whatever the generator computes in."""
OnStep = Callable[[int, float], None]
"""Called with (steps taken, the photo's loss before the last)."""


@dataclass(frozen=True)
class TuneOptions:
    """How to tune."""

    steps: int = 14  # of the weights
    rate: float = 0.0012  # of a weight, in its tensor's `_scale`: generators differ in scale, and so do their layers
    pixels: float = 5.0  # on the mean square difference of pixels, at the full size
    map_steps: int = 50  # of the maps of noise, afterwards
    map_rate: float = 0.15  # in what a map adds to the features
    map_pixels: float = 40.0
    warm_up: int = 3
    decay: float = 0.5  # the share of the steps over which the rate falls to nothing
    seen: int = 256  # pixels that features are compared at: of the whole picture, and in turn of its middle, closer
    surroundings: float = 0.2  # what a pixel there counts, against one of the face
    hold: float = 1.0  # on other expressions
    hold_seen: int = 128
    edits: int = 6  # how many of them
    reach: float = 0.6  # how far they are, in W's own spread

    def all_steps(self, generator: Generator) -> int:
        """Of its weights, and of its maps of noise where it has any."""
        return self.steps + (self.map_steps if generator.noise_maps() else 0)


@dataclass(frozen=True, eq=False)
class Tuning:
    """What came of it: the weights that changed, none where it `ran_away`; the photo's loss at each step."""

    weights: Weights
    losses: tuple[float, ...]
    ran_away: bool = False  # a loss, or a weight that was found, was no number


def tune(
    generator: Generator,
    network: Vgg16,
    picture: Tensor,
    w: Tensor,
    size: int,
    options: TuneOptions | None = None,
    weight: Tensor | None = None,
    on_step: OnStep | None = None,
    whitening: Whitening | None = None,
) -> Tuning:
    """Find the weights with which `generator`, itself left alone, draws `picture` for `w`.

    Args:
        generator: what draws.
        network: the features that compare.
        picture: [1,3,S,S] RGB in [-1,1], S at least `size`.
        w: the pivot, W+ [L,512].
        size: of the drawn pictures; the others, where they have exits of their own, are not to be drawn afterwards.
        options: how.
        weight: [1,1,S,S], 1 in the face, 0 around it; None: all counts alike.
        on_step: told of each step.
        whitening: the generator's, where a caller has it.
    """
    o = options or TuneOptions()
    photo = F.adaptive_avg_pool2d(picture, size)
    edits = _edits(generator, network, photo, w, o, whitening or Whitening(generator)) if o.hold and o.steps else []
    counts = torch.ones_like(photo[:, :1])
    if weight is not None:
        counts = o.surroundings + (1 - o.surroundings) * F.adaptive_avg_pool2d(weight, size)
    likeness = _Likeness(network, photo, counts, o.seen)
    tuned = generator.copied()
    weights, maps = tuned.weights(), tuned.noise_maps()
    scales = {name: _scale(weight) for name, weight in weights.items() if name not in maps}
    found, losses = dict[str, Tensor](), list[float]()
    stages = [_Stage(scales, o.steps, o.rate, o.pixels, edits)]
    if maps:
        of_maps = {name: 1 / strength for name, strength in maps.items()}
        stages.append(_Stage(of_maps, o.map_steps, o.map_rate, o.map_pixels, []))
    for stage in stages:
        descent = _Descent({name: weights[name] for name in stage.scales}, stage.scales)
        for step in range(stage.steps):
            loss = likeness.missed(tuned.synthesize(w[None], size), step, stage.pixels)
            losses.append(loss.item())
            went_back = _went_back(loss)
            if went_back and stage.edits:
                edit = stage.edits[step % len(stage.edits)]
                went_back = _went_back(o.hold * edit.missed(network, tuned.synthesize(edit.w[None], size), o))
            if not went_back:
                return Tuning({}, tuple(losses), ran_away=True)
            descent.step(stage.rate * _ramp(step, stage.steps, o))
            if on_step:
                on_step(len(losses), losses[-1])
        found |= descent.end()
        if not all(weight.isfinite().all() for weight in found.values()):  # the last step led there
            return Tuning({}, tuple(losses), ran_away=True)
    return Tuning(found, tuple(losses))


@dataclass(frozen=True, eq=False)
class _Stage:
    """What is moved, in which steps, and what is held meanwhile."""

    scales: dict[str, float]  # of each weight's steps, by its name
    steps: int
    rate: float
    pixels: float
    edits: list[_Edit]


class _Likeness:
    """How far drawn pictures are from the photo."""

    def __init__(self, network: Vgg16, photo: Tensor, counts: Tensor, seen: int) -> None:
        self._network, self._photo, self._counts = network, photo, counts  # [1,3,S,S], [1,1,S,S]
        self._views = _views(photo.shape[-1], seen)
        with torch.no_grad():
            self._wanted = [lpips_features(network, view(photo)) for view in self._views]

    def missed(self, drawn: Tensor, step: int, pixels: float) -> Tensor:
        """Of a picture [1,3,S,S]; features of one of the views in turn."""
        which = step % len(self._views)
        features = lpips_features(self._network, self._views[which](drawn))
        perceptual = lpips_distance(features, self._wanted[which]).sum()
        return perceptual + pixels * _mean_square(drawn - self._photo, self._counts)


def _went_back(loss: Tensor) -> bool:
    """Add a loss's gradient to the weights'; false where the loss is no number, and has none."""
    if not loss.isfinite():
        return False
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return True


@torch.no_grad()
def with_weights(generator: Generator, weights: Weights) -> Generator:
    """A copy that draws with other weights, rounded to what it computes in."""
    tuned = generator.copied()
    own = tuned.weights()
    for name, value in weights.items():
        own[name].copy_(value)
    return tuned


class _Descent:
    """Adam (Kingma & Ba, 2015) in float32 on weights of any precision, each in steps of its own scale."""

    def __init__(self, weights: Mapping[str, Tensor], scales: Mapping[str, float]) -> None:
        self._weights = {name: weight.requires_grad_() for name, weight in weights.items()}
        self._scales = scales
        self._found: dict[str, Tensor] = {}  # those that the picture depends on, as they are by now
        self._adam: torch.optim.Adam | None = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move all weights against their gradients."""
        if self._adam is None:
            self._found = {n: w.detach().float().clone() for n, w in self._weights.items() if w.grad is not None}
            groups = [{"params": [w], "scale": self._scales[n]} for n, w in self._found.items()]
            self._adam = torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99))
        for name, value in self._found.items():
            gradient = self._weights[name].grad
            value.grad, self._weights[name].grad = None if gradient is None else gradient.float(), None
        for group in self._adam.param_groups:
            group["lr"] = rate * group["scale"]
        self._adam.step()
        for name, value in self._found.items():
            self._weights[name].copy_(value)

    def end(self) -> dict[str, Tensor]:
        """Let go of the weights; those that were moved."""
        for weight in self._weights.values():
            weight.requires_grad_(False)
        return self._found


def _scale(weight: Tensor) -> float:
    """What a weight's steps are counted in: the rms of its tensor, if that is something."""
    return max(SMALLEST, _rms(weight))


SMALLEST = 1e-3
"""The least rms that counts: what is nothing could not begin to be something."""


@dataclass(frozen=True, eq=False)
class _Edit:
    """The face with another expression."""

    w: Tensor  # [L,512]
    picture: Tensor  # [1,3,S,S], as it should be; half the bits do
    changed: Tensor  # [1,1,S,S], from 0 to 1: where the expression changes the picture
    features: list[Tensor]  # of the picture, small

    def missed(self, network: Vgg16, drawn: Tensor, o: TuneOptions) -> Tensor:
        """How far a drawn picture [1,3,S,S] is from it, there."""
        small = min(o.hold_seen, drawn.shape[-1])
        features = lpips_features(network, F.adaptive_avg_pool2d(drawn, small))
        perceptual = lpips_distance(features, self.features, F.adaptive_avg_pool2d(self.changed, small)).sum()
        return perceptual + o.pixels * _mean_square(drawn - self.picture.float(), self.changed)


@torch.no_grad()
def _edits(
    generator: Generator, network: Vgg16, photo: Tensor, w: Tensor, o: TuneOptions, whitening: Whitening
) -> list[_Edit]:
    """The face with `o.edits` expressions, always the same ones: changes from one random person to another."""
    z = torch.randn(2 * o.edits, 512, generator=torch.Generator().manual_seed(0)).to(w.device)
    white = whitening.white(generator.map(z))
    changes = o.reach / math.sqrt(2) * (white[: o.edits] - white[o.edits :])  # [N,512]
    slots = torch.tensor(generator.expression_layers, device=w.device)
    own, small = generator.synthesize(w[None], photo.shape[-1]), min(o.hold_seen, photo.shape[-1])
    found = []
    for change in changes:
        moved = w.index_copy(0, slots, whitening.colour(whitening.white(w[slots]) + change))
        picture, changed = _carried(generator.synthesize(moved[None], photo.shape[-1]), own, photo)
        features = lpips_features(network, F.adaptive_avg_pool2d(picture, small))
        found.append(_Edit(moved, picture.to(torch.bfloat16), changed, features))
    return found


def _carried(edited: Tensor, own: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
    """An edited face with what the photo has and the generator's own lacks; where it is edited [1,1,S,S].

    All of that where nothing has changed, only light and colour where much has: see `blend.py`. Pictures [1,3,S,S].
    """
    residual = photo - own
    coarse = _blurred(residual, 16)
    stays = unchanged(edited, own)
    return edited + coarse + stays * (residual - coarse), 1 - stays + 0.05


def unchanged(picture: Tensor, other: Tensor) -> Tensor:
    """Where two pictures [1,3,S,S] of a face are alike: [1,1,S,S], from 1 down to 0."""
    change = _blurred((picture - other).abs().mean(1, keepdim=True), 64)
    return torch.exp(-(change / MOVED).square())


MOVED = 0.06
"""The change of colour (of 2) at which the photo's detail is down to 1/e: as `BlendOptions.moved`."""


def _blurred(x: Tensor, parts: int) -> Tensor:
    """[N,C,S,S], what is finer than one of so many parts of the side gone."""
    small = F.adaptive_avg_pool2d(x, min(parts, x.shape[-1]))
    return F.interpolate(small, x.shape[2:], mode="bicubic", align_corners=False)


def _views(size: int, seen: int) -> list[Callable[[Tensor], Tensor]]:
    """What of a picture of `size` is compared, `seen` pixels wide: all of it, and, closer, the middle of the face."""
    views: list[Callable[[Tensor], Tensor]] = [lambda x: F.adaptive_avg_pool2d(x, min(seen, size))]
    if size > seen:
        side = min(size, 2 * seen)
        top, left = round(0.6 * side - seen / 2), (side - seen) // 2
        views.append(lambda x: F.adaptive_avg_pool2d(x, side)[..., top : top + seen, left : left + seen])
    return views


def _mean_square(error: Tensor, counts: Tensor) -> Tensor:
    """Of an error [1,3,S,S], where it counts [1,1,S,S]."""
    return (error.square().mean(1, keepdim=True) * counts).sum() / counts.sum()


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _ramp(step: int, steps: int, o: TuneOptions) -> float:
    """The rate's share at a step of so many: up over `warm_up`, down over the last `decay`."""
    up = min(1.0, (step + 1) / (o.warm_up + 1))
    return up * min(1.0, (steps - step) / steps / o.decay)
