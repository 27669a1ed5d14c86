"""StyleGAN2: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), and StyleGAN2-ADA.

Every resolution adds to the picture of the one before (image skips), which are its early exits. W+ index at 2^n pixels:
`conv0` 2n-5, `conv1` 2n-4, `torgb` 2n-3, which is also the next `conv0`'s.
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
from ._style import LEAK, Dense, Mapping, Noise, StyleGenerator, Synthesis

WEIGHTS = "stylegan2.pkl"  # in weights.toml
FIR = (1.0, 3.0, 3.0, 1.0)  # along each axis


def _filter(like: Tensor) -> Tensor:
    """[C,1,4,4], one for each channel, of gain 4: half of what is upsampled is zeros along each axis."""
    line = torch.tensor(FIR, dtype=like.dtype, device=like.device) / sum(FIR) * 2
    return torch.outer(line, line).expand(like.shape[1], 1, 4, 4)


def upsampled(picture: Tensor) -> Tensor:
    """Twice as large through the filter: [N,C,H,W] -> [N,C,2H,2W]."""
    return F.conv_transpose2d(picture, _filter(picture), stride=2, padding=1, groups=picture.shape[1])


class StyledConv(nn.Module):
    """Modulated and demodulated 3x3 convolution, with upsampling or without, noise, bias, leaky ReLU times √2, clamp.

    The features are modulated instead of the weights, which is the same and serves a whole batch.
    """

    def __init__(self, checkpoint: Checkpoint, name: str, resolution: int, up: bool, dtype: torch.dtype) -> None:
        super().__init__()
        tensors = checkpoint.tensors
        weight = tensors[f"{name}.weight"]  # [O,I,3,3]
        self.scaled = dtype == torch.float16
        if self.scaled:  # demodulation makes up for any scale; a large one would leave fp16's range
            weight = weight / (weight.abs().amax((1, 2, 3), keepdim=True) * math.sqrt(weight[0].numel()))
        self.up, self.dtype, self.clamp = up, dtype, checkpoint.clamp or math.inf
        # [O,I], of the weight as it was trained. A copy keeps it while its weight is tuned, and afterwards: so what is
        # drawn is what was tuned, and a step of the weight is not undone by its own demodulation.
        self.energy: Tensor
        self.register_buffer("energy", weight.square().sum((2, 3)))
        self.weight = nn.Parameter((weight.transpose(0, 1) if up else weight).to(dtype))  # [I,O,3,3] or [O,I,3,3]
        self.bias = nn.Parameter(tensors[f"{name}.bias"].to(dtype).reshape(-1, 1, 1))
        self.affine = Dense(tensors, f"{name}.affine", 1.0, 1.0)
        self.noise = Noise(tensors, name, resolution)

    def forward(self, x: Tensor, w: Tensor, noise: str) -> Tensor:
        """[N,I,H,W], [N,512] -> [N,O,H,W], or [N,O,2H,2W]."""
        style = self.affine(w)  # [N,I]
        if self.scaled:
            style = style / style.abs().amax(1, keepdim=True)
        demodulation = (style.square() @ self.energy.T + 1e-8).rsqrt()  # [N,O]
        x = x.to(self.dtype) * style.to(self.dtype)[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, self.weight, stride=2)  # [N,O,2H+1,2W+1]
            x = F.conv2d(x, _filter(x), padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = self.noise(x * demodulation.to(self.dtype)[:, :, None, None], noise) + self.bias
        x = F.leaky_relu(x, LEAK) * math.sqrt(2)
        return x if self.clamp == math.inf else x.clamp(-self.clamp, self.clamp)


class ToImage(nn.Module):
    """What a resolution adds to the picture: a modulated 1x1 convolution, not demodulated."""

    def __init__(self, checkpoint: Checkpoint, name: str, dtype: torch.dtype) -> None:
        super().__init__()
        tensors = checkpoint.tensors
        weight = tensors[f"{name}.weight"]  # [3,I,1,1]
        self.gain, self.dtype, self.clamp = 1 / math.sqrt(weight.shape[1]), dtype, checkpoint.clamp or math.inf
        self.weight = nn.Parameter(weight.to(dtype))
        self.bias = nn.Parameter(tensors[f"{name}.bias"].to(dtype))
        self.affine = Dense(tensors, f"{name}.affine", 1.0, 1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[N,I,H,W], [N,512] -> [N,3,H,W] float32."""
        style = self.affine(w) * self.gain
        picture = F.conv2d(x.to(self.dtype) * style.to(self.dtype)[:, :, None, None], self.weight, self.bias)
        return (picture if self.clamp == math.inf else picture.clamp(-self.clamp, self.clamp)).float()


class Synthesis2(Synthesis):
    """W+ [N,L,512] -> the picture at every resolution."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        super().__init__()
        self.const = nn.Parameter(checkpoint.tensors["synthesis.b4.const"][None])  # [1,C,4,4]
        convs, images = [], []
        for r in checkpoint.channels:
            kind = _dtype_at(r, dtype, checkpoint.half_from)
            for i in (0, 1) if r > 4 else (1,):
                convs.append(StyledConv(checkpoint, f"synthesis.b{r}.conv{i}", r, i == 0, kind))
            images.append(ToImage(checkpoint, f"synthesis.b{r}.torgb", kind))
        self.convs, self.images = nn.ModuleList(convs), nn.ModuleList(images)

    def stages(self, w: Tensor, noise: str, last: int) -> Iterator[tuple[int, Tensor]]:
        """(size, picture so far [N,3,size,size] float32), 4 first, then doubling, up to `last`."""
        x = self.convs[0](self.const.expand(len(w), -1, -1, -1), w[:, 0], noise)
        picture, size, slot = self.images[0](x, w[:, 1]), 4, 1
        yield size, picture
        while size < last:
            for i in (0, 1):
                x = self.convs[slot + i](x, w[:, slot + i], noise)
            size, slot = 2 * size, slot + 2
            picture = upsampled(picture) + self.images[slot // 2](x, w[:, slot])
            yield size, picture


def _dtype_at(resolution: int, dtype: torch.dtype, half_from: int) -> torch.dtype:
    """bfloat16 has float32's range and serves everywhere; fp16 only where the network was trained for it."""
    if dtype == torch.float16 and not 0 < half_from <= resolution:
        return torch.float32
    return dtype


class StyleGan2Generator(StyleGenerator):
    """The `Generator` of this file: see `reenact.generators.Generator`."""

    name = "stylegan2"
    # The paper's 4 and 5, counted from 1 on StyleGAN1: the second convolution at 8x8, the first at 16x16.
    paper_layers = (2, 3)

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(checkpoint, Mapping(checkpoint, math.sqrt(2)), Synthesis2(checkpoint, dtype), device)

    def layers_at(self, resolution: int) -> tuple[int, ...]:
        """The slots whose convolutions work at `resolution` (4, 8, ...)."""
        if resolution > self.size:
            return ()
        n = int(math.log2(resolution))
        return (0,) if n == 2 else (2 * n - 5, 2 * n - 4)


def build(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype = torch.float32) -> StyleGan2Generator:
    """The generator that a checkpoint holds, frozen, on `device`, computing in `dtype`."""
    return StyleGan2Generator(checkpoint, device, dtype)


def create(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> StyleGan2Generator:
    """NVIDIA's FFHQ generator (config F, 1024 pixels), as `build` makes it.

    Raises:
        WeightsError: the file can't be had or read, or its licence was not accepted.
    """
    return build(read(store.path(WEIGHTS)), device, dtype)
