"""StyleGAN: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (2019).

The paper that this program follows was made with it. Each convolution is followed by noise, bias, leaky ReLU, instance
norm and the style's scale and offset; W+ has one slot for each: 2n-4 and 2n-3 at 2^n pixels. Only the last resolution
makes a picture. It grew through smaller ones, and early exits read a picture linearly from their features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import Checkpoint
from ..formats import read
from ..weights import WeightStore
from ._style import EXITS, LEAK, Dense, Mapping, Noise, StyleGenerator, Synthesis

WEIGHTS = "stylegan1.pkl"  # in weights.toml


def instance_norm(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float = 1e-8) -> Tensor:
    """[N,C,H,W] brought to the mean `offset` and the deviation `scale` [N,C,1,1] over each channel's places.

    In float32: half the bits hold too little of a small variance. One scale and one offset for each channel, so that
    the features are gone through as seldom as can be.
    """
    whole = x.float()
    variance, mean = torch.var_mean(whole, (2, 3), correction=0, keepdim=True)
    gain = scale.float() * (variance + epsilon).rsqrt()
    return torch.addcmul(offset.float() - mean * gain, whole, gain).to(x.dtype)


def blurred(x: Tensor) -> Tensor:
    """[N,C,H,W] through [1,2,1] along each axis, zeros beyond the edge."""
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    return F.conv2d(x, torch.outer(line, line).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def fused_kernel(weight: Tensor) -> Tensor:
    """[O,I,3,3] -> [I,O,4,4]: four shifted copies summed, for a transposed convolution of stride 2."""
    w = F.pad(weight.transpose(0, 1), (1, 1, 1, 1))
    return w[:, :, 1:, 1:] + w[:, :, :-1, 1:] + w[:, :, 1:, :-1] + w[:, :, :-1, :-1]


class StyledConv(nn.Module):
    """3x3 convolution, with upsampling and blur or without, and the epilogue; at the very beginning no convolution."""

    def __init__(self, checkpoint: Checkpoint, name: str, resolution: int, up: bool, dtype: torch.dtype) -> None:
        super().__init__()
        tensors = checkpoint.tensors
        weight = tensors.get(f"{name}.weight")
        self.up, self.dtype = up, dtype
        self.fused = up and resolution >= checkpoint.fused_from
        self.weight = None
        if weight is not None:
            weight = weight * math.sqrt(2 / weight[0].numel())  # the equalised learning rate's constant
            self.weight = nn.Parameter((fused_kernel(weight) if self.fused else weight).to(dtype))
        self.bias = nn.Parameter(tensors[f"{name}.bias"].to(dtype).reshape(-1, 1, 1))
        self.affine = Dense(tensors, f"{name}.affine", 1.0, 1.0)
        self.noise = Noise(tensors, name, resolution)

    def forward(self, x: Tensor, w: Tensor, noise: str) -> Tensor:
        """[N,I,H,W], [N,512] -> [N,O,H,W], or [N,O,2H,2W]."""
        x = x.to(self.dtype)
        if self.weight is not None:
            x = self._convolved(x, self.weight)
        x = F.leaky_relu(self.noise(x, noise) + self.bias, LEAK)
        scale, offset = self.affine(w)[:, :, None, None].chunk(2, 1)  # [N,C,1,1] each
        return instance_norm(x, scale + 1, offset)

    def _convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.fused:
            return blurred(F.conv_transpose2d(x, weight, stride=2, padding=1))
        if self.up:
            return blurred(F.conv2d(F.interpolate(x, scale_factor=2.0), weight, padding=1))  # nearest
        return F.conv2d(x, weight, padding=1)


class Synthesis1(Synthesis):
    """W+ [N,L,512] -> the picture."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        super().__init__()
        tensors, self.size = checkpoint.tensors, checkpoint.resolution
        self.const = nn.Parameter(tensors["synthesis.b4.const"][None])  # [1,C,4,4]
        self.convs = nn.ModuleList(
            StyledConv(checkpoint, f"synthesis.b{r}.conv{i}", r, i == 0 and r > 4, dtype)
            for r in checkpoint.channels
            for i in (0, 1)
        )
        weight = tensors["synthesis.torgb.weight"]
        self.weight = nn.Parameter((weight / math.sqrt(weight.shape[1])).to(dtype))  # [3,C,1,1]
        self.bias = nn.Parameter(tensors["synthesis.torgb.bias"].to(dtype))

    def stages(self, w: Tensor, noise: str, last: int) -> Iterator[tuple[int, Tensor]]:
        """(size, features [N,C,size,size] float32) of the exits up to `last`; of its own size the picture."""
        x = self.const.expand(len(w), -1, -1, -1)
        for slot, conv in enumerate(self.convs):
            x = conv(x, w[:, slot], noise)
            size = x.shape[-1]
            if slot % 2 and size in EXITS and size < self.size:
                yield size, x.float()
                if size == last:
                    return
        yield self.size, F.conv2d(x, self.weight, self.bias).float()


class StyleGan1Generator(StyleGenerator):
    """The `Generator` of this file: see `reenact.generators.Generator`."""

    name = "stylegan1"
    paper_layers = (3, 4)  # counted from 0

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        # It was trained in single precision; bfloat16 has the same range, fp16 has not.
        dtype = torch.float32 if dtype == torch.float16 else dtype
        super().__init__(checkpoint, Mapping(checkpoint, 1.0), Synthesis1(checkpoint, dtype), device)

    def layers_at(self, resolution: int) -> tuple[int, ...]:
        """The slots whose convolutions work at `resolution` (4, 8, ...)."""
        n = int(math.log2(resolution))
        return (2 * n - 4, 2 * n - 3) if resolution <= self.size else ()


def build(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype = torch.float32) -> StyleGan1Generator:
    """The generator that a checkpoint holds, frozen, on `device`, computing in `dtype`."""
    return StyleGan1Generator(checkpoint, device, dtype)


def create(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> StyleGan1Generator:
    """NVIDIA's FFHQ generator (1024 pixels), as `build` makes it.

    Raises:
        WeightsError: the file can't be had or read, or its licence was not accepted.
    """
    return build(read(store.path(WEIGHTS)), device, dtype)
