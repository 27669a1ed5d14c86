"""What StyleGAN1 and 2 have in common: the mapping, the noise, what is known of W, and the sizes of pictures."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import Checkpoint, W

if TYPE_CHECKING:
    from typing import Self

LEAK = 0.2
NOISES = ("const", "none", "random")
EXITS = (128, 256, 512)  # picture sizes below a generator's own
EXPRESSION = (8, 16, 32, 64)  # resolutions: mouth and cheeks at the low end, lids and brows from 32 on
SAMPLES = 10_000  # of W, for its mean and covariance
LIKENESS = 20.0  # dB that an early exit must reach against the whole picture, at its own size


class Dense(nn.Module):
    """A linear layer with its equalised learning rate's constants folded in."""

    def __init__(self, tensors: dict[str, Tensor], name: str, gain: float, bias_gain: float) -> None:
        super().__init__()
        weight = tensors[f"{name}.weight"]
        self.weight = nn.Parameter(weight * (gain / math.sqrt(weight.shape[1])))  # [O,I]
        self.bias = nn.Parameter(tensors[f"{name}.bias"] * bias_gain)  # [O]

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Mapping(nn.Module):
    """z [N,512] normal -> w [N,512]: normalised, then dense layers with leaky ReLU."""

    def __init__(self, checkpoint: Checkpoint, bias_gain: float) -> None:
        """`bias_gain`: StyleGAN2's activations have a gain of √2; being positive it can go into weight and bias."""
        super().__init__()
        rate, count = checkpoint.mapping_rate, 0
        while f"mapping.fc{count}.weight" in checkpoint.tensors:
            count += 1
        self.layers = nn.ModuleList(
            Dense(checkpoint.tensors, f"mapping.fc{i}", math.sqrt(2) * rate, bias_gain * rate) for i in range(count)
        )

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            x = F.leaky_relu(layer(x), LEAK)
        return x


class Noise(nn.Module):
    """Noise of one resolution, the same for all channels but for its strength."""

    def __init__(self, tensors: dict[str, Tensor], name: str, resolution: int) -> None:
        super().__init__()
        constant = tensors.get(f"{name}.noise_const")
        if constant is None:  # the file has none: some noise, always the same
            seeded = torch.Generator().manual_seed(resolution + int(name[-1]))
            constant = torch.randn(resolution, resolution, generator=seeded)
        self.strength = nn.Parameter(tensors[f"{name}.noise_strength"].reshape(-1, 1, 1))  # [1 or C,1,1]
        self.constant = nn.Parameter(constant[None])  # [1,R,R]

    def forward(self, x: Tensor, kind: str) -> Tensor:
        """`x` [N,C,R,R] with noise of a kind: see `NOISES`."""
        if kind == "none":
            return x
        if kind == "random":
            drawn = torch.randn(len(x), 1, *x.shape[2:], device=x.device)
            return x + (drawn * self.strength).to(x.dtype)
        return x + (self.constant * self.strength).to(x.dtype)


class Synthesis(nn.Module):
    """W+ -> pictures, as `StyleGenerator` runs them."""

    def stages(self, w: Tensor, noise: str, last: int) -> Iterator[tuple[int, Tensor]]:
        """(size, what an early exit reads its picture from [N,C,size,size] float32), up to `last`.

        At the network's own size that is the picture itself [N,3,size,size].
        """
        raise NotImplementedError


def truncated(w: Tensor, mean: Tensor, share: float = 0.7, below: int | None = None) -> Tensor:
    """W+ [N,L,512] drawn towards the mean [L,512], which keeps to probable faces; only in the slots before `below`."""
    drawn = torch.lerp(mean.expand_as(w), w, share)
    return drawn if below is None else torch.cat([drawn[:, :below], w[:, below:]], 1)


class StyleGenerator:
    """A `Generator` made of a checkpoint: see `reenact.generators.Generator`; a subclass says what each slot does.

    Attributes:
        noise: one of `noises`.
        exits: the `sizes` that cost less than the whole picture, which the others are shrunk from.
    """

    name: str
    noises = NOISES
    noise = "const"
    expression_layers: tuple[int, ...]
    paper_layers: tuple[int, ...]

    def __init__(self, checkpoint: Checkpoint, mapping: Mapping, synthesis: Synthesis, device: torch.device) -> None:
        self.checkpoint, self.size = checkpoint, checkpoint.resolution
        self.mapping = mapping.requires_grad_(False).eval().to(device)
        self.synthesis = synthesis.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.sizes = (*(size for size in EXITS if size < self.size), self.size)
        self.num_layers = 2 * int(math.log2(self.size)) - 2
        self.live_layers = tuple(range(self.num_layers))
        self.expression_layers = tuple(s for r in EXPRESSION for s in self.layers_at(r))
        mean, covariance = (t.to(device) for t in self._statistics())
        self.mean_latent = mean.repeat(self.num_layers, 1)  # [L,512]
        self.origin = torch.zeros_like(self.mean_latent)
        self.covariance = covariance
        self._readouts = {size: readout.to(device) for size, readout in self._fitted_exits().items()}  # [C+1,3] each
        self.exits = tuple(self._readouts)

    def layers_at(self, resolution: int) -> tuple[int, ...]:
        """The slots whose convolutions work at `resolution` (4, 8, ...)."""
        raise NotImplementedError

    def map(self, z: Tensor) -> Tensor:
        """[N,512] normal noise -> [N,512] W."""
        return self.mapping(z)  # type: ignore[no-any-return]  # a module's call is untyped

    def copied(self) -> Self:
        """The same, with weights of its own."""
        twin = copy.copy(self)
        twin.synthesis = copy.deepcopy(self.synthesis)
        return twin

    def weights(self) -> dict[str, Tensor]:
        """What its pictures are drawn with, by name."""
        return dict(self.synthesis.named_parameters())

    def noise_maps(self) -> dict[str, float]:
        """Its maps of noise, and their strengths, where it draws with them."""
        if self.noise != "const":
            return {}
        parts = {name: part for name, part in self.synthesis.named_modules() if isinstance(part, Noise)}
        strengths = {name: float(part.strength.square().mean().sqrt()) for name, part in parts.items()}
        return {f"{name}.constant": strength for name, strength in strengths.items() if strength > 0}

    def synthesize(self, w: Tensor, size: int) -> Tensor:
        """[N,L,512] -> [N,3,size,size], RGB, about [-1,1].

        Raises:
            ValueError: it makes no pictures of that size.
        """
        if size not in self.sizes:
            raise ValueError(f"size {size}: {self.name} makes pictures of {', '.join(map(str, self.sizes))}")
        early = size in self.exits
        *_, (_, picture) = self.synthesis.stages(w, self.noise, size if early else self.size)
        if early:
            return _read_out(picture, self._readouts[size])
        return picture if size == self.size else F.adaptive_avg_pool2d(picture, size)

    def measured(self) -> Checkpoint:
        """The checkpoint with all that loading has to measure, so that it need not be measured again."""
        tensors = {**self.checkpoint.tensors, "mapping.w_avg": self.mean_latent[0].cpu().clone()}
        tensors["mapping.w_covariance"] = self.covariance.cpu()
        tensors |= {f"exits.{size}": readout.cpu() for size, readout in self._readouts.items()}
        return replace(self.checkpoint, tensors=tensors, exits=self.exits)

    @torch.no_grad()
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean [512] and covariance [512,512] of W: the file's where it has them."""
        tensors = self.checkpoint.tensors
        if "mapping.w_avg" in tensors and "mapping.w_covariance" in tensors:
            return tensors["mapping.w_avg"], tensors["mapping.w_covariance"]
        z = torch.randn(SAMPLES, W, generator=torch.Generator().manual_seed(0))
        w = self.map(z.to(next(self.mapping.parameters()).device))
        return tensors.get("mapping.w_avg", w.mean(0)), w.T.cov()

    def _fitted_exits(self) -> dict[int, Tensor]:
        """Picture size -> the matrix that its early exit reads a picture with [C+1,3]."""
        found = self.checkpoint.exits
        if found is None:
            return self._fit_exits()
        return {size: self.checkpoint.tensors[f"exits.{size}"] for size in found}

    @torch.no_grad()
    def _fit_exits(self, samples: int = 4) -> dict[int, Tensor]:
        """For each exit that is good enough, the linear readout that comes nearest to the whole picture.

        By least squares: half of the samples fit, half judge. Later layers add detail, and some contrast and colour.
        """
        z = torch.randn(samples, W, generator=torch.Generator().manual_seed(1)).to(self.mean_latent.device)
        faces = truncated(self.map(z)[:, None].expand(-1, self.num_layers, -1), self.mean_latent)
        drawn = [dict(self.synthesis.stages(w[None], "const", self.size)) for w in faces]
        readouts: dict[int, Tensor] = {}
        for size in (s for s in self.sizes[:-1] if s in drawn[0]):
            pairs = [(d[size], F.adaptive_avg_pool2d(d[self.size], size)) for d in drawn]
            known, wanted = (torch.cat([_places(p[i]) for p in pairs[: samples // 2]]) for i in (0, 1))
            known = F.pad(known, (0, 1), value=1.0)  # for the offset
            # Features may be nearly copies of each other: a ridge keeps the answer small.
            gram = known.T @ known
            ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
            readout = torch.linalg.solve(gram + ridge, known.T @ wanted).float()
            errors = [(_read_out(early, readout) - whole).clamp(-2, 2) for early, whole in pairs[samples // 2 :]]
            if min(10 * math.log10(4 / (float(e.square().mean()) + 1e-12)) for e in errors) >= LIKENESS:
                readouts[size] = readout.contiguous()
        return readouts


def _places(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [N*H*W,C] in double precision, on the CPU, which always has that."""
    return x.movedim(1, 3).flatten(0, 2).cpu().double()


def _read_out(x: Tensor, readout: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,3,H,W] by a matrix [C+1,3], whose last row is the offset."""
    return F.conv2d(x, readout[:-1].T[:, :, None, None], readout[-1])
